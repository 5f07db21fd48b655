//! A client of the group, as data in and data out: what to send, when to retransmit it, and what an answer means.
//!
//! This module owns the tags that make every retry the same request, and the floor that lets the group forget them.
//! It never reads a clock, never sends, and never prints: `upaxos-send --wait` and `upaxos-repl` do that around it.
//! Writes and reads are exactly once. A history request changes nothing, so it is simply repeated. A classic group
//! has no tags. There, a write is sent once, and an answer is recognised by its words and by the round that chose
//! them, which must have begun after the request was sent ([`Rounds`]). A late answer, or an answer to another
//! client, does not count.

use std::collections::{BTreeMap, BTreeSet};

use crate::rounds::Rounds;
use crate::types::{Change, FIRST_FAST, Instance, MAX_NUMBER, Micros, NodeId, Tag, Value};
use crate::wire::{self, Dialect, Line, Message, Packer, Request};

mod outcome;
mod pace;
mod question;
mod report;
mod scope;
mod status;
mod view;

pub use outcome::Outcome;
use pace::{Chance, Pace};
pub use pace::{FIRST_WAIT, LONGEST_WAIT};
use question::Question;
pub use report::FORGOTTEN;
pub use scope::{Scope, called};
pub use status::Status;
pub use view::{CLASSIC, View};

/// The distance between the bound that a node names and the first number of a new session: the bound may rise
/// before the request is chosen.
const BEGIN_ABOVE: u64 = 1 << 10;

/// The maximum number of remembered instances of a classic group that have answered a write. No instance answers
/// two writes.
const MAX_TOLD: usize = 4_096;

/// The requests that a client may make and wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `Request 0 V`: write V, exactly once.
    Write(Value),
    /// `Request 0`: a safe read of the last value written.
    Read,
    /// A read of the last value written, without an instance if possible.
    FastRead,
    /// `Request I`: the value chosen at I.
    History(Instance),
    /// `query TEXT`: the answer of a script to TEXT, as a safe read.
    Query(Value),
    /// A query without an instance, if possible.
    FastQuery(Value),
    /// `leave T`, `replace T U`: change the group, exactly once.
    Change(Change),
    /// `members`: the members of the group.
    Members,
}

/// The reason why a line is no request that a client can wait for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The line is no request; this is the line, shortened.
    #[error(
        "expected `Request 0 VALUE`, `Request 0`, `Request I`, `query TEXT`, `members`, \
         `leave ID [force]` or `replace ID NEW [force]`, not {0:?}"
    )]
    NotARequest(String),
    /// The request names an instance and a value.
    #[error(
        "a write cannot choose its instance: `Request 0 VALUE` writes, `Request {0}` asks for instance {0}"
    )]
    Misplaced(Instance),
    /// The value is too large; the text names the sizes.
    #[error("{0}")]
    TooLarge(String),
    /// A classic group would read the second line of the value as a message.
    #[error("the classic grammar cannot carry a value with a newline")]
    NotClassic,
    /// The classic grammar has no words for changes of the group.
    #[error("a classic group never changes, and cannot say who its members are")]
    NoGroupInClassic,
    /// Classic nodes split on white space: a write of nothing else would be a read.
    #[error(
        "the classic grammar cannot carry a value that has nothing but white space: that would be a read"
    )]
    BlankInClassic,
    /// A classic group runs no scripts.
    #[error("a classic group runs no scripts that could answer")]
    NoScriptsInClassic,
    /// Instances are counted from 1, so instance 0 does not exist.
    #[error("instances are counted from 1, so there is nothing at 0")]
    NoInstance,
}

