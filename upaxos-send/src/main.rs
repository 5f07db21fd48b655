//! The `upaxos-send` binary.

fn main() {}
