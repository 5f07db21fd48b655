//! The durable state of one member, from its records alone.

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::record::Record;
use upaxos_core::types::{Ballot, GroupId, Instance, NodeId, Value};
use upaxos_core::wire::Boot;

/// The durable state of one member, over all its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub records: usize,
    pub starts: u64,
    /// The boot number of each start.
    pub lives: BTreeMap<u64, u64>,
    pub is_member: bool,
    pub group: Option<GroupId>,
    pub is_barred: bool,
    pub registered: BTreeMap<NodeId, Boot>,
    pub is_lost: bool,
    /// By the slot of each promise.
    pub promised: BTreeMap<Instance, Ballot>,
    pub accepted: BTreeMap<(Instance, Ballot), Value>,
    /// The values that it accepted in a block that was damaged before it was synced. A checkpoint may hold a copy.
    pub unread: BTreeSet<(Instance, Ballot)>,
    pub learned: Instance,
    /// The learned prefix before a value was lost. All of it may count again as soon as that value is back.
    pub once_learned: Instance,
    /// The learned value of each instance.
    pub log: BTreeMap<Instance, Value>,
    /// The highest ballot that it voted in, by slot, as its lines showed it.
    pub voted: BTreeMap<Instance, Ballot>,
}

impl Disk {
    /// What a promise of `ballot` must report: all values that were accepted in lower ballots. (A batch may hold
    /// the promise and then a vote in that ballot, or a higher one.)
    pub fn accepted_below(
        &self,
        ballot: Ballot,
        (first, last): (Instance, Instance),
    ) -> impl DoubleEndedIterator<Item = (Instance, (Ballot, &Value))> {
        let lowest = Ballot::first_epoch(0);
        let range = self.accepted.range((first, lowest)..(last.next(), lowest));
        range.filter(move |((_, at), _)| *at < ballot).map(|((i, at), value)| (*i, (*at, value)))
    }
}

impl Disk {
    /// The records that a checkpoint must have besides starts and sessions.
    pub(super) fn checkpoint(&self, learned: Instance) -> Vec<Record> {
        let member = self.is_member.then_some(Record::Member);
        let founded = self.group.map(|group| Record::Founded { group });
        let member = founded.into_iter().chain(member);
        let barred = self.is_barred.then_some(Record::Barred);
        let registered = self.registered.iter();
        let registered = registered.map(|(node, boot)| Record::Registered { node: *node, boot: *boot });
        let promised = self.promised.values().max().map(|ballot| Record::PromiseAll { ballot: *ballot });
        let open = self.accepted.range((learned.next(), Ballot::first_epoch(0))..);
        // For each instance the highest ballot counts.
        let last: BTreeMap<_, _> = open.map(|((i, ballot), value)| (*i, (*ballot, value.clone()))).collect();
        let accept = |(instance, (ballot, value))| Record::Accept { instance, ballot, value };
        let own = member.chain(barred).chain(registered);
        own.chain(promised).chain(last.into_iter().map(accept)).collect()
    }
}
