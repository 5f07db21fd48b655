//! The answers to clients whose requests are decided, and their lines in the node's own log.
//!
//! This module owns the content of an answer. The module `requests` decides by rank when a node sends it.

use crate::entry::Entry;
use crate::replica::Replica;
use crate::replica::clients::queue::{About, Proposal};
use crate::replica::outbox::{Event, EventLevel, LookupPurpose, Outbox};
use crate::replica::state_machine::sessions::DedupStatus;
use crate::types::{Instance, Micros, NodeId, Tag, Value};
use crate::wire::Message;

/// How many answers of one range the log names one by one.
const NOTED_ONE_BY_ONE: u64 = 16;

impl Replica {
    pub(in crate::replica) fn send_reply_for(
        &mut self,
        entry: &Entry,
        instance: Instance,
        verdict: DedupStatus,
        out: &mut Outbox,
    ) {
        if let Some((_, answer)) = self.answer(entry, instance, verdict, 0, out) {
            self.send_reply(answer, out);
        }
    }

    pub(in crate::replica) fn schedule_reply_for(
        &mut self,
        entry: &Entry,
        instance: Instance,
        verdict: DedupStatus,
        now: Micros,
        out: &mut Outbox,
    ) {
        let rank = self.requests.rank().max(1);
        if let Some((about, answer)) = self.answer(entry, instance, verdict, rank, out) {
            self.requests.schedule_reply(about, answer, rank, now);
        }
    }

    /// Sends an answer, and records it for the log.
    pub(in crate::replica) fn send_reply(&mut self, answer: Message, out: &mut Outbox) {
        self.note_answer(self.id, &answer, out);
        out.send(answer);
    }

    /// The answer to the request that `entry`, learned at `instance`, carries out. If the value is no longer in
    /// memory, this starts a lookup instead.
    fn answer(
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
                return Some(Message::Busy { client: tag.client, seq: tag.seq, pause: Replica::BUSY_PAUSE });
            }
            DedupStatus::Stale => {
                let reason = Replica::STALE.into();
                return Some(Message::Refused { client: tag.client, seq: tag.seq, reason });
            }
            DedupStatus::Misplaced => return None,
        };
        if self.history.is_forgotten(at) {
            out.look_up(at, at, LookupPurpose::Tagged(tag, rank));
        }
        Some(self.answer_with(tag, at, self.history.value(at)?, self.history.is_void(at)))
    }

    pub(in crate::replica) fn answer_with(
        &self,
        Tag { client, seq }: Tag,
        instance: Instance,
        stored: &Value,
        is_void: bool,
    ) -> Message {
        match Entry::decode(instance, stored, self.dialect) {
            Entry::Read { value, .. } => Message::Answer { instance, client, seq, value },
            Entry::Refused(_, reason) => Message::Refused { client, seq, reason },
            Entry::Group(..) if is_void => Message::Refused { client, seq, reason: Replica::STALE.into() },
            _ => Message::Done { first: instance, last: instance, client, seq },
        }
    }

    /// Owes the answer, and returns true, if the tagged request has been carried out before.
    pub(in crate::replica) fn answer_if_done(
        &mut self,
        wanted: &Proposal,
        now: Micros,
        out: &mut Outbox,
    ) -> bool {
        let Some(tagged) = wanted.tagged() else { return false };
        let verdict = self.history.verdict(tagged.tag);
        if verdict == DedupStatus::New {
            return false;
        }
        let rank = self.rank();
        let about = About::Tag(tagged.tag);
        if !self.requests.owes(&about)
            && let Some(answer) = self.answer_to_tag(tagged.tag, Instance(0), verdict, rank, out)
        {
            self.requests.schedule_reply(about, answer, rank, now);
        }
        true
    }

    /// Reports in the log that a client was answered.
    pub(in crate::replica) fn note_answer(&self, by: NodeId, answer: &Message, out: &mut Outbox) {
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
                    note(instance, self.history.value_at(instance));
                }
            }
            Message::Refused { reason, .. } | Message::Error { reason } if by == self.id => {
                out.event(Event::Refused(reason.clone()));
            }
            Message::Busy { client, seq, .. } if by == self.id => {
                out.event(Event::Busy(Tag { client: *client, seq: *seq }));
            }
            Message::Forgotten { client, .. } if by == self.id => {
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
