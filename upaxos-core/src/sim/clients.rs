//! Clients: they ask, ask again, ask twice, and sometimes give up.
//!
//! Three of them tag what they ask, if the group knows tags; now and then somebody types an untagged line. They hear what nodes
//! broadcast, as real clients do, and hand everything to the judges.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::chance::Chance;
use super::judges::Judges;
use super::network::Datagram;
use crate::types::{Change, Instance, Micros, Tag, Tagged, Value};
use crate::wire::{Dialect, Line, Message, Packer, Request};

/// How many requests a client has open at once.
const OPEN: usize = 4;

/// The tagging clients' names, and that of who does not tag.
const NAMES: [u64; 3] = [7, 8, 9];
const UNTAGGED: usize = NAMES.len();

/// The name under which an operator changes the group.
pub const OPERATOR: u64 = 6;

/// How many clients there are.
pub const COUNT: usize = NAMES.len() + 1;

#[derive(Debug)]
struct Open {
    /// What it writes; `None` for a read.
    value: Option<Value>,
    /// Whether a read is a fast one.
    is_fast: bool,
    retry_at: Micros,
    tries: u64,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    chance: Chance,
    open: [BTreeMap<u64, Open>; NAMES.len()],
    /// The changes that the operator asks for, and when to ask again.
    changes: BTreeMap<u64, (Change, Micros)>,
    count: u64,
    /// Whether they ask anything new.
    asks: bool,
    think: Micros,
    dialect: Dialect,
}

impl Clients {
    /// Clients that think for up to `think` between two requests.
    pub fn new(chance: Chance, think: Micros, dialect: Dialect) -> Clients {
        let (open, changes) = Default::default();
        Clients { chance, open, changes, count: 0, asks: true, think, dialect }
    }

    /// From now on they ask something new, or not.
    pub fn ask(&mut self, asks: bool) {
        self.asks = asks;
    }

    /// Whether nobody waits for an answer.
    pub fn is_content(&self) -> bool {
        self.open.iter().all(BTreeMap::is_empty) && self.changes.is_empty()
    }

    /// How many requests are open.
    pub fn open(&self) -> usize {
        self.open.iter().map(BTreeMap::len).sum::<usize>() + self.changes.len()
    }

    /// The operator asks for a change of the group, until it is answered.
    pub fn ask_for(&mut self, change: Change, now: Micros, judges: &mut Judges) {
        self.count += 1;
        self.changes.insert(self.count, (change, now));
        let tagged = Tagged { tag: Tag { client: OPERATOR, seq: self.count }, floor: 0 };
        judges.on_change_asked(Some(tagged), change);
    }

    /// Client `at` does something: returns what it sends, and when it wants to go on.
    pub fn turn(&mut self, at: usize, now: Micros, judges: &mut Judges) -> (Vec<Rc<Datagram>>, Micros) {
        let mut packer = Packer::new(self.dialect, 1_400);
        // Reads in a row make rounds in a row, in which the marks of one meet the next.
        let mut hurries = false;
        if at == UNTAGGED {
            // Without beats, who missed the last instance learns of it from the next.
            if self.asks || self.dialect == Dialect::Classic {
                packer.push(&Line::Client(self.untagged(judges)));
            }
            self.send_changes(now, &mut packer);
        } else {
            self.give_up(at, now, judges);
            if self.asks && self.open[at].len() < OPEN {
                hurries = self.call(at, false, now, judges) && self.chance.hits(600_000);
            }
            self.send_due(at, now, &mut packer);
        }
        let factor = if at == UNTAGGED { 3 } else { 1 };
        let pause = if hurries { self.chance.below(2_000) } else { 1_000 + self.chance.below(self.think.0) };
        let next = now + Micros(pause) * factor;
        (packer.finish().into_iter().map(|bytes| Datagram::new(bytes, self.dialect)).collect(), next)
    }

    /// The first client writes something at once: returns its tag, and what it sends.
    pub fn ask_now(&mut self, now: Micros, judges: &mut Judges) -> (Tag, Vec<Rc<Datagram>>) {
        let mut packer = Packer::new(self.dialect, 1_400);
        self.call(0, true, now, judges);
        self.send_due(0, now, &mut packer);
        let tag = Tag { client: NAMES[0], seq: self.count };
        (tag, packer.finish().into_iter().map(|bytes| Datagram::new(bytes, self.dialect)).collect())
    }

    /// What nodes said reaches the clients.
    pub fn hear(&mut self, datagram: &Datagram, judges: &mut Judges) {
        for line in &datagram.lines {
            if let Line::Node(_, message) = line {
                self.hear_line(message);
                judges.on_told(message);
            }
        }
    }

