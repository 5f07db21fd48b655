//! The lab's grounds: hosts that real processes run on, made for one run and gone after it.
//!
//! [`Hosts`] are joined by a network of their own; a [`Node`] is one daemon on one of
//! them, and a [`Client`] asks them. The demo and the live tests share all three. Many of these may exist
//! at once, in one process or in several, without hearing one another.
//!
//! This module owns processes, namespaces and temporary directories, and never speaks the protocol: even
//! its client is a program on a host.

mod client;
mod faults;
mod history;
mod namespaces;
mod network;
mod process;
mod switch;

use std::env;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use client::{Answer, Client};
pub use network::Hosts;
pub use process::{Heard, Node, Plan};

/// What the hosts of a [`Hosts`] are made of, the most faithful first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// Raw IP between network namespaces, made with the privilege of root.
    Root,
    /// The same inside a user namespace, which any user may make where the kernel allows it.
    User,
    /// UDP multicast on the loopback interface: no namespaces, no privilege, no faults.
    Udp,
}

impl Ground {
    /// Every ground, in the order in which they are tried.
    pub const ALL: [Ground; 3] = [Ground::Root, Ground::User, Ground::Udp];

    /// Whether the hosts are network namespaces that speak raw IP.
    #[must_use]
    pub fn is_raw(self) -> bool {
        self != Ground::Udp
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ground::Root => "raw IP between network namespaces, made as root",
            Ground::User => "raw IP between network namespaces, inside a user namespace",
            Ground::Udp => "UDP multicast on loopback, without namespaces",
        })
    }
}

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

/// Why the lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// No ground that was allowed could be had; each reason names its ground.
    #[error("make hosts: {}", .reasons.join("; "))]
    NoGround {
        /// One reason for each ground tried.
        reasons: Vec<String>,
    },
    /// The ground has no such fault.
    #[error("{fault}: not on this ground ({ground}): {reason}")]
    Unsupported {
        /// The fault that was asked for.
        fault: &'static str,
        /// The ground that lacks it.
        ground: Ground,
        /// Why it lacks it.
        reason: &'static str,
    },
    /// A program of the system could not be started.
    #[error("run {program}: {source}{}", remedy(.program))]
    Tool {
        /// The program's name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program of the system ran and failed.
    #[error("{act}: {said}")]
    Failed {
        /// What was attempted.
        act: String,
        /// The program's own words.
        said: String,
    },
    /// One of our own programs is not where it should be.
    #[error("find {name} at {}: not built; run `cargo build --workspace`", .path.display())]
    NotBuilt {
        /// The program's name.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A node did not do in time what was waited for.
    #[error("{host}: no {awaited} within {after:?}; its log:\n{log}")]
    TimedOut {
        /// The node's host.
        host: Host,
        /// What was waited for.
        awaited: String,
        /// How long.
        after: Duration,
        /// The node's log so far.
        log: String,
    },
    /// A node ended while something else was expected of it.
    #[error("{host}: ended ({status}) before {awaited}; its log:\n{log}")]
    Ended {
        /// The node's host.
        host: Host,
        /// Its exit status in words.
        status: String,
        /// What was waited for.
        awaited: String,
        /// The node's log so far.
        log: String,
    },
    /// The system refused something else.
    #[error("{act}: {source}")]
    Io {
        /// What was attempted.
        act: String,
        /// What the system said.
        source: io::Error,
    },
}

impl HostsError {
    /// That the system refused this act.
    pub(crate) fn io(act: impl Into<String>) -> impl FnOnce(io::Error) -> HostsError {
        let act = act.into();
        move |source| HostsError::Io { act, source }
    }

    fn tool(program: &str) -> impl FnOnce(io::Error) -> HostsError {
        let program = program.to_owned();
        move |source| HostsError::Tool { program, source }
    }
}

/// Which Debian package brings a program that the lab calls.
fn remedy(program: &str) -> &'static str {
    match program {
        "ip" => " (remedy: apt-get install iproute2)",
        "unshare" | "nsenter" | "setsid" => " (remedy: apt-get install util-linux)",
        "strace" => " (remedy: apt-get install strace)",
        _ => "",
    }
}

/// The path of one of our own programs, which cargo puts next to the running one.
///
/// # Errors
///
/// [`HostsError::NotBuilt`] if it is not there: cargo builds only the programs of the package
/// under test, so the others need `cargo build --workspace` first.
pub fn binary(name: &str) -> Result<PathBuf, HostsError> {
    let own = env::current_exe().map_err(HostsError::io("find the running program"))?;
    let mut dir = own.parent().unwrap_or(&own);
    // Tests run from target/debug/deps, one directory below the programs.
    if dir.ends_with("deps") {
        dir = dir.parent().unwrap_or(dir);
    }
    let path = dir.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        let name = name.to_owned();
        Err(HostsError::NotBuilt { name, path })
    }
}
