//! Real nodes on a virtual clock, a network that does everything it may, and crashes between any two effects.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use upaxos_core::node::{Config, Event, Node, Outbox, Recovery, Timing};
use upaxos_core::record::Record;
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::{self, Dialect, Line, Packer};

use crate::judges::Judges;

type Datagram = Rc<[u8]>;

/// Chance, repeatable (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// True `per_million` times in a million.
    pub fn chance(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.below(1_000_000) < per_million
    }
}

/// How bad the world is; chances per million.
#[derive(Clone, Default)]
pub struct Faults {
    pub loss: u64,
    pub duplicates: u64,
    pub replays: u64,
    pub crash: u64,
    /// The longest way of a datagram, in microseconds.
    pub delay: u64,
    pub cuts: BTreeSet<(u16, u16)>,
}

pub struct World {
    pub n: u16,
    pub now: Micros,
    pub rng: Rng,
    pub faults: Faults,
    pub judges: Judges,
    pub members: Vec<Member>,
    /// What reached the clients.
    pub heard: Vec<Line>,
    /// In order of arrival: to whom, and what.
    under_way: BTreeMap<(Micros, u64), (u16, Datagram)>,
    old: Vec<Datagram>,
    count: u64,
}

#[derive(Default)]
pub struct Member {
    pub node: Option<Node>,
    pub wake_at: Micros,
    pub paused_until: Micros,
    life: u64,
    durable: Vec<Record>,
    volatile: Vec<Record>,
    inbox: Vec<Datagram>,
}

