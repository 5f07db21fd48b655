//! The dispatch of lines: plausibility checks first, then the roles.
//!
//! This module owns the decision whether a line is believed at all. No input may cause a panic, cost unbounded
//! memory, or wedge an instance. `Replica::handle` calls it for every line of a node, its own included.

mod classic;
mod digest_writes;
mod non_members;
mod receive;
mod requests;
mod senders;

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::clients::replies::Replies;
use crate::replica::election::jumps::MAX_ROUND_JUMP;
use crate::replica::outbox::{Event, Outbox};
use crate::types::{Ballot, Instance, MAX_NUMBER, Micros, NodeId, Value};
use crate::wire::kinds::{asks, asks_only, ballot_of};
use crate::wire::{Beat, Boot, Message, Stance};

impl Replica {
    /// Handles a line that claims to be from node `from`.
    pub(in crate::replica) fn on_line(
        &mut self,
        from: NodeId,
        message: Message,
        now: Micros,
        out: &mut Outbox,
    ) {
        if self.classic.is_some() {
            self.on_classic_line(from, message, now, out);
        } else if from == self.id {
            self.on_own(&message, out);
        } else if !self.history.group().members.contains(&from) {
            self.on_stranger(from, message, now, out);
        } else if self.is_plausible(from, &message, now, out) {
            if self.election.on_heard(from, now) {
                // This node reports the link at once: a link counts when both ends report it.
                self.candidacy.beat_again_at(now);
            }
            if let Some((ballot, _)) = ballot_of(&message)
                && ballot.epoch == self.history.group().epoch
                && self.is_within_reach(ballot)
            {
                self.observe(ballot, now, out);
            }
            self.on_message(from, message, now, out);
        }
    }

    /// Handles this node's own broadcasts, looped back, or the lines of another node with the same id. Own votes
    /// are counted in [`Replica::on_synced`], once they are durable, never here.
    fn on_own(&mut self, message: &Message, out: &mut Outbox) {
        if let Message::Beat(Beat { boot, .. }) = message
            && *boot != self.identity.boot()
        {
            let Boot { incarnation, start, boot } = boot;
            self.warn_of_twin(&format!(" (incarnation {incarnation}, start {start}, boot {boot})"), out);
        }
    }

    /// Warns once of another node with this node's id. `shown_by` is the evidence, as the text goes on behind the id.
    fn warn_of_twin(&mut self, shown_by: &str, out: &mut Outbox) {
        if !std::mem::replace(&mut self.warned_of_twin, true) {
            out.event(Event::Warning(format!(
                "another node goes by id {}{shown_by}; stop one of them",
                self.id
            )));
        }
    }

    pub(in crate::replica) fn is_plausible(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Micros,
        out: &mut Outbox,
    ) -> bool {
        match message {
            Message::Beat(Beat { n, boot, stance, .. })
                if !self.admit(from, (*n, *boot, *stance != Stance::Learns), now, out) =>
            {
                self.dropped.foreign += 1;
                return false;
            }
            Message::Register { n, .. } if *n != self.n() => self.mark_foreign(from, *n, out),
            _ => {}
        }
        // A node that has lost its disk may ask and read. It must not vote.
        let is_question = match message {
            Message::Register { n, .. } => *n == self.n(),
            Message::Join { .. } | Message::JoinFor { .. } => true,
            message => asks_only(message),
        };
        if self.foreign.contains(&from) && !is_question {
            self.dropped.foreign += 1;
            return false;
        }
        if matches!(message, Message::Accept { .. }) {
            // The voter was started with --classic by mistake. It reads a run of blanks as one blank, so the value
            // in its vote may differ from the written one.
            self.dropped.classic_votes += 1;
            return false;
        }
        let Some((ballot, only_owner)) = ballot_of(message) else { return true };
        if only_owner && self.numbering.owner(ballot) != from {
            self.dropped.not_owner += 1;
            return false;
        }
        if ballot.epoch != self.history.group().epoch {
            self.on_other_epoch(ballot.epoch, asks(message), now);
            let is_vote_question =
                matches!(message, Message::ProposeAll { .. } | Message::Write { .. } | Message::WriteTags(_));
            let is_far = matches!(message, Message::Write { instance, .. } if !self.is_near(*instance));
            let early = is_vote_question && mutant::is(Mutant::JoinerVotesEarly)
                || is_far && mutant::is(Mutant::FarOfAnyEpoch);
            // A heartbeat carries more than its ballot.
            return early || mutant::is(Mutant::DropEpoch) || matches!(message, Message::Beat(_));
        }
        // A heartbeat is always handled, since it carries more than its ballot. Only heartbeats claim a ballot.
        let is_beat = matches!(message, Message::Beat(_));
        let is_believed = self.weigh_jump(from, is_beat.then_some(Instance(0)), ballot, now);
        self.dropped.absurd += u64::from(!is_beat && !is_believed);
        is_beat || is_believed
    }

