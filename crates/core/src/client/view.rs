//! A client's view of the group, from the beats of its nodes.

use std::collections::BTreeMap;

use crate::types::{Epoch, Instance, Micros, NodeId};
use crate::wire::{Beat, Dialect, MAX_PACE_MS, Message, Stance};

/// The minimum time without a beat after which a node counts as gone.
const FRESH: Micros = Micros::from_millis(1_000);

/// The number of missed beats after which a node with slower beats counts as gone. Nodes judge each other by the
/// same number.
const MISSED: u64 = 4;

/// The text for a classic group, which shows nothing of its state.
pub const CLASSIC: &str =
    "a classic group tells nothing of its state: read it (`Request 0`), or look into the nodes' logs";

/// The maximum number of remembered pairs of nodes with different logs.
const MAX_PAIRS: usize = 64;

/// The last beat of every node that was heard lately, and the members as far as any node named them. A view decides
/// nothing.
#[derive(Debug)]
pub struct View {
    dialect: Dialect,
    nodes: BTreeMap<NodeId, Heard>,
    members: Option<(Epoch, Vec<NodeId>)>,
    /// Pairs of nodes that hold different values: the first such instance, and the time of the latest report.
    differs: BTreeMap<(NodeId, NodeId), (Instance, Micros)>,
    trouble: Option<String>,
}

/// The last messages of one node about itself.
#[derive(Debug)]
struct Heard {
    beat: Beat,
    at: Micros,
    /// The interval between its beats; zero if the node has not sent it.
    every: Micros,
    /// Whether the node reports that its disk was lost or rolled back. Such a node never votes again.
    is_barred: bool,
    /// Another life with the same id: its boot, and the time when it was heard last.
    other: Option<(u64, Micros)>,
    /// The time when both lives were last heard alternately, so that two processes run.
    twin_at: Option<Micros>,
}

impl Heard {
    fn is_fresh(&self, now: Micros) -> bool {
        now.since(self.at) < FRESH.max(self.every * MISSED)
    }
}

impl View {
    /// An empty view of a group that uses `dialect`.
    pub fn new(dialect: Dialect) -> View {
        View { dialect, nodes: BTreeMap::new(), members: None, differs: BTreeMap::new(), trouble: None }
    }

    /// Takes a node's message about itself and the group.
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

    /// Takes a beat, and forgets the nodes that have fallen silent.
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
            // The other life was heard since the last beat of this one.
            let is_in_turns = heard.other.is_some_and(|(_, at)| at > heard.at);
            heard.twin_at = is_in_turns.then_some(now).or(heard.twin_at);
            (heard.beat, heard.at) = (beat.clone(), now);
            return;
        }
        // This life was heard before the one remembered in `heard`, and now again.
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

    /// The ids that two processes use at the same time.
    pub fn twins(&self, now: Micros) -> impl Iterator<Item = NodeId> {
        let longest = self.longest();
        let is_twin = move |heard: &Heard| heard.twin_at.is_some_and(|at| now.since(at) < longest);
        self.nodes.iter().filter(move |(_, heard)| is_twin(heard)).map(|(id, _)| *id)
    }

    /// A node reports that its log and a peer's differ from `first` on.
    fn on_differs(&mut self, from: NodeId, peer: NodeId, first: Instance, now: Micros) {
        let longest = self.longest();
        self.differs.retain(|_, (_, at)| now.since(*at) < longest);
        if self.differs.len() < MAX_PAIRS {
            self.differs.insert((from.min(peer), from.max(peer)), (first, now));
        }
    }

    /// The lifetime of reports that arrive with beats: that of the slowest node's beats.
    fn longest(&self) -> Micros {
        let slowest = self.nodes.values().map(|heard| heard.every).max().unwrap_or_default();
        FRESH.max(slowest * MISSED)
    }

    /// The pairs of nodes that hold different values, each with the first such instance. If there are any, the log
    /// is split.
    pub fn differs(&self, now: Micros) -> impl Iterator<Item = (NodeId, NodeId, Instance)> {
        let longest = self.longest();
        let fresh = self.differs.iter().filter(move |(_, (_, at))| now.since(*at) < longest);
        fresh.map(|((a, b), (first, _))| (*a, *b, *first))
    }

    /// A node named the members since `epoch`. The latest epoch counts.
    fn on_members(&mut self, epoch: Epoch, members: &[NodeId]) {
        if self.members.as_ref().is_none_or(|(known, _)| epoch >= *known) {
            self.members = Some((epoch, members.to_vec()));
        }
    }

    /// The members and their epoch, if any node has named them.
    pub fn members(&self) -> Option<(Epoch, &[NodeId])> {
        self.members.as_ref().map(|(epoch, members)| (*epoch, members.as_slice()))
    }

    /// The nodes that are present at `now`, by id, with their last beats.
    pub fn nodes(&self, now: Micros) -> impl Iterator<Item = (NodeId, &Beat)> {
        let fresh = self.nodes.iter().filter(move |(_, heard)| heard.is_fresh(now));
        fresh.map(|(id, heard)| (*id, &heard.beat))
    }

    /// The state of a node in one word: the stance of its beat, or `barred` if the node reports that it may never
    /// vote again.
    pub fn does(&self, id: NodeId, beat: &Beat) -> &'static str {
        let is_barred = self.nodes.get(&id).is_some_and(|heard| heard.is_barred);
        if is_barred { "barred" } else { beat.stance.word() }
    }

    /// The members that are not present at `now`, as far as any node has named the members.
    pub fn silent(&self, now: Micros) -> impl Iterator<Item = NodeId> {
        let members = self.members.iter().flat_map(|(_, members)| members).copied();
        members.filter(move |id| !self.nodes.get(id).is_some_and(|heard| heard.is_fresh(now)))
    }

    /// The leader: of the nodes that report to lead, the one with the highest ballot.
    pub fn leader(&self, now: Micros) -> Option<NodeId> {
        let leads = self.nodes(now).filter(|(_, beat)| beat.stance == Stance::Leads);
        leads.max_by_key(|(_, beat)| beat.ballot).map(|(id, _)| id)
    }

    /// Whether any node reports a quorum around it; `None` when no node is heard at all.
    pub fn has_quorum(&self, now: Micros) -> Option<bool> {
        let mut nodes = self.nodes(now).peekable();
        nodes.peek()?;
        Some(nodes.any(|(_, beat)| !matches!(beat.stance, Stance::Waits | Stance::Learns)))
    }

    /// Sets the reason why datagrams from this host do not reach the group, if the host knows one.
    pub fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// The reason why datagrams from this host do not reach the group, if the host knows one.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The explanation for a request without an answer: the trouble of this host's network, or else the state of
    /// the group in its beats.
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
