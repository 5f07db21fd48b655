//! The upaxos daemon, its disk and its tools. The binary adds only the parsing of its command line and the exit
//! status.

// These macros panic where the stream is closed or full. `upaxos_core::cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod disk;
pub mod hosts;
pub mod joining;
pub mod lab;
pub mod logging;
pub mod print;
pub mod script;
pub mod sim;
pub mod switch;
