//! The name of a host: that of a node, or the one for clients.

use std::fmt;

/// One end of a link: a node by its number, or the host that clients run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The host of node `i`, counted from 0.
    Node(usize),
    /// The host that runs no node.
    Client,
}

impl From<usize> for Host {
    fn from(index: usize) -> Self {
        Host::Node(index)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Node(index) => write!(f, "n{index}"),
            Host::Client => f.write_str("client"),
        }
    }
}
