//! The judges of who governs: which group decides an instance, what that group chose, and who may vote in it.
//!
//! Chosen is decided in order, from instance 1 on: the group at an instance follows from what was chosen below
//! it. Written from the definition, not from the node's code.

use std::collections::{BTreeMap, BTreeSet};

use super::{Judges, Rule};
use crate::entry::{Entry, NewGroup};
use crate::sim::clients::OPERATOR;
use crate::types::{Ballot, Epoch, Instance, Value};
use crate::wire::{Dialect, Line};

/// Who governed from when on.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// By the instance that chose each: the epoch.
    by_epoch: BTreeMap<Epoch, BTreeSet<u16>>,
    ever: BTreeSet<u16>,
    /// The operator's requests that have been chosen: a second choice of one is void.
    done: BTreeSet<u64>,
    /// What the operator asked for.
    asked: BTreeSet<u64>,
    /// Who was told to join.
    entered: BTreeSet<u16>,
    /// All below it is decided.
    next: Instance,
}

impl Groups {
    pub fn new(n: u16) -> Groups {
        let by_epoch = BTreeMap::from([(Epoch(0), (0..n).collect())]);
        let next = Instance(1);
        Groups { by_epoch, ever: (0..n).collect(), next, ..Groups::default() }
    }

    /// The epoch of an instance, and its group, as far as what is below it is decided.
    fn at(&self, instance: Instance) -> (Epoch, &BTreeSet<u16>) {
        let before = self.by_epoch.range(..Epoch(instance.0)).next_back();
        let (epoch, members) = before.expect("epoch 0 is below every instance");
        (*epoch, members)
    }

    /// The group that `new` makes, if it is one: based on the epoch in force, bringing no id back.
    fn is_valid(&self, new: &NewGroup) -> bool {
        let (epoch, members) = self.at(self.next);
        let comes = |id: &u16| !members.contains(id);
        new.base == epoch
            && new.members.keys().map(|id| id.0).filter(comes).all(|id| !self.ever.contains(&id))
    }

    /// Takes note of what is chosen at the next instance.
    fn decide(&mut self, value: &Value) {
        if let Entry::Group(tagged, new) = Entry::decode(self.next, value, Dialect::Extended) {
            let is_first = tagged.is_none_or(|tagged| self.done.insert(tagged.tag.seq));
            if is_first && self.is_valid(&new) {
                let members: BTreeSet<u16> = new.members.keys().map(|id| id.0).collect();
                self.ever.extend(&members);
                self.by_epoch.insert(Epoch(self.next.0), members);
            }
        }
        self.next = self.next.next();
    }
}

impl Judges {
    /// Who governs, as far as is decided; and in which epoch.
    pub fn members(&self) -> (Epoch, &BTreeSet<u16>) {
        self.groups.at(self.groups.next)
    }

    /// Whether this id was ever a member.
    pub fn was_member(&self, id: u16) -> bool {
        self.groups.ever.contains(&id)
    }

    /// The operator asks for a change.
    pub fn on_change_asked(&mut self, seq: u64) {
        self.groups.asked.insert(seq);
    }

    /// A new node is told to join.
    pub fn on_entered(&mut self, id: u16) {
        self.groups.entered.insert(id);
    }

    /// Whether a change of the group is written somewhere and not decided.
    pub fn has_open_change(&self) -> bool {
        let lowest = Ballot::first_epoch(0);
        let open = self.values.range((self.groups.next, lowest)..);
        open.into_iter()
            .any(|((at, _), value)| matches!(Entry::decode(*at, value, Dialect::Extended), Entry::Group(..)))
    }

    /// How many members have their disks and have durably learned that they are.
    pub fn sound_members(&self, but: u16) -> usize {
        let (epoch, members) = self.members();
        let sound = |id: &&u16| {
            let disk = &self.disks[usize::from(**id)];
            **id != but && !disk.is_lost && disk.is_member && disk.learned.0 >= epoch.0
        };
        members.iter().filter(sound).count()
    }

    /// Something became durable at `instance`: whether it is chosen now, and what follows.
    pub(super) fn on_accepted(&mut self, instance: Instance, ballot: Ballot, value: &Value) {
        if instance < self.groups.next {
            if self.is_quorum(instance, ballot) {
                self.on_chosen(instance, value);
            }
            return;
        }
        while let Some(value) = self.chosen_next() {
            self.on_chosen(self.groups.next, &value);
            self.groups.decide(&value);
        }
    }

    fn chosen_next(&self) -> Option<Value> {
        let (at, lowest) = (self.groups.next, Ballot::first_epoch(0));
        let mut ballots =
            self.accepts.range((at, lowest)..(at.next(), lowest)).map(|((_, ballot), _)| *ballot);
        let ballot = ballots.find(|ballot| self.is_quorum(at, *ballot))?;
        self.values.get(&(at, ballot)).cloned()
    }

    fn is_quorum(&self, instance: Instance, ballot: Ballot) -> bool {
        let (epoch, members) = self.groups.at(instance);
        let voters = self.accepts.get(&(instance, ballot));
        let votes = voters.map_or(0, |voters| voters.intersection(members).count());
        ballot.epoch == epoch && votes > members.len() / 2
    }

    /// Whether somebody wanted this change: the operator, or a node that was told to join.
    pub(super) fn is_wanted(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Group(Some(tagged), _) => {
                tagged.tag.client == OPERATOR && self.groups.asked.contains(&tagged.tag.seq)
            }
            Entry::Group(None, new) => {
                let known = |id: u16| self.groups.ever.contains(&id) || self.groups.entered.contains(&id);
                new.members.keys().all(|id| known(id.0))
            }
            entry => self.calls.asked_for(entry),
        }
    }

    /// Nobody votes, or asks for votes, in an epoch that it has not durably learned, or is no member in.
    pub(super) fn must_belong(&mut self, id: u16, ballot: Ballot, line: &Line) {
        let learned = self.disks[usize::from(id)].learned;
        let is_member = self.groups.by_epoch.get(&ballot.epoch).is_some_and(|members| members.contains(&id));
        if learned.0 < ballot.epoch.0 || !is_member {
            let got = format!("{id} says {line}, durably learned {learned}, a member there: {is_member}");
            self.fail(Rule::EpochIsLearned, got);
        }
    }
}
