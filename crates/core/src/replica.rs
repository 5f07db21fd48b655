//! The node: fans every message out to the roles, and gathers what they want done.
//!
//! Data in (a line, the time), data out (an [`Outbox`]). Owns the roles, the deadlines and recovery. It
//! never reads a clock, a disk or a random source. Its effects are carried out in the order that the
//! [`Driver`](crate::driver::Driver) gives.

/// The view of the group that changes are judged by. A macro, so that the borrow is of these fields alone.
macro_rules! group_view {
    ($replica:expr, $now:expr) => {
        crate::replica::reconfig::group_view::GroupView {
            now: $now,
            me: $replica.id,
            learned: $replica.learner.learned(),
            durable: $replica.durable,
            group: $replica.history.group(),
            membership: $replica.history.membership(),
            registration: &$replica.identity,
            election: &$replica.election,
            foreign: &$replica.foreign,
        }
    };
}

mod advance;
mod classic;
mod clients;
mod config;
mod context;
mod dispatch;
mod drop_counters;
mod election;
mod limits;
pub(crate) mod outbox;
pub(crate) mod own_votes;
mod paxos;
mod reconfig;
mod recovery;
mod senders;
mod state_machine;
mod store_source;
mod twin;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use classic::Classic;
use clients::fast_reads::FastReads;
use clients::queue::RequestQueue;
pub use config::{Config, Timing};
use context::Context;
pub use drop_counters::DropCounters;
use election::candidacy::Candidacy;
use election::jumps::Jumps;
use election::links::Election;
use limits::Bounds;
pub use limits::{Bound, Limits, Reached};
pub use outbox::{Event, EventLevel, Lookup, LookupPurpose, Outbox};
use own_votes::OwnVotes;
use paxos::acceptor::Acceptor;
use paxos::catch_up::CatchUp;
use paxos::digest_writes::DigestWrites;
use paxos::learner::Learner;
use paxos::proposer::Proposer;
use reconfig::changes::Changes;
use reconfig::group_view::GroupView;
pub use reconfig::membership::Membership;
use reconfig::registration::Registration;
pub use recovery::{RecoverError, Recovery};
use senders::Others;
pub use senders::Speaker;
use state_machine::divergence::{Divergence, OwnDigests};
use state_machine::learned_log::LearnedLog;
pub use state_machine::script_states::link;
pub use state_machine::sessions::{DedupStatus, Sessions};

use crate::mutant::{self, Mutant};
use crate::script_state::ScriptState;
use crate::types::{Ballot, Epoch, Group, Instance, Micros, NodeId, Numbering, Value};
use crate::wire::{Boot, Dialect, GroupName, Line, Message};

/// One node of the group, in its present run: the parts, and what all of them share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    id: NodeId,
    joins: Option<Option<NodeId>>,
    dialect: Dialect,
    numbering: Numbering,
    timing: Timing,
    bounds: Bounds,
    changes: Changes,
    identity: Registration,
    election: Election,
    jumps: Jumps,
    acceptor: Acceptor,
    learner: Learner,
    leader: Proposer,
    classic: Option<Classic>,
    history: LearnedLog,
    requests: RequestQueue,
    reads: FastReads,
    digests: Divergence,
    repair: CatchUp,
    naming: DigestWrites,
    /// The part of the learned prefix that is durable on this node.
    durable: Instance,
    /// The highest instance that another node lately reported as chosen, while its value was not known here, and when.
    claimed: (Instance, Micros),
    foreign: BTreeSet<NodeId>,
    /// The name of the group, if it has one.
    name: Option<GroupName>,
    others: Others,
    /// Whether another node of this group was heard under the name of the group.
    has_heard_own: bool,
    candidacy: Candidacy,
    warned_of_twin: bool,
    /// The node that was told last that a later run of it is remembered, its boot, and when it may be told again.
    told_older: (NodeId, u64, Micros),
    /// Since when a non-member objects to the votes of this node.
    barred_by_stranger: Option<Micros>,
    /// The nodes that were told that their disk is not the remembered one, and when each may be told again.
    tell_lost_at: BTreeMap<NodeId, Micros>,
    /// Scripts had no time for all of their work: the next turn starts at once.
    is_deferred: bool,
    dropped: DropCounters,
}

/// Hashes the state that decides what this node will send, not how soon it will answer and repair. So a search over
/// states may take two nodes for one that differ in nothing else.
impl Hash for Replica {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.id, self.durable, self.identity.may_vote(), &self.election).hash(to);
        (&self.acceptor, &self.learner, &self.leader, &self.classic, &self.changes).hash(to);
        (&self.history, &self.requests, &self.reads, &self.naming).hash(to);
    }
}

impl Replica {
    /// Records that this run has started. The record must be durable before the node does anything else.
    pub fn start(&mut self, now: Micros, out: &mut Outbox) {
        self.identity.start(out);
        if let Some(ballot) = self.acceptor.highest_promise() {
            self.election.observe(ballot, now);
        }
        self.list(out);
    }

