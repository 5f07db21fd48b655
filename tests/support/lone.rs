//! One real node. The test plays its peers: it feeds lines to the node, and inspects the lines that the node sends.

use upaxos_core::driver::{Action, Driver};
use upaxos_core::record::Record;
use upaxos_core::replica::{Config, Event, Outbox, Recovery, Replica, Speaker, Timing};
use upaxos_core::types::{GroupId, Instance, Micros, NodeId};
use upaxos_core::wire::{self, Beat, Dialect, Head, Line, Message};

#[allow(dead_code, reason = "each test file uses a part")]
pub struct Lone {
    pub node: Replica,
    id: u16,
    n: u16,
    now: Micros,
    starts: u64,
    durable: Vec<Record>,
    said: Vec<Line>,
    seen: usize,
    /// All events of the node, in all its lives.
    pub events: Vec<Event>,
}

#[allow(dead_code, reason = "each test file uses a part")]
impl Lone {
    /// A node that no peer has registered.
    pub fn new(n: u16, id: u16) -> Lone {
        let mut lone = Lone {
            node: Recovery::new(config(n, id)).finish(incarnation(id), 1),
            id,
            n,
            now: Micros(0),
            starts: 0,
            durable: Vec::new(),
            said: Vec::new(),
            seen: 0,
            events: Vec::new(),
        };
        lone.restart();
        lone
    }

    /// A node that may vote, and knows the first life of each peer.
    pub fn member(n: u16, id: u16) -> Lone {
        let mut lone = Lone::new(n, id);
        lone.register();
        lone
    }

    /// Ends this life and begins another from the durable records. If the node is a member, its peers remember it.
    pub fn restart(&mut self) {
        self.restart_unremembered();
        if self.durable.contains(&Record::Member) {
            self.register();
        }
    }

    /// The same, while the peers are silent.
    pub fn restart_unremembered(&mut self) {
        let mut recovery = Recovery::new(config(self.n, self.id));
        for record in &self.durable {
            recovery.take(record).expect("records follow from each other");
        }
        self.starts += 1;
        self.node = recovery.finish(incarnation(self.id), self.starts);
        let mut out = Outbox::new(NodeId(self.id));
        self.node.start(self.now, &mut out);
        self.finish(out);
    }

    /// Flips a bit in every accept record for instance `at` in the log.
    pub fn damage_value_at(&mut self, at: u64) {
        self.damage_last_values_at(at, usize::MAX);
    }

    /// The same, but only in the last `count` of these records.
    pub fn damage_last_values_at(&mut self, at: u64, count: usize) {
        let is_corrupt =
            |record: &&mut Record| matches!(record, Record::Accept { instance, .. } if instance.0 == at);
        for record in self.durable.iter_mut().rev().filter(is_corrupt).take(count) {
            let mut line = Vec::new();
            record.encode(&mut line);
            *record = Record::parse_corrupt(&line).expect("the peers have the value, too");
        }
    }

    /// Delivers the lines of one datagram to the node, and carries out its effects.
    pub fn hear(&mut self, datagram: &str) {
        let out = self.step_without_sync(&datagram.lines().collect::<Vec<_>>());
        self.finish(out);
    }

    /// The datagram that a peer sends with these lines: its head, the lines and the checksum.
    pub fn datagram(&self, lines: &str) -> Vec<u8> {
        let first = lines.lines().next().expect("there is a line");
        let line = wire::parse_line(first.as_bytes(), Dialect::Extended).expect("a line of the wire");
        let mut datagram = Vec::new();
        self.head_for(&line).encode(&mut datagram);
        datagram.extend_from_slice(lines.as_bytes());
        wire::complete(&mut datagram);
        datagram
    }

    /// Delivers a datagram to the node as the network delivers it, and carries out its effects.
    pub fn receive(&mut self, datagram: &[u8]) {
        let mut out = Outbox::new(NodeId(self.id));
        self.node.receive(self.now, datagram, &mut |_| (), &mut out);
        self.node.tick(self.now, &mut out);
        self.finish(out);
    }

    /// Delivers the lines of one datagram from another life of the peer, or from another group.
    pub fn hear_from(&mut self, life: Life, datagram: &str) {
        let mut out = Outbox::new(NodeId(self.id));
        let mut heard = None;
        for line in datagram.lines() {
            let line = wire::parse_line(line.as_bytes(), Dialect::Extended).expect("a line of the wire");
            let Head { from, group, .. } = self.head_for(&line);
            let head = match life {
                Life::AnotherDisk => {
                    Head { from: from.map(|(id, known)| (id, known + 7_000)), group, name: None }
                }
                Life::AnotherGroup => Head { from, group: Some(GroupId(GROUP.0 + 7_000)), name: None },
                Life::NoGroup => Head { from, group: None, name: None },
                Life::Unsaid => Head::default(),
            };
            let speaker = self.hear_head(&mut heard, head, &mut out);
            self.node.handle(self.now, speaker, line, &mut out);
        }
        self.node.tick(self.now, &mut out);
        self.finish(out);
    }

