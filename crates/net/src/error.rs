//! The errors of opening a socket, with their remedies.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The reason why [`Socket::open`](super::Socket::open) failed. Every text names the act, the object and the
/// remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Raw IP needs `CAP_NET_RAW`. Binaries exit with status 77.
    #[error(
        "cannot open a raw IP socket for protocol {protocol}: this process lacks CAP_NET_RAW; \
         run it as root, or grant it once with `sudo setcap cap_net_raw+ep {}`, \
         or use `--transport udp`", binary.display()
    )]
    NoPrivilege {
        /// The requested IP protocol.
        protocol: u16,
        /// The path of the program that lacks the capability.
        binary: PathBuf,
    },
    /// The address cannot serve as a group's meeting place.
    #[error("cannot use address {address}: {why}")]
    BadDestination {
        /// The requested address.
        address: Ipv4Addr,
        /// The fault of the address, and the remedy.
        why: &'static str,
    },
    /// No route leads to the address.
    #[error("cannot reach {address}{through}: {said}; {remedy}")]
    NoRoute {
        /// The requested address.
        address: Ipv4Addr,
        /// The named interface, with ` through ` before it; or nothing.
        through: String,
        /// The system's message. (It is not this error's source: a program that prints the chain would print it
        /// twice.)
        said: io::Error,
        /// The act that makes the address reachable.
        remedy: &'static str,
    },
    /// The number cannot serve as an IP protocol.
    #[error("cannot use IP protocol {protocol}: {why}")]
    BadProtocol {
        /// The requested protocol.
        protocol: u16,
        /// The fault of the number, and the remedy.
        why: &'static str,
    },
    /// The interface is missing or cannot carry the group.
    #[error("cannot use interface {name}: {why} (interfaces here: {present})")]
    NoInterface {
        /// The name of the requested interface.
        name: String,
        /// The fault of the interface, and the remedy.
        why: &'static str,
        /// The interfaces of this host, separated by blanks.
        present: String,
    },
    /// A system call failed.
    #[error("cannot {act}: {said}")]
    Io {
        /// The act that failed, and its object.
        act: String,
        /// The system's message. (It is not this error's source: a program that prints the chain would print it
        /// twice.)
        said: io::Error,
    },
}

impl OpenError {
    /// Makes an [`OpenError::Io`] with the text `act`, for `map_err`.
    pub(super) fn io<E: Into<io::Error>>(act: impl Into<String>) -> impl FnOnce(E) -> OpenError {
        move |said| OpenError::Io { act: act.into(), said: said.into() }
    }
}
