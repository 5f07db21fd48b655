//! The view of the group that a change is judged by: what this node knows of the members.
//!
//! This module owns no state. It reads the membership in the log, the registrations and the links, and answers which
//! incarnation may speak for an id, and which groups can live.

use std::collections::BTreeSet;

use crate::entry::NewGroup;
use crate::replica::election::links::Election;
use crate::replica::reconfig::membership::Membership;
use crate::replica::reconfig::registration::Registration;
use crate::types::{Group, Instance, Micros, NodeId};
use crate::wire::Boot;

/// The group in force, and what this node knows of its members.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    /// The time of this step.
    pub now: Micros,
    /// The id of this node.
    pub me: NodeId,
    /// The learned prefix.
    pub learned: Instance,
    /// The part of the learned prefix that is durable.
    pub durable: Instance,
    /// The group in force.
    pub group: &'a Group,
    /// The group and its changes according to the log.
    pub membership: &'a Membership,
    /// The registered runs of the members.
    pub registration: &'a Registration,
    /// The links to the members.
    pub election: &'a Election,
    /// The members whose lines are ignored.
    pub foreign: &'a BTreeSet<NodeId>,
}

impl GroupView<'_> {
    /// The incarnation registered for an id, in the log or with this node.
    pub fn known_incarnation(&self, id: NodeId) -> Option<u64> {
        self.known_by_log(id).or_else(|| self.registration.remembered(id).map(|boot| boot.incarnation))
    }

    /// The incarnation of `id` according to the log or the identity of the group.
    pub fn known_by_log(&self, id: NodeId) -> Option<u64> {
        self.registration.root(id).or_else(|| self.membership.incarnation(id))
    }

    /// Whether `boot` may speak for member `id`: the log names its incarnation, or this node remembers it.
    pub fn is_genuine(&self, id: NodeId, boot: Boot) -> bool {
        match self.membership.incarnation(id) {
            Some(listed) => listed == boot.incarnation,
            None => self.registration.is_genuine(id, boot),
        }
    }

    /// Whether `incarnation` may speak as `id`. It may if the log names it, or this node remembers it. For a
    /// non-member its heartbeats name the incarnation. This node itself always may.
    pub fn is_registered_life(&self, id: NodeId, incarnation: u64) -> bool {
        if id == self.me {
            return true;
        }
        self.known_incarnation(id).map_or_else(
            || !self.group.members.contains(&id) && self.beats_as(id, incarnation),
            |known| known == incarnation,
        )
    }

    fn beats_as(&self, id: NodeId, incarnation: u64) -> bool {
        self.election.last_boot(id).is_some_and(|boot| boot.incarnation == incarnation)
    }

    /// Whether a member of the first group that never ran before hears that the group has changed. That is no
    /// proof, so it does not end the node. But while it hears that, it does not start to vote. The change itself,
    /// once learned, is proof.
    pub fn hears_of_change(&self) -> bool {
        self.registration.is_new_founder() && self.election.hears_later_epoch(self.now)
    }

    /// Whether a quorum of the group was heard lately, and says how far it has learned.
    pub fn hears_quorum(&self) -> bool {
        let now = self.now;
        let heard = self.group.members.iter().filter(|id| self.election.learned_by(**id, now).is_some());
        heard.count() >= self.group.quorum()
    }

    /// Whether a member was seen to vote in this node's present run, under its known incarnation.
    fn has_voted(&self, id: NodeId) -> bool {
        self.election.voted_as(id).is_some_and(|voted| self.known_incarnation(id) == Some(voted))
    }

    /// The group in force, with the incarnations that are certain. These are the incarnations of members that
    /// voted. If this node is node 0 and the group's founder, they also include all that it remembers, since no
    /// member of the first group starts to vote without it. No other directory can vote under these ids, and later
    /// joiners learn the incarnations from the log.
    pub fn listed(&self) -> NewGroup {
        let mut members = self.membership.members();
        if let Some(own) = members.get_mut(&self.me) {
            *own = Some(self.registration.boot().incarnation);
        }
        for (id, incarnation) in &mut members {
            if incarnation.is_none() && (self.has_voted(*id) || self.registration.is_root()) {
                *incarnation = self.known_incarnation(*id);
            }
        }
        NewGroup { base: self.membership.group().epoch, members }
    }

    /// Returns a group that has a quorum of members that are alive and vote.
    ///
    /// # Errors
    /// The reason, when too few are alive.
    pub fn must_live(&self, new: NewGroup) -> Result<NewGroup, String> {
        let (now, me) = (self.now, self.me);
        let lives = |id: &NodeId| {
            *id == me
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

    /// Returns a group that can ever decide. Members of the first group that never ran cannot start once the group
    /// has changed.
    ///
    /// # Errors
    /// The reason, when the group could never decide again, which no command could undo.
    pub fn must_be_able_to_live(&self, new: NewGroup) -> Result<NewGroup, String> {
        let was_never_up = |id: &&NodeId| {
            **id != self.me
                && id.0 < self.membership.n()
                && self.membership.incarnation(**id).is_none()
                && self.registration.remembered(**id).is_none()
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
}
