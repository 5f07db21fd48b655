//! What a client can tell about the group by listening to its beats.

use std::collections::BTreeMap;

use crate::types::{Epoch, Instance, Micros, NodeId};
use crate::wire::{Beat, Dialect, MAX_PACE_MS, Message, Stance};

/// After how long without a beat a node counts as gone, at least.
const FRESH: Micros = Micros::from_millis(1_000);

/// After how many of its beats, where those come more slowly: as nodes judge each other.
const MISSED: u64 = 4;

/// What there is to know of a classic group.
pub const CLASSIC: &str =
    "a classic group tells nothing of its state: read it (`Request 0`), or look into the nodes' logs";

/// How many pairs of nodes are remembered whose logs differ.
const MAX_PAIRS: usize = 64;

/// The last beat of every node that was heard lately, and who governs as far as anybody said. A client's
/// picture: it decides nothing.
#[derive(Debug)]
pub struct View {
    dialect: Dialect,
    nodes: BTreeMap<NodeId, Heard>,
    members: Option<(Epoch, Vec<NodeId>)>,
    /// Which two nodes hold different values, and from which instance on, as one of them lately said.
    differs: BTreeMap<(NodeId, NodeId), (Instance, Micros)>,
    trouble: Option<String>,
}

/// What a node said of itself.
#[derive(Debug)]
struct Heard {
    beat: Beat,
    at: Micros,
    /// The interval between its beats; zero where it has not told it.
    every: Micros,
    /// Its disk was lost or rolled back, as it says: it votes no more.
    is_barred: bool,
    /// Another life that speaks under the same id: which boot, and when it was heard last.
    other: Option<(u64, Micros)>,
    /// When both were heard in turns, so that two processes run.
    twin_at: Option<Micros>,
}

impl Heard {
    fn is_fresh(&self, now: Micros) -> bool {
        now.since(self.at) < FRESH.max(self.every * MISSED)
    }
}

impl View {
    /// A picture of nobody, of a group that speaks `dialect`.
    pub fn new(dialect: Dialect) -> View {
        View { dialect, nodes: BTreeMap::new(), members: None, differs: BTreeMap::new(), trouble: None }
    }

    /// Remembers what a node says of itself and of the group.
    pub fn on_message(&mut self, from: NodeId, message: &Message, now: Micros) {
        match message {
            Message::Beat(beat) => self.on_beat(from, beat, now),
            Message::Pace(pace) => {
                if let Some(heard) = self.nodes.get_mut(&from) {
                    heard.every = Micros::from_millis(pace.every_ms.min(MAX_PACE_MS));
                }
            }
            Message::Barred { node, boot, .. } if *node == from => {
                let heard = self.nodes.get_mut(&from).filter(|heard| heard.beat.boot.boot == *boot);
                heard.into_iter().for_each(|heard| heard.is_barred = true);
            }
            Message::Members { epoch, members, .. } => self.on_members(*epoch, members),
            Message::Differs { instance, node } => self.on_differs(from, *node, *instance, now),
            _ => {}
        }
    }

    /// Remembers a beat and forgets the nodes that have fallen silent.
    fn on_beat(&mut self, from: NodeId, beat: &Beat, now: Micros) {
        self.nodes.retain(|_, heard| heard.is_fresh(now));
        let new = Heard {
            beat: beat.clone(),
            at: now,
            every: Micros(0),
            is_barred: false,
            other: None,
            twin_at: None,
        };
        let Some(heard) = self.nodes.get_mut(&from) else {
            self.nodes.insert(from, new);
            return;
        };
        let boot = beat.boot.boot;
        if heard.beat.boot.boot == boot {
            // The other one was heard since.
            let is_in_turns = heard.other.is_some_and(|(_, at)| at > heard.at);
            heard.twin_at = is_in_turns.then_some(now).or(heard.twin_at);
            (heard.beat, heard.at) = (beat.clone(), now);
            return;
        }
        // This one was heard before the one that is known, and now again.
        let is_in_turns = heard.other.is_some_and(|(other, at)| other == boot && heard.at > at);
        let twin_at = is_in_turns.then_some(now).or(heard.twin_at);
        if heard.beat.stance != Stance::Learns && beat.stance == Stance::Learns {
            // A second process whose disk is not the registered one, or a later life that does not vote yet.
            (heard.other, heard.twin_at) = (Some((boot, now)), twin_at);
        } else {
            // Another life may have another pace, and another disk.
            let other = Some((heard.beat.boot.boot, heard.at));
            *heard = Heard { other, twin_at, ..new };
        }
    }

