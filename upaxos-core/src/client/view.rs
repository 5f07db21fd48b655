//! What a client can tell about the group by listening to its beats.

use std::collections::BTreeMap;

use crate::types::{Epoch, Instance, Micros, NodeId};
use crate::wire::{Beat, Dialect, Stance};

/// After how long without a beat a node counts as gone: several beats.
pub const FRESH: Micros = Micros::from_millis(1_000);

/// How many pairs of nodes are remembered whose logs differ.
const MAX_PAIRS: usize = 64;

/// The last beat of every node that was heard lately, and who governs as far as anybody said. A client's
/// picture: it decides nothing.
#[derive(Debug)]
pub struct View {
    dialect: Dialect,
    nodes: BTreeMap<NodeId, (Beat, Micros)>,
    members: Option<(Epoch, Vec<NodeId>)>,
    /// Which two nodes hold different values, and from which instance on, as one of them lately said.
    differs: BTreeMap<(NodeId, NodeId), (Instance, Micros)>,
}

impl View {
    /// A picture of nobody, of a group that speaks `dialect`.
    pub fn new(dialect: Dialect) -> View {
        View { dialect, nodes: BTreeMap::new(), members: None, differs: BTreeMap::new() }
    }

    /// Remembers a beat and forgets the nodes that have fallen silent.
    pub fn on_beat(&mut self, from: NodeId, beat: &Beat, now: Micros) {
        self.nodes.retain(|_, (_, at)| now.since(*at) < FRESH);
        self.nodes.insert(from, (beat.clone(), now));
    }

    /// A node said that its log and a peer's differ from `first` on.
    pub fn on_differs(&mut self, from: NodeId, peer: NodeId, first: Instance, now: Micros) {
        self.differs.retain(|_, (_, at)| now.since(*at) < FRESH);
        if self.differs.len() < MAX_PAIRS {
            self.differs.insert((from.min(peer), from.max(peer)), (first, now));
        }
    }

    /// The nodes that hold different values, and from which instance on: then the log is split.
    pub fn differs(&self, now: Micros) -> impl Iterator<Item = (NodeId, NodeId, Instance)> {
        let fresh = self.differs.iter().filter(move |(_, (_, at))| now.since(*at) < FRESH);
        fresh.map(|((a, b), (first, _))| (*a, *b, *first))
    }

    /// Somebody said who governs since `epoch`; the latest epoch counts.
    pub fn on_members(&mut self, epoch: Epoch, members: &[NodeId]) {
        if self.members.as_ref().is_none_or(|(known, _)| epoch >= *known) {
            self.members = Some((epoch, members.to_vec()));
        }
    }

    /// Who governs, and since which epoch, if anybody has said so.
    pub fn members(&self) -> Option<(Epoch, &[NodeId])> {
        self.members.as_ref().map(|(epoch, members)| (*epoch, members.as_slice()))
    }

    /// The nodes that are there at `now`, by id, with their last beats.
    pub fn nodes(&self, now: Micros) -> impl Iterator<Item = (NodeId, &Beat)> {
        let fresh = self.nodes.iter().filter(move |(_, (_, at))| now.since(*at) < FRESH);
        fresh.map(|(id, (beat, _))| (*id, beat))
    }

    /// Who leads: of those that say so, the one with the highest ballot.
    pub fn leader(&self, now: Micros) -> Option<NodeId> {
        let leads = self.nodes(now).filter(|(_, beat)| beat.stance == Stance::Leads);
        leads.max_by_key(|(_, beat)| beat.ballot).map(|(id, _)| id)
    }

    /// Whether some node has a quorum around it; `None` when no node is heard at all.
    pub fn has_quorum(&self, now: Micros) -> Option<bool> {
        let mut nodes = self.nodes(now).peekable();
        nodes.peek()?;
        Some(nodes.any(|(_, beat)| !matches!(beat.stance, Stance::Waits | Stance::Learns)))
    }

    /// What to tell somebody whose request was not answered: what the beats say about why.
    pub fn explain_silence(&self, now: Micros) -> String {
        let ids: Vec<String> = self.nodes(now).map(|(id, _)| id.to_string()).collect();
        match (self.has_quorum(now), self.leader(now)) {
            (None, _) if self.dialect == Dialect::Classic => "a classic group gives no sign of life".into(),
            (None, _) => "no node was heard: is one running with this address, protocol and transport? (a \
                          classic group has to be asked with --classic)"
                .into(),
            (Some(false), _) => format!("no quorum: heard only of {}", list("node", &ids)),
            (Some(true), None) => format!("no leader yet among {}", list("node", &ids)),
            (Some(true), Some(leader)) => format!("node {leader} leads; it may have been busy: ask again"),
        }
    }
}

fn list(noun: &str, ids: &[String]) -> String {
    let plural = if ids.len() == 1 { "" } else { "s" };
    format!("{noun}{plural} {}", ids.join(", "))
}
