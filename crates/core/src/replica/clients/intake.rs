//! The intake of client requests, and the refusals that need no log entry.
//!
//! This module owns the first look at a request. The modules `settle` and `requests` decide what happens to it
//! later.

use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::clients::fast_reads::Asked;
use crate::replica::clients::queue::{About, Proposal};
use crate::replica::outbox::{Event, LookupPurpose, Outbox};
use crate::types::{Instance, Micros, Tagged, Value};
use crate::wire::{Message, Request};

impl Replica {
    /// Handles a client's line.
    pub(in crate::replica) fn on_request(&mut self, request: Request, now: Micros, out: &mut Outbox) {
        let wanted = match request {
            Request::Quit => return out.event(Event::Quit),
            Request::Members if self.classic.is_some() => return,
            Request::Members => return self.on_members(now),
            Request::History(instance) => return self.on_history(instance, now, out),
            Request::Misplaced(instance, _) => {
                let reason = format!(
                    "Request {instance} with a value: nobody chooses an instance; to write, say Request 0 VALUE, \
                     to read, Request {instance}"
                );
                return self.refuse(None, &reason, now, out);
            }
            Request::Write(value) => Proposal::Write(value),
            // A classic node does not know tags.
            Request::Submit(..)
            | Request::TaggedRead(_)
            | Request::FastRead(_)
            | Request::Query(..)
            | Request::FastQuery(..)
                if self.classic.is_some() =>
            {
                return;
            }
            Request::Read if self.fast_read => return self.on_fast_read(Asked::default(), now, out),
            Request::FastRead(tagged) => return self.on_fast_read(Asked::read(tagged), now, out),
            Request::FastQuery(tagged, question) => return self.on_fast_query(tagged, question, now, out),
            Request::Query(tagged, question) => Proposal::Query(tagged, question),
            Request::Read => Proposal::Read,
            Request::Submit(tagged, value) => Proposal::Tagged(tagged, value),
            Request::TaggedRead(tagged) => Proposal::TaggedRead(tagged),
            Request::Change(tagged, change) => Proposal::Change(tagged, change),
        };
        self.submit(wanted, now, out);
    }

    /// Queues a request that ends in a value of the log, unless it has been carried out.
    pub(in crate::replica) fn submit(&mut self, wanted: Proposal, now: Micros, out: &mut Outbox) {
        if self.is_malformed(&wanted, now, out) {
            return;
        }
        let is_tagged = wanted.tagged().is_some();
        if is_tagged && (self.answer_if_done(&wanted, now, out) || self.leader.is_under_way(&wanted)) {
            return;
        }
        if matches!(wanted, Proposal::Change(..)) && !self.on_change(&wanted, now, out) {
            return;
        }
        if let Err(wanted) = self.requests.add(wanted, now)
            && self.leader.is_leading()
            && self.requests.may_say_that_it_is_full()
        {
            self.reply_busy(&wanted, Replica::BUSY_PAUSE, now, out);
        }
    }

    /// Refuses a request that no node accepts. The refusal is not final for its tag: the client may send it again
    /// in other words.
    pub(in crate::replica) fn is_malformed(
        &mut self,
        wanted: &Proposal,
        now: Micros,
        out: &mut Outbox,
    ) -> bool {
        let Some(reason) = wanted.refusal() else { return false };
        let reason = match wanted.tagged() {
            Some(Tagged { tag, .. }) => format!("request {} {}: {reason}", tag.client, tag.seq),
            None => reason.into(),
        };
        self.refuse(None, &reason, now, out);
        true
    }

    fn on_history(&mut self, instance: Instance, now: Micros, out: &mut Outbox) {
        if self.history.is_forgotten(instance) {
            if !self.requests.owes(&About::Instance(instance)) {
                out.look_up(instance, instance, LookupPurpose::Request(self.rank()));
            }
            return;
        }
        let learned = self.learner.learned();
        let answer = match self.history.value_at(instance) {
            Some(value) => Message::Ok { instance, value },
            // The classic grammar has no form for this answer.
            None if self.classic.is_some() => return,
            None => Message::NotYet { instance, learned },
        };
        let rank = self.rank();
        self.requests.schedule_reply(About::Instance(instance), answer, rank, now);
    }

    pub(in crate::replica) fn refuse(
        &mut self,
        wanted: Option<&Proposal>,
        reason: &str,
        now: Micros,
        out: &mut Outbox,
    ) {
        if self.classic.is_some() {
            return out.event(Event::Refused(Value::from(reason)));
        }
        let rank = self.rank();
        let reason = Value::from(reason);
        let (about, answer) = match wanted.and_then(Proposal::tagged) {
            Some(tagged) => {
                let (client, seq) = (tagged.tag.client, tagged.tag.seq);
                (About::Tag(tagged.tag), Message::Refused { client, seq, reason })
            }
            None => (About::Error(reason.clone()), Message::Error { reason }),
        };
        self.requests.schedule_reply(about, answer, rank, now);
    }

    /// The least time that a client must wait after `Busy`, in milliseconds. A leader writes its waiting requests
    /// in less.
    pub(in crate::replica) const BUSY_PAUSE: u64 = 100;

    /// Tells a client that there is no room for its request now. A node that heard it may still carry it out later.
    pub(in crate::replica) fn reply_busy(
        &mut self,
        wanted: &Proposal,
        pause: u64,
        now: Micros,
        out: &mut Outbox,
    ) {
        match wanted.tagged() {
            Some(Tagged { tag, .. }) if !mutant::is(Mutant::RefusedForBusy) => {
                let busy = Message::Busy { client: tag.client, seq: tag.seq, pause };
                let rank = self.rank();
                self.requests.schedule_reply(About::Tag(tag), busy, rank, now);
            }
            _ => self.refuse(Some(wanted), "too many requests wait; try again later", now, out),
        }
    }

    pub(in crate::replica) fn on_relay(&mut self, value: Option<Value>, now: Micros) {
        let wanted = value.map_or(Proposal::Read, Proposal::Write);
        // A read in flight may be older than this one.
        let is_under_way = !wanted.is_read() && self.leader.is_under_way(&wanted);
        if !is_under_way && !self.requests.is_waiting(&wanted) && wanted.refusal().is_none() {
            // Without room it is dropped, as if the relay had been lost.
            let _ = self.requests.add(wanted, now);
        }
    }
}
