//! All clients of the load together: the next requests, the answered ones, and the late ones.

use std::ops::Range;

use upaxos_core::entry::SAFE_READ;
use upaxos_core::replica::Limits;
use upaxos_core::types::{Instance, Value};
use upaxos_core::wire::Message;

use super::acks::{Acks, Run};
use super::packing::{self, Packing};
use super::session::{Answered, MOST_OPEN, Session};
use crate::bench::run_config::Reads;

/// How long, in nanoseconds, a request waits at least and at most before it is retransmitted: as with other clients
/// of the group.
const FIRST_WAIT: u64 = upaxos_core::client::FIRST_WAIT.0 * 1_000;
const LONGEST_WAIT: u64 = upaxos_core::client::LONGEST_WAIT.0 * 1_000;

/// About how many requests are retransmitted at once: many real clients would not retransmit in the same moment.
const MOST_AGAIN: u64 = 512;

/// The kind of the load's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Writes of numbered values.
    Writes,
    /// Reads of values that were written before.
    Reads(Reads),
}

/// The meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A group of requests with the same start time is done.
    Ok {
        /// When they were requested, in nanoseconds since the load began.
        asked: u64,
        /// The number of these requests.
        count: u64,
    },
    /// The group refused a request.
    Refused,
}

/// All sessions of the load, with their acknowledgements.
#[derive(Debug)]
pub struct ClientPool {
    first_client: u64,
    sessions: Vec<Session>,
    /// The session whose turn it is to send, and the one whose turn it is to retransmit.
    turn: usize,
    turn_again: usize,
    open: usize,
    /// The number of requests that the group knows nothing of. Their outcome stays unknown.
    given_up: usize,
    acks: Acks,
    /// The range of instances that history queries ask for.
    past: (u64, u64),
    /// The mean latency, lately, in nanoseconds.
    usual: u64,
    /// The current exponent of the retransmission backoff.
    patience: u32,
    /// The number of reads that did not return the last value written.
    stale: u64,
    /// The last value written before the reads.
    last_written: Option<Vec<u8>>,
}

impl ClientPool {
    /// Makes `clients` sessions, or more where this many `outstanding` requests need more. Their ids start at
    /// `first_client`.
    pub fn new(first_client: u64, clients: usize, outstanding: usize) -> ClientPool {
        let clients = clients.max(outstanding.div_ceil(MOST_OPEN / 2)).max(1);
        let most = outstanding.div_ceil(clients);
        // Nodes remember the answered numbers between the lowest open and the highest. They remember this many in
        // all.
        let share = Limits::USUAL.tags / clients;
        let session = |at| Session::new(first_client + at as u64, most, share);
        ClientPool {
            first_client,
            sessions: (0..clients).map(session).collect(),
            turn: 0,
            turn_again: 0,
            open: 0,
            given_up: 0,
            acks: Acks::default(),
            past: (1, 1),
            usual: 0,
            patience: 0,
            stale: 0,
            last_written: None,
        }
    }

    /// The number of requests in flight.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The number of requests without an answer: those in flight, and those that were given up.
    pub fn unanswered(&self) -> u64 {
        (self.open + self.given_up) as u64
    }

    /// The acknowledgements so far.
    pub fn acks(&self) -> &Acks {
        &self.acks
    }

    /// The id of the first client. The others follow.
    pub fn first_client(&self) -> u64 {
        self.first_client
    }

    /// The number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The number of reads that did not return the last value written.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// From now on history queries ask for the instances acknowledged so far, whose values have `size` bytes.
    pub fn remember_past(&mut self, size: usize) {
        self.past = self.acks.span().unwrap_or((1, 1));
        self.last_written = self.acks.last().map(|seq| {
            let mut value = packing::filling(size);
            packing::value_of(seq, &mut value);
            value
        });
    }

