//! Lines of nodes that are no members: they want to join, know of a later group, or were put out of this one.
//!
//! Owns what is believed of them: they may ask, and tell, and their votes are none. Nothing that another group
//! on the same wire says is taken for news.

use super::Node;
use super::outbox::Outbox;
use crate::record::Record;
use crate::types::{Epoch, Instance, Micros, NodeId};
use crate::wire::{Beat, Boot, Message};

impl Node {
    /// A line from a node that is no member: one that wants to join, or knows of a later group, or was put
    /// out of this one. It may ask, and tell if its beat shows that it is of this group's making; its votes are
    /// none.
    pub(super) fn on_stranger(&mut self, from: NodeId, message: Message, now: Micros, out: &mut Outbox) {
        let is_known = self.election.boot_of(from, now).is_some();
        if let Some((ballot, _)) = super::messages::ballot_of(&message).filter(|_| is_known) {
            self.on_other_epoch(ballot.epoch, asks(&message), now);
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
                self.on_answer(from, &message, out);
            }
            // It compares what it computed with what the members say; they compare with each other.
            Message::Digest { .. } | Message::Chain { .. } | Message::Differs { .. } if is_known => {}
            _ => self.dropped.strangers += 1,
        }
    }

    /// A node that joins hears from whoever hears it how large the first group was; it writes that down with
    /// the first instance it learns. One beat may be damaged: two that follow each other have to say the same.
    fn on_strange_beat(&mut self, from: NodeId, beat: Beat, now: Micros) {
        if self.n() == 0 && beat.n > 0 && beat.heard.contains(&self.id) && self.identity.is_told_twice(beat.n)
        {
            let genesis = self.history.recover(&Record::Genesis { n: beat.n });
            genesis.expect("the size of a group says nothing about scripts");
            self.group = self.history.membership().group().clone();
        }
        // Who joins does not know its n before it is heard.
        let is_ours = beat.n == self.n() || beat.n == 0 || self.n() == 0;
        if !is_ours || !self.election.has_room_for(from, &self.group, now) {
            self.dropped.strangers += 1;
            return;
        }
        if self.election.on_heard(from, now) {
            self.beat_at = now;
        }
        if beat.n == self.n() && beat.n > 0 {
            self.election.on_beat(from, beat, now);
        }
    }

    /// Somebody says that `instance` is chosen. Not believed for long: who is right says so again.
    pub(super) fn claim(&mut self, instance: Instance, now: Micros) {
        let (known, at) = self.claimed;
        let is_fresh = now.since(at) < self.timing.timeout();
        self.claimed = (if is_fresh { instance.max(known) } else { instance }, now);
    }

    /// Somebody speaks of another epoch than the one in force here, and `asks` for something perhaps.
    pub(super) fn on_other_epoch(&mut self, epoch: Epoch, asks: bool, now: Micros) {
        if epoch > self.group.epoch {
            // That epoch was begun by a change that is chosen there: to be learned.
            self.claim(Instance(epoch.0), now);
        } else if epoch < self.group.epoch && asks {
            // Who asks has missed a change of the group: the beat says how far there is to learn.
            self.beat_at = now;
        }
    }
}

/// Whether a message asks for votes in a ballot.
pub(super) fn asks(message: &Message) -> bool {
    matches!(
        message,
        Message::ProposeAll { .. } | Message::Propose { .. } | Message::Write { .. } | Message::WriteTags(_)
    )
}
