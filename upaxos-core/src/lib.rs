//! The protocol of upaxos and its wire.
