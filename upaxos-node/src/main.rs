//! The `upaxos-node` binary.

fn main() {}
