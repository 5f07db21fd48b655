//! The acceptor: the promises and accepted values of this node.
//!
//! This module owns the promise and the last accepted value of every instance that is not yet durably learned. It
//! never counts votes. A vote leaves through `after_sync` only, together with the record that makes it true ("Paxos
//! Made Simple" 2.5: an acceptor remembers across failures).
//!
//! A damaged log may show that a value was accepted in some instance and ballot, but not the value itself. Such an
//! instance is `lost`. No promise covers it, neither as accepted nor as empty, so this node counts towards no
//! quorum of phase 1 there. This cannot undo a chosen value: a leader needs a quorum of other acceptors that do
//! cover the instance, and one of them was in the quorum that chose the value. (If the promise said "nothing", the
//! others might all be acceptors that never received the value.) The ballot stays promised, so older ballots are
//! refused as before.
//!
//! A lost instance ends in one of three ways:
//! - A value is accepted there in a higher ballot. It is then the last accepted value, whatever it replaced.
//! - The instance is durably learned.
//! - Another node shows the value written there in exactly the lost ballot. A ballot has one value per instance. That
//!   value is fixed before any other node receives it, and never changes, not even when the ballot's owner restarts. So
//!   it is the value accepted here, and to report it again is no second vote.

use std::collections::BTreeMap;

use crate::mutant::{self, Mutant};
use crate::paged_map::PagedMap;
use crate::record::Record;
use crate::replica::limits::{Bound, Bounds, ENTRY_BYTES, Limits, Reached};
use crate::replica::outbox::{Event, EventLevel, Outbox};
use crate::types::{Ballot, Epoch, Instance, Value};
use crate::wire::Message;

/// The acceptor's durable state: promises, and accepted values above the durable prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Acceptor {
    classic: bool,
    bounds: Bounds,
    /// The promise for all instances. It replaces, and is stronger than, one promise per instance.
    promised: Option<Ballot>,
    /// The promises per instance, in a classic group only.
    promised_at: BTreeMap<Instance, Ballot>,
    /// The highest ballot promised for any instance.
    highest: Option<Ballot>,
    accepted: PagedMap<(Ballot, Value)>,
    /// Instances whose last accepted value is lost, with its ballot. None of these is in `accepted`.
    lost: BTreeMap<Instance, Ballot>,
    /// Up to here every instance is durably learned, and forgotten. The next instance always has room. Otherwise
    /// values that no leader completes could fill the room for ever.
    forgotten: Instance,
    /// The size of the values in `accepted`.
    bytes: usize,
    /// The latest epoch in which a value was accepted, and the highest such instance. A forgotten instance is
    /// durably learned, so the learned prefix takes the place of its mark.
    top: Option<(Epoch, Instance)>,
}

