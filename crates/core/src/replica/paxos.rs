//! The three roles of Paxos, and how a replica catches up: proposer, acceptor, learner.

pub mod acceptor;
pub mod catch_up;
pub mod digest_writes;
pub mod learner;
pub mod proposer;
