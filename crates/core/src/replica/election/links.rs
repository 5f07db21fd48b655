//! The election: which node leads, as far as this node can tell, and when this node should try to lead.
//!
//! This module owns the links (the nodes that this node hears, and those that hear it), the highest known ballot,
//! and the decision to raise a ballot. It never touches promises or values: a wrong guess here costs time, never
//! agreement. The rules are those of docs/protocol.md, "Elections".

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::replica::config::Timing;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::types::{Ballot, Group, Instance, Micros, NodeId, Numbering};
use crate::wire::{Beat, Boot, MAX_PACE_MS, Pace, Stance};

/// This node's knowledge of ballots and links.
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
    /// The highest ballot that this node knew when it started to vote; `None` before it votes.
    since: Option<Option<Ballot>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    heard_at: Option<Micros>,
    beat_at: Option<Micros>,
    beat: Option<Beat>,
    /// The learned prefix that the heartbeat before `beat` claimed.
    learned_before: Instance,
    /// The believed interval between its heartbeats, in milliseconds, and the last interval that it stated.
    every_ms: Option<u64>,
    said_ms: u64,
    /// The ballot in force when it started to vote.
    since: Option<Ballot>,
    /// The incarnation under which it last voted.
    voted_as: Option<u64>,
}

impl Peer {
    /// The interval between its heartbeats. Zero when it has not stated one: then this node's own interval counts.
    fn beat_interval(&self) -> Micros {
        Micros::from_millis(self.every_ms.unwrap_or(0))
    }
}

impl Election {
    /// An election that knows no ballot and no peer.
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

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// The highest ballot that this node knows, of any node.
    pub fn ballot(&self) -> Option<Ballot> {
        self.ballot
    }

    /// The owner of the highest known ballot.
    pub fn leader(&self) -> Option<NodeId> {
        self.ballot.map(|ballot| self.numbering.owner(ballot))
    }

    /// Records a ballot. True when it is the highest so far; that cancels a candidacy.
    pub fn observe(&mut self, ballot: Ballot, now: Micros) -> bool {
        let is_higher = self.ballot.is_none_or(|known| ballot > known);
        if is_higher {
            self.ballot = Some(ballot);
            self.ballot_since = now;
            self.missing_since = None;
        }
        is_higher
    }

    /// Starts the epoch of another group. If the old leader stays a member, it has one timeout to show itself.
    pub fn begin_epoch(&mut self, group: &Group, now: Micros) {
        let stays = self.leader().is_some_and(|leader| group.members.contains(&leader));
        self.ballot_since = if stays { now } else { Micros(0) };
        self.missing_since = None;
    }

    /// Whether to listen to a node that may be no member: it is known already, or the bound leaves room for it.
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

    /// The boot that a node stated in its last fresh heartbeat: its directory and the run of it.
    pub fn boot_of(&self, id: NodeId, now: Micros) -> Option<Boot> {
        self.fresh_beat(id, now).map(|beat| beat.boot)
    }

    /// The boot that a node stated in its last heartbeat, however old that is.
    pub fn last_boot(&self, id: NodeId) -> Option<Boot> {
        Some(self.peers.get(&id)?.beat.as_ref()?.boot)
    }

    /// Whether a fresh heartbeat names a ballot of an epoch after the first.
    pub fn hears_later_epoch(&self, now: Micros) -> bool {
        self.fresh_beats(now).filter_map(|beat| beat.ballot).any(|ballot| ballot.epoch.0 > 0)
    }

    /// How far a node has durably learned, by its last fresh heartbeat.
    pub fn learned_by(&self, id: NodeId, now: Micros) -> Option<Instance> {
        self.fresh_beat(id, now).map(|beat| beat.learned)
    }

    /// Whether a node is alive and votes, as far as this node can tell.
    pub fn is_voter(&self, id: NodeId, now: Micros) -> bool {
        self.is_two_way(id, now) && self.fresh_beat(id, now).is_some_and(|beat| beat.stance != Stance::Learns)
    }

    /// Whether a fresh heartbeat of another node shows that it votes.
    pub fn hears_voter(&self, now: Micros) -> bool {
        self.fresh_beats(now).any(|beat| beat.stance != Stance::Learns)
    }

    /// The incarnation under which a node was last heard to vote, however long ago.
    pub fn voted_as(&self, id: NodeId) -> Option<u64> {
        self.peers.get(&id)?.voted_as
    }

