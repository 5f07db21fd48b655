//! A session of one node, driven by arbitrary bytes: lying peers, power failures, passing time.
//!
//! The bytes are text. The first line describes the node: `N ID`, then optionally `classic` or `alone` (no peer
//! remembers its identity). Each further line is a line of the wire. An empty line ends a datagram, and so does a
//! line that begins with `!`:
//!
//! | line | does |
//! | --- | --- |
//! | `!wait MS` | time passes |
//! | `!beats` | every peer is heard, and hears the node |
//! | `!run` | the node finds itself without a leader until it runs, or for a while |
//! | `!restart` | power fails when nothing is under way |
//! | `!crash` | power fails after the next datagram, before its sync |
//!
//! The session checks the node's output: its votes, its writes, its records. It does not check what the node
//! learns, because the peers may lie. A group with lying members agrees on nothing.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use upaxos_core::driver::{Action, Driver};
use upaxos_core::record::Record;
use upaxos_core::replica::{Config, Outbox, Recovery, Replica, Timing};
use upaxos_core::types::{Ballot, GroupId, Instance, Micros, NodeId, Value};
use upaxos_core::wire::{self, Beat, Dialect, Head, Line, Message};

/// The maximum output of one step: lines of all lanes, and bytes of their values.
const MAX_STEP_LINES: usize = 70_000;
const MAX_STEP_BYTES: usize = 8 << 20;
/// The maximum state of a node after a session of a few kilobytes: bytes of its debug text.
const MAX_STATE_TEXT: usize = 96 << 20;
/// The maximum steps of a session, and the maximum ticks of one wait.
const MAX_STEPS: usize = 150;
const MAX_TICKS: usize = 12;

/// Runs a session with any sequence of lines, in either dialect.
pub fn session(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut session = Session::new(&String::from_utf8_lossy(lines.next().unwrap_or_default()));
    let mut datagram: Vec<u8> = Vec::new();
    for line in lines.take(MAX_STEPS) {
        if line.is_empty() || line.starts_with(b"!") {
            session.hear(&std::mem::take(&mut datagram));
            session.obey(&String::from_utf8_lossy(line));
        } else {
            datagram.extend_from_slice(line);
            datagram.push(b'\n');
        }
    }
    session.hear(&datagram);
    session.restart();
    session.must_be_bounded();
}

struct Session {
    id: u16,
    n: u16,
    classic: bool,
    /// Whether the peers remember the node.
    is_known: bool,
    node: Replica,
    now: Micros,
    life: u64,
    crash_next: bool,
    volatile: Vec<Record>,
    durable: Vec<Record>,
    said: Said,
}

/// The node's sent claims and durable records, over all its lives.
#[derive(Default)]
struct Said {
    /// The highest ballot that the node voted in: for each instance of a classic node, otherwise under instance 0.
    voted: BTreeMap<Instance, Ballot>,
    written: BTreeMap<(Instance, Ballot), Value>,
    promised: BTreeMap<(Instance, Ballot), ()>,
    accepted: BTreeMap<(Instance, Ballot), Value>,
    /// The last learned instance according to the durable records.
    learned: Instance,
}

impl Session {
    fn new(line: &str) -> Session {
        let mut words = line.split(' ');
        let n = words.next().and_then(|word| word.parse().ok()).unwrap_or(3u16).clamp(1, 7);
        let id = words.next().and_then(|word| word.parse().ok()).unwrap_or(0u16) % n;
        let flags: Vec<_> = words.collect();
        let classic = flags.contains(&"classic");
        let config = config(n, id, classic);
        let mut session = Session {
            id,
            n,
            classic,
            is_known: !flags.contains(&"alone"),
            node: Recovery::new(config).finish(0, 0),
            now: Micros(0),
            life: 0,
            crash_next: false,
            volatile: Vec::new(),
            durable: Vec::new(),
            said: Said::default(),
        };
        session.restart();
        session
    }

    fn dialect(&self) -> Dialect {
        if self.classic { Dialect::Classic } else { Dialect::Extended }
    }

    fn peers(&self) -> impl Iterator<Item = u16> + use<> {
        let id = self.id;
        (0..self.n).filter(move |peer| *peer != id)
    }

    fn obey(&mut self, order: &str) {
        let mut words = order.split(' ');
        match words.next() {
            Some("!wait") => {
                let ms = words.next().and_then(|ms| ms.parse().ok()).unwrap_or(100u64);
                self.wait(Micros::from_millis(ms.min(30_000)));
            }
            Some("!beats") => self.beats(),
            Some("!run") => {
                for _ in 0..MAX_TICKS {
                    self.now = self.now + Micros::from_millis(50);
                    self.beats();
                    self.hear(b"");
                }
            }
            Some("!restart") => self.restart(),
            Some("!crash") => self.crash_next = true,
            _ => {}
        }
    }

