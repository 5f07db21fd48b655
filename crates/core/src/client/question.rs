//! One request of a client: its form on the wire, and the answers that belong to it.

use super::outcome::Outcome;
use crate::entry::SAFE_READ;
use crate::types::{Change, FIRST_FAST, Instance, Tag, Tagged, Value};
use crate::wire::{Dialect, Line, Message, Request};

/// A request, with the sequence number that makes every retry the same request.
#[derive(Debug)]
pub(super) enum Question {
    Write { seq: u64, value: Value },
    Read { seq: u64 },
    FastRead { seq: u64 },
    Query { seq: u64, text: Value },
    FastQuery { seq: u64, text: Value },
    History(Instance),
    Change { seq: u64, change: Change },
    Members,
}

impl Question {
    /// The sequence number; `None` for requests that change nothing.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Question::Write { seq, .. }
            | Question::Read { seq }
            | Question::FastRead { seq }
            | Question::Query { seq, .. }
            | Question::FastQuery { seq, .. }
            | Question::Change { seq, .. } => Some(*seq),
            Question::History(_) | Question::Members => None,
        }
    }

    /// The sequence number, if it may stand in the log.
    pub fn logged(&self) -> Option<u64> {
        self.seq().filter(|seq| *seq < FIRST_FAST)
    }

    /// Turns a fast read into a safe read with the number `seq`. Returns false for any other request.
    pub fn make_safe(&mut self, seq: u64) -> bool {
        *self = match self {
            Question::FastRead { .. } => Question::Read { seq },
            Question::FastQuery { text, .. } => Question::Query { seq, text: text.clone() },
            _ => return false,
        };
        true
    }

    /// Moves the request to a new session, under another number.
    pub fn renumber(&mut self, new: u64) {
        match self {
            Question::Write { seq, .. }
            | Question::Read { seq }
            | Question::FastRead { seq }
            | Question::Query { seq, .. }
            | Question::FastQuery { seq, .. }
            | Question::Change { seq, .. } => *seq = new,
            Question::History(_) | Question::Members => {}
        }
    }

    /// The line to send.
    pub fn line(&self, client: u64, floor: u64, dialect: Dialect) -> Line {
        let tagged = |seq| Tagged { tag: Tag { client, seq }, floor };
        Line::Client(match (self, dialect) {
            (Question::Write { value, .. }, Dialect::Classic) => Request::Write(value.clone()),
            (Question::Read { .. } | Question::FastRead { .. }, Dialect::Classic) => Request::Read,
            (Question::Write { seq, value }, Dialect::Extended) => {
                Request::Submit(tagged(*seq), value.clone())
            }
            (Question::Read { seq }, Dialect::Extended) => Request::TaggedRead(tagged(*seq)),
            (Question::FastRead { seq }, Dialect::Extended) => Request::FastRead(tagged(*seq)),
            (Question::Query { seq, text }, _) => Request::Query(tagged(*seq), text.clone()),
            (Question::FastQuery { seq, text }, _) => Request::FastQuery(tagged(*seq), text.clone()),
            (Question::History(instance), _) => Request::History(*instance),
            (Question::Change { seq, change }, _) => Request::Change(Some(tagged(*seq)), *change),
            (Question::Members, _) => Request::Members,
        })
    }

    /// Whether this is a write.
    pub fn is_write(&self) -> bool {
        matches!(self, Question::Write { .. })
    }

    /// Whether `OK instance chosen` answers this request, as far as the words can show.
    pub fn is_in_words(&self, instance: Instance, chosen: &Value) -> bool {
        match self {
            Question::Write { value, .. } => value == chosen,
            Question::Read { .. } | Question::FastRead { .. } => {
                let of_nothing = SAFE_READ.trim_end().as_bytes();
                chosen.as_bytes().starts_with(SAFE_READ.as_bytes()) || chosen.as_bytes() == of_nothing
            }
            Question::History(asked) => *asked == instance,
            Question::Query { .. }
            | Question::FastQuery { .. }
            | Question::Change { .. }
            | Question::Members => false,
        }
    }

    /// The outcome, if the message answers this request.
    pub fn answered_by(&self, us: u64, message: &Message) -> Option<Outcome> {
        use Message as M;
        match (self, message) {
            (Question::Write { seq, value }, M::Done { first, last, client, seq: first_seq })
                if *client == us =>
            {
                let place = seq.checked_sub(*first_seq)?;
                let instance = Instance(first.0.checked_add(place)?);
                (instance <= *last).then(|| Outcome::Chosen { instance, value: value.clone() })
            }
            (Question::Change { seq, change }, M::Done { first, last, client, seq: first_seq })
                if *client == us =>
            {
                let instance = Instance(first.0.checked_add(seq.checked_sub(*first_seq)?)?);
                let value = Value::from(change.to_string().as_str());
                (instance <= *last).then_some(Outcome::Chosen { instance, value })
            }
            (Question::Members, M::Members { epoch, learned, members }) => {
                Some(Outcome::Members { epoch: *epoch, learned: *learned, members: members.clone() })
            }
            // A fast read that took too long becomes a safe read.
            (
                Question::Read { seq }
                | Question::FastRead { seq }
                | Question::Query { seq, .. }
                | Question::FastQuery { seq, .. },
                M::Answer { instance, client, seq: answered, value },
            ) if *client == us && answered == seq => {
                Some(Outcome::Chosen { instance: *instance, value: value.clone() })
            }
            (Question::FastRead { seq }, M::Value { instance, learned, client, seq: answered, value })
                if *client == us && answered == seq =>
            {
                let (instance, learned) = (*instance, *learned);
                Some(Outcome::Read { instance, learned, value: value.clone() })
            }
            (Question::FastQuery { seq, .. }, M::Reply { learned, client, seq: answered, value })
                if *client == us && answered == seq =>
            {
                Some(Outcome::Replied { learned: *learned, value: value.clone() })
            }
            (_, M::Unknown { client, seq }) if *client == us && self.seq() == Some(*seq) => {
                Some(Outcome::Forgotten)
            }
            (_, M::Refused { client, seq, reason }) if *client == us && self.seq() == Some(*seq) => {
                Some(Outcome::Refused { reason: reason.clone() })
            }
            // Chosen values never change, so an answer to another client serves as well.
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
