//! The checkers of membership: which group decides an instance, what that group chose, and which nodes may vote in
//! it.
//!
//! Instances are decided in order, from instance 1 on: the group at an instance follows from what was chosen below
//! it. This is written from the definition, not from the node's code.

use std::collections::BTreeSet;

use upaxos_core::entry::Entry;
use upaxos_core::types::{Act, Ballot, Change, Epoch, Instance, Tag, Tagged, Value};
use upaxos_core::wire::{Dialect, Line};

use super::Checkers;
use super::rule::Rule;

impl Checkers {
    /// The epoch in force and its members, as far as instances are decided.
    pub fn members(&self) -> (Epoch, &BTreeSet<u16>) {
        self.groups.at(self.groups.next)
    }

    /// The epoch in force after a learned prefix.
    pub(super) fn epoch_after(&self, learned: Instance) -> Epoch {
        self.groups.at(learned.next()).0
    }

    /// Whether this id was ever a member.
    pub fn was_member(&self, id: u16) -> bool {
        self.groups.ever.contains(&id)
    }

    /// A client requests a change of the group.
    pub fn on_change_asked(&mut self, tagged: Option<Tagged>, change: Change) {
        match tagged {
            Some(tagged) => self.groups.asked.insert(tagged.tag),
            None => self.groups.untagged.insert(change),
        };
    }

    /// Whether a client requested a change of the group under this tag.
    pub(super) fn is_change(&self, tag: Tag) -> bool {
        self.groups.asked.contains(&tag)
    }

    /// A new node is started to join.
    pub fn on_entered(&mut self, id: u16, replaces: Option<u16>) {
        self.groups.entered.insert(id, replaces);
    }

    /// Whether a change of the group was written and is not decided yet.
    pub fn has_open_change(&self) -> bool {
        let lowest = Ballot::first_epoch(0);
        let mut open = self.values.range((self.groups.next, lowest)..);
        open.any(|((at, _), value)| matches!(Entry::decode(*at, value, Dialect::Extended), Entry::Group(..)))
    }

    /// Whether a member has its disk, and has durably learned that it is a member.
    pub fn is_sound(&self, id: u16) -> bool {
        let disk = &self.disks[usize::from(id)];
        !disk.is_lost && disk.is_member && disk.learned.0 >= self.members().0.0
    }

    /// A value became durable at `instance`: finds out whether it is chosen now, and decides all instances that
    /// follow.
    pub(super) fn on_accepted(&mut self, instance: Instance, ballot: Ballot, value: &Value) {
        if instance < self.groups.next {
            if self.is_quorum(instance, ballot) {
                self.on_chosen(instance, value);
            }
            return;
        }
        loop {
            // Two ballots may have reached their quorums while an instance below was open.
            let chosen = self.chosen_next();
            chosen.iter().for_each(|value| self.on_chosen(self.groups.next, value));
            let Some(value) = chosen.first() else { return };
            if let Err((rule, got)) = self.groups.decide(value, self.dialect) {
                self.fail(rule, got);
            }
        }
    }

    /// The values that quorums accepted at the next instance, each in one ballot.
    fn chosen_next(&self) -> Vec<Value> {
        let (at, lowest) = (self.groups.next, Ballot::first_epoch(0));
        let ballots = self.accepts.range((at, lowest)..(at.next(), lowest)).map(|((_, ballot), _)| *ballot);
        let chosen = ballots.filter(|ballot| self.is_quorum(at, *ballot));
        chosen.filter_map(|ballot| self.values.get(&(at, ballot)).cloned()).collect()
    }

