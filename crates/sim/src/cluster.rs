//! The simulated cluster: one clock, one heap of future events, and the machines.
//!
//! It owns machines, turns, network, disks, checkers, and the order of all events. It decides nothing about faults
//! or client requests. Its director decides those: [`Chaos`](super::chaos::Chaos) follows a drawn plan,
//! [`Scripted`](super::scripted::Scripted) follows a script step by step. A director schedules cues of its own, and receives
//! all datagrams for the clients.

mod drive;
mod event_queue;
mod notes;
mod power;
mod rollback;
mod scripts;
mod start;
mod view;
mod watch;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use upaxos_core::replica::{Event, Limits, Timing};
use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::Dialect;

use super::checkers::Checkers;
use super::machine::{Machine, State};
use super::network::{CLIENTS, Datagram, Delivery, Network};
use super::rng::{Rng, Stream};
use super::trace::{Seen, Trace};
use event_queue::{Next, Scheduled};
pub use watch::{Said, Watch, What};

/// How many recent datagrams a failure shows.
const TAIL: usize = 40;

/// The initial state of a group.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The seed of all random streams.
    pub seed: u64,
    /// How many nodes the first group has, with ids from 0.
    pub n: u16,
    /// How many more machines there are, for nodes that may join.
    pub spares: u16,
    /// The grammar that the group speaks.
    pub dialect: Dialect,
    /// The heartbeat interval of all nodes.
    pub timing: Timing,
    /// The bounds of all nodes.
    pub limits: Limits,
    /// The offset of the incarnations of its disks. Two groups on one wire have different offsets.
    pub incarnations: u64,
}

/// An event that the director may have to handle.
#[derive(Debug)]
pub enum Happened<C> {
    /// An event inside the cluster. The director has to look at the news only.
    Inside,
    /// A cue that the director scheduled for itself.
    Cue(C),
    /// The clients receive this datagram.
    Heard(Rc<Datagram>),
}

/// Machines, the network between them, and future events. `C` is the director's type of cues.
#[derive(Debug)]
pub struct Cluster<C> {
    pub(super) setting: Setting,
    pub(super) now: Micros,
    ahead: BinaryHeap<Reverse<Scheduled<C>>>,
    count: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) checkers: Checkers,
    pub(super) trace: Trace,
    pub(super) seen: Seen,
    pub(super) disk_chance: Rng,
    pub(super) machine_chance: Rng,
    gaps: Vec<Option<Instance>>,
    deliveries: Vec<Delivery>,
    tail: VecDeque<(Micros, u16, Rc<Datagram>)>,
    /// The events of nodes that may end them.
    pub(super) news: Vec<(u16, Event)>,
    pub(super) watch: Option<Watch>,
    /// `has_neighbors`: the wire of another group is joined to this one at times. `is_joined`: it is joined now.
    /// `said`: what was sent since the last [`Cluster::take_said`].
    pub(super) has_neighbors: bool,
    pub(super) is_joined: bool,
    said: Vec<Rc<Datagram>>,
}

impl<C> Cluster<C> {
    /// A new cluster, before its first event.
    pub fn new(setting: Setting) -> Cluster<C> {
        let Setting { seed, n, spares, dialect, limits, incarnations, .. } = setting;
        let chance = |stream| Rng::new(seed, stream);
        let all = n + spares;
        Cluster {
            setting,
            now: Micros(0),
            ahead: BinaryHeap::new(),
            count: 0,
            machines: (0..all).map(|id| Machine::new(incarnations + incarnation(id, 0))).collect(),
            network: Network::new(all, dialect, chance(Stream::Network)),
            checkers: Checkers::new(n, spares, dialect, limits),
            trace: Trace::default(),
            seen: Seen::default(),
            disk_chance: chance(Stream::Disk),
            machine_chance: chance(Stream::Machines),
            gaps: vec![None; usize::from(all)],
            deliveries: Vec::new(),
            tail: VecDeque::new(),
            news: Vec::new(),
            watch: None,
            has_neighbors: false,
            is_joined: false,
            said: Vec::new(),
        }
    }

    /// Runs the next event up to `end`, and sets the clock to its time. `None` when there is no further event.
    pub(super) fn next(&mut self, end: Micros) -> Option<Happened<C>> {
        let is_due = self.ahead.peek().is_some_and(|Reverse(next)| next.0 <= end);
        let Some(Reverse(Scheduled(at, _, next))) = is_due.then(|| self.ahead.pop()).flatten() else {
            self.now = self.now.max(end);
            return None;
        };
        self.now = at;
        match next {
            Next::Deliver(to, datagram) => return Some(self.deliver(to, datagram)),
            Next::Wake(id) => self.wake(id),
            Next::Synced(id, life) => self.synced(id, life),
            Next::GoOn(id, life) => self.resume_turn(id, life),
            Next::Start(id, life) => self.start(id, life),
            Next::Cue(cue) => return Some(Happened::Cue(cue)),
        }
        Some(Happened::Inside)
    }

    /// The number of machines, spares included.
    pub(super) fn nodes(&self) -> u16 {
        self.machines.len() as u16
    }

    /// Schedules a cue of the director for that moment.
    pub(super) fn cue(&mut self, at: Micros, cue: C) {
        self.at(at, Next::Cue(cue));
    }

    fn at(&mut self, at: Micros, next: Next<C>) {
        self.count += 1;
        self.ahead.push(Reverse(Scheduled(at, self.count, next)));
    }

    fn deliver(&mut self, to: u16, datagram: Rc<Datagram>) -> Happened<C> {
        self.seen.events += 1;
        self.trace.note(self.now, to.min(self.nodes()), &datagram.bytes);
        let Some(machine) = self.machines.get_mut(usize::from(to)) else {
            return Happened::Heard(datagram);
        };
        if machine.receive(datagram) && matches!(machine.state, State::Waits(_)) {
            // The longer the turn before takes, the larger the batch is.
            let at = self.now + Micros(self.machine_chance.below(200));
            self.wake_at(to, at);
        }
        Happened::Inside
    }

    fn wake_at(&mut self, id: u16, at: Micros) {
        let machine = &mut self.machines[usize::from(id)];
        let at = at.max(machine.paused_until);
        if at < machine.wake_at {
            machine.wake_at = at;
            self.at(at, Next::Wake(id));
        }
    }

    /// Sends a datagram from the clients to all.
    pub(super) fn send_from_clients(&mut self, datagram: Rc<Datagram>) {
        self.send(CLIENTS, datagram);
    }

    /// The time of the next event.
    pub(super) fn next_at(&self) -> Option<Micros> {
        self.ahead.peek().map(|Reverse(next)| next.0)
    }

    /// The datagrams sent since the last call, for the other group on the wire.
    pub(super) fn take_said(&mut self) -> Vec<Rc<Datagram>> {
        std::mem::take(&mut self.said)
    }

    /// A datagram of another group reaches one node, or the clients, at that moment.
    pub(super) fn overhear(&mut self, to: u16, at: Micros, datagram: Rc<Datagram>) {
        self.at(at, Next::Deliver(to, datagram));
    }

    fn send(&mut self, from: u16, datagram: Rc<Datagram>) {
        if self.is_joined {
            self.said.push(Rc::clone(&datagram));
        }
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.network.send(from, &datagram, self.now, &mut deliveries);
        for (to, at, datagram) in deliveries.drain(..) {
            self.at(at, Next::Deliver(to, datagram));
        }
        self.deliveries = deliveries;
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back((self.now, from, datagram));
    }
}

fn incarnation(id: u16, wipes: u64) -> u64 {
    1_000 + u64::from(id) + 100 * wipes
}
