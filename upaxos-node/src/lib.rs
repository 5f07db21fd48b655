//! The upaxos daemon. The binary adds only the parsing of its command line and the exit status.

// These macros panic where the stream is closed or full. `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod join_progress;
pub mod logging;
pub mod print;
