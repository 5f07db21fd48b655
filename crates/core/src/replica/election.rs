//! The election: which nodes hear each other, and when this node raises a ballot.

pub mod candidacy;
pub mod jumps;
pub mod links;
