//! Fast reads: they return the last written value without using an instance, as of a prefix that holds every write
//! completed before.
//!
//! This module owns the waiting reads, and the rounds that allow their answers. A round asks all nodes for a mark
//! under a nonce of its own, and ends when a quorum has answered. A value chosen before the question was sent was
//! accepted by a quorum, so the highest of these marks is not below its instance. One round serves all reads
//! received before it was first sent, and no later ones. Time decides only when to ask again and when to stop
//! waiting, never whether an answer is right. This module neither learns nor sends answers. The node does that, once
//! it has learned up to the mark.

use std::collections::{BTreeMap, BTreeSet};

use crate::mutant::{self, Mutant};
use crate::replica::clients::queue::{ANSWER_STEP, Proposal, RequestQueue};
use crate::replica::clients::replies::{BUSY_PAUSE, Replies};
use crate::replica::context::Context;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::replica::outbox::Outbox;
use crate::replica::state_machine::learned_log::LearnedLog;
use crate::types::{
    Epoch, FIRST_FAST, Group, Instance, MAX_NUMBER, Micros, NodeId, Tag, Tagged, Value, Votes,
};
use crate::wire::{Dialect, Message};

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
    /// Whether an untagged read is a fast one.
    is_default: bool,
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

    /// A question to the scripts.
    pub fn query(tagged: Tagged, question: Value) -> Asked {
        Asked { tagged: Some(tagged), question: Some(question) }
    }

    /// The request for a safe read of the same words.
    pub fn wanted(self) -> Proposal {
        match (self.tagged, self.question) {
            (Some(tagged), Some(question)) => Proposal::Query(tagged, question),
            (Some(tagged), None) => Proposal::TaggedRead(tagged),
            (None, _) => Proposal::Read,
        }
    }

    /// The safe read that replaces a fast read that has waited too long.
    ///
    /// # Errors
    /// The same request, if its number cannot stand in the log. Its client asks for a safe read, under another number.
    pub fn fall_back(self) -> Result<Proposal, Proposal> {
        let is_in_log = self.tagged.is_none_or(|tagged| tagged.tag.seq < FIRST_FAST);
        if is_in_log { Ok(self.wanted()) } else { Err(self.wanted()) }
    }

    /// The answer as of the learned prefix. `worded` composes the value. `None` if nothing was written: an untagged
    /// answer has no form for that.
    ///
    /// # Errors
    /// The reason why a script cannot answer.
    pub fn answer(
        &self,
        learned: Instance,
        log: &LearnedLog,
        worded: impl FnOnce(Option<&Value>) -> Result<Value, String>,
    ) -> Result<Option<Message>, String> {
        let last = log.last_user().map(|(instance, _)| *instance);
        if self.tagged.is_none() && last.is_none() {
            return Ok(None);
        }
        let value = worded(self.question.as_ref())?;
        let instance = last.unwrap_or_default();
        Ok(Some(match self {
            Asked { tagged: Some(Tagged { tag: Tag { client, seq }, .. }), question: Some(_) } => {
                Message::Reply { learned, client: *client, seq: *seq, value }
            }
            Asked { tagged: Some(Tagged { tag: Tag { client, seq }, .. }), question: None } => {
                Message::Value { instance, learned, client: *client, seq: *seq, value }
            }
            Asked { tagged: None, .. } => Message::Ok { instance, value },
        }))
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
    /// run or for another node counts in a round. `is_default` makes untagged reads fast.
    pub fn new(is_default: bool, patience: Micros, boot: u64, limits: Limits) -> FastReads {
        let spread = if mutant::is(Mutant::NonceRestarts) { 0 } else { SPREAD };
        FastReads {
            bounds: limits.into(),
            is_default,
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

    /// Whether an untagged read is a fast one.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Handles a read that needs no instance. A tagged one may have fallen back to a safe read before.
    pub fn on_read(
        &mut self,
        asked: Asked,
        requests: &mut RequestQueue,
        is_in_flight: impl FnOnce(&Proposal) -> bool,
        is_leading: bool,
        replies: Replies<'_>,
        out: &mut Outbox,
    ) {
        let wanted = asked.clone().wanted();
        let is_open = requests.admit(&wanted, is_in_flight, replies, out);
        if !is_open || (asked.tagged.is_some() && requests.is_waiting(&wanted)) {
            return;
        }
        let Context { rank, now, .. } = replies.context;
        if !self.add(asked, rank, now) && is_leading {
            requests.reply_busy(&wanted, BUSY_PAUSE, replies.context, out);
        }
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

/// The instance up to which values may have been chosen with this node's vote. A node that may not vote has perhaps
/// forgotten its votes, so it has no mark. `accepted` is the highest instance in which it has accepted a value.
pub fn mark(context: Context, accepted: Option<Instance>) -> Option<Instance> {
    let may_mark = context.dialect == Dialect::Extended && context.is_voter;
    let accepted = accepted.filter(|_| !mutant::is(Mutant::MarkLearnedOnly));
    may_mark.then(|| accepted.unwrap_or_default().max(context.learned))
}
