//! A group of real nodes on a virtual clock, for directed scenarios.
//!
//! Every line is printed and parsed on its way. A crash loses unsynced records. The test decides which lines
//! arrive. (The seeded simulator explores at random; this harness follows a script.)

#![allow(dead_code, reason = "no test program uses all of it")]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use upaxos_core::driver::{Action, Driver};
use upaxos_core::hooks::Hooks;
use upaxos_core::past::{Past, Source};
use upaxos_core::record::Record;
use upaxos_core::replica::{Config, Event, Outbox, Recovery, Replica, Timing};
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::{self, Beat, Dialect, Head, Line, Message, Packer};

/// Decides whether a line from one node (or from a client: `None`) reaches another.
pub type Filter = Box<dyn FnMut(Option<u16>, u16, &Line) -> bool>;

/// Observes every sent datagram.
pub type Tap = Box<dyn Fn(&[u8])>;

/// A member that is not a [`Replica`]. It receives every datagram, and returns the datagrams that it sends.
pub trait Guest {
    fn hear(&mut self, datagram: &[u8]) -> Vec<Vec<u8>>;
}

pub struct Group {
    pub n: u16,
    pub now: Micros,
    pub members: Vec<Member>,
    /// All lines ever sent, each with its sender.
    pub sent: Vec<(Option<u16>, Line)>,
    pub filter: Filter,
    pub guests: BTreeMap<u16, Rc<RefCell<dyn Guest>>>,
    /// How often the network delivers each datagram to each member, unless the filter objects.
    pub copies: usize,
    /// Chooses the next datagram to deliver, given how many are in flight.
    pub next: Box<dyn FnMut(usize) -> usize>,
    /// Observes every datagram of our nodes.
    pub tap: Tap,
    classic: bool,
    /// Whether `Request 0` is a fast read.
    pub fast_read: bool,
    /// The heartbeat interval of a node from its next start on, if not the default.
    pub beats: BTreeMap<u16, Micros>,
    queue: VecDeque<(Option<u16>, Vec<u8>)>,
    /// The last number that was given to a life. A daemon draws this number at random.
    pub boots: u64,
}

pub struct Member {
    pub id: u16,
    pub node: Option<Replica>,
    pub durable: Vec<Record>,
    volatile: Vec<Record>,
    pub incarnation: u64,
    pub events: Vec<Event>,
    /// The scripts of the node, from its next start on.
    pub hooks: Option<Rc<dyn Hooks>>,
    /// Old values that the checkpoint left out.
    past: Vec<Past>,
    /// Set if the node asks to join. The inner value is the member to replace.
    joins: Option<Option<NodeId>>,
}

impl Member {
    fn new(id: u16, joins: Option<Option<NodeId>>) -> Member {
        Member {
            id,
            node: None,
            durable: Vec::new(),
            volatile: Vec::new(),
            incarnation: 1000 + u64::from(id),
            events: Vec::new(),
            hooks: None,
            past: Vec::new(),
            joins,
        }
    }
}

impl Group {
    pub fn new(n: u16) -> Group {
        Group::with(n, false)
    }

    pub fn with(n: u16, classic: bool) -> Group {
        Group {
            n,
            now: Micros(0),
            members: (0..n).map(|id| Member::new(id, None)).collect(),
            sent: Vec::new(),
            filter: Box::new(|_, _, _| true),
            guests: BTreeMap::new(),
            copies: 1,
            next: Box::new(|_| 0),
            tap: Box::new(|_| ()),
            classic,
            fast_read: false,
            beats: BTreeMap::new(),
            queue: VecDeque::new(),
            boots: 0,
        }
    }

    /// A group with all members started and a leader elected.
    pub fn ready(n: u16) -> Group {
        let mut group = Group::new(n);
        (0..n).for_each(|id| group.start(id));
        group.run_until("a leader", |group| group.leader().is_some());
        group
    }

    /// Starts another node, with the next id. It asks to join, in place of `replaces` if given.
    pub fn join(&mut self, replaces: Option<u16>) -> u16 {
        let id = self.members.len() as u16;
        self.members.push(Member::new(id, Some(replaces.map(NodeId))));
        self.start(id);
        id
    }

    /// The ids of all nodes that ever existed.
    pub fn ids(&self) -> std::ops::Range<u16> {
        0..self.members.len() as u16
    }

