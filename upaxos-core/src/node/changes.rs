//! Changes of the group: who stands ready to join, what operators want, and what follows when one is learned.
//!
//! Owns the list of nodes that asked to join lately, and the leader's decision to propose a change. That a
//! change governs from the instance after its own on, and begins an epoch, is `membership`'s; that nothing
//! is begun above it before it is learned, is the leader's fence. It never votes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use super::Node;
use super::limits::Bound;
use super::outbox::{Event, Outbox};
use super::requests::{About, Wanted};
use crate::entry::{Entry, NewGroup};
use crate::mutant::{self, Mutant};
use crate::types::{Act, Ballot, Change, Epoch, Group, Instance, MAX_NUMBER, Micros, NodeId};
use crate::wire::{Boot, Dialect, Message};

/// How soon a node beats when somebody asks who governs.
const SOON: Micros = Micros::from_millis(100);

/// Who wants to join, as far as this node has heard; and whether this node has said that it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes {
    candidates: BTreeMap<NodeId, Candidate>,
    has_left: bool,
    /// The group changed, and this node, which led, should lead on with its next tick.
    leads_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Candidate {
    /// Since when it has been asking, without a pause, and what was learned here then.
    since: Micros,
    goal: Instance,
    at: Micros,
    learned: Instance,
    /// What its last line said, and what two in a row said: one may be damaged, or of a life of long ago.
    said: Wish,
    said_at: Micros,
    wish: Option<Wish>,
    /// The operator was told why it does not get in.
    is_told: bool,
}

/// As what a node wants to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Wish {
    /// Its directory.
    incarnation: u64,
    /// In whose place; its own: whose an operator names.
    replaces: Option<NodeId>,
}

impl Changes {
    /// As what a node wants to join, if it has said so twice.
    fn wish(&self, id: NodeId) -> Option<Wish> {
        self.candidates.get(&id).and_then(|known| known.wish)
    }

    /// Whether this node led when the group changed, and has not led on.
    pub fn leads_on(&self) -> bool {
        self.leads_on
    }
}

impl Node {
    /// Whether this node's votes count in the group in force: it is a member, and may vote.
    pub fn is_voter(&self) -> bool {
        let is_member = self.group.members.contains(&self.id) && self.identity.may_vote();
        is_member || (self.joins.is_some() && mutant::is(Mutant::JoinerVotesEarly))
    }

    /// Whether this directory never took part in the group, as a founder's that is new, while its id is not.
    pub fn never_took_part(&self) -> bool {
        self.identity.never_took_part()
    }

