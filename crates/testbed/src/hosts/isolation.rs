//! The means by which hosts are kept apart.

use std::fmt;

/// The means by which a [`Hosts`](super::Hosts) makes its hosts, the most faithful first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Raw IP between network namespaces, made with the privilege of root.
    Root,
    /// The same inside a user namespace, which every user may create where the kernel allows it.
    User,
    /// UDP multicast on the loopback interface: no namespaces, no privilege, no faults.
    Udp,
}

impl Isolation {
    /// Every ground, in the order in which they are tried.
    pub const ALL: [Isolation; 3] = [Isolation::Root, Isolation::User, Isolation::Udp];

    /// Whether the hosts are network namespaces that speak raw IP.
    #[must_use]
    pub fn is_raw(self) -> bool {
        self != Isolation::Udp
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isolation::Root => "raw IP between network namespaces, made as root",
            Isolation::User => "raw IP between network namespaces, inside a user namespace",
            Isolation::Udp => "UDP multicast on loopback, without namespaces",
        })
    }
}