    /// The members of the group in force, as a node sees it.
    pub fn members_of(&self, id: u16) -> Vec<u16> {
        self.node(id).group().members.iter().map(|id| id.0).collect()
    }

    /// Waits until these nodes see this group in force.
    pub fn wait_for_members(&mut self, at: &[u16], expected: &[u16]) {
        self.run_until(&format!("{expected:?} govern"), |group| {
            at.iter().all(|id| group.members_of(*id) == expected)
        });
    }

    /// Writes a value, and waits until these nodes have learned it.
    pub fn write(&mut self, value: &str, at: &[u16]) {
        self.say(&format!("Request 0 {value}"));
        self.run_until(value, |group| at.iter().all(|id| group.reads(*id).iter().any(|read| read == value)));
    }

    pub fn dialect(&self) -> Dialect {
        if self.classic { Dialect::Classic } else { Dialect::Extended }
    }

    pub fn start(&mut self, id: u16) {
        self.boots += 1;
        let (now, boot) = (self.now, self.boots);
        let member = &mut self.members[usize::from(id)];
        let config = match member.joins {
            None => Config {
                classic: self.classic,
                fast_read: self.fast_read,
                ..Config::member(NodeId(id), self.n)
            },
            Some(replaces) => Config::joining(NodeId(id), replaces),
        };
        let timing = self.beats.get(&id).map_or_else(Timing::default, |beat| Timing { beat: *beat });
        let config = Config { timing, ..config };
        member.volatile.clear();
        let mut recovery = match &member.hooks {
            Some(hooks) => Recovery::with_hooks(config, Rc::clone(hooks)),
            None => Recovery::new(config),
        };
        for record in &member.durable {
            let mut text = Vec::new();
            record.encode(&mut text);
            let record = Record::parse(&text).expect("a record reads back");
            recovery.take(&record).expect("records follow from each other");
        }
        let mut node = recovery.finish(member.incarnation, boot);
        node.on_compacted(member.past.last().map_or(Instance(0), |past| past.instance));
        while let (Some(next), Some(hooks)) = (node.behind(), &member.hooks) {
            let past: Vec<Past> = member.past.iter().filter(|past| past.instance >= next).cloned().collect();
            node.catch_up(&past, &**hooks).expect("scripts catch up");
        }
        let mut out = outbox(id, member.hooks.as_ref());
        node.start(now, &mut out);
        member.node = Some(node);
        self.drain(id, Driver::new(), out);
        self.step(id, |node, now, out| node.tick(now, out));
    }

    /// Replaces a node's log by a checkpoint. A later life knows only the checkpoint and the old values.
    pub fn checkpoint(&mut self, id: u16) {
        let member = &mut self.members[usize::from(id)];
        let node = member.node.as_mut().expect("the node runs");
        let (learned, records) = node.checkpoint();
        let first = member.past.last().map_or(Instance(1), |past| past.instance.next());
        member.past.extend(node.past(first, learned));
        node.on_compacted(learned);
        member.durable = vec![Record::Checkpoint { segment: 2, learned }];
        member.durable.extend(records);
        member.durable.push(Record::CheckpointEnd);
    }

    /// Ends a node at once. Its unsynced records are lost.
    pub fn crash(&mut self, id: u16) {
        let member = &mut self.members[usize::from(id)];
        member.node = None;
        member.volatile.clear();
    }

    /// The same, and the disk is lost too.
    pub fn wipe(&mut self, id: u16) {
        self.crash(id);
        let member = &mut self.members[usize::from(id)];
        member.durable.clear();
        member.incarnation += 1000;
    }

    pub fn node(&self, id: u16) -> &Replica {
        self.members[usize::from(id)].node.as_ref().expect("the node runs")
    }

    pub fn leader(&self) -> Option<u16> {
        let leads = |member: &&Member| member.node.as_ref().is_some_and(Replica::is_leading);
        self.members
            .iter()
            .filter(leads)
            .max_by_key(|m| m.node.as_ref().and_then(Replica::ballot))
            .map(|m| m.id)
    }

    /// A client sends a line to all nodes.
    pub fn say(&mut self, line: &str) {
        self.queue.push_back((None, line.as_bytes().to_vec()));
    }

