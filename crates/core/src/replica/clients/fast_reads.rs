//! Fast reads: they return the last written value without using an instance, as of a prefix that holds every write
//! completed before.
//!
//! This module owns the waiting reads, and the rounds that allow their answers. A round asks all nodes for a mark
//! under a nonce of its own, and ends when a quorum has answered. A value chosen before the question was sent was
//! accepted by a quorum, so the highest of these marks is not below its instance. One round serves all reads
//! received before it was first sent, and no later ones. Time decides only when to ask again and when to stop
//! waiting, never whether an answer is right. This module neither learns nor answers. The node does that, once it
//! has learned up to the mark.

use std::collections::{BTreeMap, BTreeSet};

use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::clients::queue::{ANSWER_STEP, Proposal};
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::replica::outbox::Outbox;
use crate::replica::state_machine::script_hooks;
use crate::types::{
    Epoch, FIRST_FAST, Group, Instance, MAX_NUMBER, Micros, NodeId, Tag, Tagged, Value, Votes,
};
use crate::wire::Message;

/// How soon a question is repeated, at first and at the longest: several round trips.
const RETRY_MIN: Micros = Micros::from_millis(10);
const RETRY_MAX: Micros = Micros::from_millis(100);

/// Spreads the first nonces over all numbers, even for similar boots. It is odd, so no two boots start alike.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number of a read, in order of arrival.
type Ticket = u64;

/// The fast reads of one node, and the round in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FastReads {
    bounds: Bounds,
    /// How long a read may wait.
    patience: Micros,
    /// The nonce of the next round.
    nonce: u64,
    next: Ticket,
    open: BTreeMap<Ticket, Read>,
    tags: BTreeMap<Tag, Ticket>,
    untagged: BTreeSet<Ticket>,
    /// The reads that no round serves yet, by the time at which it is this node's turn.
    queue: BTreeSet<(Micros, Ticket)>,
    round: Option<Round>,
    /// The completed rounds whose reads are answered once this node has learned enough.
    marked: Vec<Marked>,
}

/// The question of a client's fast read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The request's tag; `None` for a `Request 0`.
    pub tagged: Option<Tagged>,
    /// The question for a script; `None` for a read of the last value.
    pub question: Option<Value>,
}

impl Asked {
    /// A tagged read of the last value.
    pub fn read(tagged: Tagged) -> Asked {
        Asked { tagged: Some(tagged), question: None }
    }