    /// Records a line from `from`. True when the link was not fresh before.
    pub fn on_heard(&mut self, from: NodeId, now: Micros) -> bool {
        let fresh = self.hears(from, now);
        self.peers.entry(from).or_default().heard_at = Some(now);
        !fresh
    }

    /// Records a heartbeat, and the changes that it implies: another boot, or a vote.
    pub fn on_beat(&mut self, from: NodeId, beat: Beat, now: Micros) {
        let peer = self.peers.entry(from).or_default();
        peer.learned_before = peer.beat.as_ref().map_or(Instance(0), |before| before.learned);
        if peer.beat.as_ref().is_some_and(|before| before.boot != beat.boot) {
            // Another boot may have another pace.
            (peer.every_ms, peer.since) = (None, None);
        }
        if beat.stance != Stance::Learns {
            peer.voted_as = Some(beat.boot.incarnation);
        }
        peer.beat_at = Some(now);
        peer.beat = Some(beat);
    }

    /// Records the pace of a node. True when it is new and differs from this node's own. The first pace of a boot
    /// is believed at once. A different one is believed when it was stated twice: one damaged number must not make
    /// a dying peer seem alive for long.
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

    /// The pace that this node states to others.
    pub fn pace(&self) -> Pace {
        Pace { every_ms: self.timing.beat_ms(), since: self.since.flatten() }
    }

    /// Records that this node votes, and keeps the highest ballot that it knew when it started to.
    pub fn vote(&mut self) {
        self.since.get_or_insert(self.ballot);
    }

    /// How long a node may be silent before it counts as gone. The slower pace of the two ends of the link decides.
    pub fn timeout_for(&self, id: NodeId) -> Micros {
        let interval = self.peers.get(&id).map_or(Micros(0), Peer::beat_interval);
        self.timing.with(interval).timeout()
    }

    /// The longest timeout of all nodes that this node knows.
    pub fn longest_timeout(&self) -> Micros {
        let intervals = self.peers.values().map(Peer::beat_interval);
        self.timing.with(intervals.max().unwrap_or_default()).timeout()
    }

    /// The nodes that this node has heard within their timeouts.
    pub fn heard(&self, now: Micros) -> Vec<NodeId> {
        self.peers.keys().copied().filter(|id| self.hears(*id, now)).collect()
    }

    /// The longest learned prefix that a fresh heartbeat claims.
    pub fn claimed(&self, now: Micros) -> Instance {
        let beats = self.peers.keys().filter_map(|id| self.fresh_beat(*id, now));
        beats.map(|beat| beat.learned).max().unwrap_or_default()
    }

    /// Whether each end reports hearing the other.
    pub fn is_two_way(&self, id: NodeId, now: Micros) -> bool {
        self.hears(id, now) && self.fresh_beat(id, now).is_some_and(|beat| beat.heard.contains(&self.me))
    }

    /// Whether this node and the voters with two-way links to it make a quorum.
    pub fn has_quorum(&self, group: &Group, now: Micros) -> bool {
        let linked = |id: &&NodeId| **id == self.me || self.is_voter(**id, now);
        group.members.iter().filter(linked).count() >= group.quorum()
    }

    /// The stance that this node reports for the highest ballot it knows. `own` is its part in a ballot of its own:
    /// leading, seeking, or none. `votes` says whether it may vote.
    pub fn stance(&self, own: Option<Stance>, votes: bool, group: &Group, now: Micros) -> Stance {
        match own {
            _ if !votes => Stance::Learns,
            Some(stance) if self.has_quorum(group, now) => stance,
            None if self.sees_leader(now) => Stance::Follows,
            _ => Stance::Waits,
        }
    }

    /// Whether this node should raise a ballot now: the leader is missing, a quorum is linked, and the nodes before
    /// this one in rank have had their turn. `runs` says that this node runs the highest ballot. `learned` is its
    /// durable prefix.
    pub fn should_run(&mut self, runs: bool, learned: Instance, group: &Group, now: Micros) -> bool {
        if runs || !self.has_quorum(group, now) || self.is_leader_present(group, now) {
            self.missing_since = None;
            return false;
        }
        self.missing_since.get_or_insert(now);
        let is_due = self.run_at(learned, group, now).is_some_and(|at| now >= at);
        is_due && !self.gives_way(learned, group, now)
    }

