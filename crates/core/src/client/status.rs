//! The exit statuses that all programs share.

use super::outcome::Outcome;
use super::view::View;
use crate::types::Micros;

/// The exit status of a program. The variants are ordered by severity: if several things happened, the worst
/// decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Done, or chosen: 0.
    #[default]
    Done,
    /// The group does not carry the request out: 4.
    Refused,
    /// No answer in time, or not chosen yet: 3.
    Unknown,
    /// No answer in time, from nodes that are no quorum: 5. A write may still be chosen later.
    NoQuorum,
    /// The program was called wrongly: 2.
    Usage,
    /// A fault: 1.
    Fault,
    /// A raw socket needs privilege: 77.
    NoPrivilege,
}

impl Status {
    /// The number that the shell receives.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Fault => 1,
            Status::Usage => 2,
            Status::Unknown => 3,
            Status::Refused => 4,
            Status::NoQuorum => 5,
            Status::NoPrivilege => 77,
        }
    }
}

impl Status {
    /// The status for an outcome. For an outcome without an answer, the beats decide between 3 and 5.
    pub fn after(outcome: &Outcome, view: &View, now: Micros) -> Status {
        match outcome {
            Outcome::Chosen { .. }
            | Outcome::Read { .. }
            | Outcome::Replied { .. }
            | Outcome::Members { .. } => Status::Done,
            Outcome::Unknown if view.has_quorum(now) == Some(false) => Status::NoQuorum,
            Outcome::NotYet { .. } | Outcome::Unknown | Outcome::Forgotten => Status::Unknown,
            Outcome::Refused { .. } => Status::Refused,
        }
    }
}