    /// The clients from `first` to `last` write a value, once each.
    pub fn hear_of_clients(&mut self, first: u64, last: u64) {
        for first in (first..=last).step_by(1_000) {
            let clients = first..=last.min(first + 999);
            let lines: Vec<_> = clients.map(|client| format!("Submit {client} 1 1 x")).collect();
            self.hear(&lines.join("\n"));
        }
    }

    /// Delivers the lines of one datagram, and stops before the sync.
    pub fn step_without_sync(&mut self, lines: &[&str]) -> Outbox {
        let mut out = Outbox::new(NodeId(self.id));
        let mut heard = None;
        for line in lines {
            let line = wire::parse_line(line.as_bytes(), Dialect::Extended).expect("a line of the wire");
            let head = self.head_for(&line);
            let speaker = self.hear_head(&mut heard, head, &mut out);
            self.node.handle(self.now, speaker, line, &mut out);
        }
        self.node.tick(self.now, &mut out);
        out
    }

    /// Consecutive lines with the same head belong to one datagram.
    fn hear_head(&mut self, heard: &mut Option<(Head, Speaker)>, head: Head, out: &mut Outbox) -> Speaker {
        match heard {
            Some((last, speaker)) if *last == head => *speaker,
            _ => {
                let speaker = self.node.hear(&head, self.now, out);
                *heard = Some((head, speaker));
                speaker
            }
        }
    }

    /// The head of a datagram with this line. Each peer has one incarnation, unless the line names another. The
    /// group is that of the node.
    fn head_for(&self, line: &Line) -> Head {
        match line {
            Line::Client(_) => Head::default(),
            Line::Node(NodeId(id), _) if *id == self.id => self.node.head(),
            Line::Node(id, message) => {
                let incarnation = match message {
                    Message::Beat(Beat { boot, .. }) | Message::Register { boot, .. } => boot.incarnation,
                    _ => incarnation(id.0),
                };
                Head { from: Some((*id, incarnation)), group: Some(GROUP), name: None }
            }
        }
    }

    /// Carries out the effects of a step. At its end, all appended records are durable, and the node knows it.
    pub fn finish(&mut self, mut out: Outbox) {
        let mut driver = Driver::new();
        out.flush();
        loop {
            match driver.next(&mut self.node, self.now, &mut out) {
                Action::LookUp(_) | Action::Sync => {}
                Action::Report(events) => self.events.extend_from_slice(events),
                Action::Broadcast(lines) => self.said.extend_from_slice(lines.all()),
                Action::Append(records) => self.durable.extend_from_slice(records),
                Action::Idle(_) | Action::End(_) => return,
            }
        }
    }

    /// Lets time pass. Returns the lines that the node sent meanwhile.
    pub fn run_for(&mut self, ms: u64) -> Vec<String> {
        let end = self.now + Micros::from_millis(ms);
        self.take();
        while self.now < end {
            self.now = self.now + Micros::from_millis(5);
            let out = self.step_without_sync(&[]);
            self.finish(out);
        }
        self.take()
    }

    /// The lines that the node sent since the last call, without beats and similar background messages.
    pub fn take(&mut self) -> Vec<String> {
        let new = self.said[self.seen..].iter();
        let is_told = |line: &&Line| {
            let Line::Node(_, message) = line else { return true };
            let is_beat = matches!(message, Message::Beat(_) | Message::Pace(_));
            !is_beat && !matches!(message, Message::Register { .. } | Message::Chain { .. })
        };
        let told = new.filter(is_told).map(ToString::to_string).collect();
        self.seen = self.said.len();
        told
    }

    /// All messages that the node ever sent.
    pub fn said(&self) -> impl Iterator<Item = &Message> {
        self.said
            .iter()
            .filter_map(|line| if let Line::Node(_, message) = line { Some(message) } else { None })
    }

    /// Whether the node ever sent a line that contains `part`.
    pub fn has_said(&self, part: &str) -> bool {
        self.said.iter().any(|line| line.to_string().contains(part))
    }

