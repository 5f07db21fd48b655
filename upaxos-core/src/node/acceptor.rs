//! The acceptor: what this node has promised and accepted.
//!
//! Owns the promise and the last accepted value of every instance that is not yet durably learned.
//! It never counts anybody's votes. A vote leaves through `after_sync` only, together with the record
//! that makes it true ("Paxos Made Simple" 2.5: an acceptor remembers across failures).

use std::collections::BTreeMap;

use super::outbox::Outbox;
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::types::{Ballot, Epoch, Instance, Value};
use crate::wire::Message;

/// How many bytes of promises one proposal is answered with; who needs more asks again from the
/// first instance that is not covered.
const ANSWER_BYTES: usize = 1 << 20;

/// How many bytes of values may be accepted and not yet learned: well over what honest leaders have under
/// way. What is written beyond that is ignored, as if lost.
pub const MAX_OPEN_BYTES: usize = 64 << 20;

/// The acceptor's durable word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Acceptor {
    classic: bool,
    /// For all instances: enough, and stronger than one per instance.
    promised: Option<Ballot>,
    /// Per instance, in a classic group only.
    promised_at: BTreeMap<Instance, Ballot>,
    /// The highest of all that was promised.
    highest: Option<Ballot>,
    accepted: BTreeMap<Instance, (Ballot, Value)>,
    /// Of the values in `accepted`.
    bytes: usize,
    /// The latest epoch in which anything was accepted, and the highest instance of these. What is
    /// forgotten is durably learned: of a mark, the learned prefix stands for it.
    top: Option<(Epoch, Instance)>,
}

impl Acceptor {
    /// An acceptor that has said nothing. A `classic` one promises instance by instance.
    pub fn new(classic: bool) -> Acceptor {
        Acceptor { classic, ..Acceptor::default() }
    }

    /// Takes up what an earlier life of this node has said.
    pub fn recover(&mut self, record: &Record) {
        match record {
            Record::PromiseAll { ballot } => {
                self.promised = self.promised.max(Some(*ballot));
                self.highest = self.highest.max(self.promised);
            }
            Record::Promise { instance, ballot } => self.raise(*instance, *ballot),
            Record::Accept { instance, ballot, value } => {
                self.raise(*instance, *ballot);
                self.store(*instance, *ballot, value);
            }
            _ => {}
        }
    }

    /// What rebuilds this, above `learned`.
    pub fn checkpoint(&self, learned: Instance) -> impl Iterator<Item = Record> {
        let promised = self.promised.map(|ballot| Record::PromiseAll { ballot });
        let accepted = self.accepted.range(learned.next()..).map(|(instance, (ballot, value))| {
            Record::Accept { instance: *instance, ballot: *ballot, value: value.clone() }
        });
        promised.into_iter().chain(accepted)
    }

    /// The highest ballot promised for `instance`.
    pub fn promised_in(&self, instance: Instance) -> Option<Ballot> {
        self.promised.max(self.promised_at.get(&instance).copied())
    }

    /// The highest ballot promised anywhere.
    pub fn highest_promise(&self) -> Option<Ballot> {
        self.highest
    }

    /// The last instance in which a value is held.
    pub fn last_accepted(&self) -> Option<Instance> {
        self.accepted.keys().next_back().copied()
    }

    /// The highest instance in which a value was accepted in the latest epoch that any was accepted in.
    /// What an older epoch left above a change of the group was never chosen.
    pub fn highest_accepted(&self) -> Option<Instance> {
        self.top.map(|(_, instance)| instance)
    }

    /// What was last accepted in `instance`, unless it is durably learned and forgotten.
    pub fn accepted(&self, instance: Instance) -> Option<&(Ballot, Value)> {
        self.accepted.get(&instance)
    }

    /// `Propose`: promise one instance, or refuse.
    pub fn on_propose(&mut self, instance: Instance, ballot: Ballot, out: &mut Outbox) {
        if let Some(higher) = self.promised_in(instance).filter(|promised| *promised > ballot) {
            out.send(Message::Nack { instance, ballot: higher });
            return;
        }
        self.promise(instance, ballot, out);
        let accepted = self.accepted.get(&instance).cloned();
        out.after_sync(Message::Promise { instance, ballot, accepted });
    }

