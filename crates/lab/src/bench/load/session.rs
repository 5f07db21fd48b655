//! One client of the load: its requests' numbers, and when each was sent.
//!
//! Owns rings of fixed size, so no request costs an allocation or a search, however many are in flight. Knows
//! neither the wire nor the clock: times are nanoseconds since the load began, and never 0.

use std::ops::Range;

/// The maximum span of numbers between a session's lowest unanswered request and its highest: nodes remember that
/// many of one client.
pub const MOST_OPEN: usize = 4_096;

/// The ring's data of one request.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// When it was requested. 0 when it is answered.
    asked: u64,
    /// When it was last sent.
    sent: u64,
}

/// A session: a client id, and its unanswered requests.
#[derive(Debug)]
pub struct Session {
    client: u64,
    /// The lowest number that may be unanswered.
    floor: u64,
    /// The number of the next request.
    next: u64,
    open: usize,
    ring: Box<[Slot]>,
}

/// Consecutive answered requests with the same start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The number of the first request.
    pub first: u64,
    /// The number of requests in this stretch.
    pub count: u64,
    /// When they were requested, in nanoseconds.
    pub asked: u64,
}

impl Session {
    /// A session of client `client`. It has room for `most` open requests and for answered numbers above an open
    /// one. The ring has at least 64 slots. Above that it is limited by [`MOST_OPEN`], and by this session's
    /// `share` of the numbers that nodes remember.
    pub fn new(client: u64, most: usize, share: usize) -> Session {
        // Twice the room: one late answer should not hold up the requests after it.
        let wanted = (most * 2).clamp(64, MOST_OPEN).next_power_of_two();
        let share = (share / 2 + 1).next_power_of_two();
        let slots = wanted.min(share).max(64);
        Session { client, floor: 1, next: 1, open: 0, ring: vec![Slot::default(); slots].into() }
    }

    /// The client's id on the wire.
    pub fn client(&self) -> u64 {
        self.client
    }

    /// The lowest number that may still be retransmitted.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The number of unanswered requests.
    #[cfg(test)]
    fn open(&self) -> usize {
        self.open
    }

    /// The number of further requests that the ring has room for.
    pub fn room(&self) -> usize {
        self.ring.len() - (self.next - self.floor) as usize
    }

    /// Takes `count` new numbers, requested at `asked` and sent at `now`.
    ///
    /// # Panics
    /// If there is no [`room`](Self::room) for them.
    pub fn ask(&mut self, count: usize, asked: u64, now: u64) -> Range<u64> {
        assert!(count <= self.room(), "no room for {count} more requests");
        let first = self.next;
        self.next += count as u64;
        self.open += count;
        for seq in first..self.next {
            *self.slot(seq) = Slot { asked, sent: now };
        }
        first..self.next
    }

    /// Marks `count` requests from `seq` on as answered. Hands out those that were not answered before.
    pub fn on_answer(&mut self, seq: u64, count: u64, mut each: impl FnMut(Answered)) {
        let (from, to) = (seq.max(self.floor), seq.saturating_add(count).min(self.next));
        let mut at = from;
        while at < to {
            let (first, asked) = (at, std::mem::take(&mut self.slot(at).asked));
            at += 1;
            if asked == 0 {
                continue;
            }
            while at < to && self.slot(at).asked == asked {
                self.slot(at).asked = 0;
                at += 1;
            }
            self.open -= (at - first) as usize;
            each(Answered { first, count: at - first, asked });
        }
        while self.floor < self.next && self.slot(self.floor).asked == 0 {
            self.floor += 1;
        }
    }

    /// Whether the lowest unanswered request was last sent before `before`.
    pub fn is_late(&self, before: u64) -> bool {
        self.open > 0 && self.ring[self.at(self.floor)].sent < before
    }

