//! One search for the first instance at which this node and a peer part, and the poll that follows.
//!
//! Owns the arithmetic of the bisection, and its patience. What is asked and said is next door.

use std::collections::BTreeMap;

use super::subject::Subject;
use crate::types::{Instance, NodeId};

/// How many beats may pass without news before a search ends with what it knows.
pub const PATIENCE: u8 = 20;

/// After how many beats a node tells, or asks, again what it told or asked before: for those who came later.
pub const TELL_AGAIN: u8 = 10;

/// The search for the first instance at which a peer has something else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Search {
    pub subject: Subject,
    pub peer: NodeId,
    /// The last instance known to be the same, and the first known to differ.
    pub low: Instance,
    pub high: Instance,
    /// The instance that was asked about.
    pub asks: Instance,
    /// How many beats ago there was news.
    pub beats: u8,
    pub stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Bisects,
    Polls(Poll),
    Done,
}

/// All were asked about an instance at which the two differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Poll {
    pub at: Instance,
    /// What members have answered.
    pub said: BTreeMap<NodeId, u128>,
    /// It was said that nobody can tell.
    pub is_told: bool,
}

impl Search {
    /// Between an instance at which both are known to be the same, and one at which they differ.
    pub fn new(subject: Subject, peer: NodeId, low: Instance, high: Instance) -> Search {
        Search { subject, peer, low, high, asks: Instance(0), beats: 0, stage: Stage::Bisects }
    }

    /// Both are the same up to `instance`.
    pub fn raise(&mut self, instance: Instance) {
        if instance > self.low {
            (self.low, self.beats) = (instance, 0);
        }
    }

    /// They differ at `instance`, or before.
    pub fn lower(&mut self, instance: Instance) {
        if instance < self.high {
            (self.high, self.beats) = (instance, 0);
        }
    }

    /// It is found as well as can be: all are asked about it.
    pub fn poll(&mut self) {
        let poll = Poll { at: self.high, said: BTreeMap::new(), is_told: false };
        (self.stage, self.beats, self.asks) = (Stage::Polls(poll), 0, Instance(0));
    }

    /// A beat has passed: what was not answered is asked again. What nobody could tell is asked anew, less often,
    /// about a later instance, which all have learned by now: of an earlier one, those that began again with a
    /// checkpoint know nothing.
    ///
    /// While this node `digs` for its own digest, the others are not to blame.
    pub fn on_beat(&mut self, learned_by_all: Instance, digs: bool) {
        self.beats = self.beats.saturating_add(u8::from(!digs));
        if let Stage::Polls(poll) = &mut self.stage
            && poll.is_told
        {
            if self.beats < TELL_AGAIN {
                return;
            }
            self.beats = 0;
            *poll = Poll { at: learned_by_all.max(self.high), said: BTreeMap::new(), is_told: true };
        }
        self.asks = Instance(0);
    }

    /// What to ask next; `None` when there is nothing to find between any more.
    pub fn next(&self, floor: Instance) -> Option<Instance> {
        let between = Instance(self.low.0.midpoint(self.high.0)).max(floor.min(Instance(self.high.0 - 1)));
        (between > self.low && between < self.high && between >= floor).then_some(between)
    }
}