impl World {
    pub fn new(n: u16, seed: u64) -> World {
        World {
            n,
            now: Micros(0),
            rng: Rng(seed),
            faults: Faults { delay: 500, ..Faults::default() },
            judges: Judges::new(n),
            members: (0..n).map(|_| Member::default()).collect(),
            heard: Vec::new(),
            under_way: BTreeMap::new(),
            old: Vec::new(),
            count: 0,
        }
    }

    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + Micros::from_millis(ms);
        while self.now < end {
            let wakes = self.members.iter().map(|member| member.wake_at.max(member.paused_until));
            let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
            self.now = wakes.chain(arrival).min().unwrap_or(end).clamp(self.now, end);
            self.arrive();
            for id in 0..self.n {
                let member = &self.members[usize::from(id)];
                if member.wake_at.max(member.paused_until) > self.now {
                } else if member.node.is_some() {
                    self.turn(id);
                } else {
                    self.start(id);
                }
            }
        }
    }

    /// Sends a datagram to all: its sender and the clients (who are number n) included.
    pub fn send(&mut self, from: Option<u16>, datagram: Vec<u8>) {
        let datagram: Datagram = datagram.into();
        for to in 0..=self.n {
            let is_cut = from.is_some_and(|from| self.faults.cuts.contains(&(from, to)));
            while !is_cut && !self.rng.chance(self.faults.loss) {
                self.post(to, &datagram);
                if !self.rng.chance(self.faults.duplicates) {
                    break;
                }
            }
        }
        if self.old.len() < 300 {
            self.old.push(datagram);
        } else {
            let at = self.rng.below(1200) as usize;
            if let Some(old) = self.old.get_mut(at) {
                *old = datagram;
            }
        }
        if self.rng.chance(self.faults.replays) {
            let again = self.rng.below(self.old.len() as u64) as usize;
            let to = self.rng.below(u64::from(self.n) + 1) as u16;
            self.post(to, &self.old[again].clone());
        }
    }

    /// Ends a node at once. Of what was not synced, the disk has kept a part.
    pub fn crash(&mut self, id: u16, down_ms: u64) {
        let member = &mut self.members[usize::from(id)];
        member.node = None;
        member.inbox.clear();
        member.wake_at = self.now + Micros::from_millis(down_ms);
        let kept = self.rng.below(member.volatile.len() as u64 + 1) as usize;
        member.volatile.truncate(kept);
        self.sync(id);
    }

    pub fn view(&self) -> String {
        let lines = self.members.iter().map(|member| match &member.node {
            Some(node) => format!(
                "learned {}, ballot {:?}, leads {}, {:?}",
                node.learned(),
                node.ballot(),
                node.is_leading(),
                node.dropped()
            ),
            None => "down".into(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn start(&mut self, id: u16) {
        self.count += 1;
        let (now, boot) = (self.now, self.count);
        let config = Config { id: NodeId(id), n: self.n, classic: false, timing: Timing::default() };
        let member = &mut self.members[usize::from(id)];
        let mut recovery = Recovery::new(config);
        for record in &member.durable {
            recovery.take(record).expect("records follow from each other");
        }
        let mut node = recovery.finish(1000 + u64::from(id), boot);
        for instance in (1..=node.learned().0).map(Instance) {
            self.judges.on_reads(id, instance, &node.reads(instance).expect("it is learned"));
        }
        let mut out = Outbox::new(NodeId(id));
        member.life += 1;
        node.start(now, &mut out);
        self.drain(id, node, out);
    }

    /// One turn of the daemon's loop: all that came in, then the clock.
    fn turn(&mut self, id: u16) {
        let member = &mut self.members[usize::from(id)];
        let Some(mut node) = member.node.take() else { return };
        let mut out = Outbox::new(NodeId(id));
        for datagram in member.inbox.drain(..) {
            for line in wire::lines(&datagram, Dialect::Extended) {
                node.handle(self.now, line.expect("a line of the wire"), &mut out);
            }
        }
        node.tick(self.now, &mut out);
        self.drain(id, node, out);
    }

    /// What the daemon's loop does, with a crash wherever there may be one.
    fn drain(&mut self, id: u16, mut node: Node, mut out: Outbox) {
        loop {
            for event in &out.events {
                if let Event::Learned { instance, reads } = event {
                    self.judges.on_reads(id, *instance, reads);
                }
            }
            out.records.iter().for_each(|record| self.judges.on_record(id, record));
            if self.crashes_while_sending(id, &out.early) {
                return;
            }
            self.members[usize::from(id)].volatile.append(&mut out.records);
            if self.crashes(id) {
                return;
            }
            if !out.needs_sync() {
                break;
            }
            self.sync(id);
            let sent = std::mem::take(&mut out.after_sync);
            if self.crashes(id) || self.crashes_while_sending(id, &sent) {
                return;
            }
            out.clear();
            node.synced(self.now, &sent, &mut out);
        }
        let member = &mut self.members[usize::from(id)];
        member.wake_at = node.deadline(self.now).max(self.now + Micros(50));
        member.node = Some(node);
    }

    fn sync(&mut self, id: u16) {
        let member = &mut self.members[usize::from(id)];
        member.volatile.iter().for_each(|record| self.judges.on_durable(id, record));
        member.durable.append(&mut member.volatile);
    }

    fn crashes(&mut self, id: u16) -> bool {
        let crashes = self.rng.chance(self.faults.crash);
        if crashes {
            let down_ms = self.rng.below(1_500);
            self.crash(id, down_ms);
        }
        crashes
    }

    fn crashes_while_sending(&mut self, id: u16, lines: &[Line]) -> bool {
        let mut packer = Packer::new(Dialect::Extended, 300);
        let life = self.members[usize::from(id)].life;
        for line in lines {
            self.judges.on_sent(id, life, line);
            packer.push(line);
        }
        for datagram in packer.finish() {
            self.send(Some(id), datagram);
            if self.crashes(id) {
                return true;
            }
        }
        false
    }

    fn post(&mut self, to: u16, datagram: &Datagram) {
        self.count += 1;
        // Most are fast, some are late: that is what reorders.
        let longest = if self.rng.chance(800_000) { 400 } else { self.faults.delay };
        let at = self.now + Micros(50 + self.rng.below(longest.max(1)));
        self.under_way.insert((at, self.count), (to, Rc::clone(datagram)));
    }

    fn arrive(&mut self) {
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, datagram) = entry.remove();
            let Some(member) = self.members.get_mut(usize::from(to)) else {
                self.heard.extend(wire::lines(&datagram, Dialect::Extended).flatten());
                continue;
            };
            if member.node.is_some() {
                member.inbox.push(datagram);
                // The longer the turn before takes, the larger the batch.
                let batch = Micros(self.rng.below(300));
                member.wake_at = member.wake_at.min(self.now + batch);
            }
        }
    }
}
