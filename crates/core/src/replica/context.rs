//! The context of one step: what each part of a replica may know of the rest.
//!
//! This module owns one small type. A part that needs more takes it as an argument. No part names the replica itself.

use crate::types::{Instance, Micros, NodeId};
use crate::wire::Dialect;

/// What a part of a replica may know of the rest, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The time of this step.
    pub now: Micros,
    /// The id of this node.
    pub me: NodeId,
    /// The rank of this node among those that answer; the leader has rank 0.
    pub rank: usize,
    /// The learned prefix.
    pub learned: Instance,
    /// The part of the learned prefix that is durable.
    pub durable: Instance,
    /// Whether this node votes.
    pub is_voter: bool,
    /// The dialect of the group.
    pub dialect: Dialect,
}
