//! Rounds of plain Paxos as a listener observes them: how recent is a chosen value?
//!
//! This module decides nothing. An untagged answer names words, and the same words may have been chosen long ago.
//! Nodes with `--classic` and their clients ask this module whether a value was proposed after they received a
//! request. This holds if the round of the value began later (its `Propose` was received later) and, if a promise
//! reported an earlier value to that round, the round that value came from began later, too (a `Write` or vote of
//! it was received). The absence of an earlier value is believed when a quorum was heard to promise without
//! reporting a value: then nothing can have been chosen there before. A round that was not observed from its
//! beginning on counts as old.

use std::collections::{BTreeMap, BTreeSet};

use crate::hooks::fingerprint;
use crate::mutant::{self, Mutant};
use crate::types::{Ballot, Instance, NodeId, Value};
use crate::wire::Message;
use crate::wire::kinds::instance_of;

/// The maximum number of remembered rounds. The oldest are forgotten first, and a forgotten round counts as old.
const MAX_ROUNDS: usize = 4_096;

/// The number of instances for which a vote of a node is remembered.
const LATELY: u64 = 64;

/// The maximum number of nodes whose messages are remembered. No classic group has more.
const MAX_NODES: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Round {
    /// The number of requests received when the round began, or when the round began whose value it took over.
    since: u64,
    /// Whether the beginning of the round is known. The network may deliver a promise before the proposal.
    has_begun: bool,
    /// Whether a promise reported a value to the round; and the nodes that promised without reporting one.
    is_told: bool,
    empty: BTreeSet<NodeId>,
    /// The fingerprint of the value that the round writes.
    writes: Option<u64>,
}

impl Round {
    /// Handles a phase 1 message of the round, received after `heard` requests. Messages before its proposal count
    /// only if no request was received in between: otherwise the round may have begun before that request.
    fn begin_anew_since(&mut self, heard: u64) {
        if !self.has_begun && self.since != heard {
            *self = Round { since: heard, ..Round::default() };
        }
    }
}

/// The observed rounds of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rounds {
    rounds: BTreeMap<(Instance, Ballot), Round>,
    /// The size of the group. A client does not know it: it counts the voters it heard lately, with the last
    /// instance of each.
    n: Option<usize>,
    voters: BTreeMap<NodeId, Instance>,
}

impl Rounds {
    /// The rounds of a group of `n` nodes; `None` if the size is not known.
    pub fn new(n: Option<usize>) -> Rounds {
        Rounds { rounds: BTreeMap::new(), n, voters: BTreeMap::new() }
    }

    /// Observes a message of node `from`, received after `heard` requests.
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
                // A proposal alone proves nothing: it may be a duplicate of an old one.
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
            // A group that was created anew counts from 1 again.
            let is_lowest =
                self.rounds.first_key_value().is_some_and(|((at, _), _)| Some(*at) == instance_of(message));
            if is_lowest {
                self.rounds.pop_last()
            } else {
                self.rounds.pop_first()
            };
        }
    }

    /// Notes that a node votes at this instance. A node that was not heard to vote for many instances is no longer
    /// a member, or never was.
    fn note_voter(&mut self, from: NodeId, instance: Instance) {
        if self.voters.len() < MAX_NODES || self.voters.contains_key(&from) {
            self.voters.insert(from, instance);
        }
        self.voters.retain(|_, last| last.0.abs_diff(instance.0) < LATELY);
    }

    /// The number of requests received when `value`, chosen at `instance`, was proposed there. The value can answer
    /// one of these requests, and none that was received later.
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
        assert_eq!(
            since(&[&[("2 Propose 1 2", 3)], &taken[..]].concat()),
            0,
            "no node was heard to write it"
        );
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
