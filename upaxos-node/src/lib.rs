//! The upaxos daemon, its disk and its tools. The binary is a few lines on top.

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
