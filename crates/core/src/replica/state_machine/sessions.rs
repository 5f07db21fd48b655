//! The sessions: which tagged requests were carried out. They make requests happen exactly once.
//!
//! This module owns a table of bounded size that is a pure function of the log, so that all nodes judge every
//! duplicate alike. When a bound makes the table forget a session (the least recently used one), it keeps one
//! number: the highest that any forgotten session had carried out or settled. A client that is not in the table may
//! have had a number up to there carried out, and none above. So no request up to there is ever carried out again
//! for a client that is not in the table. A new session starts above it, with its floor above it. That number rises
//! only when a forgotten session went beyond it, not with every new client. When there are too many requests, no
//! session is forgotten: the clients with the most requests lose their oldest ones.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::mutant::{self, Mutant};
use crate::paged_map::PagedMap;
use crate::record::Record;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::types::{FIRST_FAST, Instance, Tag, Tagged};

/// How far a number may be ahead: of its instance, of the highest number that its session had carried out, and of
/// the number above which new sessions start. Otherwise one forged number would use up all of them.
pub const AHEAD: u64 = 1 << 20;

/// Whether a tagged request has been carried out, or why it will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupStatus {
    /// The request has not been carried out.
    New,
    /// The request was carried out at this instance.
    DoneAt(Instance),
    /// The request is below the client's floor. Whether it was carried out is no longer known. It will not be.
    Settled,
    /// A safe read that stands in another instance than the one it was computed for.
    Misplaced,
    /// A change of the group based on another epoch than the one in force, or one that brings an id back. It starts
    /// no epoch.
    Stale,
    /// Its client is not in the table, or not any more. Numbers of new sessions start above this one.
    Forgotten(u64),
    /// Its number is too far ahead of the log.
    Ahead,
}

/// The table of sessions, by client.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    bounds: Bounds,
    clients: BTreeMap<u64, Session>,
    /// Every client once, by the instance of a use: its last use or an earlier one. A client used since is moved
    /// only when it comes first, so that a request costs nothing here.
    by_use: BTreeMap<Instance, u64>,
    tags: usize,
    /// The highest number of any forgotten session.
    forgotten: Option<u64>,
}

/// The order of use follows from the other fields.
impl PartialEq for Sessions {
    fn eq(&self, other: &Sessions) -> bool {
        (&self.clients, self.tags, self.forgotten) == (&other.clients, other.tags, other.forgotten)
    }
}

impl Eq for Sessions {}

impl Hash for Sessions {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (&self.clients, self.tags, self.forgotten).hash(to);
    }
}

/// The carried-out requests of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Session {
    /// Every number below is settled, and is never carried out again.
    floor: u64,
    /// The instance in which its last request was learned.
    used: Instance,
    /// The numbers carried out from the floor on. This is a set, not the highest number: requests of one client may
    /// be chosen out of order.
    done: PagedMap<Instance>,
}

/// The highest number that is not too far ahead of these.
fn limit(instance: Instance, forgotten: Option<u64>, highest: u64) -> u64 {
    let known = instance.0.max(forgotten.unwrap_or_default()).max(highest);
    known.saturating_add(AHEAD).min(FIRST_FAST - 1)
}

impl Session {
    /// The highest number that was carried out or settled. No number above it was carried out.
    fn highest(&self) -> u64 {
        let done = self.done.last().map_or(0, |(seq, _)| seq);
        done.max(self.floor.saturating_sub(1))
    }

    fn verdict(&self, seq: u64) -> DedupStatus {
        match self.done.get(seq) {
            Some(instance) => DedupStatus::DoneAt(*instance),
            None if seq < self.floor => DedupStatus::Settled,
            None if mutant::is(Mutant::HighestSequence)
                && self.done.last().is_some_and(|(highest, _)| seq < highest) =>
            {
                DedupStatus::Settled
            }
            None => DedupStatus::New,
        }
    }
}