    /// The first stretch from `from` on of unanswered requests last sent before `before`. They now count as sent at
    /// `now`.
    pub fn take_late(&mut self, from: u64, before: u64, now: u64) -> Option<Range<u64>> {
        let is_due = |slot: &Slot| slot.asked > 0 && slot.sent < before;
        let first = (from.max(self.floor)..self.next).find(|seq| is_due(&self.ring[self.at(*seq)]))?;
        let mut end = first;
        while end < self.next && is_due(self.slot(end)) {
            self.slot(end).sent = now;
            end += 1;
        }
        Some(first..end)
    }

    /// An unanswered request counts as sent at `until`, so it is retransmitted later.
    pub fn put_off(&mut self, seq: u64, until: u64) {
        if (self.floor..self.next).contains(&seq) {
            let slot = self.slot(seq);
            slot.sent = slot.sent.max(until);
        }
    }

    /// Gives up all open requests: the group has forgotten this session, and new numbers must start above `begin`.
    /// Returns how many were given up.
    pub fn begin_above(&mut self, begin: u64) -> usize {
        if begin < self.next {
            return 0;
        }
        self.ring.fill(Slot::default());
        (self.floor, self.next) = (begin + 1, begin + 1);
        std::mem::take(&mut self.open)
    }

    fn at(&self, seq: u64) -> usize {
        seq as usize & (self.ring.len() - 1)
    }

    fn slot(&mut self, seq: u64) -> &mut Slot {
        let at = self.at(seq);
        &mut self.ring[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(session: &mut Session, seq: u64, count: u64) -> Vec<(u64, u64, u64)> {
        let mut found = Vec::new();
        session.on_answer(seq, count, |done| found.push((done.first, done.count, done.asked)));
        found
    }

    #[test]
    fn an_answer_counts_once_however_often_it_comes() {
        let mut session = Session::new(7, 8, MOST_OPEN);
        assert_eq!(session.ask(3, 10, 10), 1..4);
        assert_eq!(session.ask(2, 20, 20), 4..6);
        assert_eq!(answered(&mut session, 2, 3), [(2, 2, 10), (4, 1, 20)]);
        assert_eq!(answered(&mut session, 1, 5), [(1, 1, 10), (5, 1, 20)]);
        assert_eq!(answered(&mut session, 1, 5), []);
        assert_eq!((session.open(), session.floor(), session.room()), (0, 6, 64));
    }

    #[test]
    fn answers_to_what_was_never_asked_count_nothing() {
        let mut session = Session::new(7, 8, MOST_OPEN);
        assert_eq!(answered(&mut session, 1, u64::MAX), []);
        session.ask(1, 5, 5);
        assert_eq!(answered(&mut session, 0, u64::MAX), [(1, 1, 5)]);
    }

    #[test]
    fn the_floor_waits_for_the_lowest_answer_and_the_ring_is_its_bound() {
        let mut session = Session::new(7, 8, MOST_OPEN);
        let most = session.room();
        session.ask(most, 1, 1);
        assert_eq!(answered(&mut session, 2, most as u64 - 1).len(), 1);
        assert_eq!((session.open(), session.room()), (1, 0));
        answered(&mut session, 1, 1);
        assert_eq!(session.room(), most);
    }

    #[test]
    fn only_what_is_late_is_sent_again_and_then_is_not_late() {
        let mut session = Session::new(7, 8, MOST_OPEN);
        session.ask(4, 10, 10);
        session.ask(2, 50, 50);
        answered(&mut session, 2, 1);
        assert!(session.is_late(20));
        assert_eq!(session.take_late(0, 20, 60), Some(1..2));
        assert_eq!(session.take_late(2, 20, 60), Some(3..5));
        assert_eq!(session.take_late(5, 20, 60), None);
        assert!(!session.is_late(20));
        assert!(session.is_late(61), "for a later look it is late again");
    }

    #[test]
    fn a_forgotten_session_begins_above_and_gives_up_what_was_open() {
        let mut session = Session::new(7, 8, MOST_OPEN);
        session.ask(3, 10, 10);
        assert_eq!(session.begin_above(1), 0, "not what this session asked");
        assert_eq!(session.begin_above(900), 3);
        assert_eq!(session.ask(1, 20, 20), 901..902);
        assert_eq!(answered(&mut session, 901, 1), [(901, 1, 20)]);
    }
}
