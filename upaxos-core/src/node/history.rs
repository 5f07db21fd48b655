//! What the learned prefix says: every instance, what it reads, and which requests are done.
//!
//! Owns the meaning of values (through [`crate::entry`]) and the table that makes tagged requests
//! happen exactly once. It is a pure function of the learned values in order, so that every node
//! decides every duplicate alike, and a restart rebuilds it from the log.

use std::collections::BTreeMap;

use super::membership::Membership;
use crate::entry::{Entry, SAFE_READ};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::types::{Instance, Tag, Tagged, Value};
use crate::wire::Dialect;

/// The learned prefix and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct History {
    dialect: Dialect,
    values: Vec<Value>,
    /// The instances that had no effect, and whose duplicate each is, if of one still known.
    void: BTreeMap<Instance, Option<Instance>>,
    sessions: BTreeMap<u64, Session>,
    membership: Membership,
    last_user: Option<(Instance, Value)>,
}

/// What one client has had done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Session {
    /// Below it everything is settled, and nothing will be done again.
    floor: u64,
    /// What was chosen from the floor on. A set, not the highest number: requests of one client may
    /// be chosen out of order.
    done: BTreeMap<u64, Instance>,
}

/// Whether a tagged request has been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has not.
    New,
    /// It has, at this instance.
    DoneAt(Instance),
    /// It is below the client's floor: settled, whatever it was.
    Settled,
    /// It is a safe read that stands in another instance than it was computed for.
    Misplaced,
    /// It is a change of the group that is based on another epoch than the one in force, or brings an id
    /// back: it begins no epoch.
    Stale,
}

impl History {
    /// Nothing learned, by a node whose first group has `n` members (0: to be heard).
    pub fn new(dialect: Dialect, n: u16) -> History {
        let (values, void, sessions) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        History { dialect, values, void, sessions, membership: Membership::new(n), last_user: None }
    }

    /// Who governs the next instance.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Takes up the size of the first group, or what a checkpoint says of the group.
    pub fn recover(&mut self, record: &Record) {
        self.membership.recover(record);
    }

    /// Whether `instance` had no effect.
    pub fn is_void(&self, instance: Instance) -> bool {
        self.void.contains_key(&instance)
    }

    /// The value that was chosen at `instance`, as it stands in the log, if learned.
    pub fn value(&self, instance: Instance) -> Option<&Value> {
        self.values.get(usize::try_from(instance.0.checked_sub(1)?).ok()?)
    }

    /// What `Request instance` answers, if learned.
    pub fn reads(&self, instance: Instance) -> Option<Value> {
        let stored = self.value(instance)?;
        if let Some(original) = self.void.get(&instance) {
            return Some(match original {
                Some(original) => Value::from(format!("duplicate of {original}").as_str()),
                None => Value::from("void"),
            });
        }
        let entry = Entry::decode(instance, stored, self.dialect);
        Some(entry.reads())
    }

    /// What a safe read at the next instance reads: the last value that a user wrote.
    pub fn safe_read(&self) -> Value {
        let mut bytes = SAFE_READ.as_bytes().to_vec();
        bytes.extend_from_slice(self.last_user.as_ref().map_or(b"", |(_, value)| value.as_bytes()));
        Value::from(bytes)
    }

    /// The last value that a user wrote, and where it stands.
    pub fn last_user(&self) -> Option<&(Instance, Value)> {
        self.last_user.as_ref()
    }

    /// Forgets who had what done: a mistake that a mutant makes.
    pub fn forget_tags(&mut self) {
        self.sessions.clear();
    }

    /// Whether a tagged request has been carried out in the learned prefix.
    pub fn verdict(&self, tag: Tag) -> Verdict {
        let Some(session) = self.sessions.get(&tag.client) else { return Verdict::New };
        match session.done.get(&tag.seq) {
            Some(instance) => Verdict::DoneAt(*instance),
            None if tag.seq < session.floor => Verdict::Settled,
            None if mutant::is(Mutant::HighestSequence)
                && session.done.last_key_value().is_some_and(|(highest, _)| tag.seq < *highest) =>
            {
                Verdict::Settled
            }
            None => Verdict::New,
        }
    }

    /// Adds the next instance: `value` was chosen there. Says what it means and, if it carries a tag,
    /// whether that request had been carried out before: then this instance is void.
    ///
    /// # Panics
    /// When `instance` is not the one after the last.
    pub fn learn(&mut self, instance: Instance, value: Value) -> (Entry, Verdict) {
        assert_eq!(instance.0, self.values.len() as u64 + 1, "instances are learned in order");
        let entry = Entry::decode(instance, &value, self.dialect);
        let misplaced = matches!(&entry, Entry::Read { instance: valid_at, .. } if *valid_at != instance);
        let verdict = match entry.tagged() {
            _ if misplaced => Verdict::Misplaced,
            Some(tagged) => self.settle(tagged, instance),
            None => Verdict::New,
        };
        let verdict = match &entry {
            Entry::Group(_, new)
                if verdict == Verdict::New && !self.membership.learn(instance, new, &value) =>
            {
                Verdict::Stale
            }
            _ => verdict,
        };
        self.values.push(value);
        match (&entry, verdict) {
            (_, Verdict::DoneAt(original)) => drop(self.void.insert(instance, Some(original))),
            (_, Verdict::Settled | Verdict::Misplaced | Verdict::Stale) => {
                self.void.insert(instance, None);
            }
            (Entry::Write(value) | Entry::Tagged(_, value), Verdict::New) => {
                self.last_user = Some((instance, value.clone()));
            }
            _ => {}
        }
        (entry, verdict)
    }

    fn settle(&mut self, Tagged { tag, floor }: Tagged, instance: Instance) -> Verdict {
        let verdict = self.verdict(tag);
        let session = self.sessions.entry(tag.client).or_default();
        if verdict == Verdict::New {
            session.done.insert(tag.seq, instance);
        }
        if floor > session.floor {
            session.floor = floor;
            session.done = session.done.split_off(&floor);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(seq: u64, floor: u64, value: &str) -> Value {
        let tagged = Tagged { tag: Tag { client: 7, seq }, floor };
        Entry::Tagged(tagged, value.into()).encode(Dialect::Extended)
    }

    fn learned(values: &[Value]) -> History {
        let mut history = History::new(Dialect::Extended, 3);
        for (value, instance) in values.iter().zip(1..) {
            history.learn(Instance(instance), value.clone());
        }
        history
    }

    fn reads(history: &History) -> Vec<String> {
        (1..).map_while(|i| history.reads(Instance(i))).map(|value| value.to_string()).collect()
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
        assert_eq!(history.verdict(Tag { client: 7, seq: 3 }), Verdict::New);
    }

    #[test]
    fn tags_below_the_floor_are_never_carried_out_again() {
        let history = learned(&[tagged(1, 1, "a"), tagged(3, 3, "c"), tagged(1, 1, "a")]);
        assert_eq!(reads(&history), ["a", "c", "void"]);
        assert_eq!(history.verdict(Tag { client: 7, seq: 2 }), Verdict::Settled);
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
