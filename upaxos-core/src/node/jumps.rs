//! Ballots far above all that this node has heard: whose word is taken for them, and when.
//!
//! Honest rounds grow by ones, so a round that jumps by more than [`MAX_ROUND_JUMP`] is not believed of a
//! single line: one hostile number would use up all ballots. But whoever was down while the others were
//! moved by such numbers, once for each, finds all of them out of its reach. So it believes a member that
//! names such ballots, and nothing within reach, for one election timeout: of these the lowest. A forged
//! line is contradicted by the member's next own one; what a member really says, is believed at the latest
//! then, however far it is. The upper half of all rounds is believed of nobody in this way.
//!
//! Owns these claims, and nothing else. It never touches promises: a wrong guess here costs time.

use std::collections::BTreeMap;

use crate::types::{Ballot, Instance, Micros, NodeId};

/// How far a ballot's round may be above the highest one heard, to be believed at once.
pub const MAX_ROUND_JUMP: u64 = 1 << 20;

/// How many claims are kept, and how many lines make one.
const CLAIMS: usize = 64;
const LINES: u32 = 3;

/// Who claims what: a member, of all instances (0) or, in a classic group, of one.
pub type Claimant = (NodeId, Instance);

/// The claims that are not believed yet, and the highest one that was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Jumps {
    claims: BTreeMap<Claimant, Claim>,
    believed: Option<Ballot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    lowest: Ballot,
    /// The timeout of its sender.
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

    /// A line names a ballot within reach: what the same member said before of others was not its word.
    pub fn contradict(&mut self, by: Claimant) {
        if !self.claims.is_empty() {
            self.claims.remove(&by);
        }
    }

    /// A line names a ballot out of reach. The lowest that this member has named, once it has done so for
    /// one `timeout`, and without a pause of four.
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
