//! The parts of the daemon that the binary, the demo and the live tests share.

pub mod lab;