    /// When this node would run, if nothing changes. The rank decides. Nodes that are not far behind come before
    /// those that are. In each part, the old leader comes last. The others come in the order in which they started
    /// to vote, the latest first, as told by the ballot in force then. Equal ones come in the order of ids after
    /// the old leader.
    ///
    /// In a rolling restart, an operator restarts all nodes before restarting a leader a second time. So the next
    /// leader is a node that has been restarted, and the leader changes twice at most, in any order of restarts.
    /// (The first change comes when the first leader is restarted. It may choose a node whose turn has not come.
    /// When that turn comes, the old leader at least started to vote in that node's ballot, and all nodes still to
    /// be restarted started before.) A ballot is the same number on all nodes and never changes within one run; a
    /// time would be neither.
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

    /// Whether this node, with durable prefix `learned`, leaves the lead to others: it is far behind, and a member
    /// that is not has a two-way quorum. A new leader has to learn everything first, and until then no value would
    /// be chosen.
    pub fn gives_way(&self, learned: Instance, group: &Group, now: Micros) -> bool {
        let best = self.best(learned, group, now);
        let leads_better = |id: &NodeId| {
            self.is_voter(*id, now) && !self.is_behind(*id, best, now) && self.says_quorum(*id, group, now)
        };
        self.is_far(learned, best) && group.members.iter().any(leads_better)
    }

    /// The longest prefix that a member has durably learned, by fresh heartbeats. For each member the smaller claim
    /// of its last two heartbeats counts: one forged number proves nothing.
    pub fn best(&self, learned: Instance, group: &Group, now: Micros) -> Instance {
        let others = group.members.iter().filter(|id| **id != self.me);
        let surely = |id: &NodeId| Some(self.learned_by(*id, now)?.min(self.peers.get(id)?.learned_before));
        others.filter_map(surely).fold(learned, Instance::max)
    }

    /// Whether a member reports a prefix far shorter than the best.
    fn is_behind(&self, id: NodeId, best: Instance, now: Micros) -> bool {
        self.learned_by(id, now).is_some_and(|learned| self.is_far(learned, best))
    }

    /// Whether heartbeats show that a member has two-way links with a quorum of voters.
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

    /// The ballot in force when `id` started to vote, by its own statement while its heartbeat is fresh.
    fn since_of(&self, id: NodeId, now: Micros) -> Option<Ballot> {
        match id == self.me {
            true => self.since.flatten(),
            false => self.fresh_beat(id, now).and_then(|_| self.peers.get(&id)?.since),
        }
    }

    /// Whether `id` might raise a ballot. A node that does not vote, or hears too few nodes for a quorum, cannot;
    /// waiting for it would only cost a step. Before the first ballot, links are only just coming up, and prove
    /// little.
    fn may_run(&self, id: NodeId, group: &Group, now: Micros) -> bool {
        let hears_quorum = |beat: &Beat| {
            let heard = group.members.iter().filter(|member| **member == id || beat.heard.contains(member));
            beat.stance != Stance::Learns && heard.count() >= group.quorum()
        };
        self.ballot.is_none() || self.fresh_beat(id, now).is_none_or(hears_quorum)
    }

    /// The next time at which a link may go stale.
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

    /// Whether this node has a fresh two-way link with the ballot's leader, and that node reports that it leads or
    /// seeks with its quorum.
    fn sees_leader(&self, now: Micros) -> bool {
        let Some(leader) = self.leader() else { return false };
        let leads =
            |beat: &Beat| beat.ballot == self.ballot && matches!(beat.stance, Stance::Leads | Stance::Seeks);
        self.is_two_way(leader, now) && self.fresh_beat(leader, now).is_some_and(leads)
    }

    /// Whether a member with prefix `learned` is far behind the best: further than it can still learn from the
    /// values in flight. A joiner must be as near as that, too.
    fn is_far(&self, learned: Instance, best: Instance) -> bool {
        learned.0.saturating_add(self.bounds.window / 2) < best.0
    }

    fn is_leader_present(&self, group: &Group, now: Micros) -> bool {
        if self.ballot.is_none() || self.leader() == Some(self.me) {
            return false;
        }
        // The leader of a ballot that is only just known has not had time to show that it is alive.
        let timeout = self.leader().map_or(self.timing.timeout(), |leader| self.timeout_for(leader));
        let is_new = now.since(self.ballot_since) < timeout;
        // Only the followers' own links count, nothing relayed. Otherwise two nodes could keep a dead leader alive
        // for each other.
        let follows = |id: &NodeId| {
            self.is_two_way(*id, now)
                && self
                    .fresh_beat(*id, now)
                    .is_some_and(|beat| beat.ballot == self.ballot && beat.stance == Stance::Follows)
        };
        is_new || self.sees_leader(now) || group.members.iter().any(follows)
    }
}
