//! What the load does at the moment, and its clock: nanoseconds since it began.

use std::time::Instant as Clock;

use upaxos_core::types::Micros;

/// What the load does at the moment, and until when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Writes so many values more.
    Fill(u64),
    /// Waits until those are answered.
    Filled,
    /// Waits for the first answer.
    Wake,
    /// Asks, and counts nothing yet.
    WarmUp(u64),
    /// Asks and counts.
    Measure(u64),
    /// Asks nothing more; waits for answers.
    Drain(u64),
    /// All is answered; waits for nodes to learn it.
    Settle(u64),
    /// All have; waits for a node to begin a new life.
    Return(u64),
    /// Has nothing left to do.
    Done,
}

/// Nanoseconds since `start`; never 0.
pub fn nanos(start: Clock) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// So many seconds, in nanoseconds.
pub fn seconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// The same time in microseconds.
pub fn micros(nanos: u64) -> Micros {
    Micros(nanos / 1_000)
}
