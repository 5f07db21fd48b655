//! The states of scripts, each a function of the learned prefix, and the digests that show whether it is.
//!
//! Owns, for every script with a state: the state, up to which instance it has applied what was learned, and a
//! chain of digests, one link for every value it applied. Two nodes whose chains agree at an instance have
//! computed the same everywhere below; so one number tells of all that went before. It decides nothing about
//! the log, and compares nothing: that is for `digests`.
//!
//! Whether an `apply` failed is a link of the chain as well: an error is part of what was computed.

use std::collections::VecDeque;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::hooks::{Applied, Fault, Hooks, Script};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::state::State;
use crate::types::{Instance, MAX_NUMBER};

/// How many links are kept, to find where two chains part.
pub const RECENT: usize = 16_384;

/// What the scripts of one node remember.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scripts {
    slots: Vec<Slot>,
    /// A node that may be behind looks here first; every node that has no scripts ends here.
    is_behind: bool,
    /// What checkpoints say is of no use: all is to be computed anew.
    begins_anew: bool,
}

/// One script.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    script: Arc<Script>,
    state: State,
    chain: u64,
    /// It has applied everything up to here.
    through: Instance,
    /// The chain as it was at this instance, before the first of `recent`.
    floor: (Instance, u64),
    /// The links since then: where, and the chain after it.
    recent: VecDeque<(Instance, u64)>,
    /// What the state's digest has to be when a checkpoint has been read, while one is.
    expects: Option<u64>,
}

/// An `apply` that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Of which script.
    pub script: Arc<Script>,
    /// How.
    pub fault: Fault,
}

/// The next link of a chain: after `instance`, where `apply` failed or not, and left this state.
pub fn link(chain: u64, instance: Instance, failed: bool, state: &State) -> u64 {
    let mut bytes = [0; 25];
    bytes[..8].copy_from_slice(&chain.to_be_bytes());
    bytes[8..16].copy_from_slice(&instance.0.to_be_bytes());
    bytes[16..24].copy_from_slice(&state.digest().to_be_bytes());
    bytes[24] = u8::from(failed);
    xxh3_64(&bytes) & MAX_NUMBER
}

impl Slot {
    fn new(script: Script) -> Slot {
        let source = script.source;
        Slot {
            script: Arc::new(script),
            state: State::default(),
            chain: source,
            through: Instance(0),
            floor: (Instance(0), source),
            recent: VecDeque::new(),
            expects: None,
        }
    }

    fn apply(&mut self, number: usize, applied: &Applied<'_>, hooks: &dyn Hooks) -> Option<Fault> {
        let fault = hooks.apply(number, &mut self.state, applied).err();
        if fault.is_some() && !mutant::is(Mutant::ErrorNotUndone) {
            self.state.undo();
        } else {
            self.state.commit();
        }
        if !matches!(fault, Some(Fault::Fatal(_))) {
            self.chain = link(self.chain, applied.instance, fault.is_some(), &self.state);
            if self.recent.len() == RECENT
                && let Some(oldest) = self.recent.pop_front()
            {
                self.floor = oldest;
            }
            self.recent.push_back((applied.instance, self.chain));
        }
        fault
    }

    fn digest_at(&self, instance: Instance) -> Option<u64> {
        if instance > self.through || instance < self.floor.0 {
            return None;
        }
        let after = self.recent.partition_point(|(at, _)| *at <= instance);
        Some(if after == 0 { self.floor.1 } else { self.recent[after - 1].1 })
    }
}

impl Scripts {
    /// Nothing applied so far.
    pub fn new(scripts: &[Script]) -> Scripts {
        Scripts {
            slots: scripts.iter().cloned().map(Slot::new).collect(),
            is_behind: false,
            begins_anew: false,
        }
    }

    /// Takes nothing from checkpoints: computes all anew, from the first instance on.
    pub fn begin_anew(&mut self) {
        self.begins_anew = true;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Script number `at`.
    pub fn script(&self, at: usize) -> &Arc<Script> {
        &self.slots[at].script
    }

    /// The number of the script of that name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| *slot.script.name == *name)
    }

    /// What script number `at` remembers.
    pub fn state(&self, at: usize) -> &State {
        &self.slots[at].state
    }

    /// The chain of script number `at` after an instance, if that is applied and not too long ago.
    pub fn digest_at(&self, at: usize, instance: Instance) -> Option<u64> {
        self.slots.get(at)?.digest_at(instance)
    }