    fn wait(&mut self, length: Micros) {
        let end = self.now + length;
        for _ in 0..MAX_TICKS {
            self.now = self.node.deadline(self.now).max(self.now + Micros::from_millis(1)).min(end);
            self.hear(b"");
            if self.now == end {
                return;
            }
        }
        self.now = end;
        self.hear(b"");
    }

    fn beats(&mut self) {
        let (n, id) = (self.n, self.id);
        for peer in self.peers() {
            let beat = format!("{peer} Beat {n} {} 1 {} - 0 waits {id}", 1_000 + peer, 500 + peer);
            self.hear(beat.as_bytes());
        }
    }

    /// Begins another life from the durable records.
    fn restart(&mut self) {
        let before: Vec<_> = (1..=self.said.learned.0).map(|i| self.node.value_at(Instance(i))).collect();
        let mut recovery = Recovery::new(config(self.n, self.id, self.classic));
        for record in &self.durable {
            recovery.take(record).expect("its own records follow from each other");
        }
        self.life += 1;
        self.crash_next = false;
        self.volatile.clear();
        self.node = recovery.finish(1_000 + u64::from(self.id), self.life);
        assert_eq!(self.node.learned(), self.said.learned, "what is durable is learned after a restart");
        let after: Vec<_> = (1..=self.said.learned.0).map(|i| self.node.value_at(Instance(i))).collect();
        assert!(self.life == 1 || before == after, "what was learned reads the same after a restart");
        let mut out = Outbox::new(NodeId(self.id));
        self.node.start(self.now, &mut out);
        self.finish(out);
        if self.is_known && !self.classic {
            let (id, n, boot) = (self.id, self.n, self.node.boot().boot);
            for peer in self.peers() {
                let (incarnation, peer_boot) = (1_000 + peer, 500 + peer);
                self.hear(format!("{peer} Register {n} {incarnation} 1 {peer_boot}").as_bytes());
                self.hear(format!("{peer} Registered {id} {boot}").as_bytes());
            }
            // Waits for the time in which the peers may object.
            self.now = self.now + Timing::default().timeout();
            self.hear(b"");
        }
    }

    /// Delivers a datagram. An empty one only lets time pass. A datagram with a head gets a checksum.
    fn hear(&mut self, datagram: &[u8]) {
        let mut out = Outbox::new(NodeId(self.id));
        let mut datagram = datagram.to_vec();
        wire::complete(&mut datagram);
        if let Ok((head, lines)) = wire::open(&datagram, self.dialect()) {
            for line in lines.flatten() {
                // A datagram without a head gets the head of the life that its lines name.
                let own = head_of(&line, head);
                let speaker = self.node.hear(&own, self.now, &mut out);
                self.node.handle(self.now, speaker, line, &mut out);
            }
        }
        self.node.tick(self.now, &mut out);
        self.finish(out);
    }

    fn finish(&mut self, mut out: Outbox) {
        let crashes = std::mem::take(&mut self.crash_next);
        let (mut driver, mut effects) = (Driver::new(), Effects::default());
        loop {
            match driver.next(&mut self.node, self.now, &mut out) {
                Action::LookUp(_) => {}
                // The process exits, and its operator starts it again.
                Action::End(_) => return self.restart(),
                Action::Report(events) => effects = Effects { count: events.len(), bytes: 0 },
                Action::Broadcast(lines) => {
                    effects.add(lines.all());
                    for line in lines.all() {
                        match lines.is_after_sync {
                            false => self.said.on_early(line, self.classic),
                            true => self.said.on_late(line, self.classic),
                        }
                    }
                }
                Action::Append(records) => {
                    effects.count += records.len();
                    self.volatile.extend_from_slice(records);
                    if crashes {
                        return self.restart();
                    }
                }
                Action::Sync => {
                    for record in self.volatile.drain(..) {
                        self.said.on_durable(&record);
                        self.durable.push(record);
                    }
                }
                Action::Idle(_) => return,
            }
        }
    }

    /// Asserts that a few kilobytes of input, whatever they are, cost bounded memory.
    fn must_be_bounded(&self) {
        let mut room = Room(MAX_STATE_TEXT);
        assert!(write!(room, "{:?}", self.node).is_ok(), "the node holds too much");
    }
}

/// The head of a line. A line without one gets the head of the node that it names, in the registered life.
fn head_of(line: &Line, head: Head) -> Head {
    match line {
        Line::Node(id, _) if head == Head::default() => {
            Head { from: Some((*id, 1_000 + u64::from(id.0))), group: Some(GroupId(1_000)), name: None }
        }
        _ => head,
    }
}

