//! The test bed: real processes on hosts of their own, with a switch between them that fails on purpose.
//!
//! A host is a network namespace, or loopback. This crate owns the hosts, the processes on them, the switch and the
//! client process. It knows the programs of the project by their command lines alone, and judges nothing.

// These macros panic where the stream is closed or full. `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod client;
pub mod hosts;
pub mod link;
pub mod switch;
