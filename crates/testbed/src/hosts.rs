//! The lab's grounds: hosts for real processes. One run makes them, and its end removes them.
//!
//! A network of their own joins the hosts of a [`Hosts`]. A [`Node`] is one daemon on one host. A [`Client`] sends
//! requests to the daemons. The demo and the live tests share all three. Many `Hosts` may exist at once, in one
//! process or in several, and do not hear one another.
//!
//! This module owns processes, namespaces and temporary directories. It never speaks the protocol: even its client
//! is a program on a host.

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

/// The means by which a [`Hosts`] makes its hosts, the most faithful first.
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

/// Why the lab could not carry out a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// No allowed ground could be set up. Each reason names its ground.
    #[error("make hosts: {}", .reasons.join("; "))]
    NoGround {
        /// One reason for each ground tried.
        reasons: Vec<String>,
    },
    /// The ground does not support this fault.
    #[error("{fault}: not on this ground ({ground}): {reason}")]
    Unsupported {
        /// The requested fault.
        fault: &'static str,
        /// The ground that lacks it.
        ground: Isolation,
        /// Why the ground lacks the fault.
        reason: &'static str,
    },
    /// A program of the system did not start.
    #[error("run {program}: {source}{}", remedy(.program))]
    Tool {
        /// The program's name.
        program: String,
        /// The error that the system returned.
        source: io::Error,
    },
    /// A program of the system ran and failed.
    #[error("{act}: {said}")]
    Failed {
        /// The attempted act.
        act: String,
        /// The output of the program.
        said: String,
    },
    /// One of our own programs is not in its place.
    #[error("find {name} at {}: not built; run `cargo build --workspace`", .path.display())]
    NotBuilt {
        /// The program's name.
        name: String,
        /// The path where the lab looked for it.
        path: PathBuf,
    },
    /// A node did not reach the awaited state in time.
    #[error("{host}: no {awaited} within {after:?}; its log:\n{log}")]
    TimedOut {
        /// The node's host.
        host: Host,
        /// The awaited line or state.
        awaited: String,
        /// How long the caller waited.
        after: Duration,
        /// The node's log so far.
        log: String,
    },
    /// A node ended before it reached the awaited state.
    #[error("{host}: ended ({status}) before {awaited}; its log:\n{log}")]
    Ended {
        /// The node's host.
        host: Host,
        /// Its exit status, in words.
        status: String,
        /// The awaited line or state.
        awaited: String,
        /// The node's log so far.
        log: String,
    },
    /// The system refused another act.
    #[error("{act}: {source}")]
    Io {
        /// The attempted act.
        act: String,
        /// The error that the system returned.
        source: io::Error,
    },
}

impl HostsError {
    /// Makes the error of an act that the system refused.
    pub fn io(act: impl Into<String>) -> impl FnOnce(io::Error) -> HostsError {
        let act = act.into();
        move |source| HostsError::Io { act, source }
    }

    fn tool(program: &str) -> impl FnOnce(io::Error) -> HostsError {
        let program = program.to_owned();
        move |source| HostsError::Tool { program, source }
    }
}

/// The remedy for a missing program: the Debian package that contains it.
fn remedy(program: &str) -> &'static str {
    match program {
        "ip" => " (remedy: apt-get install iproute2)",
        "unshare" | "nsenter" | "setsid" => " (remedy: apt-get install util-linux)",
        "strace" => " (remedy: apt-get install strace)",
        _ => "",
    }
}

/// The path of one of our own programs. Cargo puts them next to the running program.
///
/// # Errors
///
/// [`HostsError::NotBuilt`] if the program is not there. Cargo builds only the programs of the package under test,
/// so the others need `cargo build --workspace` first.
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
