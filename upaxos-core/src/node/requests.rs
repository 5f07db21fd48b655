//! What clients want and have not got: requests nobody has chosen yet, answers nobody has given yet.
//!
//! Owns two queues, both bounded. Every node keeps the requests it hears, since any of them may lead
//! next; a request that no leader takes up is passed on, by rank, and never raises a ballot. Every node
//! owes the answers it could give, and keeps silent when it overhears one. It decides nothing about
//! the log.

use std::collections::VecDeque;

use super::Timing;
use super::outbox::Outbox;
use crate::entry::Entry;
use crate::types::{Instance, MAX_VALUE, Micros, Tag, Tagged, Value};
use crate::wire::{Line, Message, Request};

/// How many requests may wait, and how many bytes of values.
const MAX_WAITING: usize = 16_384;
const MAX_WAITING_BYTES: usize = 32 << 20;

/// How many answers may be owed.
const MAX_OWED: usize = 16_384;

/// How long a request waits for a leader before it is forgotten: longer than any election, shorter
/// than anybody's patience. A write that happened minutes after it was typed would surprise.
const PATIENCE: Micros = Micros::from_millis(10_000);

/// How long each rank waits for the one before it to answer.
const ANSWER_STEP: Micros = Micros::from_millis(20);

/// A request that ends in a value of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `Request 0 V`.
    Write(Value),
    /// `Request 0`.
    Read,
    /// `Submit C Q F V`.
    Tagged(Tagged, Value),
    /// `Read C Q F`.
    TaggedRead(Tagged),
}

impl Wanted {
    /// The tag, if it has one.
    pub fn tagged(&self) -> Option<Tagged> {
        match self {
            Wanted::Tagged(tagged, _) | Wanted::TaggedRead(tagged) => Some(*tagged),
            _ => None,
        }
    }

    /// Whether it is a safe read, which has to wait for everything before it.
    pub fn is_read(&self) -> bool {
        matches!(self, Wanted::Read | Wanted::TaggedRead(_))
    }

    /// How many bytes its value has.
    pub fn len(&self) -> usize {
        match self {
            Wanted::Write(value) | Wanted::Tagged(_, value) => value.as_bytes().len(),
            _ => 0,
        }
    }

    /// Why it cannot be carried out at all, if so.
    pub fn refusal(&self) -> Option<&'static str> {
        match self.tagged() {
            _ if self.len() > MAX_VALUE => Some("the value is over the limit of 60000 bytes"),
            Some(tagged) if tagged.floor > tagged.tag.seq => Some("its floor is above its own number"),
            _ => None,
        }
    }

    /// The entry that carries it out at `instance`; `safe_read` is what a safe read reads there.
    pub fn entry(&self, instance: Instance, safe_read: impl FnOnce() -> Value) -> Entry {
        match self {
            Wanted::Write(value) => Entry::Write(value.clone()),
            Wanted::Tagged(tagged, value) => Entry::Tagged(*tagged, value.clone()),
            Wanted::Read => Entry::Read { instance, tagged: None, value: safe_read() },
            Wanted::TaggedRead(tagged) => Entry::Read { instance, tagged: Some(*tagged), value: safe_read() },
        }
    }

    /// Whether an entry of the log carries it out.
    pub fn is_done_by(&self, entry: &Entry) -> bool {
        match (self, entry) {
            (Wanted::Write(value), Entry::Write(chosen)) => value == chosen,
            (Wanted::Read, Entry::Read { tagged: None, .. }) => true,
            _ => self.tagged().is_some_and(|wanted| entry.tagged().is_some_and(|is| is.tag == wanted.tag)),
        }
    }

    /// Whether both are the same request: the same tag or, where there is none, the same words.
    pub fn is_same(&self, other: &Wanted) -> bool {
        match (self.tagged(), other.tagged()) {
            (Some(one), Some(other)) => one.tag == other.tag,
            (None, None) => self == other,
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    wanted: Wanted,
    since: Micros,
    relay_at: Micros,
    /// Its answer was overheard before it was learned here.
    is_answered: bool,
}

/// Which answer is owed: what an overheard one is recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// An instance: `OK`, `NotYet`.
    Instance(Instance),
    /// A tagged request: `Done`, `Answer`, `Refused`.
    Tag(Tag),
    /// An untagged request that was refused.
    Error(Value),
}

#[derive(Debug)]
struct Owed {
    at: Micros,
    about: About,
    answer: Message,
}

/// The queues.
#[derive(Debug)]
pub struct Requests {
    timing: Timing,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    owed: VecDeque<Owed>,
}

impl Requests {
    /// Nothing wanted, nothing owed.
    pub fn new(timing: Timing) -> Requests {
        Requests { timing, waiting: VecDeque::new(), bytes: 0, owed: VecDeque::new() }
    }

