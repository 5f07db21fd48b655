//! Fast reads: what was written last, as of a prefix that holds every write done before, without an instance.
//!
//! Owns the reads that wait, and the rounds that earn their answers: a round asks all nodes for a mark
//! under a nonce of its own, and is over when a quorum has marked. Whatever was chosen before the question
//! was sent was accepted by a quorum, so the highest of these marks is not below it. One round serves all
//! reads received before it was first sent, and none that came later. Time decides here only when to ask
//! again and when to stop waiting, never whether an answer is right. It neither learns nor answers: the
//! node does, when it has learned up to the mark.

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::limits::{Bound, Bounds, Limits, Reached};
use super::outbox::Outbox;
use super::requests::{ANSWER_STEP, Wanted};
use crate::mutant::{self, Mutant};
use crate::types::{
    Epoch, FIRST_FAST, Group, Instance, MAX_NUMBER, Micros, NodeId, Tag, Tagged, Value, Votes,
};
use crate::wire::Message;

/// How soon a question is repeated, for the first time and at the latest: several round trips.
const RETRY_MIN: Micros = Micros::from_millis(10);
const RETRY_MAX: Micros = Micros::from_millis(100);

/// Spreads the beginnings of nonces over all numbers, however alike two boots are: odd, so that no two boots
/// begin alike.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The count of reads, in the order in which they came.
type Ticket = u64;

/// The fast reads of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reads {
    bounds: Bounds,
    /// How long a read may wait.
    patience: Micros,
    /// That of the next round.
    nonce: u64,
    next: Ticket,
    open: BTreeMap<Ticket, Read>,
    tags: BTreeMap<Tag, Ticket>,
    untagged: BTreeSet<Ticket>,
    /// Those that no round serves so far, by the time at which it is this node's turn.
    queue: BTreeSet<(Micros, Ticket)>,
    round: Option<Round>,
    /// What is served once this node has learned enough.
    marked: Vec<Marked>,
}

/// What a client asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    /// `None` for a `Request 0`.
    pub tagged: Option<Tagged>,
    /// What a script is to answer; `None` for the last value.
    pub question: Option<Value>,
}

impl Asked {
    /// The last value, by a tagged request.
    pub fn read(tagged: Tagged) -> Asked {
        Asked { tagged: Some(tagged), question: None }
    }