    /// Delivers a datagram to one node now, whatever the datagram contains. If it has a head, it gets a checksum.
    pub fn hear(&mut self, id: u16, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        wire::complete(&mut datagram);
        if let Ok((head, lines)) = wire::open(&datagram, self.dialect()) {
            let lines: Vec<Line> = lines.flatten().collect();
            self.hear_lines(id, &head, &lines);
        }
        self.step(id, |node, now, out| node.tick(now, out));
    }

    /// Delivers a line to one node now, whichever sender it names. Its head is that of the sender's present life,
    /// or of the life that a beat names.
    pub fn tell(&mut self, id: u16, line: &str) {
        let read = wire::parse_line(line.as_bytes(), self.dialect());
        let read = read.unwrap_or_else(|_| panic!("not a line of the wire: {line}"));
        let head = match &read {
            Line::Node(from, Message::Beat(Beat { boot, .. })) => {
                Head { from: Some((*from, boot.incarnation)), ..self.head_of(from.0) }
            }
            Line::Node(from, _) => self.head_of(from.0),
            Line::Client(_) => Head::default(),
        };
        self.hear_lines(id, &head, &[read]);
        self.step(id, |node, now, out| node.tick(now, out));
    }

    /// The head of a node's datagrams. For a node that is down, the head that it would use.
    pub fn head_of(&self, id: u16) -> Head {
        let member = self.members.get(usize::from(id));
        if let Some(node) = member.and_then(|member| member.node.as_ref()) {
            return node.head();
        }
        let incarnation = member.map_or(1, |member| member.incarnation);
        let group = self.members.iter().find_map(|member| member.node.as_ref()?.head().group);
        Head { from: Some((NodeId(id), incarnation)), group, name: None }
    }

    fn hear_lines(&mut self, id: u16, head: &Head, lines: &[Line]) {
        let mut speaker = None;
        self.step(id, |node, now, out| speaker = Some(node.hear(head, now, out)));
        for line in lines {
            self.step(id, |node, now, out| {
                let speaker = speaker.expect("a node that runs has heard the head");
                node.handle(now, speaker, line.clone(), out);
            });
        }
    }

