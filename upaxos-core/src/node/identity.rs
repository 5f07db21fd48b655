//! Who this node is, and whether it may vote.
//!
//! Owns the registration of incarnations among the members of the first group. A node that lost its
//! disk has forgotten its promises: it must never vote again under the same id. So a member votes
//! for the first time only after [`enough_peers`] of the n-1 others have durably remembered its
//! incarnation; any two such sets share a peer that has its disk while a minority lost theirs, and no
//! peer remembers two incarnations for one id. Who joins later is named in the log with its incarnation,
//! which is all the registration it needs.

use std::collections::BTreeMap;

use super::Timing;
use super::outbox::{Event, Outbox};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::types::{Group, Micros, NodeId, Votes};
use crate::wire::{Boot, Message};

/// This node's identity, and what it remembers of its peers'.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    me: NodeId,
    boot: Boot,
    timing: Timing,
    /// The size of the first group; 0 for a node that joins.
    n: u16,
    /// Whether an earlier life of this directory has been registered.
    is_member: bool,
    remembers: BTreeMap<NodeId, Boot>,
    registered_by: Votes,
    standing: Standing,
    started_at: Option<Micros>,
    complain_at: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    Waiting,
    Votes,
    Barred,
}

impl Identity {
    /// A node that has not begun a life. Where `guarded` is false (a classic group cannot register) it
    /// may vote at once.
    pub fn new(me: NodeId, n: u16, timing: Timing, guarded: bool) -> Identity {
        let standing = if guarded { Standing::Waiting } else { Standing::Votes };
        Identity {
            me,
            boot: Boot { incarnation: 0, start: 0, boot: 0 },
            timing,
            n,
            is_member: false,
            remembers: BTreeMap::new(),
            registered_by: Votes::default(),
            standing,
            started_at: None,
            complain_at: Micros(0),
        }
    }

    /// Takes up what an earlier life has written down.
    pub fn recover(&mut self, record: &Record) {
        match record {
            Record::Member => self.is_member = true,
            Record::Registered { node, boot } => drop(self.remembers.insert(*node, *boot)),
            _ => {}
        }
    }

    /// Begins a life.
    pub fn begin(&mut self, boot: Boot) {
        self.boot = boot;
    }

    /// Which life of which directory this is.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Whether this node's votes count.
    pub fn may_vote(&self) -> bool {
        self.standing == Standing::Votes
    }

    /// Whether `boot` may speak for `id`: its incarnation is the one remembered, if one is.
    pub fn is_genuine(&self, id: NodeId, boot: Boot) -> bool {
        self.remembers.get(&id).is_none_or(|known| known.incarnation == boot.incarnation)
    }

    /// `Register`: remember a peer's life, or say what is remembered instead.
    pub fn on_register(&mut self, from: NodeId, boot: Boot, out: &mut Outbox) {
        let known = self.remembers.get(&from);
        let accepts = |known: &Boot| is_successor(*known, boot) || mutant::is(Mutant::SecondIncarnation);
        if let Some(known) = known.filter(|known| !accepts(known)) {
            let Boot { incarnation, start, .. } = *known;
            out.send(Message::Barred { node: from, boot: boot.boot, incarnation, start });
            return;
        }
        if known != Some(&boot) {
            self.remembers.insert(from, boot);
            out.persist(Record::Registered { node: from, boot });
        }
        out.after_sync(Message::Registered { node: from, boot: boot.boot });
    }

    /// `Registered`: a peer has durably remembered this life, if it is this one that it names.
    pub fn on_registered(&mut self, from: NodeId, node: NodeId, boot: u64) {
        if node == self.me && boot == self.boot.boot {
            self.registered_by.insert(from);
        }
    }

    /// `Barred`: a peer remembers this id otherwise. Believed only while this node asks to vote, so
    /// that a stray packet cannot silence a healthy member.
    pub fn on_barred(&mut self, from: NodeId, node: NodeId, boot: u64, known: (u64, u64), out: &mut Outbox) {
        if node != self.me || boot != self.boot.boot || self.standing != Standing::Waiting {
            return;
        }
        let (incarnation, start) = known;
        if incarnation == self.boot.incarnation && start < self.boot.start {
            return;
        }
        let what = match incarnation == self.boot.incarnation {
            _ if incarnation == 0 => {
                format!(
                    "node {from} says that id {} was a member before, and ids are never used again",
                    self.me
                )
            }
            true => format!(
                "its disk is older than what node {from} remembers of it (start {start}, here {})",
                self.boot.start
            ),
            false => format!(
                "its disk is not the one that node {from} remembers (incarnation {incarnation}, here {})",
                self.boot.incarnation
            ),
        };
        self.bar(what, out);
    }