    /// What a fast read falls back to.
    fn wanted(self) -> Wanted {
        match (self.tagged, self.question) {
            (Some(tagged), Some(question)) => Wanted::Query(tagged, question),
            (Some(tagged), None) => Wanted::TaggedRead(tagged),
            (None, _) => Wanted::Read,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Read {
    asked: Asked,
    since: Micros,
    /// When it is this node's turn.
    due: Micros,
}

/// A question to all: how far may values have been chosen?
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

impl Reads {
    /// No reads. `boot` is the random number of this life: nonces count on from it, so that no mark of an
    /// earlier life, or for another node, is taken for one of a round.
    pub fn new(patience: Micros, boot: u64, limits: Limits) -> Reads {
        let spread = if mutant::is(Mutant::NonceRestarts) { 0 } else { SPREAD };
        Reads {
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

    /// Which of its bounds were reached.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Adds a read, unless it waits already (a retry). Those before in rank have the time to answer first.
    /// False when there is no room.
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

    /// Somebody else answered this tagged request.
    pub fn on_answered(&mut self, tag: Tag) {
        if let Some(ticket) = self.tags.get(&tag) {
            self.take(*ticket);
        }
    }

    /// Somebody else answered a `Request 0`: the one that waits longest, for all that can be told.
    pub fn on_answered_untagged(&mut self) {
        if let Some(ticket) = self.untagged.first() {
            self.take(*ticket);
        }
    }

    /// `Mark`: `from` says how far values may have been chosen when it was asked. Any mark of a round but
    /// the one under way may be older than the reads that this one serves.
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

    /// Takes the reads that have waited too long, with their tags.
    pub fn take_late(&mut self, now: Micros) -> Vec<Asked> {
        let mut late = Vec::new();
        while let Some((ticket, read)) = self.open.first_key_value()
            && now.since(read.since) >= self.patience
        {
            late.extend(self.take(*ticket));
        }
        late
    }

    /// Takes the reads that may be answered by whoever has learned up to `learned`, where `epoch` is in
    /// force: no write done, nor any change of the group, before they were asked is above.
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

    /// Up to where this node must learn for the reads that have their marks.
    pub fn must_learn(&self) -> Option<Instance> {
        self.marked.iter().map(|marked| marked.highest).max()
    }

    /// When something is to be asked, asked again, or given up.
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

    /// The group has changed under a question: a quorum of the old one knows nothing of the new one's
    /// writes.
    fn ask_again(&mut self, tickets: Vec<Ticket>, now: Micros) {
        for ticket in tickets {
            if let Some(read) = self.open.get_mut(&ticket) {
                read.due = now;
                self.queue.insert((now, ticket));
            }
        }
    }

    /// Takes a read, if it still waits. Rounds that name its ticket find nothing any more.
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

impl Node {
    /// A read that needs no instance; a tagged one may have fallen back to a safe read before.
    pub(super) fn on_fast_read(&mut self, asked: Asked, now: Micros, out: &mut Outbox) {
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
            self.say_busy(&wanted, Node::BUSY_PAUSE, now, out);
        }
    }

    /// A question to the scripts. A node that has none to answer it leaves it to the others; the leader says so.
    pub(super) fn on_fast_query(&mut self, tagged: Tagged, question: Value, now: Micros, out: &mut Outbox) {
        let asked = Asked { tagged: Some(tagged), question: Some(question) };
        if out.hooks.as_ref().is_some_and(|hooks| hooks.reader().is_some()) {
            self.on_fast_read(asked, now, out);
        } else if self.leader.is_leading() {
            self.refuse(Some(&asked.wanted()), Node::NO_READER, now, out);
        }
    }

    /// Asks for marks, and makes safe reads of the reads that have waited too long.
    pub(super) fn read(&mut self, now: Micros, out: &mut Outbox) {
        let own = self.mark().map(|mark| (self.id, mark));
        self.reads.tick(&self.group, own, now, out);
        for late in self.reads.take_late(now) {
            let is_in_log = late.tagged.is_none_or(|tagged| tagged.tag.seq < FIRST_FAST);
            match late.wanted() {
                wanted if is_in_log => self.want(wanted, now, out),
                // It has no number that could stand in the log: its client asks for a safe read, under another.
                wanted => self.say_busy(&wanted, 0, now, out),
            }
        }
    }

    /// Answers the reads whose round is over, once this node has learned enough.
    pub(super) fn answer_reads(&mut self, now: Micros, out: &mut Outbox) {
        let learned = self.learner.learned();
        for asked in self.reads.take_ready(self.group.epoch, learned, now) {
            match self.fast_answer(&asked, learned, out) {
                Ok(Some(answer)) => self.give(answer, out),
                // That nothing was written cannot be said in the form of an untagged answer.
                Ok(None) => self.want(Wanted::Read, now, out),
                Err(reason) => self.reject(&asked.wanted(), &reason, now, out),
            }
        }
    }

    fn fast_answer(&self, asked: &Asked, learned: Instance, out: &Outbox) -> Result<Option<Message>, String> {
        let last = self.history.last_user().map(|(instance, _)| *instance);
        if asked.tagged.is_none() && last.is_none() {
            return Ok(None);
        }
        let value = self.worded(asked.question.as_ref(), out)?;
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

    /// `AskMark`: answered in the epoch in force alone.
    pub(super) fn on_ask_mark(&mut self, epoch: Epoch, nonce: u64, now: Micros, out: &mut Outbox) {
        if epoch != self.group.epoch {
            self.on_other_epoch(epoch, true, now);
        } else if let Some(mark) = self.mark() {
            out.send(Message::Mark { epoch, nonce, mark });
        }
    }

    /// How far values may have been chosen with this node's vote. Who may not vote has forgotten, perhaps,
    /// what it voted for.
    fn mark(&self) -> Option<Instance> {
        let may_mark = self.classic.is_none() && self.is_voter();
        let accepted = self.acceptor.highest_accepted().filter(|_| !mutant::is(Mutant::MarkLearnedOnly));
        may_mark.then(|| accepted.unwrap_or_default().max(self.learner.learned()))
    }
}
