//! The senders of datagrams: what a head says of one, and the strangers that the log has named.
//!
//! This module owns these types. `dispatch` decides which senders are believed.

use std::collections::BTreeSet;

use crate::types::{GroupId, NodeId};
use crate::wire::GroupName;

/// How many other groups, and nodes without heads, the log names before this node stops naming more.
const NAMED: usize = 16;

/// The sender of a datagram, according to its [`Head`](crate::wire::Head). The driver passes it to `Replica::handle` with each of the
/// datagram's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker(pub(in crate::replica) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) enum Kind {
    /// A sender in a classic group, which uses no heads.
    Classic,
    /// A client of this group.
    Client,
    /// A node that says that it belongs to this group, or a node where one side does not know its group yet.
    Node { id: NodeId, incarnation: u64, is_ours: bool },
    /// A sender in another group, or a client of one.
    Other,
}

impl Speaker {
    /// The incarnation of the sending node; `None` for other senders.
    pub(in crate::replica) fn incarnation(self) -> Option<u64> {
        match self.0 {
            Kind::Node { incarnation, .. } => Some(incarnation),
            _ => None,
        }
    }
}

/// The other groups, and the nodes that send no heads or no checksums, that this node has named in its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Others {
    groups: BTreeSet<(Option<GroupId>, Option<GroupName>)>,
    headless: BTreeSet<NodeId>,
    without_sum: BTreeSet<Option<NodeId>>,
}

impl Others {
    /// Records another group. Returns true when the log should name it.
    pub(in crate::replica) fn name_group(&mut self, group: Option<GroupId>, name: Option<GroupName>) -> bool {
        self.groups.len() < NAMED && self.groups.insert((group, name))
    }

    /// Records a node whose datagrams have no head. Returns true when the log should name it.
    pub(in crate::replica) fn name_headless(&mut self, id: NodeId) -> bool {
        self.headless.len() < NAMED && self.headless.insert(id)
    }

    /// Records the sender of a datagram without a checksum; `None` stands for all clients. Returns true when the log
    /// should name it.
    pub(in crate::replica) fn name_without_sum(&mut self, from: Option<NodeId>) -> bool {
        self.without_sum.len() < NAMED && self.without_sum.insert(from)
    }

    /// The names of the recorded groups; `None` stands for a group without a name.
    pub(in crate::replica) fn names(&self) -> impl Iterator<Item = Option<GroupName>> {
        self.groups.iter().map(|(_, name)| *name)
    }
}