    /// A leader writes in its ballot. It may write nothing above a change of the group that it wrote in that
    /// ballot, unless that change is decided and void.
    pub(super) fn must_not_pass(&mut self, id: u16, instance: Instance, ballot: Ballot, value: &Value) {
        if let Some(fence) = self.groups.fences.get(&ballot).copied().filter(|fence| *fence < instance) {
            let is_void = fence < self.groups.next && !self.groups.by_epoch.contains_key(&Epoch(fence.0));
            if !is_void {
                let got = format!("{id} writes {value:?} at {instance}, above its change at {fence}");
                self.fail(Rule::NothingAboveChange, got);
            }
        }
        if matches!(Entry::decode(instance, value, Dialect::Extended), Entry::Group(..)) {
            self.groups.fences.insert(ballot, instance);
        }
    }

    /// A node reports that it has left with the change at `since`. A quorum of the remaining members must have that
    /// change on disk.
    pub fn on_left(&mut self, id: u16, since: Instance) {
        let members = self.groups.by_epoch.get(&Epoch(since.0)).cloned().unwrap_or_default();
        let has_it = |id: &&u16| self.disks[usize::from(**id)].learned >= since;
        let have_it = members.iter().filter(has_it).count();
        if members.contains(&id) || have_it <= members.len() / 2 {
            let got = format!("{id} has left at {since}, which {have_it} of {members:?} have on disk");
            self.fail(Rule::LeavesInOrder, got);
        }
    }

    /// A leader writes. A quorum of its group must have durably promised the ballot, whatever the leader has
    /// counted. Ballots in forged lines are exempt: a forged line may have claimed a promise.
    pub(super) fn must_be_promised(&mut self, instance: Instance, ballot: Ballot, line: &Line) {
        let none = BTreeSet::new();
        let promised = self.promises.get(&(self.slot(instance), ballot)).unwrap_or(&none);
        let group = self.groups.by_epoch.get(&ballot.epoch).unwrap_or(&none);
        let is_quorum = promised.intersection(group).count() > group.len() / 2;
        if !is_quorum && !self.forged.contains(&ballot) {
            let got = format!("{line}, promised by {promised:?} of {group:?}");
            self.fail(Rule::WritesWhatIsPromised, got);
        }
    }

    fn is_quorum(&self, instance: Instance, ballot: Ballot) -> bool {
        let (epoch, members) = self.groups.at(instance);
        let voters = self.accepts.get(&(instance, ballot));
        let votes = voters.map_or(0, |voters| voters.intersection(members).count());
        ballot.epoch == epoch && votes > members.len() / 2
    }

    /// Whether this entry was requested: by a client, by the operator, or by a node that was started to join.
    pub(super) fn is_wanted(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Group(Some(tagged), _) => self.is_change(tagged.tag),
            Entry::Refused(tagged, _) if self.is_change(tagged.tag) => true,
            Entry::Group(None, new) => {
                let Some(base) = self.groups.by_epoch.get(&new.base) else { return false };
                let members: BTreeSet<u16> = new.members.keys().map(|id| id.0).collect();
                let (comes, goes): (Vec<_>, Vec<_>) =
                    (members.difference(base).collect(), base.difference(&members).collect());
                let is_said = |act: &Act| match act {
                    Act::Leave(old) => comes.is_empty() && goes == [&old.0],
                    Act::Replace(old, new) => comes == [&new.0] && goes == [&old.0],
                };
                if self.groups.untagged.iter().any(|change| is_said(&change.act)) {
                    return true;
                }
                let [id] = comes[..] else { return false };
                let replaces = self.groups.entered.get(id);
                replaces.is_some_and(|replaces| goes.iter().all(|gone| *replaces == Some(**gone)))
            }
            entry => self.calls.asked_for(entry),
        }
    }

    /// A node may vote, or ask for votes, only in an epoch that it has durably learned and is a member of.
    pub(super) fn must_belong(&mut self, id: u16, ballot: Ballot, line: &Line) {
        let learned = self.disks[usize::from(id)].learned;
        let is_member = self.groups.by_epoch.get(&ballot.epoch).is_some_and(|members| members.contains(&id));
        if learned.0 < ballot.epoch.0 || !is_member {
            let got = format!("{id} says {line}, durably learned {learned}, a member there: {is_member}");
            self.fail(Rule::EpochIsLearned, got);
        }
    }
}
