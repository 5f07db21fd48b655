//! The votes that a leader need not send.

use crate::types::{NodeId, Numbering};
use crate::wire::{Line, Message};

/// The votes of a leader for its own writes. They need not be sent. When such a vote counts, the leader's `Chosen`
/// reports it. Until then, no other node can use the vote.
#[derive(Clone, Copy, Debug)]
pub struct OwnVotes {
    /// The id of this node.
    pub me: NodeId,
    /// The numbering of ballots in its group.
    pub numbering: Numbering,
}

impl OwnVotes {
    /// Whether a line is one of these votes.
    pub fn include(self, line: &Line) -> bool {
        let Line::Node(_, Message::Accepts { ballot, .. }) = line else { return false };
        self.numbering.owner(*ballot) == self.me
    }
}