    /// The request for a safe read that replaces a fast read that has waited too long.
    fn wanted(self) -> Proposal {
        match (self.tagged, self.question) {
            (Some(tagged), Some(question)) => Proposal::Query(tagged, question),
            (Some(tagged), None) => Proposal::TaggedRead(tagged),
            (None, _) => Proposal::Read,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Read {
    asked: Asked,
    since: Micros,
    /// The time at which it is this node's turn.
    due: Micros,
}

/// A question to all nodes: up to which instance may values have been chosen?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    epoch: Epoch,
    nonce: u64,
    votes: Votes,
    highest: Instance,
    serves: Vec<Ticket>,
    retry_at: Micros,
    retry_after: Micros,
}

/// A round that a quorum has answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Marked {
    epoch: Epoch,
    highest: Instance,
    serves: Vec<Ticket>,
}

impl FastReads {
    /// No reads. `boot` is the random number of this run. Nonces count up from it, so that no mark for an earlier
    /// run or for another node counts in a round.
    pub fn new(patience: Micros, boot: u64, limits: Limits) -> FastReads {
        let spread = if mutant::is(Mutant::NonceRestarts) { 0 } else { SPREAD };
        FastReads {
            bounds: limits.into(),
            patience,
            nonce: boot.wrapping_mul(spread) & MAX_NUMBER,
            next: 0,
            open: BTreeMap::new(),
            tags: BTreeMap::new(),
            untagged: BTreeSet::new(),
            queue: BTreeSet::new(),
            round: None,
            marked: Vec::new(),
        }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Adds a read, unless it waits already (a retry). The nodes before in rank get time to answer first. False
    /// when there is no room.
    pub fn add(&mut self, asked: Asked, rank: usize, now: Micros) -> bool {
        let tagged = asked.tagged;
        if tagged.is_some_and(|tagged| self.tags.contains_key(&tagged.tag)) {
            return true;
        }
        if self.bounds.is_over(Bound::Reads, self.open.len() >= self.bounds.reads) {
            return false;
        }
        let ticket = self.next;
        self.next += 1;
        match tagged {
            Some(tagged) => drop(self.tags.insert(tagged.tag, ticket)),
            None => drop(self.untagged.insert(ticket)),
        }
        let due = now + ANSWER_STEP * rank as u64;
        self.open.insert(ticket, Read { asked, since: now, due });
        self.queue.insert((due, ticket));
        true
    }

    /// Records that another node answered this tagged request.
    pub fn on_answered(&mut self, tag: Tag) {
        if let Some(ticket) = self.tags.get(&tag) {
            self.take(*ticket);
        }
    }

    /// Records that another node answered a `Request 0`. The answer names no request, so the longest-waiting one
    /// counts as answered.
    pub fn on_answered_untagged(&mut self) {
        if let Some(ticket) = self.untagged.first() {
            self.take(*ticket);
        }
    }

    /// `Mark`: `from` reports up to which instance values may have been chosen when it was asked. Only marks of the
    /// round in progress count: any other may be older than the reads that this round serves.
    pub fn on_mark(&mut self, from: NodeId, (epoch, nonce): (Epoch, u64), mark: Instance, group: &Group) {
        if let Some(round) = &mut self.round
            && (round.epoch, group.epoch) == (epoch, epoch)
            && (round.nonce == nonce || mutant::is(Mutant::StaleNonce))
            && group.members.contains(&from)
        {
            if round.votes.insert(from) {
                round.highest = round.highest.max(mark);
            }
            self.end_round(group);
        }
    }

    /// Asks for marks, for the first time and again. `own` is this node's own mark, if it may give one.
    pub fn tick(&mut self, group: &Group, own: Option<(NodeId, Instance)>, now: Micros, out: &mut Outbox) {
        if self.round.as_ref().is_some_and(|round| round.epoch != group.epoch) {
            let stale = self.round.take().map(|round| round.serves);
            self.ask_again(stale.unwrap_or_default(), now);
        }
        let is_awaited = |ticket: &Ticket| self.open.contains_key(ticket);
        self.marked.retain(|marked| marked.serves.iter().any(is_awaited));
        if let Some(round) = self.round.as_mut().filter(|round| now >= round.retry_at) {
            round.serves.retain(is_awaited);
            round.retry_after = (round.retry_after * 2).min(RETRY_MAX);
            round.retry_at = now + round.retry_after;
            match round.serves.is_empty() {
                true => self.round = None,
                false => out.send(Message::AskMark { epoch: round.epoch, nonce: round.nonce }),
            }
        }
        if self.round.is_none() {
            self.begin_round(group, own, now, out);
        }
    }

    /// Removes and returns the reads that have waited too long.
    pub fn take_late(&mut self, now: Micros) -> Vec<Asked> {
        let mut late = Vec::new();
        while let Some((ticket, read)) = self.open.first_key_value()
            && now.since(read.since) >= self.patience
        {
            late.extend(self.take(*ticket));
        }
        late
    }

    /// Removes and returns the reads that a node with prefix `learned` in `epoch` may answer. No write completed
    /// before they were asked is above that prefix, nor any earlier change of the group.
    pub fn take_ready(&mut self, epoch: Epoch, learned: Instance, now: Micros) -> Vec<Asked> {
        let mut ready = Vec::new();
        let is_over = |marked: &mut Marked| marked.highest <= learned || marked.epoch != epoch;
        let over: Vec<Marked> = self.marked.extract_if(.., is_over).collect();
        for Marked { epoch: asked, serves, .. } in over {
            if asked == epoch || mutant::is(Mutant::ReadAcrossEpochs) {
                ready.extend(serves.into_iter().filter_map(|ticket| self.take(ticket)));
            } else {
                self.ask_again(serves, now);
            }
        }
        ready
    }

    /// How far this node must learn to answer the reads that have their marks.
    pub fn must_learn(&self) -> Option<Instance> {
        self.marked.iter().map(|marked| marked.highest).max()
    }

    /// The time of the next question, retry, or fallback.
    pub fn deadline(&self) -> Option<Micros> {
        let next = match &self.round {
            Some(round) => Some(round.retry_at),
            None => self.queue.first().map(|(due, _)| *due),
        };
        let late = self.open.first_key_value().map(|(_, read)| read.since + self.patience);
        next.into_iter().chain(late).min()
    }

    fn begin_round(&mut self, group: &Group, own: Option<(NodeId, Instance)>, now: Micros, out: &mut Outbox) {
        let mut serves = Vec::new();
        while let Some((due, ticket)) = self.queue.first().copied()
            && due <= now
        {
            self.queue.pop_first();
            serves.push(ticket);
        }
        if serves.is_empty() {
            return;
        }
        if mutant::is(Mutant::ReadFromLearner) {
            return self.marked.push(Marked { epoch: group.epoch, highest: Instance(0), serves });
        }
        let (epoch, nonce) = (group.epoch, self.nonce);
        self.nonce = (nonce + 1) & MAX_NUMBER;
        out.send(Message::AskMark { epoch, nonce });
        let (retry_after, retry_at) = (RETRY_MIN, now + RETRY_MIN);
        let (votes, highest) = (Votes::default(), Instance(0));
        self.round = Some(Round { epoch, nonce, votes, highest, serves, retry_at, retry_after });
        if let Some((me, mark)) = own {
            self.on_mark(me, (epoch, nonce), mark, group);
        }
    }

    fn end_round(&mut self, group: &Group) {
        if let Some(round) = self.round.take_if(|round| round.votes.is_quorum(group)) {
            let Round { epoch, highest, serves, .. } = round;
            self.marked.push(Marked { epoch, highest, serves });
        }
    }

    /// Queues reads for a new round. The group has changed during their round, and a quorum of the old group knows
    /// nothing of the new group's writes.
    fn ask_again(&mut self, tickets: Vec<Ticket>, now: Micros) {
        for ticket in tickets {
            if let Some(read) = self.open.get_mut(&ticket) {
                read.due = now;
                self.queue.insert((now, ticket));
            }
        }
    }

    /// Removes a read, if it still waits. Rounds that name its ticket find nothing from then on.
    fn take(&mut self, ticket: Ticket) -> Option<Asked> {
        let Read { asked, due, .. } = self.open.remove(&ticket)?;
        self.queue.remove(&(due, ticket));
        match asked.tagged {
            Some(tagged) => drop(self.tags.remove(&tagged.tag)),
            None => drop(self.untagged.remove(&ticket)),
        }
        Some(asked)
    }
}

impl Replica {
    /// Handles a read that needs no instance. A tagged one may have fallen back to a safe read before.
    pub(in crate::replica) fn on_fast_read(&mut self, asked: Asked, now: Micros, out: &mut Outbox) {
        let wanted = asked.clone().wanted();
        if asked.tagged.is_some() {
            if self.is_malformed(&wanted, now, out) {
                return;
            }
            let is_done = self.answer_if_done(&wanted, now, out);
            if is_done || self.leader.is_under_way(&wanted) || self.requests.is_waiting(&wanted) {
                return;
            }
        }
        if !self.reads.add(asked, self.rank(), now) && self.leader.is_leading() {
            self.reply_busy(&wanted, Replica::BUSY_PAUSE, now, out);
        }
    }

