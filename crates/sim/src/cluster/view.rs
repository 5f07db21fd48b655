//! The cluster as seen from outside: the state of each node, and whether the group has settled.

use upaxos_core::replica::Replica;
use upaxos_core::types::{Epoch, Instance, NodeId};
use upaxos_core::wire::Head;

use super::{Cluster, incarnation};
use crate::machine::{Machine, Role, State};
use crate::network::CLIENTS;

impl<C> Cluster<C> {
    /// Whether all nodes that should run do run and have the same learned prefix, with everything that was
    /// acknowledged. Values that a flipped bit destroyed must be back. Joining nodes must be members, and nodes
    /// that have left must know it.
    pub fn is_settled(&self) -> bool {
        let mut learned = self.running().map(|(_, machine)| machine.node().map(Replica::learned));
        let first = learned.next().flatten();
        // A value that only a rolled back disk had learned is missing until the next request brings the gap to
        // light.
        let is_complete = first >= Some(self.checkers.acknowledged()) || self.checkers.has_rolled_back();
        is_complete
            && learned.all(|learned| learned == first)
            && self.running().all(|(id, machine)| self.is_in_place(id, machine))
            && self.is_put_right()
            && self.running().all(|(_, machine)| machine.lost_below.is_none() || machine.has_fetched())
    }

    fn is_in_place(&self, id: u16, machine: &Machine) -> bool {
        // A node that has lost its disk cannot know whether it ever was a member.
        self.checkers.members().1.contains(&id) || (machine.wipes > 0 && !self.checkers.was_member(id))
    }

    /// Whether the group in force can decide anything. Operators and lost disks may have left too few members.
    pub fn is_alive(&self) -> bool {
        let (epoch, members) = self.checkers.members();
        let whole = members.iter().filter(|id| {
            let machine = &self.machines[usize::from(**id)];
            // A node that never started before the group changed cannot begin any more.
            if epoch > Epoch(0) && **id < self.setting.n && !self.checkers.is_member(**id) {
                return false;
            }
            let runs = !matches!(machine.role, Role::Gone | Role::Spare);
            !machine.is_lost() && machine.lost_below.is_none() && runs
        });
        whole.count() > members.len() / 2
    }

    /// The nodes that should run.
    pub(super) fn running(&self) -> impl Iterator<Item = (u16, &Machine)> {
        let runs = |machine: &Machine| !matches!(machine.role, Role::Spare | Role::Gone);
        (0..).zip(&self.machines).filter(move |(_, machine)| runs(machine))
    }

    /// The head of a node's datagrams in its present life, or in the one that it will begin.
    pub fn head_of(&self, id: NodeId) -> Option<Head> {
        let machine = self.machines.get(usize::from(id.0))?;
        let group = self.machines.iter().find_map(|machine| machine.node()?.head().group);
        Some(Head {
            from: Some((id, self.setting.incarnations + incarnation(id.0, machine.wipes))),
            group,
            name: None,
        })
    }

    /// The learned prefix of every node that should run.
    pub fn learned(&self) -> Vec<(u16, Instance)> {
        self.running().map(|(id, m)| (id, m.node().map_or(Instance(0), Replica::learned))).collect()
    }

    /// The state of every node, and the last lines that were sent.
    pub fn view(&self) -> String {
        let mut text = format!("at {} us\n", self.now.0);
        for (id, machine) in self.machines.iter().enumerate() {
            let state = match &machine.state {
                State::Down => "down".into(),
                State::Waits(work) => node_text(&work.node),
                State::Syncs(work) => format!("syncs, {}", node_text(&work.node)),
                State::Halts(work) => format!("paused, {}", node_text(&work.node)),
            };
            let Machine { life, wipes, malformed, .. } = machine;
            text +=
                &format!("  node {id}, life {life}, {wipes} wipes, {malformed} malformed lines: {state}\n");
        }
        text += "  sent last:\n";
        for (at, from, datagram) in &self.tail {
            for line in &datagram.lines {
                let from = if *from == CLIENTS { "client".into() } else { from.to_string() };
                text += &format!("  {:>10} {from}: {line}\n", at.0);
            }
        }
        text
    }
}

fn node_text(node: &Replica) -> String {
    let ballot = node.ballot().map_or("none".into(), |ballot| ballot.to_string());
    let leads = if node.is_leading() { ", leads" } else { "" };
    format!("learned {}, ballot {ballot}{leads}; dropped {}", node.learned(), node.dropped())
}
