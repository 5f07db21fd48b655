//! The objects that scripts hold. Files of their own register the functions of each.

use upaxos_core::types::NodeId;

/// A node of the lab, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(pub NodeId);

/// The group of a lab, with its network and its disks. It is a client, too.
#[derive(Clone, Debug)]
pub struct Group {
    /// The client of requests that the script sends to the group without naming a client.
    pub client: u64,
}
