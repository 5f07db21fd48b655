//! The faults that a plan is made of: what goes wrong, with whom, for how long.
//!
//! Owns their description only; [`World`](crate::sim::world::World) makes them happen.

use super::{Class, Topology};
use crate::types::{Act, Change, Micros, NodeId};

/// Stands for whoever leads at the moment, where a fault names a node.
pub const LEADER: u16 = u16::MAX;

/// One thing that happens at one moment. Every fault ends by itself, at the latest when all is healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node ends after so many more effects of its loop, and comes back after a while.
    Crash {
        /// Who.
        node: u16,
        /// Effects: a datagram sent, a batch appended, a sync begun, a sync ended.
        after: u64,
        /// For how long.
        down: Micros,
    },
    /// The node's power fails while the next block is being written.
    TornWrite {
        /// Who.
        node: u16,
        /// For how long.
        down: Micros,
    },
    /// The next sync fails.
    SyncError {
        /// Who.
        node: u16,
        /// For how long the node is down then.
        down: Micros,
    },
    /// Syncs take long.
    SlowSync {
        /// Whose.
        node: u16,
        /// How long each takes.
        each: Micros,
        /// For how long they do.
        length: Micros,
    },
    /// The node stands still.
    Pause {
        /// Who.
        node: u16,
        /// After so many more effects of its loop, whenever that is; at once without.
        after: Option<u64>,
        /// For how long.
        length: Micros,
    },
    /// Links are cut.
    Cut {
        /// Which.
        topology: Topology,
        /// For how long.
        length: Micros,
    },
    /// Nodes are cut off one by one, and come back in another order.
    SwizzleClog {
        /// In the order of going.
        goes: Vec<u16>,
        /// In the order of coming back.
        comes: Vec<u16>,
        /// Between two steps.
        step: Micros,
    },
    /// A bit of what the node had synced is flipped while it is down. If it is inside a value of the log, the
    /// node must come up without that value and get it again; else it must refuse to start, and then comes back
    /// as with a lost disk.
    BitFlip {
        /// Whose.
        node: u16,
        /// After how long.
        down: Micros,
    },
    /// The node's disk is lost; it comes back with an empty one.
    Wipe {
        /// Whose.
        node: u16,
        /// After how long.
        down: Micros,
    },
    /// One more node is started, and asks to join.
    Enter {
        /// In whose place, if in anybody's.
        replaces: Option<u16>,
    },
    /// The node's whole disk is copied, while it runs, so that the copy can be put back.
    CopyDisk {
        /// Whose.
        node: u16,
    },
    /// The copy of the node's disk that was made before is put back: what it said since is forgotten there.
    RollBack {
        /// Whose.
        node: u16,
        /// For how long it is down.
        down: Micros,
    },
    /// A node is away for long, from this moment on.
    Absence {
        /// Who.
        node: u16,
        /// For how long.
        down: Micros,
    },
    /// An operator asks for a change of the group, in force perhaps; or starts one more node, so that it stands
    /// ready to be asked for.
    Operate {
        /// Who is to leave, or to be replaced.
        node: u16,
        /// What is asked for.
        change: Option<Change>,
    },
    /// An operator has a member leave.
    Leave {
        /// Who.
        node: u16,
    },
}

impl Fault {
    /// The same with `leader` where it says [`LEADER`].
    pub fn aimed_at(&self, leader: u16) -> Fault {
        let mut fault = self.clone();
        let aim = |node: &mut u16| {
            if *node == LEADER {
                *node = leader;
            }
        };
        match &mut fault {
            Fault::Crash { node, .. }
            | Fault::TornWrite { node, .. }
            | Fault::SyncError { node, .. }
            | Fault::SlowSync { node, .. }
            | Fault::Pause { node, .. }
            | Fault::BitFlip { node, .. }
            | Fault::Wipe { node, .. }
            | Fault::Absence { node, .. }
            | Fault::CopyDisk { node }
            | Fault::RollBack { node, .. }
            | Fault::Leave { node }
            | Fault::Enter { replaces: Some(node) } => aim(node),
            Fault::Cut { topology, .. } => match topology {
                Topology::Alone(node) | Topology::QuorumLoss(node) | Topology::Chained(node) => aim(node),
                Topology::Constrained(center, other) => {
                    aim(center);
                    aim(other);
                }
                Topology::Split(_) | Topology::OneWay(_) | Topology::Any(_) => {}
            },
            Fault::Operate { node, change } => {
                aim(node);
                let node = NodeId(*node);
                let act = change.as_mut().map(|change| &mut change.act);
                match act {
                    Some(Act::Leave(old) | Act::Replace(old, _)) => *old = node,
                    None => {}
                }
            }
            Fault::SwizzleClog { .. } | Fault::Enter { replaces: None } => {}
        }
        fault
    }

    /// Of which class it is.
    pub fn class(&self) -> Class {
        match self {
            Fault::Crash { .. } => Class::Crash,
            Fault::TornWrite { .. } => Class::TornWrite,
            Fault::SyncError { .. } => Class::SyncError,
            Fault::SlowSync { .. } => Class::SlowSync,
            Fault::Pause { .. } => Class::Pause,
            Fault::Cut { .. } | Fault::SwizzleClog { .. } => Class::Partition,
            Fault::Wipe { .. } => Class::Wipe,
            Fault::Enter { .. } => Class::Join,
            Fault::Leave { .. } => Class::Leave,
            Fault::BitFlip { .. } => Class::BitFlip,
            Fault::Absence { .. } => Class::Absence,
            Fault::Operate { .. } => Class::Operator,
            Fault::CopyDisk { .. } | Fault::RollBack { .. } => Class::Rollback,
        }
    }
}