    /// Delivers the datagrams in flight, and lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + Micros::from_millis(ms);
        while self.now < end {
            self.deliver();
            let now = self.now;
            let next =
                self.members.iter().filter_map(|m| m.node.as_ref()).map(|node| node.deadline(now)).min();
            self.now = next.unwrap_or(end).min(end).max(now + Micros(50));
            for id in self.ids() {
                if self.members[usize::from(id)].node.is_some() {
                    self.step(id, |node, now, out| node.tick(now, out));
                }
            }
        }
        self.deliver();
    }

    /// Lets time pass until the condition holds. Fails after a minute of virtual time.
    pub fn run_until(&mut self, what: &str, mut holds: impl FnMut(&Group) -> bool) {
        for _ in 0..6_000 {
            if holds(self) {
                return;
            }
            self.run_for(10);
        }
        panic!("{what}: not within a minute\n{}", self.view());
    }

    /// The state of every node, for failure messages.
    pub fn view(&self) -> String {
        let lines = self.members.iter().map(|member| match &member.node {
            Some(node) => format!(
                "{}: learned {}, ballot {:?}, leads {}, last events {:?}",
                member.id,
                node.learned(),
                node.ballot(),
                node.is_leading(),
                member.events.iter().rev().take(4).collect::<Vec<_>>()
            ),
            None => format!("{}: down", member.id),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The value of each learned instance at a node.
    pub fn reads(&self, id: u16) -> Vec<String> {
        let (node, past) = (self.node(id), &self.members[usize::from(id)].past);
        let old = past.iter().map(|past| node.value_of(past).to_string());
        let held = (past.len() as u64 + 1..=node.learned().0).map(Instance);
        old.chain(held.map(|i| node.value_at(i).expect("it is learned").to_string())).collect()
    }

    /// All lines that a node sent, as text.
    pub fn said_by(&self, id: u16) -> Vec<String> {
        let by = self.sent.iter().filter(|(from, _)| *from == Some(id));
        by.map(|(_, line)| String::from_utf8_lossy(&line.to_bytes(self.dialect())).into_owned()).collect()
    }

    /// All lines of all nodes whose text contains `part`.
    pub fn said(&self, part: &str) -> Vec<String> {
        self.ids().flat_map(|id| self.said_by(id)).filter(|line| line.contains(part)).collect()
    }

    /// Asserts that no two nodes read an instance differently.
    pub fn assert_agreement(&self) {
        for (a, b) in self.ids().flat_map(|a| (0..a).map(move |b| (a, b))) {
            let running = |id: u16| self.members[usize::from(id)].node.is_some();
            if running(a) && running(b) {
                let (a, b) = (self.reads(a), self.reads(b));
                let common = a.len().min(b.len());
                assert_eq!(a[..common], b[..common], "{}", self.view());
            }
        }
    }

    fn deliver(&mut self) {
        let mut budget = 200_000;
        while !self.queue.is_empty() {
            let at = (self.next)(self.queue.len());
            let Some((from, datagram)) = self.queue.remove(at) else { return };
            budget -= 1;
            assert!(budget > 0, "the group talks without end\n{}", self.view());
            let Ok((head, lines)) = wire::open(&datagram, self.dialect()) else { continue };
            let lines: Vec<Line> = lines.flatten().collect();
            for id in self.ids().collect::<Vec<_>>().repeat(self.copies) {
                self.deliver_to(id, from, &datagram, (&head, &lines));
            }
        }
    }

    fn deliver_to(&mut self, id: u16, from: Option<u16>, datagram: &[u8], (head, lines): (&Head, &[Line])) {
        if let Some(guest) = self.guests.get(&id) {
            if lines.iter().all(|line| (self.filter)(from, id, line)) {
                let said = guest.borrow_mut().hear(datagram);
                self.queue.extend(said.into_iter().map(|datagram| (Some(id), datagram)));
            }
            return;
        }
        if self.members[usize::from(id)].node.is_none() {
            return;
        }
        let lines: Vec<Line> = lines.iter().filter(|line| (self.filter)(from, id, line)).cloned().collect();
        if !lines.is_empty() {
            self.hear_lines(id, head, &lines);
        }
        self.step(id, |node, now, out| node.tick(now, out));
    }

    fn step(&mut self, id: u16, act: impl FnOnce(&mut Replica, Micros, &mut Outbox)) {
        let now = self.now;
        let member = &mut self.members[usize::from(id)];
        let Some(node) = &mut member.node else { return };
        let mut out = outbox(id, member.hooks.as_ref());
        act(node, now, &mut out);
        self.drain(id, Driver::new(), out);
    }

    /// Carries out the effects of a node on this disk and this network.
    fn drain(&mut self, id: u16, mut driver: Driver, mut out: Outbox) {
        let now = self.now;
        loop {
            let member = &mut self.members[usize::from(id)];
            let node = member.node.as_mut().expect("it runs");
            match driver.next(node, now, &mut out) {
                Action::LookUp(lookup) => {
                    let is_asked = |past: &&Past| (lookup.first..=lookup.last).contains(&past.instance);
                    let found = member.past.iter().filter(is_asked).cloned().collect();
                    node.on_found(now, &lookup, found, &mut out);
                }
                Action::Report(events) => member.events.extend_from_slice(events),
                Action::End(_) => return self.crash(id),
                Action::Broadcast(lines) => {
                    let lines: Vec<Line> = lines.sent().cloned().collect();
                    self.send(id, &lines);
                }
                Action::Append(records) => member.volatile.extend_from_slice(records),
                Action::Sync => member.durable.append(&mut member.volatile),
                Action::Idle(_) => return,
            }
        }
    }

    fn send(&mut self, id: u16, lines: &[Line]) {
        let mut packer = Packer::new(self.dialect(), 1400);
        packer.set_head(self.head_of(id));
        for line in lines {
            packer.push(line);
            self.sent.push((Some(id), line.clone()));
        }
        for datagram in packer.finish() {
            (self.tap)(&datagram);
            let (_, mut lines) = wire::open(&datagram, self.dialect()).expect("its own head reads back");
            assert!(lines.all(|line| line.is_ok()), "its own lines read back");
            self.queue.push_back((Some(id), datagram));
        }
    }
}

fn outbox(id: u16, hooks: Option<&Rc<dyn Hooks>>) -> Outbox {
    match hooks {
        Some(hooks) => Outbox::with_hooks(NodeId(id), Rc::clone(hooks)),
        None => Outbox::new(NodeId(id)),
    }
}
