//! The kinds of messages: what a message is about, whoever sends it.
//!
//! This module owns pure questions about one message. It decides nothing.

use crate::digest_write::NamedWrite;
use crate::types::{Ballot, Instance};
use crate::wire::{Beat, Message};

/// The ballot under which a message proposes or votes, and whether only the ballot's owner may send the message.
pub fn ballot_of(message: &Message) -> Option<(Ballot, bool)> {
    match message {
        Message::Propose { ballot, .. }
        | Message::ProposeAll { ballot, .. }
        | Message::Write { ballot, .. }
        | Message::WriteTags(NamedWrite { ballot, .. })
        | Message::Chosen { ballot, .. } => Some((*ballot, true)),
        Message::Promise { ballot, .. }
        | Message::PromiseNone { ballot, .. }
        | Message::Accept { ballot, .. }
        | Message::Accepts { ballot, .. }
        | Message::Fetch { ballot, .. }
        | Message::Nack { ballot, .. } => Some((*ballot, false)),
        Message::Beat(Beat { ballot, .. }) => ballot.map(|ballot| (ballot, false)),
        _ => None,
    }
}

/// The instance of a classic line; `None` for lines that name none.
pub fn instance_of(message: &Message) -> Option<Instance> {
    match message {
        Message::Propose { instance, .. }
        | Message::Promise { instance, .. }
        | Message::Write { instance, .. }
        | Message::Accept { instance, .. }
        | Message::Nack { instance, .. } => Some(*instance),
        _ => None,
    }
}

/// Whether a message asks for votes in a ballot.
pub fn asks(message: &Message) -> bool {
    matches!(
        message,
        Message::ProposeAll { .. } | Message::Propose { .. } | Message::Write { .. } | Message::WriteTags(_)
    )
}

/// The incarnation that a line names as its sender's.
pub fn incarnation_in(message: &Message) -> Option<u64> {
    match message {
        Message::Beat(Beat { boot, .. }) | Message::Register { boot, .. } => Some(boot.incarnation),
        _ => None,
    }
}

/// The lines that introduce a node. Nodes that remember the sender check their content.
pub fn introduces(message: &Message) -> bool {
    matches!(
        message,
        Message::Beat(_)
            | Message::Register { .. }
            | Message::Registered { .. }
            | Message::Barred { .. }
            | Message::Join { .. }
            | Message::JoinFor { .. }
    )
}

/// The lines that only ask. A node that has lost its disk may send them.
pub fn asks_only(message: &Message) -> bool {
    matches!(
        message,
        Message::Gap { .. } | Message::AskMark { .. } | Message::AskDigest { .. } | Message::AskChain { .. }
    )
}
