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
    /// Whether the log names this directory as a member's.
    is_listed: bool,
    remembers: BTreeMap<NodeId, Boot>,
    registered_by: Votes,
    standing: Standing,
    /// Since when it has been asking its peers.
    asks_since: Option<Micros>,
    complain_at: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    Waiting,
    /// Enough peers remember it; its own disk is about to.
    Admitted,
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
            is_listed: false,
            remembers: BTreeMap::new(),
            registered_by: Votes::default(),
            standing,
            asks_since: None,
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

    /// What rebuilds this.
    pub fn checkpoint(&self) -> impl Iterator<Item = Record> {
        let Boot { start, boot, .. } = self.boot;
        let member = self.is_member.then_some(Record::Member);
        let registered = |(node, boot): (&NodeId, &Boot)| Record::Registered { node: *node, boot: *boot };
        [Record::Start { start, boot }].into_iter().chain(member).chain(self.remembers.iter().map(registered))
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

    /// The incarnation and start that are remembered of a peer; zeros where none are.
    pub fn remembered(&self, id: NodeId) -> (u64, u64) {
        self.remembers.get(&id).map_or((0, 0), |boot| (boot.incarnation, boot.start))
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
        if incarnation == 0 {
            return self.bar(
                format!(
                    "node {from} says that id {} was a member before, and ids are never used again. Join under \
                     a new id, with the network flags as here: upaxos-node --join -i NEW_ID",
                    self.me
                ),
                out,
            );
        }
        let what = match incarnation == self.boot.incarnation {
            true => format!(
                "its disk is older than what node {from} remembers of it (start {start}, here {})",
                self.boot.start
            ),
            false => format!(
                "its disk is not the one that node {from} remembers (incarnation {incarnation}, here {})",
                self.boot.incarnation
            ),
        };
        self.bar_for_its_disk(&what, out);
    }

    /// The log names this node as a member of the group in force, with an incarnation perhaps: all the
    /// registration that who joins needs. Its peers are asked all the same, as at every start: they may
    /// remember a later life.
    pub fn on_listed(&mut self, listed: Option<u64>, out: &mut Outbox) {
        let Some(listed) = listed.filter(|_| self.standing == Standing::Waiting && !self.is_listed) else {
            return;
        };
        if listed == self.boot.incarnation {
            self.is_listed = true;
            self.asks_since = None;
        } else {
            let own = self.boot.incarnation;
            let what =
                format!("its disk is not the one that the log names (incarnation {listed}, here {own})");
            self.bar_for_its_disk(&what, out);
        }
    }

    /// This node asks to join in the place of a node that was never a member.
    pub fn on_no_place(&mut self, old: NodeId, out: &mut Outbox) {
        if self.standing == Standing::Waiting {
            self.bar(
                format!(
                    "node {old}, whose place it asks for, was never a member of the group: start it without \
                     --replace, or name a member (`members` lists them)"
                ),
                out,
            );
        }
    }

    /// The group has changed since it was made: who was never in it cannot begin any more, since those who
    /// would remember it may be gone.
    pub fn on_late(&mut self, out: &mut Outbox) {
        if self.standing == Standing::Waiting && !self.is_member && !self.is_listed && self.n > 0 {
            self.bar_for_its_disk(
                "the group has changed since it was made, and this disk was never in it",
                out,
            );
        }
    }

    /// Whoever votes, by its beats, is counted upon when the group changes: so it must be a member in its next
    /// life, too, which its disk has to know first.
    fn begin_to_vote(&mut self, out: &mut Outbox) {
        if self.is_member {
            self.standing = Standing::Votes;
            return out.event(Event::MayVote);
        }
        (self.standing, self.is_member) = (Standing::Admitted, true);
        out.persist(Record::Member);
        out.flush();
    }

    /// All that was handed out is durable.
    pub fn on_synced(&mut self, out: &mut Outbox) {
        if self.standing == Standing::Admitted {
            self.begin_to_vote(out);
        }
    }

    fn bar_for_its_disk(&mut self, what: &str, out: &mut Outbox) {
        let me = self.me;
        let text = format!(
            "{what}. What a lost disk promised is not known here, so a vote could undo an agreement. Bring the \
             old directory back, or come back under a new id in the place of {me}, with the network flags as \
             here: upaxos-node --join -i NEW_ID --replace {me}"
        );
        self.bar(text, out);
    }

    fn bar(&mut self, why: String, out: &mut Outbox) {
        self.standing = Standing::Barred;
        out.event(Event::MayNotVote(why));
    }

    /// Asks for registration until enough peers have answered, and then says that this node votes.
    pub fn tick(&mut self, group: &Group, now: Micros, out: &mut Outbox) {
        let asks_since = *self.asks_since.get_or_insert(now);
        if self.standing != Standing::Waiting {
            return;
        }
        if self.is_registered(group, now.since(asks_since)) {
            self.begin_to_vote(out);
        } else if now >= self.complain_at {
            if now > asks_since {
                let missing = |id: &&NodeId| **id != self.me && !self.registered_by.contains(**id);
                out.event(Event::WaitsFor(group.members.iter().filter(missing).copied().collect()));
            }
            self.complain_at = now + Micros::from_millis(2_000);
        }
    }

    /// Whether to ask for registration with the next beat: until all members remember this life, so that
    /// each of them can tell a lost or an older disk from this one. Who is no member yet has nothing to ask.
    pub fn wants_registration(&self, group: &Group) -> bool {
        let is_somebody = self.is_member || self.is_listed || self.me.0 < self.n;
        is_somebody && self.standing != Standing::Barred && self.known_by(group) + 1 < group.members.len()
    }

    /// How many of the other members remember this life.
    fn known_by(&self, group: &Group) -> usize {
        self.registered_by.iter().filter(|id| *id != self.me && group.members.contains(id)).count()
    }

    fn is_registered(&self, group: &Group, waited: Micros) -> bool {
        // All get the time to object.
        let has_waited = waited >= self.timing.timeout();
        if !self.is_member && !self.is_listed {
            // Whoever came later never heard of it, and could not tell it from one that lost its disk.
            let others = usize::from(self.n.saturating_sub(1));
            let first = self.registered_by.iter().filter(|id| id.0 < self.n).count();
            return self.me.0 < self.n && first >= enough_peers(others) && has_waited;
        }
        // A member that comes back: a quorum with itself is enough.
        let known_by = self.known_by(group) + 1;
        known_by >= group.members.len() || (known_by >= group.quorum() && has_waited)
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
