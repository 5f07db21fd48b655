//! Rounds of plain Paxos as one who listens sees them: how new is what was chosen?
//!
//! Owns no decision. An untagged answer names words, and the same words may have been chosen long ago. Nodes
//! with `--classic` and their clients ask here whether a value was put forward after a request was heard: its
//! round began later (its `Propose` was heard later) and, if a promise told that round of a value, so did the
//! round that the value came from (which was heard to write it). That no promise told it of a value is believed when a
//! quorum was heard to promise and to tell of none: then nothing can have been chosen there before. What was not heard
//! from its beginning on counts as old.

use std::collections::{BTreeMap, BTreeSet};

use crate::hooks::fingerprint;
use crate::mutant::{self, Mutant};
use crate::node::instance_of;
use crate::types::{Ballot, Instance, NodeId, Value};
use crate::wire::Message;

/// How many rounds are remembered; the oldest are forgotten first, and what is forgotten counts as old.
const MAX_ROUNDS: usize = 4_096;

/// For how many instances it is remembered that a node votes.
const LATELY: u64 = 64;

/// Of how many nodes it is remembered what they said: more have no classic group.
const MAX_NODES: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Round {
    /// How many requests had been heard when it began, or the round whose value it took over.
    since: u64,
    /// Whether it is known when it began. The network may bring a promise before the proposal.
    has_begun: bool,
    /// Whether a promise told it of a value, and who promised and told it of none.
    is_told: bool,
    empty: BTreeSet<NodeId>,
    /// The fingerprint of what it writes.
    writes: Option<u64>,
}

impl Round {
    /// A line of its first phase comes, after `heard` requests. What came before its proposal counts only if no request
    /// was heard in between: else it may have begun before that.
    fn begin_anew_since(&mut self, heard: u64) {
        if !self.has_begun && self.since != heard {
            *self = Round { since: heard, ..Round::default() };
        }
    }
}

/// The rounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rounds {
    rounds: BTreeMap<(Instance, Ballot), Round>,
    /// How many nodes the group has; a client is not told, and counts those that it heard vote lately, and where last.
    n: Option<usize>,
    voters: BTreeMap<NodeId, Instance>,
}

impl Rounds {
    /// Of a group of `n` nodes, if that is known.
    pub fn new(n: Option<usize>) -> Rounds {
        Rounds { rounds: BTreeMap::new(), n, voters: BTreeMap::new() }
    }

    /// Node `from` says this, after `heard` requests.
    pub fn observe(&mut self, from: NodeId, message: &Message, heard: u64) {
        if let (None, Message::Promise { instance, .. } | Message::Accept { instance, .. }) =
            (self.n, message)
        {
            self.note_voter(from, *instance);
        }
        match message {
            Message::Propose { instance, ballot } => {
                let round = self.rounds.entry((*instance, *ballot)).or_default();
                round.begin_anew_since(heard);
                round.has_begun = true;
            }
            Message::Promise { instance, ballot, accepted: None } => {
                let round = self.rounds.entry((*instance, *ballot)).or_default();
                round.begin_anew_since(heard);
                if round.empty.len() < MAX_NODES {
                    round.empty.insert(from);
                }
            }
            Message::Promise { instance, ballot, accepted: Some((taken, value)) } => {
                // A proposal alone proves nothing: it may be an old one that comes again.
                let writes = Some(fingerprint(value.as_bytes()));
                let taken = self
                    .rounds
                    .get(&(*instance, *taken))
                    .filter(|round| round.writes == writes || mutant::is(Mutant::ProposalIsEnough));
                let taken = taken.map_or(0, |round| round.since);
                let round = self.rounds.entry((*instance, *ballot)).or_default();
                round.since = if round.has_begun { round.since.min(taken) } else { 0 };
                (round.is_told, round.has_begun) = (true, true);
            }
            Message::Write { instance, ballot, value } | Message::Accept { instance, ballot, value } => {
                let round = self.rounds.entry((*instance, *ballot)).or_default();
                if !std::mem::replace(&mut round.has_begun, true) {
                    round.since = 0;
                }
                round.writes = Some(fingerprint(value.as_bytes()));
            }
            _ => return,
        }
        while self.rounds.len() > MAX_ROUNDS {
            // A group that was begun anew counts from 1 again.
            let is_lowest =
                self.rounds.first_key_value().is_some_and(|((at, _), _)| Some(*at) == instance_of(message));
            if is_lowest {
                self.rounds.pop_last()
            } else {
                self.rounds.pop_first()
            };
        }
    }