    /// Whether a ballot is so near to the known ones that it is believed from any node.
    fn is_within_reach(&self, ballot: Ballot) -> bool {
        let heard = [self.election.ballot(), self.acceptor.highest_promise(), self.jumps.believed()];
        let heard = heard.into_iter().flatten().filter(|heard| heard.epoch == ballot.epoch).max();
        let highest_round = heard.map_or(0, |heard| self.numbering.round(heard));
        self.numbering.round(ballot) <= highest_round + MAX_ROUND_JUMP
    }

    /// Whether a ballot that a line names is believed. A far ballot is believed in the end, however far it jumps, if a
    /// member claims it again and again. `claims_at` is the instance that the line claims the ballot for, 0 for all.
    fn weigh_jump(&mut self, from: NodeId, claims_at: Option<Instance>, ballot: Ballot, now: Micros) -> bool {
        let by = claims_at.map(|instance| (from, instance));
        if self.is_within_reach(ballot) {
            by.into_iter().for_each(|by| self.jumps.contradict(by));
            return true;
        }
        let half = self.numbering.round(Ballot { number: MAX_NUMBER, ..ballot }) / 2;
        if let Some(by) = by.filter(|_| self.numbering.round(ballot) <= half) {
            self.jumps.claim(by, ballot, self.election.timeout_for(from), now);
        }
        self.is_within_reach(ballot)
    }

    /// Whether a member's heartbeat comes from the incarnation registered for its id, and from a group of this
    /// size.
    fn admit(
        &mut self,
        from: NodeId,
        (n, boot, is_voter): (u16, Boot, bool),
        now: Micros,
        out: &mut Outbox,
    ) -> bool {
        if n != self.n() {
            self.mark_foreign(from, n, out);
            return false;
        }
        let view = self.group_view(now);
        if is_voter && !view.is_genuine(from, boot) && view.known_by_log(from).is_none() {
            self.identity.correct(from, boot, out);
        }
        if !self.group_view(now).is_genuine(from, boot) {
            let listed = self.history.membership().incarnation(from).map(Boot::some);
            let root = || self.identity.root(from).map(Boot::some);
            let known = listed.or_else(|| self.identity.remembered(from)).or_else(root).unwrap_or_default();
            let told = self.tell_lost_at.get(&from).copied();
            if told.is_none_or(|at| now >= at) {
                self.tell_lost_at.insert(from, now + self.timing.timeout());
                out.send(Message::Barred { node: from, boot: boot.boot, known });
            }
            if told.is_none() {
                out.event(Event::Warning(format!(
                    "a node {from} is here whose disk is not the one that this node remembers (incarnation {} now): \
                     its votes do not count; if the member {from} still runs, stop the newcomer, whose id is taken; \
                     if not, its disk is lost, and it has to come back under a new id (upaxos-node --join -i NEW_ID \
                     --replace {from})",
                    boot.incarnation
                )));
            }
            return false;
        }
        self.foreign.remove(&from);
        // Under a registered id, only one incarnation can vote.
        if self.history.membership().incarnation(from).is_none() && is_voter {
            self.identity.introduce(from, boot, out);
        }
        self.object_to_older(from, boot, now, out);
        true
    }

