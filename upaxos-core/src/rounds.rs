//! Rounds of plain Paxos as one who listens sees them: how new is what was chosen?
//!
//! Owns no decision. An untagged answer names words, and the same words may have been chosen long ago. Nodes
//! with `--classic` and their clients ask here whether a value was put forward after a request was heard: its
//! round began later (its `Propose` was heard later) and, if a promise told that round of a value, so did the
//! round that the value came from (which was heard to write it). What was not heard from its beginning on counts as old.

use std::collections::BTreeMap;

use crate::hooks::fingerprint;
use crate::mutant::{self, Mutant};
use crate::types::{Ballot, Instance, Value};
use crate::wire::Message;

/// How many rounds are remembered; the oldest are forgotten first, and what is forgotten counts as old.
const MAX_ROUNDS: usize = 4_096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Round {
    /// How many requests had been heard when it began, or the round whose value it took over.
    since: u64,
    /// The fingerprint of what it writes.
    writes: Option<u64>,
}

/// The rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rounds(BTreeMap<(Instance, Ballot), Round>);

impl Rounds {
    /// A node says this, after `heard` requests.
    pub fn observe(&mut self, message: &Message, heard: u64) {
        match message {
            Message::Propose { instance, ballot } => {
                self.0.entry((*instance, *ballot)).or_insert(Round { since: heard, writes: None });
            }
            Message::Promise { instance, ballot, accepted: Some((taken, value)) } => {
                // A proposal alone proves nothing: it may be an old one that comes again.
                let writes = Some(fingerprint(value.as_bytes()));
                let taken = self
                    .0
                    .get(&(*instance, *taken))
                    .filter(|round| round.writes == writes || mutant::is(Mutant::ProposalIsEnough));
                let taken = taken.map_or(0, |round| round.since);
                let round = self.0.entry((*instance, *ballot)).or_default();
                round.since = round.since.min(taken);
            }
            Message::Write { instance, ballot, value } | Message::Accept { instance, ballot, value } => {
                self.0.entry((*instance, *ballot)).or_default().writes = Some(fingerprint(value.as_bytes()));
            }
            _ => return,
        }
        while self.0.len() > MAX_ROUNDS {
            self.0.pop_first();
        }
    }

    /// How many requests had been heard when `value`, chosen at `instance`, was put forward there: one of
    /// these it may carry out, and none that came later.
    pub fn since(&self, instance: Instance, value: &Value) -> u64 {
        let writes = Some(fingerprint(value.as_bytes()));
        let rounds = self.0.iter().skip_while(|((at, _), _)| *at < instance);
        let rounds = rounds.take_while(|((at, _), _)| *at == instance).map(|(_, round)| round);
        rounds.filter(|round| round.writes == writes).map(|round| round.since).min().unwrap_or(0)
    }

    /// Forgets the rounds up to `instance`.
    pub fn forget_through(&mut self, instance: Instance) {
        while self.0.first_key_value().is_some_and(|((at, _), _)| *at <= instance) {
            self.0.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{self, Dialect, Line};

    fn since(lines: &[(&str, u64)]) -> u64 {
        let mut rounds = Rounds::default();
        for (text, heard) in lines {
            let line = wire::parse_line(text.as_bytes(), Dialect::Classic).expect("a classic line");
            let Line::Node(_, message) = line else { panic!("a node's line") };
            rounds.observe(&message, *heard);
        }
        rounds.since(Instance(1), &"a".into())
    }

    #[test]
    fn a_value_is_as_new_as_the_round_that_put_it_forward() {
        assert_eq!(since(&[("2 Propose 1 2", 3), ("2 Write 1 2 a", 5)]), 3);
        assert_eq!(since(&[("2 Propose 1 2", 3), ("0 Accept 1 2 a", 5), ("2 Propose 1 2", 9)]), 3);
    }

    #[test]
    fn a_round_that_takes_a_value_over_makes_it_no_newer() {
        let taken = [("1 Propose 1 4", 7), ("0 Promise 1 4 2 a", 7), ("1 Write 1 4 a", 7)];
        assert_eq!(since(&taken), 0, "where it came from was not heard");
        assert_eq!(since(&[&[("2 Propose 1 2", 3), ("0 Accept 1 2 a", 3)], &taken[..]].concat()), 3);
        assert_eq!(since(&[&[("2 Propose 1 2", 3)], &taken[..]].concat()), 0, "nobody was heard to write it");
    }

    #[test]
    fn what_was_not_heard_from_its_beginning_is_old() {
        assert_eq!(since(&[("2 Write 1 2 a", 5), ("2 Propose 1 2", 6)]), 0);
        assert_eq!(since(&[("2 Propose 1 2", 3), ("2 Write 1 2 b", 5)]), 0, "other words");
    }

    #[test]
    fn only_so_many_rounds_are_remembered() {
        let mut rounds = Rounds::default();
        for number in 1..=MAX_ROUNDS as u64 + 9 {
            rounds
                .observe(&Message::Propose { instance: Instance(number), ballot: Ballot::first_epoch(1) }, 1);
        }
        assert_eq!(rounds.0.len(), MAX_ROUNDS);
    }
}
