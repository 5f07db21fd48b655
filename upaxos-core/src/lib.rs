//! The protocol of upaxos and its wire: data in, data out.
//!
//! This crate decides. It never reads a clock, a file, an environment variable or a random source: time, disk and
//! randomness are arguments. Only `net` opens sockets.

// These macros panic if the stream is closed or full; `crate::cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod driver;
pub mod entry;
pub mod hooks;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
mod mutant;
pub mod named;
pub mod net;
pub mod node;
pub mod parts;
pub mod record;
pub mod rounds;
pub mod sim;
mod slots;
pub mod state;
pub mod store;
pub mod types;
pub mod wire;
