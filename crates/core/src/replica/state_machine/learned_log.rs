//! The learned prefix: the value of every instance, its meaning, and the requests that are done.
//!
//! This module owns the meaning of values (through [`crate::entry`]), the table that makes tagged requests happen
//! exactly once, the states of scripts (in `script_states`) and the digests of the log (in `chain`). It is a pure
//! function of the learned values in order. So every node judges every duplicate alike, and a restart rebuilds it
//! from the log. Old values are dropped here once they stand in the history files (see [`crate::past`]); their
//! effects on the table stay.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::entry::{Entry, SAFE_READ};
use crate::hooks::{Applied, Hooks, Script};
use crate::mutant::{self, Mutant};
use crate::past::Past;
use crate::record::Record;
use crate::replica::limits::{Limits, Reached};
use crate::replica::outbox::{LookupPurpose, Outbox};
use crate::replica::reconfig::membership::Membership;
use crate::replica::state_machine::chain::Chain;
use crate::replica::state_machine::script_states::{Failed, Scripts};
use crate::replica::state_machine::sessions::{DedupStatus, Sessions};
use crate::types::{Group, Instance, NodeId, Tag, Value};
use crate::wire::Dialect;

/// How many values in memory one step takes to recompute a digest.
const HELD: u64 = 1 << 14;

/// The learned prefix, and all state that follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnedLog {
    dialect: Dialect,
    /// Values up to here are not held in memory.
    forgotten: Instance,
    values: VecDeque<Value>,
    /// The held instances that had no effect. A duplicate names its original, if that is still known.
    void: BTreeMap<Instance, Option<Instance>>,
    sessions: Sessions,
    membership: Membership,
    last_user: Option<(Instance, Value)>,
    scripts: Scripts,
    chain: Chain,
}

/// The meaning and effect of a newly learned instance.
#[derive(Debug)]
pub struct Learned {
    /// The decoded value.
    pub entry: Entry,
    /// Whether the request in the entry had been carried out before, or why the entry has no effect.
    pub verdict: DedupStatus,
    /// The scripts whose `apply` failed at this instance.
    pub failed: Vec<Failed>,
}

impl LearnedLog {
    /// An empty prefix, for a node whose first group has `n` members (0: to be learned from peers).
    pub fn new(dialect: Dialect, n: u16, limits: Limits) -> LearnedLog {
        LearnedLog {
            dialect,
            forgotten: Instance(0),
            values: VecDeque::new(),
            void: BTreeMap::new(),
            sessions: Sessions::new(limits),
            membership: Membership::new(n),
            last_user: None,
            scripts: Scripts::default(),
            chain: Chain::default(),
        }
    }

    /// Adds scripts that have applied nothing so far.
    pub fn with_scripts(mut self, scripts: &[Script]) -> LearnedLog {
        self.scripts = Scripts::new(scripts);
        self
    }

    /// Makes the scripts compute everything anew, whatever the checkpoint says.
    pub fn begin_anew(&mut self) {
        self.scripts.begin_anew();
    }

    /// Returns the bounds of the session table that were reached so far.
    pub fn reached(&self) -> Reached {
        self.sessions.reached()
    }

    /// The states of the scripts, as of the learned prefix.
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// The digests of the learned prefix.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Restores one record of a checkpoint.
    ///
    /// # Errors
    /// The script whose state is incomplete.
    pub fn recover(&mut self, record: &Record) -> Result<(), Arc<Script>> {
        self.scripts.recover(record, self.forgotten)?;
        match record {
            Record::Checkpoint { learned, .. } => self.forgotten = *learned,
            Record::Chain { .. } => self.chain.recover(record, self.forgotten),
            Record::User { instance, value } => self.last_user = Some((*instance, value.clone())),
            Record::Genesis { .. } | Record::Group { .. } | Record::Gone { .. } => {
                self.membership.recover(record)
            }
            record => self.sessions.recover(record),
        }
        Ok(())
    }

    /// The records that rebuild all of this except the values.
    pub fn checkpoint(&self) -> impl Iterator<Item = Record> {
        let scripts = self.scripts.checkpoint();
        let user = self.last_user.iter().cloned().map(|(instance, value)| Record::User { instance, value });
        let digests = self.chain.checkpoint(self.learned());
        let sessions = self.sessions.checkpoint();
        self.membership.checkpoint().into_iter().chain(sessions).chain(user).chain(scripts).chain(digests)
    }

    /// The group that governs the next instance, and its history.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The group that governs the instance after the learned prefix.
    pub fn group(&self) -> &Group {
        self.membership.group()
    }

    /// Lets a proposed group count before it is chosen, as only a mutant does.
    pub fn count_early(&mut self, members: BTreeSet<NodeId>) {
        self.membership.count_early(members);
    }

    /// Whether `instance`, whose value is held, had no effect.
    pub fn is_void(&self, instance: Instance) -> bool {
        self.void.contains_key(&instance)
    }

    /// The last instance of the learned prefix.
    pub fn learned(&self) -> Instance {
        Instance(self.forgotten.0 + self.values.len() as u64)
    }