    /// Packs up to `count` new requests, session by session, as far as rings have room. Returns how many.
    pub fn ask(&mut self, asks: Asks, count: usize, asked: u64, now: u64, packing: &mut Packing) -> usize {
        // Untagged requests cannot tell sessions apart.
        let sessions = if asks == Asks::Reads(Reads::History) { 1 } else { self.sessions.len() };
        let share = count.div_ceil(sessions).max(1);
        let mut left = count;
        for _ in 0..sessions {
            if left == 0 {
                break;
            }
            self.turn = if self.turn + 1 < sessions { self.turn + 1 } else { 0 };
            let session = &mut self.sessions[self.turn];
            let some = share.min(left).min(session.room());
            let seqs = session.ask(some, asked, now);
            self.pack(asks, self.turn, seqs, packing);
            left -= some;
        }
        self.open += count - left;
        count - left
    }

    fn pack(&self, asks: Asks, at: usize, seqs: Range<u64>, packing: &mut Packing) {
        let session = &self.sessions[at];
        match asks {
            Asks::Writes => packing.writes(session, seqs),
            Asks::Reads(Reads::Fast) => packing.reads(b"FastRead", session, seqs),
            Asks::Reads(Reads::Safe) => packing.reads(b"Read", session, seqs),
            Asks::Reads(Reads::History) => {
                let (low, high) = self.past;
                seqs.for_each(|seq| packing.history(low + seq % (high - low + 1)));
            }
        }
    }

    /// Retransmits late requests, about [`MOST_AGAIN`] at once, session by session. Returns how many.
    pub fn ask_again(&mut self, asks: Asks, now: u64, packing: &mut Packing) -> u64 {
        let wait = ((self.usual * 4).max(FIRST_WAIT) << self.patience).min(LONGEST_WAIT);
        let Some(before) = now.checked_sub(wait) else { return 0 };
        let mut again = 0;
        for _ in 0..self.sessions.len() {
            let at = self.turn_again;
            self.turn_again = (at + 1) % self.sessions.len();
            if !self.sessions[at].is_late(before) {
                continue;
            }
            let mut from = 0;
            while let Some(seqs) = self.sessions[at].take_late(from, before, now) {
                from = seqs.end;
                again += seqs.end - seqs.start;
                self.pack(asks, at, seqs, packing);
            }
            if again >= MOST_AGAIN {
                break;
            }
        }
        self.patience = if again > 0 { (self.patience + 1).min(4) } else { self.patience };
        again
    }

    /// Takes a node's message to clients.
    pub fn on_message(&mut self, message: &Message, now: u64, each: &mut dyn FnMut(Heard)) {
        match *message {
            Message::Done { first, last, client, seq } => {
                self.settle(client, seq, last.0 - first.0 + 1, Some(first), now, each);
            }
            Message::Answer { instance, client, seq, ref value } => {
                self.settle(client, seq, 1, Some(instance), now, &mut |heard| each(heard));
                self.check(client, SAFE_READ.as_bytes(), value);
            }
            Message::Value { client, seq, ref value, .. } => {
                self.settle(client, seq, 1, None, now, each);
                self.check(client, b"", value);
            }
            Message::Ok { instance, .. } => self.on_past(instance.0, now, each),
            Message::Refused { client, seq, .. } => {
                let mut refused = 0;
                if let Some(at) = self.place(client) {
                    self.sessions[at].on_answer(seq, 1, |_| refused += 1);
                }
                self.open -= refused;
                (0..refused).for_each(|_| each(Heard::Refused));
            }
            Message::Busy { client, seq, pause } => {
                if let Some(at) = self.place(client) {
                    let pause = pause.saturating_mul(1_000_000).min(LONGEST_WAIT);
                    self.sessions[at].put_off(seq, now + pause);
                }
            }
            Message::Unknown { client, seq } => {
                let mut given_up = 0;
                if let Some(at) = self.place(client) {
                    self.sessions[at].on_answer(seq, 1, |_| given_up += 1);
                }
                self.open -= given_up;
                self.given_up += given_up;
            }
            Message::Forgotten { client, begin, .. } => {
                if let Some(at) = self.place(client) {
                    let given_up = self.sessions[at].begin_above(begin);
                    self.open -= given_up;
                    self.given_up += given_up;
                }
            }
            _ => {}
        }
    }

