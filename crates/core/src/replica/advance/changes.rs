//! Changes of the group: the order in which the parts of a replica take part in one.
//!
//! This module owns no decision: `reconfig` decides which change is possible, the proposer and the acceptors choose it.

use crate::entry::{Entry, NewGroup};
use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::clients::pending_replies::About;
use crate::replica::clients::queue::Proposal;
use crate::replica::clients::replies::BUSY_PAUSE;
use crate::replica::outbox::{Event, Outbox};
use crate::types::{Ballot, Instance, MAX_NUMBER, Micros, NodeId};
use crate::wire::{Dialect, Message};

/// How soon a node sends a heartbeat after a client asks for the members.
const SOON: Micros = Micros::from_millis(100);

impl Replica {
    /// Whether this node's votes count in the group in force: it is a member, and may vote.
    pub fn is_voter(&self) -> bool {
        let is_member = self.history.group().members.contains(&self.id) && self.identity.may_vote();
        is_member || (self.joins.is_some() && mutant::is(Mutant::JoinerVotesEarly))
    }

    /// Whether this directory never took part in the group: a new founder's directory whose id is not new.
    pub fn never_took_part(&self) -> bool {
        self.identity.never_took_part()
    }

    /// `Join`, `JoinFor`: records a joiner.
    pub(in crate::replica) fn on_join(
        &mut self,
        from: NodeId,
        learned: Instance,
        replaces: Option<NodeId>,
        now: Micros,
        out: &mut Outbox,
    ) {
        let view = group_view!(self, now);
        self.changes.on_join(from, (learned, replaces), &view, (&self.bounds, self.timing), out);
    }

    /// Sends the wish to join with every heartbeat, until this node is a member.
    pub(in crate::replica) fn ask_to_join(&self, out: &mut Outbox) {
        let Some(replaces) = self.joins.filter(|_| !self.history.membership().was_member(self.id)) else {
            return;
        };
        let learned = self.durable;
        out.send(match replaces {
            Some(replaces) => Message::JoinFor { learned, replaces },
            None => Message::Join { learned },
        });
    }

    /// Starts a new epoch with the same members when the leader's ballots near their end: in a new epoch, ballots
    /// start anew.
    pub(in crate::replica) fn renew_ballots(&mut self, now: Micros, out: &mut Outbox) {
        let Some(ballot) = self.leader.ballot().filter(|_| self.leader.is_leading()) else { return };
        let round = |number| self.numbering.round(Ballot { number, ..ballot });
        let has_room = self.leader.free_instance(self.learned(), 0).is_some();
        if round(ballot.number) > round(MAX_NUMBER) / 4 && has_room && self.leader.fence().is_none() {
            out.event(Event::Warning(format!(
                "ballots are near their end (perhaps forged: {ballot}): a new epoch starts, with the same members"
            )));
            let listed = self.group_view(now).listed();
            self.propose_group(None, listed, now, out);
        }
    }

    /// Proposes to admit a joiner that is ready. Only the leader proposes.
    pub(in crate::replica) fn admit_joiner(&mut self, now: Micros, out: &mut Outbox) {
        let has_room = self.leader.free_instance(self.learned(), 0).is_some();
        if !has_room || self.leader.fence().is_some() || self.changes.is_empty() {
            return;
        }
        let view = group_view!(self, now);
        if let Some(new) = self.changes.next_joiner(&view, &self.bounds, out) {
            self.propose_group(None, new, now, out);
        }
    }

    /// Ends a joiner that asks to replace a node that is no member. It must have caught up, so that it knows that.
    pub(in crate::replica) fn check_place(&mut self, now: Micros, out: &mut Outbox) {
        let is_free = |old: &NodeId| *old != self.id && !self.history.group().members.contains(old);
        let Some(old) = self.joins.flatten().filter(is_free) else { return };
        let knows = self.group_view(now).hears_quorum() && self.learned() >= self.claimed(now);
        let membership = self.history.membership();
        if self.n() > 0 && !membership.was_member(self.id) && knows {
            self.identity.on_no_place(old, membership.was_member(old), out);
        }
    }

