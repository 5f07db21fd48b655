//! The acceptor: what this node has promised and accepted.
//!
//! Owns the promise and the last accepted value of every instance that is not yet durably learned.
//! It never counts anybody's votes. A vote leaves through `after_sync` only, together with the record
//! that makes it true ("Paxos Made Simple" 2.5: an acceptor remembers across failures).
//!
//! A damaged log may have kept that something was accepted, in which instance and ballot, and lost what. Such
//! an instance is `lost`: no promise covers it, neither as accepted nor as empty, so that this node counts
//! towards no quorum of phase 1 there. Nothing that was chosen can be undone by that: whoever leads needs a
//! quorum of others that do cover it, and one of them was in the quorum that chose. (Had the promise said
//! "nothing", the others might be those that never heard of the value.) The ballot stays promised, so that
//! what is older is refused as ever. It ends in one of three ways. A value is accepted there in a higher
//! ballot: that is the last accepted then, whatever it replaced. The instance is durably learned. Or somebody
//! shows what was written there in exactly the lost ballot: a ballot has one value per instance, fixed before
//! anybody heard of it and never changed, across restarts of its owner too, so that value and no other is the
//! one that was accepted here; to say so again is no second vote.

use std::collections::BTreeMap;

use super::limits::{Bound, Bounds, ENTRY_BYTES, Limits, Reached};
use super::outbox::{Detail, Event, Outbox};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::slots::Slots;
use crate::types::{Ballot, Epoch, Instance, Value};
use crate::wire::Message;

/// The acceptor's durable word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Acceptor {
    classic: bool,
    bounds: Bounds,
    /// For all instances: enough, and stronger than one per instance.
    promised: Option<Ballot>,
    /// Per instance, in a classic group only.
    promised_at: BTreeMap<Instance, Ballot>,
    /// The highest of all that was promised.
    highest: Option<Ballot>,
    accepted: Slots<(Ballot, Value)>,
    /// Accepted last in that ballot; what, is lost. None of these is in `accepted`.
    lost: BTreeMap<Instance, Ballot>,
    /// Up to here everything is durably learned, and forgotten. What comes next there is always room for: else values
    /// that nobody completes could fill it for ever.
    forgotten: Instance,
    /// Of the values in `accepted`.
    bytes: usize,
    /// The latest epoch in which anything was accepted, and the highest instance of these. What is
    /// forgotten is durably learned: of a mark, the learned prefix stands for it.
    top: Option<(Epoch, Instance)>,
}

impl Acceptor {
    /// An acceptor that has said nothing. A `classic` one promises instance by instance.
    pub fn new(classic: bool, limits: Limits) -> Acceptor {
        Acceptor { classic, bounds: limits.into(), ..Acceptor::default() }
    }

    /// Which of its bounds were reached.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Takes up what an earlier life of this node has said.
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

    /// What rebuilds this, above `learned`.
    pub fn checkpoint(&self, learned: Instance) -> impl Iterator<Item = Record> {
        let promised = self.promised.map(|ballot| Record::PromiseAll { ballot });
        let accepted = self.accepted.from(learned.next().0).map(|(instance, (ballot, value))| {
            Record::Accept { instance: Instance(instance), ballot: *ballot, value: value.clone() }
        });
        let lost = self.lost.range(learned.next()..);
        let lost = lost.map(|(i, ballot)| Record::Lost { instance: *i, ballot: Some(*ballot) });
        promised.into_iter().chain(accepted).chain(lost)
    }

    /// Whether something was accepted in `instance` that can no longer be read.
    pub fn is_lost(&self, instance: Instance) -> bool {
        self.lost.contains_key(&instance)
    }

    /// Whether there is any such instance.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The highest ballot promised for `instance`.
    pub fn promised_in(&self, instance: Instance) -> Option<Ballot> {
        self.promised.max(self.promised_at.get(&instance).copied())
    }

    /// The highest ballot promised anywhere.
    pub fn highest_promise(&self) -> Option<Ballot> {
        self.highest
    }

    /// The last instance in which anything was promised, in a classic group.
    pub fn last_promised(&self) -> Option<Instance> {
        self.promised_at.last_key_value().map(|(instance, _)| *instance)
    }

    /// The last instance in which a value is held.
    pub fn last_accepted(&self) -> Option<Instance> {
        self.accepted.last().map(|(instance, _)| Instance(instance))
    }

    /// The highest instance in which a value was accepted in the latest epoch that any was accepted in.
    /// What an older epoch left above a change of the group was never chosen.
    pub fn highest_accepted(&self) -> Option<Instance> {
        self.top.map(|(_, instance)| instance)
    }

    /// What was last accepted in `instance`, unless it is durably learned and forgotten.
    pub fn accepted(&self, instance: Instance) -> Option<&(Ballot, Value)> {
        self.accepted.get(instance.0)
    }

    /// `Propose`: promise one instance, or refuse.
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

    /// `ProposeAll`: promise every instance from `first` on, or refuse. The answer says exactly what was
    /// accepted, and where nothing was, above `learned`, the durably learned prefix; what is below,
    /// the candidate has to learn first. Of what is lost it says nothing.
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

    /// Says that nothing was accepted from `first` to `last`, in parts: between them is what is lost.
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

    /// Somebody shows what was written in `ballot`: if that is what is lost here, it is known again.
    pub fn on_copy(&mut self, instance: Instance, ballot: Ballot, value: &Value, out: &mut Outbox) {
        let is_any = mutant::is(Mutant::CopyAnyBallot);
        if self.lost.get(&instance).is_some_and(|lost| *lost == ballot || (is_any && *lost < ballot)) {
            self.store(instance, ballot, value);
            out.persist(Record::Accept { instance, ballot, value: value.clone() });
        }
    }

    /// `Write`: accept the value, or refuse. True when the value stands here in that ballot.
    pub fn on_write(&mut self, instance: Instance, ballot: Ballot, value: &Value, out: &mut Outbox) -> bool {
        self.on_copy(instance, ballot, value, out);
        let is_higher = |promised: &Ballot| *promised > ballot && !mutant::is(Mutant::IgnorePromiseOnWrite);
        if let Some(higher) = self.promised_in(instance).filter(is_higher) {
            self.nack(instance, (ballot, higher), out);
            return false;
        }
        match self.accepted.get(instance.0) {
            Some((accepted_in, other)) if *accepted_in == ballot && other != value => {
                // One value per ballot and instance. Whoever wrote a second one has to give the
                // ballot up: naming it in a refusal says so.
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

    /// Whether there is room to accept values far above the learned prefix. They stay until that gets there, so
    /// half of the room is kept for what is near.
    pub fn has_room_far(&self) -> bool {
        self.bytes + self.accepted.len() * ENTRY_BYTES < self.bounds.open_bytes / 2
    }

    /// Refuses a `Write` if its ballot is below the promise, and ignores it if not.
    pub fn refuse(&self, instance: Instance, ballot: Ballot, out: &mut Outbox) {
        if let Some(higher) = self.promised_in(instance).filter(|promised| *promised > ballot) {
            self.nack(instance, (ballot, higher), out);
        }
    }

    fn nack(&self, instance: Instance, (refused, promised): (Ballot, Ballot), out: &mut Outbox) {
        out.send(Message::Nack { instance, ballot: promised });
        if self.classic && out.tells(Detail::Answers) {
            out.event(Event::Refuses { instance, refused, promised });
        }
    }

    /// Forgets what was accepted up to `learned`, which must be durably learned.
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

    /// Accepted, but nobody knows what.
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
