//! The node: fans every message out to the roles, and gathers what they want done.
//!
//! Data in (a line, the time), data out (an [`Outbox`]). Owns the roles, the deadlines and recovery. It
//! never reads a clock, a disk or a random source. Whoever drives it calls, in a loop:
//! [`Node::handle`] for each line received, [`Node::tick`], then does what the outbox says and, after a
//! sync, calls [`Node::synced`] with what was sent; until the outbox stays empty.

mod acceptor;
mod changes;
mod classic;
mod election;
mod history;
mod identity;
mod leader;
mod learner;
mod membership;
mod messages;
mod outbox;
mod past;
mod reads;
mod recovery;
mod repair;
mod requests;
mod sessions;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use acceptor::Acceptor;
use changes::Changes;
use classic::{Classic, Wrote};
use election::Election;
use history::{History, Verdict};
use identity::Identity;
use leader::Leader;
use learner::Learner;
pub use outbox::{Event, LOOKUP_BYTES, Lookup, Outbox, Why};
use reads::Reads;
pub use recovery::{RecoverError, Recovery};
use repair::Repair;
use requests::{About, Requests, Wanted};

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::types::{Ballot, Epoch, Group, Instance, Micros, NodeId, Numbering, Tag, Value};
use crate::wire::{Beat, Boot, Dialect, Line, Message, Stance};

/// The one pace that all others follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The interval between two signs of life.
    pub beat: Micros,
}

impl Timing {
    /// The election timeout: how long a node may be silent before it counts as gone. Four beats, so
    /// that at 30 % loss fewer than one in a hundred is missed by chance.
    pub fn timeout(self) -> Micros {
        self.beat * 4
    }

    /// How long each rank waits for the one before it to run: more than two beats and a sync.
    pub fn step(self) -> Micros {
        self.beat * 2 + Micros::from_millis(50)
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { beat: Micros::from_millis(100) }
    }
}

/// How many answers of one range are named one by one in the log.
const NOTED_ONE_BY_ONE: u64 = 16;

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which member this is.
    pub id: NodeId,
    /// The size of the first group, whose ids are 0 to n-1; 0 for a node that joins, and hears of it.
    pub n: u16,
    /// Whether to speak the classic grammar only.
    pub classic: bool,
    /// Whether `Request 0` is answered without an instance where that is possible.
    pub fast_read: bool,
    /// The pace.
    pub timing: Timing,
    /// Whether it asks to join, and in whose place if in anybody's.
    pub joins: Option<Option<NodeId>>,
}

impl Config {
    /// Member `id` of a first group of `n`, at the usual pace.
    pub fn member(id: NodeId, n: u16) -> Config {
        Config { id, n, classic: false, fast_read: false, timing: Timing::default(), joins: None }
    }

    /// A node that asks to join, in the place of `replaces` if that is somebody.
    pub fn joining(id: NodeId, replaces: Option<NodeId>) -> Config {
        Config { joins: Some(replaces), ..Config::member(id, 0) }
    }
}

/// What came in and was dropped, by reason. Monotone. `Display` names the reasons that occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dropped {
    /// From an id that is no member.
    pub strangers: u64,
    /// From a member whose group size or incarnation is not the one known.
    pub foreign: u64,
    /// A ballot that is not its sender's.
    pub not_owner: u64,
    /// A ballot that jumps absurdly past all that was heard, or is of another epoch.
    pub absurd: u64,
    /// A value that contradicts what is known to be chosen.
    pub conflicts: u64,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.strangers, "from strangers"),
            (self.foreign, "from members of another group or life"),
            (self.not_owner, "with a ballot that is not the sender's"),
            (self.absurd, "with an absurd ballot"),
            (self.conflicts, "contradicting what is chosen"),
        ];
        let texts =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let texts: Vec<_> = texts.collect();
        f.write_str(if texts.is_empty() { "no line" } else { "" })?;
        f.write_str(&texts.join(", "))
    }
}

