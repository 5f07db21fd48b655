//! The requests of clients: intake, queue, replies and fast reads.

pub mod fast_reads;
pub mod intake;
pub mod overheard;
pub mod pending_replies;
pub mod queue;
pub mod replies;