    fn place(&self, client: u64) -> Option<usize> {
        let at = usize::try_from(client.checked_sub(self.first_client)?).ok()?;
        (at < self.sessions.len()).then_some(at)
    }

    fn settle(
        &mut self,
        client: u64,
        seq: u64,
        count: u64,
        first: Option<Instance>,
        now: u64,
        each: &mut dyn FnMut(Heard),
    ) {
        let Some(at) = self.place(client) else { return };
        let ClientPool { sessions, acks, open, usual, .. } = self;
        sessions[at].on_answer(seq, count, |Answered { first: from, count, asked }| {
            *open -= count as usize;
            *usual = (*usual * 7 + now.saturating_sub(asked)) / 8;
            if let Some(first) = first {
                acks.push(Run { session: at as u64, seq: from, instance: first.0 + (from - seq), count });
            }
            each(Heard::Ok { asked, count });
        });
        self.patience = 0;
    }

    /// An answer about the past settles the first session's query for that instance.
    fn on_past(&mut self, instance: u64, now: u64, each: &mut dyn FnMut(Heard)) {
        let (low, high) = self.past;
        if self.last_written.is_none() || !(low..=high).contains(&instance) {
            return;
        }
        let (span, floor) = (high - low + 1, self.sessions[0].floor());
        let ahead = (instance - low + span - floor % span) % span;
        self.settle(self.first_client, floor + ahead, 1, None, now, each);
    }

