//! The learner: which values are chosen, and which of them this node may report.
//!
//! This module owns the tallies of accepts above the learned prefix. It never interprets a value. Votes are sets of
//! senders, counted per instance *and* ballot, never per value: two acceptors that hold the same value in two
//! ballots have not chosen it.

use smallvec::SmallVec;

use crate::mutant::{self, Mutant};
use crate::paged_map::PagedMap;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::types::{Ballot, Group, Instance, NodeId, Value, Votes};

impl Tally {
    fn find(&self, ballot: Ballot) -> Option<&Count> {
        self.ballots.iter().find(|(known, _)| *known == ballot).map(|(_, count)| count)
    }

    /// Returns the count of a ballot, and the bytes of values that were dropped to make room for it.
    fn count(&mut self, ballot: Ballot, bounds: &Bounds) -> (&mut Count, isize) {
        let ballots = &mut self.ballots;
        let at = match ballots.binary_search_by_key(&ballot, |(ballot, _)| *ballot) {
            Ok(at) => at,
            Err(at) => {
                ballots.insert(at, (ballot, Count::default()));
                at
            }
        };
        if ballots.len() <= bounds.ballots {
            return (&mut ballots[at].1, 0);
        }
        bounds.reach(Bound::Ballots);
        // A dropped tally costs time, never safety. The highest ballots are the live ones.
        let lowest = usize::from(at == 0);
        let (_, lost) = ballots.remove(lowest);
        (&mut ballots[at - usize::from(lowest < at)].1, lost.bytes() as isize)
    }

    /// Keeps the value written in a ballot. Returns the growth of the tally in bytes.
    fn keep(&mut self, ballot: Ballot, value: &Value, bounds: &Bounds) -> isize {
        let (count, lost) = self.count(ballot, bounds);
        if count.value.is_some() {
            return -lost;
        }
        count.value = Some(value.clone());
        value.as_bytes().len() as isize - lost
    }

    /// A node that has learned the whole prefix below reports the chosen value. That outweighs the votes counted
    /// here: they are void if another group turns out to govern. Returns the growth of the tally in bytes.
    fn tell(&mut self, value: Value) -> isize {
        if self.is_told {
            return 0;
        }
        self.is_told = true;
        self.told_bytes = value.as_bytes().len();
        self.chosen = Some(value);
        self.told_bytes as isize
    }

    /// The bytes of all values in this tally.
    fn bytes(&self) -> usize {
        self.told_bytes + self.ballots.iter().map(|(_, count)| count.bytes()).sum::<usize>()
    }

    /// Whether a quorum accepted in this ballot. If so, and its value is known, that value is chosen.
    fn choose(&mut self, group: &Group, ballot: Ballot) -> bool {
        let Some(count) = self.find(ballot) else { return false };
        let mut is_quorum = count.votes.is_quorum(group);
        if mutant::is(Mutant::CountAcrossBallots) && count.value.is_some() {
            let same = self.ballots.iter().map(|(_, other)| other).filter(|other| other.value == count.value);
            let votes: Vec<&Votes> = same.map(|other| &other.votes).collect();
            let voters = group.members.iter().filter(|id| votes.iter().any(|votes| votes.contains(**id)));
            is_quorum |= voters.count() >= group.quorum();
        }
        if let (true, None, Some(value)) = (is_quorum, &self.chosen, &count.value) {
            self.chosen = Some(value.clone());
        }
        is_quorum
    }
}

impl Count {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.as_bytes().len())
    }
}

