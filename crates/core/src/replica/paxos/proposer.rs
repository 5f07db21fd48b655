//! The leader: runs phase 1 once for all instances from one instance on, then phase 2, pipelined.
//!
//! This module owns this node's own ballot: the promises that acceptors gave for it, and the values that this node
//! wrote under it. A ballot has one value per instance. That value is fixed when phase 1 ends, and never changes. A
//! ballot that was given up is never used again. The election decides when to raise a ballot; this module does not.

mod phase_1;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use phase_1::{Preparing, RETRY_MAX};
use window::Window;

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::paged_map::{ByTag, PagedMap};
use crate::replica::clients::queue::{Key, Proposal};
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::replica::outbox::Outbox;
use crate::replica::paxos::acceptor::Acceptor;
use crate::types::{Ballot, Group, Instance, Micros, NodeId, Tag, Value};
use crate::wire::{Dialect, Message, Stance};

/// The bounds of the first retransmission. The delay is four round trips within these bounds.
const RETRY_MIN: Micros = Micros::from_millis(10);

/// The shortest time between two full writes of one value, however many nodes ask for it.
const FETCH_STEP: Micros = Micros::from_millis(5);

/// This node's own ballot, if it runs one, and the progress of its phase 1 or 2.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposer {
    ballot: Option<Ballot>,
    phase: Phase,
    round_trip: Micros,
    bounds: Bounds,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Preparing(Preparing),
    Leading(Leading),
}

/// The state of phase 2: the values in flight, and the next free instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Leading {
    next: Instance,
    flights: PagedMap<InFlight>,
    /// The tags of the requests in flight.
    tags: ByTag<()>,
    /// The earliest time at which a flight is due for retransmission.
    retry_at: Option<Micros>,
    bytes: usize,
    window: Window,
    /// The instance of a change of the group in flight, and the request's tag. No instance above it starts before
    /// the change is learned.
    fence: Option<(Instance, Option<Tag>)>,
    /// The values that phase 1 found above such a change. They are written if the change turns out void.
    held: Vec<(Instance, Value)>,
}

/// A value in flight: this leader has written it, and has not learned it yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InFlight {
    /// The value as it was sent in `Write`.
    pub value: Value,
    /// The request that the value carries out; `None` for a value that phase 1 found.
    pub wanted: Option<Proposal>,
    sent_at: Micros,
    retry_at: Micros,
    retry_after: Micros,
    is_resent: bool,
    /// When the value was last written in full because another node asked for it.
    fetched_at: Option<Micros>,
}

impl Proposer {
    /// A node that runs no ballot. The round trip starts at 5 ms and is measured from then on.
    pub fn new(limits: Limits) -> Proposer {
        let round_trip = Micros::from_millis(5);
        Proposer { ballot: None, phase: Phase::Idle, round_trip, bounds: limits.into() }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// The ballot that this node runs, in phase 1 or 2; `None` when it runs none.
    pub fn ballot(&self) -> Option<Ballot> {
        self.ballot
    }

    /// Whether phase 1 is complete, so that this node may propose values.
    pub fn is_leading(&self) -> bool {
        matches!(self.phase, Phase::Leading(_))
    }

    /// The part of this node in its own ballot: seeking in phase 1, leading in phase 2, else `None`.
    pub fn stance(&self) -> Option<Stance> {
        match self.phase {
            Phase::Idle => None,
            Phase::Preparing(_) => Some(Stance::Seeks),
            Phase::Leading(_) => Some(Stance::Leads),
        }
    }

    /// Starts phase 1 under a ballot of this node's own, for all instances after `learned`. The ballot is durable
    /// before any other node sees it: this node's own acceptor promises it in the same step. `change` is the change
    /// of the group that started the ballot's epoch, with its instance.
    pub fn start(
        &mut self,
        ballot: Ballot,
        learned: Instance,
        change: Option<(Instance, Value)>,
        now: Micros,
        out: &mut Outbox,
    ) {
        let first = learned.next();
        tell_change(change.as_ref(), out);
        out.after_sync(Message::ProposeAll { first, ballot });
        let retry_after = self.retry_after();
        self.ballot = Some(ballot);
        self.phase = Phase::Preparing(Preparing {
            first,
            base: learned,
            acceptors: BTreeMap::new(),
            retry_at: now + retry_after,
            retry_after,
            asked: Instance(0),
            owed: BTreeSet::new(),
            learned,
            stuck_since: now,
            change,
        });
    }

    /// Gives the ballot up for good. Returns the requests that were in flight, each with its instance if it has
    /// one.
    pub fn step_down(&mut self) -> Vec<(Option<Instance>, Proposal)> {
        self.ballot = None;
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Leading(leading) => {
                let held = leading.held.into_iter().filter_map(|(_, value)| {
                    Some((None, Proposal::of_lost(Entry::decode(Instance(0), &value, Dialect::Extended))?))
                });
                let places: Vec<_> = leading.flights.iter().map(|(at, _)| Some(Instance(at))).collect();
                let wanted = leading.flights.into_values().map(|flight| flight.wanted);
                let flights = places.into_iter().zip(wanted);
                flights.filter_map(|(at, wanted)| Some((at, wanted?))).chain(held).collect()
            }
            _ => Vec::new(),
        }
    }

