//! Phase 1: the promises of each acceptor, and the values that they require.
//!
//! This module owns the rule that makes Paxos safe. For every instance, the leader writes the value of the highest
//! accepted ballot among a quorum of promises that cover the instance ("Paxos Made Simple" 2.2, P2c).

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::replica::limits::Limits;
use crate::types::{Ballot, Group, Instance, Micros, NodeId, Value};
use crate::wire::Dialect;

/// The state of phase 1: the promises of each acceptor, and the progress of asking.
/// The longest time between two sendings of a question or a write.
pub(super) const RETRY_MAX: Micros = Micros::from_millis(250);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Preparing {
    pub(super) first: Instance,
    /// The highest durably learned prefix that any promise named. This node must learn it before phase 2.
    pub(super) base: Instance,
    pub(super) acceptors: BTreeMap<NodeId, Coverage>,
    pub(super) retry_at: Micros,
    pub(super) retry_after: Micros,
    /// The first instance of the last question, and the first uncovered instances of the acceptors at that time.
    pub(super) asked: Instance,
    pub(super) owed: BTreeSet<Instance>,
    /// How far this node had learned, and since when it has made no progress.
    pub(super) learned: Instance,
    pub(super) stuck_since: Micros,
    /// The change that started the epoch. It is sent with the question, for acceptors that have not learned it.
    pub(super) change: Option<(Instance, Value)>,
}

/// The promises of one acceptor: the ranges in which it accepted nothing, and the values that it did accept. An
/// instance that no line mentioned is not covered: the line may be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Coverage {
    pub(super) empty: BTreeMap<Instance, Option<Instance>>,
    pub(super) accepted: BTreeMap<Instance, (Ballot, Value)>,
    pub(super) bytes: usize,
    /// How often the end of its answer was received. Before that, no search for gaps is needed.
    pub(super) repeats: usize,
}

impl Coverage {
    /// The first instance from `from` on that no promise covers; `None` when all are covered.
    fn first_uncovered(&self, from: Instance) -> Option<Instance> {
        let mut at = from;
        loop {
            if self.accepted.contains_key(&at) {
                at = at.next();
                continue;
            }
            match self.empty.range(..=at).next_back() {
                Some((_, None)) => return None,
                Some((_, Some(last))) if *last >= at => at = last.next(),
                _ => return Some(at),
            }
        }
    }

    /// Whether it holds more than any acceptor can have accepted.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.bytes > limits.promised_bytes() || self.accepted.len() > limits.promised_entries()
    }

    pub(super) fn add_range(&mut self, first: Instance, last: Option<Instance>, limits: &Limits) {
        if self.empty.len() > limits.promised_entries() {
            return;
        }
        let known = self.empty.entry(first).or_insert(last);
        *known = match (*known, last) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }
}

impl Preparing {
    /// Raises the prefix that must be learned first. Promises at or below it are of no use, and are dropped.
    pub(super) fn rise_to(&mut self, base: Instance) {
        if base <= self.base {
            return;
        }
        self.base = base;
        for coverage in self.acceptors.values_mut() {
            let above = coverage.accepted.split_off(&base.next());
            let below = std::mem::replace(&mut coverage.accepted, above);
            coverage.bytes -= below.values().map(|(_, value)| value.as_bytes().len()).sum::<usize>();
        }
    }

    /// The furthest instance that an honest acceptor can have accepted, as far as is known now.
    ///
    /// Acceptors may have learned much less than the leader before, which wrote up to a window above what it had
    /// learned, and which may be gone. But all that it had learned was chosen, so every quorum of promises tells of
    /// each of these instances: an instance far above `base` comes with as many accepted ones below it. It is
    /// reported again when those of the others have been heard.
    pub(super) fn furthest(&self, window: u64) -> Instance {
        let told: usize = self.acceptors.values().map(|coverage| coverage.accepted.len()).sum();
        Instance(self.base.0.saturating_add(2 * window).saturating_add(told as u64))
    }