/// A member of the group, in this life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    id: NodeId,
    joins: Option<Option<NodeId>>,
    dialect: Dialect,
    numbering: Numbering,
    timing: Timing,
    group: Group,
    changes: Changes,
    /// The group before the one in force; of interest to a mutant alone.
    old_group: Option<Group>,
    identity: Identity,
    election: Election,
    acceptor: Acceptor,
    learner: Learner,
    leader: Leader,
    classic: Option<Classic>,
    history: History,
    requests: Requests,
    reads: Reads,
    /// Whether an untagged read is a fast one.
    fast_read: bool,
    repair: Repair,
    /// The learned prefix that is durable here.
    durable: Instance,
    /// The highest instance that somebody lately said is chosen while its value was not known here, and when.
    claimed: (Instance, Micros),
    foreign: BTreeSet<NodeId>,
    beat_at: Micros,
    stance: Stance,
    warned_of_twin: bool,
    /// When somebody may be told again that its disk is not the one remembered.
    tell_lost_at: Micros,
    /// Whose lost disk was reported.
    warned_of_lost: BTreeSet<NodeId>,
    dropped: Dropped,
}

/// Of what decides what this node will say, not of how soon it will answer and repair: a search over states
/// may take nodes for one that differ in nothing else.
impl Hash for Node {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.id, self.durable, self.identity.may_vote(), &self.election).hash(to);
        (&self.acceptor, &self.learner, &self.leader, &self.classic, &self.changes).hash(to);
        (&self.history, &self.requests, &self.reads).hash(to);
    }
}

impl Node {
    /// Writes down that this life has begun. To be made durable before anything else is done.
    pub fn start(&mut self, now: Micros, out: &mut Outbox) {
        let Boot { start, boot, .. } = self.identity.boot();
        out.persist(Record::Start { start, boot });
        out.flush();
        if let Some(ballot) = self.acceptor.highest_promise() {
            self.election.observe(ballot, now);
        }
        self.list(out);
    }

    /// The size of the first group; 0 while a node that joins has not heard of it.
    fn n(&self) -> u16 {
        self.history.membership().n()
    }

    /// Takes one line from the network.
    pub fn handle(&mut self, now: Micros, line: Line, out: &mut Outbox) {
        match line {
            Line::Client(request) => self.on_request(request, now, out),
            Line::Node(from, message) => self.on_line(from, message, now, out),
        }
        self.settle(now, out);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Micros, out: &mut Outbox) {
        if let Some(classic) = &mut self.classic {
            let wants = self.requests.first().is_some();
            classic.tick(wants, &mut self.acceptor, now, out);
        } else {
            if self.group.members.contains(&self.id) {
                if self.group.epoch > Epoch(0) || self.election.hears_later_epoch(now) {
                    self.identity.on_late(out);
                }
                self.identity.tick(&self.group, now, out);
            }
            self.say_left(now, out);
            self.give_up_if_stuck(now, out);
            self.run_if_leaderless(now, out);
            self.leader.tick(now, out);
            self.take_in(now, out);
            self.mend(now, out);
        }
        self.read(now, out);
        let leads = self.leader.is_leading() || self.classic.is_some();
        for answer in self.requests.tick(leads, now, out) {
            self.give(answer, out);
        }
        self.settle(now, out);
        self.beat(now, out);
    }

