//! The members of each epoch, as the chosen values give them.

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::entry::{Entry, NewGroup};
use upaxos_core::replica::{DedupStatus, Limits, Sessions};
use upaxos_core::types::{Ballot, Change, Epoch, Instance, NodeId, Tag, Tagged, Value};
use upaxos_core::wire::Dialect;

use super::rule::Rule;

/// The members of each epoch, and the changes that clients requested.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// The members of each epoch. An epoch is named by the instance that chose it.
    pub(super) by_epoch: BTreeMap<Epoch, BTreeSet<u16>>,
    pub(super) ever: BTreeSet<u16>,
    /// Tagged requests that have been chosen. A second choice of one is void.
    pub(super) sessions: Sessions,
    /// The instance at which a leader wrote a change, by its ballot.
    pub(super) fences: BTreeMap<Ballot, Instance>,
    /// The changes that clients requested: by tag, and untagged.
    pub(super) asked: BTreeSet<Tag>,
    pub(super) untagged: BTreeSet<Change>,
    /// The changes that took effect, and those that were reported to clients as refused.
    pub(super) made: BTreeMap<Tag, Instance>,
    pub(super) refused: BTreeMap<Tag, Value>,
    /// The nodes that were started to join, each with the member that it replaces.
    pub(super) entered: BTreeMap<u16, Option<u16>>,
    /// All instances below this one are decided.
    pub next: Instance,
}

impl Groups {
    pub fn new(n: u16, limits: Limits) -> Groups {
        let by_epoch = BTreeMap::from([(Epoch(0), (0..n).collect())]);
        let next = Instance(1);
        Groups {
            by_epoch,
            ever: (0..n).collect(),
            next,
            sessions: Sessions::new(limits),
            ..Groups::default()
        }
    }

    /// The members of the first group.
    pub fn first(&self) -> BTreeSet<NodeId> {
        self.by_epoch[&Epoch(0)].iter().copied().map(NodeId).collect()
    }

    /// The epoch that decides an instance, and its members, as far as all below it is decided.
    pub(super) fn at(&self, instance: Instance) -> (Epoch, &BTreeSet<u16>) {
        let before = self.by_epoch.range(..Epoch(instance.0)).next_back();
        let (epoch, members) = before.expect("epoch 0 is below every instance");
        (*epoch, members)
    }

    /// Whether `new` makes a group at this instance: it is based on the epoch in force and brings no former id
    /// back.
    pub(super) fn is_valid(&self, instance: Instance, new: &NewGroup) -> bool {
        let (epoch, members) = self.at(instance);
        let comes = |id: &u16| !members.contains(id);
        new.base == epoch
            && new.members.keys().map(|id| id.0).filter(comes).all(|id| !self.ever.contains(&id))
    }

    /// Whether this is the first choice of a request that its client had not settled, by the table that all nodes
    /// keep, with its bounds. (The table itself is checked by the answers to clients.)
    pub(super) fn is_first(&mut self, tagged: Tagged) -> bool {
        self.sessions.settle(tagged, self.next) == DedupStatus::New
    }

    /// Decides the next instance: `value` is chosen there.
    ///
    /// # Errors
    /// When it is a change that was reported to a client as refused.
    pub fn decide(&mut self, value: &Value, dialect: Dialect) -> Result<(), (Rule, String)> {
        let at = self.next;
        let entry = Entry::decode(self.next, value, dialect);
        let is_misplaced = matches!(&entry, Entry::Read { instance, .. } if *instance != self.next);
        let is_first = !is_misplaced && entry.tagged().is_none_or(|tagged| self.is_first(tagged));
        self.next = self.next.next();
        if let Entry::Group(tagged, new) = entry
            && is_first
            && self.is_valid(at, &new)
        {
            let members: BTreeSet<u16> = new.members.keys().map(|id| id.0).collect();
            self.ever.extend(&members);
            self.by_epoch.insert(Epoch(at.0), members);
            if let Some(Tagged { tag, .. }) = tagged {
                self.made.insert(tag, at);
                return self
                    .refused
                    .get(&tag)
                    .map_or(Ok(()), |reason| Err(made_though_refused(tag, at, reason)));
            }
        }
        Ok(())
    }

    /// A client is told that its change is refused for ever.
    ///
    /// # Errors
    /// When the change was made.
    pub fn on_refused(&mut self, tag: Tag, reason: &Value) -> Result<(), (Rule, String)> {
        self.refused.entry(tag).or_insert_with(|| reason.clone());
        self.made.get(&tag).map_or(Ok(()), |at| Err(made_though_refused(tag, *at, reason)))
    }
}

fn made_though_refused(tag: Tag, at: Instance, reason: &Value) -> (Rule, String) {
    (
        Rule::RefusedIsFinal,
        format!("the change {tag:?} was made at {at}, and was reported as refused: {reason}"),
    )
}