    /// No client writes while the load reads. So every read must return the same, last written value.
    fn check(&mut self, client: u64, mark: &[u8], value: &Value) {
        if let Some(last) = &self.last_written
            && self.place(client).is_some()
        {
            self.stale += u64::from(value.as_bytes().strip_prefix(mark) != Some(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn done(first: u64, last: u64, client: u64, seq: u64) -> Message {
        Message::Done { first: Instance(first), last: Instance(last), client, seq }
    }

    fn heard(crowd: &mut ClientPool, message: &Message, now: u64) -> Vec<Heard> {
        let mut all = Vec::new();
        crowd.on_message(message, now, &mut |heard| all.push(heard));
        all
    }

    #[test]
    fn every_request_counts_once_and_is_acknowledged_where_it_stands() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 2, 8), Packing::new(1_480, 16));
        assert_eq!(crowd.ask(Asks::Writes, 8, 5, 5, &mut packing), 8);
        assert_eq!(heard(&mut crowd, &done(10, 12, 50, 2), 9), [Heard::Ok { asked: 5, count: 3 }]);
        assert_eq!(heard(&mut crowd, &done(9, 12, 50, 1), 9), [Heard::Ok { asked: 5, count: 1 }]);
        assert_eq!(heard(&mut crowd, &done(1, 4, 49, 1), 9), [], "another client's");
        assert_eq!(crowd.open(), 4);
        assert_eq!(crowd.acks().span(), Some((9, 12)));
    }

    #[test]
    fn a_refusal_is_an_end_without_an_acknowledgement() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 1, 8), Packing::new(1_480, 16));
        crowd.ask(Asks::Writes, 2, 5, 5, &mut packing);
        let refused = Message::Refused { client: 50, seq: 2, reason: "busy".into() };
        assert_eq!(heard(&mut crowd, &refused, 9), [Heard::Refused]);
        assert_eq!(heard(&mut crowd, &refused, 9), [], "said twice");
        assert_eq!((crowd.open(), crowd.acks().span()), (1, None));
    }

    #[test]
    fn what_the_group_is_too_busy_for_is_asked_for_again_later() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 1, 8), Packing::new(1_480, 16));
        crowd.ask(Asks::Writes, 1, MS, MS, &mut packing);
        let busy = Message::Busy { client: 50, seq: 1, pause: 200 };
        assert_eq!(heard(&mut crowd, &busy, 50 * MS), []);
        assert_eq!((crowd.open(), crowd.unanswered()), (1, 1));
        let mut again = |now: u64| crowd.ask_again(Asks::Writes, now * MS, &mut packing);
        assert_eq!([again(300), again(351)], [0, 1], "as long as the group says, then as ever");
    }

    #[test]
    fn what_nobody_remembers_is_given_up() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 1, 8), Packing::new(1_480, 16));
        crowd.ask(Asks::Writes, 3, 5, 5, &mut packing);
        let unknown = Message::Unknown { client: 50, seq: 1 };
        assert_eq!(heard(&mut crowd, &unknown, 9), []);
        assert_eq!(heard(&mut crowd, &unknown, 9), []);
        assert_eq!((crowd.open(), crowd.unanswered()), (2, 3));
    }

    #[test]
    fn what_the_group_has_forgotten_is_never_answered() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 1, 8), Packing::new(1_480, 16));
        crowd.ask(Asks::Writes, 3, 5, 5, &mut packing);
        let forgotten = Message::Forgotten { client: 50, seq: 1, begin: 900 };
        assert_eq!(heard(&mut crowd, &forgotten, 9), []);
        assert_eq!((crowd.open(), crowd.unanswered()), (0, 3));
    }

    #[test]
    fn what_is_not_answered_is_sent_again_later_and_later() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 1, 8), Packing::new(1_480, 16));
        crowd.ask(Asks::Writes, 3, MS, MS, &mut packing);
        let mut again = |now: u64| crowd.ask_again(Asks::Writes, now * MS, &mut packing);
        assert_eq!([again(50), again(102), again(150), again(290), again(310)], [0, 3, 0, 0, 3]);
    }

    #[test]
    fn a_read_that_misses_the_last_value_written_is_noticed() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 1, 8), Packing::new(1_480, 4));
        crowd.ask(Asks::Writes, 2, 1, 1, &mut packing);
        heard(&mut crowd, &done(7, 8, 50, 1), 2);
        crowd.remember_past(4);
        crowd.ask(Asks::Reads(Reads::Safe), 3, 3, 3, &mut packing);
        let answer = |seq, value: &str| Message::Answer {
            instance: Instance(9),
            client: 50,
            seq,
            value: value.into(),
        };
        assert_eq!(heard(&mut crowd, &answer(3, "safe read 0002"), 4).len(), 1);
        assert_eq!(crowd.stale(), 0);
        heard(&mut crowd, &answer(4, "safe read 0001"), 4);
        assert_eq!(crowd.stale(), 1);
    }

    #[test]
    fn an_answer_about_the_past_settles_the_question_about_that_instance() {
        let (mut crowd, mut packing) = (ClientPool::new(50, 1, 8), Packing::new(1_480, 16));
        crowd.ask(Asks::Writes, 10, 1, 1, &mut packing);
        heard(&mut crowd, &done(101, 110, 50, 1), 2);
        crowd.remember_past(16);
        packing.clear();
        let asks = Asks::Reads(Reads::History);
        crowd.ask(asks, 2, 3, 3, &mut packing);
        assert_eq!(packing.finish(), [b"Request 102\nRequest 103".to_vec()]);
        let ok = |instance| Message::Ok { instance: Instance(instance), value: "x".into() };
        assert_eq!(heard(&mut crowd, &ok(103), 4).len(), 1);
        assert_eq!(heard(&mut crowd, &ok(103), 4).len(), 0);
        assert_eq!(heard(&mut crowd, &ok(102), 4).len(), 1);
        assert_eq!(crowd.open(), 0);
    }
}
