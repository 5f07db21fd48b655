//! Clients of a drawn run: they send requests, retransmit, duplicate, and sometimes give up.
//!
//! Three clients and the operator are real ones ([`Client`]): their tags, retries, floors and reading of answers
//! are the code that is in use. This module owns what they request, and how long they wait. Now and then an
//! untagged line is sent besides, as if written by hand. Clients receive what nodes broadcast, and report
//! everything to the checkers: each line, and the outcome of each request.

use std::collections::BTreeMap;
use std::rc::Rc;

use upaxos_core::client::{Ask, Client, Outcome, RequestId, Scope, Settled};
use upaxos_core::parts::{Parts, Taken};
use upaxos_core::types::{Change, Instance, Micros, Tag, Tagged, Value};
use upaxos_core::wire::{Dialect, Line, Message, Request};

use super::checkers::Checkers;
use super::machine::PACKET;
use super::network::Datagram;
use super::rng::Rng;
use super::trace::Seen;

/// The clients' names, the operator's last. The place of the operator also serves the lines written by hand.
const NAMES: [u64; 4] = [7, 8, 9, OPERATOR];
const OPERATORS: usize = NAMES.len() - 1;
const BY_HAND: usize = OPERATORS;

/// The client name under which an operator changes the group.
pub const OPERATOR: u64 = 6;

/// How many clients take turns.
pub const COUNT: usize = NAMES.len();

/// How long a patient client waits: longer than any run.
const PATIENCE: Micros = Micros::from_millis(600_000);

#[derive(Debug)]
struct Caller {
    client: Client,
    /// The open requests, each with the highest instance that was acknowledged when it was sent.
    open: BTreeMap<RequestId, (Ask, Instance)>,
    /// When it sends its next new request.
    ask_at: Micros,
}

/// All clients of a drawn run, and the operator.
#[derive(Debug)]
pub struct Clients {
    chance: Rng,
    clients: Vec<Caller>,
    count: u64,
    /// Whether they send new requests.
    asks: bool,
    think: Micros,
    /// How many requests a client may have open at once.
    most: usize,
    dialect: Dialect,
    /// The exchange of datagrams that are longer than a packet, in both directions.
    parts: Parts,
    /// The group that they all talk to.
    scope: Scope,
    told: Told,
}

/// Counts of the messages that give no result, and of requests that ended as forgotten.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    busy: u64,
    refused: u64,
    unknown: u64,
    forgotten: u64,
    ended_forgotten: u64,
}

impl Clients {
    /// Clients that pause up to `think` between two requests, and talk to the group of `scope`.
    pub fn new(chance: Rng, think: Micros, most: usize, dialect: Dialect, scope: Scope) -> Clients {
        let caller = |name| {
            let client = Client::new(name, dialect).within(scope.clone());
            Caller { client, open: BTreeMap::new(), ask_at: Micros(0) }
        };
        let clients = NAMES.map(caller).into();
        let (told, parts) = (Told::default(), Parts::new(0, PACKET));
        Clients { chance, clients, count: 0, asks: true, think, most, dialect, parts, scope, told }
    }

    /// From now on they send new requests, or none.
    pub fn ask(&mut self, asks: bool) {
        self.asks = asks;
    }

    /// Whether they know which group they talk to, and may send requests.
    pub fn know_group(&self, now: Micros) -> bool {
        self.scope.is_open(now)
    }

    /// Adds the counts of the messages that they received.
    pub fn count(&self, seen: &mut Seen) {
        let Told { busy, refused, unknown, forgotten, ended_forgotten } = self.told;
        (seen.busy, seen.refused, seen.told_unknown) = (busy, refused, unknown);
        (seen.told_forgotten, seen.forgotten) = (forgotten, ended_forgotten);
    }

    /// Whether no client waits for an answer.
    pub fn is_content(&self) -> bool {
        self.open() == 0
    }

    /// How many requests are open.
    pub fn open(&self) -> usize {
        self.clients.iter().map(|caller| caller.open.len()).sum()
    }

    /// The operator requests a change of the group, until it is answered.
    pub fn ask_for(&mut self, change: Change, now: Micros, checkers: &Checkers) {
        self.begin(OPERATORS, Ask::Change(change), PATIENCE, now, checkers);
    }

