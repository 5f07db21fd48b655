//! Changes of the group: the joiners, the operators' requests, and the effects of a learned change.
//!
//! This module owns the list of nodes that asked to join lately, and the leader's decision to propose a change. It
//! does not own two related rules. A change governs from the instance after its own, and starts an epoch:
//! `membership` has that rule. No instance above a change starts before the change is learned: the leader's fence
//! has that one. This module never votes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use crate::entry::{Entry, NewGroup};
use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::clients::pending_replies::About;
use crate::replica::clients::queue::Proposal;
use crate::replica::clients::replies::BUSY_PAUSE;
use crate::replica::limits::Bound;
use crate::replica::outbox::{Event, Outbox};
use crate::types::{Act, Ballot, Change, Epoch, Group, Instance, MAX_NUMBER, Micros, NodeId};
use crate::wire::{Boot, Dialect, Message};

/// How soon a node sends a heartbeat after a client asks for the members.
const SOON: Micros = Micros::from_millis(100);

/// The joiners that this node has heard, and whether this node has reported that it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes {
    candidates: BTreeMap<NodeId, Candidate>,
    has_left: bool,
    /// The group changed while this node led. It should campaign again in its next tick.
    leads_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Candidate {
    /// Since when it has been asking without a pause, and the prefix that this node had learned at that time.
    since: Micros,
    goal: Instance,
    at: Micros,
    learned: Instance,
    /// The wish in its last line, and the wish that two lines repeated. A single line may be damaged, or from an
    /// old run.
    said: Wish,
    said_at: Micros,
    wish: Option<Wish>,
    /// Whether the operator was told why it cannot join.
    is_told: bool,
}

/// How a node wants to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Wish {
    /// The incarnation of the joiner's directory.
    incarnation: u64,
    /// The member to replace. Its own id: an operator names the member.
    replaces: Option<NodeId>,
}

impl Changes {
    /// How a node wants to join, once it has said so twice.
    fn wish(&self, id: NodeId) -> Option<Wish> {
        self.candidates.get(&id).and_then(|known| known.wish)
    }

    /// Whether this node led when the group changed, and has not campaigned again yet.
    pub fn leads_on(&self) -> bool {
        self.leads_on
    }
}

impl Replica {
    /// Whether this node's votes count in the group in force: it is a member, and may vote.
    pub fn is_voter(&self) -> bool {
        let is_member = self.group.members.contains(&self.id) && self.identity.may_vote();
        is_member || (self.joins.is_some() && mutant::is(Mutant::JoinerVotesEarly))
    }

    /// Whether this directory never took part in the group: a new founder's directory whose id is not new.
    pub fn never_took_part(&self) -> bool {
        self.identity.never_took_part()
    }

    /// `Join`, `JoinFor`: records a joiner. A former member never becomes a member again.
    pub(in crate::replica) fn on_join(
        &mut self,
        from: NodeId,
        learned: Instance,
        replaces: Option<NodeId>,
        now: Micros,
        out: &mut Outbox,
    ) {
        let Some(Boot { incarnation, boot, .. }) = self.election.boot_of(from, now) else { return };
        let membership = self.history.membership();
        if membership.was_member(from) && !self.group.members.contains(&from) {
            out.send(Message::Barred { node: from, boot, known: Boot::default() });
        } else if !self.group.members.contains(&from) {
            let (goal, candidates) = (self.learner.learned(), &mut self.changes.candidates);
            candidates.retain(|id, known| now.since(known.at) < self.election.timeout_for(*id));
            let is_full = candidates.len() >= self.bounds.candidates;
            if candidates.contains_key(&from) || !self.bounds.is_over(Bound::Candidates, is_full) {
                let (said, apart) = (Wish { incarnation, replaces }, Micros(self.timing.beat.0 / 2));
                match candidates.entry(from) {
                    Place::Occupied(known) => {
                        let candidate = known.into_mut();
                        // The network may deliver one line twice.
                        if candidate.said != said {
                            (candidate.said, candidate.said_at) = (said, now);
                        } else if now.since(candidate.said_at) >= apart {
                            candidate.wish = Some(said);
                        }
                        (candidate.at, candidate.learned) = (now, learned);
                    }
                    Place::Vacant(new) => {
                        let (since, wish, is_told) = (now, None, false);
                        let (at, said_at) = (now, now);
                        new.insert(Candidate { since, goal, at, learned, said, said_at, wish, is_told });
                    }
                }
            }
        }
    }