    /// `Promise`: an acceptor reports the value that it last accepted in one instance.
    pub fn on_promise(
        &mut self,
        from: NodeId,
        instance: Instance,
        ballot: Ballot,
        accepted: Option<(Ballot, Value)>,
    ) {
        let limits = *self.bounds;
        let Some(preparing) = self.preparing(ballot) else { return };
        // What lies below is learned before phase 2.
        if instance <= preparing.base || instance > preparing.furthest(limits.window) {
            return;
        }
        let coverage = preparing.acceptors.entry(from).or_default();
        match accepted {
            // Only values accepted in the epoch's own ballots can have been chosen in it.
            Some((accepted_in, value))
                if accepted_in.epoch == ballot.epoch && !mutant::is(Mutant::IgnoreAcceptedInPromises) =>
            {
                if coverage.is_full(&limits) {
                    return;
                }
                coverage.bytes += value.as_bytes().len();
                let before = coverage.accepted.insert(instance, (accepted_in, value));
                coverage.bytes -= before.map_or(0, |(_, value)| value.as_bytes().len());
            }
            _ => coverage.add_range(instance, Some(instance), &limits),
        }
    }

    /// `PromiseNone`: an acceptor reports that it accepted nothing in a range, and up to which instance it has
    /// durably learned.
    pub fn on_promise_none(
        &mut self,
        from: NodeId,
        (first, last): (Instance, Option<Instance>),
        ballot: Ballot,
        learned: Instance,
    ) {
        let limits = *self.bounds;
        let Some(preparing) = self.preparing(ballot) else { return };
        preparing.rise_to(learned);
        let coverage = preparing.acceptors.entry(from).or_default();
        coverage.repeats += usize::from(last.is_none());
        coverage.add_range(first, last, &limits);
    }

    /// The prefix that this node must learn before phase 2 may start; `None` outside of phase 1.
    pub fn must_learn(&self) -> Option<Instance> {
        match &self.phase {
            Phase::Preparing(preparing) => Some(preparing.base),
            _ => None,
        }
    }

    /// Ends phase 1 if a quorum covers all instances above this node's learned prefix. Returns the values to write,
    /// in order from `learned + 1` on. They cover every instance in which an acceptor of the quorum had accepted a
    /// value, and the instances between. The values are fixed from here on.
    pub fn finish_phase_1(&mut self, group: &Group, learned: Instance) -> Option<Vec<(Instance, Value)>> {
        let Phase::Preparing(preparing) = &self.phase else { return None };
        let lacks_prefix = learned < preparing.base && !mutant::is(Mutant::SkipsCatchUp);
        if lacks_prefix || !preparing.is_covered(group) {
            return None;
        }
        let values = preparing.values_to_write(learned);
        self.phase = Phase::Leading(Leading {
            next: learned.next(),
            flights: PagedMap::default(),
            tags: ByTag::default(),
            retry_at: None,
            bytes: 0,
            window: Window::new(self.bounds.flights),
            fence: None,
            held: Vec::new(),
        });
        Some(values)
    }

    /// Whether phase 1 has made no progress for `patience`. Either a peer claims a prefix that this node cannot
    /// catch up with, or a quorum does not vote. This node should then let other candidates try.
    pub fn is_stuck(&mut self, learned: Instance, patience: Micros, now: Micros) -> bool {
        let Phase::Preparing(preparing) = &mut self.phase else { return false };
        if learned > preparing.learned {
            preparing.learned = learned;
            preparing.stuck_since = now;
        }
        now.since(preparing.stuck_since) >= patience
    }

