//! The classes of faults, with the names that the command line uses.

use std::fmt;

/// A class of faults, on or off in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it; docs/testing.md says more")]
pub enum Class {
    Loss,
    Duplication,
    Replay,
    Delay,
    Corruption,
    Partition,
    Crash,
    TornWrite,
    SyncError,
    SlowSync,
    Pause,
    Skew,
    Wipe,
    Join,
    Leave,
    BitFlip,
    Bounds,
    Absence,
    Operator,
    Other,
    Rollback,
}

impl Class {
    /// All classes, with the names that the command line uses.
    pub const ALL: [(Class, &'static str); 21] = [
        (Class::Loss, "loss"),
        (Class::Duplication, "duplication"),
        (Class::Replay, "replay"),
        (Class::Delay, "delay"),
        (Class::Corruption, "corruption"),
        (Class::Partition, "partition"),
        (Class::Crash, "crash"),
        (Class::TornWrite, "torn-write"),
        (Class::SyncError, "sync-error"),
        (Class::SlowSync, "slow-sync"),
        (Class::Pause, "pause"),
        (Class::Skew, "skew"),
        (Class::Wipe, "wipe"),
        (Class::Join, "join"),
        (Class::Leave, "leave"),
        (Class::BitFlip, "bit-flip"),
        (Class::Bounds, "bounds"),
        (Class::Absence, "absence"),
        (Class::Operator, "operator"),
        (Class::Other, "other-group"),
        (Class::Rollback, "rollback"),
    ];

    /// A seed draws a subset of these classes. The others are drawn from streams of their own.
    pub(super) const DRAWN: [Class; 16] = {
        let mut drawn = [Class::Loss; 16];
        let mut at = 0;
        while at < drawn.len() {
            drawn[at] = Class::ALL[at].0;
            at += 1;
        }
        drawn
    };

    /// The class with this name on the command line.
    pub fn named(name: &str) -> Option<Class> {
        Class::ALL.iter().find(|(_, known)| *known == name).map(|(class, _)| *class)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Class::ALL.iter().find(|(class, _)| class == self).map_or("", |(_, name)| name))
    }
}
