//! Which tagged requests were carried out: what makes them happen exactly once.
//!
//! Owns a table of bounded size that is a pure function of the log, so that every node decides every
//! duplicate alike. Where the bounds make it forget a session (the one used least recently), it remembers
//! that it did: no number of a session is above the instance of its use by more than [`AHEAD`], so a client
//! it does not know may have been forgotten only with numbers up to the highest such instance and as much
//! more. Those are never carried out; new sessions begin above.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::slots::Slots;
use crate::types::{Instance, Tag, Tagged};

/// How many clients are remembered. At this bound and the two that follow the table takes a few MiB.
pub const MAX_SESSIONS: usize = 16_384;
/// How many requests of all clients together a node remembers to have been carried out.
pub const MAX_TAGS: usize = 65_536;
/// How many requests of one client. Beyond it, a client's floor is raised for it.
pub const MAX_TAGS_OF_ONE: usize = 4_096;

/// How far the number of a request may be above its instance.
pub const AHEAD: u64 = 1 << 20;

/// Whether a tagged request has been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has not.
    New,
    /// It has, at this instance.
    DoneAt(Instance),
    /// It is below the client's floor: settled, whatever it was.
    Settled,
    /// It is a safe read that stands in another instance than it was computed for.
    Misplaced,
    /// It is a change of the group that is based on another epoch than the one in force, or brings an id
    /// back: it begins no epoch.
    Stale,
    /// Its client is not known, or not any more; numbers of new sessions begin above this one.
    Forgotten(u64),
    /// Its number is too far ahead of the log.
    Ahead,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    clients: BTreeMap<u64, Session>,
    /// Every client once, by the instance of a use: of its last one, or of one before. Whoever comes first and
    /// was used since is put where it belongs only then, so that a request costs nothing here.
    by_use: BTreeMap<Instance, u64>,
    tags: usize,
    /// The highest last use of any session that was forgotten.
    forgotten: Option<Instance>,
}

/// The order of use follows from the rest.
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

/// What one client has had done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Session {
    /// Below it everything is settled, and nothing will be done again.
    floor: u64,
    /// Where its last request was learned.
    used: Instance,
    /// What was chosen from the floor on. A set, not the highest number: requests of one client may
    /// be chosen out of order.
    done: Slots<Instance>,
}

impl Session {
    fn verdict(&self, seq: u64) -> Verdict {
        match self.done.get(seq) {
            Some(instance) => Verdict::DoneAt(*instance),
            None if seq < self.floor => Verdict::Settled,
            None if mutant::is(Mutant::HighestSequence)
                && self.done.last().is_some_and(|(highest, _)| seq < highest) =>
            {
                Verdict::Settled
            }
            None => Verdict::New,
        }
    }
}

impl Sessions {
    /// Takes up what a checkpoint says.
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

    /// What rebuilds this.
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
    pub fn verdict(&self, tag: Tag) -> Verdict {
        match self.clients.get(&tag.client) {
            Some(session) => session.verdict(tag.seq),
            None => {
                let begin = self.forgotten.map(|used| used.0 + AHEAD);
                begin.filter(|begin| tag.seq <= *begin).map_or(Verdict::New, Verdict::Forgotten)
            }
        }
    }

    /// The same, if it were to be carried out at `instance`.
    pub fn verdict_at(&self, tag: Tag, instance: Instance) -> Verdict {
        match self.verdict(tag) {
            Verdict::New if tag.seq > instance.0.saturating_add(AHEAD) => Verdict::Ahead,
            verdict => verdict,
        }
    }

    /// A tagged request was learned at `instance`, above all before.
    pub fn settle(&mut self, Tagged { tag, floor }: Tagged, instance: Instance) -> Verdict {
        let begin = self.forgotten.map(|used| used.0 + AHEAD).filter(|begin| tag.seq <= *begin);
        let is_ahead = tag.seq > instance.0.saturating_add(AHEAD);
        let session = match (self.clients.get_mut(&tag.client), begin) {
            (Some(session), _) => session,
            (None, Some(begin)) => return Verdict::Forgotten(begin),
            (None, None) if is_ahead => return Verdict::Ahead,
            (None, None) => {
                self.by_use.insert(instance, tag.client);
                self.clients.entry(tag.client).or_default()
            }
        };
        let verdict = session.verdict(tag.seq);
        if verdict == Verdict::New && is_ahead {
            return Verdict::Ahead;
        }
        session.used = instance;
        let before = session.done.len();
        if verdict == Verdict::New {
            session.done.insert(tag.seq, instance);
        }
        if floor > session.floor {
            session.floor = floor;
            while session.done.pop_through(floor - 1).is_some() {}
        }
        while session.done.len() > MAX_TAGS_OF_ONE
            && let Some((seq, _)) = session.done.pop_through(u64::MAX)
        {
            session.floor = seq + 1;
        }
        self.tags = self.tags + session.done.len() - before;
        while self.clients.len() > MAX_SESSIONS || self.tags > MAX_TAGS {
            self.forget_one();
        }
        verdict
    }