    /// `Join`, `JoinFor`: remember who stands ready; whoever was a member before never is again.
    pub(super) fn on_join(
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

    /// Whether a member of the first group that was never up hears that the group has changed. That is no proof, so
    /// it does not end the node; but while it hears that, it does not begin. The change itself, learned, is proof.
    pub(super) fn hears_of_change(&self, now: Micros) -> bool {
        self.identity.is_new_founder() && self.election.hears_later_epoch(now)
    }

    /// Says with every beat that this node wants to join, while it does.
    pub(super) fn ask_to_join(&self, out: &mut Outbox) {
        let Some(replaces) = self.joins.filter(|_| !self.history.membership().was_member(self.id)) else {
            return;
        };
        let learned = self.durable;
        out.send(match replaces {
            Some(replaces) => Message::JoinFor { learned, replaces },
            None => Message::Join { learned },
        });
    }

    /// A leader whose ballots near their end begins a new epoch with the same members: in that, they begin anew.
    pub(super) fn renew_ballots(&mut self, now: Micros, out: &mut Outbox) {
        let Some(ballot) = self.leader.ballot().filter(|_| self.leader.is_leading()) else { return };
        let round = |number| self.numbering.round(Ballot { number, ..ballot });
        let has_room = self.leader.free_instance(self.learned(), 0).is_some();
        if round(ballot.number) > round(MAX_NUMBER) / 4 && has_room && self.leader.fence().is_none() {
            out.event(Event::Warning(format!(
                "ballots near their end (forged ones, perhaps: {ballot}): a new epoch begins, with the same members"
            )));
            self.propose_group(None, self.listed(), now, out);
        }
    }

    /// Proposes to take in who stands ready, one at a time; the leader does.
    pub(super) fn take_in(&mut self, now: Micros, out: &mut Outbox) {
        let has_room = self.leader.free_instance(self.learned(), 0).is_some();
        if !has_room || self.leader.fence().is_some() || self.changes.candidates.is_empty() {
            return;
        }
        let ready: Vec<NodeId> = self.changes.candidates.keys().copied().collect();
        for id in ready {
            let Some(Wish { replaces, .. }) = self.changes.wish(id) else { continue };
            // Who asks for its own place waits for an operator's word.
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

    /// Whether a node stands ready to join, has done so for a while, and has caught up.
    fn is_near_enough(&self, id: NodeId, now: Micros) -> bool {
        let known = self.changes.candidates.get(&id);
        known.is_some_and(|known| {
            let timeout = self.election.timeout_for(id);
            // An old datagram that comes up again is nobody who stands ready.
            let lives = now.since(known.at) < timeout && now.since(known.since) >= timeout;
            // So far behind, it can still learn from what is under way.
            let near = self.bounds.window / 2;
            lives
                && known.wish.is_some()
                && known.learned >= known.goal
                && known.learned.0 + near >= self.learned().0
        })
    }

    /// An operator's change, which has come to its turn, in the words of the log.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub(super) fn change_in_words(&self, change: Change, now: Micros) -> Result<NewGroup, String> {
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

    /// Refuses a group that could never decide anything again, which nothing could undo: members of the first
    /// group that were never up cannot begin once it has changed.
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

    /// A node that asks to join in a place that nobody has, ends when it has caught up and so knows that.
    pub(super) fn check_place(&mut self, now: Micros, out: &mut Outbox) {
        let membership = self.history.membership();
        let is_free = |old: &NodeId| *old != self.id && !self.group.members.contains(old);
        let Some(old) = self.joins.flatten().filter(is_free) else { return };
        let heard = self.group.members.iter().filter(|id| self.election.learned_by(**id, now).is_some());
        let knows = heard.count() >= self.group.quorum() && self.learned() >= self.claimed(now);
        if self.n() > 0 && !membership.was_member(self.id) && knows {
            self.identity.on_no_place(old, membership.was_member(old), out);
        }
    }

    /// Whether a member was seen to vote in this node's present life, as the incarnation that is known of it.
    fn has_voted(&self, id: NodeId) -> bool {
        self.election.voted_as(id).is_some_and(|voted| self.known_incarnation(id) == Some(voted))
    }

    /// The group in force, with the incarnations that are certain: those of members that voted, and all that node 0
    /// remembers if it is this node, without which none of the first group begins to vote. No other can vote under
    /// their ids, and who comes later knows them from the log.
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

    /// Refuses a group that could do nothing: too few of its members live and vote.
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

    /// Writes a change in the next free instance, and begins nothing above it.
    pub(super) fn propose_group(
        &mut self,
        wanted: Option<Wanted>,
        new: NewGroup,
        now: Micros,
        out: &mut Outbox,
    ) {
        let tagged = wanted.as_ref().and_then(Wanted::tagged);
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

    /// Another group governs from the instance after `instance` on.
    pub(super) fn on_new_group(&mut self, instance: Instance, now: Micros, out: &mut Outbox) {
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
        // What was written above in the epoch that ends, is chosen nowhere.
        let wanted = self.leader.step_down().into_iter().map(|(_, wanted)| (None, wanted)).collect();
        self.requests.put_back(wanted, now);
        self.learner.begin_epoch();
        self.election.begin_epoch(&self.group, now);
        self.changes.candidates.retain(|id, _| !self.group.members.contains(id));
        self.changes.leads_on = led;
        self.changes.has_left &= !self.group.members.contains(&self.id);
        self.list(out);
        // Others wait for the durable word of a quorum of the new group.
        out.flush();
        self.beat_at = now;
    }

    /// Tells the identity what the log says of this node.
    pub(super) fn list(&mut self, out: &mut Outbox) {
        if self.group.members.contains(&self.id) {
            self.identity.on_listed(self.history.membership().incarnation(self.id), out);
        }
    }

    /// Who led the old group and is in the new one, asks the new one at once.
    pub(super) fn lead_on(&mut self, now: Micros, out: &mut Outbox) {
        if std::mem::take(&mut self.changes.leads_on) && self.is_voter() && self.leader.ballot().is_none() {
            self.run(now, out);
        }
    }

    /// Says once that this node has left: when a quorum of the group that goes on has the change.
    pub(super) fn say_left(&mut self, now: Micros, out: &mut Outbox) {
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

    /// `members`: who governs. Who asks that looks at the group, and need not wait for beats that are slow.
    pub(super) fn on_members(&mut self, now: Micros) {
        self.beat_at = self.beat_at.min(now + SOON);
        if self.n() == 0 {
            // Who joins, and has not heard of the group, is no source.
            return;
        }
        let answer = Message::Members {
            epoch: self.group.epoch,
            learned: self.learned(),
            members: self.group.members.iter().copied().collect(),
        };
        let rank = self.rank();
        self.requests.owe(About::Members, answer, rank, now);
    }

    /// `leave`, `replace`: what cannot be taken up now is refused with the reason. Only a leader takes a change
    /// up; nobody keeps it for later or passes it on, when its reasons may have changed.
    pub(super) fn on_change(&mut self, wanted: &Wanted, now: Micros, out: &mut Outbox) -> bool {
        if self.classic.is_some() {
            self.refuse(Some(wanted), "a classic group never changes", now, out);
            return false;
        }
        if let Some((fence, by)) = self.leader.fence() {
            if by.is_some() && by == wanted.tagged().map(|tagged| tagged.tag) {
                return false;
            }
            if wanted.tagged().is_some() {
                // It may be taken up when that one is learned.
                self.say_busy(wanted, Node::BUSY_PAUSE, now, out);
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

    /// Why a chosen change had no effect.
    pub(super) const STALE: &str =
        "the group was changed otherwise before: this change is void; ask again if it is still wanted";
}
