//! The configuration of a node: its identity, its modes, its pace and its bounds. It never changes in one run.

use crate::replica::limits::Limits;
use crate::types::{Micros, NodeId};
use crate::wire::{GroupName, MAX_PACE_MS};

/// The heartbeat interval, from which all other intervals follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The interval between two heartbeats.
    pub beat: Micros,
}

impl Timing {
    /// The election timeout: how long a node may be silent before it counts as gone. It is four heartbeats, so that
    /// at 30 % loss a live node is missed by chance fewer than once in a hundred times.
    pub fn timeout(self) -> Micros {
        self.beat * 4
    }

    /// The pace of a link to a node with this interval: the slower of the two.
    pub(in crate::replica) fn with(self, interval: Micros) -> Timing {
        Timing { beat: self.beat.max(interval) }
    }

    /// The interval in milliseconds, rounded up, and at most `MAX_PACE_MS`.
    pub(in crate::replica) fn beat_ms(self) -> u64 {
        self.beat.0.div_ceil(1_000).min(MAX_PACE_MS)
    }

    /// How long each rank waits for the one before it to run: more than two heartbeats and a sync.
    pub fn step(self) -> Micros {
        self.beat * 2 + Micros::from_millis(50)
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { beat: Micros::from_millis(100) }
    }
}

/// The configuration of a node for one run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The id of this node.
    pub id: NodeId,
    /// The size of the first group, whose ids are 0 to n-1; 0 for a joiner, which learns it from peers.
    pub n: u16,
    /// Whether to use the classic grammar only.
    pub classic: bool,
    /// Whether to answer `Request 0` without an instance where that is possible.
    pub fast_read: bool,
    /// The heartbeat interval of this node.
    pub timing: Timing,
    /// Whether the node asks to join and, if so, the member that it replaces, if there is one.
    pub joins: Option<Option<NodeId>>,
    /// The name of the group. A node with a name accepts only datagrams with that name.
    pub name: Option<GroupName>,
    /// The bounds of everything that the node keeps.
    pub limits: Limits,
}

impl Config {
    /// Member `id` of a first group of `n`, at the default pace.
    pub fn member(id: NodeId, n: u16) -> Config {
        Config {
            id,
            n,
            classic: false,
            fast_read: false,
            timing: Timing::default(),
            joins: None,
            name: None,
            limits: Limits::USUAL,
        }
    }

    /// A node that asks to join, in the place of `replaces` if that is given.
    pub fn joining(id: NodeId, replaces: Option<NodeId>) -> Config {
        Config { joins: Some(replaces), ..Config::member(id, 0) }
    }

    /// A node that is ready to join until an operator names the member to replace. On the wire it asks for its own
    /// place.
    pub fn standby(id: NodeId) -> Config {
        Config::joining(id, Some(id))
    }
}