    /// Whether a member of the first group that never ran before hears that the group has changed. That is no
    /// proof, so it does not end the node. But while it hears that, it does not start to vote. The change itself,
    /// once learned, is proof.
    pub(in crate::replica) fn hears_of_change(&self, now: Micros) -> bool {
        self.identity.is_new_founder() && self.election.hears_later_epoch(now)
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
            self.propose_group(None, self.listed(), now, out);
        }
    }

    /// Proposes to admit a joiner that is ready, one at a time. Only the leader proposes.
    pub(in crate::replica) fn admit_joiner(&mut self, now: Micros, out: &mut Outbox) {
        let has_room = self.leader.free_instance(self.learned(), 0).is_some();
        if !has_room || self.leader.fence().is_some() || self.changes.candidates.is_empty() {
            return;
        }
        let ready: Vec<NodeId> = self.changes.candidates.keys().copied().collect();
        for id in ready {
            let Some(Wish { replaces, .. }) = self.changes.wish(id) else { continue };
            // A joiner that asks for its own place waits for an operator's command.
            if !self.is_near_enough(id, now) || replaces == Some(id) {
                continue;
            }
            if let Some(old) = replaces.filter(|old| !self.group.members.contains(old)) {
                let is_known = self.history.membership().was_member(old);
                let what = if is_known { "is no member any more" } else { "was never a member" };
                self.tell_why_not(id, &format!("node {old}, whose place it asks for, {what}"), out);
                continue;
            }
            match self.with(id, replaces).and_then(|new| self.must_live(new, now)) {
                Ok(new) => {
                    self.changes.candidates.remove(&id);
                    return self.propose_group(None, new, now, out);
                }
                Err(reason) => self.tell_why_not(id, &reason, out),
            }
        }
    }

    fn tell_why_not(&mut self, id: NodeId, reason: &str, out: &mut Outbox) {
        if let Some(candidate) = self.changes.candidates.get_mut(&id).filter(|known| !known.is_told) {
            candidate.is_told = true;
            out.event(Event::Warning(format!("node {id} cannot join: {reason}")));
        }
    }

    /// Whether a joiner has asked for long enough, and has caught up.
    fn is_near_enough(&self, id: NodeId, now: Micros) -> bool {
        let known = self.changes.candidates.get(&id);
        known.is_some_and(|known| {
            let timeout = self.election.timeout_for(id);
            // An old datagram that is delivered again is no joiner.
            let lives = now.since(known.at) < timeout && now.since(known.since) >= timeout;
            // A joiner that is no further behind than this can still learn from the values in flight.
            let near = self.bounds.window / 2;
            lives
                && known.wish.is_some()
                && known.learned >= known.goal
                && known.learned.0 + near >= self.learned().0
        })
    }

    /// Composes the log entry of an operator's change whose turn has come.
    ///
    /// # Errors
    /// The reason why the change is not possible.
    pub(in crate::replica) fn change_in_words(
        &self,
        change: Change,
        now: Micros,
    ) -> Result<NewGroup, String> {
        self.in_words(change, now).map_err(|reason| format!("cannot {change}: {reason}"))
    }

    fn in_words(&self, change: Change, now: Micros) -> Result<NewGroup, String> {
        let is_member = |id: NodeId| match self.group.members.contains(&id) {
            true => Ok(()),
            false => Err(format!("node {id} is no member")),
        };
        let new = match change.act {
            Act::Leave(id) => {
                is_member(id)?;
                let mut new = self.listed();
                new.members.remove(&id);
                if new.members.is_empty() {
                    return Err(format!("node {id} is the only member; to end the group, stop it"));
                }
                new
            }
            Act::Replace(old, id) => {
                is_member(old)?;
                if id == old {
                    return Err(format!(
                        "node {id} cannot take its own place: start the new one under a new id"
                    ));
                }
                if self.group.members.contains(&id) {
                    return Err(format!(
                        "node {id} is a member already; to put node {old} out, say `leave {old}`"
                    ));
                }
                if !self.is_near_enough(id, now) {
                    return Err(match self.changes.candidates.get(&id) {
                        Some(known) => format!(
                            "node {id} is still catching up, at instance {} of {}; try again",
                            known.learned,
                            self.learned()
                        ),
                        None => format!("node {id} does not ask to join: start it with --join -i {id}"),
                    });
                }
                self.with(id, Some(old))?
            }
        };
        let new = self.must_be_able_to_live(new)?;
        if change.is_forced { Ok(new) } else { self.must_live(new, now) }
    }

    /// Refuses a group that could never decide again, which no command could undo. Members of the first group that
    /// never ran cannot start once the group has changed.
    fn must_be_able_to_live(&self, new: NewGroup) -> Result<NewGroup, String> {
        let was_never_up = |id: &&NodeId| {
            **id != self.id
                && id.0 < self.n()
                && self.history.membership().incarnation(**id).is_none()
                && self.identity.remembered(**id).is_none()
                && !self.has_voted(**id)
        };
        let (never, all) = (new.members.keys().filter(was_never_up).count(), new.members.len());
        if all - never > all / 2 {
            return Ok(new);
        }
        Err(format!(
            "it would leave {all} members of which {never} were never up, and these cannot begin once the group has \
             changed: it could never decide again, and `force` does not help; replace them first (upaxos-node \
             --join -i NEW_ID --replace OLD)"
        ))
    }

    /// Ends a joiner that asks to replace a node that is no member. It must have caught up, so that it knows that.
    pub(in crate::replica) fn check_place(&mut self, now: Micros, out: &mut Outbox) {
        let membership = self.history.membership();
        let is_free = |old: &NodeId| *old != self.id && !self.group.members.contains(old);
        let Some(old) = self.joins.flatten().filter(is_free) else { return };
        let heard = self.group.members.iter().filter(|id| self.election.learned_by(**id, now).is_some());
        let knows = heard.count() >= self.group.quorum() && self.learned() >= self.claimed(now);
        if self.n() > 0 && !membership.was_member(self.id) && knows {
            self.identity.on_no_place(old, membership.was_member(old), out);
        }
    }

    /// Whether a member was seen to vote in this node's present run, under its known incarnation.
    fn has_voted(&self, id: NodeId) -> bool {
        self.election.voted_as(id).is_some_and(|voted| self.known_incarnation(id) == Some(voted))
    }

    /// The group in force, with the incarnations that are certain. These are the incarnations of members that
    /// voted. If this node is node 0 and the group's founder, they also include all that it remembers, since no
    /// member of the first group starts to vote without it. No other directory can vote under these ids, and later
    /// joiners learn the incarnations from the log.
    fn listed(&self) -> NewGroup {
        let mut members = self.history.membership().members();
        if let Some(own) = members.get_mut(&self.id) {
            *own = Some(self.identity.boot().incarnation);
        }
        for (id, incarnation) in &mut members {
            if incarnation.is_none() && (self.has_voted(*id) || self.identity.is_root()) {
                *incarnation = self.known_incarnation(*id);
            }
        }
        NewGroup { base: self.history.membership().group().epoch, members }
    }

    fn with(&self, id: NodeId, replaces: Option<NodeId>) -> Result<NewGroup, String> {
        let wish = self.changes.wish(id).ok_or_else(|| format!("node {id} has fallen silent"))?;
        let mut new = self.listed();
        new.members.insert(id, Some(wish.incarnation));
        replaces.map(|old| new.members.remove(&old));
        self.history.membership().objection(&new).map_or(Ok(new), Err)
    }

    /// Refuses a group without a quorum: too few of its members are alive and vote.
    fn must_live(&self, new: NewGroup, now: Micros) -> Result<NewGroup, String> {
        let lives = |id: &NodeId| {
            *id == self.id
                || match self.group.members.contains(id) {
                    true => self.election.is_voter(*id, now) && !self.foreign.contains(id),
                    false => self.election.is_two_way(*id, now),
                }
        };
        let (live, all) = (new.members.keys().filter(|id| lives(id)).count(), new.members.len());
        if live > all / 2 {
            return Ok(new);
        }
        Err(format!(
            "it would leave {all} members of which {live} live, and that is no quorum; say `force` to do it anyway"
        ))
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
            self.group = Group { epoch: self.group.epoch, members };
        }
        self.leader.set_fence(instance, tagged.map(|tagged| tagged.tag));
    }

    /// Handles a learned change: another group governs from the instance after `instance` on.
    pub(in crate::replica) fn on_new_group(&mut self, instance: Instance, now: Micros, out: &mut Outbox) {
        let group = self.history.membership().group().clone();
        let led = self.leader.is_leading();
        let members = group.members.iter().copied().collect();
        out.event(Event::Governs { since: instance, members });
        if mutant::is(Mutant::Phase1InOldGroup) && led {
            self.old_group = Some(self.group.clone());
        }
        self.group = group;
        if mutant::is(Mutant::DropEpoch) {
            self.group.epoch = Epoch(0);
        }
        // Values written above the change in the ending epoch are never chosen.
        let wanted = self.leader.step_down().into_iter().map(|(_, wanted)| (None, wanted)).collect();
        self.requests.requeue(wanted, now);
        self.learner.begin_epoch();
        self.election.begin_epoch(&self.group, now);
        self.changes.candidates.retain(|id, _| !self.group.members.contains(id));
        self.changes.leads_on = led;
        self.changes.has_left &= !self.group.members.contains(&self.id);
        self.list(out);
        // Other nodes wait for the durable word of a quorum of the new group.
        out.flush();
        self.beat_at = now;
    }

    /// Tells the identity what the log says about this node.
    pub(in crate::replica) fn list(&mut self, out: &mut Outbox) {
        if self.group.members.contains(&self.id) {
            self.identity.on_listed(self.history.membership().incarnation(self.id), out);
        }
    }

    /// Starts a campaign at once if this node led the old group and is in the new one.
    pub(in crate::replica) fn lead_on(&mut self, now: Micros, out: &mut Outbox) {
        if std::mem::take(&mut self.changes.leads_on) && self.is_voter() && self.leader.ballot().is_none() {
            self.campaign(now, out);
        }
    }

    /// Reports once that this node has left. A quorum of the new group must have learned the change first.
    pub(in crate::replica) fn announce_departure(&mut self, now: Micros, out: &mut Outbox) {
        let membership = self.history.membership();
        if self.changes.has_left
            || self.group.members.contains(&self.id)
            || !membership.was_member(self.id)
            || self.durable.0 < self.group.epoch.0
        {
            return;
        }
        let has_it = |id: &&NodeId| {
            let learned = self.election.learned_by(**id, now);
            let has_learned = |learned: Instance| learned.0 >= self.group.epoch.0;
            self.election.is_voter(**id, now)
                && learned.is_some_and(|learned| has_learned(learned) || mutant::is(Mutant::LeavesEarly))
        };
        if self.group.members.iter().filter(has_it).count() >= self.group.quorum() {
            self.changes.has_left = true;
            out.event(Event::Left { since: Instance(self.group.epoch.0) });
        }
    }

    /// `members`: answers with the group in force. A client that asks is watching the group, so the next heartbeat
    /// comes soon even if heartbeats are slow.
    pub(in crate::replica) fn on_members(&mut self, now: Micros) {
        self.beat_at = self.beat_at.min(now + SOON);
        if self.n() == 0 {
            // A joiner that has not heard of the group cannot answer.
            return;
        }
        let answer = Message::Members {
            epoch: self.group.epoch,
            learned: self.learned(),
            members: self.group.members.iter().copied().collect(),
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
            if self.election.has_quorum(&self.group, now) {
                self.refuse(Some(wanted), &reason, now, out);
            }
            return false;
        }
        self.leader.is_leading()
    }
}