    /// The ids under which two processes run.
    pub fn twins(&self, now: Micros) -> impl Iterator<Item = NodeId> {
        let longest = self.longest();
        let is_twin = move |heard: &Heard| heard.twin_at.is_some_and(|at| now.since(at) < longest);
        self.nodes.iter().filter(move |(_, heard)| is_twin(heard)).map(|(id, _)| *id)
    }

    /// A node said that its log and a peer's differ from `first` on.
    fn on_differs(&mut self, from: NodeId, peer: NodeId, first: Instance, now: Micros) {
        let longest = self.longest();
        self.differs.retain(|_, (_, at)| now.since(*at) < longest);
        if self.differs.len() < MAX_PAIRS {
            self.differs.insert((from.min(peer), from.max(peer)), (first, now));
        }
    }

    /// How long what comes with beats counts: by the slowest node.
    fn longest(&self) -> Micros {
        let slowest = self.nodes.values().map(|heard| heard.every).max().unwrap_or_default();
        FRESH.max(slowest * MISSED)
    }

    /// The nodes that hold different values, and from which instance on: then the log is split.
    pub fn differs(&self, now: Micros) -> impl Iterator<Item = (NodeId, NodeId, Instance)> {
        let longest = self.longest();
        let fresh = self.differs.iter().filter(move |(_, (_, at))| now.since(*at) < longest);
        fresh.map(|((a, b), (first, _))| (*a, *b, *first))
    }

    /// Somebody said who governs since `epoch`; the latest epoch counts.
    fn on_members(&mut self, epoch: Epoch, members: &[NodeId]) {
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
        let fresh = self.nodes.iter().filter(move |(_, heard)| heard.is_fresh(now));
        fresh.map(|(id, heard)| (*id, &heard.beat))
    }

    /// What a node does, in a word: that of its beat, or `barred`, if it says that it may never vote again.
    pub fn does(&self, id: NodeId, beat: &Beat) -> &'static str {
        let is_barred = self.nodes.get(&id).is_some_and(|heard| heard.is_barred);
        if is_barred { "barred" } else { beat.stance.word() }
    }

    /// Members that are not there at `now`, as far as anybody said who governs.
    pub fn silent(&self, now: Micros) -> impl Iterator<Item = NodeId> {
        let members = self.members.iter().flat_map(|(_, members)| members).copied();
        members.filter(move |id| !self.nodes.get(id).is_some_and(|heard| heard.is_fresh(now)))
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

    /// Takes note of why nothing that is sent reaches the group, if this host knows of a reason.
    pub fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// Why nothing that is sent reaches the group, if this host knows of a reason.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What to tell somebody whose request was not answered: what this host knows of its network, or else what the beats
    /// say about why.
    pub fn explain_silence(&self, now: Micros) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        let heard: Vec<String> = self.nodes(now).map(|(id, _)| id.to_string()).collect();
        match (self.has_quorum(now), self.leader(now)) {
            (None, _) if self.dialect == Dialect::Classic => CLASSIC.into(),
            (None, _) => "no node was heard: is one running with this address, protocol and transport? (a \
                          classic group has to be asked with --classic)"
                .into(),
            (Some(false), _) => format!("no quorum: {}", self.explain_no_quorum(&heard, now)),
            (Some(true), None) => format!("no leader yet among {}", list("node", &heard)),
            (Some(true), Some(leader)) => format!("node {leader} leads; it may have been busy: ask again"),
        }
    }

    fn explain_no_quorum(&self, heard: &[String], now: Micros) -> String {
        let learners = self.nodes(now).filter(|(_, beat)| beat.stance == Stance::Learns);
        let learners: Vec<String> = learners.map(|(id, _)| id.to_string()).collect();
        let nodes = list("node", heard);
        match learners.len() {
            0 => format!("heard only of {nodes}"),
            1 if heard.len() == 1 => format!("{nodes} is there and may not vote: see its log"),
            count if count == heard.len() => {
                format!("{nodes} are there and none of them may vote: see their logs")
            }
            _ => {
                format!("heard only of {nodes}, of which {} may not vote: see the logs", learners.join(", "))
            }
        }
    }
}

fn list(noun: &str, ids: &[String]) -> String {
    let plural = if ids.len() == 1 { "" } else { "s" };
    format!("{noun}{plural} {}", ids.join(", "))
}