impl Said {
    fn on_durable(&mut self, record: &Record) {
        match record {
            Record::PromiseAll { ballot } => drop(self.promised.insert((Instance(0), *ballot), ())),
            Record::Promise { instance, ballot } => drop(self.promised.insert((*instance, *ballot), ())),
            Record::Accept { instance, ballot, value } => {
                let before = self.accepted.insert((*instance, *ballot), value.clone());
                assert!(before.is_none_or(|before| before == *value), "accepted twice: {record}");
            }
            Record::Chosen { first, last, .. } => {
                assert_eq!(*first, self.learned.next(), "{record}");
                self.learned = *last;
            }
            Record::Learn { instance, .. } => {
                assert_eq!(*instance, self.learned.next(), "{record}");
                self.learned = *instance;
            }
            _ => {}
        }
    }

    /// Checks a line that is sent before the sync: it claims nothing that is not durable.
    fn on_early(&mut self, line: &Line, classic: bool) {
        let Line::Node(_, message) = line else { return };
        match message {
            Message::Promise { .. }
            | Message::PromiseNone { .. }
            | Message::Accept { .. }
            | Message::Accepts { .. }
            | Message::Registered { .. } => panic!("{line} does not wait for the sync"),
            Message::Write { instance, ballot, value } => {
                self.must_own(*instance, *ballot, classic, line);
                let known = self.written.entry((*instance, *ballot)).or_insert_with(|| value.clone());
                assert_eq!(known, value, "one value per ballot and instance: {line}");
            }
            Message::Propose { instance, ballot } => self.must_own(*instance, *ballot, classic, line),
            Message::ProposeAll { first, ballot } => self.must_own(*first, *ballot, classic, line),
            Message::Beat(Beat { learned, .. }) => assert!(*learned <= self.learned, "{line}"),
            _ => {}
        }
    }

    fn must_own(&self, instance: Instance, ballot: Ballot, classic: bool, line: &Line) {
        let place = if classic { instance } else { Instance(0) };
        assert!(
            self.promised.contains_key(&(place, ballot)),
            "a ballot is durable before it is used: {line}"
        );
    }

    /// Checks a line that waited for the sync: its claim is durable, and no vote is below an earlier one.
    fn on_late(&mut self, line: &Line, classic: bool) {
        let Line::Node(_, message) = line else { return };
        match message {
            Message::Promise { instance, ballot, accepted } => {
                self.on_vote(*instance, *ballot, classic, line);
                let is_own = accepted.as_ref().is_some_and(|(at, _)| at == ballot);
                let last = self.accepted_below(*ballot, *instance, *instance).next_back();
                let last = last.map(|((_, at), value)| (*at, value.clone()));
                assert!(is_own || last == *accepted, "not what it accepted last: {line}");
            }
            Message::PromiseNone { first, last, ballot, learned } => {
                self.on_vote(*first, *ballot, classic, line);
                let last = last.unwrap_or(Instance(u64::MAX));
                assert!(self.accepted_below(*ballot, *first, last).next().is_none(), "it hides: {line}");
                assert!(*learned <= self.learned, "{line}");
            }
            Message::Accepts { first, last, ballot } => {
                for instance in (first.0..=last.0).map(Instance) {
                    self.on_vote(instance, *ballot, classic, line);
                    assert!(self.accepted.contains_key(&(instance, *ballot)), "not durable: {line}");
                }
            }
            Message::Accept { instance, ballot, value } => {
                self.on_vote(*instance, *ballot, classic, line);
                assert_eq!(self.accepted.get(&(*instance, *ballot)), Some(value), "{line}");
            }
            _ => {}
        }
    }

    fn on_vote(&mut self, instance: Instance, ballot: Ballot, classic: bool, line: &Line) {
        let place = if classic { instance } else { Instance(0) };
        let highest = self.voted.entry(place).or_insert(ballot);
        assert!(*highest <= ballot, "{line}, after a vote in {highest}");
        *highest = ballot;
    }

    fn accepted_below(
        &self,
        ballot: Ballot,
        first: Instance,
        last: Instance,
    ) -> impl DoubleEndedIterator<Item = (&(Instance, Ballot), &Value)> {
        let range = (first, Ballot::first_epoch(0))..=(last, Ballot::first_epoch(u64::MAX));
        self.accepted.range(range).filter(move |((_, at), _)| *at < ballot)
    }
}

fn config(n: u16, id: u16, classic: bool) -> Config {
    Config { classic, fast_read: !classic && id % 2 == 1, ..Config::member(NodeId(id), n) }
}

/// The effects of one step. They are bounded, whatever the node receives.
#[derive(Default)]
struct Effects {
    count: usize,
    bytes: usize,
}

impl Effects {
    fn add(&mut self, lines: &[Line]) {
        self.count += lines.len();
        self.bytes += lines.iter().map(|line| line.to_bytes(Dialect::Extended).len()).sum::<usize>();
        let Effects { count, bytes } = self;
        assert!(
            *count <= MAX_STEP_LINES && *bytes <= MAX_STEP_BYTES,
            "{count} effects of {bytes} bytes in one step"
        );
    }
}

/// A writer that counts bytes, and refuses more than it has room for.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}