    /// Tells a member that a later run of it is remembered, if there is one. It may be voting because other nodes
    /// did not know. A delayed heartbeat of its earlier run gets the same answer. That answer names the earlier
    /// run, so it does not affect the present one.
    fn object_to_older(&mut self, from: NodeId, boot: Boot, now: Micros, out: &mut Outbox) {
        let Some(known) = self.identity.later_life(from, boot) else { return };
        let (node, told, until) = self.told_older;
        if (node, told) != (from, boot.boot) || now >= until {
            self.told_older = (from, boot.boot, now + self.timing.timeout());
            out.send(Message::Barred { node: from, boot: boot.boot, known });
        }
    }

    /// `Barred`: a node that may no longer vote also gives up the ballot that it leads, since a rolled-back disk
    /// does not know its own ballots. A member's objection stops a voter at once. A non-member may belong to a
    /// later group, or to none: its objection stops a voter only when it is repeated.
    fn on_barred(&mut self, from: NodeId, message: (NodeId, u64, Boot), now: Micros, out: &mut Outbox) {
        let (node, boot, known) = message;
        if self.identity.may_vote() && !self.history.group().members.contains(&from) {
            let since = *self.barred_by_stranger.get_or_insert(now);
            if now.since(since) < Micros(self.timing.beat.0 / 2) {
                self.dropped.strangers += 1;
                return;
            }
        }
        self.identity.on_barred(from, node, boot, known, out);
        if let Some(own) = self.leader.ballot().filter(|_| !self.identity.may_vote()) {
            self.step_down(own, own, now, out);
        }
    }

    pub(in crate::replica) fn mark_foreign(&mut self, from: NodeId, n: u16, out: &mut Outbox) {
        if self.foreign.insert(from) {
            out.event(Event::Warning(format!(
                "node {from} was started for a first group of {n}, this one for {}: its lines are ignored; \
                 start both with the same -n",
                self.n()
            )));
        }
    }

    pub(in crate::replica) fn on_message(
        &mut self,
        from: NodeId,
        message: Message,
        now: Micros,
        out: &mut Outbox,
    ) {
        match message {
            Message::Propose { instance, ballot } => self.on_propose(instance, ballot, now, out),
            Message::ProposeAll { first, ballot } => {
                if self.is_voter() {
                    // Naming the whole learned prefix would be as safe as the durable one: its records stand before
                    // the promise's in the log, and the answer waits for the sync of both.
                    self.acceptor.on_propose_all(first, ballot, self.durable, out);
                }
            }
            Message::Write { instance, ballot, value } => self.on_write((instance, ballot), value, now, out),
            Message::WriteTags(write) => self.on_write_tags(from, write, None, now, out),
            Message::Fetch { first, last, ballot } => self.on_fetch((first, last), ballot, now, out),
            Message::Nack { instance, ballot } => self.on_nack(instance, ballot, now, out),
            Message::Written { instance, value } => self.on_written(instance, value, now),
            Message::Chosen { first, last, ballot } => self.on_chosen(first, last, ballot, now),
            Message::Gap { first, last } => {
                self.repair.on_overheard(first, last, self.learner.learned(), now);
                let rank = self.rank();
                self.repair.schedule_reply(first, last, rank, now);
            }
            Message::Join { .. } | Message::JoinFor { .. } => {}
            Message::Beat(beat) => {
                self.election.on_beat(from, beat, now);
            }
            Message::Pace(pace) => self.on_pace(from, pace, out),
            Message::Register { boot, earlier, .. } => self.on_register(from, boot, &earlier, out),
            // `Replica::handle` counts them: it knows the sender's incarnation.
            Message::Registered { .. } => {}
            Message::Barred { node, boot, known } => self.on_barred(from, (node, boot, known), now, out),
            Message::AskMark { epoch, nonce } => self.on_ask_mark(epoch, nonce, now, out),
            Message::Mark { epoch, nonce, mark } => {
                self.reads.on_mark(from, (epoch, nonce), mark, self.history.group());
            }
            Message::Dropped { words } => self.requests.on_dropped(words),
            Message::AskDigest { .. }
            | Message::Digest { .. }
            | Message::AskChain { .. }
            | Message::Chain { .. } => {
                let (digests, mut own) = self.comparison(now);
                digests.on_message(from, message, &mut own, out);
            }
            Message::Relay { value } if self.leader.is_leading() => {
                self.requests.on_relay(value, |wanted| self.leader.is_under_way(wanted), now);
            }
            Message::Promise { .. }
            | Message::PromiseNone { .. }
            | Message::Accept { .. }
            | Message::Accepts { .. } => {
                self.on_copy(&message, out);
                self.on_vote(from, message, now, out);
            }
            answer => self.on_answer(from, &answer, now, out),
        }
    }