    fn covers(&self, coverage: &Coverage) -> bool {
        let is_whole = || coverage.repeats > 0 && coverage.first_uncovered(self.base.next()).is_none();
        mutant::is(Mutant::LostPartIsEmpty) || is_whole()
    }

    pub(super) fn is_covered(&self, group: &Group) -> bool {
        let complete = self.acceptors.iter().filter(|(id, _)| group.members.contains(id));
        let complete = complete.filter(|(_, coverage)| self.covers(coverage));
        if mutant::is(Mutant::CountDuplicatePromises) {
            return complete.map(|(_, coverage)| coverage.repeats.max(1)).sum::<usize>() >= group.quorum();
        }
        complete.count() >= group.quorum()
    }

    /// For every instance above `learned`, the value of the highest ballot among the complete promises. An instance
    /// without any accepted value gets a no-op if it lies below one with a value.
    pub(super) fn values_to_write(&self, learned: Instance) -> Vec<(Instance, Value)> {
        let mut highest: BTreeMap<Instance, &(Ballot, Value)> = BTreeMap::new();
        for coverage in self.acceptors.values().filter(|coverage| self.covers(coverage)) {
            for (instance, accepted) in coverage.accepted.range(learned.next()..) {
                let best = highest.entry(*instance).or_insert(accepted);
                if (accepted.0 > best.0) != mutant::is(Mutant::LowestBallotWins) {
                    *best = accepted;
                }
            }
        }
        let last = highest.last_key_value().map_or(learned, |(last, _)| *last);
        let noop = Entry::Noop.encode(Dialect::Extended);
        let value = |i| highest.get(&Instance(i)).map_or_else(|| noop.clone(), |(_, value)| value.clone());
        (learned.next().0..=last.0).map(|i| (Instance(i), value(i))).collect()
    }

    /// The first instance that the answers of `acceptor` do not cover; `None` if they cover all, or there are none.
    pub(super) fn owed_by(&self, acceptor: NodeId) -> Option<Instance> {
        self.acceptors.get(&acceptor)?.first_uncovered(self.base.next())
    }

    /// Returns the first instance of the next question. An answer is bounded, so one answer covers a part of the
    /// instances only. The next question starts at the first uncovered instance of some acceptor: the next one
    /// after the last question's, in turn. So an acceptor that has fallen silent does not keep the others from
    /// answering the rest. An acceptor without any answer owes everything, and is not counted here.
    ///
    /// While answers arrive, the next question follows after `soon`, and this node does not count as stuck.
    pub(super) fn ask_again(&mut self, soon: Micros, now: Micros) -> Instance {
        let from = self.base.next().max(self.first);
        let owed = self.acceptors.values().filter_map(|coverage| coverage.first_uncovered(from));
        let owed: BTreeSet<Instance> = owed.collect();
        let next = owed.range(self.asked.next()..).next().or_else(|| owed.first()).copied().unwrap_or(from);
        if owed == self.owed {
            self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
        } else {
            (self.retry_after, self.stuck_since) = (soon, now);
        }
        self.retry_at = now + self.retry_after;
        (self.asked, self.owed) = (next, owed);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Phase, Proposer};
    use super::*;
    use crate::replica::limits::Limits;
    use crate::replica::outbox::Outbox;

    const LIMITS: Limits = Limits { window: 8, open_bytes: 1_000, ..Limits::USUAL };
    const FROM: NodeId = NodeId(1);

    fn ballot() -> Ballot {
        Ballot::first_epoch(65_536)
    }

    /// A leader in phase 1, from instance 1 on.
    fn asking() -> Proposer {
        let mut leader = Proposer::new(LIMITS);
        leader.start(ballot(), Instance(0), None, Micros(0), &mut Outbox::new(NodeId(0)));
        leader
    }

