//! The node and its store: the records of a checkpoint, the values that need not be held, the values that scripts
//! lack, and the results of lookups.
//!
//! This module owns no state. The driver calls it after commits and lookups.

use crate::hooks::Hooks;
use crate::past::{Past, Source};
use crate::record::Record;
use crate::replica::Replica;
use crate::replica::clients::pending_replies::About;
use crate::replica::clients::replies::answer_to_stored;
use crate::replica::limits::Bound;
use crate::replica::outbox::{Lookup, LookupPurpose, Outbox};
use crate::replica::recovery::RecoverError;
use crate::replica::state_machine::learned_log;
use crate::types::{Instance, Micros, Value};
use crate::wire::Message;

impl Source for Replica {
    /// A classic node keeps its whole log: other nodes may ask what it accepted in any instance.
    fn checkpoint(&self) -> (Instance, Vec<Record>) {
        if self.classic.is_some() {
            return (Instance(0), Vec::new());
        }
        let learned = self.learner.learned();
        let identity = self.identity.checkpoint();
        (
            learned,
            identity.chain(self.acceptor.checkpoint(learned)).chain(self.history.checkpoint()).collect(),
        )
    }

    fn learned(&self) -> Instance {
        self.learner.learned()
    }

    fn past(&self, first: Instance, last: Instance) -> Vec<Past> {
        self.history.past(first, last)
    }
}

impl Replica {
    /// Drops the values up to `through`, which now stand in the history files. True when some were held.
    pub fn on_compacted(&mut self, through: Instance) -> bool {
        self.history.forget_through(through)
    }

    /// The answer to `Request I` for a past instance.
    pub fn value_of(&self, past: &Past) -> Value {
        learned_log::reads(past, self.dialect)
    }

    /// The first known instance that a script has yet to apply: the script was added or changed since the log
    /// began. Before the node starts, its driver reads the values from there on, and passes them to
    /// [`Replica::catch_up`].
    pub fn behind(&self) -> Option<Instance> {
        self.history.behind()
    }

    /// Lets the scripts that are behind apply old values. These are the ones in `past`, which starts with the
    /// instance of [`Replica::behind`]. If `past` is empty, they are the values that the node holds itself. Call this
    /// until no script is behind.
    ///
    /// # Errors
    /// When a script cannot go on.
    pub fn catch_up(&mut self, past: &[Past], hooks: &dyn Hooks) -> Result<(), RecoverError> {
        let caught_up = self.history.catch_up(past, hooks);
        let next = self.history.behind().unwrap_or_default();
        caught_up.map_err(|failed| RecoverError::of_script(&failed, next))
    }

    /// Handles the result of a lookup: `past` starts with the first instance that was asked for.
    pub fn on_found(&mut self, now: Micros, lookup: &Lookup, past: Vec<Past>, out: &mut Outbox) {
        let first = past.first().filter(|past| past.instance == lookup.first);
        let is_cut = past.last().is_some_and(|past| past.instance < lookup.last);
        self.bounds.is_over(Bound::LookupBytes, is_cut);
        match (lookup.purpose, first) {
            (LookupPurpose::Repair, _) => self.repair.tell_past(past, now, out),
            (LookupPurpose::Digest, Some(_)) => self.history.on_dug(&past, out),
            (_, None) => {}
            (LookupPurpose::Request(rank), Some(past)) => {
                let answer = Message::Ok { instance: past.instance, value: self.value_of(past) };
                self.requests.schedule_reply(About::Instance(past.instance), answer, rank, now);
            }
            (LookupPurpose::Tagged(tag, rank), Some(past)) => {
                let answer =
                    answer_to_stored(tag, past.instance, &past.value, past.void.is_some(), self.dialect);
                self.requests.schedule_reply(About::Tag(tag), answer, rank, now);
            }
        }
    }
}
