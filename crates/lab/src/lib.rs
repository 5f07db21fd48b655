//! The lab: one Lua script describes what happens to a group, and runs in every world.
//!
//! A [`Backend`] is a group together with its network, its disks and its clients: simulated, or real processes. The
//! choreography uses worlds through this trait alone, so a script means the same in each. A world reports every
//! fault that it cannot produce. The step is then skipped with that reason, never in silence.

// These macros panic where the stream is closed or full. `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod api;
mod backend;
pub mod backends;
pub mod bench;
pub mod command;
pub mod error;
mod links;
mod load;
mod options;
mod page;
mod panics;
mod process_backend;
pub mod report;
mod run;
pub mod runner;
pub mod script;
pub mod seeds;
mod sim;
pub mod sweep;
pub mod verdict;

pub use upaxos_testbed::link::Link;

pub use backend::{
    Backend, BackendError, DiskFault, Fault, NodeState, Party, Settled, Setup, Start, Ticket, Unsupported,
    View, Violation,
};
pub use process_backend::ProcessBackend;
pub use sim::Sim;

#[cfg(test)]
mod tests;
