//! What can be seen of the world from outside: who knows what, and whether all is settled.

use super::World;
use crate::node::Node;
use crate::sim::machine::State;
use crate::types::Instance;

impl World {
    /// Whether all clients are content, and all nodes run and have learned alike, and all that was answered.
    pub fn is_settled(&self) -> bool {
        let mut learned = self.machines.iter().map(|machine| machine.node().map(Node::learned));
        let first = learned.next().flatten();
        self.clients.is_content()
            && first >= Some(self.judges.acknowledged())
            && learned.all(|learned| learned == first)
    }

    /// What every node has learned.
    pub fn learned(&self) -> Vec<Instance> {
        self.machines.iter().map(|m| m.node().map_or(Instance(0), Node::learned)).collect()
    }

    /// What every node knows, what is wrong with it, and what was said last.
    pub fn view(&self) -> String {
        let mut text = format!("at {} us, {} requests open\n", self.now.0, self.clients.open());
        for (id, machine) in self.machines.iter().enumerate() {
            let state = match &machine.state {
                State::Down => "down".into(),
                State::Waits(node) => node_text(node),
                State::Syncs(work) => format!("syncs, {}", node_text(&work.node)),
                State::Halts(work) => format!("stands still, {}", node_text(&work.node)),
            };
            text += &format!("  node {id}, life {}, {} wipes: {state}\n", machine.life, machine.wipes);
        }
        text += "  said last:\n";
        for (at, from, datagram) in &self.tail {
            for line in &datagram.lines {
                let from = if *from == self.plan.n { "client".into() } else { from.to_string() };
                text += &format!("  {:>10} {from}: {line}\n", at.0);
            }
        }
        text
    }
}

fn node_text(node: &Node) -> String {
    let ballot = node.ballot().map_or("none".into(), |ballot| ballot.to_string());
    let leads = if node.is_leading() { ", leads" } else { "" };
    format!("learned {}, ballot {ballot}{leads}; dropped {}", node.learned(), node.dropped())
}
