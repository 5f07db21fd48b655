//! The progress that a joining node reports to its operator: how far it has caught up, and that it is a member.
//!
//! Owns the pace and the words of these lines. The daemon asks for a line once a turn. This module decides nothing.

use std::collections::BTreeSet;

use upaxos_core::client;
use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::GroupName;

/// Interval between reports while the node catches up.
const PACE: Micros = Micros::from_millis(1_000);
/// Interval between reports while the node waits.
const WAITING_PACE: Micros = Micros::from_millis(5_000);

/// The state of a joining node, as the daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the node has heard its group.
    pub hears_group: bool,
    /// The names of the other groups that it has heard; `None` is a group without a name.
    pub others: BTreeSet<Option<GroupName>>,
    /// Whether it is a member whose votes count.
    pub votes: bool,
    /// The last instance up to which it has learned all.
    pub learned: Instance,
    /// The highest instance that it knows of.
    pub heard_of: Instance,
}

/// The state of the reports so far.
#[derive(Debug)]
pub struct Progress {
    began_with: Instance,
    said_at: Micros,
    learned_then: Instance,
    is_member: bool,
}

impl Progress {
    /// Begins at time 0. `learned` is the last instance that the disk held.
    pub fn new(learned: Instance) -> Progress {
        Progress { began_with: learned, said_at: Micros(0), learned_then: learned, is_member: false }
    }

    /// Whether a report has said that the node is a member.
    pub fn is_member(&self) -> bool {
        self.is_member
    }

    /// The line to report at `now`, if one is due.
    pub fn line(&mut self, standing: Standing, now: Micros) -> Option<String> {
        let Standing { hears_group, others, votes, learned, heard_of } = standing;
        if self.is_member {
            return None;
        }
        if votes {
            self.is_member = true;
            let more = learned.0.saturating_sub(self.began_with.0);
            return Some(format!(
                "is a full member: learned {learned} ({more} of them in {:.1} s), votes from here on",
                now.0 as f64 / 1e6
            ));
        }
        let is_behind = hears_group && learned < heard_of;
        let since = now.since(self.said_at);
        if since < if is_behind { PACE } else { WAITING_PACE } {
            return None;
        }
        let rate = learned.0.saturating_sub(self.learned_then.0) * 1_000_000 / since.0.max(1);
        (self.said_at, self.learned_then) = (now, learned);
        Some(match (hears_group, is_behind) {
            (false, _) if !others.is_empty() => {
                let others: Vec<_> = others.into_iter().map(client::called).collect();
                format!(
                    "hears no group that it could join: only other groups were heard: {}; start this node under the \
                     name of the group that it is to join",
                    others.join(", ")
                )
            }
            (false, _) => {
                "hears no group: is one running with this address, protocol and transport?".to_owned()
            }
            (true, true) => format!(
                "catches up: {} % ({learned} of {heard_of} instances), {rate} instances/s",
                learned.0 * 100 / heard_of.0.max(1)
            ),
            (true, false) => format!(
                "has caught up ({learned} instances) and waits to be taken in (with --standby, for `replace OLD \
                 ID`): a leader does that (`status` shows who leads), and says in its log if it cannot"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(learned: u64, heard_of: u64) -> Standing {
        let (learned, heard_of) = (Instance(learned), Instance(heard_of));
        Standing { hears_group: heard_of.0 > 0, others: BTreeSet::new(), votes: false, learned, heard_of }
    }

    fn at(ms: u64) -> Micros {
        Micros::from_millis(ms)
    }

    #[test]
    fn progress_is_told_about_every_second_with_share_and_rate() {
        let mut progress = Progress::new(Instance(0));
        assert_eq!(progress.line(standing(10, 1_000), at(999)), None);
        let line = progress.line(standing(450, 1_000), at(1_000)).unwrap();
        assert_eq!(line, "catches up: 45 % (450 of 1000 instances), 450 instances/s");
        assert_eq!(progress.line(standing(460, 1_000), at(1_500)), None);
        let line = progress.line(standing(999, 1_000), at(2_000)).unwrap();
        assert_eq!(line, "catches up: 99 % (999 of 1000 instances), 549 instances/s");
    }

    #[test]
    fn who_waits_says_for_what_and_less_often() {
        let mut progress = Progress::new(Instance(0));
        assert_eq!(progress.line(standing(0, 0), at(4_999)), None);
        assert!(progress.line(standing(0, 0), at(5_000)).unwrap().contains("hears no group"));
        assert!(progress.line(standing(9, 9), at(10_000)).unwrap().contains("waits to be taken in"));
    }

    #[test]
    fn who_hears_only_other_groups_names_them() {
        let mut progress = Progress::new(Instance(0));
        let others = BTreeSet::from([None, Some("kitchen".parse().expect("a name"))]);
        let line = progress.line(Standing { others, ..standing(0, 0) }, at(5_000)).unwrap();
        let named = "only other groups were heard: a group without a name (no --group), the group kitchen (--group \
                     kitchen)";
        assert!(line.contains(named), "{line}");
    }

    #[test]
    fn becoming_a_member_is_told_once() {
        let mut progress = Progress::new(Instance(10));
        let member = Standing { votes: true, ..standing(1_010, 1_010) };
        let line = progress.line(member.clone(), at(2_500)).unwrap();
        assert_eq!(line, "is a full member: learned 1010 (1000 of them in 2.5 s), votes from here on");
        assert_eq!(progress.line(member, at(9_000)), None);
    }
}
