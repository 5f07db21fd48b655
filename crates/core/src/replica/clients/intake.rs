//! The intake of client requests, and the refusals that need no log entry.
//!
//! This module owns the first look at a request. The modules `queue` and `advance` decide what happens to it later.

use crate::mutant::{self, Mutant};
use crate::replica::clients::fast_reads::Asked;
use crate::replica::clients::pending_replies::About;
use crate::replica::clients::queue::{Proposal, RequestQueue};
use crate::replica::clients::replies::{BUSY_PAUSE, Replies};
use crate::replica::context::Context;
use crate::replica::outbox::{Event, LookupPurpose, Outbox};
use crate::types::{Instance, Micros, Tagged, Value};
use crate::wire::{Dialect, Message, Request};

/// The use that a node makes of a client's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// A classic node does not know this request.
    Ignored,
    /// The node is asked to end.
    Quit,
    /// A client asks for the members of the group.
    Members,
    /// A client asks for the value of an instance.
    History(Instance),
    /// The request is wrong, for this reason.
    Refused(String),
    /// A read that needs no instance.
    FastRead(Asked),
    /// A request that ends in a value of the log.
    Proposal(Proposal),
}

impl Intake {
    /// The use of a request in a group of this dialect. `is_fast` says that an untagged read is a fast one.
    pub fn of(request: Request, dialect: Dialect, is_fast: bool) -> Intake {
        let is_classic = dialect == Dialect::Classic;
        match request {
            Request::Quit => Intake::Quit,
            Request::Members if is_classic => Intake::Ignored,
            Request::Members => Intake::Members,
            Request::History(instance) => Intake::History(instance),
            Request::Misplaced(instance, _) => Intake::Refused(format!(
                "Request {instance} with a value: a write cannot choose its instance; to write, say Request 0 VALUE, to read, \
                 Request {instance}"
            )),
            Request::Write(value) => Intake::Proposal(Proposal::Write(value)),
            // A classic node does not know tags.
            Request::Submit(..)
            | Request::TaggedRead(_)
            | Request::FastRead(_)
            | Request::Query(..)
            | Request::FastQuery(..)
                if is_classic =>
            {
                Intake::Ignored
            }
            Request::Read if is_fast => Intake::FastRead(Asked::default()),
            Request::FastRead(tagged) => Intake::FastRead(Asked::read(tagged)),
            Request::FastQuery(tagged, question) => Intake::FastRead(Asked::query(tagged, question)),
            Request::Query(tagged, question) => Intake::Proposal(Proposal::Query(tagged, question)),
            Request::Read => Intake::Proposal(Proposal::Read),
            Request::Submit(tagged, value) => Intake::Proposal(Proposal::Tagged(tagged, value)),
            Request::TaggedRead(tagged) => Intake::Proposal(Proposal::TaggedRead(tagged)),
            Request::Change(tagged, change) => Intake::Proposal(Proposal::Change(tagged, change)),
        }
    }
}

impl RequestQueue {
    /// Whether a request is still to be carried out. A malformed request, and one that was carried out before, get
    /// their replies here. `is_in_flight` tells whether this node proposes the request already.
    pub fn admit(
        &mut self,
        wanted: &Proposal,
        is_in_flight: impl FnOnce(&Proposal) -> bool,
        replies: Replies<'_>,
        out: &mut Outbox,
    ) -> bool {
        if self.refuse_malformed(wanted, replies.context, out) {
            return false;
        }
        wanted.tagged().is_none() || !(self.answer_if_done(wanted, replies, out) || is_in_flight(wanted))
    }

    /// Queues a request. A leader without room tells some of the clients.
    pub fn queue(&mut self, wanted: Proposal, is_leading: bool, context: Context, out: &mut Outbox) {
        if let Err(wanted) = self.add(wanted, context.now)
            && is_leading
            && self.may_say_that_it_is_full()
        {
            self.reply_busy(&wanted, BUSY_PAUSE, context, out);
        }
    }

    /// Refuses a request that no node accepts. The refusal is not final for its tag: the client may send it again
    /// in other words.
    fn refuse_malformed(&mut self, wanted: &Proposal, context: Context, out: &mut Outbox) -> bool {
        let Some(reason) = wanted.refusal() else { return false };
        let reason = match wanted.tagged() {
            Some(Tagged { tag, .. }) => format!("request {} {}: {reason}", tag.client, tag.seq),
            None => reason.into(),
        };
        self.refuse(None, &reason, context, out);
        true
    }

    /// Owes the value of an instance to a client, or looks it up.
    pub fn on_history(
        &mut self,
        instance: Instance,
        Replies { context, log }: Replies<'_>,
        out: &mut Outbox,
    ) {
        let Context { rank, learned, now, .. } = context;
        if log.is_forgotten(instance) {
            if !self.owes(&About::Instance(instance)) {
                out.look_up(instance, instance, LookupPurpose::Request(rank));
            }
            return;
        }
        let answer = match log.value_at(instance) {
            Some(value) => Message::Ok { instance, value },
            // The classic grammar has no form for this answer.
            None if context.dialect == Dialect::Classic => return,
            None => Message::NotYet { instance, learned },
        };
        self.schedule_reply(About::Instance(instance), answer, rank, now);
    }

    /// Refuses a request, by its tag if it has one. A classic node only logs the refusal.
    pub fn refuse(&mut self, wanted: Option<&Proposal>, reason: &str, context: Context, out: &mut Outbox) {
        let reason = Value::from(reason);
        if context.dialect == Dialect::Classic {
            return out.event(Event::Refused(reason));
        }
        let (about, answer) = match wanted.and_then(Proposal::tagged) {
            Some(tagged) => {
                let (client, seq) = (tagged.tag.client, tagged.tag.seq);
                (About::Tag(tagged.tag), Message::Refused { client, seq, reason })
            }
            None => (About::Error(reason.clone()), Message::Error { reason }),
        };
        self.schedule_reply(about, answer, context.rank, context.now);
    }

    /// Tells a client that there is no room for its request now. A node that heard it may still carry it out later.
    pub fn reply_busy(&mut self, wanted: &Proposal, pause: u64, context: Context, out: &mut Outbox) {
        match wanted.tagged() {
            Some(Tagged { tag, .. }) if !mutant::is(Mutant::RefusedForBusy) => {
                let busy = Message::Busy { client: tag.client, seq: tag.seq, pause };
                self.schedule_reply(About::Tag(tag), busy, context.rank, context.now);
            }
            _ => self.refuse(Some(wanted), "too many requests wait; try again later", context, out),
        }
    }

    /// `Relay`: queues a request that another node passes on. `is_in_flight` tells whether this leader proposes it
    /// already.
    pub fn on_relay(
        &mut self,
        value: Option<Value>,
        is_in_flight: impl FnOnce(&Proposal) -> bool,
        now: Micros,
    ) {
        let wanted = value.map_or(Proposal::Read, Proposal::Write);
        // A read in flight may be older than this one.
        let is_under_way = !wanted.is_read() && is_in_flight(&wanted);
        if !is_under_way && !self.is_waiting(&wanted) && wanted.refusal().is_none() {
            // Without room it is dropped, as if the relay had been lost.
            let _ = self.add(wanted, now);
        }
    }
}