    /// The next free instance, if the bounds leave room for `bytes` more in flight.
    pub fn free_instance(&self, learned: Instance, bytes: usize) -> Option<Instance> {
        let Phase::Leading(leading) = &self.phase else { return None };
        if leading.fence.is_some() && !mutant::is(Mutant::StartAboveChange) {
            return None;
        }
        let bounds = &self.bounds;
        let is_over = bounds.is_over(Bound::Flights, leading.flights.len() >= leading.window.size())
            || (!leading.flights.is_empty()
                && bounds.is_over(Bound::FlightBytes, leading.bytes + bytes > bounds.flight_bytes))
            || bounds.is_over(Bound::Window, leading.next.0 > learned.0 + bounds.window);
        (!is_over).then_some(leading.next)
    }

    /// Whether a value of this ballot has been in flight at `instance` for `patience`.
    pub fn is_stuck_at(&self, instance: Instance, patience: Micros, now: Micros) -> bool {
        let Phase::Leading(leading) = &self.phase else { return false };
        leading.flights.get(instance.0).is_some_and(|flight| now.since(flight.sent_at) >= patience)
    }

    /// The instance of this node's next write; `None` when it does not lead.
    pub fn next(&self) -> Option<Instance> {
        let Phase::Leading(leading) = &self.phase else { return None };
        Some(leading.next)
    }

    /// The instance of the change of the group in flight, if there is one, and the tag of its request.
    pub fn fence(&self) -> Option<(Instance, Option<Tag>)> {
        let Phase::Leading(leading) = &self.phase else { return None };
        leading.fence
    }

    /// Records that a change of the group was written at `instance`, by the request with tag `by`.
    pub fn set_fence(&mut self, instance: Instance, by: Option<Tag>) {
        if let Phase::Leading(leading) = &mut self.phase {
            leading.fence = Some((instance, by));
        }
    }

    /// Keeps the values that phase 1 found above a change until the change is learned.
    pub fn hold(&mut self, values: Vec<(Instance, Value)>) {
        if let Phase::Leading(leading) = &mut self.phase {
            leading.held = values;
        }
    }

    /// Returns the values held back after a change that was void. Each is written where phase 1 found it.
    pub fn take_held(&mut self) -> Vec<(Instance, Value)> {
        match &mut self.phase {
            Phase::Leading(leading) => std::mem::take(&mut leading.held),
            _ => Vec::new(),
        }
    }

    /// Whether the same request is in flight: the same tag or, without tags, the same words.
    pub fn is_under_way(&self, wanted: &Proposal) -> bool {
        let Phase::Leading(leading) = &self.phase else { return false };
        match wanted.tagged() {
            Some(tagged) => leading.tags.contains(tagged.tag),
            None => {
                let wanted = Key::of(wanted);
                let mut flights = leading.flights.iter().filter_map(|(_, flight)| flight.wanted.as_ref());
                flights.any(|other| other.tagged().is_none() && Key::of(other) == wanted)
            }
        }
    }

    /// Writes a value in the next free instance, and returns that instance. The value carries out `wanted`, or is
    /// one that phase 1 found. The caller sends the value to the other nodes.
    ///
    /// # Panics
    /// When this node does not lead.
    pub fn propose(
        &mut self,
        value: Value,
        wanted: Option<Proposal>,
        acceptor: &mut Acceptor,
        now: Micros,
        out: &mut Outbox,
    ) -> Instance {
        let Phase::Leading(leading) = &mut self.phase else { panic!("only a leader proposes") };
        let instance = leading.next;
        leading.next = instance.next();
        self.write(instance, value, wanted, acceptor, now, out);
        instance
    }

    /// Records that `instance` is learned. Returns the flight at that instance, if there was one.
    pub fn on_learned(&mut self, instance: Instance, now: Micros) -> Option<InFlight> {
        let Phase::Leading(leading) = &mut self.phase else { return None };
        leading.next = leading.next.max(instance.next());
        leading.fence.take_if(|(fence, _)| *fence <= instance);
        let flight = leading.flights.remove(instance.0)?;
        leading.bytes -= flight.value.as_bytes().len();
        if let Some(tagged) = flight.wanted.as_ref().and_then(Proposal::tagged) {
            leading.tags.remove(tagged.tag);
        }
        if !flight.is_resent {
            leading.window.on_clean();
            let took = now.since(flight.sent_at);
            self.round_trip = Micros((self.round_trip.0 * 7 + took.0) / 8);
        }
        Some(flight)
    }

