//! The upaxos daemon, its disk and its tools. The binary is a few lines on top.

pub mod cli;
pub mod daemon;
pub mod disk;
pub mod logging;
pub mod print;