    /// The size of the first group; 0 while a joiner has not heard of it.
    fn n(&self) -> u16 {
        self.history.membership().n()
    }

    /// Handles one line of a datagram of `speaker` (see [`hear`](Replica::hear)). Requests of clients wait for the next
    /// [`tick`](Replica::tick), so that requests that arrive together are written together.
    pub fn handle(&mut self, now: Micros, speaker: Speaker, line: Line, out: &mut Outbox) {
        if !self.heeds(speaker, &line, now, out) {
            return;
        }
        match line {
            Line::Client(request) => self.on_request(request, now, out),
            Line::Node(from, message) => {
                if let (Some(incarnation), Message::Registered { node, boot }) =
                    (speaker.incarnation(), &message)
                    && from != self.id
                {
                    self.identity.on_registered(from, incarnation, *node, *boot);
                }
                self.on_line(from, message, now, out);
                self.settle(now, out);
            }
        }
    }

    /// Does the work whose time has come. The driver calls it once in every turn.
    pub fn tick(&mut self, now: Micros, out: &mut Outbox) {
        if let Some(classic) = &mut self.classic {
            let wants = (self.requests.first().is_some(), self.requests.heard());
            classic.tick(wants, &mut self.acceptor, now, out);
        } else {
            if self.history.group().members.contains(&self.id) {
                if !self.identity.may_vote() && self.history.group().epoch > Epoch(0) {
                    self.identity.on_late(out);
                }
                if !self.group_view(now).hears_of_change() {
                    self.identity.tick(self.history.membership(), now, out);
                }
            }
            self.join_met(now, out);
            self.check_place(now, out);
            self.announce_departure(now, out);
            self.abandon_candidacy_if_stuck(now, out);
            self.take_up_named(now, out);
            // A ballot of this node's own begins when all that came in is dealt with: a refusal would name it,
            // and no node may see it before it is durable.
            self.lead_on(now, out);
            self.campaign_if_leaderless(now, out);
            self.retransmit(now, out);
            self.renew_ballots(now, out);
            self.admit_joiner(now, out);
            self.repair_gaps(now, out);
        }
        self.read(now, out);
        let leads = self.writes_requests();
        let rank = self.rank();
        let due = self.requests.tick(leads, rank, now, out);
        let replies = self.replies(now);
        due.into_iter().for_each(|answer| replies.send(answer, out));
        self.requests.note_expired(self.dialect, out);
        self.settle(now, out);
        self.heartbeat(now, out);
    }

    /// Whether this node itself writes the requests that wait here: a leader, or any node of a classic group.
    fn writes_requests(&self) -> bool {
        self.leader.is_leading() || self.classic.is_some()
    }

    /// The votes that this node need not send. A classic node sends all of them.
    pub(crate) fn own_votes(&self) -> Option<OwnVotes> {
        self.classic.is_none().then_some(OwnVotes { me: self.id, numbering: self.numbering })
    }

    /// Records that all records handed out so far are durable. The votes in `sent`, the lines of `after_sync`, count
    /// here from now on.
    pub(crate) fn on_synced(&mut self, now: Micros, sent: &[Line], out: &mut Outbox) {
        self.durable = self.learner.learned();
        self.acceptor.forget_through(self.durable);
        self.identity.on_synced(out);
        let (digests, mut own) = self.comparison(now);
        digests.compare_ahead(&mut own, out);
        self.note_classic_lines(sent, out);
        for line in sent {
            if let Line::Node(from, message) = line
                && *from == self.id
            {
                self.on_vote(self.id, message.clone(), now, out);
                if let (true, Message::Accepts { first, last, ballot }) =
                    (mutant::is(Mutant::OkOnOwnAccept), message)
                {
                    self.on_chosen(*first, *last, *ballot, now);
                }
            }
        }
        self.settle(now, out);
    }

    /// When [`tick`](Replica::tick) has work next, if no datagram arrives before.
    pub fn deadline(&self, now: Micros) -> Micros {
        if self.is_deferred || self.changes.leads_on() {
            return now;
        }
        let leads = self.writes_requests();
        let times = [
            Some(self.candidacy.beat_at()),
            self.leader.deadline(),
            self.requests.deadline(leads),
            self.reads.deadline(),
            self.repair.deadline(),
            self.naming.deadline(),
            self.election.run_at(self.durable, self.history.group(), now).filter(|at| *at > now),
            self.election.next_expiry(now),
            self.classic.as_ref().and_then(Classic::deadline),
        ];
        times.into_iter().flatten().min().unwrap_or(self.candidacy.beat_at())
    }

    /// The last instance of the learned prefix; 0 if nothing is learned.
    pub fn learned(&self) -> Instance {
        self.learner.learned()
    }

    /// The highest instance that a node is known to have learned: the end of the catch-up.
    pub fn highest_known(&self, now: Micros) -> Instance {
        self.learned().max(self.claimed(now))
    }