impl Sessions {
    /// A table without clients.
    pub fn new(limits: Limits) -> Sessions {
        Sessions { bounds: limits.into(), ..Sessions::default() }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Restores one record of a checkpoint.
    pub fn recover(&mut self, record: &Record) {
        match record {
            Record::Session { client, floor, used, done } => {
                self.tags += done.len();
                self.by_use.insert(*used, *client);
                let session = self.clients.entry(*client).or_default();
                (session.floor, session.used) = (*floor, *used);
                done.iter().for_each(|(seq, instance)| _ = session.done.insert(*seq, *instance));
            }
            Record::Forgotten { through } => self.forgotten = Some(*through),
            _ => {}
        }
    }

    /// The records that rebuild this table.
    pub fn checkpoint(&self) -> impl Iterator<Item = Record> {
        let session = |(client, session): (&u64, &Session)| {
            let done = session.done.iter().map(|(seq, instance)| (seq, *instance)).collect();
            let floor = if mutant::is(Mutant::FloorLost) { 0 } else { session.floor };
            Record::Session { client: *client, floor, used: session.used, done }
        };
        let forgotten = self.forgotten.map(|through| Record::Forgotten { through });
        self.clients.iter().map(session).chain(forgotten)
    }

    /// Whether a tagged request has been carried out in the learned prefix.
    pub fn verdict(&self, tag: Tag) -> DedupStatus {
        match self.clients.get(&tag.client) {
            Some(session) => session.verdict(tag.seq),
            None => self.forgotten_with(tag.seq).unwrap_or(DedupStatus::New),
        }
    }

    /// The verdict for a request that would be carried out at `instance`.
    pub fn verdict_at(&self, tag: Tag, instance: Instance) -> DedupStatus {
        let highest = || self.clients.get(&tag.client).map_or(0, Session::highest);
        match self.verdict(tag) {
            DedupStatus::New if tag.seq > limit(instance, self.forgotten, highest()) => DedupStatus::Ahead,
            verdict => verdict,
        }
    }

    /// The verdict on a number of a client that is not in the table, if a forgotten session may have had it.
    fn forgotten_with(&self, seq: u64) -> Option<DedupStatus> {
        self.forgotten.filter(|begin| seq <= *begin).map(DedupStatus::Forgotten)
    }

    /// Records a tagged request that was learned at `instance`, above all earlier ones.
    pub fn settle(&mut self, Tagged { tag, floor }: Tagged, instance: Instance) -> DedupStatus {
        let forgotten = self.forgotten_with(tag.seq);
        let session = match (self.clients.get_mut(&tag.client), forgotten) {
            (Some(session), _) => session,
            (None, Some(forgotten)) => return forgotten,
            (None, None) if tag.seq > limit(instance, self.forgotten, 0) => return DedupStatus::Ahead,
            (None, None) => {
                self.by_use.insert(instance, tag.client);
                let session = self.clients.entry(tag.client).or_default();
                // Any number below may have been carried out, whatever floor the client states.
                if let Some(begin) = self.forgotten.filter(|_| !mutant::is(Mutant::FloorOfRequest)) {
                    session.floor = begin + 1;
                }
                session
            }
        };
        let verdict = session.verdict(tag.seq);
        if verdict == DedupStatus::New && tag.seq > limit(instance, self.forgotten, session.highest()) {
            return DedupStatus::Ahead;
        }
        session.used = instance;
        let before = session.done.len();
        if verdict == DedupStatus::New {
            session.done.insert(tag.seq, instance);
        }
        // A correct client's floor is never above its own number.
        let floor = floor.min(tag.seq);
        if floor > session.floor {
            session.floor = floor;
            while session.done.pop_through(floor - 1).is_some() {}
        }
        while self.bounds.is_over(Bound::TagsOfOne, session.done.len() > self.bounds.tags_of_one)
            && let Some((seq, _)) = session.done.pop_through(u64::MAX)
        {
            session.floor = seq + 1;
        }
        self.tags = self.tags + session.done.len() - before;
        if self.bounds.is_over(Bound::Tags, self.tags > self.bounds.tags) {
            self.raise_floors();
        }
        while self.bounds.is_over(Bound::Sessions, self.clients.len() > self.bounds.sessions)
            || self.tags > self.bounds.tags
        {
            self.forget_one();
        }
        verdict
    }

    /// Makes room for requests. The clients with the most requests lose their oldest ones. All are cut to the same
    /// number, the highest that leaves an eighth of the table free; so this scan of the table is rare. No client
    /// loses its last request.
    fn raise_floors(&mut self) {
        let room = self.bounds.tags - self.bounds.tags / 8;
        let mut by_size: Vec<usize> = self.clients.values().map(|session| session.done.len()).collect();
        by_size.sort_unstable();
        let (mut left, mut share) = (room, 1);
        for (at, size) in by_size.iter().enumerate() {
            share = (left / (by_size.len() - at)).max(1);
            if *size > share {
                break;
            }
            left = left.saturating_sub(*size);
        }
        for session in self.clients.values_mut() {
            while session.done.len() > share
                && let Some((seq, _)) = session.done.pop_through(u64::MAX)
            {
                session.floor = session.floor.max(seq + 1);
                self.tags -= 1;
            }
        }
    }

    fn forget_one(&mut self) {
        loop {
            let (used, client) = self.by_use.pop_first().expect("a table over its bounds is not empty");
            let last = self.clients.get(&client).expect("a client listed by use is in the table").used;
            if last > used {
                self.by_use.insert(last, client);
                continue;
            }
            let session = self.clients.remove(&client).expect("it was looked up just now");
            self.tags -= session.done.len();
            if !mutant::is(Mutant::ForgetsForgotten) {
                self.forgotten = self.forgotten.max(Some(session.highest()));
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_SESSIONS: usize = Limits::USUAL.sessions;
    const MAX_TAGS: usize = Limits::USUAL.tags;
    const MAX_TAGS_OF_ONE: usize = Limits::USUAL.tags_of_one;

    fn tagged(client: u64, seq: u64) -> Tagged {
        Tagged { tag: Tag { client, seq }, floor: 0 }
    }

    /// A table after one request of each of `count` clients, from instance 1 on.
    fn of_clients(count: u64) -> Sessions {
        let mut sessions = Sessions::default();
        for client in 1..=count {
            assert_eq!(sessions.settle(tagged(client, 1), Instance(client)), DedupStatus::New);
        }
        sessions
    }

    #[test]
    fn beyond_the_bound_the_session_used_least_recently_is_forgotten() {
        let most = MAX_SESSIONS as u64;
        let mut sessions = of_clients(most);
        sessions.settle(tagged(1, 2), Instance(most + 1));
        sessions.settle(tagged(most + 1, 1), Instance(most + 2));
        assert_eq!(sessions.clients.len(), MAX_SESSIONS);
        assert_eq!(sessions.verdict(tagged(1, 1).tag), DedupStatus::DoneAt(Instance(1)), "used since");
        assert_eq!(sessions.verdict(tagged(2, 1).tag), DedupStatus::Forgotten(1));
    }

    #[test]
    fn no_number_of_a_forgotten_session_is_ever_carried_out_again() {
        let mut sessions = of_clients(1);
        let highest = Instance(2).0 + AHEAD;
        assert_eq!(sessions.settle(tagged(1, highest + 1), Instance(2)), DedupStatus::Ahead);
        assert_eq!(sessions.settle(tagged(1, highest), Instance(2)), DedupStatus::New);
        for client in 2..MAX_SESSIONS as u64 + 9 {
            sessions.settle(tagged(client, 1), Instance(client + 1));
        }
        for seq in [1, 2, highest - 1, highest] {
            let again = sessions.settle(tagged(1, seq), Instance(1 << 40));
            assert_eq!(again, DedupStatus::Forgotten(highest), "{seq}");
        }
        // The same holds when the client starts anew, with a floor that allows all of them.
        assert_eq!(sessions.settle(tagged(1, highest + 1), Instance(1 << 40)), DedupStatus::New);
        for seq in [1, 2, highest - 1, highest] {
            let again = sessions.settle(tagged(1, seq), Instance((1 << 40) + seq));
            assert_eq!(again, DedupStatus::Settled, "{seq}");
        }
    }

    #[test]
    fn a_new_session_begins_above_what_it_was_told_however_many_others_begin_meanwhile() {
        let most = MAX_SESSIONS as u64 + 1;
        let mut sessions = of_clients(most);
        let mut at = (most + 1..).map(Instance);
        let mut settle = |client, seq| sessions.settle(tagged(client, seq), at.next().expect("no end"));
        assert_eq!(settle(0, 1), DedupStatus::Forgotten(1), "a number that a forgotten session may have had");
        for other in 0..MAX_SESSIONS as u64 - 1 {
            assert_eq!(settle((1 << 40) + other, 2), DedupStatus::New);
        }
        assert_eq!(settle(0, 2), DedupStatus::New);
        assert!(matches!(settle(0, 2), DedupStatus::DoneAt(_)));
    }

    #[test]
    fn numbers_may_go_on_from_where_a_session_has_to_begin() {
        let mut sessions = of_clients(1);
        // Numbers as far ahead as possible, again and again: each forgotten session raises the bound.
        for client in 2..4 * MAX_SESSIONS as u64 {
            let far = limit(Instance(client), sessions.forgotten, 0);
            assert_eq!(sessions.settle(tagged(client, far), Instance(client)), DedupStatus::New);
        }
        let DedupStatus::Forgotten(begin) = sessions.verdict(tagged(1, 1).tag) else {
            panic!("it overflowed")
        };
        assert!(begin > 2 * AHEAD, "far above all instances");
        let at = Instance(4 * MAX_SESSIONS as u64);
        for (nth, seq) in [begin + 1_000, begin + AHEAD, begin + 2 * AHEAD].into_iter().enumerate() {
            assert_eq!(sessions.settle(tagged(1, seq), Instance(at.0 + nth as u64)), DedupStatus::New);
        }
        assert_eq!(sessions.verdict_at(tagged(1, begin + 4 * AHEAD).tag, at), DedupStatus::Ahead);
        assert_eq!(sessions.verdict_at(tagged(1, FIRST_FAST).tag, Instance(FIRST_FAST)), DedupStatus::Ahead);
    }

    #[test]
    fn while_nothing_was_forgotten_everybody_may_begin_anywhere() {
        let sessions = of_clients(MAX_SESSIONS as u64);
        assert_eq!(sessions.verdict(tagged(1 << 40, 1).tag), DedupStatus::New);
        assert_eq!(sessions.verdict(tagged(1 << 40, 0).tag), DedupStatus::New);
    }

    #[test]
    fn the_floor_of_a_client_with_too_many_open_requests_is_raised_for_it() {
        let mut sessions = Sessions::default();
        let most = MAX_TAGS_OF_ONE as u64;
        (1..=most + 5).for_each(|seq| _ = sessions.settle(tagged(7, seq), Instance(seq)));
        assert_eq!(sessions.tags, MAX_TAGS_OF_ONE);
        assert_eq!(sessions.verdict(tagged(7, 5).tag), DedupStatus::Settled);
        assert_eq!(sessions.verdict(tagged(7, 6).tag), DedupStatus::DoneAt(Instance(6)));
    }

    #[test]
    fn who_has_many_requests_makes_nobody_with_few_forgotten() {
        let mut sessions = Sessions::default();
        let honest = tagged(7, 1);
        sessions.settle(honest, Instance(1));
        let most = MAX_TAGS_OF_ONE as u64;
        let mut at = (2..).map(Instance);
        for seq in 1..=3 * most {
            (100..116).for_each(|client| {
                sessions.settle(tagged(client, seq), at.next().expect("no end"));
            });
            assert!(sessions.tags <= MAX_TAGS);
        }
        assert_eq!(sessions.verdict(honest.tag), DedupStatus::DoneAt(Instance(1)));
        assert_eq!(sessions.clients.len(), 17, "no client was forgotten");
        assert_eq!(
            sessions.verdict(tagged(100, 1).tag),
            DedupStatus::Settled,
            "the client with the most requests loses its oldest"
        );
        assert!(matches!(sessions.verdict(tagged(100, 3 * most).tag), DedupStatus::DoneAt(_)));
        let shares: Vec<_> = (100..116).map(|client| sessions.clients[&client].done.len()).collect();
        assert!(shares.iter().all(|share| *share >= MAX_TAGS / 16 * 3 / 4), "{shares:?}");
    }

    #[test]
    fn where_all_have_as_few_requests_as_can_be_the_least_recent_is_forgotten() {
        let limits = Limits { sessions: 8, tags: 4, tags_of_one: 4, ..Limits::USUAL };
        let mut sessions = Sessions::new(limits);
        for client in 1..=6 {
            sessions.settle(tagged(client, client), Instance(client));
            assert!(sessions.tags <= 4);
        }
        assert_eq!(sessions.verdict(tagged(2, 2).tag), DedupStatus::Forgotten(2));
        assert_eq!(sessions.verdict(tagged(3, 3).tag), DedupStatus::DoneAt(Instance(3)));
    }

    #[test]
    fn all_requests_together_are_bounded_and_the_checkpoint_says_the_same() {
        let mut sessions = Sessions::default();
        for at in 1..=MAX_TAGS as u64 + 9_000 {
            sessions.settle(tagged(at % 40, at / 40 + 1), Instance(at));
            assert!(sessions.tags <= MAX_TAGS);
        }
        let counted: usize = sessions.clients.values().map(|session| session.done.len()).sum();
        assert_eq!(sessions.tags, counted);
        let mut again = Sessions::default();
        sessions.checkpoint().for_each(|record| again.recover(&record));
        assert_eq!(again, sessions);
    }
}