/// The votes and chosen values above the learned prefix, as far as this node has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Learner {
    bounds: Bounds,
    learned: Instance,
    tallies: PagedMap<Tally>,
    /// The highest instance above the prefix that is known to be chosen, or has a quorum; 0 for none.
    evidence: Instance,
    /// The size of the values in `tallies`.
    bytes: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Tally {
    /// Sorted by ballot. There is nearly always one.
    ballots: SmallVec<[(Ballot, Count); 1]>,
    chosen: Option<Value>,
    /// Whether `chosen` comes from the report of a node that has learned all below it, not from votes counted here.
    is_told: bool,
    /// The size of that reported value.
    told_bytes: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Count {
    value: Option<Value>,
    votes: Votes,
}

impl Learner {
    /// A learner with an empty prefix.
    pub fn new(limits: Limits) -> Learner {
        Learner { bounds: limits.into(), ..Learner::default() }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// The last instance of the learned prefix. This node knows the value of every instance up to it.
    pub fn learned(&self) -> Instance {
        self.learned
    }

    /// Whether `instance` is above the learned prefix and near enough to be tallied.
    pub fn is_open(&self, instance: Instance) -> bool {
        let is_far = instance.0 > self.learned.0 + self.bounds.window;
        instance > self.learned && !self.bounds.is_over(Bound::Window, is_far)
    }

    /// Restores the prefix that an earlier run had learned.
    pub fn recover(&mut self, learned: Instance) {
        self.learned = learned;
    }

    /// Records the value written in a ballot. Votes without a value count for it. If there is no room for the
    /// value, this node fetches it again once it is chosen.
    pub fn on_write(&mut self, group: &Group, instance: Instance, ballot: Ballot, value: &Value) {
        if !self.is_open(instance) {
            return;
        }
        // The next instance to learn always has room.
        let has_room = self.has_room() || instance == self.learned.next();
        let tally = self.tallies.get_or_default(instance.0);
        let grown = if has_room { tally.keep(ballot, value, &self.bounds) } else { 0 };
        let is_evident = tally.choose(group, ballot);
        self.note(instance, grown, is_evident);
    }

    /// Records that `from` accepted the value written in this ballot. Only the votes of classic groups carry a
    /// value. It is used when no `Write` of the ballot was received. A vote for a value other than the ballot's is
    /// void: a leader that put two values into one ballot has got neither chosen.
    pub fn on_accept(
        &mut self,
        group: &Group,
        from: NodeId,
        instance: Instance,
        ballot: Ballot,
        value: Option<&Value>,
    ) {
        let is_late = ballot.epoch < group.epoch && !mutant::is(Mutant::OldEpochVotes);
        if !group.members.contains(&from) || is_late || ballot.epoch > group.epoch {
            return;
        }
        if !self.is_open(instance) {
            return;
        }
        let has_room = value.is_none() || self.has_room();
        let tally = self.tallies.get_or_default(instance.0);
        let grown = value.filter(|_| has_room).map_or(0, |value| tally.keep(ballot, value, &self.bounds));
        let (count, lost) = tally.count(ballot, &self.bounds);
        let known = count.value.as_ref();
        let is_void = value.is_some_and(|value| known.is_some_and(|known| known != value));
        if !is_void && !count.votes.insert(from) && mutant::is(Mutant::CountDuplicateAccepts) {
            let other = group.members.iter().find(|id| !count.votes.contains(**id));
            other.map(|id| count.votes.insert(*id));
        }
        let is_evident = !is_void && tally.choose(group, ballot);
        self.note(instance, grown - lost, is_evident);
    }

    /// A trusted peer reports that the value written in `ballot` is chosen. True when this node holds that value.
    pub fn on_chosen(&mut self, instance: Instance, ballot: Ballot) -> bool {
        let Some(tally) = self.tallies.get_mut(instance.0) else { return false };
        let Some(value) = tally.find(ballot).and_then(|count| count.value.clone()) else { return false };
        let grown = tally.tell(value);
        self.note(instance, grown, true);
        true
    }

    /// Starts the epoch of another group. Votes for instances above were cast in another epoch, and chose nothing.
    pub fn begin_epoch(&mut self) {
        if mutant::is(Mutant::OldEpochVotes) {
            return;
        }
        self.bytes = 0;
        self.tallies.retain(|tally| tally.is_told);
        for (_, tally) in self.tallies.iter_mut() {
            tally.ballots.clear();
            tally.told_bytes = tally.chosen.as_ref().map_or(0, |value| value.as_bytes().len());
            self.bytes += tally.told_bytes;
        }
        self.evidence = self.tallies.last().map_or(Instance(0), |(instance, _)| Instance(instance));
    }

    /// Records a value that is known to be chosen. Without room for it, this node asks for it again later. The next
    /// instance always has room.
    pub fn on_written(&mut self, instance: Instance, value: Value) {
        if self.is_open(instance) && (instance == self.learned.next() || self.has_room()) {
            let grown = self.tallies.get_or_default(instance.0).tell(value);
            self.note(instance, grown, true);
        }
    }

    /// The highest instance that this node knows to be chosen, or to have a quorum, but cannot report yet.
    pub fn highest_evidence(&self) -> Option<Instance> {
        Some(self.evidence).filter(|instance| *instance > self.learned)
    }

    /// Whether the value of the next instance is known.
    pub fn has_next(&self) -> bool {
        self.tallies.get(self.learned.next().0).is_some_and(|tally| tally.chosen.is_some())
    }

    /// Returns the next instance of the prefix, if its value is known. Each is returned once, in order.
    pub fn next_learned(&mut self) -> Option<(Instance, Value)> {
        let next = self.learned.next();
        self.tallies.get(next.0)?.chosen.as_ref()?;
        let tally = self.tallies.remove(next.0)?;
        self.bytes -= tally.bytes();
        let value = tally.chosen?;
        self.learned = next;
        if self.evidence <= next {
            self.evidence = Instance(0);
        }
        Some((next, value))
    }

    /// Whether the bound leaves room for one more value.
    fn has_room(&self) -> bool {
        !self.bounds.is_over(Bound::TallyBytes, self.bytes > self.bounds.open_bytes)
    }

    /// Adds up the growth of a tally, and raises the evidence.
    fn note(&mut self, instance: Instance, grown: isize, is_evident: bool) {
        self.bytes = self.bytes.saturating_add_signed(grown);
        if is_evident {
            self.evidence = self.evidence.max(instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;

    const LIMITS: Limits = Limits { window: 8, ballots: 4, open_bytes: 1_000, ..Limits::USUAL };

    /// How many values may exceed the bound: the last one, and those of the next instance, which always has room.
    const OVER: usize = 1 + LIMITS.ballots;

    fn group() -> Group {
        Group { epoch: Epoch(0), members: [0, 1, 2].map(NodeId).into() }
    }

    fn held(learner: &Learner) -> usize {
        learner.tallies.iter().map(|(_, tally)| tally.bytes()).sum()
    }

    #[test]
    fn a_flood_of_votes_keeps_the_highest_ballots_of_the_window_and_no_more_bytes_than_are_allowed() {
        let mut learner = Learner::new(LIMITS);
        let value = Value::from("x".repeat(300).as_str());
        for round in 0..100 {
            for instance in (0..50).map(Instance) {
                let ballot = Ballot::first_epoch(round * 65_536);
                learner.on_write(&group(), instance, ballot, &value);
                learner.on_accept(&group(), NodeId(0), instance, ballot, None);
                // A node that is no member has no vote, and takes no room.
                learner.on_accept(
                    &group(),
                    NodeId(9),
                    instance,
                    Ballot::first_epoch((round + 1) * 65_536),
                    None,
                );
                assert!(learner.bytes == held(&learner) && learner.bytes <= LIMITS.open_bytes + OVER * 300);
            }
        }
        assert_eq!(learner.tallies.iter().count() as u64, LIMITS.window);
        assert!(learner.tallies.iter().all(|(_, tally)| tally.ballots.len() <= LIMITS.ballots));
        let live = Ballot::first_epoch(99 * 65_536);
        assert!(learner.tallies.iter().all(|(_, tally)| tally.find(live).is_some()));
    }

    #[test]
    fn a_flood_of_values_said_to_be_chosen_is_bounded_and_the_next_one_always_has_room() {
        let mut learner = Learner::new(LIMITS);
        let value = |instance: Instance| Value::from(format!("{instance}{}", "x".repeat(600)).as_str());
        for instance in (2..50).map(Instance) {
            learner.on_written(instance, value(instance));
            assert!(learner.bytes == held(&learner) && learner.bytes <= LIMITS.open_bytes + OVER * 602);
        }
        // Values that found no room are reported again, and learned one after the other.
        for instance in (1..50).map(Instance) {
            learner.on_written(instance, value(instance));
            assert_eq!(learner.next_learned(), Some((instance, value(instance))));
            assert_eq!(learner.bytes, held(&learner));
        }
        assert_eq!(learner.bytes, 0);
    }

    #[test]
    fn what_is_held_of_the_next_epoch_still_counts() {
        let mut learner = Learner::new(LIMITS);
        let ballot = Ballot::first_epoch(0);
        learner.on_write(&group(), Instance(1), ballot, &"abc".into());
        learner.on_chosen(Instance(1), ballot);
        learner.on_written(Instance(2), "defg".into());
        assert_eq!(learner.bytes, 3 + 7, "what was written may be lost again, and what was told stays");
        learner.begin_epoch();
        assert_eq!(learner.bytes, 7);
        assert!(learner.next_learned().is_some() && learner.next_learned().is_some());
        assert_eq!(learner.bytes, 0);
    }
}
