//! The virtual world: one clock, one heap of what happens next, and the machines.
//!
//! Drives real nodes exactly as the daemon's loop does (queue, handle, tick, send early, append, sync,
//! send, count own votes), with a place to crash between any two of these effects.

mod faults;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use super::chance::{Chance, Stream};
use super::clients::{self, Clients};
use super::judges::{Judges, Rule};
use super::machine::{Machine, State};
use super::network::{Datagram, Delivery, Network};
use super::swarm::Plan;
use super::trace::{Seen, Trace};
use crate::mutant::{self, Mutant};
use crate::node::{Config, Event, LOOKUP_BYTES, Node, Outbox, Recovery, Timing};
use crate::store::{Source, StoreError};
use crate::types::{Instance, Micros, NodeId};
use crate::wire::{Dialect, Line, Message, Packer};

/// The most bytes of a datagram made of several lines.
const DATAGRAM: usize = 600;

/// How many datagrams a failure shows.
const TAIL: usize = 40;

/// Something that is going to happen.
#[derive(Debug)]
enum Next {
    Deliver(u16, Rc<Datagram>),
    Wake(u16),
    Synced(u16, u64),
    Start(u16, u64),
    Client(usize),
    Fault(usize),
    Join(u64),
    Isolate(u16, bool),
}

