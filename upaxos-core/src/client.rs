//! A client of the group, as data in and data out: what to send, when to send it again, and what an
//! answer means.
//!
//! Owns the tags that make a request the same request on every retry, and the floor that lets the
//! group forget them. It never reads a clock, never sends, and never prints: `upaxos-send --wait`
//! and `upaxos-repl` do that around it. Writes and safe reads are exactly once; history is a
//! question that changes nothing and is simply asked again.

use std::collections::BTreeMap;

use crate::types::{Instance, MAX_NUMBER, Micros, Tag, Tagged, Value};
use crate::wire::{self, Dialect, Line, Message, Request};

mod report;
mod status;
mod view;

pub use report::request_json;
pub use status::Status;
pub use view::View;

/// How long the first answer may take before the request is sent again: many round trips and syncs,
/// yet not noticed by people. Each wait after it is twice the one before, up to [`LONGEST_WAIT`].
pub const FIRST_WAIT: Micros = Micros::from_millis(100);
/// The longest wait between two sendings of a request: shorter than people's patience with a group
/// that has just come back.
pub const LONGEST_WAIT: Micros = Micros::from_millis(1_600);

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `Request 0 V`: write V, exactly once.
    Write(Value),
    /// `Request 0`: the last value written.
    Read,
    /// `Request I`: what was chosen at I.
    History(Instance),
}

/// Why a line is nothing that a client may ask and wait for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The line is not a request at all.
    #[error("expected `Request 0 VALUE`, `Request 0` or `Request I`, not {0:?}")]
    NotARequest(String),
    /// The request names an instance and a value.
    #[error(
        "nobody chooses the instance of a write: `Request 0 VALUE` writes, `Request {0}` asks for instance {0}"
    )]
    Misplaced(Instance),
    /// The value is too large.
    #[error("{0}")]
    TooLarge(String),
}

impl Ask {
    /// Understands a request as it stands on the wire; the value is everything behind `Request 0 `,
    /// newlines included.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn parse(line: &[u8]) -> Result<Ask, AskError> {
        let request = match wire::parse_line(line, Dialect::Extended) {
            Ok(Line::Client(request)) => request,
            _ => return Err(AskError::not_a_request(line)),
        };
        match request {
            Request::Write(value) => Ask::write(value),
            Request::Read => Ok(Ask::Read),
            Request::History(instance) => Ok(Ask::History(instance)),
            Request::Misplaced(instance, _) => Err(AskError::Misplaced(instance)),
            _ => Err(AskError::not_a_request(line)),
        }
    }

    /// The write of a value, if it is not too large.
    ///
    /// # Errors
    /// [`AskError::TooLarge`], with the sizes.
    pub fn write(value: Value) -> Result<Ask, AskError> {
        match wire::value_refusal(value.as_bytes()) {
            Some(why) => Err(AskError::TooLarge(why)),
            None => Ok(Ask::Write(value)),
        }
    }
}

impl AskError {
    fn not_a_request(line: &[u8]) -> AskError {
        const SHOWN: usize = 60;
        AskError::NotARequest(String::from_utf8_lossy(&line[..line.len().min(SHOWN)]).into_owned())
    }
}

/// A question of this client, from the asking to its settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `OK I V`: V is chosen at I.
    Chosen {
        /// Where.
        instance: Instance,
        /// What: for a safe read, what was read.
        value: Value,
    },
    /// `NotYet I L`: who answered has learned up to L, and I is not among it.
    NotYet {
        /// What was asked for.
        instance: Instance,
        /// The learned prefix of who answered.
        learned: Instance,
    },
    /// The group does not carry the request out.
    Refused {
        /// Why, in the node's words.
        reason: Value,
    },
    /// No answer in time. A write may have been chosen, and may still be.
    Unknown,
}

/// A question that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which one.
    pub ticket: Ticket,
    /// How.
    pub outcome: Outcome,
    /// How long it took since it was asked.
    pub took: Micros,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be sent to the group.
    pub send: Vec<Line>,
    /// Questions whose patience has ended.
    pub settled: Vec<Settled>,
}

/// The questions of one client that are under way.
#[derive(Debug)]
pub struct Client {
    id: u64,
    next_seq: u64,
    next_ticket: u64,
    open: BTreeMap<Ticket, Open>,
}

#[derive(Debug)]
struct Open {
    question: Question,
    asked: Micros,
    give_up_at: Micros,
    send_at: Micros,
    wait: Micros,
}

#[derive(Debug)]
enum Question {
    Write { seq: u64, value: Value },
    Read { seq: u64 },
    History(Instance),
}

