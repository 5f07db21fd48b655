//! The phases of the load, and its clock: nanoseconds since it began.

use std::time::Instant as Clock;

use upaxos_core::types::Micros;

/// The current phase of the load. `u64` values are deadlines, except in [`Phase::Fill`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Writes this many more values.
    Fill(u64),
    /// Waits until those are answered.
    Filled,
    /// Waits for the first answer.
    Wake,
    /// Sends requests, and counts nothing yet.
    WarmUp(u64),
    /// Sends requests and counts answers.
    Measure(u64),
    /// Sends no new requests, and waits for answers.
    Drain(u64),
    /// Every request is answered: waits until the nodes have learned all.
    Settle(u64),
    /// The nodes have learned all: waits for a restarted node.
    Return(u64),
    /// Has nothing left to do.
    Done,
}

/// Nanoseconds since `start`; never 0.
pub fn nanos(start: Clock) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Converts seconds to nanoseconds.
pub fn seconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Converts nanoseconds to microseconds.
pub fn micros(nanos: u64) -> Micros {
    Micros(nanos / 1_000)
}
