//! The protocol of upaxos and its wire: data in, data out.
//!
//! This crate decides. It never reads a clock, a file, an environment variable or a random source: time, disk and
//! randomness are arguments. Sockets, files and threads are in other crates.

// These macros panic if the stream is closed or full; `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod client;
pub mod dialect;
pub mod digest_write;
pub mod driver;
pub mod entry;
pub mod hooks;
#[doc(hidden)]
pub mod mutant;
mod paged_map;
pub mod parts;
pub mod past;
pub mod record;
pub mod replica;
pub mod rounds;
pub mod script_state;
pub mod text;
pub mod types;
pub mod wire;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
