//! Who leads, as far as this node can tell, and when it should try itself.
//!
//! Owns the links (whom this node hears, and who hears it), the highest ballot it knows, and the
//! decision to raise one. It never touches promises or values: a wrong guess here costs time, never
//! agreement. The rules are those of docs/protocol.md, "Elections".

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Timing;
use super::limits::{Bound, Bounds, Limits, Reached};
use crate::types::{Ballot, Group, Instance, Micros, NodeId, Numbering};
use crate::wire::{Beat, Boot, MAX_PACE_MS, Pace, Stance};

/// What this node knows of ballots and links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    me: NodeId,
    numbering: Numbering,
    timing: Timing,
    bounds: Bounds,
    ballot: Option<Ballot>,
    ballot_since: Micros,
    peers: BTreeMap<NodeId, Peer>,
    /// Since when the leader has been missing while this node had a quorum.
    missing_since: Option<Micros>,
    /// The highest ballot that this node knew when it began to vote, if it has begun.
    since: Option<Option<Ballot>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    heard_at: Option<Micros>,
    beat_at: Option<Micros>,
    beat: Option<Beat>,
    /// The prefix that the beat before that one claimed.
    learned_before: Instance,
    /// The interval between its beats that it is believed to have, in milliseconds, and the one it said last.
    every_ms: Option<u64>,
    said_ms: u64,
    /// The ballot in force when it began to vote.
    since: Option<Ballot>,
    /// The incarnation that it last voted as.
    voted_as: Option<u64>,
}

impl Peer {
    /// The interval between its beats; zero where it has not told it: then this node's own counts.
    fn beat_interval(&self) -> Micros {
        Micros::from_millis(self.every_ms.unwrap_or(0))
    }
}

impl Election {
    /// An election that has heard nothing.
    pub fn new(me: NodeId, numbering: Numbering, timing: Timing, limits: Limits) -> Election {
        Election {
            me,
            numbering,
            timing,
            bounds: limits.into(),
            ballot: None,
            ballot_since: Micros(0),
            peers: BTreeMap::new(),
            missing_since: None,
            since: None,
        }
    }

    /// Which of its bounds were reached.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// The highest ballot this node knows of.
    pub fn ballot(&self) -> Option<Ballot> {
        self.ballot
    }

    /// The owner of that ballot.
    pub fn leader(&self) -> Option<NodeId> {
        self.ballot.map(|ballot| self.numbering.owner(ballot))
    }

    /// Takes note of a ballot; true when it is the highest so far. That cancels a candidacy.
    pub fn observe(&mut self, ballot: Ballot, now: Micros) -> bool {
        let is_higher = self.ballot.is_none_or(|known| ballot > known);
        if is_higher {
            self.ballot = Some(ballot);
            self.ballot_since = now;
            self.missing_since = None;
        }
        is_higher
    }

    /// Another group governs. Where the old leader stays, it has the time of one timeout to show itself.
    pub fn begin_epoch(&mut self, group: &Group, now: Micros) {
        let stays = self.leader().is_some_and(|leader| group.members.contains(&leader));
        self.ballot_since = if stays { now } else { Micros(0) };
        self.missing_since = None;
    }

    /// Whether a stranger may be listened to: one that is known, or one of not too many.
    pub fn has_room_for(&mut self, from: NodeId, group: &Group, now: Micros) -> bool {
        if self.peers.contains_key(&from) {
            return true;
        }
        let timing = self.timing;
        self.peers.retain(|id, peer| {
            let is_fresh = |at| now.since(at) < timing.with(peer.beat_interval()).timeout();
            group.members.contains(id) || peer.heard_at.is_some_and(is_fresh)
        });
        let strangers = self.peers.keys().filter(|id| !group.members.contains(id)).count();
        !self.bounds.is_over(Bound::Strangers, strangers >= self.bounds.strangers)
    }

    /// Which life of which directory a node lately said it has.
    pub fn boot_of(&self, id: NodeId, now: Micros) -> Option<Boot> {
        self.fresh_beat(id, now).map(|beat| beat.boot)
    }

    /// Which life of which directory a node's last beat named, however long ago that was.
    pub fn last_boot(&self, id: NodeId) -> Option<Boot> {
        Some(self.peers.get(&id)?.beat.as_ref()?.boot)
    }

