//! The candidacy of this node: the order in which the election, the proposer and the acceptor take part in it.
//!
//! This module starts and ends this node's own ballots, as the election advises, and composes the heartbeats.

use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::outbox::{Event, Outbox};
use crate::types::{Ballot, Instance, Micros, NodeId};
use crate::wire::{Beat, Message, Pace, Stance};

impl Replica {
    pub(in crate::replica) fn campaign_if_leaderless(&mut self, now: Micros, out: &mut Outbox) {
        let runs = self.leader.ballot().is_some();
        if self.is_voter() {
            self.election.vote();
        }
        if self.is_voter() && self.election.should_run(runs, self.durable, self.history.group(), now) {
            self.campaign(now, out);
        }
    }

    /// Raises a ballot of this node's own, unless ballots have run out.
    pub(in crate::replica) fn campaign(&mut self, now: Micros, out: &mut Outbox) {
        let above = self.election.ballot().max(self.acceptor.highest_promise());
        if above.is_some_and(|above| above.epoch > self.history.group().epoch) {
            // This node has voted in an epoch whose start it has to learn again.
            return;
        }
        let next = self.numbering.next_owned_by(self.id, self.history.group().epoch, above);
        let reused =
            above.filter(|top| mutant::is(Mutant::ReuseBallot) && self.numbering.owner(*top) == self.id);
        let Some(ballot) = reused.or(next) else {
            out.event(Event::Warning("ballots have run out: this node cannot lead".into()));
            return;
        };
        self.election.observe(ballot, now);
        let change = self.history.membership().change().cloned();
        let change = change.map(|value| (Instance(self.history.group().epoch.0), value));
        self.leader.start(ballot, self.learner.learned(), change, now, out);
        let first = self.learner.learned().next();
        self.acceptor.on_propose_all(first, ballot, self.durable, out);
    }

    /// Asks again in phase 1, or writes again in phase 2. No node hears its own question. So if one answer of this
    /// node's own acceptor does not cover everything, it is asked here.
    pub(in crate::replica) fn retransmit(&mut self, now: Micros, out: &mut Outbox) {
        if let Some((first, ballot)) = self.leader.asks_itself(self.id, now) {
            self.acceptor.on_propose_all(first, ballot, self.durable, out);
        }
        let Replica { leader, learner, acceptor, history, .. } = self;
        let mut again = |instance, ballot, value: &_, out: &mut _| {
            learner.on_write(history.group(), instance, ballot, value);
            acceptor.on_write(instance, ballot, value, out);
        };
        leader.tick(now, &mut again, out);
    }

    /// Raises a ballot unless this node runs one, even if another node leads, and at any time: a wrong guess of the
    /// election may cost time, never agreement. Model checks use this, since they have no clock.
    #[doc(hidden)]
    pub fn campaign_unasked(&mut self, now: Micros, out: &mut Outbox) {
        if self.is_voter() && self.leader.ballot().is_none() {
            self.campaign(now, out);
        }
    }

    /// Ends a candidacy that makes no progress, so that the next in rank may try. Also ends that of a node that is
    /// far behind while others are not.
    pub(in crate::replica) fn abandon_candidacy_if_stuck(&mut self, now: Micros, out: &mut Outbox) {
        let patience = self.timing.timeout() * 4;
        let is_stuck = self.leader.is_stuck(self.learner.learned(), patience, now);
        let seeks = self.leader.stance() == Some(Stance::Seeks);
        if (is_stuck || (seeks && self.election.gives_way(self.durable, self.history.group(), now)))
            && let Some(ballot) = self.leader.ballot()
        {
            self.step_down(ballot, ballot, now, out);
        }
    }

    /// Records a ballot that another node uses, and gives way to a higher one.
    pub(in crate::replica) fn observe(&mut self, ballot: Ballot, now: Micros, out: &mut Outbox) {
        self.election.observe(ballot, now);
        if let Some(own) = self.leader.ballot().filter(|own| *own < ballot) {
            self.step_down(own, ballot, now, out);
        }
    }

    /// `Pace`: the slower of its two ends judges a link.
    pub(in crate::replica) fn on_pace(&mut self, from: NodeId, pace: Pace, out: &mut Outbox) {
        if self.election.on_pace(from, pace) {
            self.candidacy.on_unequal_pace(from, pace, self.election.pace(), out);
        }
    }

    pub(in crate::replica) fn step_down(&mut self, own: Ballot, to: Ballot, now: Micros, out: &mut Outbox) {
        let wanted = self.leader.step_down();
        self.requests.requeue(wanted, now);
        out.event(Event::SteppedDown { ballot: own, to });
    }

    pub(in crate::replica) fn heartbeat(&mut self, now: Micros, out: &mut Outbox) {
        if self.learner.learned() > self.durable && now >= self.candidacy.beat_at() {
            out.flush();
        }
        if self.classic.is_none() {
            let stance =
                self.election.stance(self.leader.stance(), self.is_voter(), self.history.group(), now);
            self.candidacy.show(stance, &self.election, now, out);
        }
        if now < self.candidacy.beat_at() {
            return;
        }
        self.candidacy.beat_again_at(now + self.timing.beat);
        if self.classic.is_none() {
            self.send_heartbeat(now, out);
        }
    }

    fn send_heartbeat(&mut self, now: Micros, out: &mut Outbox) {
        let is_voter = self.is_voter();
        self.candidacy.note_quorum(&self.election, (self.history.group(), is_voter), now, out);
        self.ask_to_join(out);
        self.tell_digests(now, out);
        let beat = Message::Beat(Beat {
            n: self.n(),
            boot: self.identity.boot(),
            ballot: self.election.ballot(),
            learned: self.durable,
            stance: self.candidacy.stance(),
            heard: self.election.heard(now),
        });
        let is_own = self.election.leader() == Some(self.id) && !self.leader.is_leading();
        if is_own && out.needs_sync() && !mutant::is(Mutant::BeatShowsBallot) {
            // The heartbeat may name a ballot that was started in this very step, and perhaps given up already. No
            // node may see it before it is durable.
            out.after_sync(beat);
        } else {
            out.send(beat);
        }
        // None of the ballots that it names was started in this step.
        out.send(Message::Pace(self.election.pace()));
        if self.identity.is_barred() {
            // To its peers this node is a learner; to operators it reports that they must act.
            let known = self.identity.boot();
            out.send(Message::Barred { node: self.id, boot: known.boot, known });
        }
        if self.history.group().members.contains(&self.id)
            && self.identity.wants_registration(self.history.membership())
            && !self.group_view(now).hears_of_change()
        {
            let (n, boot, earlier) = (self.n(), self.identity.boot(), self.identity.earlier());
            out.send(Message::Register { n, boot, earlier });
        }
    }
}