    /// Client `at` does what is due. Returns the datagrams that it sends, and when it wants to go on.
    pub fn turn(&mut self, at: usize, now: Micros, checkers: &mut Checkers) -> (Vec<Rc<Datagram>>, Micros) {
        let mut lines = Vec::new();
        if now >= self.clients[at].ask_at {
            let pause =
                if at == BY_HAND { self.type_line(&mut lines) } else { self.ask_more(at, now, checkers) };
            self.clients[at].ask_at = now + pause;
        }
        lines.extend(self.tick(at, now, checkers));
        lines.iter().for_each(|line| checkers.on_asked(line));
        let mut said = self.packed(at, &lines, now);
        said.extend(Datagram::due(&mut self.parts, now));
        let Caller { client, ask_at, .. } = &self.clients[at];
        let next = [client.next_deadline(now), self.parts.deadline()].into_iter().flatten().min();
        let next = next.map_or(*ask_at, |next| next.min(*ask_at));
        (said, next.max(now + Micros(50)))
    }

    /// The first client sends a write at once. Returns its tag, and the datagrams.
    pub fn ask_now(&mut self, now: Micros, checkers: &mut Checkers) -> (Tag, Vec<Rc<Datagram>>) {
        let value = self.new_value();
        self.begin(0, Ask::Write(value.clone()), PATIENCE, now, checkers);
        let lines = self.tick(0, now, checkers);
        lines.iter().for_each(|line| checkers.on_asked(line));
        let tag = lines.iter().rev().find_map(|line| match line {
            Line::Client(Request::Submit(tagged, written)) if *written == value => Some(tagged.tag),
            _ => None,
        });
        (tag.expect("a new request is sent at once"), self.packed(0, &lines, now))
    }

    /// A datagram of a node reaches the clients. Returns the parts of datagrams that they send in return.
    pub fn hear(&mut self, datagram: &Datagram, now: Micros, checkers: &mut Checkers) -> Vec<Rc<Datagram>> {
        match self.parts.take(&datagram.bytes, now) {
            Taken::AsItIs => self.hear_whole(datagram, now, checkers),
            Taken::Whole(whole) => self.hear_whole(&Datagram::new(whole, self.dialect), now, checkers),
            Taken::Nothing => {}
        }
        Datagram::due(&mut self.parts, now).collect()
    }

    fn hear_whole(&mut self, datagram: &Datagram, now: Micros, checkers: &mut Checkers) {
        let before = self.scope.group();
        let is_ours = self.scope.hear(&datagram.bytes, now).is_some();
        if self.scope.group() != before {
            self.clients.iter_mut().for_each(|caller| caller.client.move_to(self.scope.clone()));
        }
        for line in datagram.lines.iter().filter(|_| is_ours) {
            let Line::Node(from, message) = line else { continue };
            checkers.on_told(message);
            match message {
                Message::Busy { .. } => self.told.busy += 1,
                Message::Refused { .. } => self.told.refused += 1,
                Message::Unknown { .. } => self.told.unknown += 1,
                Message::Forgotten { .. } => self.told.forgotten += 1,
                _ => {}
            }
            for caller in &mut self.clients {
                let settled = caller.client.on_message(*from, message, now);
                let is_forgotten = |settled: &&Settled| settled.outcome == Outcome::Forgotten;
                self.told.ended_forgotten += settled.iter().filter(is_forgotten).count() as u64;
                caller.settle(settled, checkers);
            }
        }
    }

    /// The lines that are due. Some are sent twice, and in another form.
    fn tick(&mut self, at: usize, now: Micros, checkers: &mut Checkers) -> Vec<Line> {
        let turn = self.clients[at].client.tick(now);
        if self.clients[at].client.scope().has_begun() {
            self.scope.begin();
        }
        self.clients[at].settle(turn.settled, checkers);
        let mut lines = Vec::new();
        for line in turn.send {
            let is_doubled = self.dialect == Dialect::Extended && self.chance.hits(50_000);
            let other = match &line {
                // A node that receives this line first logs another record.
                Line::Client(Request::Submit(Tagged { tag, .. }, value)) if self.chance.hits(500_000) => {
                    Line::Client(Request::Submit(Tagged { tag: *tag, floor: 0 }, value.clone()))
                }
                same => same.clone(),
            };
            lines.push(line);
            lines.extend(Some(other).filter(|_| is_doubled));
        }
        lines
    }