    /// `Register`: if the log names an incarnation, only that one is accepted. A node that joined later is none of
    /// the peers that a founder needs, and cannot detect a founder with a lost disk. It remembers the nodes that it
    /// has seen vote.
    fn on_register(&mut self, from: NodeId, boot: Boot, earlier: &[u64], out: &mut Outbox) {
        match self.history.membership().incarnation(from) {
            Some(listed) if listed != boot.incarnation => {
                out.send(Message::Barred { node: from, boot: boot.boot, known: Boot::some(listed) });
            }
            None if self.joins.is_some() && self.identity.remembered(from).is_none() => {}
            _ => {
                let beats = self.election.last_boot(from) == Some(boot);
                self.identity.on_register(from, (boot, earlier), beats, out);
            }
        }
    }

    /// Restores a lost value if a peer's vote shows it.
    fn on_copy(&mut self, vote: &Message, out: &mut Outbox) {
        if !self.is_voter() {
            return;
        }
        match vote {
            Message::Promise { instance, accepted: Some((ballot, value)), .. }
            | Message::Accept { instance, ballot, value } => {
                self.acceptor.on_copy(*instance, *ballot, value, out);
            }
            _ => {}
        }
    }

    /// Counts a vote: a peer's on receipt, this node's own once it is durable.
    pub(in crate::replica) fn on_vote(&mut self, from: NodeId, vote: Message, now: Micros, out: &mut Outbox) {
        if self.classic.is_some() {
            return self.on_classic_vote(from, vote, now, out);
        }
        match vote {
            Message::Promise { instance, ballot, accepted } => {
                self.leader.on_promise(from, instance, ballot, accepted);
            }
            Message::PromiseNone { first, last, ballot, learned } => {
                self.leader.on_promise_none(from, (first, last), ballot, learned);
            }
            Message::Accept { instance, ballot, value } => {
                self.learner.on_accept(self.history.group(), from, instance, ballot, Some(&value));
            }
            Message::Accepts { first, last, ballot } => {
                for instance in self.open(first, last) {
                    self.learner.on_accept(self.history.group(), from, instance, ballot, None);
                }
            }
            _ => {}
        }
    }

    /// The instances of a range that are still open here.
    fn open(&self, first: Instance, last: Instance) -> impl Iterator<Item = Instance> + use<> {
        let learned = self.learner.learned().0;
        (first.0.max(learned + 1)..=last.0.min(learned + self.bounds.window)).map(Instance)
    }

    fn on_propose(&mut self, instance: Instance, ballot: Ballot, now: Micros, out: &mut Outbox) {
        if instance <= self.learner.learned() {
            self.repair.schedule_reply(instance, instance, 0, now);
            return;
        }
        if self.is_voter() && self.is_near(instance) {
            self.acceptor.on_propose(instance, ballot, out);
        }
    }

    fn on_write(
        &mut self,
        (instance, ballot): (Instance, Ballot),
        value: Value,
        now: Micros,
        out: &mut Outbox,
    ) {
        if instance <= self.learner.learned() {
            // The leader has not heard that this instance is chosen.
            self.repair.schedule_reply(instance, instance, 0, now);
            return;
        }
        if !self.may_accept(instance, now) {
            return;
        }
        self.requests.on_taken_up(&Entry::decode(instance, &value, self.dialect), instance, now);
        self.take_up_write(instance, ballot, &value, out);
    }