    /// Handles a question to the scripts. A node without a script that answers queries leaves it to the others; the
    /// leader refuses it.
    pub(in crate::replica) fn on_fast_query(
        &mut self,
        tagged: Tagged,
        question: Value,
        now: Micros,
        out: &mut Outbox,
    ) {
        let asked = Asked { tagged: Some(tagged), question: Some(question) };
        if out.hooks.as_ref().is_some_and(|hooks| hooks.reader().is_some()) {
            self.on_fast_read(asked, now, out);
        } else if self.leader.is_leading() {
            self.refuse(Some(&asked.wanted()), script_hooks::NO_READER, now, out);
        }
    }

    /// Asks for marks, and turns reads that have waited too long into safe reads.
    pub(in crate::replica) fn read(&mut self, now: Micros, out: &mut Outbox) {
        let own = self.mark().map(|mark| (self.id, mark));
        self.reads.tick(&self.group, own, now, out);
        for late in self.reads.take_late(now) {
            let is_in_log = late.tagged.is_none_or(|tagged| tagged.tag.seq < FIRST_FAST);
            match late.wanted() {
                wanted if is_in_log => self.submit(wanted, now, out),
                // Its number cannot stand in the log. Its client asks for a safe read, under another number.
                wanted => self.reply_busy(&wanted, 0, now, out),
            }
        }
    }

