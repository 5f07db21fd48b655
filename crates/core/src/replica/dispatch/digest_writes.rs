//! The dispatch of named writes to the parts of a node.
//!
//! This module owns the order of the calls only. The module `paxos::digest_writes` decides what becomes of a named
//! write.

use crate::digest_write::NamedWrite;
use crate::replica::Replica;
use crate::replica::outbox::Outbox;
use crate::types::{Ballot, Instance, Micros, NodeId};
use crate::wire::Message;

impl Replica {
    /// `WriteTags`: handles a named write like that many `Write`s, once the requests are here. `until` is the end of
    /// its wait, if it waited already.
    pub(in crate::replica) fn on_write_tags(
        &mut self,
        from: NodeId,
        write: NamedWrite,
        until: Option<Micros>,
        now: Micros,
        out: &mut Outbox,
    ) {
        let NamedWrite { first, last, ballot, .. } = write;
        let context = self.context(now);
        // The leader has not heard that these instances are chosen.
        self.repair.owe_learned(first, last, context.learned, now);
        let may_accept = self.may_accept(last, now);
        let (acceptor, requests) = (&self.acceptor, &self.requests);
        let named = (from, write, until);
        for (instance, tag, value) in
            self.naming.on_write_tags(named, may_accept, acceptor, requests, context, out)
        {
            self.requests.on_tag_taken_up(tag, now);
            self.take_up_write(instance, ballot, &value, out);
        }
    }

    /// Handles the waiting writes whose requests are here now. Asks for the ones that have waited too long.
    pub(in crate::replica) fn take_up_named(&mut self, now: Micros, out: &mut Outbox) {
        for (from, write, until) in self.naming.take_waiting() {
            // The group may have changed since the write arrived.
            let message = Message::WriteTags(write);
            if self.history.group().members.contains(&from)
                && self.is_plausible(from, &message, now, out)
                && let Message::WriteTags(write) = message
            {
                self.on_write_tags(from, write, Some(until), now, out);
            }
        }
    }

    /// `Fetch`: a node lacks values that this node named.
    pub(in crate::replica) fn on_fetch(
        &mut self,
        (first, last): (Instance, Instance),
        ballot: Ballot,
        now: Micros,
        out: &mut Outbox,
    ) {
        if self.leader.ballot() != Some(ballot) {
            return;
        }
        self.requests.on_lacking(now);
        self.repair.owe_learned(first, last, self.learner.learned(), now);
        self.leader.write_in_full(first, last, now, out);
    }
}