    /// Adds a request at the end, unless the same tagged one waits already (a retry). False when there
    /// is no room.
    pub fn add(&mut self, wanted: Wanted, rank: usize, now: Micros) -> bool {
        let is_retry = |waiting: &Waiting| wanted.tagged().is_some() && waiting.wanted.is_same(&wanted);
        if self.waiting.iter().any(is_retry) {
            return true;
        }
        if self.waiting.len() >= MAX_WAITING || self.bytes + wanted.len() > MAX_WAITING_BYTES {
            return false;
        }
        self.bytes += wanted.len();
        let relay_at = now + self.timing.timeout() + self.timing.beat * rank as u64;
        self.waiting.push_back(Waiting { wanted, since: now, relay_at, is_answered: false });
        true
    }

    /// Puts requests back in front, in their order: their ballot was given up, or their instance lost.
    pub fn put_back(&mut self, wanted: Vec<Wanted>, now: Micros) {
        for wanted in wanted.into_iter().rev() {
            self.bytes += wanted.len();
            let relay_at = now + self.timing.timeout();
            self.waiting.push_front(Waiting { wanted, since: now, relay_at, is_answered: false });
        }
    }

    /// The request that waits longest.
    pub fn first(&self) -> Option<&Wanted> {
        self.waiting.front().map(|waiting| &waiting.wanted)
    }

    /// Takes that request.
    pub fn take_first(&mut self) -> Option<Wanted> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.wanted.len();
        Some(waiting.wanted)
    }

    /// Whether the same request waits.
    pub fn is_waiting(&self, wanted: &Wanted) -> bool {
        self.waiting.iter().any(|waiting| waiting.wanted.is_same(wanted))
    }

    /// A leader took the request up: nobody needs to pass it on for a while.
    pub fn on_taken_up(&mut self, entry: &Entry, now: Micros) {
        let relay_at = now + self.timing.timeout() * 2;
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.wanted.is_done_by(entry)) {
            waiting.relay_at = relay_at;
        }
    }

    /// An entry is written or learned: takes the request that it carries out, if it waits here. With it
    /// comes whether somebody answered it already.
    pub fn take_done(&mut self, entry: &Entry) -> Option<(Wanted, bool)> {
        let at = self.waiting.iter().position(|waiting| waiting.wanted.is_done_by(entry))?;
        let Waiting { wanted, is_answered, .. } = self.waiting.remove(at)?;
        self.bytes -= wanted.len();
        Some((wanted, is_answered))
    }

    /// Owes an answer, to be given when the ranks before have had the time to; rank 0 owes it now.
    pub fn owe(&mut self, about: About, answer: Message, rank: usize, now: Micros) {
        if self.owed.len() < MAX_OWED && !self.owed.iter().any(|owed| owed.about == about) {
            self.owed.push_back(Owed { at: now + ANSWER_STEP * rank as u64, about, answer });
        }
    }

    /// Somebody else gave the answer to whatever this is about.
    pub fn on_answered(&mut self, is_about: impl Fn(&About) -> bool) {
        self.owed.retain(|owed| !is_about(&owed.about));
        for waiting in &mut self.waiting {
            if let Some(tagged) = waiting.wanted.tagged() {
                waiting.is_answered |= is_about(&About::Tag(tagged.tag));
            }
        }
    }

    /// Somebody else answered an untagged write, or read, before it was learned here.
    pub fn on_answered_untagged(&mut self, entry: &Entry) {
        let is_open = |waiting: &&mut Waiting| !waiting.is_answered && waiting.wanted.is_done_by(entry);
        if let Some(waiting) = self.waiting.iter_mut().find(is_open) {
            waiting.is_answered = true;
        }
    }

    /// Gives the answers that are due, passes on the requests that nobody took up (unless this node
    /// `leads`), and forgets those that waited too long.
    pub fn tick(&mut self, leads: bool, now: Micros, out: &mut Outbox) -> Vec<Message> {
        let (due, later) = self.owed.drain(..).partition(|owed| now >= owed.at);
        self.owed = later;
        let due: VecDeque<Owed> = due;
        self.waiting.retain(|waiting| now.since(waiting.since) < PATIENCE);
        self.bytes = self.waiting.iter().map(|waiting| waiting.wanted.len()).sum();
        if !leads {
            for waiting in self.waiting.iter_mut().filter(|waiting| now >= waiting.relay_at) {
                waiting.relay_at = now + self.timing.timeout() * 2;
                relay(&waiting.wanted, out);
            }
        }
        due.into_iter().map(|owed| owed.answer).collect()
    }

    /// When the next answer or relay is due.
    pub fn deadline(&self, leads: bool) -> Option<Micros> {
        let relays = self.waiting.iter().filter(|_| !leads).map(|waiting| waiting.relay_at);
        self.owed.iter().map(|owed| owed.at).chain(relays).min()
    }
}

fn relay(wanted: &Wanted, out: &mut Outbox) {
    match wanted.clone() {
        Wanted::Write(value) => out.send(Message::Relay { value: Some(value) }),
        Wanted::Read => out.send(Message::Relay { value: None }),
        Wanted::Tagged(tagged, value) => out.send_line(Line::Client(Request::Submit(tagged, value))),
        Wanted::TaggedRead(tagged) => out.send_line(Line::Client(Request::TaggedRead(tagged))),
    }
}
