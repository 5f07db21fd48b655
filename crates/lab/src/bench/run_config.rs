//! The parameters of one run.

use clap::ValueEnum;
use serde::Serialize;

/// The kind of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// A read of the last value written, without an instance.
    Fast,
    /// A read of the last value written, through an instance.
    Safe,
    /// A query for the value chosen at some instance.
    History,
}

/// One run of the matrix.
#[derive(Clone, Debug, Serialize)]
pub struct RunConfig {
    /// The size of the group. 0 for an attached group.
    pub nodes: u16,
    /// Bytes of each value.
    pub size: u32,
    /// The maximum number of requests in flight.
    pub outstanding: u32,
    /// The number of clients, as --clients gives it.
    pub clients: u32,
    /// The kind of reads. `None` for writes.
    pub reads: Option<Reads>,
    /// The number of values written before the run.
    pub fill: u64,
    /// The requested rate in requests per second. `None`: as fast as answers arrive.
    pub rate: Option<f64>,
    /// The round of the matrix, from 1.
    pub round: u32,
}

impl RunConfig {
    /// The parameters in a few words, for messages.
    pub(super) fn words(&self) -> String {
        let of = if self.nodes == 0 { String::new() } else { format!(" of {} nodes", self.nodes) };
        format!("{} B × {}{of}, round {}", self.size, self.outstanding, self.round)
    }
}
