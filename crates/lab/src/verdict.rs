//! The verdict of a play: how it ended, and what happened in it.

use std::collections::BTreeMap;
use std::time::Duration;

use upaxos_core::types::Micros;

use super::error::LabError;
use super::run::Act;

/// The result of a play.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The seed that the play used.
    pub seed: u64,
    /// How it ended.
    pub end: End,
    /// The lines that the script has printed, if they were kept.
    pub said: Vec<String>,
    /// Steps that were skipped because the world does not support them, with the reason, and how often.
    pub skips: BTreeMap<String, u64>,
    /// The script's acts on nodes and links, in order.
    pub acts: Vec<Act>,
    /// How many nodes there were, spares included.
    pub nodes: u16,
    /// The number of requests.
    pub asked: u64,
    /// The duration on the clock of its world.
    pub lasted: Micros,
    /// The duration in real time.
    pub took: Duration,
}

/// The outcome of a play.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Every expectation and every rule held.
    Passed,
    /// It could not be played here, for this reason.
    Skipped(String),
    /// An expectation or a rule did not hold.
    Failed {
        /// The failure and its place.
        trouble: LabError,
        /// The knowledge about all nodes at that time.
        views: String,
    },
}

impl Verdict {
    /// The verdict of a lab that failed before it began.
    pub fn failed(seed: u64, trouble: LabError) -> Verdict {
        Verdict { end: End::Failed { trouble, views: String::new() }, ..Verdict::passed(seed) }
    }

    /// A verdict with no events, for a lab that passed.
    pub fn passed(seed: u64) -> Verdict {
        Verdict {
            seed,
            end: End::Passed,
            said: Vec::new(),
            skips: BTreeMap::new(),
            acts: Vec::new(),
            nodes: 0,
            asked: 0,
            lasted: Micros(0),
            took: Duration::ZERO,
        }
    }
}