    /// Whether the node has reported that it left.
    pub fn has_left(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Left { .. }))
    }

    /// The distinct values that the node ever wrote at an instance.
    pub fn wrote(&self, at: u64) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        for line in &self.said {
            if let Line::Node(_, Message::Write { instance, value, .. }) = line
                && instance.0 == at
                && !values.contains(&value.to_string())
            {
                values.push(value.to_string());
            }
        }
        values
    }

    /// Clears the sent lines, and so the result of `wrote`.
    pub fn forget_wire(&mut self) {
        self.said.clear();
        self.seen = 0;
    }

    /// The value of each learned instance.
    pub fn learned(&self) -> Vec<String> {
        let all = (1..=self.node.learned().0).map(Instance);
        all.map(|i| self.node.value_at(i).expect("it is learned").to_string()).collect()
    }

    /// Lets time pass without a leader until the node is a candidate. Returns its ballot.
    pub fn run(&mut self) -> u64 {
        let out = self.run_without_sync();
        self.finish(out);
        self.node.ballot().expect("it runs").number
    }

    /// The same, but stops before the ballot is durable.
    pub fn run_without_sync(&mut self) -> Outbox {
        self.run_without_sync_hearing(|_| Vec::new())
    }

    /// The same, while the node also receives the lines `said` in each step.
    pub fn run_without_sync_hearing(&mut self, said: impl Fn(u64) -> Vec<String>) -> Outbox {
        for step in 1..2_000 {
            self.now = self.now + Micros::from_millis(5);
            let lines: Vec<String> = self.peers().map(|peer| self.beat(peer)).chain(said(step)).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let out = self.step_without_sync(&lines);
            if out.after_sync.iter().any(|line| matches!(line, Line::Node(_, Message::ProposeAll { .. }))) {
                return out;
            }
            self.finish(out);
        }
        panic!("it does not run");
    }

    /// Makes the node leader, with no value found in phase 1. Returns its ballot.
    pub fn lead(&mut self) -> u64 {
        let (ballot, learned) = (self.run(), self.node.learned().0);
        let peers: Vec<u16> = self.peers().collect();
        for peer in peers {
            self.hear(&format!("{peer} PromiseNone 1 * {ballot} {learned}"));
        }
        assert!(self.node.is_leading());
        ballot
    }

    /// The peers register themselves, have registered the node, and object to nothing.
    pub fn register(&mut self) {
        let (id, boot) = (self.id, self.node.boot().boot);
        self.meet();
        for peer in self.peers().collect::<Vec<_>>() {
            self.hear(&format!("{peer} Registered {id} {boot}"));
        }
        self.wait_for_objections();
    }

    /// The peers register themselves. None has registered the node yet.
    pub fn meet(&mut self) {
        let n = self.n;
        for peer in self.peers().collect::<Vec<_>>() {
            let register = format!("{peer} Register {n} {} 1 {}", incarnation(peer), 500 + peer);
            self.hear(&format!("{}\n{register}", self.beat(peer)));
        }
    }

    /// Waits for the time in which peers may object to a registration.
    pub fn wait_for_objections(&mut self) {
        let out = self.wait_without_sync();
        self.finish(out);
    }

    /// The same, but stops before the effects are durable.
    pub fn wait_without_sync(&mut self) -> Outbox {
        self.now = self.now + Timing::default().timeout();
        self.step_without_sync(&[])
    }

    fn peers(&self) -> impl Iterator<Item = u16> + use<> {
        let id = self.id;
        (0..self.n).filter(move |peer| *peer != id)
    }

    fn beat(&self, peer: u16) -> String {
        let (n, id) = (self.n, self.id);
        format!("{peer} Beat {n} {} 1 {} - 0 waits {id}", incarnation(peer), 500 + peer)
    }
}

/// A sender other than the peers that the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// A new directory for the id of a peer.
    AnotherDisk,
    /// A node of another group with the same ids.
    AnotherGroup,
    /// A node that does not know its group yet.
    NoGroup,
    /// A datagram without a head.
    Unsaid,
}

#[allow(dead_code, reason = "each test file uses a part")]
impl Life {
    pub const ALL: [Life; 4] = [Life::AnotherDisk, Life::AnotherGroup, Life::NoGroup, Life::Unsaid];
}

/// The group of all these nodes. It has the number of node 0's incarnation.
const GROUP: GroupId = GroupId(1000);

/// The incarnation (the number of the directory) of a node of this group.
fn incarnation(id: u16) -> u64 {
    GROUP.0 + u64::from(id)
}

fn config(n: u16, id: u16) -> Config {
    Config::member(NodeId(id), n)
}