    /// Takes note that everything handed out so far is durable; `sent` are the lines of `after_sync`,
    /// whose votes count here from now on.
    pub fn synced(&mut self, now: Micros, sent: &[Line], out: &mut Outbox) {
        self.durable = self.learner.learned();
        self.acceptor.forget_through(self.durable);
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

    /// When [`tick`](Node::tick) has something to do next, if nothing comes in before.
    pub fn deadline(&self, now: Micros) -> Micros {
        let leads = self.leader.is_leading() || self.classic.is_some();
        let times = [
            Some(self.beat_at),
            self.leader.deadline(),
            self.requests.deadline(leads),
            self.reads.deadline(),
            self.repair.deadline(),
            self.election.run_at(&self.group, now),
            self.election.next_expiry(now),
            self.classic.as_ref().and_then(Classic::deadline),
        ];
        times.into_iter().flatten().min().unwrap_or(self.beat_at)
    }

    /// The learned prefix.
    pub fn learned(&self) -> Instance {
        self.learner.learned()
    }

    /// Whether it has accepted something, damaged since in its log, that no peer has shown it yet.
    pub fn has_lost_values(&self) -> bool {
        self.acceptor.has_lost()
    }

    /// What `Request instance` answers, if it is learned.
    pub fn reads(&self, instance: Instance) -> Option<Value> {
        self.history.reads(instance)
    }

    /// Whether this node leads.
    pub fn is_leading(&self) -> bool {
        self.leader.is_leading()
    }

    /// The highest ballot this node knows of.
    pub fn ballot(&self) -> Option<Ballot> {
        self.election.ballot()
    }

    /// Who governs the instance after the learned prefix.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What was dropped.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// This life.
    pub fn boot(&self) -> Boot {
        self.identity.boot()
    }

    /// The place in the queue of those who answer: the leader first.
    fn rank(&self) -> usize {
        match self.election.leader() {
            _ if self.leader.is_leading() => 0,
            // Some may not believe a node that lost its disk: if it answered first, nobody else would.
            _ if !self.is_voter() => self.group.members.len() + 1,
            None => self.group.rank_after(self.id, None),
            leader => self.group.rank_after(self.id, leader) + 1,
        }
    }

    fn run_if_leaderless(&mut self, now: Micros, out: &mut Outbox) {
        let runs = self.leader.ballot().is_some();
        if self.is_voter() && self.election.should_run(runs, &self.group, now) {
            self.run(now, out);
        }
    }

    /// Raises a ballot of this node's own.
    fn run(&mut self, now: Micros, out: &mut Outbox) {
        let above = self.election.ballot().max(self.acceptor.highest_promise());
        if above.is_some_and(|above| above.epoch > self.group.epoch) {
            // It has voted in an epoch whose beginning it has to learn again.
            return;
        }
        let next = self.numbering.next_owned_by(self.id, self.group.epoch, above);
        let reused =
            above.filter(|top| mutant::is(Mutant::ReuseBallot) && self.numbering.owner(*top) == self.id);
        let Some(ballot) = reused.or(next) else {
            out.event(Event::Warning("ballots have run out: this node cannot lead".into()));
            return;
        };
        self.election.observe(ballot, now);
        let change = self.history.membership().change().cloned();
        let change = change.map(|value| (Instance(self.group.epoch.0), value));
        self.leader.start(ballot, self.learner.learned(), change, now, out);
        let first = self.learner.learned().next();
        self.acceptor.on_propose_all(first, ballot, self.durable, out);
    }

    /// Raises a ballot unless one runs, whoever leads and whatever the clock says: a wrong guess of the
    /// election may cost time, never agreement. A door for model checks, which have no clock.
    #[doc(hidden)]
    pub fn run_unasked(&mut self, now: Micros, out: &mut Outbox) {
        if self.is_voter() && self.leader.ballot().is_none() {
            self.run(now, out);
        }
    }

    /// Ends a candidacy that gets nowhere, so that the next in rank may try.
    fn give_up_if_stuck(&mut self, now: Micros, out: &mut Outbox) {
        let patience = self.timing.timeout() * 4;
        if self.leader.is_stuck(self.learner.learned(), patience, now)
            && let Some(ballot) = self.leader.ballot()
        {
            self.step_down(ballot, ballot, now, out);
        }
    }

    /// Takes note of a ballot that somebody uses, and gives way to a higher one.
    fn observe(&mut self, ballot: Ballot, now: Micros, out: &mut Outbox) {
        self.election.observe(ballot, now);
        if let Some(own) = self.leader.ballot().filter(|own| *own < ballot) {
            self.step_down(own, ballot, now, out);
        }
    }

    fn step_down(&mut self, own: Ballot, to: Ballot, now: Micros, out: &mut Outbox) {
        let wanted = self.leader.step_down();
        self.requests.put_back(wanted, now);
        out.event(Event::SteppedDown { ballot: own, to });
    }

    /// Closes gaps: its own, and those that others asked about.
    fn mend(&mut self, now: Micros, out: &mut Outbox) {
        let evidence = self.learner.highest_evidence(&self.group).max(self.leader.must_learn());
        let (heard, at) = self.claimed;
        let heard = if now.since(at) < self.timing.timeout() { heard } else { Instance(0) };
        let claimed = heard.max(self.election.claimed(now));
        let target = evidence.max(self.reads.must_learn()).map_or(claimed, |instance| instance.max(claimed));
        let rank = self.rank();
        self.repair.ask(self.learner.learned(), target, rank, now, out);
        self.repair.answer(&self.history, now, out);
    }

    fn beat(&mut self, now: Micros, out: &mut Outbox) {
        if self.learner.learned() > self.durable && now >= self.beat_at {
            out.flush();
        }
        if self.classic.is_some() {
            if now >= self.beat_at {
                self.beat_at = now + self.timing.beat;
            }
            return;
        }
        let stance = self.election.stance(self.leader.stance(), self.is_voter(), &self.group, now);
        if stance != self.stance {
            self.stance = stance;
            self.beat_at = now;
            if let (Stance::Follows, Some(ballot), Some(leader)) =
                (stance, self.election.ballot(), self.election.leader())
            {
                out.event(Event::Follows { leader, ballot });
            }
        }
        if now < self.beat_at {
            return;
        }
        self.beat_at = now + self.timing.beat;
        self.ask_to_join(out);
        let beat = Message::Beat(Beat {
            n: self.n(),
            boot: self.identity.boot(),
            ballot: self.election.ballot(),
            learned: self.durable,
            stance,
            heard: self.election.heard(now),
        });
        let is_own = self.election.leader() == Some(self.id) && !self.leader.is_leading();
        if is_own && out.needs_sync() {
            // It may name a ballot begun in this very step, given up already perhaps, which nobody may see
            // before it is durable.
            out.after_sync(beat);
        } else {
            out.send(beat);
        }
        if self.group.members.contains(&self.id) && self.identity.wants_registration(&self.group) {
            out.send(Message::Register { n: self.n(), boot: self.identity.boot() });
        }
    }

    /// Draws the consequences of what came in.
    fn settle(&mut self, now: Micros, out: &mut Outbox) {
        let mut chosen: Vec<(Instance, Instance, Ballot)> = Vec::new();
        // Who joins learns nothing before it knows who governed first.
        while self.n() > 0
            && let Some((instance, value)) = self.learner.next_learned()
        {
            // Learning it may end the ballot, which chose it all the same.
            let ballot = self.leader.ballot();
            if self.on_learned(instance, value, now, out)
                && let Some(ballot) = ballot
            {
                // A range holds only what this node wrote: between may stand what another ballot chose.
                match chosen.last_mut() {
                    Some((_, last, same)) if last.next() == instance && *same == ballot => *last = instance,
                    _ => chosen.push((instance, instance, ballot)),
                }
            }
        }
        for (first, last, ballot) in chosen {
            out.send(Message::Chosen { first, last, ballot });
        }
        self.lead_on(now, out);
        let learned = self.learner.learned();
        let asked = self.old_group.as_ref().unwrap_or(&self.group);
        if let Some(values) = self.leader.finish_phase_1(asked, learned) {
            out.events.extend(self.leader.ballot().map(Event::Leads));
            self.write_again(values, now, out);
        }
        if self.leader.fence().is_none() {
            let held = self.leader.take_held();
            self.write_again(held, now, out);
        }
        self.answer_reads(now, out);
        self.propose(now, out);
    }

    /// Writes what phase 1 found, each value where it was found, but for what has been learned since. What lies
    /// above a change of the group waits until that is learned: if it is valid, another group governs there.
    fn write_again(&mut self, values: Vec<(Instance, Value)>, now: Micros, out: &mut Outbox) {
        let mut values = values.into_iter();
        while let Some((found_at, value)) = values.next() {
            let Some(instance) = self.leader.next() else { return };
            if found_at < instance {
                continue;
            }
            assert_eq!(found_at, instance, "what phase 1 found has no holes");
            // Who waits for this very request waits for this instance now: it is not proposed twice.
            let entry = Entry::decode(instance, &value, self.dialect);
            let is_same = !entry.is_untagged_read();
            let wanted = is_same.then(|| self.requests.take_done(&entry)).flatten().map(|(wanted, _)| wanted);
            self.propose_value(value, wanted, now, out);
            if let Entry::Group(tagged, _) = entry {
                self.leader.set_fence(instance, tagged.map(|tagged| tagged.tag));
                return self.leader.hold(values.collect());
            }
        }
    }

    fn propose_value(
        &mut self,
        value: Value,
        wanted: Option<Wanted>,
        now: Micros,
        out: &mut Outbox,
    ) -> Instance {
        let instance = self.leader.propose(value.clone(), wanted, &mut self.acceptor, now, out);
        if let Some(ballot) = self.leader.ballot() {
            self.learner.on_write(&self.group, instance, ballot, &value);
        }
        instance
    }

    /// Writes what is wanted, as far as there is room.
    fn propose(&mut self, now: Micros, out: &mut Outbox) {
        while let Some(wanted) = self.requests.first().filter(|_| self.leader.is_leading()) {
            let learned = self.learner.learned();
            let Some(instance) = self.leader.free_instance(learned, wanted.len()) else { return };
            // A safe read says what is the last value below its instance: all of it must be learned.
            if wanted.is_read() && learned.next() != instance {
                return;
            }
            let Some(wanted) = self.requests.take_first() else { return };
            let is_retry = wanted.tagged().is_some() && self.leader.is_under_way(&wanted);
            let verdict_at = |tag| self.history.verdict_at(tag, instance);
            let is_ahead = wanted.tagged().is_some_and(|tagged| verdict_at(tagged.tag) == Verdict::Ahead);
            if is_ahead {
                self.refuse(Some(&wanted), "its number is too far ahead of the log", now, out);
            }
            if is_ahead || is_retry || self.answer_if_done(&wanted, 0, now, out) {
                continue;
            }
            if let Wanted::Change(_, change) = wanted {
                self.propose_change((wanted, change), now, out);
                continue;
            }
            let value = wanted.entry(instance, || self.history.safe_read()).encode(self.dialect);
            self.propose_value(value, Some(wanted), now, out);
        }
    }

    /// Takes the next instance of the prefix. True when this node wrote it, in the ballot it runs.
    fn on_learned(&mut self, instance: Instance, value: Value, now: Micros, out: &mut Outbox) -> bool {
        if instance == Instance(1) && self.joins.is_some() {
            out.persist(Record::Genesis { n: self.n() });
        }
        out.persist(match self.acceptor.accepted(instance) {
            Some((ballot, accepted)) if *accepted == value => {
                Record::Chosen { first: instance, last: instance, ballot: *ballot }
            }
            _ => Record::Learn { instance, value: value.clone() },
        });
        let flight = self.leader.on_learned(instance, now);
        let is_own = flight.as_ref().is_some_and(|flight| flight.value == value);
        if let Some(tagged) = flight.as_ref().and_then(|flight| flight.wanted.as_ref()?.tagged())
            && !is_own
            && mutant::is(Mutant::OkForAnother)
        {
            let Tag { client, seq } = tagged.tag;
            out.send(Message::Done { first: instance, last: instance, client, seq });
        }
        let carries = flight.as_ref().is_some_and(|flight| is_own && flight.wanted.is_some());
        // Without marks, what somebody wrote can look like a safe read.
        let words = self.classic.as_ref().map(|_| Entry::Write(value.clone()));
        let (entry, verdict) = self.history.learn(instance, value);
        if let Some(reads) = self.history.reads(instance) {
            out.event(Event::Learned { instance, reads });
        }
        if let Some(wanted) = flight.and_then(|flight| flight.wanted)
            && (!is_own || verdict == Verdict::Misplaced)
        {
            // The instance went to another value: the request is still wanted.
            self.requests.put_back(vec![wanted], now);
        }
        let wrote = self.classic.as_mut().and_then(|classic| classic.on_learned(instance));
        // An untagged read that this node did not begin itself may be older than the one that waits here,
        // and so may what it reads.
        let may_be_stale = entry.is_untagged_read() && !carries && wrote != Some(Wrote::Own);
        let leads = self.leader.is_leading() || wrote.is_some();
        if verdict != Verdict::Misplaced {
            // The same words may wait a second time: only one request is done by one instance.
            let is_kept = carries || (may_be_stale && leads);
            let mut take_done = |entry: &Entry| if is_kept { None } else { self.requests.take_done(entry) };
            let waited = take_done(&entry).or_else(|| take_done(words.as_ref()?));
            if is_own || wrote.is_some() {
                self.give_for(&entry, instance, verdict, out);
            } else if let Some((_, false)) = waited.filter(|_| !may_be_stale) {
                self.owe_for(&entry, instance, verdict, now, out);
            }
        }
        if matches!(entry, Entry::Group(..)) && verdict == Verdict::New {
            self.on_new_group(instance, now, out);
        }
        is_own
    }

    fn give_for(&mut self, entry: &Entry, instance: Instance, verdict: Verdict, out: &mut Outbox) {
        if let Some((_, answer)) = self.answer(entry, instance, verdict, 0, out) {
            self.give(answer, out);
        }
    }

    fn owe_for(
        &mut self,
        entry: &Entry,
        instance: Instance,
        verdict: Verdict,
        now: Micros,
        out: &mut Outbox,
    ) {
        let rank = self.rank().max(1);
        if let Some((about, answer)) = self.answer(entry, instance, verdict, rank, out) {
            self.requests.owe(about, answer, rank, now);
        }
    }

    /// Sends an answer, and notes it for the log.
    fn give(&mut self, answer: Message, out: &mut Outbox) {
        self.note_answer(self.id, &answer, out);
        out.send(answer);
    }

    /// The answer to the request that `entry`, learned at `instance`, carries out; to be looked up if that
    /// was long ago.
    fn answer(
        &self,
        entry: &Entry,
        instance: Instance,
        verdict: Verdict,
        rank: usize,
        out: &mut Outbox,
    ) -> Option<(About, Message)> {
        if let Some(tagged) = entry.tagged() {
            let answer = self.answer_to_tag(tagged.tag, instance, verdict, rank, out)?;
            return Some((About::Tag(tagged.tag), answer));
        }
        match entry {
            Entry::Write(value) | Entry::Read { value, .. } => {
                let answer = Message::Ok { instance, value: value.clone() };
                Some((About::Instance(instance), answer))
            }
            Entry::Group(_, group) => {
                let value = if verdict == Verdict::Stale { "void".into() } else { group.reads() };
                Some((About::Instance(instance), Message::Ok { instance, value }))
            }
            _ => None,
        }
    }

    fn answer_to_tag(
        &self,
        tag: Tag,
        instance: Instance,
        verdict: Verdict,
        rank: usize,
        out: &mut Outbox,
    ) -> Option<Message> {
        let at = match verdict {
            Verdict::DoneAt(original) => original,
            Verdict::New => instance,
            Verdict::Forgotten(begin) => {
                return Some(Message::Forgotten { client: tag.client, seq: tag.seq, begin });
            }
            Verdict::Settled | Verdict::Misplaced | Verdict::Ahead | Verdict::Stale => {
                let reason = Value::from(match verdict {
                    Verdict::Stale => Node::STALE,
                    Verdict::Ahead => "its number is too far ahead of the log",
                    _ => "its number is below the client's floor: settled before",
                });
                return Some(Message::Refused { client: tag.client, seq: tag.seq, reason });
            }
        };
        if self.history.is_forgotten(at) {
            out.look_up(at, at, Why::Tagged(tag, rank));
        }
        Some(self.answer_with(tag, at, self.history.value(at)?, self.history.is_void(at)))
    }

    fn answer_with(
        &self,
        Tag { client, seq }: Tag,
        instance: Instance,
        stored: &Value,
        is_void: bool,
    ) -> Message {
        match Entry::decode(instance, stored, self.dialect) {
            Entry::Read { value, .. } => Message::Answer { instance, client, seq, value },
            Entry::Group(..) if is_void => Message::Refused { client, seq, reason: Node::STALE.into() },
            _ => Message::Done { first: instance, last: instance, client, seq },
        }
    }

    /// Owes the answer, if the tagged request has been carried out before.
    fn answer_if_done(&mut self, wanted: &Wanted, rank: usize, now: Micros, out: &mut Outbox) -> bool {
        let Some(tagged) = wanted.tagged() else { return false };
        let verdict = self.history.verdict(tagged.tag);
        if verdict == Verdict::New {
            return false;
        }
        let about = About::Tag(tagged.tag);
        if !self.requests.owes(&about)
            && let Some(answer) = self.answer_to_tag(tagged.tag, Instance(0), verdict, rank, out)
        {
            self.requests.owe(about, answer, rank, now);
        }
        true
    }

    /// Says in the log that a client was answered.
    fn note_answer(&self, by: NodeId, answer: &Message, out: &mut Outbox) {
        let mut note = |instance, value| out.event(Event::Answered { by, instance, value });
        match answer {
            Message::Ok { instance, value } | Message::Answer { instance, value, .. } => {
                note(*instance, Some(value.clone()));
            }
            Message::Done { first, last, .. } => {
                // One line of the wire must not cost a page of the log.
                if last.0 - first.0 >= NOTED_ONE_BY_ONE {
                    out.event(Event::AnsweredRange { by, first: *first, last: *last });
                    return;
                }
                for instance in (first.0..=last.0).map(Instance) {
                    note(instance, self.history.reads(instance));
                }
            }
            Message::Refused { reason, .. } | Message::Error { reason } if by == self.id => {
                out.event(Event::Refused(reason.clone()));
            }
            Message::Forgotten { client, .. } if by == self.id => {
                out.event(Event::Refused(format!("client {client} is not known (any more)").as_str().into()));
            }
            Message::Value { instance, learned, value, .. } => {
                let (instance, learned, value) = (*instance, *learned, value.clone());
                out.event(Event::Read { by, instance, learned, value, clients: 1 });
            }
            _ => {}
        }
    }
}
