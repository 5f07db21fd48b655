//! What a node is told once: who it is, how it behaves, at which pace.

use super::Limits;
use crate::types::{Micros, NodeId};
use crate::wire::{GroupName, MAX_PACE_MS};

/// The one pace that all others follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The interval between two signs of life.
    pub beat: Micros,
}

impl Timing {
    /// The election timeout: how long a node may be silent before it counts as gone. Four beats, so
    /// that at 30 % loss fewer than one in a hundred is missed by chance.
    pub fn timeout(self) -> Micros {
        self.beat * 4
    }

    /// The pace of a link with a node that beats at this interval: the slower one of the two.
    pub(super) fn with(self, interval: Micros) -> Timing {
        Timing { beat: self.beat.max(interval) }
    }

    /// The interval in milliseconds, rounded up.
    pub(super) fn beat_ms(self) -> u64 {
        self.beat.0.div_ceil(1_000).min(MAX_PACE_MS)
    }

    /// How long each rank waits for the one before it to run: more than two beats and a sync.
    pub fn step(self) -> Micros {
        self.beat * 2 + Micros::from_millis(50)
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { beat: Micros::from_millis(100) }
    }
}

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which member this is.
    pub id: NodeId,
    /// The size of the first group, whose ids are 0 to n-1; 0 for a node that joins, and hears of it.
    pub n: u16,
    /// Whether to speak the classic grammar only.
    pub classic: bool,
    /// Whether `Request 0` is answered without an instance where that is possible.
    pub fast_read: bool,
    /// The pace.
    pub timing: Timing,
    /// Whether it asks to join, and in whose place if in anybody's.
    pub joins: Option<Option<NodeId>>,
    /// What the group is called: then only what names it is heard.
    pub name: Option<GroupName>,
    /// The bounds of what it keeps.
    pub limits: Limits,
}

impl Config {
    /// Member `id` of a first group of `n`, at the usual pace.
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

    /// A node that asks to join, in the place of `replaces` if that is somebody.
    pub fn joining(id: NodeId, replaces: Option<NodeId>) -> Config {
        Config { joins: Some(replaces), ..Config::member(id, 0) }
    }

    /// A node that stands ready to join, until an operator says in whose place. On the wire it asks for its own.
    pub fn standby(id: NodeId) -> Config {
        Config::joining(id, Some(id))
    }
}