    fn promised(leader: &mut Proposer, instance: u64, value: &str) {
        let accepted = Some((Ballot::first_epoch(0), Value::from(value)));
        leader.on_promise(FROM, Instance(instance), ballot(), accepted);
    }

    fn of_one(leader: &Proposer) -> Coverage {
        let Phase::Preparing(preparing) = &leader.phase else { panic!("it asks still") };
        preparing.acceptors.get(&FROM).cloned().unwrap_or_default()
    }

    #[test]
    fn a_flood_of_promises_is_kept_for_as_many_as_an_acceptor_can_hold_however_far_ahead_it_claims_to_be() {
        let mut leader = asking();
        (1..500).for_each(|instance| promised(&mut leader, instance, ""));
        let most = LIMITS.promised_entries() + 1;
        assert_eq!(of_one(&leader).accepted.len(), most);
        // An acceptor that claims to have learned more and more moves the range, but makes it no longer.
        for base in [700, 1 << 40, (1 << 62) - 1] {
            leader.on_promise_none(FROM, (Instance(base), None), ballot(), Instance(base));
            (base - 300..base + 300).for_each(|instance| promised(&mut leader, instance, ""));
            assert!(of_one(&leader).accepted.len() <= most, "{base}");
        }
    }

    #[test]
    fn a_promise_far_ahead_of_all_others_is_not_kept() {
        let mut leader = asking();
        [17, 100, 1 << 40, u64::MAX].into_iter().for_each(|instance| promised(&mut leader, instance, "x"));
        assert!(of_one(&leader).accepted.is_empty(), "each would be filled up with entries that do nothing");
    }

    /// The leader had learned these instances, and was lost; no `Chosen` of it reached these two.
    #[test]
    fn a_quorum_that_accepted_more_than_two_windows_and_learned_none_of_it_can_lead() {
        let mut leader = asking();
        let accepted =
            |instance: u64| Some((Ballot::first_epoch(0), Value::from(format!("{instance}").as_str())));
        for (first, step) in [(1, 2), (2, 2), (1, 2)] {
            // Each has every second one only; what one tells too early is told again.
            let from = NodeId(first as u16);
            let mut next = 1;
            for instance in (first..=60).step_by(step) {
                if next < instance {
                    let range = (Instance(next), Some(Instance(instance - 1)));
                    leader.on_promise_none(from, range, ballot(), Instance(0));
                }
                leader.on_promise(from, Instance(instance), ballot(), accepted(instance));
                next = instance + 1;
            }
            leader.on_promise_none(from, (Instance(next), None), ballot(), Instance(0));
        }
        let group = Group::first(3);
        let values = leader.finish_phase_1(&group, Instance(0)).expect("all is covered");
        let values: Vec<_> =
            values.iter().map(|(instance, value)| format!("{} {value}", instance.0)).collect();
        assert_eq!(values, (1..=60).map(|i| format!("{i} {i}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_flood_of_values_in_promises_is_bounded_by_what_an_acceptor_can_hold() {
        let mut leader = asking();
        let value = "x".repeat(700);
        for _ in 0..10 {
            (1..=16).for_each(|instance| promised(&mut leader, instance, &value));
            let coverage = of_one(&leader);
            let held: usize = coverage.accepted.values().map(|(_, value)| value.as_bytes().len()).sum();
            assert_eq!(coverage.bytes, held);
            assert!(held <= LIMITS.promised_bytes() + value.len());
        }
        leader.on_promise_none(FROM, (Instance(9), None), ballot(), Instance(8));
        assert_eq!(of_one(&leader).bytes, 0, "what is below the prefix is of no use");
    }

    #[test]
    fn a_flood_of_ranges_is_bounded() {
        let mut leader = asking();
        for instance in 1..500 {
            let range = (Instance(instance), Some(Instance(instance)));
            leader.on_promise_none(FROM, range, ballot(), Instance(0));
        }
        assert!(of_one(&leader).empty.len() <= LIMITS.promised_entries() + 1);
    }
}
