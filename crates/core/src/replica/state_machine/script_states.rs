//! The states of scripts, each a function of the learned prefix, and the digests that prove it.
//!
//! For every script with a state, this module owns the state, the last applied instance, and a chain of digests
//! with one link for every applied value. Two nodes whose chains agree at an instance have computed the same
//! everywhere below, so one number covers all that went before. This module decides nothing about the log, and
//! compares nothing; `divergence` does that.
//!
//! The chain also covers whether an `apply` failed: an error is part of the result.

use std::collections::VecDeque;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::hooks::{Applied, Fault, Hooks, Script};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::script_state::ScriptState;
use crate::types::{Instance, MAX_NUMBER};

/// How many links are kept, to find where two chains diverge.
pub const RECENT: usize = 16_384;

/// The states of the scripts of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scripts {
    slots: Vec<Slot>,
    /// Whether a script may be behind. It is checked first, so that a node without scripts does no more work.
    is_behind: bool,
    /// Whether to ignore the states in checkpoints, and to compute everything anew.
    begins_anew: bool,
}

/// One script, with its state and its chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    script: Arc<Script>,
    state: ScriptState,
    chain: u64,
    /// The last instance that the script has applied, with all before it.
    through: Instance,
    /// The chain as it was at this instance, before the first of `recent`.
    floor: (Instance, u64),
    /// The links since then: the instance, and the chain after it.
    recent: VecDeque<(Instance, u64)>,
    /// While a checkpoint is read: the digest that the state must have at its end.
    expects: Option<u64>,
}

/// A script's `apply` that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The script that failed.
    pub script: Arc<Script>,
    /// The kind of failure: raised by the script, or fatal.
    pub fault: Fault,
}

/// The next link of a chain: after `instance`, whether its `apply` failed, and the state that it left.
pub fn link(chain: u64, instance: Instance, failed: bool, state: &ScriptState) -> u64 {
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
            state: ScriptState::default(),
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
    /// The scripts, with empty states.
    pub fn new(scripts: &[Script]) -> Scripts {
        Scripts {
            slots: scripts.iter().cloned().map(Slot::new).collect(),
            is_behind: false,
            begins_anew: false,
        }
    }

    /// Ignores the states in checkpoints: computes everything anew from the first instance on.
    pub fn begin_anew(&mut self) {
        self.begins_anew = true;
    }

    /// How many scripts there are; a number below this is valid for the methods here.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The name and source of script number `at`.
    pub fn script(&self, at: usize) -> &Arc<Script> {
        &self.slots[at].script
    }

    /// The number of the script with that name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| *slot.script.name == *name)
    }

    /// The state of script number `at`.
    pub fn state(&self, at: usize) -> &ScriptState {
        &self.slots[at].state
    }

    /// The chain of script number `at` after an instance, if that is applied and recent enough.
    pub fn digest_at(&self, at: usize, instance: Instance) -> Option<u64> {
        self.slots.get(at)?.digest_at(instance)
    }

    /// The scripts that have a digest at an instance: the name of each, and the digest.
    pub fn digests(&self, instance: Instance) -> impl Iterator<Item = (&str, u64)> {
        self.slots.iter().filter_map(move |slot| Some((&*slot.script.name, slot.digest_at(instance)?)))
    }

    /// The first instance for which [`Scripts::digest_at`] has an answer.
    pub fn floor(&self, at: usize) -> Instance {
        self.slots[at].floor.0
    }

    /// Applies the next learned instance. `applied` is its value, if it has an effect that a client asked for.
    /// Scripts that are behind stay where they are.
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
        let hooks = hooks.expect("the driver of a node with scripts passes them to every step");
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

    /// Applies a past instance, for the scripts that have not applied it.
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

    /// Records that all scripts have caught up.
    pub fn caught_up(&mut self) {
        self.is_behind = false;
    }

    /// The records that rebuild the states and chains.
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

    /// Restores one record of a checkpoint with prefix `learned`. It skips records of scripts that this node does
    /// not run, or runs from another source. Those start anew.
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