impl Acceptor {
    /// An acceptor without promises. A `classic` one promises instance by instance.
    pub fn new(classic: bool, limits: Limits) -> Acceptor {
        Acceptor { classic, bounds: limits.into(), ..Acceptor::default() }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Restores a promise or an accepted value from the log of an earlier run.
    pub fn recover(&mut self, record: &Record) {
        match record {
            Record::PromiseAll { ballot } => {
                self.promised = self.promised.max(Some(*ballot));
                self.highest = self.highest.max(self.promised);
            }
            Record::Promise { instance, ballot } => self.raise(*instance, *ballot),
            Record::Accept { instance, .. }
                if mutant::is(Mutant::FarVoteForgotten) && instance.0 > self.bounds.window => {}
            Record::Accept { instance, ballot, value } => {
                self.raise(*instance, *ballot);
                self.store(*instance, *ballot, value);
            }
            Record::Lost { instance, ballot: Some(ballot) } => {
                self.raise(*instance, *ballot);
                self.lose(*instance, *ballot);
            }
            _ => {}
        }
    }

    /// The records that rebuild this state above `learned`.
    pub fn checkpoint(&self, learned: Instance) -> impl Iterator<Item = Record> {
        let promised = self.promised.map(|ballot| Record::PromiseAll { ballot });
        let accepted = self.accepted.from(learned.next().0).map(|(instance, (ballot, value))| {
            Record::Accept { instance: Instance(instance), ballot: *ballot, value: value.clone() }
        });
        let lost = self.lost.range(learned.next()..);
        let lost = lost.map(|(i, ballot)| Record::Lost { instance: *i, ballot: Some(*ballot) });
        promised.into_iter().chain(accepted).chain(lost)
    }

    /// Whether a value was accepted in `instance` that can no longer be read.
    pub fn is_lost(&self, instance: Instance) -> bool {
        self.lost.contains_key(&instance)
    }

    /// Whether the accepted value of any instance is lost.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The highest ballot promised for `instance`, by a promise for all instances or for this one.
    pub fn promised_in(&self, instance: Instance) -> Option<Ballot> {
        self.promised.max(self.promised_at.get(&instance).copied())
    }

    /// The highest ballot promised for any instance.
    pub fn highest_promise(&self) -> Option<Ballot> {
        self.highest
    }

    /// The last instance with a promise of its own, in a classic group.
    pub fn last_promised(&self) -> Option<Instance> {
        self.promised_at.last_key_value().map(|(instance, _)| *instance)
    }

    /// The last instance with an accepted value in memory.
    pub fn last_accepted(&self) -> Option<Instance> {
        self.accepted.last().map(|(instance, _)| Instance(instance))
    }

    /// The highest instance with a value accepted in the latest epoch that has any. A value that an older epoch
    /// left above a change of the group was never chosen.
    pub fn highest_accepted(&self) -> Option<Instance> {
        self.top.map(|(_, instance)| instance)
    }

    /// The last accepted ballot and value of `instance`; `None` once it is durably learned and forgotten.
    pub fn accepted(&self, instance: Instance) -> Option<&(Ballot, Value)> {
        self.accepted.get(instance.0)
    }

    /// `Propose`: promises one instance, or refuses.
    pub fn on_propose(&mut self, instance: Instance, ballot: Ballot, out: &mut Outbox) {
        if let Some(higher) = self.promised_in(instance).filter(|promised| *promised > ballot) {
            return self.nack(instance, (ballot, higher), out);
        }
        if self.is_lost(instance) {
            // Neither a value nor "none" would be true.
            return;
        }
        self.promise(instance, ballot, out);
        let accepted = self.accepted.get(instance.0).cloned();
        out.after_sync(Message::Promise { instance, ballot, accepted });
    }

    /// `ProposeAll`: promises every instance from `first` on, or refuses. Above `learned`, the durably learned
    /// prefix, the answer lists exactly the accepted values and the empty ranges. The candidate must learn the
    /// prefix itself first. The answer does not cover lost instances.
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
        for (instance, (accepted_in, value)) in self.accepted.from(from.0) {
            if self.bounds.is_over(Bound::PromiseBytes, bytes > self.bounds.promise_bytes) {
                return;
            }
            self.promise_none(from, Some(Instance(instance - 1)), (ballot, learned), out);
            bytes += value.as_bytes().len() + 64;
            let accepted = Some((*accepted_in, value.clone()));
            out.after_sync(Message::Promise { instance: Instance(instance), ballot, accepted });
            from = Instance(instance).next();
        }
        self.promise_none(from, None, (ballot, learned), out);
    }

    /// Reports that nothing was accepted from `first` to `last`, in ranges that leave the lost instances out.
    fn promise_none(
        &self,
        mut first: Instance,
        last: Option<Instance>,
        (ballot, learned): (Ballot, Instance),
        out: &mut Outbox,
    ) {
        let is_in_range = |lost: &&Instance| last.is_none_or(|last| **lost <= last);
        let lost = self.lost.range(first..).map(|(instance, _)| instance).take_while(is_in_range);
        for lost in lost.filter(|_| !mutant::is(Mutant::LostIsNothing)) {
            if first < *lost {
                let last = Some(Instance(lost.0 - 1));
                out.after_sync(Message::PromiseNone { first, last, ballot, learned });
            }
            first = lost.next();
        }
        if last.is_none_or(|last| first <= last) {
            out.after_sync(Message::PromiseNone { first, last, ballot, learned });
        }
    }