impl Ask {
    /// Parses a request as it stands on the wire. The value is everything behind `Request 0 `, newlines included.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn parse(line: &[u8]) -> Result<Ask, AskError> {
        if let Some(question) = line.strip_prefix(b"query ") {
            return Ask::query(question.into());
        }
        let request = match wire::parse_line(line, Dialect::Extended) {
            Ok(Line::Client(request)) => request,
            _ => return Err(AskError::not_a_request(line)),
        };
        match request {
            Request::Write(value) => Ask::write(value),
            Request::Read => Ok(Ask::Read),
            Request::History(instance) => Ok(Ask::History(instance)),
            Request::Change(None, change) => Ok(Ask::Change(change)),
            Request::Members => Ok(Ask::Members),
            Request::Misplaced(instance, _) => Err(AskError::Misplaced(instance)),
            _ => Err(AskError::not_a_request(line)),
        }
    }

    /// The line that [`parse`](Self::parse) reads, without a newline behind it. Some requests have no line that
    /// could be typed. For these, a read without an instance is `fast`, a query without one is `fast query …`, and
    /// the write of an empty value is `Request 0 `, with the blank.
    pub fn to_line(&self) -> Vec<u8> {
        match self {
            Ask::Write(value) => [b"Request 0 ", value.as_bytes()].concat(),
            Ask::Read => b"Request 0".to_vec(),
            Ask::FastRead => b"fast".to_vec(),
            Ask::Query(text) => [b"query ", text.as_bytes()].concat(),
            Ask::FastQuery(text) => [b"fast query ", text.as_bytes()].concat(),
            Ask::History(instance) => format!("Request {instance}").into_bytes(),
            Ask::Change(change) => change.to_string().into_bytes(),
            Ask::Members => b"members".to_vec(),
        }
    }

    /// The same request without an instance, if it is a read or a query. Other requests stay as they are.
    pub fn fast(self) -> Ask {
        match self {
            Ask::Read => Ask::FastRead,
            Ask::Query(question) => Ask::FastQuery(question),
            other => other,
        }
    }

    /// A query to the scripts, if it is not too large.
    ///
    /// # Errors
    /// [`AskError::TooLarge`], with the sizes.
    pub fn query(question: Value) -> Result<Ask, AskError> {
        match wire::value_refusal(question.as_bytes()) {
            Some(why) => Err(AskError::TooLarge(why)),
            None => Ok(Ask::Query(question)),
        }
    }

    /// Whether a group that uses `dialect` can carry this request.
    ///
    /// # Errors
    /// [`AskError::TooLarge`], [`AskError::NoInstance`], and the limits of a classic group:
    /// [`AskError::NotClassic`], [`AskError::BlankInClassic`], [`AskError::NoGroupInClassic`],
    /// [`AskError::NoScriptsInClassic`].
    pub fn check(&self, dialect: Dialect) -> Result<(), AskError> {
        if let Ask::Write(value) | Ask::Query(value) | Ask::FastQuery(value) = self
            && let Some(why) = wire::value_refusal(value.as_bytes())
        {
            return Err(AskError::TooLarge(why));
        }
        match (self, dialect) {
            // On the wire, `Request 0` is a read.
            (Ask::History(Instance(0)), _) => Err(AskError::NoInstance),
            (Ask::Write(value), Dialect::Classic) if value.as_bytes().contains(&b'\n') => {
                Err(AskError::NotClassic)
            }
            (Ask::Write(value), Dialect::Classic) if wire::joined_words(value.as_bytes()).is_empty() => {
                Err(AskError::BlankInClassic)
            }
            (Ask::Change(_) | Ask::Members, Dialect::Classic) => Err(AskError::NoGroupInClassic),
            (Ask::Query(_) | Ask::FastQuery(_), Dialect::Classic) => Err(AskError::NoScriptsInClassic),
            _ => Ok(()),
        }
    }

    /// A write of a value, if it is not too large.
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

/// Identifies one request of this client, from [`Client::ask`] until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A request that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The request, as [`Client::ask`] returned it.
    pub ticket: RequestId,
    /// The tag under which it was sent last; `None` for requests without effect, and in a classic group.
    pub tag: Option<Tag>,
    /// The answer of the group, or the reason why there is none.
    pub outcome: Outcome,
    /// The time since [`Client::ask`].
    pub took: Micros,
}