    /// The first instance that this node's own acceptor has not answered yet, and the ballot; only when phase 1 is
    /// due to ask again.
    pub fn asks_itself(&self, me: NodeId, now: Micros) -> Option<(Instance, Ballot)> {
        let Phase::Preparing(preparing) = &self.phase else { return None };
        let first = preparing.owed_by(me).filter(|_| now >= preparing.retry_at)?;
        Some((first, self.ballot?))
    }

    /// Retransmits the values that lack a quorum, and passes each to `again`: this node's own acceptor may have had
    /// no room for it before.
    pub fn tick(
        &mut self,
        now: Micros,
        again: &mut dyn FnMut(Instance, Ballot, &Value, &mut Outbox),
        out: &mut Outbox,
    ) {
        let Some(ballot) = self.ballot else { return };
        let soon = self.retry_after();
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Preparing(preparing) if now >= preparing.retry_at => {
                let first = preparing.ask_again(soon, now);
                tell_change(preparing.change.as_ref(), out);
                out.send(Message::ProposeAll { first, ballot });
            }
            Phase::Preparing(_) => {}
            Phase::Leading(leading) => {
                if leading.retry_at.is_none_or(|at| now < at) {
                    return;
                }
                let due = leading.flights.iter_mut().filter(|(_, flight)| now >= flight.retry_at);
                for (instance, flight) in due.take(self.bounds.retransmit) {
                    flight.is_resent = true;
                    leading.window.on_loss(now);
                    flight.retry_after = (flight.retry_after * 2).min(RETRY_MAX);
                    flight.retry_at = now + flight.retry_after;
                    let (instance, value) = (Instance(instance), flight.value.clone());
                    again(instance, ballot, &value, out);
                    out.send(Message::Write { instance, ballot, value });
                }
                leading.retry_at = leading.flights.iter().map(|(_, flight)| flight.retry_at).min();
            }
        }
    }

    /// Answers a node that lacks named values: writes those in full that are still in flight.
    pub fn write_in_full(&mut self, first: Instance, last: Instance, now: Micros, out: &mut Outbox) {
        let (Some(ballot), Phase::Leading(leading)) = (self.ballot, &mut self.phase) else { return };
        for instance in (first.0..=last.0.min(first.0 + self.bounds.window)).map(Instance) {
            let Some(flight) = leading.flights.get_mut(instance.0) else { continue };
            // Other nodes may lack the same value, and receive this write too.
            if flight.fetched_at.is_none_or(|at| now.since(at) >= FETCH_STEP) {
                flight.fetched_at = Some(now);
                out.send(Message::Write { instance, ballot, value: flight.value.clone() });
            }
        }
    }

    /// The time of the next retransmission.
    pub fn deadline(&self) -> Option<Micros> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Preparing(preparing) => Some(preparing.retry_at),
            Phase::Leading(leading) => leading.retry_at,
        }
    }

    fn write(
        &mut self,
        instance: Instance,
        value: Value,
        wanted: Option<Proposal>,
        acceptor: &mut Acceptor,
        now: Micros,
        out: &mut Outbox,
    ) {
        let retry_after = self.retry_after();
        let (Some(ballot), Phase::Leading(leading)) = (self.ballot, &mut self.phase) else {
            panic!("only a leader writes");
        };
        leading.bytes += value.as_bytes().len();
        if let Some(tagged) = wanted.as_ref().and_then(Proposal::tagged) {
            leading.tags.insert(tagged.tag, ());
        }
        acceptor.on_write(instance, ballot, &value, out);
        let retry_at = now + retry_after;
        let flight = InFlight {
            value,
            wanted,
            sent_at: now,
            retry_at,
            retry_after,
            is_resent: false,
            fetched_at: None,
        };
        leading.retry_at = Some(leading.retry_at.map_or(retry_at, |at| at.min(retry_at)));
        let before = leading.flights.insert(instance.0, flight);
        assert!(before.is_none(), "one value per ballot and instance");
    }

    fn preparing(&mut self, ballot: Ballot) -> Option<&mut Preparing> {
        match &mut self.phase {
            Phase::Preparing(preparing)
                if self.ballot == Some(ballot) || mutant::is(Mutant::OldPromiseCounts) =>
            {
                Some(preparing)
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Micros {
        (self.round_trip * 4).clamp(RETRY_MIN, RETRY_MAX)
    }
}

fn tell_change(change: Option<&(Instance, Value)>, out: &mut Outbox) {
    if let Some((instance, value)) = change {
        out.send(Message::Written { instance: *instance, value: value.clone() });
    }
}