    /// Another node shows the value written in `ballot`. If that value is lost here, this restores it.
    pub fn on_copy(&mut self, instance: Instance, ballot: Ballot, value: &Value, out: &mut Outbox) {
        let is_any = mutant::is(Mutant::CopyAnyBallot);
        if self.lost.get(&instance).is_some_and(|lost| *lost == ballot || (is_any && *lost < ballot)) {
            self.store(instance, ballot, value);
            out.persist(Record::Accept { instance, ballot, value: value.clone() });
        }
    }

    /// `Write`: accepts the value, or refuses. True when this acceptor holds the value in that ballot.
    pub fn on_write(&mut self, instance: Instance, ballot: Ballot, value: &Value, out: &mut Outbox) -> bool {
        self.on_copy(instance, ballot, value, out);
        let is_higher = |promised: &Ballot| *promised > ballot && !mutant::is(Mutant::IgnorePromiseOnWrite);
        if let Some(higher) = self.promised_in(instance).filter(is_higher) {
            self.nack(instance, (ballot, higher), out);
            return false;
        }
        match self.accepted.get(instance.0) {
            Some((accepted_in, other)) if *accepted_in == ballot && other != value => {
                // A ballot has one value per instance. A leader that wrote a second one must give the ballot up: a
                // refusal that names the ballot itself says so.
                self.nack(instance, (ballot, ballot), out);
                return false;
            }
            Some((accepted_in, _)) if *accepted_in == ballot => {}
            _ if self.bytes > self.bounds.open_bytes
                && !self.classic
                && instance != self.forgotten.next() =>
            {
                self.bounds.reach(Bound::OpenBytes);
                return false;
            }
            _ => {
                // Accepting is also promising. Otherwise a lower ballot could overwrite this value.
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

    /// Whether there is room to accept values far above the learned prefix. Such values stay until the prefix
    /// reaches them, so half of the room is kept for near instances.
    pub fn has_room_far(&self) -> bool {
        self.bytes + self.accepted.len() * ENTRY_BYTES < self.bounds.open_bytes / 2
    }

    /// Refuses a `Write` if its ballot is below the promise; otherwise does nothing.
    pub fn refuse(&self, instance: Instance, ballot: Ballot, out: &mut Outbox) {
        if let Some(higher) = self.promised_in(instance).filter(|promised| *promised > ballot) {
            self.nack(instance, (ballot, higher), out);
        }
    }

    fn nack(&self, instance: Instance, (refused, promised): (Ballot, Ballot), out: &mut Outbox) {
        out.send(Message::Nack { instance, ballot: promised });
        if self.classic && out.tells(EventLevel::Answers) {
            out.event(Event::Refuses { instance, refused, promised });
        }
    }

    /// Forgets the accepted values up to `learned`, which must be durably learned.
    pub fn forget_through(&mut self, learned: Instance) {
        self.forgotten = learned;
        while !self.classic
            && let Some((_, (_, value))) = self.accepted.pop_through(learned.0)
        {
            self.bytes -= value.as_bytes().len();
        }
        if self.has_lost() {
            self.lost = self.lost.split_off(&learned.next());
        }
    }

    /// Records that a value was accepted whose words are lost.
    fn lose(&mut self, instance: Instance, ballot: Ballot) {
        self.mark(instance, ballot);
        self.lost.insert(instance, ballot);
        if mutant::is(Mutant::LostKeepsOlder) && self.accepted.get(instance.0).is_some() {
            self.lost.remove(&instance);
            return;
        }
        if let Some((_, before)) = self.accepted.remove(instance.0) {
            self.bytes -= before.as_bytes().len();
        }
    }

    fn mark(&mut self, instance: Instance, ballot: Ballot) {
        // A later epoch compares higher, whatever its instance.
        let same_epoch = self.top.filter(|(epoch, _)| *epoch == ballot.epoch);
        let highest = same_epoch.map_or(instance, |(_, highest)| highest.max(instance));
        self.top = self.top.max(Some((ballot.epoch, highest)));
    }

    fn store(&mut self, instance: Instance, ballot: Ballot, value: &Value) {
        self.mark(instance, ballot);
        self.lost.remove(&instance);
        self.bytes += value.as_bytes().len();
        if let Some((_, before)) = self.accepted.insert(instance.0, (ballot, value.clone())) {
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
