//! The lab: one Lua script describes what happens to a group, and runs in every world.
//!
//! A [`World`] is a group together with its network, its disks and its clients: simulated, or real processes. The
//! choreography uses worlds through this trait alone, so a script means the same in each. A world reports every
//! fault that it cannot produce. The step is then skipped with that reason, never in silence.

pub mod api;
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
mod sim;
mod strict;
pub mod sweep;
pub mod trouble;
mod world;
pub mod worlds;

pub use real::Real;
pub use sim::Sim;
pub use world::{
    DiskFault, Fault, Lacks, Link, NodeState, Party, Settled, Setup, Start, Ticket, View, Violation, World,
    WorldError,
};

#[cfg(test)]
mod tests;
