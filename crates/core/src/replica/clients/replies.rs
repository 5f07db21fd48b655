//! The answers to clients whose requests are decided, and their lines in the node's own log.
//!
//! This module owns the content of an answer. The module `queue` decides by rank when a node sends it.

use crate::entry::Entry;
use crate::replica::clients::pending_replies::About;
use crate::replica::clients::queue::{Proposal, RequestQueue};
use crate::replica::context::Context;
use crate::replica::outbox::{Event, EventLevel, LookupPurpose, Outbox};
use crate::replica::reconfig::membership::STALE;
use crate::replica::state_machine::learned_log::LearnedLog;
use crate::replica::state_machine::sessions::DedupStatus;
use crate::types::{Instance, NodeId, Tag, Value};
use crate::wire::{Dialect, Message};

/// The least time that a client must wait after `Busy`, in milliseconds. A leader writes its waiting requests in
/// less.
pub const BUSY_PAUSE: u64 = 100;

/// How many answers of one range the log names one by one.
const NOTED_ONE_BY_ONE: u64 = 16;

/// The answers that follow from the learned log at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Replies<'a> {
    /// What the answers need to know of the rest of the node.
    pub context: Context,
    /// The learned log.
    pub log: &'a LearnedLog,
}

impl<'a> Replies<'a> {
    /// The answers of one step.
    pub fn new(context: Context, log: &'a LearnedLog) -> Replies<'a> {
        Replies { context, log }
    }

    /// Sends the answer to the request that `entry`, learned at `instance`, carries out.
    pub fn send_for(&self, entry: &Entry, instance: Instance, verdict: DedupStatus, out: &mut Outbox) {
        if let Some((_, answer)) = self.answer_to_entry(entry, instance, verdict, 0, out) {
            self.send(answer, out);
        }
    }

    /// Sends an answer, and records it for the log.
    pub fn send(&self, answer: Message, out: &mut Outbox) {
        self.note(self.context.me, &answer, out);
        out.send(answer);
    }

    /// The answer to the request that `entry`, learned at `instance`, carries out. If the value is no longer in
    /// memory, this starts a lookup instead.
    fn answer_to_entry(
        &self,
        entry: &Entry,
        instance: Instance,
        verdict: DedupStatus,
        rank: usize,
        out: &mut Outbox,
    ) -> Option<(About, Message)> {
        if let (Entry::Tagged(tagged, _), DedupStatus::New) = (entry, verdict) {
            let Tag { client, seq } = tagged.tag;
            return Some((
                About::Tag(tagged.tag),
                Message::Done { first: instance, last: instance, client, seq },
            ));
        }
        if let Some(tagged) = entry.tagged() {
            let answer = self.answer_to_tag(tagged.tag, instance, verdict, rank, out)?;
            return Some((About::Tag(tagged.tag), answer));
        }
        match entry {
            Entry::Write(value) | Entry::Changed(_, value) | Entry::Read { value, .. } => {
                let answer = Message::Ok { instance, value: value.clone() };
                Some((About::Instance(instance), answer))
            }
            Entry::Group(_, group) => {
                let value = if verdict == DedupStatus::Stale { "void".into() } else { group.reads() };
                Some((About::Instance(instance), Message::Ok { instance, value }))
            }
            _ => None,
        }
    }

    fn answer_to_tag(
        &self,
        tag: Tag,
        instance: Instance,
        verdict: DedupStatus,
        rank: usize,
        out: &mut Outbox,
    ) -> Option<Message> {
        let at = match verdict {
            DedupStatus::DoneAt(original) => original,
            DedupStatus::New => instance,
            DedupStatus::Forgotten(begin) => {
                return Some(Message::Forgotten { client: tag.client, seq: tag.seq, begin });
            }
            DedupStatus::Settled => return Some(Message::Unknown { client: tag.client, seq: tag.seq }),
            // A copy of the request may be carried out later, as the log grows.
            DedupStatus::Ahead => {
                return Some(Message::Busy { client: tag.client, seq: tag.seq, pause: BUSY_PAUSE });
            }
            DedupStatus::Stale => {
                let reason = STALE.into();
                return Some(Message::Refused { client: tag.client, seq: tag.seq, reason });
            }
            DedupStatus::Misplaced => return None,
        };
        if self.log.is_forgotten(at) {
            out.look_up(at, at, LookupPurpose::Tagged(tag, rank));
        }
        let stored = self.log.value(at)?;
        Some(answer_to_stored(tag, at, stored, self.log.is_void(at), self.context.dialect))
    }

    /// Reports in the log that a client was answered.
    pub fn note(&self, by: NodeId, answer: &Message, out: &mut Outbox) {
        if !out.tells(EventLevel::Answers) {
            return;
        }
        let mut note = |instance, value| out.event(Event::Answered { by, instance, value });
        match answer {
            Message::Ok { instance, value } | Message::Answer { instance, value, .. } => {
                note(*instance, Some(value.clone()));
            }
            Message::Done { first, last, .. } => {
                // One line of the wire must not produce a page of the log.
                if last.0 - first.0 >= NOTED_ONE_BY_ONE {
                    out.event(Event::AnsweredRange { by, first: *first, last: *last });
                    return;
                }
                for instance in (first.0..=last.0).map(Instance) {
                    note(instance, self.log.value_at(instance));
                }
            }
            Message::Refused { reason, .. } | Message::Error { reason } if by == self.context.me => {
                out.event(Event::Refused(reason.clone()));
            }
            Message::Busy { client, seq, .. } if by == self.context.me => {
                out.event(Event::Busy(Tag { client: *client, seq: *seq }));
            }
            Message::Forgotten { client, .. } if by == self.context.me => {
                out.event(Event::Refused(format!("client {client} is not known (any more)").as_str().into()));
            }
            Message::Reply { learned, value, .. } => {
                let (learned, value) = (*learned, value.clone());
                out.event(Event::Read { by, instance: Instance(0), learned, value, clients: 1 });
            }
            Message::Value { instance, learned, value, .. } => {
                let (instance, learned, value) = (*instance, *learned, value.clone());
                out.event(Event::Read { by, instance, learned, value, clients: 1 });
            }
            _ => {}
        }
    }
}

/// The answer to a tagged request whose value, `stored`, was chosen at `instance`.
pub fn answer_to_stored(
    Tag { client, seq }: Tag,
    instance: Instance,
    stored: &Value,
    is_void: bool,
    dialect: Dialect,
) -> Message {
    match Entry::decode(instance, stored, dialect) {
        Entry::Read { value, .. } => Message::Answer { instance, client, seq, value },
        Entry::Refused(_, reason) => Message::Refused { client, seq, reason },
        Entry::Group(..) if is_void => Message::Refused { client, seq, reason: STALE.into() },
        _ => Message::Done { first: instance, last: instance, client, seq },
    }
}

impl RequestQueue {
    /// Owes the answer to the request that `entry`, learned at `instance`, carries out. The leader answers first.
    pub fn schedule_reply_for(
        &mut self,
        entry: &Entry,
        instance: Instance,
        verdict: DedupStatus,
        replies: Replies<'_>,
        out: &mut Outbox,
    ) {
        let rank = self.rank().max(1);
        if let Some((about, answer)) = replies.answer_to_entry(entry, instance, verdict, rank, out) {
            self.schedule_reply(about, answer, rank, replies.context.now);
        }
    }