    /// Handles a write whose value is here: keeps the value for the votes, and accepts it.
    pub(in crate::replica) fn take_up_write(
        &mut self,
        instance: Instance,
        ballot: Ballot,
        value: &Value,
        out: &mut Outbox,
    ) {
        self.learner.on_write(self.history.group(), instance, ballot, value);
        if self.is_voter() {
            self.acceptor.on_write(instance, ballot, value, out);
        }
    }

    /// Whether an instance is near enough for this node to keep state about it.
    pub(in crate::replica) fn is_near(&self, instance: Instance) -> bool {
        instance.0 <= self.learner.learned().0 + self.bounds.window
    }

    /// Whether a value may be accepted at an instance. A far instance qualifies if members report a learned prefix
    /// that reaches near it: a node that catches up may be needed for a quorum.
    ///
    /// The distance above this node's prefix makes no difference to safety. The rules in the README,
    /// "What is promised", show that:
    ///
    /// - The ballot is of the epoch in force here, and this node has durably learned the start of that epoch and
    ///   everything below (rule 9; `is_plausible` drops all others). If an unlearned change of the group lies
    ///   between, the instance belongs to a later epoch. A vote of this epoch counts for nothing there: learners
    ///   go by the group and the epoch of the instance. The leader did not write above such a change either: it
    ///   had learned all below, or was fenced by it.
    /// - The vote itself is like any other: one value per ballot and instance (2), not below the promise, which
    ///   holds for all instances and rises with the vote (4), durable before it is sent (5).
    /// - The vote is remembered as long as any other: until the instance is durably learned here (7), across
    ///   restarts and checkpoints, which keep all accepted values above the learned prefix. A promise reports it
    ///   at any distance, and says "nothing" only of the instances between (3).
    ///
    /// The prefixes that members report decide about room alone. A false report costs memory, which `has_room_far`
    /// bounds.
    pub(in crate::replica) fn may_accept(&self, instance: Instance, now: Micros) -> bool {
        let best = || self.election.best(self.learner.learned(), self.history.group(), now);
        let is_far = || instance.0 <= best().0 + self.bounds.window;
        self.is_near(instance) || (is_far() && self.acceptor.has_room_far())
    }

    fn on_nack(&mut self, instance: Instance, ballot: Ballot, now: Micros, out: &mut Outbox) {
        if self.leader.ballot() == Some(ballot)
            && self.leader.is_stuck_at(instance, self.timing.timeout(), now)
        {
            // A refusal names the ballot that stands in the way, also when it refuses another leader's write: an
            // old leader that does not hear of this one writes the same requests at the same instances again and
            // again. But when a value of this node's own ballot makes no progress, another value stands in the same
            // ballot, and this one cannot be completed.
            self.step_down(ballot, ballot, now, out);
        }
    }

    fn on_written(&mut self, instance: Instance, value: Value, now: Micros) {
        self.repair.on_told(instance, now);
        match self.history.value(instance) {
            Some(known) if *known != value => self.dropped.conflicts += 1,
            Some(_) => {}
            None => self.learner.on_written(instance, value),
        }
    }

    pub(in crate::replica) fn on_chosen(
        &mut self,
        first: Instance,
        last: Instance,
        ballot: Ballot,
        now: Micros,
    ) {
        for instance in self.open(first, last) {
            if !self.learner.on_chosen(instance, ballot) {
                self.claim(instance, now);
            }
        }
    }

    /// Handles another node's answer to a client.
    pub(in crate::replica) fn on_answer(
        &mut self,
        from: NodeId,
        answer: &Message,
        now: Micros,
        out: &mut Outbox,
    ) {
        let replies = Replies::new(self.context(now), &self.history);
        if self.requests.on_overheard(answer, &mut self.reads, replies) {
            replies.note(from, answer, out);
        }
    }
}
