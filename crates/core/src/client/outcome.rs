//! The result of a request.

use crate::types::{Epoch, Instance, NodeId, Value};

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `OK I V`: V is chosen at I.
    Chosen {
        /// The instance where the request is chosen.
        instance: Instance,
        /// The chosen value. For a safe read, the text read; for a change of the group, the change as it was
        /// requested.
        value: Value,
    },
    /// `Value I L V`: up to L, V is the last value that was written, at I. No instance was used.
    Read {
        /// The instance of the value; 0 if nothing was written.
        instance: Instance,
        /// The learned prefix of the answering node. It covers every write that was complete before the request.
        learned: Instance,
        /// The value; empty if nothing was written.
        value: Value,
    },
    /// `Reply L V`: as of L, a script answers V. No instance was used.
    Replied {
        /// The learned prefix of the answering node. It covers every write that was complete before the request.
        learned: Instance,
        /// The answer of the script.
        value: Value,
    },
    /// `NotYet I L`: the answering node has learned up to L, which is below I.
    NotYet {
        /// The requested instance.
        instance: Instance,
        /// The learned prefix of the answering node.
        learned: Instance,
    },
    /// `Members I L H`: the members of the group, from a node that has learned up to L.
    Members {
        /// The instance that chose this group; 0 for the first one.
        epoch: Epoch,
        /// The learned prefix of the answering node.
        learned: Instance,
        /// The ids of the members, in the node's order.
        members: Vec<NodeId>,
    },
    /// The group never carries the request out.
    Refused {
        /// The reason, in the node's words.
        reason: Value,
    },
    /// No answer arrived in time. A write may have been chosen, and may still be.
    Unknown,
    /// The group has forgotten whether the request was carried out: it forgot the client's session, or many
    /// requests were carried out since. The outcome cannot be determined any more.
    Forgotten,
}
