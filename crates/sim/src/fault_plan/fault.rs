//! The faults of a plan: what fails, at which node, for how long.
//!
//! It owns their description only. [`Chaos`](crate::chaos::Chaos) injects them.

use upaxos_core::types::{Act, Change, Micros, NodeId};

use super::class::Class;
use super::topology::Topology;

/// Stands for the present leader, where a fault names a node.
pub const LEADER: u16 = u16::MAX;

/// One event of a plan. Every fault ends by itself, at the latest when everything is healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node crashes after some more effects of its loop, and starts again later.
    Crash {
        /// The node that crashes, or [`LEADER`].
        node: u16,
        /// The number of effects: a datagram sent, a batch appended, a sync begun, a sync ended.
        after: u64,
        /// How long it is down.
        down: Micros,
    },
    /// The node's power fails while the next block is being written.
    TornWrite {
        /// The node that loses power, or [`LEADER`].
        node: u16,
        /// How long it is down.
        down: Micros,
    },
    /// The next sync fails.
    SyncError {
        /// The node whose sync fails, or [`LEADER`].
        node: u16,
        /// How long the node is down after that.
        down: Micros,
    },
    /// Syncs take long.
    SlowSync {
        /// The node with the slow disk, or [`LEADER`].
        node: u16,
        /// The duration of each sync.
        each: Micros,
        /// How long this lasts.
        length: Micros,
    },
    /// The node pauses.
    Pause {
        /// The node that pauses, or [`LEADER`].
        node: u16,
        /// The number of effects of its loop before the pause. `None`: it pauses at once.
        after: Option<u64>,
        /// How long it is paused.
        length: Micros,
    },
    /// Links are cut.
    Cut {
        /// The shape of the cut.
        topology: Topology,
        /// How long the links are cut.
        length: Micros,
    },
    /// Nodes are cut off one by one, and are reconnected in another order.
    SwizzleClog {
        /// The nodes in the order in which they are cut off.
        goes: Vec<u16>,
        /// The nodes in the order in which they are reconnected.
        comes: Vec<u16>,
        /// The time between two steps.
        step: Micros,
    },
    /// A bit of the node's synced bytes is flipped while the node is down. If it is inside a value of the log, the
    /// node must start without that value and get it again. Otherwise the node must refuse to start. Then it starts
    /// again as with a lost disk.
    BitFlip {
        /// The node whose disk is damaged, or [`LEADER`].
        node: u16,
        /// How long it is down.
        down: Micros,
    },
    /// The node's disk is lost. The node starts again with an empty one.
    Wipe {
        /// The node that loses its disk, or [`LEADER`].
        node: u16,
        /// How long it is down.
        down: Micros,
    },
    /// One more node is started, and asks to join.
    Enter {
        /// The member that it replaces, if any.
        replaces: Option<u16>,
    },
    /// The node's whole disk is copied while the node runs, for a later [`Fault::RollBack`].
    CopyDisk {
        /// The node whose disk is copied, or [`LEADER`].
        node: u16,
    },
    /// The earlier copy of the node's disk is put back. The disk then lacks all later promises and votes.
    RollBack {
        /// The node whose disk is rolled back, or [`LEADER`].
        node: u16,
        /// How long it is down.
        down: Micros,
    },
    /// A node is down for long, from this moment on.
    Absence {
        /// The node that is down, or [`LEADER`].
        node: u16,
        /// How long it is down.
        down: Micros,
    },
    /// An operator requests a change of the group, perhaps by force. Or an operator starts one more node, which
    /// waits to be added.
    Operate {
        /// The member that is to leave or to be replaced, or [`LEADER`].
        node: u16,
        /// The requested change. `None`: one more node is started instead.
        change: Option<Change>,
    },
    /// An operator asks a member to leave.
    Leave {
        /// The member that is to leave, or [`LEADER`].
        node: u16,
    },
}

impl Fault {
    /// The same fault, with `leader` in place of [`LEADER`].
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

    /// The class that the fault belongs to.
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
