//! The candidacy: what this node shows of its part in the election, and when.
//!
//! This module owns the times of the heartbeats, and what the log reports of a lost quorum and of unequal intervals.
//! The links decide whether a quorum is there. The proposer owns the work under a ballot.

use std::collections::BTreeSet;

use crate::replica::election::links::Election;
use crate::replica::outbox::{Event, Outbox};
use crate::types::{Group, Micros, NodeId};
use crate::wire::{Pace, Stance};

/// How many peers with another interval the log names in one run.
const NAMED: usize = 16;

/// For how many timeouts a quorum may be missed before the log reports it. A node that was just admitted, or comes
/// back, gives its peers one timeout to object before it votes.
const MISSED: u64 = 2;

/// Whether a voter has a quorum of its group, as far as the log reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quorum {
    /// The node never had a quorum, or does not vote.
    Never,
    /// The node has a quorum.
    Has,
    /// The node has had no quorum since this time. That may pass, so the log does not report it yet.
    MissedSince(Micros),
    /// The node has no quorum, and the log has reported it.
    Lost,
}

/// What this node shows of its part in the election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidacy {
    beat_at: Micros,
    stance: Stance,
    quorum: Quorum,
    /// The peers whose interval between heartbeats was reported as another one.
    warned_of_pace: BTreeSet<NodeId>,
}

impl Default for Candidacy {
    fn default() -> Candidacy {
        Candidacy {
            beat_at: Micros(0),
            stance: Stance::Waits,
            quorum: Quorum::Never,
            warned_of_pace: BTreeSet::new(),
        }
    }
}

impl Candidacy {
    /// When the next heartbeat is due.
    pub fn beat_at(&self) -> Micros {
        self.beat_at
    }

    /// The stance that was shown last.
    pub fn stance(&self) -> Stance {
        self.stance
    }

    /// Makes the next heartbeat due at `at`, unless it is due earlier.
    pub fn beat_by(&mut self, at: Micros) {
        self.beat_at = self.beat_at.min(at);
    }

    /// Makes the next heartbeat due at `at`.
    pub fn beat_again_at(&mut self, at: Micros) {
        self.beat_at = at;
    }

    /// Shows a stance. A new one is shown at once.
    pub fn show(&mut self, stance: Stance, election: &Election, now: Micros, out: &mut Outbox) {
        if stance == self.stance {
            return;
        }
        self.stance = stance;
        self.beat_at = now;
        if let (Stance::Follows, Some(ballot), Some(leader)) = (stance, election.ballot(), election.leader())
        {
            out.event(Event::Follows { leader, ballot });
        }
    }

    /// Names a peer in the log that beats at another interval than this node. Unequal intervals delay the detection
    /// of failures.
    pub fn on_unequal_pace(&mut self, from: NodeId, theirs: Pace, own: Pace, out: &mut Outbox) {
        if self.warned_of_pace.len() < NAMED && self.warned_of_pace.insert(from) {
            let (theirs, own) = (theirs.every_ms, own.every_ms);
            out.event(Event::Warning(format!(
                "node {from} beats every {theirs} ms, this node every {own} ms: start all with the same --beat; until \
                 then the slower of two counts"
            )));
        }
    }

    /// Reports a lost quorum once the loss lasts, and reports when it is over.
    pub fn note_quorum(
        &mut self,
        election: &Election,
        (group, is_voter): (&Group, bool),
        now: Micros,
        out: &mut Outbox,
    ) {
        self.quorum = match (election.has_quorum(group, now), self.quorum) {
            _ if !is_voter => Quorum::Never,
            (true, Quorum::Lost) => {
                out.event(Event::Notice("hears a quorum again".into()));
                Quorum::Has
            }
            (true, _) => Quorum::Has,
            (false, Quorum::Has) => Quorum::MissedSince(now),
            (false, Quorum::MissedSince(since))
                if now.since(since) >= election.longest_timeout() * MISSED =>
            {
                let members = group.members.iter().copied();
                let linked = members.clone().filter(|id| election.is_voter(*id, now)).collect();
                out.event(Event::LostQuorum { linked, members: members.collect() });
                Quorum::Lost
            }
            (false, as_before) => as_before,
        };
    }
}
