//! The membership: the first group, and every chosen change of it.
//!
//! This module owns the group in force at the end of the learned prefix, and the ids that were ever members: no id
//! is used twice. It is a pure function of the learned values in order. It does not decide when a change is
//! proposed (see `changes`), and never counts a vote.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{Entry, NewGroup};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::types::{Epoch, Group, Instance, NodeId, Value};
use crate::wire::Dialect;

/// The group that governs the instance after the learned prefix, and its history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    n: u16,
    group: Group,
    /// The incarnations of the members' data directories, as far as the log names them.
    incarnations: BTreeMap<NodeId, u64>,
    /// Every id that was ever a member.
    ever: BTreeSet<NodeId>,
    /// The value that started the epoch; `None` in the first epoch.
    change: Option<Value>,
    /// The group of the epoch before. Only a mutant reads it.
    #[cfg(feature = "mutants")]
    before: Option<Group>,
}

impl Membership {
    /// The first group, of `n` members; 0 while the size is not known.
    pub fn new(n: u16) -> Membership {
        let group = Group::first(n);
        let ever = group.members.clone();
        Membership {
            n,
            group,
            incarnations: BTreeMap::new(),
            ever,
            change: None,
            #[cfg(feature = "mutants")]
            before: None,
        }
    }

    /// The size of the first group; 0 while it is not known.
    pub fn n(&self) -> u16 {
        self.n
    }

    /// The group in force, which governs the next instance.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The group of which a quorum must promise before a candidate leads.
    pub fn promising(&self) -> &Group {
        #[cfg(feature = "mutants")]
        if let (Some(before), true) = (&self.before, mutant::is(Mutant::Phase1InOldGroup)) {
            return before;
        }
        &self.group
    }

    /// Lets a proposed group count before it is chosen. Only a mutant does that.
    pub fn count_early(&mut self, members: BTreeSet<NodeId>) {
        self.group.members = members;
    }

    /// The value that started the epoch in force, encoded as in the log.
    pub fn change(&self) -> Option<&Value> {
        self.change.as_ref()
    }

    /// The incarnation that the log names for a member.
    pub fn incarnation(&self, id: NodeId) -> Option<u64> {
        self.incarnations.get(&id).copied()
    }

    /// Whether this id was a member at any time.
    pub fn was_member(&self, id: NodeId) -> bool {
        self.ever.contains(&id)
    }

    /// The members, in the form of a change that would change nothing.
    pub fn members(&self) -> BTreeMap<NodeId, Option<u64>> {
        self.group.members.iter().map(|id| (*id, self.incarnation(*id))).collect()
    }

    /// The reason why `new` would start no epoch at the end of the prefix; `None` when it would.
    pub fn objection(&self, new: &NewGroup) -> Option<String> {
        if new.base != self.group.epoch {
            return Some(format!("based on epoch {}, in force is {}", new.base, self.group.epoch));
        }
        let comes = |id: &&NodeId| !self.group.members.contains(id);
        let again = new.members.keys().filter(comes).find(|id| self.was_member(**id));
        again.map(|id| format!("node {id} was a member before, and ids are never used again"))
    }

    /// Applies a chosen change. Everything below `instance` must be learned. False when the change is void.
    pub fn learn(&mut self, instance: Instance, new: &NewGroup, value: &Value) -> bool {
        if self.objection(new).is_some() {
            return false;
        }
        self.begin(Epoch(instance.0), new, value);
        self.ever.extend(new.members.keys());
        true
    }

    fn begin(&mut self, epoch: Epoch, new: &NewGroup, value: &Value) {
        #[cfg(feature = "mutants")]
        {
            self.before = Some(self.group.clone());
        }
        let epoch = if mutant::is(Mutant::DropEpoch) { Epoch(0) } else { epoch };
        self.group = Group { epoch, members: new.members.keys().copied().collect() };
        self.incarnations = new.members.iter().filter_map(|(id, known)| Some((*id, (*known)?))).collect();
        self.change = Some(value.clone());
    }

    /// The records that rebuild this from nothing.
    pub fn checkpoint(&self) -> Vec<Record> {
        let gone: Vec<NodeId> = self.ever.difference(&self.group.members).copied().collect();
        let change = self.change.clone().map(|value| Record::Group { epoch: self.group.epoch, value });
        let genesis = (self.n > 0).then_some(Record::Genesis { n: self.n });
        let gone = (!gone.is_empty()).then_some(Record::Gone { nodes: gone });
        genesis.into_iter().chain(change).chain(gone).collect()
    }

    /// Restores one record of a checkpoint, or the size of the first group.
    pub fn recover(&mut self, record: &Record) {
        match record {
            Record::Genesis { n } if self.n == 0 => *self = Membership::new(*n),
            Record::Group { epoch, value } => {
                if let Entry::Group(_, new) = Entry::decode(Instance(epoch.0), value, Dialect::Extended) {
                    self.begin(*epoch, &new, value);
                    self.ever.extend(new.members.keys());
                }
            }
            Record::Gone { nodes } => self.ever.extend(nodes),
            _ => {}
        }
    }
}

/// The refusal of a chosen change that had no effect.
pub const STALE: &str =
    "the group was changed otherwise before: this change is void; ask again if it is still wanted";

#[cfg(test)]
mod tests {
    use super::*;

    fn new(base: u64, ids: &[u16]) -> NewGroup {
        let members = ids.iter().map(|id| (NodeId(*id), Some(u64::from(*id) + 70))).collect();
        NewGroup { base: Epoch(base), members }
    }

    fn learn(membership: &mut Membership, at: u64, new: &NewGroup) -> bool {
        let value = Entry::Group(None, new.clone()).encode(Dialect::Extended);
        membership.learn(Instance(at), new, &value)
    }

    #[test]
    fn a_change_governs_from_the_next_instance_on_and_names_who_comes() {
        let mut membership = Membership::new(1);
        assert!(learn(&mut membership, 5, &new(0, &[0, 7])));
        assert_eq!(membership.group().epoch, Epoch(5));
        assert_eq!(membership.incarnation(NodeId(7)), Some(77));
    }

    #[test]
    fn a_stale_change_is_void_and_begins_no_epoch() {
        let mut membership = Membership::new(3);
        assert!(learn(&mut membership, 5, &new(0, &[0, 1])));
        assert!(!learn(&mut membership, 6, &new(0, &[0, 1, 2, 3])), "its base is gone");
        assert_eq!(membership.group().epoch, Epoch(5));
    }

    #[test]
    fn an_id_is_never_used_again() {
        let mut membership = Membership::new(3);
        assert!(learn(&mut membership, 5, &new(0, &[0, 1])));
        assert!(!learn(&mut membership, 6, &new(5, &[0, 1, 2])), "2 was a member before");
    }

    #[test]
    fn a_checkpoint_rebuilds_it() {
        let mut membership = Membership::new(3);
        learn(&mut membership, 5, &new(0, &[0, 1, 4]));
        let mut again = Membership::new(0);
        membership.checkpoint().iter().for_each(|record| again.recover(record));
        assert_eq!(again, membership);
    }
}
