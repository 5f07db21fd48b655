//! The `upaxos-repl` binary.

fn main() {}