    /// Sends a new request, if the client may have one more open. Returns how long to wait after it.
    fn ask_more(&mut self, at: usize, now: Micros, checkers: &Checkers) -> Micros {
        let pause = Micros(1_000 + self.chance.below(self.think.0));
        if !self.asks || self.clients[at].open.len() >= self.most {
            return pause;
        }
        // A batch, where many may be open.
        for _ in 0..=self.chance.below(self.most as u64 / 8 + 1) {
            let ask = self.draw(checkers);
            let is_fast = ask == Ask::FastRead;
            let short = Micros::from_millis(self.chance.between(300, 3_000));
            // A classic client sends each request once.
            let is_short = self.chance.hits(150_000) || self.dialect == Dialect::Classic;
            self.begin(at, ask, if is_short { short } else { PATIENCE }, now, checkers);
            // Reads in a row make rounds in a row, in which the marks of one round meet the next.
            if is_fast && self.chance.hits(600_000) {
                return Micros(self.chance.below(2_000));
            }
        }
        pause
    }

    fn draw(&mut self, checkers: &Checkers) -> Ask {
        match self.chance.below(100) {
            0..65 => Ask::Write(self.new_value()),
            65..76 => Ask::Read,
            76..97 => Ask::FastRead,
            _ => Ask::History(Instance(1 + self.chance.below(checkers.acknowledged().0 + 2))),
        }
    }

    /// A value that is written once only.
    fn new_value(&mut self) -> Value {
        self.count += 1;
        let long = if self.chance.hits(150_000) { self.chance.below(1_200) as usize } else { 0 };
        let newlines = if self.dialect == Dialect::Classic { 0 } else { long / 600 };
        Value::from(format!("w{}{}", self.count, "\n".repeat(newlines) + &"x".repeat(long)).as_str())
    }

    fn begin(&mut self, at: usize, ask: Ask, patience: Micros, now: Micros, checkers: &Checkers) {
        let caller = &mut self.clients[at];
        let ticket = caller.client.ask(ask.clone(), now, patience);
        let ticket = ticket.expect("a drawn request is valid");
        caller.open.insert(ticket, (ask, checkers.acknowledged()));
    }

    /// Types an untagged line. A group without heartbeats needs it: a node that missed the last instance learns of
    /// it from the next.
    fn type_line(&mut self, lines: &mut Vec<Line>) -> Micros {
        if (self.asks && self.scope.group().is_some()) || self.dialect == Dialect::Classic {
            let request = match self.chance.below(10) {
                0..=1 => Request::Read,
                2..=4 => Request::History(Instance(1 + self.chance.below(self.count + 2))),
                _ => {
                    self.count += 1;
                    let mark = if self.count.is_multiple_of(7) { "@" } else { "" };
                    Request::Write(Value::from(format!("{mark}u{}", self.count).as_str()))
                }
            };
            lines.push(Line::Client(request));
        }
        Micros(1_000 + self.chance.below(self.think.0)) * 3
    }

    fn packed(&mut self, at: usize, lines: &[Line], now: Micros) -> Vec<Rc<Datagram>> {
        let said = self.clients[at].client.pack(lines, PACKET);
        let said = said.into_iter().map(|bytes| Datagram::new(bytes, self.dialect));
        match self.dialect {
            Dialect::Classic => said.collect(),
            Dialect::Extended => said.flat_map(|datagram| datagram.cut(&mut self.parts, now)).collect(),
        }
    }
}

impl Caller {
    fn settle(&mut self, settled: Vec<Settled>, checkers: &mut Checkers) {
        for Settled { ticket, tag, outcome, .. } in settled {
            if let Some((ask, after)) = self.open.remove(&ticket) {
                checkers.on_outcome(tag, ask, outcome, after);
            }
        }
    }
}
