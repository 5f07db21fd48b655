//! One search for the first instance at which this node and a peer diverge, and the poll that follows.
//!
//! This module owns the arithmetic of the bisection, and its patience. The modules `divergence` and `subject` own the
//! questions and answers.

use std::collections::BTreeMap;

use crate::types::{Instance, NodeId};

/// How many heartbeats may pass without news before a search ends with what it knows.
pub const PATIENCE: u8 = 20;

/// After how many heartbeats a node repeats its statements and questions, for nodes that started later.
pub const TELL_AGAIN: u8 = 10;

/// A subject in which two nodes may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The learned values.
    Log,
    /// The state that this script computed, by its number.
    Script(usize),
}

/// The search for the first instance at which a peer has a different digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Search {
    pub subject: Subject,
    pub peer: NodeId,
    /// The last instance known to be the same, and the first known to differ.
    pub low: Instance,
    pub high: Instance,
    /// The instance of the open question; 0 for none.
    pub asks: Instance,
    /// How many heartbeats have passed since the last news.
    pub beats: u8,
    pub stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Bisects,
    Polls(Poll),
    Done,
}

/// A poll of all nodes about an instance at which two nodes differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Poll {
    pub at: Instance,
    /// The digests that members have answered.
    pub said: BTreeMap<NodeId, u128>,
    /// Whether the log has reported that no quorum agrees.
    pub is_told: bool,
    /// Whether this node has sent its own digests, in a heartbeat before this one. Then peers can find the
    /// divergence, too, before this node ends.
    pub has_shown: bool,
}

impl Search {
    /// A search between an instance at which both are known to be the same, and one at which they differ.
    pub fn new(subject: Subject, peer: NodeId, low: Instance, high: Instance) -> Search {
        Search { subject, peer, low, high, asks: Instance(0), beats: 0, stage: Stage::Bisects }
    }

    /// Records that both are the same up to `instance`.
    pub fn raise(&mut self, instance: Instance) {
        if instance > self.low {
            (self.low, self.beats) = (instance, 0);
        }
    }

    /// Records that they differ at `instance`, or before.
    pub fn lower(&mut self, instance: Instance) {
        if instance < self.high {
            (self.high, self.beats) = (instance, 0);
        }
    }

    /// Starts the poll of all nodes: the bisection cannot narrow the range any further.
    pub fn poll(&mut self) {
        let poll = Poll { at: self.high, said: BTreeMap::new(), is_told: false, has_shown: false };
        (self.stage, self.beats, self.asks) = (Stage::Polls(poll), 0, Instance(0));
    }

    /// Handles a heartbeat: unanswered questions are repeated. A poll without a result is repeated less often,
    /// about a later instance that all nodes have learned by now: a node that restarted from a checkpoint has no
    /// digests before it.
    ///
    /// While this node `digs` for its own digest, the count of heartbeats rests: the peers are not to blame.
    pub fn on_beat(&mut self, learned_by_all: Instance, digs: bool) {
        self.beats = self.beats.saturating_add(u8::from(!digs));
        if let Stage::Polls(poll) = &mut self.stage
            && poll.is_told
        {
            if self.beats < TELL_AGAIN {
                return;
            }
            self.beats = 0;
            poll.at = learned_by_all.max(self.high);
            poll.said.clear();
        }
        self.asks = Instance(0);
    }

    /// The next instance to ask about; `None` when the bisection can go no further.
    pub fn next(&self, floor: Instance) -> Option<Instance> {
        let between = Instance(self.low.0.midpoint(self.high.0)).max(floor.min(Instance(self.high.0 - 1)));
        (between > self.low && between < self.high && between >= floor).then_some(between)
    }
}