    /// Writes a change in the next free instance, and starts no instance above it.
    pub(in crate::replica) fn propose_group(
        &mut self,
        wanted: Option<Proposal>,
        new: NewGroup,
        now: Micros,
        out: &mut Outbox,
    ) {
        let tagged = wanted.as_ref().and_then(Proposal::tagged);
        let size = new.members.len();
        if size.is_multiple_of(2) {
            let least = size / 2 + 1;
            out.event(Event::Warning(format!(
                "the new group has {size} members and survives the loss of {}, no more than one of {} would \
                 (quorum {least})",
                size - least,
                size - 1
            )));
        }
        let members = new.members.keys().copied().collect();
        let value = Entry::Group(tagged, new).encode(Dialect::Extended);
        let instance = self.propose_value(value, wanted, now, out);
        if mutant::is(Mutant::GroupBeforeChosen) {
            self.history.count_early(members);
        }
        self.leader.set_fence(instance, tagged.map(|tagged| tagged.tag));
    }

    /// Handles a learned change: another group governs from the instance after `instance` on.
    pub(in crate::replica) fn on_new_group(&mut self, instance: Instance, now: Micros, out: &mut Outbox) {
        let led = self.leader.is_leading();
        let members = self.history.group().members.iter().copied().collect();
        out.event(Event::Governs { since: instance, members });
        // Values written above the change in the ending epoch are never chosen.
        let wanted = self.leader.step_down().into_iter().map(|(_, wanted)| (None, wanted)).collect();
        self.requests.requeue(wanted, now);
        self.learner.begin_epoch();
        self.election.begin_epoch(self.history.group(), now);
        self.changes.on_new_group(self.history.group(), self.id, led);
        self.list(out);
        // Other nodes wait for the durable word of a quorum of the new group.
        out.flush();
        self.candidacy.beat_again_at(now);
    }

    /// Tells the identity what the log says about this node.
    pub(in crate::replica) fn list(&mut self, out: &mut Outbox) {
        if self.history.group().members.contains(&self.id) {
            self.identity.on_listed(self.history.membership().incarnation(self.id), out);
        }
    }

    /// Starts a campaign at once if this node led the old group and is in the new one.
    pub(in crate::replica) fn lead_on(&mut self, now: Micros, out: &mut Outbox) {
        if self.changes.take_leads_on() && self.is_voter() && self.leader.ballot().is_none() {
            self.campaign(now, out);
        }
    }

    /// Reports once that this node has left.
    pub(in crate::replica) fn announce_departure(&mut self, now: Micros, out: &mut Outbox) {
        let view = group_view!(self, now);
        if let Some(since) = self.changes.departure(&view) {
            out.event(Event::Left { since });
        }
    }

    /// `members`: answers with the group in force. A client that asks is watching the group, so the next heartbeat
    /// comes soon even if heartbeats are slow.
    pub(in crate::replica) fn on_members(&mut self, now: Micros) {
        self.candidacy.beat_by(now + SOON);
        if self.n() == 0 {
            // A joiner that has not heard of the group cannot answer.
            return;
        }
        let answer = Message::Members {
            epoch: self.history.group().epoch,
            learned: self.learned(),
            members: self.history.group().members.iter().copied().collect(),
        };
        let rank = self.rank();
        self.requests.schedule_reply(About::Members, answer, rank, now);
    }

    /// `leave`, `replace`: a change that cannot start now is refused with the reason. Only a leader takes a change
    /// up. No node keeps or passes on a change, since the reasons for it may be different later.
    pub(in crate::replica) fn on_change(&mut self, wanted: &Proposal, now: Micros, out: &mut Outbox) -> bool {
        if self.classic.is_some() {
            self.refuse(Some(wanted), "a classic group never changes", now, out);
            return false;
        }
        if let Some((fence, by)) = self.leader.fence() {
            if by.is_some() && by == wanted.tagged().map(|tagged| tagged.tag) {
                return false;
            }
            if wanted.tagged().is_some() {
                // The request may be taken up once the other change is learned.
                self.reply_busy(wanted, BUSY_PAUSE, now, out);
                return false;
            }
            let reason = format!("another change of the group is under way, at instance {fence}; try again");
            if self.election.has_quorum(self.history.group(), now) {
                self.refuse(Some(wanted), &reason, now, out);
            }
            return false;
        }
        self.leader.is_leading()
    }
}
