//! Lines of non-members: joiners, nodes that know a later group, and nodes that were removed from this group.
//!
//! This module owns what this node believes of them. They may ask and report, and their votes do not count.
//! Statements of another group on the same wire are never believed.

use crate::record::Record;
use crate::replica::Replica;
use crate::replica::outbox::Outbox;
use crate::types::{Epoch, Instance, Micros, NodeId};
use crate::wire::kinds;
use crate::wire::{Beat, Boot, Message};

impl Replica {
    /// Handles a line of a non-member: a joiner, a node that knows a later group, or a node that was removed from
    /// this group. It may ask. It may report if its heartbeat shows that it belongs to this group. Its votes do not
    /// count.
    pub(in crate::replica) fn on_stranger(
        &mut self,
        from: NodeId,
        message: Message,
        now: Micros,
        out: &mut Outbox,
    ) {
        let is_known = self.election.boot_of(from, now).is_some();
        if let Some((ballot, _)) = kinds::ballot_of(&message).filter(|_| is_known) {
            self.on_other_epoch(ballot.epoch, kinds::asks(&message), now);
        }
        match message {
            Message::Beat(beat) => self.on_strange_beat(from, beat, now),
            Message::Join { learned } => self.on_join(from, learned, None, now, out),
            Message::JoinFor { learned, replaces } => self.on_join(from, learned, Some(replaces), now, out),
            Message::Gap { .. } => self.on_message(from, message, now, out),
            Message::AskMark { .. }
            | Message::Pace(_)
            | Message::Written { .. }
            | Message::AskDigest { .. }
            | Message::AskChain { .. }
                if is_known =>
            {
                self.on_message(from, message, now, out);
            }
            Message::Register { n, boot, .. }
                if n == self.n() && self.history.membership().was_member(from) =>
            {
                out.send(Message::Barred { node: from, boot: boot.boot, known: Boot::default() });
            }
            Message::Barred { .. } => self.on_message(from, message, now, out),
            Message::Ok { .. }
            | Message::Done { .. }
            | Message::Answer { .. }
            | Message::Value { .. }
            | Message::Reply { .. }
            | Message::NotYet { .. }
            | Message::Members { .. }
                if is_known =>
            {
                self.on_answer(from, &message, now, out);
            }
            // This node compares its digests with the members'. The members compare theirs with each other.
            Message::Digest { .. } | Message::Chain { .. } | Message::Differs { .. } if is_known => {}
            _ => self.dropped.strangers += 1,
        }
    }

    /// Handles the heartbeat of a non-member. A joiner learns the size of the first group from a node that hears
    /// it, and records the size with the first instance that it learns. A single heartbeat may be damaged, so two
    /// in a row must name the same size.
    fn on_strange_beat(&mut self, from: NodeId, beat: Beat, now: Micros) {
        if self.n() == 0 && beat.n > 0 && beat.heard.contains(&self.id) && self.identity.is_told_twice(beat.n)
        {
            let genesis = self.history.recover(&Record::Genesis { n: beat.n });
            genesis.expect("the size of a group says nothing about scripts");
        }
        // A joiner does not know its n before a peer names it.
        let is_ours = beat.n == self.n() || beat.n == 0 || self.n() == 0;
        if !is_ours || !self.election.has_room_for(from, self.history.group(), now) {
            self.dropped.strangers += 1;
            return;
        }
        if self.election.on_heard(from, now) {
            self.candidacy.beat_again_at(now);
        }
        if beat.n == self.n() && beat.n > 0 {
            self.election.on_beat(from, beat, now);
        }
    }

    /// Records a report that `instance` is chosen. It is believed for one timeout; a true report is repeated.
    pub(in crate::replica) fn claim(&mut self, instance: Instance, now: Micros) {
        let (known, at) = self.claimed;
        let is_fresh = now.since(at) < self.timing.timeout();
        self.claimed = (if is_fresh { instance.max(known) } else { instance }, now);
    }

    /// Handles a line that names another epoch than the one in force. `asks` says that it asks for votes.
    pub(in crate::replica) fn on_other_epoch(&mut self, epoch: Epoch, asks: bool, now: Micros) {
        if epoch > self.history.group().epoch {
            // A chosen change at that instance started the epoch, so this node must learn up to there.
            self.claim(Instance(epoch.0), now);
        } else if epoch < self.history.group().epoch && asks {
            // The sender has missed a change of the group. A heartbeat tells it how far it has to learn.
            self.candidacy.beat_again_at(now);
        }
    }
}
