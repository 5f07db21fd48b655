//! The lab: one Lua script describes what happens to a group, and runs in every world.
//!
//! A [`World`] is a group together with its network, its disks and its clients: simulated, or real processes. The
//! choreography uses worlds through this trait alone, so a script means the same in each. A world reports every
//! fault that it cannot produce. The step is then skipped with that reason, never in silence.

// These macros panic where the stream is closed or full. `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod api;
pub mod bench;
pub mod command;
mod links;
mod load;
mod page;
mod panics;
pub mod play;
mod real;
pub mod report;
mod run;
pub mod script;
pub mod seeds;
mod sim;
mod strict;
pub mod sweep;
pub mod trouble;
mod world;
pub mod worlds;

pub use upaxos_testbed::link::Link;

pub use real::Real;
pub use sim::Sim;
pub use world::{
    DiskFault, Fault, NodeState, Party, Settled, Setup, Start, Ticket, Unsupported, View, Violation, World,
    WorldError,
};

#[cfg(test)]
mod tests;