    /// Whether `instance` was learned, and its value is no longer held.
    pub fn is_forgotten(&self, instance: Instance) -> bool {
        instance <= self.forgotten
    }

    /// Drops the values up to `through`, which must stand in the history files. True when some were held.
    pub fn forget_through(&mut self, through: Instance) -> bool {
        let through = through.min(self.learned());
        let is_held = through > self.forgotten;
        if is_held {
            self.values.drain(..(through.0 - self.forgotten.0) as usize);
            self.void = self.void.split_off(&through.next());
            self.forgotten = through;
        }
        is_held
    }

    /// The held instances from `first` to `last`, in the form of the history files.
    pub fn past(&self, first: Instance, last: Instance) -> Vec<Past> {
        let past = |instance| {
            let value = self.value(instance)?.clone();
            Some(Past { instance, value, void: self.void.get(&instance).copied() })
        };
        (first.0..=last.0).map(Instance).map_while(past).collect()
    }

    /// The chosen value of `instance`, encoded as in the log, if it is held.
    pub fn value(&self, instance: Instance) -> Option<&Value> {
        self.values.get(usize::try_from(instance.0.checked_sub(self.forgotten.0 + 1)?).ok()?)
    }

    /// The answer to `Request instance`, if its value is held.
    pub fn value_at(&self, instance: Instance) -> Option<Value> {
        let value = self.value(instance)?.clone();
        Some(reads(&Past { instance, value, void: self.void.get(&instance).copied() }, self.dialect))
    }

    /// The result of a safe read at the next instance: the last value that a client wrote.
    pub fn safe_read(&self) -> Value {
        let mut bytes = SAFE_READ.as_bytes().to_vec();
        bytes.extend_from_slice(self.last_user.as_ref().map_or(b"", |(_, value)| value.as_bytes()));
        Value::from(bytes)
    }

    /// The last value that a client wrote, and its instance.
    pub fn last_user(&self) -> Option<&(Instance, Value)> {
        self.last_user.as_ref()
    }

    /// Forgets all sessions: the mistake of a mutant.
    pub fn forget_tags(&mut self) {
        self.sessions = Sessions::default();
    }

    /// Whether a tagged request has been carried out in the learned prefix.
    pub fn verdict(&self, tag: Tag) -> DedupStatus {
        self.sessions.verdict(tag)
    }

    /// The verdict for a request that would be carried out at `instance`.
    pub fn verdict_at(&self, tag: Tag, instance: Instance) -> DedupStatus {
        self.sessions.verdict_at(tag, instance)
    }

    /// Adds the next instance, in which `value` was chosen. Returns its meaning and, for a tagged request, whether
    /// that request had been carried out before. If it had, this instance is void. Otherwise the scripts, if there
    /// are any, apply it.
    ///
    /// # Panics
    /// When `instance` is not the one after the last, or there are scripts and no `hooks`.
    pub fn learn(&mut self, instance: Instance, value: Value, hooks: Option<&dyn Hooks>) -> Learned {
        assert_eq!(instance, self.learned().next(), "instances are learned in order");
        let entry = Entry::decode(instance, &value, self.dialect);
        let misplaced = matches!(&entry, Entry::Read { instance: valid_at, .. } if *valid_at != instance);
        let verdict = match entry.tagged() {
            _ if misplaced => DedupStatus::Misplaced,
            Some(tagged) => self.sessions.settle(tagged, instance),
            None => DedupStatus::New,
        };
        let verdict = match &entry {
            Entry::Group(_, new)
                if verdict == DedupStatus::New && !self.membership.learn(instance, new, &value) =>
            {
                DedupStatus::Stale
            }
            _ => verdict,
        };
        if self.dialect == Dialect::Extended {
            self.chain.learn(instance, &value);
        }
        self.values.push_back(value);
        match (&entry, verdict) {
            (_, DedupStatus::DoneAt(original)) => drop(self.void.insert(instance, Some(original))),
            (entry, DedupStatus::New) => {
                if let Some(value) = entry.written() {
                    self.last_user = Some((instance, value.clone()));
                }
            }
            _ => _ = self.void.insert(instance, None),
        }
        let is_again = mutant::is(Mutant::ApplyDuplicate) && matches!(verdict, DedupStatus::DoneAt(_));
        let applied = applied(instance, &entry).filter(|_| verdict == DedupStatus::New || is_again);
        let failed = self.scripts.learn(instance, applied.as_ref(), hooks);
        Learned { entry, verdict, failed }
    }

    /// Starts to recompute a past digest of the log, unless another recomputation is in progress.
    pub fn dig(&mut self, instance: Instance, out: &mut Outbox) {
        if !self.chain.digs() {
            self.chain.dig(instance);
            self.dig_on(out);
        }
    }

    /// Continues a recomputation with every heartbeat. A classic log has no digests.
    pub fn dig_with_beat(&mut self, out: &mut Outbox) {
        if self.dialect == Dialect::Extended {
            self.chain.begin_turn();
            self.dig_on(out);
        }
    }

