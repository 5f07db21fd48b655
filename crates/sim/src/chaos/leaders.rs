//! The leader as seen from outside, and whether one should exist.

use upaxos_core::replica::Replica;
use upaxos_core::types::{Ballot, Instance, Tag};

use super::Chaos;

impl Chaos {
    /// The leader with the highest ballot. Without a leader, node 0.
    pub(super) fn leader(&self) -> u16 {
        let ballot = |id: &u16| self.cluster.machines[usize::from(*id)].node().and_then(Replica::ballot);
        (0..self.cluster.nodes()).filter(|id| self.leads(*id)).max_by_key(ballot).unwrap_or(0)
    }

    /// The highest ballot that any node knows.
    pub fn highest_ballot(&self) -> Option<Ballot> {
        self.cluster.machines.iter().filter_map(|machine| machine.node()?.ballot()).max()
    }

    /// Whether there is a leader, and all nodes have the same learned prefix.
    pub fn is_led(&self) -> bool {
        let mut learned = self.cluster.machines.iter().map(|machine| machine.node().map(Replica::learned));
        let first = learned.next().flatten();
        (0..self.plan.n).any(|id| self.leads(id)) && learned.all(|learned| learned == first)
    }

    /// A client sends a request at once.
    pub fn ask_now(&mut self) -> Tag {
        let (tag, said) = self.clients.ask_now(self.cluster.now, &mut self.cluster.checkers);
        said.into_iter().for_each(|datagram| self.cluster.send_from_clients(datagram));
        tag
    }

    /// Whether a leader with two-way links to a quorum knows that the request is chosen.
    pub fn is_chosen_under_a_leader(&self, tag: Tag) -> bool {
        let Some(instance) = self.cluster.checkers.chosen(tag) else { return false };
        (0..self.plan.n).any(|id| self.leads(id) && self.knows(id, instance) && self.has_quorum(id))
    }

    /// Whether the remaining links allow any leader.
    pub fn allows_leader(&self) -> bool {
        self.topology.as_ref().is_none_or(|topology| topology.allows_leader(self.plan.n))
    }

    fn leads(&self, id: u16) -> bool {
        self.cluster.machines[usize::from(id)].node().is_some_and(Replica::is_leading)
    }

    fn knows(&self, id: u16, instance: Instance) -> bool {
        self.cluster.machines[usize::from(id)].node().is_some_and(|node| node.learned() >= instance)
    }

    fn has_quorum(&self, id: u16) -> bool {
        self.topology.as_ref().is_none_or(|topology| topology.leaves_quorum(self.plan.n, id))
    }
}
