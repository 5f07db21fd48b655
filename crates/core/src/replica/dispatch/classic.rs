//! The dispatch of the lines of a classic group.
//!
//! This module owns which lines of a classic peer are believed, and which parts see them. A classic group has no
//! heads, heartbeats, epochs, ranges or ballots for all instances, and its nodes may be those of another program. So
//! none of the rules of the other dialect apply, and each line is judged by itself. Everything behind the parts
//! (learning, answers, the log) is the same in both dialects.

use crate::entry::Entry;
use crate::replica::Replica;
use crate::replica::outbox::{Event, EventLevel, Outbox};
use crate::types::{Ballot, Instance, Micros, NodeId, Value};
use crate::wire::kinds::{ballot_of, instance_of};
use crate::wire::{Line, Message};

impl Replica {
    /// Handles a line of a classic group that claims to be from node `from`.
    pub(super) fn on_classic_line(&mut self, from: NodeId, message: Message, now: Micros, out: &mut Outbox) {
        if from == self.id {
            self.detect_classic_twin(&message, out);
        } else if !self.history.group().members.contains(&from) {
            self.dropped.strangers += 1;
            self.warn_of_n(&format!("node {from} speaks, which is none of"), out);
        } else if self.is_plausible_in_classic(from, &message, now, out) {
            self.on_classic_message(from, message, now, out);
        }
    }

    /// Detects a line under this node's id that this node cannot have sent.
    fn detect_classic_twin(&mut self, message: &Message, out: &mut Outbox) {
        let Some(classic) = &self.classic else { return };
        if classic.own.is_of_twin(message, &self.acceptor) {
            self.warn_of_twin(": lines came under this id that this node never sent", out);
        }
    }

    /// Whether a line uses a ballot that its sender may use. There are no heartbeats, so each line with an instance
    /// counts as a claim of its ballot there.
    fn is_plausible_in_classic(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Micros,
        out: &mut Outbox,
    ) -> bool {
        let Some((ballot, only_owner)) = ballot_of(message) else { return true };
        if only_owner && self.numbering.owner(ballot) != from {
            self.dropped.not_owner += 1;
            self.warn_of_n(&format!("node {from} uses ballot {ballot}, which is not its own among"), out);
            return false;
        }
        let is_believed = self.weigh_jump(from, instance_of(message), ballot, now);
        self.dropped.absurd += u64::from(!is_believed);
        is_believed
    }

    /// Warns once of a likely mismatch of `-n`. A classic node does not state its `-n`, but its lines may show it.
    fn warn_of_n(&mut self, what: &str, out: &mut Outbox) {
        let n = self.n();
        if let Some(classic) = &mut self.classic
            && !classic.warned_of_n
        {
            classic.warned_of_n = true;
            out.event(Event::Warning(format!(
                "{what} the ids 0 to {}: its line is ignored; start all nodes of a classic group with the same -n \
                 (here {n}); the group never changes, and no node can join",
                n - 1
            )));
        }
    }

    fn on_classic_message(&mut self, from: NodeId, message: Message, now: Micros, out: &mut Outbox) {
        match message {
            Message::Propose { instance, ballot } => {
                self.on_classic_propose(from, (instance, ballot), now, out);
            }
            Message::Write { instance, ballot, value } => {
                self.on_classic_write(from, (instance, ballot), value, now, out);
            }
            Message::Nack { instance, ballot } => {
                let Some(classic) = &mut self.classic else { return };
                classic.observe(self.id, instance, ballot, now, out);
                classic.on_nack(instance, ballot, now, out);
            }
            Message::Promise { .. } | Message::Accept { .. } => {
                self.on_copy(&message, out);
                self.on_classic_vote(from, message, now, out);
            }
            // A classic node may have counted duplicates as votes, so its claim proves nothing. No node can join.
            Message::Written { .. } | Message::Join { .. } => {}
            answer => self.on_answer(from, &answer, now, out),
        }
    }

    fn on_classic_propose(
        &mut self,
        from: NodeId,
        (instance, ballot): (Instance, Ballot),
        now: Micros,
        out: &mut Outbox,
    ) {
        let is_near = self.is_near(instance);
        let Some(classic) = &mut self.classic else { return };
        classic.observe(from, instance, ballot, now, out);
        if is_near {
            classic.rounds.observe(from, &Message::Propose { instance, ballot }, self.requests.heard());
        }
        // A node that proposes at this instance has learned everything before it.
        classic.on_used(Instance(instance.0 - 1));
        if is_near && self.is_voter() {
            self.acceptor.on_propose(instance, ballot, out);
        }
    }

    fn on_classic_write(
        &mut self,
        from: NodeId,
        (instance, ballot): (Instance, Ballot),
        value: Value,
        now: Micros,
        out: &mut Outbox,
    ) {
        let is_near = self.is_near(instance);
        let Some(classic) = &mut self.classic else { return };
        classic.observe(from, instance, ballot, now, out);
        classic.on_used(instance);
        let write = Message::Write { instance, ballot, value: value.clone() };
        classic.rounds.observe(from, &write, self.requests.heard());
        // A classic node that counted duplicates as promises may write a value other than the chosen one. A correct
        // node does so only in an overtaken ballot; the refusal makes it find out what is chosen.
        if self.history.value(instance).is_some_and(|chosen| *chosen != value) {
            self.dropped.conflicts += 1;
            self.acceptor.refuse(instance, ballot, out);
        } else if is_near {
            self.requests.on_taken_up(&Entry::decode(instance, &value, self.dialect), instance, now);
            self.take_up_write(instance, ballot, &value, out);
        }
    }

    /// Counts a vote of a classic group: a peer's on receipt, this node's own once it is durable.
    pub(super) fn on_classic_vote(&mut self, from: NodeId, vote: Message, now: Micros, out: &mut Outbox) {
        let Some(classic) = &mut self.classic else { return };
        classic.rounds.observe(from, &vote, self.requests.heard());
        match vote {
            Message::Promise { instance, ballot, accepted } => {
                self.on_classic_promise(from, (instance, ballot), accepted, now, out);
            }
            Message::Accept { instance, ballot, value } => {
                classic.on_used(instance);
                self.learner.on_accept(self.history.group(), from, instance, ballot, Some(&value));
            }
            _ => {}
        }
    }

    fn on_classic_promise(
        &mut self,
        from: NodeId,
        (instance, ballot): (Instance, Ballot),
        accepted: Option<(Ballot, Value)>,
        now: Micros,
        out: &mut Outbox,
    ) {
        let Some(classic) = &mut self.classic else { return };
        let own = |heard| {
            let entry = self.requests.first_of(heard)?.entry(instance, || self.history.safe_read());
            Some(entry.encode(self.dialect))
        };
        if let Some(value) = classic.on_promise(from, (instance, ballot), accepted, own, now) {
            let write = Message::Write { instance, ballot, value: value.clone() };
            classic.rounds.observe(self.id, &write, self.requests.heard());
            if out.tells(EventLevel::Answers) {
                out.event(Event::Says(write.clone()));
            }
            out.send(write);
            self.learner.on_write(self.history.group(), instance, ballot, &value);
            self.acceptor.on_write(instance, ballot, &value, out);
        }
    }

    /// Records the lines that this node has now sent, and logs them.
    pub(in crate::replica) fn note_classic_lines(&mut self, sent: &[Line], out: &mut Outbox) {
        let Some(classic) = &mut self.classic else { return };
        for line in sent {
            classic.own.note(line);
            if let (Line::Node(_, message), true) = (line, out.tells(EventLevel::Answers)) {
                out.event(Event::Says(message.clone()));
            }
        }
    }
}