    /// Whether anybody lately named a ballot of an epoch after the first.
    pub fn hears_later_epoch(&self, now: Micros) -> bool {
        self.fresh_beats(now).filter_map(|beat| beat.ballot).any(|ballot| ballot.epoch.0 > 0)
    }

    /// How far a node has durably learned, by its last fresh beat.
    pub fn learned_by(&self, id: NodeId, now: Micros) -> Option<Instance> {
        self.fresh_beat(id, now).map(|beat| beat.learned)
    }

    /// Whether a node lives and votes, as far as this one can tell.
    pub fn is_voter(&self, id: NodeId, now: Micros) -> bool {
        self.is_two_way(id, now) && self.fresh_beat(id, now).is_some_and(|beat| beat.stance != Stance::Learns)
    }

    /// Whether any other node of the group is heard that votes.
    pub fn hears_voter(&self, now: Micros) -> bool {
        self.fresh_beats(now).any(|beat| beat.stance != Stance::Learns)
    }

    /// Which incarnation a node was last heard to vote as, however long ago.
    pub fn voted_as(&self, id: NodeId) -> Option<u64> {
        self.peers.get(&id)?.voted_as
    }

    /// Takes note of a line from `from`; true when the link was not fresh before.
    pub fn on_heard(&mut self, from: NodeId, now: Micros) -> bool {
        let fresh = self.hears(from, now);
        self.peers.entry(from).or_default().heard_at = Some(now);
        !fresh
    }

    /// Takes note of a beat.
    pub fn on_beat(&mut self, from: NodeId, beat: Beat, now: Micros) {
        let peer = self.peers.entry(from).or_default();
        peer.learned_before = peer.beat.as_ref().map_or(Instance(0), |before| before.learned);
        if peer.beat.as_ref().is_some_and(|before| before.boot != beat.boot) {
            // Another life may have another pace.
            (peer.every_ms, peer.since) = (None, None);
        }
        if beat.stance != Stance::Learns {
            peer.voted_as = Some(beat.boot.incarnation);
        }
        peer.beat_at = Some(now);
        peer.beat = Some(beat);
    }