    /// Takes the values that a lookup found in the history files.
    pub fn on_dug(&mut self, past: &[Past], out: &mut Outbox) {
        self.chain.take(past);
        self.dig_on(out);
    }

    /// Continues a recomputation, with values in memory or by a lookup of the next ones in the history files.
    fn dig_on(&mut self, out: &mut Outbox) {
        let learned = self.learned();
        while let Some((first, last)) = self.chain.needs(learned) {
            if self.is_forgotten(first) {
                return out.look_up(first, last, LookupPurpose::Digest);
            }
            let past = self.past(first, last.min(Instance(first.0 + HELD)));
            self.chain.take(&past);
        }
    }

    /// The first instance that some script has yet to apply. A script may have been added or changed since the log
    /// began.
    pub fn behind(&self) -> Option<Instance> {
        self.scripts.behind(self.learned())
    }

    /// Lets the scripts that are behind apply past instances, in order: those in `past`, which starts with the
    /// instance of [`LearnedLog::behind`], or the held ones if `past` is empty.
    ///
    /// # Errors
    /// When a script cannot go on.
    ///
    /// # Panics
    /// When a script is behind, and no value is given or held.
    pub fn catch_up(&mut self, past: &[Past], hooks: &dyn Hooks) -> Result<(), Failed> {
        let held = match (past, self.behind()) {
            ([], Some(next)) => self.past(next, self.learned()),
            _ => Vec::new(),
        };
        let past = if past.is_empty() { &held } else { past };
        // The history may reach beyond the learned prefix when a value in the log is lost. That part comes later.
        let known = past.partition_point(|past| past.instance <= self.learned());
        let past = &past[..known];
        assert!(!past.is_empty() || self.behind().is_none(), "a value is in memory, or in the history");
        for past in past {
            let entry = Entry::decode(past.instance, &past.value, self.dialect);
            let applied = applied(past.instance, &entry).filter(|_| past.void.is_none());
            self.scripts.catch_up(past.instance, applied.as_ref(), hooks)?;
        }
        if self.behind().is_none() {
            self.scripts.caught_up();
        }
        Ok(())
    }
}

/// The effect of an entry on scripts; `None` for an entry that writes nothing.
fn applied(instance: Instance, entry: &Entry) -> Option<Applied<'_>> {
    let tag = entry.tagged().map(|tagged| tagged.tag);
    entry.written().map(|value| Applied { value, instance, tag })
}

/// The answer to `Request I` for a past instance.
pub fn reads(past: &Past, dialect: Dialect) -> Value {
    match past.void {
        Some(Some(original)) => Value::from(format!("duplicate of {original}").as_str()),
        Some(None) => Value::from("void"),
        None => Entry::decode(past.instance, &past.value, dialect).reads(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Tagged;

    fn tagged(seq: u64, floor: u64, value: &str) -> Value {
        let tagged = Tagged { tag: Tag { client: 7, seq }, floor };
        Entry::Tagged(tagged, value.into()).encode(Dialect::Extended)
    }

    fn learned(values: &[Value]) -> LearnedLog {
        let mut history = LearnedLog::new(Dialect::Extended, 3, Limits::USUAL);
        for (value, instance) in values.iter().zip(1..) {
            history.learn(Instance(instance), value.clone(), None);
        }
        history
    }

    fn reads(history: &LearnedLog) -> Vec<String> {
        (1..).map_while(|i| history.value_at(Instance(i))).map(|value| value.to_string()).collect()
    }

    #[test]
    fn the_second_choice_of_a_tag_is_void_and_names_the_first() {
        let history = learned(&[tagged(1, 1, "a"), tagged(2, 1, "b"), tagged(1, 1, "a")]);
        assert_eq!(reads(&history), ["a", "b", "duplicate of 1"]);
        assert_eq!(history.safe_read(), "safe read b".into(), "a void instance has no effect");
    }

    #[test]
    fn tags_chosen_out_of_order_are_all_carried_out() {
        let history = learned(&[tagged(5, 1, "e"), tagged(2, 1, "b"), tagged(5, 1, "e")]);
        assert_eq!(reads(&history), ["e", "b", "duplicate of 1"]);
        assert_eq!(history.verdict(Tag { client: 7, seq: 3 }), DedupStatus::New);
    }

    #[test]
    fn tags_below_the_floor_are_never_carried_out_again() {
        let history = learned(&[tagged(1, 1, "a"), tagged(3, 3, "c"), tagged(1, 1, "a")]);
        assert_eq!(reads(&history), ["a", "c", "void"]);
        assert_eq!(history.verdict(Tag { client: 7, seq: 2 }), DedupStatus::Settled);
    }

    #[test]
    fn a_safe_read_is_void_at_any_other_instance_and_reads_do_not_nest() {
        let read = |instance| {
            let instance = Instance(instance);
            Entry::Read { instance, tagged: None, value: "safe read a".into() }.encode(Dialect::Extended)
        };
        let history = learned(&["a".into(), read(2), read(9)]);
        assert_eq!(reads(&history), ["a", "safe read a", "void"]);
        assert_eq!(history.safe_read(), "safe read a".into());
    }
}
