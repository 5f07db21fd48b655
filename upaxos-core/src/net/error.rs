//! Why a socket could not be opened, and what to do about it.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Why [`Socket::open`](super::Socket::open) failed. Every text names the act, the object and
/// the remedy.
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
        /// The IP protocol that was asked for.
        protocol: u16,
        /// The program that lacks the capability.
        binary: PathBuf,
    },
    /// The address cannot serve as a group's meeting place.
    #[error("cannot use address {address}: {why}")]
    BadDestination {
        /// The address that was asked for.
        address: Ipv4Addr,
        /// What is wrong with it, and what would do.
        why: &'static str,
    },
    /// No way leads to the address.
    #[error("cannot reach {address}{through}: {said}; {remedy}")]
    NoRoute {
        /// The address that was asked for.
        address: Ipv4Addr,
        /// The interface that was named, with a blank and a word before it; or nothing.
        through: String,
        /// What the system said. (Not this error's source: whoever prints the chain would print it twice.)
        said: io::Error,
        /// What would do.
        remedy: &'static str,
    },
    /// The number cannot serve as an IP protocol.
    #[error("cannot use IP protocol {protocol}: {why}")]
    BadProtocol {
        /// The protocol that was asked for.
        protocol: u16,
        /// What is wrong with it, and what would do.
        why: &'static str,
    },
    /// The interface is missing or cannot carry the group.
    #[error("cannot use interface {name}: {why} (interfaces here: {present})")]
    NoInterface {
        /// The interface that was asked for.
        name: String,
        /// What is wrong with it, and what would do.
        why: &'static str,
        /// What this host has instead, separated by blanks.
        present: String,
    },
    /// A system call failed.
    #[error("cannot {act}: {said}")]
    Io {
        /// What was attempted, and on what.
        act: String,
        /// What the system said. (Not this error's source: whoever prints the chain would print it twice.)
        said: io::Error,
    },
}

impl OpenError {
    /// An [`OpenError::Io`] that says `act`, for `map_err`.
    pub(super) fn io<E: Into<io::Error>>(act: impl Into<String>) -> impl FnOnce(E) -> OpenError {
        move |said| OpenError::Io { act: act.into(), said: said.into() }
    }
}