    /// Somebody votes there; who was not heard to vote for many instances is none of the group any more, or never was.
    fn note_voter(&mut self, from: NodeId, instance: Instance) {
        if self.voters.len() < MAX_NODES || self.voters.contains_key(&from) {
            self.voters.insert(from, instance);
        }
        self.voters.retain(|_, last| last.0.abs_diff(instance.0) < LATELY);
    }

    /// How many requests had been heard when `value`, chosen at `instance`, was put forward there: one of
    /// these it may carry out, and none that came later.
    pub fn since(&self, instance: Instance, value: &Value) -> u64 {
        let writes = Some(fingerprint(value.as_bytes()));
        let rounds = self.rounds.iter().skip_while(|((at, _), _)| *at < instance);
        let rounds = rounds.take_while(|((at, _), _)| *at == instance).map(|(_, round)| round);
        let quorum = self.n.unwrap_or(self.voters.len()) / 2 + 1;
        let since = |round: &Round| {
            let is_known = round.is_told || round.empty.len() >= quorum || mutant::is(Mutant::UnheardIsNone);
            if is_known { round.since } else { 0 }
        };
        rounds.filter(|round| round.writes == writes).map(since).min().unwrap_or(0)
    }

    /// Forgets the rounds up to `instance`.
    pub fn forget_through(&mut self, instance: Instance) {
        while self.rounds.first_key_value().is_some_and(|((at, _), _)| *at <= instance) {
            self.rounds.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{self, Dialect, Line};

    fn since(lines: &[(&str, u64)]) -> u64 {
        let mut rounds = Rounds::new(Some(3));
        for (text, heard) in lines {
            let line = wire::parse_line(text.as_bytes(), Dialect::Classic).expect("a classic line");
            let Line::Node(from, message) = line else { panic!("a node's line") };
            rounds.observe(from, &message, *heard);
        }
        rounds.since(Instance(1), &"a".into())
    }

    #[test]
    fn a_value_is_as_new_as_the_round_that_put_it_forward() {
        let promised = [("2 Propose 1 2", 3), ("2 Promise 1 2", 3), ("0 Promise 1 2", 3)];
        assert_eq!(since(&[&promised[..], &[("2 Write 1 2 a", 5)]].concat()), 3);
        assert_eq!(since(&[&promised[..], &[("0 Accept 1 2 a", 5), ("2 Propose 1 2", 9)]].concat()), 3);
    }

    #[test]
    fn a_round_that_may_have_been_told_of_a_value_makes_it_no_newer() {
        let round = [("2 Propose 1 2", 3), ("0 Promise 1 2", 3), ("0 Promise 1 2", 3)];
        let write = [("2 Write 1 2 a", 5)];
        assert_eq!(since(&[&round[..], &write].concat()), 0, "what the second promise said was not heard");
        let other = [("1 Promise 1 2", 4)];
        assert_eq!(since(&[&round[..], &other, &write].concat()), 3);
        assert_eq!(since(&[&other[..], &round, &write].concat()), 0, "of a round that had not begun");
        let at_once = [("1 Promise 1 2", 3)];
        assert_eq!(since(&[&at_once[..], &round, &write].concat()), 3, "the network turned them round");
        assert_eq!(
            since(&[&at_once[..], &[("0 Promise 1 2", 3)], &write].concat()),
            0,
            "no proposal was heard"
        );
    }

    #[test]
    fn one_who_is_not_told_how_many_there_are_counts_those_that_it_hears() {
        let promise =
            |instance| Message::Promise { instance, ballot: Ballot::first_epoch(2), accepted: None };
        let mut rounds = Rounds::new(None);
        let (at, ballot) = (Instance(1), Ballot::first_epoch(2));
        rounds.observe(NodeId(2), &Message::Propose { instance: at, ballot }, 3);
        rounds.observe(NodeId(2), &promise(at), 3);
        rounds.observe(NodeId(2), &Message::Write { instance: at, ballot, value: "a".into() }, 3);
        assert_eq!(rounds.since(at, &"a".into()), 3, "it is alone");
        rounds.observe(NodeId(1), &promise(Instance(7)), 3);
        rounds.observe(NodeId(2), &promise(at), 3);
        assert_eq!(rounds.since(at, &"a".into()), 0);
        rounds.observe(NodeId(1), &promise(at), 3);
        assert_eq!(rounds.since(at, &"a".into()), 3);
    }

    #[test]
    fn a_round_that_takes_a_value_over_makes_it_no_newer() {
        let taken = [("1 Propose 1 4", 7), ("0 Promise 1 4 2 a", 7), ("1 Write 1 4 a", 7)];
        assert_eq!(since(&taken), 0, "where it came from was not heard");
        let began = [("2 Propose 1 2", 3), ("2 Promise 1 2", 3), ("1 Promise 1 2", 3), ("0 Accept 1 2 a", 3)];
        assert_eq!(since(&[&began[..], &taken].concat()), 3);
        assert_eq!(since(&[&[("2 Propose 1 2", 3)], &taken[..]].concat()), 0, "nobody was heard to write it");
    }

    #[test]
    fn what_was_not_heard_from_its_beginning_is_old() {
        assert_eq!(since(&[("2 Write 1 2 a", 5), ("2 Propose 1 2", 6)]), 0);
        assert_eq!(since(&[("2 Propose 1 2", 3), ("2 Write 1 2 b", 5)]), 0, "other words");
    }

    #[test]
    fn a_stray_line_is_no_voter_and_one_that_falls_silent_is_forgotten() {
        let (first, ballot) = (Instance(1), Ballot::first_epoch(2));
        let mut rounds = Rounds::new(None);
        rounds.observe(NodeId(7), &Message::Nack { instance: Instance(9), ballot }, 0);
        rounds.observe(NodeId(8), &Message::Promise { instance: first, ballot, accepted: None }, 0);
        let mut chosen = |at: u64| {
            let instance = Instance(at);
            rounds.observe(NodeId(2), &Message::Propose { instance, ballot }, at);
            rounds.observe(NodeId(2), &Message::Promise { instance, ballot, accepted: None }, at);
            rounds.observe(NodeId(2), &Message::Write { instance, ballot, value: "a".into() }, at);
            rounds.since(instance, &"a".into())
        };
        assert_eq!((chosen(2), chosen(1 + LATELY)), (0, 1 + LATELY));
    }

    #[test]
    fn a_group_that_begins_anew_is_heard_by_who_has_heard_many_rounds() {
        let ballot = Ballot::first_epoch(2);
        let mut rounds = Rounds::new(Some(1));
        let mut chosen = |at: u64, heard| {
            let instance = Instance(at);
            rounds.observe(NodeId(2), &Message::Propose { instance, ballot }, heard);
            rounds.observe(NodeId(2), &Message::Promise { instance, ballot, accepted: None }, heard);
            rounds.observe(NodeId(2), &Message::Write { instance, ballot, value: "a".into() }, heard);
            rounds.since(instance, &"a".into())
        };
        (100..100 + MAX_ROUNDS as u64).for_each(|at| assert_eq!(chosen(at, 1), 1));
        assert_eq!((chosen(1, 2), chosen(2, 3)), (2, 3));
    }

    #[test]
    fn only_so_many_rounds_are_remembered() {
        let mut rounds = Rounds::new(Some(3));
        for number in 1..=MAX_ROUNDS as u64 + 9 {
            let propose = Message::Propose { instance: Instance(number), ballot: Ballot::first_epoch(1) };
            rounds.observe(NodeId(1), &propose, 1);
        }
        assert_eq!(rounds.rounds.len(), MAX_ROUNDS);
    }
}