    /// Whether a request whose turn has come is not to be written at `instance`: it has been carried out before, is in
    /// flight (`is_retry`), or cannot be carried out yet.
    pub fn answer_instead(
        &mut self,
        wanted: &Proposal,
        instance: Instance,
        is_retry: bool,
        replies: Replies<'_>,
        out: &mut Outbox,
    ) -> bool {
        let verdict_at = |tag| replies.log.verdict_at(tag, instance);
        let verdict = wanted.tagged().map_or(DedupStatus::New, |tagged| verdict_at(tagged.tag));
        if verdict == DedupStatus::Ahead {
            self.reply_busy(wanted, BUSY_PAUSE, replies.context, out);
            return true;
        }
        is_retry || (verdict != DedupStatus::New && self.answer_if_done(wanted, replies, out))
    }

    /// Owes the answer, and returns true, if the tagged request has been carried out before.
    pub fn answer_if_done(&mut self, wanted: &Proposal, replies: Replies<'_>, out: &mut Outbox) -> bool {
        let Some(tagged) = wanted.tagged() else { return false };
        let verdict = replies.log.verdict(tagged.tag);
        if verdict == DedupStatus::New {
            return false;
        }
        let Context { rank, now, .. } = replies.context;
        let about = About::Tag(tagged.tag);
        if !self.owes(&about)
            && let Some(answer) = replies.answer_to_tag(tagged.tag, Instance(0), verdict, rank, out)
        {
            self.schedule_reply(about, answer, rank, now);
        }
        true
    }

    /// Records in the log that requests were forgotten. Only a classic node does: other clients ask again.
    pub fn note_expired(&mut self, dialect: Dialect, out: &mut Outbox) {
        if let Some((count, wanted)) = self.take_expired()
            && dialect == Dialect::Classic
        {
            out.event(Event::Warning(gave_up(count, &wanted)));
        }
    }
}

/// The warning about requests that no node carried out.
fn gave_up(count: u64, wanted: &Proposal) -> String {
    let what = match wanted {
        Proposal::Write(value) => format!("Request 0 {value}"),
        _ => "Request 0".to_owned(),
    };
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    format!(
        "gives up a request for which no quorum was found in 10 s: {what}{more}; it may be said again when enough \
         nodes run"
    )
}
