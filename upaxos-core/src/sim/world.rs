//! The virtual world: one clock, one heap of what happens next, and the machines.
//!
//! Owns the order in which things happen. The turns of the nodes, the faults, and what can be seen of it
//! all have rooms of their own.

mod agenda;
mod faults;
mod leaders;
mod scripts;
mod start;
mod turn;
mod view;

use agenda::{Next, Scheduled};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use super::chance::{Chance, Stream};
use super::clients::{self, Clients};
use super::double::Double;
use super::judges::Judges;
use super::machine::{Machine, Role, State};
use super::network::{Datagram, Delivery, Network};
use super::swarm::{Plan, Topology};
use super::trace::{Seen, Trace};
use crate::types::{Instance, Micros};

/// The most bytes of a datagram made of several lines.
const DATAGRAM: usize = 600;

/// How many datagrams a failure shows.
const TAIL: usize = 40;

/// A group, its clients, and everything around them.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    now: Micros,
    ahead: BinaryHeap<Reverse<Scheduled>>,
    count: u64,
    machines: Vec<Machine>,
    network: Network,
    clients: Clients,
    judges: Judges,
    trace: Trace,
    seen: Seen,
    disk_chance: Chance,
    machine_chance: Chance,
    is_chaotic: bool,
    cut: u64,
    /// Which links are cut, if any.
    topology: Option<Topology>,
    gaps: Vec<Option<Instance>>,
    deliveries: Vec<Delivery>,
    tail: VecDeque<(Micros, u16, Rc<Datagram>)>,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(plan: Plan) -> World {
        let chance = |stream| Chance::new(plan.seed, stream);
        let all = plan.n + plan.joiners;
        let machine = |id: u16| {
            let mut machine = Machine::new(incarnation(id, 0), plan.skew[usize::from(id)]);
            if id >= plan.n {
                machine.role = Role::Spare;
            }
            if plan.scripted {
                let strays_from = plan.stray.filter(|(stray, _)| *stray == id).map(|(_, from)| from);
                machine.hooks = Some(Rc::new(Double::new(strays_from)));
            }
            machine
        };
        let mut world = World {
            now: Micros(0),
            ahead: BinaryHeap::new(),
            count: 0,
            machines: (0..all).map(machine).collect(),
            network: Network::new(all, plan.dialect(), chance(Stream::Network)),
            clients: Clients::new(chance(Stream::Workload), plan.think, plan.dialect()),
            judges: Judges::new(plan.n, plan.joiners, plan.dialect()),
            trace: Trace::default(),
            seen: Seen::default(),
            disk_chance: chance(Stream::Disk),
            machine_chance: chance(Stream::Machines),
            is_chaotic: false,
            cut: 0,
            topology: None,
            gaps: vec![None; usize::from(all)],
            deliveries: Vec::new(),
            tail: VecDeque::new(),
            plan,
        };
        for id in 0..world.plan.n {
            let at = Micros(world.machine_chance.below(20_000));
            world.at(at, Next::Start(id, 0));
        }
        (0..clients::COUNT).for_each(|client| world.at(Micros(1_000), Next::Client(client)));
        world
    }

    /// The judges.
    pub fn judges(&mut self) -> &mut Judges {
        &mut self.judges
    }

    /// The clients.
    pub fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// What was seen, and the hash of all that happened.
    pub fn seen(&self) -> (Seen, Trace) {
        (self.seen, self.trace)
    }

    /// What it shows on its clock.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Lets things happen until a moment, or until `done`, or until a judge objects; true when `done`.
    pub fn run_until(&mut self, end: Micros, mut done: impl FnMut(&World) -> bool) -> bool {
        while self.judges.violation().is_none() {
            if done(self) {
                return true;
            }
            let Some(Reverse(next)) = self.ahead.peek().filter(|Reverse(next)| next.0 <= end) else {
                self.now = end;
                return false;
            };
            self.now = next.0;
            let Some(Reverse(Scheduled(_, _, next))) = self.ahead.pop() else { return false };
            self.happen(next);
        }
        false
    }

    /// How many nodes there are, spare ones included; the number that stands for the clients.
    fn nodes(&self) -> u16 {
        self.machines.len() as u16
    }

    fn at(&mut self, at: Micros, next: Next) {
        self.count += 1;
        self.ahead.push(Reverse(Scheduled(at, self.count, next)));
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Deliver(to, datagram) => self.deliver(to, datagram),
            Next::Wake(id) => self.wake(id),
            Next::Synced(id, life) => self.synced(id, life),
            Next::GoOn(id, life) => self.resume(id, life),
            Next::Start(id, life) => self.start(id, life),
            Next::Client(client) => self.client(client),
            Next::Fault(at) => self.fault(at),
            Next::Join(cut) if cut == self.cut => {
                self.network.join();
                self.topology = None;
            }
            Next::Join(_) => {}
            Next::Retire(id, life) => self.retire(id, life),
            Next::Isolate(id, isolated) => self.network.isolate(id, isolated && self.is_chaotic),
        }
    }

    fn client(&mut self, client: usize) {
        let (said, next) = self.clients.turn(client, self.now, &mut self.judges);
        for datagram in said {
            self.send(self.nodes(), datagram);
        }
        self.at(next, Next::Client(client));
    }

    fn deliver(&mut self, to: u16, datagram: Rc<Datagram>) {
        self.seen.events += 1;
        self.trace.note(self.now, to, &datagram.bytes);
        let Some(machine) = self.machines.get_mut(usize::from(to)) else {
            return self.clients.hear(&datagram, &mut self.judges);
        };
        if machine.receive(datagram) && matches!(machine.state, State::Waits(_)) {
            // The longer the turn before takes, the larger the batch.
            let at = self.now + Micros(self.machine_chance.below(200));
            self.wake_at(to, at);
        }
    }

    fn wake_at(&mut self, id: u16, at: Micros) {
        let machine = &mut self.machines[usize::from(id)];
        let at = at.max(machine.paused_until);
        if at < machine.wake_at {
            machine.wake_at = at;
            self.at(at, Next::Wake(id));
        }
    }

    fn send(&mut self, from: u16, datagram: Rc<Datagram>) {
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