    /// Takes note of the pace of a node; true when it is new, and another one than this node's. What a life says
    /// first is believed; what differs from that, when it is said twice: one damaged number must not make a peer that
    /// dies seem to live for long.
    pub fn on_pace(&mut self, from: NodeId, pace: Pace) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        peer.since = pace.since;
        let said = pace.every_ms.min(MAX_PACE_MS);
        let is_believed = peer.every_ms.is_none() || peer.said_ms == said;
        let is_new = is_believed && peer.every_ms != Some(said);
        peer.said_ms = said;
        if is_believed {
            peer.every_ms = Some(said);
        }
        is_new && said != self.timing.beat_ms()
    }

    /// What this node says of its own pace.
    pub fn pace(&self) -> Pace {
        Pace { every_ms: self.timing.beat_ms(), since: self.since.flatten() }
    }

    /// This node votes; whatever ballot is the highest that it knows, was so when it began.
    pub fn vote(&mut self) {
        self.since.get_or_insert(self.ballot);
    }

    /// How long a node may be silent before it counts as gone: by the slower pace of the two ends of the link.
    pub fn timeout_for(&self, id: NodeId) -> Micros {
        let interval = self.peers.get(&id).map_or(Micros(0), Peer::beat_interval);
        self.timing.with(interval).timeout()
    }

    /// The longest such time, of all that this node has heard of.
    pub fn longest_timeout(&self) -> Micros {
        let intervals = self.peers.values().map(Peer::beat_interval);
        self.timing.with(intervals.max().unwrap_or_default()).timeout()
    }

    /// Whom this node has heard lately.
    pub fn heard(&self, now: Micros) -> Vec<NodeId> {
        self.peers.keys().copied().filter(|id| self.hears(*id, now)).collect()
    }

    /// The longest learned prefix that a fresh beat claims.
    pub fn claimed(&self, now: Micros) -> Instance {
        let beats = self.peers.keys().filter_map(|id| self.fresh_beat(*id, now));
        beats.map(|beat| beat.learned).max().unwrap_or_default()
    }

    /// Whether each end reports hearing the other.
    pub fn is_two_way(&self, id: NodeId, now: Micros) -> bool {
        self.hears(id, now) && self.fresh_beat(id, now).is_some_and(|beat| beat.heard.contains(&self.me))
    }

    /// Whether this node, with those who vote and have two-way links with it, makes a quorum.
    pub fn has_quorum(&self, group: &Group, now: Micros) -> bool {
        let linked = |id: &&NodeId| **id == self.me || self.is_voter(**id, now);
        group.members.iter().filter(linked).count() >= group.quorum()
    }

    /// What this node says about the highest ballot it knows. `own` is what it does about a ballot of
    /// its own: leading, seeking, or nothing; `votes` says whether it may vote.
    pub fn stance(&self, own: Option<Stance>, votes: bool, group: &Group, now: Micros) -> Stance {
        match own {
            _ if !votes => Stance::Learns,
            Some(stance) if self.has_quorum(group, now) => stance,
            None if self.sees_leader(now) => Stance::Follows,
            _ => Stance::Waits,
        }
    }

    /// Whether this node should raise a ballot now: the leader is missing, a quorum is at hand, and
    /// the nodes before it in rank have had their turn. `runs` says that it runs the highest ballot, `learned`
    /// how far it has durably learned.
    pub fn should_run(&mut self, runs: bool, learned: Instance, group: &Group, now: Micros) -> bool {
        if runs || !self.has_quorum(group, now) || self.is_leader_present(group, now) {
            self.missing_since = None;
            return false;
        }
        self.missing_since.get_or_insert(now);
        let is_due = self.run_at(learned, group, now).is_some_and(|at| now >= at);
        is_due && !self.gives_way(learned, group, now)
    }

    /// When this node would run, if nothing changes. First come those that have learned most of all; of these,
    /// those that began to vote last, as told by the ballot that was in force then; of these, those that follow
    /// the old leader by id.
    ///
    /// Whoever restarts all nodes one after the other restarts a leader no sooner again than all others: so the next
    /// leader is one that has been restarted, and the leader changes twice at most, whatever the order. (It changes
    /// first when the first one that leads is restarted, maybe to one whose turn has not come. When that turn comes,
    /// the old leader at least began to vote in its ballot, and all whose turn is still to come before.) A ballot is
    /// the same number to all, and never changes in one life; a time would be neither.
    pub fn run_at(&self, learned: Instance, group: &Group, now: Micros) -> Option<Micros> {
        let since = self.missing_since?;
        let best = self.best(learned, group, now);
        let is_behind = |id: NodeId| match id == self.me {
            true => self.is_far(learned, best),
            false => self.is_behind(id, best, now),
        };
        let rank = |id: NodeId| {
            let is_leader = self.leader() == Some(id);
            (is_behind(id), is_leader, Reverse(self.since_of(id, now)), group.rank_after(id, self.leader()))
        };
        let own = rank(self.me);
        let is_ahead = |id: &&NodeId| rank(**id) < own && self.may_run(**id, group, now);
        let ahead = group.members.iter().filter(is_ahead).count() as u64;
        Some(since + self.timing.step() * ahead)
    }

    /// Whether this node, which has durably learned up to `learned`, leaves it to others to lead: it is far
    /// behind, and a member that is not has a two-way quorum. Who leads has to learn everything first, and until
    /// then nothing would be chosen.
    pub fn gives_way(&self, learned: Instance, group: &Group, now: Micros) -> bool {
        let best = self.best(learned, group, now);
        let leads_better = |id: &NodeId| {
            self.is_voter(*id, now) && !self.is_behind(*id, best, now) && self.says_quorum(*id, group, now)
        };
        self.is_far(learned, best) && group.members.iter().any(leads_better)
    }

    /// The longest prefix that a member has durably learned, as far as this node has heard lately. Of each member the
    /// less of its last two beats counts: one forged number shows nothing.
    pub fn best(&self, learned: Instance, group: &Group, now: Micros) -> Instance {
        let others = group.members.iter().filter(|id| **id != self.me);
        let surely = |id: &NodeId| Some(self.learned_by(*id, now)?.min(self.peers.get(id)?.learned_before));
        others.filter_map(surely).fold(learned, Instance::max)
    }

    /// Whether a member says that it has learned far less than the best.
    fn is_behind(&self, id: NodeId, best: Instance, now: Micros) -> bool {
        self.learned_by(id, now).is_some_and(|learned| self.is_far(learned, best))
    }

    /// Whether beats show that a member has two-way links with a quorum of those who vote.
    fn says_quorum(&self, id: NodeId, group: &Group, now: Micros) -> bool {
        let hears = |beat: Option<&Beat>, other| beat.is_some_and(|beat| beat.heard.contains(&other));
        let own = self.fresh_beat(id, now);
        let linked = |other: &&NodeId| {
            **other == id
                || match **other == self.me {
                    true => self.is_two_way(id, now),
                    false => {
                        let beat = self.fresh_beat(**other, now).filter(|beat| beat.stance != Stance::Learns);
                        hears(own, **other) && hears(beat, id)
                    }
                }
        };
        group.members.iter().filter(linked).count() >= group.quorum()
    }

    /// The ballot in force when `id` began to vote, as far as it lately said.
    fn since_of(&self, id: NodeId, now: Micros) -> Option<Ballot> {
        match id == self.me {
            true => self.since.flatten(),
            false => self.fresh_beat(id, now).and_then(|_| self.peers.get(&id)?.since),
        }
    }

    /// Whether `id` might raise a ballot. Who says itself that it does not vote, or hears too few for a quorum,
    /// cannot; to wait for it would only cost a step. Before the first ballot links are just coming up, and that says little.
    fn may_run(&self, id: NodeId, group: &Group, now: Micros) -> bool {
        let hears_quorum = |beat: &Beat| {
            let heard = group.members.iter().filter(|member| **member == id || beat.heard.contains(member));
            beat.stance != Stance::Learns && heard.count() >= group.quorum()
        };
        self.ballot.is_none() || self.fresh_beat(id, now).is_none_or(hears_quorum)
    }

    /// The next moment at which a link may go stale.
    pub fn next_expiry(&self, now: Micros) -> Option<Micros> {
        let times = self.peers.values().flat_map(|peer| {
            let timeout = self.timing.with(peer.beat_interval()).timeout();
            [peer.heard_at, peer.beat_at].into_iter().flatten().map(move |at| at + timeout)
        });
        times.filter(|at| *at > now).min()
    }

    fn hears(&self, id: NodeId, now: Micros) -> bool {
        let heard_at = self.peers.get(&id).and_then(|peer| peer.heard_at);
        heard_at.is_some_and(|at| now.since(at) < self.timeout_for(id))
    }

    fn fresh_beats(&self, now: Micros) -> impl Iterator<Item = &Beat> {
        self.peers.keys().filter_map(move |id| self.fresh_beat(*id, now))
    }

    fn fresh_beat(&self, id: NodeId, now: Micros) -> Option<&Beat> {
        let peer = self.peers.get(&id)?;
        peer.beat.as_ref().filter(|_| peer.beat_at.is_some_and(|at| now.since(at) < self.timeout_for(id)))
    }

    /// A fresh two-way link with the ballot's leader, who leads, or is about to, with its quorum.
    fn sees_leader(&self, now: Micros) -> bool {
        let Some(leader) = self.leader() else { return false };
        let leads =
            |beat: &Beat| beat.ballot == self.ballot && matches!(beat.stance, Stance::Leads | Stance::Seeks);
        self.is_two_way(leader, now) && self.fresh_beat(leader, now).is_some_and(leads)
    }

    /// Whether a member that has learned so far is far behind the best: further than it can still learn from what is
    /// under way. As near as that must be who is to join, too.
    fn is_far(&self, learned: Instance, best: Instance) -> bool {
        learned.0.saturating_add(self.bounds.window / 2) < best.0
    }

    fn is_leader_present(&self, group: &Group, now: Micros) -> bool {
        if self.ballot.is_none() || self.leader() == Some(self.me) {
            return false;
        }
        // A ballot heard of just now has not had the time to show that its leader lives.
        let timeout = self.leader().map_or(self.timing.timeout(), |leader| self.timeout_for(leader));
        let is_new = now.since(self.ballot_since) < timeout;
        // First hand, never relayed: else two nodes could keep a dead leader alive for each other.
        let follows = |id: &NodeId| {
            self.is_two_way(*id, now)
                && self
                    .fresh_beat(*id, now)
                    .is_some_and(|beat| beat.ballot == self.ballot && beat.stance == Stance::Follows)
        };
        is_new || self.sees_leader(now) || group.members.iter().any(follows)
    }
}
