//! The reasons why a request to the hosts was not carried out.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::host::Host;
use super::isolation::Isolation;

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

    pub(super) fn tool(program: &str) -> impl FnOnce(io::Error) -> HostsError {
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