    fn forget_one(&mut self) {
        loop {
            let (used, client) = self.by_use.pop_first().expect("a table over its bounds is not empty");
            let last = self.clients.get(&client).expect("who is listed by use is in the table").used;
            if last > used {
                self.by_use.insert(last, client);
                continue;
            }
            let session = self.clients.remove(&client).expect("it was looked up just now");
            self.tags -= session.done.len();
            if !mutant::is(Mutant::ForgetsForgotten) {
                self.forgotten = self.forgotten.max(Some(used));
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(client: u64, seq: u64) -> Tagged {
        Tagged { tag: Tag { client, seq }, floor: 0 }
    }

    /// One request each of so many clients, from instance 1 on.
    fn of_clients(count: u64) -> Sessions {
        let mut sessions = Sessions::default();
        for client in 1..=count {
            assert_eq!(sessions.settle(tagged(client, 1), Instance(client)), Verdict::New);
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
        assert_eq!(sessions.verdict(tagged(1, 1).tag), Verdict::DoneAt(Instance(1)), "used since");
        assert_eq!(sessions.verdict(tagged(2, 1).tag), Verdict::Forgotten(2 + AHEAD));
    }

    #[test]
    fn no_number_of_a_forgotten_session_is_ever_carried_out_again() {
        let mut sessions = of_clients(1);
        let highest = Instance(2).0 + AHEAD;
        assert_eq!(sessions.settle(tagged(1, highest + 1), Instance(2)), Verdict::Ahead);
        assert_eq!(sessions.settle(tagged(1, highest), Instance(2)), Verdict::New);
        for client in 2..MAX_SESSIONS as u64 + 9 {
            sessions.settle(tagged(client, client + AHEAD), Instance(client + 1));
        }
        for seq in [1, 2, highest - 1, highest] {
            let again = sessions.settle(tagged(1, seq), Instance(1 << 40));
            assert!(matches!(again, Verdict::Forgotten(_)), "{seq}: {again:?}");
        }
    }

    #[test]
    fn a_new_session_begins_above_what_it_was_told() {
        let most = MAX_SESSIONS as u64 + 1;
        let mut sessions = of_clients(most);
        let Verdict::Forgotten(begin) = sessions.settle(tagged(0, 1), Instance(most + 1)) else {
            panic!("a number that a forgotten session may have had");
        };
        assert_eq!(sessions.settle(tagged(0, begin + 1), Instance(most + 2)), Verdict::New);
        assert_eq!(
            sessions.settle(tagged(0, begin + 1), Instance(most + 3)),
            Verdict::DoneAt(Instance(most + 2))
        );
    }

    #[test]
    fn while_nothing_was_forgotten_everybody_may_begin_anywhere() {
        let sessions = of_clients(MAX_SESSIONS as u64);
        assert_eq!(sessions.verdict(tagged(1 << 40, 1).tag), Verdict::New);
        assert_eq!(sessions.verdict(tagged(1 << 40, 0).tag), Verdict::New);
    }

    #[test]
    fn the_floor_of_a_client_with_too_many_open_requests_is_raised_for_it() {
        let mut sessions = Sessions::default();
        let most = MAX_TAGS_OF_ONE as u64;
        (1..=most + 5).for_each(|seq| _ = sessions.settle(tagged(7, seq), Instance(seq)));
        assert_eq!(sessions.tags, MAX_TAGS_OF_ONE);
        assert_eq!(sessions.verdict(tagged(7, 5).tag), Verdict::Settled);
        assert_eq!(sessions.verdict(tagged(7, 6).tag), Verdict::DoneAt(Instance(6)));
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