/// The actions that are due now.
#[derive(Debug, Default)]
pub struct Actions {
    /// The lines to send to the group, in order.
    pub send: Vec<Line>,
    /// The requests that have ended without an answer.
    pub settled: Vec<Settled>,
}

/// The pending requests of one client.
#[derive(Debug)]
pub struct Client {
    id: u64,
    dialect: Dialect,
    scope: Scope,
    next_seq: u64,
    next_ticket: u64,
    /// Fast reads have numbers of their own, because the log bounds the numbers of logged requests.
    next_fast: u64,
    chance: Chance,
    open: BTreeMap<RequestId, Open>,
    /// For classic groups: the observed rounds, the number of requests sent, and the instances that answered writes
    /// of this client.
    rounds: Rounds,
    sent: u64,
    told: BTreeSet<Instance>,
}

#[derive(Debug)]
struct Open {
    question: Question,
    asked: Micros,
    give_up_at: Micros,
    pace: Pace,
}

impl Client {
    /// A client with the name `id`, in a group that uses `dialect`. `id` must be random, new for each run of the
    /// program, because sequence numbers start again at 1. Its highest bit is not used.
    pub fn new(id: u64, dialect: Dialect) -> Client {
        Client {
            id: id & MAX_NUMBER,
            dialect,
            scope: Scope::any(dialect),
            next_seq: 1,
            next_ticket: 1,
            next_fast: FIRST_FAST,
            chance: Chance(id),
            open: BTreeMap::new(),
            rounds: Rounds::new(None),
            sent: 0,
            told: BTreeSet::new(),
        }
    }

    /// Restricts the client to one group.
    #[must_use]
    pub fn within(self, scope: Scope) -> Client {
        Client { scope, ..self }
    }

