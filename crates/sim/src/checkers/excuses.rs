//! The rules that a rolled back disk may violate, and the state of such disks.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::Disk;
use super::rule::{Rule, Violation};

/// The rules that a vote against a forgotten promise can violate.
const BREAKABLE: [Rule; 16] = [
    Rule::Agreement,
    Rule::OneValuePerBallot,
    Rule::OwnBallot,
    Rule::WritesWhatIsPromised,
    Rule::PromisesNeverRegress,
    Rule::Integrity,
    Rule::EpochIsLearned,
    Rule::NothingAboveChange,
    Rule::LeavesInOrder,
    Rule::RealTimeOrder,
    Rule::ReadsSeeWrites,
    Rule::ReadsAreFresh,
    Rule::Durability,
    Rule::ExactlyOnce,
    Rule::RefusedIsFinal,
    Rule::SameState,
];

/// The rules that hold in every run.
const NEVER_EXCUSED: [Rule; 3] = [Rule::NoPanic, Rule::RollbackIsFound, Rule::Progress];

/// The state of all copied and rolled back disks.
#[derive(Debug, Default)]
pub(super) struct Rollback {
    /// The durable state of each member when its disk was copied.
    pub copies: BTreeMap<u16, Disk>,
    /// The members whose disks lack records that they had.
    pub(super) ids: BTreeSet<u16>,
    /// The first violation that a rollback caused.
    pub broken: Option<Violation>,
    /// Pairs of members whose logs differ, as one of them reported.
    pub(super) told: BTreeSet<(u16, u16)>,
}

impl Rollback {
    /// Whether the violation of a rule is excused. After the first excused one, all others that can follow from it
    /// are, too.
    pub fn excuses(&self, rule: Rule) -> bool {
        match self.broken {
            Some(_) => !NEVER_EXCUSED.contains(&rule),
            None => !self.ids.is_empty() && BREAKABLE.contains(&rule),
        }
    }
}