#[derive(Debug)]
struct Scheduled(Micros, u64, Next);

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

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
    gaps: Vec<Option<Instance>>,
    deliveries: Vec<Delivery>,
    tail: VecDeque<(Micros, u16, Rc<Datagram>)>,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(plan: Plan) -> World {
        let chance = |stream| Chance::new(plan.seed, stream);
        let machine = |id: u16| Machine::new(incarnation(id, 0), plan.skew[usize::from(id)]);
        let mut world = World {
            now: Micros(0),
            ahead: BinaryHeap::new(),
            count: 0,
            machines: (0..plan.n).map(machine).collect(),
            network: Network::new(plan.n, chance(Stream::Network)),
            clients: Clients::new(chance(Stream::Workload), plan.think),
            judges: Judges::new(plan.n),
            trace: Trace::default(),
            seen: Seen::default(),
            disk_chance: chance(Stream::Disk),
            machine_chance: chance(Stream::Machines),
            is_chaotic: false,
            cut: 0,
            gaps: vec![None; usize::from(plan.n)],
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

    /// Whether all clients are content, and all nodes run and have learned alike, and all that was answered.
    pub fn is_settled(&self) -> bool {
        let mut learned = self.machines.iter().map(|machine| machine.node().map(Node::learned));
        let first = learned.next().flatten();
        self.clients.is_content()
            && first >= Some(self.judges.acknowledged())
            && learned.all(|learned| learned == first)
    }

    /// What every node has learned.
    pub fn learned(&self) -> Vec<Instance> {
        self.machines.iter().map(|m| m.node().map_or(Instance(0), Node::learned)).collect()
    }

    /// What every node knows, what is wrong with it, and what was said last.
    pub fn view(&self) -> String {
        let mut text = format!("at {} us, {} requests open\n", self.now.0, self.clients.open());
        for (id, machine) in self.machines.iter().enumerate() {
            let state = match &machine.state {
                State::Down => "down".into(),
                State::Waits(node) => node_text(node),
                State::Syncs(node, _) => format!("syncs, {}", node_text(node)),
            };
            text += &format!("  node {id}, life {}, {} wipes: {state}\n", machine.life, machine.wipes);
        }
        text += "  said last:\n";
        for (at, from, datagram) in &self.tail {
            for line in &datagram.lines {
                let from = if *from == self.plan.n { "client".into() } else { from.to_string() };
                text += &format!("  {:>10} {from}: {line}\n", at.0);
            }
        }
        text
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
            Next::Start(id, life) => self.start(id, life),
            Next::Client(client) => self.client(client),
            Next::Fault(at) => self.fault(at),
            Next::Join(cut) if cut == self.cut => self.network.join(),
            Next::Join(_) => {}
            Next::Isolate(id, isolated) => self.network.isolate(id, isolated && self.is_chaotic),
        }
    }

    fn client(&mut self, client: usize) {
        let (said, next) = self.clients.turn(client, self.now, &mut self.judges);
        for datagram in said {
            self.send(self.plan.n, datagram);
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

    /// One turn of the daemon's loop: all that came in, then the clock.
    fn wake(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.wake_at != self.now {
            return;
        }
        machine.wake_at = Micros(u64::MAX);
        if machine.paused_until > self.now {
            return self.wake_at(id, Micros(0));
        }
        let State::Waits(mut node) = std::mem::replace(&mut machine.state, State::Down) else {
            unreachable!("only a node that waits is woken");
        };
        self.seen.events += 1;
        while self.disk_chance.hits(600_000)
            && let Some(compacted) = machine.disk.work(&mut self.disk_chance)
        {
            self.seen.compactions += u64::from(node.compacted(compacted));
        }
        let clock = machine.clock(self.now);
        let mut out = Outbox::new(NodeId(id));
        for datagram in machine.queue.drain(..) {
            datagram.lines.iter().for_each(|line| node.handle(clock, line.clone(), &mut out));
        }
        node.tick(clock, &mut out);
        self.act(id, node, out);
    }

    /// What is done before a sync, and the sync's beginning.
    fn act(&mut self, id: u16, mut node: Box<Node>, mut out: Outbox) {
        self.look_up(id, &mut node, &mut out);
        self.note(id, &out.events);
        out.records.iter().for_each(|record| self.judges.on_record(id, record));
        if self.crashes(id) || self.crashes_while_sending(id, &out.early) {
            return;
        }
        let machine = &mut self.machines[usize::from(id)];
        out.records.iter().for_each(|record| machine.disk.append(record));
        if self.crashes(id) {
            return;
        }
        if !out.needs_sync() {
            return self.rest(id, node);
        }
        let machine = &mut self.machines[usize::from(id)];
        machine.disk.begin_sync(&*node);
        let (each, until) = machine.slow_sync;
        let slow = if self.now < until { each } else { Micros(0) };
        let tears = machine.tears.take();
        machine.state = State::Syncs(node, out);
        if let Some(down) = tears {
            return self.crash(id, down);
        }
        if self.crashes(id) {
            return;
        }
        let life = self.machines[usize::from(id)].life;
        let at = self.now + slow + Micros(self.disk_chance.between(80, 900));
        self.at(at, Next::Synced(id, life));
    }

    fn look_up(&mut self, id: u16, node: &mut Node, out: &mut Outbox) {
        let machine = &self.machines[usize::from(id)];
        for lookup in std::mem::take(&mut out.lookups) {
            self.seen.lookups += 1;
            match machine.disk.past(lookup.first, lookup.last, LOOKUP_BYTES) {
                Ok(past) => node.found(machine.clock(self.now), &lookup, past, out),
                Err(error) => self.judges.fail(Rule::RecoversWhole, format!("{id} cannot read: {error}")),
            }
        }
    }

    /// The sync is done: what waited for it follows.
    fn synced(&mut self, id: u16, life: u64) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.life != life || !matches!(machine.state, State::Syncs(..)) {
            return;
        }
        if machine.paused_until > self.now {
            let at = machine.paused_until;
            return self.at(at, Next::Synced(id, life));
        }
        if let Some(down) = machine.sync_fails.take() {
            self.seen.failed_syncs += 1;
            return self.crash(id, down);
        }
        self.seen.events += 1;
        let skips = mutant::is(Mutant::SkipSync);
        let durable = if skips { Vec::new() } else { machine.disk.end_sync() };
        let State::Syncs(mut node, mut out) = std::mem::replace(&mut machine.state, State::Down) else {
            unreachable!("it was looked at above");
        };
        durable.iter().for_each(|record| self.judges.on_durable(id, record));
        let sent = std::mem::take(&mut out.after_sync);
        if self.crashes(id) || self.crashes_while_sending(id, &sent) {
            return;
        }
        out.clear();
        let clock = self.machines[usize::from(id)].clock(self.now);
        node.synced(clock, &sent, &mut out);
        self.act(id, node, out);
    }

    fn rest(&mut self, id: u16, node: Box<Node>) {
        let machine = &mut self.machines[usize::from(id)];
        let deadline = machine.when(node.deadline(machine.clock(self.now)));
        let waits = !machine.queue.is_empty();
        machine.state = State::Waits(node);
        let soonest = self.now + Micros(50);
        self.wake_at(id, if waits { soonest } else { deadline.max(soonest) });
    }

    fn start(&mut self, id: u16, life: u64) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.life != life || !matches!(machine.state, State::Down) {
            return;
        }
        machine.begin_life(self.now);
        let opened = match machine.disk.open() {
            Ok(opened) => opened,
            Err(error) => return self.refuse_start(id, &error),
        };
        self.seen.torn += u64::from(opened.is_torn);
        opened.news.iter().for_each(|record| self.judges.on_durable(id, record));
        let config = Config {
            id: NodeId(id),
            n: self.plan.n,
            classic: false,
            timing: Timing { beat: self.plan.beat },
        };
        let mut recovery = Recovery::new(config);
        for record in &opened.records {
            if let Err(error) = recovery.take(record) {
                return self.judges.fail(Rule::RecoversWhole, format!("{id} cannot start: {error}"));
            }
        }
        self.count += 1;
        let machine = &mut self.machines[usize::from(id)];
        let mut node = recovery.finish(machine.disk.seed(), self.count);
        node.compacted(machine.disk.compacted());
        self.judges.on_recovered(id, &node.checkpoint());
        if let Err(error) = self.reread(id, &node) {
            return self.refuse_start(id, &error);
        }
        if self.machines[usize::from(id)].is_damaged {
            self.judges.fail(Rule::RecoversWhole, format!("{id} does not notice that a bit was flipped"));
        }
        let mut out = Outbox::new(NodeId(id));
        node.start(Micros(0), &mut out);
        self.act(id, Box::new(node), out);
    }

    /// All that it has learned must read as ever, in memory or in its history.
    fn reread(&mut self, id: u16, node: &Node) -> Result<(), StoreError> {
        let disk = &self.machines[usize::from(id)].disk;
        let compacted = disk.compacted();
        let past = disk.past(Instance(1), compacted, usize::MAX)?;
        let old = past.iter().map(|past| (past.instance, Some(node.reads_of(past))));
        let new = (compacted.0 + 1..=node.learned().0).map(Instance);
        for (instance, reads) in old.chain(new.map(|instance| (instance, node.reads(instance)))) {
            match reads {
                Some(reads) => self.judges.on_reads(id, instance, &reads),
                None => self.judges.fail(Rule::Durability, format!("{id} lost instance {instance}")),
            }
        }
        if past.len() as u64 != compacted.0 {
            self.judges.fail(Rule::Durability, format!("{id} lost a part of its history to {compacted}"));
        }
        Ok(())
    }

    /// A node may refuse to start only when its disk was damaged behind its back. Then it is lost.
    fn refuse_start(&mut self, id: u16, error: &StoreError) {
        let machine = &mut self.machines[usize::from(id)];
        if !machine.is_damaged {
            return self.judges.fail(Rule::RecoversWhole, format!("{id} cannot start: {error}"));
        }
        self.seen.damaged += 1;
        let life = machine.life;
        self.lose_disk(id);
        self.at(self.now, Next::Start(id, life));
    }

    /// Ends a node at once. Of what was not synced, the disk keeps a part.
    fn crash(&mut self, id: u16, down: Micros) {
        let machine = &mut self.machines[usize::from(id)];
        self.seen.crashes_in_sync += u64::from(matches!(machine.state, State::Syncs(..)));
        self.seen.crashes += 1;
        machine.state = State::Down;
        machine.queue.clear();
        machine.crash_after = None;
        machine.wake_at = Micros(u64::MAX);
        machine.disk.cut_power(&mut self.disk_chance);
        let life = machine.life;
        self.trace.note(self.now, id, b"crash");
        self.at(self.now + down, Next::Start(id, life));
    }

    fn crashes(&mut self, id: u16) -> bool {
        let down = self.machines[usize::from(id)].crashes_now();
        if let Some(down) = down {
            self.crash(id, down);
        }
        down.is_some()
    }

    fn crashes_while_sending(&mut self, id: u16, lines: &[Line]) -> bool {
        if lines.is_empty() {
            return false;
        }
        let mut packer = Packer::new(Dialect::Extended, DATAGRAM);
        lines.iter().for_each(|line| packer.push(line));
        for bytes in packer.finish() {
            let datagram = Datagram::new(bytes);
            let life = self.machines[usize::from(id)].life;
            for line in &datagram.lines {
                self.judges.on_sent(id, life, line);
                if let Line::Node(_, Message::Gap { first, .. }) = line {
                    self.gaps[usize::from(id)] = Some(*first);
                }
            }
            self.send(id, datagram);
            if self.crashes(id) {
                return true;
            }
        }
        false
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

    fn note(&mut self, id: u16, events: &[Event]) {
        for event in events {
            match event {
                Event::Learned { instance, reads } => {
                    self.judges.on_reads(id, *instance, reads);
                    if self.gaps[usize::from(id)].take_if(|gap| *gap <= *instance).is_some() {
                        self.seen.gaps += 1;
                    }
                }
                Event::Leads(_) => self.seen.leaders += 1,
                Event::MayNotVote(_) => self.seen.refusals += 1,
                _ => {}
            }
        }
    }
}

fn incarnation(id: u16, wipes: u64) -> u64 {
    1_000 + u64::from(id) + 100 * wipes
}

fn node_text(node: &Node) -> String {
    let ballot = node.ballot().map_or("none".into(), |ballot| ballot.to_string());
    let leads = if node.is_leading() { ", leads" } else { "" };
    format!("learned {}, ballot {ballot}{leads}; dropped {}", node.learned(), node.dropped())
}