    /// Answers the reads whose round is complete, once this node has learned enough.
    pub(in crate::replica) fn answer_reads(&mut self, now: Micros, out: &mut Outbox) {
        let learned = self.learner.learned();
        for asked in self.reads.take_ready(self.group.epoch, learned, now) {
            match self.fast_answer(&asked, learned, out) {
                Ok(Some(answer)) => self.send_reply(answer, out),
                // An untagged answer has no form for "nothing was written".
                Ok(None) => self.submit(Proposal::Read, now, out),
                Err(reason) => self.reject(&asked.wanted(), &reason, now, out),
            }
        }
    }

    fn fast_answer(&self, asked: &Asked, learned: Instance, out: &Outbox) -> Result<Option<Message>, String> {
        let last = self.history.last_user().map(|(instance, _)| *instance);
        if asked.tagged.is_none() && last.is_none() {
            return Ok(None);
        }
        let value = script_hooks::read(&self.history, asked.question.as_ref(), out.hooks.as_deref())?;
        let instance = last.unwrap_or_default();
        Ok(Some(match asked {
            Asked { tagged: Some(Tagged { tag: Tag { client, seq }, .. }), question: Some(_) } => {
                Message::Reply { learned, client: *client, seq: *seq, value }
            }
            Asked { tagged: Some(Tagged { tag: Tag { client, seq }, .. }), question: None } => {
                Message::Value { instance, learned, client: *client, seq: *seq, value }
            }
            Asked { tagged: None, .. } => Message::Ok { instance, value },
        }))
    }

    /// `AskMark`: answered only in the epoch in force.
    pub(in crate::replica) fn on_ask_mark(
        &mut self,
        epoch: Epoch,
        nonce: u64,
        now: Micros,
        out: &mut Outbox,
    ) {
        if epoch != self.group.epoch {
            self.on_other_epoch(epoch, true, now);
        } else if let Some(mark) = self.mark() {
            out.send(Message::Mark { epoch, nonce, mark });
        }
    }

    /// The instance up to which values may have been chosen with this node's vote. A node that may not vote has
    /// perhaps forgotten its votes, so it has no mark.
    fn mark(&self) -> Option<Instance> {
        let may_mark = self.classic.is_none() && self.is_voter();
        let accepted = self.acceptor.highest_accepted().filter(|_| !mutant::is(Mutant::MarkLearnedOnly));
        may_mark.then(|| accepted.unwrap_or_default().max(self.learner.learned()))
    }
}