    /// Switches the client to another group, from now on.
    pub fn move_to(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// The explanation for a request without an answer, from the messages received so far.
    pub fn explain_silence(&self, view: &View, now: Micros) -> String {
        self.scope.explain_silence(view, now)
    }

    /// The group that the client uses.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The grammar of the group.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Queues a request. The next [`tick`](Self::tick) sends it. It times out after `patience`.
    ///
    /// # Errors
    /// As [`Ask::check`].
    pub fn ask(&mut self, ask: Ask, now: Micros, patience: Micros) -> Result<RequestId, AskError> {
        ask.check(self.dialect)?;
        let question = match ask {
            Ask::Write(value) => {
                let seq = self.take_seq();
                let value = match self.dialect {
                    Dialect::Extended => value,
                    // Classic nodes read and answer the value in this form.
                    Dialect::Classic => Value::from(wire::joined_words(value.as_bytes())),
                };
                Question::Write { seq, value }
            }
            Ask::Read => Question::Read { seq: self.take_seq() },
            Ask::FastRead => Question::FastRead { seq: self.take_fast() },
            Ask::Query(text) => Question::Query { seq: self.take_seq(), text },
            Ask::FastQuery(text) => Question::FastQuery { seq: self.take_fast(), text },
            Ask::History(instance) => Question::History(instance),
            Ask::Change(change) => Question::Change { seq: self.take_seq(), change },
            Ask::Members => Question::Members,
        };
        let ticket = RequestId(self.next_ticket);
        self.next_ticket += 1;
        let give_up_at = now + patience;
        let open = Open { question, asked: now, give_up_at, pace: Pace::new(now) };
        self.open.insert(ticket, open);
        Ok(ticket)
    }

    fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    fn take_fast(&mut self) -> u64 {
        self.next_fast += 1;
        self.next_fast - 1
    }

    /// Performs the actions that are due at `now`: sends new and unanswered requests, and ends those that timed
    /// out.
    pub fn tick(&mut self, now: Micros) -> Actions {
        let is_late = |open: &Open| now >= open.give_up_at;
        let refusal = self.scope.refusal().map(Value::from);
        let silence = self.open.values().any(is_late).then(|| self.scope.explain_unsent(now)).flatten();
        let silence = silence.map(|why| Value::from(why.as_str()));
        let late = self.settle(now, |open| {
            // A request that was never sent was not carried out.
            let reason = refusal.as_ref().or(silence.as_ref().filter(|_| is_late(open)));
            match reason {
                Some(reason) if open.pace.sent == 0 => Some(Outcome::Refused { reason: reason.clone() }),
                _ => is_late(open).then_some(Outcome::Unknown),
            }
        });
        let mut turn = Actions { settled: late, send: Vec::new() };
        if !self.scope.is_open(now) {
            let asks = !self.open.is_empty() && self.scope.asks(now);
            turn.send.extend(asks.then_some(Line::Client(Request::Members)));
            return turn;
        }
        let (client, floor, dialect) = (self.id, self.floor(), self.dialect);
        for (ticket, open) in self.open.iter_mut().filter(|(_, open)| now >= open.pace.send_at) {
            self.scope.begin();
            self.sent = self.sent.max(ticket.0);
            turn.send.push(open.question.line(client, floor, dialect));
            open.pace.on_sent(now);
            if dialect == Dialect::Classic && open.question.seq().is_some() {
                // Without a tag, a retransmission would be another write.
                open.pace.send_at = open.give_up_at;
            }
        }
        turn
    }

    /// The time when [`tick`](Self::tick) has something to do next; `None` when no request is pending.
    pub fn next_deadline(&self, now: Micros) -> Option<Micros> {
        let opens = self.scope.deadline(now);
        let due = self.open.values().map(|open| opens.unwrap_or(open.pace.send_at).min(open.give_up_at));
        due.min()
    }

    /// Whether no request is pending.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Handles a message of a node. Returns the requests that it settles.
    pub fn on_message(&mut self, from: NodeId, message: &Message, now: Micros) -> Vec<Settled> {
        if self.dialect == Dialect::Classic {
            return self.on_classic(from, message, now);
        }
        let client = self.id;
        match *message {
            Message::Forgotten { client: named, seq, begin } if named == client => {
                self.on_forgotten(seq, begin, now)
            }
            Message::Busy { client: named, seq, pause } if named == client => {
                self.on_busy(seq, pause, now);
                Vec::new()
            }
            // Nothing was sent yet. There may be two groups, and both may announce their members.
            _ if !self.scope.is_open(now) => Vec::new(),
            _ => self.settle(now, |open| open.question.answered_by(client, message)),
        }
    }

    /// The group does not know this client, and carries out none of its requests up to `begin` from here on. A
    /// request that was sent only once was not carried out either: the group would not have forgotten it before the
    /// answer. It is sent again in a new session. A request that was sent several times may have been carried out
    /// the first time, long ago.
    fn on_forgotten(&mut self, seq: u64, begin: u64, now: Micros) -> Vec<Settled> {
        if seq > begin || !self.open.values().any(|open| open.question.logged() == Some(seq)) {
            return Vec::new();
        }
        let is_old = |open: &Open| open.question.logged().is_some_and(|seq| seq <= begin);
        let settled = self.settle(now, |open| {
            let may_be_done = is_old(open) && open.pace.sent > 1;
            may_be_done.then_some(Outcome::Forgotten)
        });
        self.next_seq = self.next_seq.max(begin.saturating_add(1 + BEGIN_ABOVE));
        for open in self.open.values_mut().filter(|open| is_old(open)) {
            open.question.renumber(self.next_seq);
            self.next_seq += 1;
            open.pace = Pace::new(now);
        }
        settled
    }

    /// The group has no room for a request now. The client sends the same request later. A fast read becomes a safe
    /// read, because there was no answer without an instance.
    fn on_busy(&mut self, seq: u64, pause: u64, now: Micros) {
        let open = self.open.values_mut().find(|open| open.question.seq() == Some(seq));
        let Some(open) = open.filter(|open| open.pace.sent > 0) else { return };
        let pause = Micros(pause.saturating_mul(1_000));
        if open.question.make_safe(self.next_seq) {
            self.next_seq += 1;
            open.pace = Pace::new(now + pause.min(LONGEST_WAIT));
        } else {
            open.pace.on_busy(pause, &mut self.chance, now);
        }
    }

    /// Packs lines into datagrams of at most `limit` bytes, unless a single line is longer; for a classic group,
    /// one line each.
    pub fn pack(&self, lines: &[Line], limit: usize) -> Vec<Vec<u8>> {
        let mut packer = Packer::new(self.dialect, limit);
        packer.set_head(self.scope.head());
        lines.iter().for_each(|line| packer.push(line));
        packer.finish()
    }

    /// The messages of nodes of this client's group in a datagram.
    pub fn hear(&mut self, datagram: &[u8], now: Micros) -> Vec<(NodeId, Message)> {
        let lines = self.scope.hear(datagram, now).into_iter().flatten();
        let said = lines.filter_map(|line| match line {
            Ok(Line::Node(from, message)) => Some((from, message)),
            _ => None,
        });
        said.collect()
    }

    /// Handles a datagram of the group, and shows its messages to the view. Returns the requests that it settles.
    pub fn on_datagram(&mut self, datagram: &[u8], view: &mut View, now: Micros) -> Vec<Settled> {
        let mut settled = Vec::new();
        for (from, message) in self.hear(datagram, now) {
            view.on_message(from, &message, now);
            settled.extend(self.on_message(from, &message, now));
        }
        settled
    }

    /// Handles an untagged answer. It settles one request, the oldest that it fits. It fits a write or a read only
    /// if the round that chose the value began after the request was sent. Chosen values never change, so an answer
    /// to a history request may be old.
    fn on_classic(&mut self, from: NodeId, message: &Message, now: Micros) -> Vec<Settled> {
        self.rounds.observe(from, message, self.sent);
        let Message::Ok { instance, value } = message else { return Vec::new() };
        let since = RequestId(self.rounds.since(*instance, value));
        let is_answered = |ticket: &RequestId, open: &Open| match open.question {
            Question::History(_) => true,
            Question::Write { .. } => *ticket <= since && !self.told.contains(instance),
            _ => *ticket <= since,
        };
        let fits = |(ticket, open): &(&RequestId, &Open)| {
            open.question.is_in_words(*instance, value) && is_answered(ticket, open)
        };
        let first = self.open.iter().find(fits).map(|(ticket, _)| *ticket);
        if first.and_then(|ticket| self.open.get(&ticket)).is_some_and(|open| open.question.is_write()) {
            self.told.insert(*instance);
            if self.told.len() > MAX_TOLD {
                self.told.pop_first();
            }
        }
        let chosen = Outcome::Chosen { instance: *instance, value: value.clone() };
        let open = first.and_then(|ticket| Some((ticket, self.open.remove(&ticket)?)));
        let settled = |(ticket, open): (RequestId, Open)| Settled {
            ticket,
            tag: None,
            outcome: chosen,
            took: now.since(open.asked),
        };
        open.map(settled).into_iter().collect()
    }

    /// The lowest sequence number that may still be sent again. All requests below it are settled.
    fn floor(&self) -> u64 {
        self.open.values().filter_map(|open| open.question.logged()).min().unwrap_or(self.next_seq)
    }

    fn settle(&mut self, now: Micros, outcome: impl Fn(&Open) -> Option<Outcome>) -> Vec<Settled> {
        let (client, dialect) = (self.id, self.dialect);
        let ended = |(ticket, open): (&RequestId, &Open)| {
            let took = now.since(open.asked);
            let seq = open.question.seq().filter(|_| dialect == Dialect::Extended);
            let tag = seq.map(|seq| Tag { client, seq });
            outcome(open).map(|outcome| Settled { ticket: *ticket, tag, outcome, took })
        };
        let settled: Vec<Settled> = self.open.iter().filter_map(ended).collect();
        for Settled { ticket, .. } in &settled {
            self.open.remove(ticket);
        }
        settled
    }
}

#[cfg(test)]
mod tests;