    /// From which instance on [`Scripts::digest_at`] knows.
    pub fn floor(&self, at: usize) -> Instance {
        self.slots[at].floor.0
    }

    /// The next instance is learned; `applied` is what it says, if it has an effect that users asked for.
    /// Scripts that are behind are left where they are.
    pub fn learn(
        &mut self,
        instance: Instance,
        applied: Option<&Applied<'_>>,
        hooks: Option<&dyn Hooks>,
    ) -> Vec<Failed> {
        let mut failed = Vec::new();
        if self.slots.is_empty() {
            return failed;
        }
        let hooks = hooks.expect("whoever drives a node that has scripts hands them to every step");
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.through.next() != instance {
                assert!(
                    self.is_behind && slot.through < instance,
                    "instances are applied in order, each once"
                );
                continue;
            }
            let fault = applied.and_then(|applied| slot.apply(number, applied, hooks));
            if matches!(fault, Some(Fault::Fatal(_))) {
                failed.push(Failed { script: Arc::clone(&slot.script), fault: fault.expect("as matched") });
                return failed;
            }
            slot.through = instance;
            failed.extend(fault.map(|fault| Failed { script: Arc::clone(&slot.script), fault }));
        }
        failed
    }

    /// The first instance that some script has yet to apply, of those learned up to `learned`.
    pub fn behind(&self, learned: Instance) -> Option<Instance> {
        let first = self.slots.iter().map(|slot| slot.through).min().filter(|_| self.is_behind)?;
        (first < learned).then(|| first.next())
    }

    /// An instance of the past, for the scripts that have not applied it.
    ///
    /// # Errors
    /// When the script cannot go on.
    pub fn catch_up(
        &mut self,
        instance: Instance,
        applied: Option<&Applied<'_>>,
        hooks: &dyn Hooks,
    ) -> Result<(), Failed> {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.through.next() != instance {
                continue;
            }
            let fault = applied.and_then(|applied| slot.apply(number, applied, hooks));
            if let Some(fault @ Fault::Fatal(_)) = fault {
                return Err(Failed { script: Arc::clone(&slot.script), fault });
            }
            slot.through = instance;
        }
        Ok(())
    }

    /// All have applied what there was to catch up with.
    pub fn caught_up(&mut self) {
        self.is_behind = false;
    }

    /// What rebuilds this.
    pub fn checkpoint(&self) -> impl Iterator<Item = Record> + use<'_> {
        self.slots.iter().flat_map(|slot| {
            let (script, state) = (Script::clone(&slot.script), slot.state.digest());
            let head = Record::Script { script, chain: slot.chain, state };
            let entries = slot.state.from(std::ops::Bound::Unbounded).map(|(key, value)| Record::State {
                name: Arc::clone(&slot.script.name),
                key: key.clone(),
                value: value.clone(),
            });
            let entries = entries.filter(|_| !mutant::is(Mutant::StateNotSaved));
            std::iter::once(head).chain(entries)
        })
    }

    /// Takes up one record of a checkpoint that has learned up to `learned`. What belongs to scripts that this
    /// node does not run, or runs from another source, is left out: those begin anew.
    ///
    /// # Errors
    /// When the state that was read is not the one that was written.
    pub fn recover(&mut self, record: &Record, learned: Instance) -> Result<(), Arc<Script>> {
        match record {
            Record::Script { script, chain, state } => {
                let slot = self.slots.iter_mut().find(|slot| *slot.script == *script);
                if let Some(slot) = slot.filter(|_| !self.begins_anew) {
                    (slot.chain, slot.expects, slot.through) = (*chain, Some(*state), learned);
                    slot.floor = (learned, *chain);
                }
            }
            Record::State { name, key, value } => {
                let slot = self.slots.iter_mut().find(|slot| slot.script.name == *name);
                if let Some(slot) = slot.filter(|slot| slot.expects.is_some()) {
                    let set = slot.state.set(key.as_bytes(), Some(value.clone()));
                    slot.state.commit();
                    set.map_err(|_| Arc::clone(&slot.script))?;
                }
            }
            Record::CheckpointEnd => {
                for slot in &mut self.slots {
                    if slot.expects.take().is_some_and(|digest| digest != slot.state.digest()) {
                        return Err(Arc::clone(&slot.script));
                    }
                    self.is_behind |= slot.through < learned;
                    if mutant::is(Mutant::ApplyTwice) && slot.through.0 > 0 {
                        slot.through = Instance(slot.through.0 - 1);
                        self.is_behind = true;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