    fn hear_line(&mut self, message: &Message) {
        match message {
            Message::Refused { client: OPERATOR, seq, .. } | Message::Done { client: OPERATOR, seq, .. } => {
                self.changes.remove(seq);
            }
            Message::Done { first, last, client, seq } => {
                let seqs = (first.0..=last.0).zip(*seq..).map(|(_, seq)| seq);
                seqs.for_each(|seq| self.settle(Tag { client: *client, seq }));
            }
            Message::Answer { client, seq, .. } | Message::Value { client, seq, .. } => {
                self.settle(Tag { client: *client, seq: *seq });
            }
            Message::Ok { value, .. } if self.dialect == Dialect::Classic => {
                let is_other = |open: &Open| open.value.as_ref() != Some(value);
                self.open.iter_mut().for_each(|open| open.retain(|_, open| is_other(open)));
            }
            _ => {}
        }
    }

    fn settle(&mut self, tag: Tag) {
        if let Some(at) = NAMES.iter().position(|name| *name == tag.client) {
            self.open[at].remove(&tag.seq);
        }
    }

    fn send_changes(&mut self, now: Micros, packer: &mut Packer) {
        let floor = self.changes.keys().next().copied().unwrap_or_default();
        for (seq, (change, retry_at)) in self.changes.iter_mut().filter(|(_, (_, at))| *at <= now) {
            *retry_at = now + Micros::from_millis(self.chance.between(100, 400));
            let tagged = Tagged { tag: Tag { client: OPERATOR, seq: *seq }, floor };
            packer.push(&Line::Client(Request::Change(Some(tagged), *change)));
        }
    }

    /// Asks something new; true when it is a fast read.
    fn call(&mut self, at: usize, writes: bool, now: Micros, judges: &mut Judges) -> bool {
        self.count += 1;
        let seq = self.count;
        let long = if self.chance.hits(150_000) { self.chance.below(1_200) as usize } else { 0 };
        let is_classic = self.dialect == Dialect::Classic;
        let newlines = if is_classic { 0 } else { long / 600 };
        let text = format!("w{seq}{}", "\n".repeat(newlines) + &"x".repeat(long));
        let (reads, is_fast) = (self.chance.hits(350_000), self.chance.hits(650_000));
        let value = (is_classic || writes || !reads).then(|| Value::from(text.as_str()));
        match value.clone().filter(|_| is_classic) {
            Some(value) => judges.calls().on_write(value),
            None => judges.on_call(Tag { client: NAMES[at], seq }, value.clone()),
        }
        self.open[at].insert(seq, Open { value, is_fast, retry_at: now, tries: 0 });
        self.open[at][&seq].value.is_none() && is_fast
    }

    /// Some lose patience. A client that settles things while the group heals has patience.
    fn give_up(&mut self, at: usize, now: Micros, judges: &mut Judges) {
        let Some((seq, open)) = self.open[at].first_key_value() else { return };
        if self.asks && open.tries > 3 && open.retry_at <= now && self.chance.hits(200_000) {
            judges.calls().on_given_up(Tag { client: NAMES[at], seq: *seq });
            self.open[at].pop_first();
        }
    }

    fn send_due(&mut self, at: usize, now: Micros, packer: &mut Packer) {
        let Some(floor) = self.open[at].keys().next().copied() else { return };
        for (seq, open) in self.open[at].iter_mut().filter(|(_, open)| open.retry_at <= now) {
            open.tries += 1;
            open.retry_at = now + Micros::from_millis(self.chance.between(100, 400));
            let tagged = Tagged { tag: Tag { client: NAMES[at], seq: *seq }, floor };
            let request = match &open.value {
                // Nobody knows tags: at least once.
                Some(value) if self.dialect == Dialect::Classic => Request::Write(value.clone()),
                Some(value) => Request::Submit(tagged, value.clone()),
                None if open.is_fast => Request::FastRead(tagged),
                None => Request::TaggedRead(tagged),
            };
            packer.push(&Line::Client(request.clone()));
            if self.chance.hits(50_000) {
                // In other words, sometimes: where that is heard first, it is something else that is logged.
                let other = match request {
                    Request::Submit(Tagged { tag, .. }, value) if self.chance.hits(500_000) => {
                        Request::Submit(Tagged { tag, floor: 0 }, value)
                    }
                    same => same,
                };
                packer.push(&Line::Client(other));
            }
        }
    }

    fn untagged(&mut self, judges: &mut Judges) -> Request {
        let acknowledged = judges.calls().acknowledged().0;
        match self.chance.below(10) {
            0..=1 => Request::Read,
            2..=4 => Request::History(Instance(1 + self.chance.below(acknowledged + 2))),
            _ => {
                self.count += 1;
                let text = format!("{}u{}", if self.count.is_multiple_of(7) { "@" } else { "" }, self.count);
                let value = Value::from(text.as_str());
                judges.calls().on_write(value.clone());
                Request::Write(value)
            }
        }
    }
}