    /// The log names this node as a member of the group in force, with an incarnation perhaps. A node that
    /// joins may vote from here on.
    pub fn on_listed(&mut self, listed: Option<u64>, out: &mut Outbox) {
        let Some(listed) = listed.filter(|_| self.standing == Standing::Waiting) else { return };
        if listed != self.boot.incarnation {
            self.bar(
                format!(
                    "its disk is not the one that the log names (incarnation {listed}, here {})",
                    self.boot.incarnation
                ),
                out,
            );
        } else if !self.is_member {
            self.begin_to_vote(out);
        }
    }

    fn begin_to_vote(&mut self, out: &mut Outbox) {
        self.standing = Standing::Votes;
        if !self.is_member {
            self.is_member = true;
            // Its own sync may come with the first vote: until then it claims nothing.
            out.persist(Record::Member);
        }
        out.event(Event::MayVote);
    }

    fn bar(&mut self, what: String, out: &mut Outbox) {
        self.standing = Standing::Barred;
        out.event(Event::MayNotVote(format!(
            "{what}. What the lost disk promised is not known here, so a vote could undo an agreement. \
             Bring the old directory back, or come back under a new id: upaxos-node --join -i NEW_ID"
        )));
    }

    /// Asks for registration until enough peers have answered, and then says that this node votes.
    pub fn tick(&mut self, group: &Group, now: Micros, out: &mut Outbox) {
        let started_at = *self.started_at.get_or_insert(now);
        if self.standing != Standing::Waiting {
            return;
        }
        if self.is_registered(group, now.since(started_at)) {
            self.begin_to_vote(out);
        } else if now >= self.complain_at {
            if now > started_at {
                let missing = |id: &&NodeId| **id != self.me && !self.registered_by.contains(**id);
                out.event(Event::WaitsFor(group.members.iter().filter(missing).copied().collect()));
            }
            self.complain_at = now + Micros::from_millis(2_000);
        }
    }

    /// Whether to ask for registration with the next beat: until it votes, and until enough remember it to
    /// know an older disk from this one.
    pub fn wants_registration(&self, group: &Group) -> bool {
        let is_known = self.registered_by.len() + 1 >= group.quorum();
        self.standing == Standing::Waiting || (self.standing == Standing::Votes && !is_known)
    }

    fn is_registered(&self, group: &Group, waited: Micros) -> bool {
        if !self.is_member {
            // Whoever came later never heard of it, and could not tell it from one that lost its disk.
            let others = usize::from(self.n.saturating_sub(1));
            let first = self.registered_by.iter().filter(|id| id.0 < self.n).count();
            return self.me.0 < self.n && first >= enough_peers(others);
        }
        let others = group.members.len().saturating_sub(1);
        if others == 0 || self.registered_by.len() >= others {
            return true;
        }
        // A member that comes back: a quorum with itself is enough, but all get the time to object.
        self.registered_by.len() + 1 >= group.quorum() && waited >= self.timing.timeout()
    }
}

/// How many of so many peers must remember a member before it votes for the first time. Of the minority
/// that may lose its disks one is the member itself, the rest are peers that have forgotten it: any two
/// sets of this size share one peer more than those.
fn enough_peers(others: usize) -> usize {
    let minority = others / 2;
    (others + minority).div_ceil(2)
}

/// Whether `boot` can be the life that `known` was, or a later one of the same directory.
fn is_successor(known: Boot, boot: Boot) -> bool {
    let same_life = boot.start == known.start && boot.boot == known.boot;
    boot.incarnation == known.incarnation && (boot.start > known.start || same_life)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_registrations_share_a_peer_that_kept_its_disk_while_a_minority_lost_theirs() {
        for n in 2..100 {
            let (others, enough) = (n - 1, enough_peers(n - 1));
            let shared = 2 * enough - others;
            let forgetful = (others / 2).saturating_sub(1);
            assert!(enough <= others && shared > forgetful, "{enough} of {others}");
        }
    }
}
