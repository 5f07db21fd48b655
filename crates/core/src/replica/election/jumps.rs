//! Ballots far above all that this node knows: when they are believed.
//!
//! Rounds of correct nodes grow by ones. So a round that jumps by more than [`MAX_ROUND_JUMP`] is not believed from
//! a single line: one hostile number would use up all ballots. But such numbers may have moved the other nodes, one
//! step for each, while this node was down. Then all of their ballots are out of its reach. So it believes a member
//! that names only such ballots, and none within reach, for one election timeout; it believes the lowest of them.
//! The member's next own line contradicts a forged one. A ballot that the member really uses is believed after that
//! time at the latest, however far it is. The upper half of all rounds is never believed in this way.
//!
//! This module owns these claims, and nothing else. It never touches promises: a wrong guess here costs time.

use std::collections::BTreeMap;

use crate::types::{Ballot, Instance, Micros, NodeId};

/// How far a ballot's round may be above the highest known one, to be believed at once.
pub const MAX_ROUND_JUMP: u64 = 1 << 20;

/// How many claims are kept, and how many lines it takes to believe one.
const CLAIMS: usize = 64;
const LINES: u32 = 3;

/// The source of a claim: a member, for all instances (0) or, in a classic group, for one instance.
pub type Claimant = (NodeId, Instance);

/// The claims that are not believed yet, and the highest ballot that was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Jumps {
    claims: BTreeMap<Claimant, Claim>,
    believed: Option<Ballot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    lowest: Ballot,
    /// The timeout of the claim's sender.
    timeout: Micros,
    since: Micros,
    at: Micros,
    lines: u32,
}

impl Jumps {
    /// The highest ballot that was believed in spite of its distance.
    pub fn believed(&self) -> Option<Ballot> {
        self.believed
    }

    /// Records a line with a ballot within reach. It shows that the same member's earlier claim was not its own.
    pub fn contradict(&mut self, by: Claimant) {
        if !self.claims.is_empty() {
            self.claims.remove(&by);
        }
    }

    /// Records a line with a ballot out of reach. Returns the lowest ballot that this member has named, once it has
    /// named such ballots for one `timeout`, without a pause of four timeouts.
    pub fn claim(&mut self, by: Claimant, ballot: Ballot, timeout: Micros, now: Micros) -> Option<Ballot> {
        self.claims.retain(|_, claim| now.since(claim.at) < claim.timeout * 4);
        if self.claims.len() >= CLAIMS && !self.claims.contains_key(&by) {
            return None;
        }
        let new = Claim { lowest: ballot, timeout, since: now, at: now, lines: 0 };
        let claim = self.claims.entry(by).or_insert(new);
        (claim.lowest, claim.at, claim.lines) = (claim.lowest.min(ballot), now, claim.lines + 1);
        let lowest = claim.lowest;
        if claim.lines < LINES || now.since(claim.since) < timeout {
            return None;
        }
        self.claims.remove(&by);
        self.believed = self.believed.max(Some(lowest));
        Some(lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: Claimant = (NodeId(1), Instance(0));
    const TIMEOUT: Micros = Micros::from_millis(400);

    fn claims(said: &[(u64, u64)]) -> Vec<Option<u64>> {
        let mut jumps = Jumps::default();
        let mut claim = |(ms, number): &(u64, u64)| {
            jumps.claim(BY, Ballot::first_epoch(*number), TIMEOUT, Micros::from_millis(*ms))
        };
        said.iter().map(|said| claim(said).map(|ballot| ballot.number)).collect()
    }

    #[test]
    fn the_lowest_of_what_a_member_says_for_one_timeout_is_believed() {
        assert_eq!(claims(&[(0, 90), (200, 80), (399, 85), (400, 95)]), [None, None, None, Some(80)]);
    }

    #[test]
    fn two_lines_are_not_believed_nor_what_pauses_for_long() {
        assert_eq!(claims(&[(0, 90), (500, 90), (2_500, 90), (2_600, 90)]), [None; 4]);
    }

    #[test]
    fn a_line_within_reach_contradicts_what_was_forged() {
        let mut jumps = Jumps::default();
        for step in 0..20 {
            let (forged, now) = (Ballot::first_epoch(1 << 60), Micros::from_millis(step * 100));
            assert_eq!(jumps.claim(BY, forged, TIMEOUT, now), None);
            jumps.contradict(BY);
        }
        assert_eq!(jumps.believed(), None);
    }

    #[test]
    fn the_table_of_claims_is_bounded() {
        let mut jumps = Jumps::default();
        for id in 0..1_000 {
            jumps.claim((NodeId(id), Instance(0)), Ballot::first_epoch(1 << 60), TIMEOUT, Micros(0));
        }
        assert_eq!(jumps.claims.len(), CLAIMS);
    }
}
