//! The news for a user at the prompt, from the traffic of other clients and the beats of the nodes.

use std::collections::VecDeque;

use upaxos_core::client::{Scope, View};
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::Message;

/// Number of answers that are remembered, so that each is reported once however many nodes send it.
const REMEMBERED: usize = 64;

/// Selects the news from the traffic. It remembers the reported leader and answers.
#[derive(Debug, Default)]
pub struct Watch {
    leader: Option<NodeId>,
    told: VecDeque<Instance>,
}

impl Watch {
    /// The news in a message that settled none of our requests, if any.
    pub fn on_message(&mut self, from: NodeId, message: &Message) -> Option<String> {
        match message {
            Message::Ok { instance, value } if self.is_new(*instance) => {
                Some(format!("OK {instance} {value}   (asked by another client)"))
            }
            Message::Error { reason } => Some(format!("node {from} refuses an untagged request: {reason}")),
            _ => None,
        }
    }

    /// Marks an instance as reported. Returns whether it was not yet.
    pub fn is_new(&mut self, instance: Instance) -> bool {
        if self.told.contains(&instance) {
            return false;
        }
        self.told.push_back(instance);
        if self.told.len() > REMEMBERED {
            self.told.pop_front();
        }
        true
    }

    /// The news about the leader, if it has changed.
    pub fn on_view(&mut self, view: &View, scope: &Scope, now: Micros) -> Option<String> {
        let leader = view.leader(now);
        if leader == self.leader {
            return None;
        }
        self.leader = leader;
        Some(match leader {
            Some(leader) => format!("node {leader} leads"),
            None => scope.explain_silence(view, now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_every_node_gives_is_told_once() {
        let mut watch = Watch::default();
        let ok = |instance| Message::Ok { instance: Instance(instance), value: "two".into() };
        assert!(watch.on_message(NodeId(0), &ok(2)).is_some());
        assert!(watch.on_message(NodeId(1), &ok(2)).is_none());
        assert!(watch.on_message(NodeId(1), &ok(3)).is_some());
        for instance in 10..10 + REMEMBERED as u64 {
            watch.is_new(Instance(instance));
        }
        assert!(watch.on_message(NodeId(0), &ok(2)).is_some(), "asked again much later");
    }
}