    /// `ProposeAll`: promise every instance from `first` on, or refuse. The answer says exactly what was
    /// accepted, and where nothing was, above `learned`, the durably learned prefix; what is below,
    /// the candidate has to learn first.
    pub fn on_propose_all(&mut self, first: Instance, ballot: Ballot, learned: Instance, out: &mut Outbox) {
        assert!(!self.classic, "a classic group has no ballots for all instances");
        if let Some(higher) = self.promised.filter(|promised| *promised > ballot) {
            out.send(Message::Nack { instance: first, ballot: higher });
            return;
        }
        self.promise(first, ballot, out);
        if mutant::is(Mutant::PromiseOmitsValue) {
            return out.after_sync(Message::PromiseNone {
                first: first.max(learned.next()),
                last: None,
                ballot,
                learned,
            });
        }
        let silent = mutant::is(Mutant::SilentAboutPrefix);
        let (mut from, learned) =
            if silent { (first, Instance(0)) } else { (first.max(learned.next()), learned) };
        let mut bytes = 0;
        for (instance, (accepted_in, value)) in self.accepted.range(from..) {
            if bytes > ANSWER_BYTES {
                return;
            }
            if from < *instance {
                let last = Some(Instance(instance.0 - 1));
                out.after_sync(Message::PromiseNone { first: from, last, ballot, learned });
            }
            bytes += value.as_bytes().len() + 64;
            let accepted = Some((*accepted_in, value.clone()));
            out.after_sync(Message::Promise { instance: *instance, ballot, accepted });
            from = instance.next();
        }
        out.after_sync(Message::PromiseNone { first: from, last: None, ballot, learned });
    }

    /// `Write`: accept the value, or refuse. True when the value stands here in that ballot.
    pub fn on_write(&mut self, instance: Instance, ballot: Ballot, value: &Value, out: &mut Outbox) -> bool {
        let is_higher = |promised: &Ballot| *promised > ballot && !mutant::is(Mutant::IgnorePromiseOnWrite);
        if let Some(higher) = self.promised_in(instance).filter(is_higher) {
            out.send(Message::Nack { instance, ballot: higher });
            return false;
        }
        match self.accepted.get(&instance) {
            Some((accepted_in, other)) if *accepted_in == ballot && other != value => {
                // One value per ballot and instance. Whoever wrote a second one has to give the
                // ballot up: naming it in a refusal says so.
                out.send(Message::Nack { instance, ballot });
                return false;
            }
            Some((accepted_in, _)) if *accepted_in == ballot => {}
            _ if self.bytes > MAX_OPEN_BYTES && !self.classic => return false,
            _ => {
                // Accepting is also promising: else a lower ballot could overwrite this value.
                if !mutant::is(Mutant::WriteRaisesNothing) {
                    self.raise(instance, ballot);
                }
                self.store(instance, ballot, value);
                out.persist(Record::Accept { instance, ballot, value: value.clone() });
            }
        }
        let value = value.clone();
        out.after_sync(match self.classic {
            true => Message::Accept { instance, ballot, value },
            false => Message::Accepts { first: instance, last: instance, ballot },
        });
        true
    }

    /// Refuses a `Write` if its ballot is below the promise, and ignores it if not.
    pub fn refuse(&self, instance: Instance, ballot: Ballot, out: &mut Outbox) {
        if let Some(higher) = self.promised_in(instance).filter(|promised| *promised > ballot) {
            out.send(Message::Nack { instance, ballot: higher });
        }
    }

    /// Forgets what was accepted up to `learned`, which must be durably learned.
    pub fn forget_through(&mut self, learned: Instance) {
        while let Some(first) =
            self.accepted.first_entry().filter(|first| *first.key() <= learned && !self.classic)
        {
            self.bytes -= first.remove().1.as_bytes().len();
        }
    }

    fn store(&mut self, instance: Instance, ballot: Ballot, value: &Value) {
        // A later epoch compares higher, whatever its instance.
        let same_epoch = self.top.filter(|(epoch, _)| *epoch == ballot.epoch);
        let highest = same_epoch.map_or(instance, |(_, highest)| highest.max(instance));
        self.top = self.top.max(Some((ballot.epoch, highest)));
        self.bytes += value.as_bytes().len();
        if let Some((_, before)) = self.accepted.insert(instance, (ballot, value.clone())) {
            self.bytes -= before.as_bytes().len();
        }
    }

    fn promise(&mut self, instance: Instance, ballot: Ballot, out: &mut Outbox) {
        if self.promised_in(instance) == Some(ballot) {
            return;
        }
        self.raise(instance, ballot);
        out.persist(match self.classic {
            true => Record::Promise { instance, ballot },
            false => Record::PromiseAll { ballot },
        });
    }

    fn raise(&mut self, instance: Instance, ballot: Ballot) {
        self.highest = self.highest.max(Some(ballot));
        if self.classic {
            let promised = self.promised_at.entry(instance).or_insert(ballot);
            *promised = ballot.max(*promised);
        } else {
            self.promised = self.promised.max(Some(ballot));
        }
    }
}
