//! The dispatch of client requests to the parts of a node.
//!
//! This module owns the order of the calls only. The modules of `clients` decide what happens to a request.

use crate::replica::Replica;
use crate::replica::clients::fast_reads::{self, Asked};
use crate::replica::clients::intake::Intake;
use crate::replica::clients::queue::Proposal;
use crate::replica::clients::replies::Replies;
use crate::replica::outbox::{Event, Outbox};
use crate::replica::state_machine::script_hooks;
use crate::types::{Epoch, Instance, Micros};
use crate::wire::{Message, Request};

impl Replica {
    /// Handles a client's line.
    pub(in crate::replica) fn on_request(&mut self, request: Request, now: Micros, out: &mut Outbox) {
        match Intake::of(request, self.dialect, self.reads.is_default()) {
            Intake::Ignored => {}
            Intake::Quit => out.event(Event::Quit),
            Intake::Members => self.on_members(now),
            Intake::History(instance) => {
                let replies = Replies::new(self.context(now), &self.history);
                self.requests.on_history(instance, replies, out);
            }
            Intake::Refused(reason) => self.refuse(None, &reason, now, out),
            Intake::FastRead(asked) => self.on_fast_read(asked, now, out),
            Intake::Proposal(wanted) => self.submit(wanted, now, out),
        }
    }

    /// Queues a request that ends in a value of the log, unless it has been carried out.
    pub(in crate::replica) fn submit(&mut self, wanted: Proposal, now: Micros, out: &mut Outbox) {
        let replies = Replies::new(self.context(now), &self.history);
        let is_in_flight = |wanted: &Proposal| self.leader.is_under_way(wanted);
        if !self.requests.admit(&wanted, is_in_flight, replies, out) {
            return;
        }
        if matches!(wanted, Proposal::Change(..)) && !self.on_change(&wanted, now, out) {
            return;
        }
        let context = self.context(now);
        self.requests.queue(wanted, self.leader.is_leading(), context, out);
    }

    /// Handles a read that needs no instance. A node without a script that answers queries leaves a question to the
    /// others; the leader refuses it.
    fn on_fast_read(&mut self, asked: Asked, now: Micros, out: &mut Outbox) {
        let is_leading = self.leader.is_leading();
        if asked.question.is_some() && out.hooks.as_ref().is_none_or(|hooks| hooks.reader().is_none()) {
            if is_leading {
                self.refuse(Some(&asked.wanted()), script_hooks::NO_READER, now, out);
            }
            return;
        }
        let replies = Replies::new(self.context(now), &self.history);
        let is_in_flight = |wanted: &Proposal| self.leader.is_under_way(wanted);
        self.reads.on_read(asked, &mut self.requests, is_in_flight, is_leading, replies, out);
    }

    /// `AskMark`: answered only in the epoch in force.
    pub(in crate::replica) fn on_ask_mark(
        &mut self,
        epoch: Epoch,
        nonce: u64,
        now: Micros,
        out: &mut Outbox,
    ) {
        if epoch != self.history.group().epoch {
            self.on_other_epoch(epoch, true, now);
        } else if let Some(mark) = self.mark(now) {
            out.send(Message::Mark { epoch, nonce, mark });
        }
    }

    /// The instance up to which values may have been chosen with this node's vote.
    pub(in crate::replica) fn mark(&self, now: Micros) -> Option<Instance> {
        fast_reads::mark(self.context(now), self.acceptor.highest_accepted())
    }

    /// Refuses a request, or a client's line without one.
    pub(in crate::replica) fn refuse(
        &mut self,
        wanted: Option<&Proposal>,
        reason: &str,
        now: Micros,
        out: &mut Outbox,
    ) {
        let context = self.context(now);
        self.requests.refuse(wanted, reason, context, out);
    }

    /// Tells a client that there is no room for its request now.
    pub(in crate::replica) fn reply_busy(
        &mut self,
        wanted: &Proposal,
        pause: u64,
        now: Micros,
        out: &mut Outbox,
    ) {
        let context = self.context(now);
        self.requests.reply_busy(wanted, pause, context, out);
    }

    /// The answers that follow from the learned log now.
    pub(in crate::replica) fn replies(&self, now: Micros) -> Replies<'_> {
        Replies::new(self.context(now), &self.history)
    }
}