impl Question {
    fn seq(&self) -> Option<u64> {
        match self {
            Question::Write { seq, .. } | Question::Read { seq } => Some(*seq),
            Question::History(_) => None,
        }
    }
}

impl Client {
    /// A client that calls itself `id`: a random number, new for each run of the program, because
    /// sequence numbers start again at 1. One bit of it is not used.
    pub fn new(id: u64) -> Client {
        Client { id: id & MAX_NUMBER, next_seq: 1, next_ticket: 1, open: BTreeMap::new() }
    }

    /// Asks, to be sent at the next [`tick`](Self::tick) and given up after `patience`.
    pub fn ask(&mut self, ask: Ask, now: Micros, patience: Micros) -> Ticket {
        let question = match ask {
            Ask::Write(value) => Question::Write { seq: self.take_seq(), value },
            Ask::Read => Question::Read { seq: self.take_seq() },
            Ask::History(instance) => Question::History(instance),
        };
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let open = Open { question, asked: now, give_up_at: now + patience, send_at: now, wait: FIRST_WAIT };
        self.open.insert(ticket, open);
        ticket
    }

    fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// Does what is due at `now`: sends what is new or unanswered, gives up what took too long.
    pub fn tick(&mut self, now: Micros) -> Turn {
        let late = self.settle(now, |open| (now >= open.give_up_at).then_some(Outcome::Unknown));
        let mut turn = Turn { settled: late, send: Vec::new() };
        let (client, floor) = (self.id, self.floor());
        for open in self.open.values_mut().filter(|open| now >= open.send_at) {
            turn.send.push(open.question.line(client, floor));
            open.send_at = now + open.wait;
            open.wait = (open.wait * 2).min(LONGEST_WAIT);
        }
        turn
    }

    /// When [`tick`](Self::tick) has something to do next; `None` when nothing is under way.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.open.values().map(|open| open.send_at.min(open.give_up_at)).min()
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Hears what a node said; hands out the questions that it settles.
    pub fn on_message(&mut self, message: &Message, now: Micros) -> Vec<Settled> {
        let client = self.id;
        self.settle(now, |open| open.question.answered_by(client, message))
    }

    /// The lowest sequence number that may still be sent again; all below are settled, one way or
    /// another.
    fn floor(&self) -> u64 {
        self.open.values().filter_map(|open| open.question.seq()).min().unwrap_or(self.next_seq)
    }

    fn settle(&mut self, now: Micros, outcome: impl Fn(&Open) -> Option<Outcome>) -> Vec<Settled> {
        let ended = |(ticket, open): (&Ticket, &Open)| {
            let took = now.since(open.asked);
            outcome(open).map(|outcome| Settled { ticket: *ticket, outcome, took })
        };
        let settled: Vec<Settled> = self.open.iter().filter_map(ended).collect();
        for Settled { ticket, .. } in &settled {
            self.open.remove(ticket);
        }
        settled
    }
}

impl Question {
    fn line(&self, client: u64, floor: u64) -> Line {
        let tagged = |seq| Tagged { tag: Tag { client, seq }, floor };
        Line::Client(match self {
            Question::Write { seq, value } => Request::Submit(tagged(*seq), value.clone()),
            Question::Read { seq } => Request::TaggedRead(tagged(*seq)),
            Question::History(instance) => Request::History(*instance),
        })
    }

    fn answered_by(&self, us: u64, message: &Message) -> Option<Outcome> {
        use Message as M;
        match (self, message) {
            (Question::Write { seq, value }, M::Done { first, last, client, seq: first_seq })
                if *client == us =>
            {
                let place = seq.checked_sub(*first_seq)?;
                let instance = Instance(first.0.checked_add(place)?);
                (instance <= *last).then(|| Outcome::Chosen { instance, value: value.clone() })
            }
            (Question::Read { seq }, M::Answer { instance, client, seq: answered, value })
                if *client == us && answered == seq =>
            {
                Some(Outcome::Chosen { instance: *instance, value: value.clone() })
            }
            (_, M::Refused { client, seq, reason }) if *client == us && self.seq() == Some(*seq) => {
                Some(Outcome::Refused { reason: reason.clone() })
            }
            // Chosen values never change, so an answer to somebody else serves as well.
            (Question::History(asked), M::Ok { instance, value }) if asked == instance => {
                Some(Outcome::Chosen { instance: *instance, value: value.clone() })
            }
            (Question::History(asked), M::NotYet { instance, learned }) if asked == instance => {
                Some(Outcome::NotYet { instance: *instance, learned: *learned })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