    /// Whether an accepted value was damaged in the log, and no peer has sent it again yet.
    pub fn has_lost_values(&self) -> bool {
        self.acceptor.has_lost()
    }

    /// The value that `Request instance` answers with, if the instance is learned.
    pub fn value_at(&self, instance: Instance) -> Option<Value> {
        self.history.value_at(instance)
    }

    /// Whether this node leads and has no room for more requests.
    pub fn is_full(&self) -> bool {
        self.requests.is_full()
    }

    /// Whether this node leads.
    pub fn is_leading(&self) -> bool {
        self.leader.is_leading()
    }

    /// The highest ballot this node knows of.
    pub fn ballot(&self) -> Option<Ballot> {
        self.election.ballot()
    }

    /// The group that governs the instance after the learned prefix.
    pub fn group(&self) -> &Group {
        self.history.group()
    }

    /// The numbers of dropped datagrams and lines, by reason.
    pub fn dropped(&self) -> DropCounters {
        self.dropped
    }

    /// The bounds of everything that this node keeps or sends at once.
    pub fn limits(&self) -> &Limits {
        &self.bounds
    }

    /// The bounds that were reached in this run.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
            | self.acceptor.reached()
            | self.learner.reached()
            | self.leader.reached()
            | self.history.reached()
            | self.requests.reached()
            | self.reads.reached()
            | self.repair.reached()
            | self.naming.reached()
            | self.election.reached()
    }

    /// The rank of this node among the nodes that answer: the leader comes first.
    fn rank(&self) -> usize {
        match self.election.leader() {
            _ if self.leader.is_leading() => 0,
            // Some peers may not trust a node that lost its disk. If it answered first, no other node would answer.
            _ if !self.is_voter() => self.history.group().members.len() + 1,
            None => self.history.group().rank_after(self.id, None),
            leader => self.history.group().rank_after(self.id, leader) + 1,
        }
    }

    /// The view of the group that changes are judged by, at this moment.
    fn group_view(&self, now: Micros) -> GroupView<'_> {
        group_view!(self, now)
    }

    /// The context that the parts get, at this moment.
    fn context(&self, now: Micros) -> Context {
        Context {
            now,
            me: self.id,
            rank: self.rank(),
            learned: self.learner.learned(),
            durable: self.durable,
            is_voter: self.is_voter(),
            dialect: self.dialect,
        }
    }

    /// The comparison of digests, with this node's side of it.
    fn comparison(&mut self, now: Micros) -> (&mut Divergence, OwnDigests<'_>) {
        let context = self.context(now);
        (&mut self.digests, OwnDigests { context, log: &mut self.history })
    }

    /// With every heartbeat: sends this node's digests, and continues the search for differences.
    fn tell_digests(&mut self, now: Micros, out: &mut Outbox) {
        let (digests, mut own) = self.comparison(now);
        digests.on_beat(&mut own, out);
    }

    /// The result of each script: its name, the last applied instance, and the digest up to there.
    pub fn digests(&self) -> Vec<(&str, Instance, u64)> {
        let through = self.history.learned();
        self.history.scripts().digests(through).map(|(name, digest)| (name, through, digest)).collect()
    }

    /// The digest of script number `script` up to an instance, if that is recent enough.
    pub fn digest_at(&self, script: usize, instance: Instance) -> Option<u64> {
        self.history.scripts().digest_at(script, instance)
    }

    /// The state of script number `script`, if there is such a script.
    pub fn state(&self, script: usize) -> Option<&ScriptState> {
        let scripts = self.history.scripts();
        (script < scripts.len()).then(|| scripts.state(script))
    }

    /// The digest of the learned prefix up to an instance, if it is in memory.
    pub fn log_digest_at(&self, instance: Instance) -> Option<u128> {
        self.history.chain().digest_at(instance)
    }

    /// A peer whose log is known to differ from this node's, with the first different instance.
    pub fn log_differs_from(&self) -> Option<(NodeId, Instance)> {
        self.digests.parted().next()
    }

    /// The incarnation of the directory, the number of this start, and its random boot number.
    pub fn boot(&self) -> Boot {
        self.identity.boot()
    }

    /// Repairs gaps: asks for missing instances, and answers such questions of other nodes.
    fn repair_gaps(&mut self, now: Micros, out: &mut Outbox) {
        let evidence = self.learner.highest_evidence().max(self.leader.must_learn());
        let claimed = self.claimed(now);
        let target = evidence.max(self.reads.must_learn()).map_or(claimed, |instance| instance.max(claimed));
        let rank = self.rank();
        self.repair.ask(self.learner.learned(), target, rank, now, out);
        self.repair.answer(&self.history, now, out);
    }

    /// The highest instance that a node lately reported as chosen.
    fn claimed(&self, now: Micros) -> Instance {
        let (heard, at) = self.claimed;
        let heard = if now.since(at) < self.timing.timeout() { heard } else { Instance(0) };
        heard.max(self.election.claimed(now))
    }
}
