//! The parts of the daemon that the binary, the demo and the live tests share.

pub mod client;
pub mod demo;
pub mod lab;
