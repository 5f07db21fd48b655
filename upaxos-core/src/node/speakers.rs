//! Who is heard: what the head of a datagram says of its sender, held against what this node knows.
//!
//! Owns the one place where lines are tied to a group and to a data directory. Two groups on one wire have the same
//! ids, and their ballots coincide; so has a directory that was made anew under the id of one that was lost. A line
//! of another group is dropped, whatever it says; a line of a life that is not the one registered for its id is
//! dropped unless it introduces its sender, or only asks. Classic groups know no heads: there all lines are heard.

use std::collections::BTreeSet;

use super::Node;
use super::outbox::{Event, Outbox};
use crate::mutant::{self, Mutant};
use crate::types::{GroupId, Instance, Micros, NodeId};
use crate::wire::{Beat, GroupName, Head, Line, Message};

/// How many other groups, and nodes without heads, are named in the log before this node keeps silent about more.
const NAMED: usize = 16;

/// Who sent a datagram, as its [`Head`] says: to be handed to [`Node::handle`] with each of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a group without heads.
    Classic,
    /// A client of this group.
    Client,
    /// A node that says that it is of this group, or does not know its group yet, or one of the two is so.
    Node { id: NodeId, incarnation: u64, is_ours: bool },
    /// Of another group, or for one.
    Other,
}

impl Speaker {
    /// The incarnation of the node that speaks, if one does.
    pub(super) fn incarnation(self) -> Option<u64> {
        match self.0 {
            Kind::Node { incarnation, .. } => Some(incarnation),
            _ => None,
        }
    }
}

/// Which groups and nodes this one has named in its log as none of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Others {
    groups: BTreeSet<(Option<GroupId>, Option<GroupName>)>,
    headless: BTreeSet<NodeId>,
}

impl Node {
    /// Takes the head of a datagram: who speaks. To be handed to [`handle`](Node::handle) with its lines.
    pub fn hear(&mut self, head: &Head, now: Micros, out: &mut Outbox) -> Speaker {
        if self.classic.is_some() {
            return Speaker(Kind::Classic);
        }
        let own = self.identity.group();
        if head.name != self.name {
            return self.hear_other(head, out);
        }
        let Some((id, incarnation)) = head.from else {
            let is_for_us = head.group.is_none() || head.group == own;
            return if is_for_us { Speaker(Kind::Client) } else { self.hear_other(head, out) };
        };
        match (own, head.group) {
            (None, Some(group)) => self.meet((id, incarnation), group, now, out),
            (None, None) if id != self.id && id.0 < self.n() => self.identity.hears_founder(out),
            (Some(own), Some(group)) if own != group && id.0 < self.n() => {
                let is_left = !self.election.hears_voter(now);
                let can_leave = self.learned() == Instance(0);
                if self.identity.hears_other(group, is_left, now) && can_leave {
                    self.identity.reconsider((id, incarnation), group, now, out);
                }
            }
            _ => {}
        }
        let before = own;
        let own = self.identity.group();
        if own != before {
            // The others wait for that.
            self.beat_at = now;
        }
        match (head.group, own) {
            (Some(group), Some(own)) if group != own => self.hear_other(head, out),
            (group, own) => {
                let is_ours = group.is_some() && group == own;
                self.has_heard_own |= is_ours && id != self.id;
                Speaker(Kind::Node { id, incarnation, is_ours })
            }
        }
    }

    /// The names of other groups that this life has heard, as far as they were named in the log; `None` for those that
    /// have none.
    pub fn other_names(&self) -> BTreeSet<Option<GroupName>> {
        let names = self.others.groups.iter().map(|(_, name)| *name);
        names.filter(|name| *name != self.name).collect()
    }

    /// Whether the name of the group that this life was started with is confirmed: another node of this node's group was
    /// heard under it, or there is no other, and this one votes.
    pub fn has_company(&self) -> bool {
        self.has_heard_own || (self.is_voter() && self.group.members.len() == 1)
    }

    fn hear_other(&mut self, head: &Head, out: &mut Outbox) -> Speaker {
        self.dropped.other_groups += 1;
        let Head { from, group, name } = *head;
        if let Some((id, _)) = from
            && self.others.groups.len() < NAMED
            && self.others.groups.insert((group, name))
        {
            let flag = |name: Option<_>| {
                name.map_or("without --group".into(), |name| format!("with --group {name}"))
            };
            let which = describe(group, name);
            out.event(if group.is_some() && group == self.identity.group() {
                let (its, own) = (flag(name), flag(self.name));
                Event::Warning(format!(
                    "node {id} of this group was started {its}, and this one {own}: its lines are ignored; start all \
                     alike"
                ))
            } else if name == self.name {
                Event::Warning(format!(
                    "another group is on this wire ({which}; heard its node {id}): its lines are ignored; give each \
                     group a name of its own: --group NAME"
                ))
            } else {
                Event::Notice(format!("another group is on this wire ({which}; heard its node {id})"))
            });
        }
        Speaker(Kind::Other)
    }

    /// A node that belongs to no group yet hears one. A member of a first group belongs to the first of which it has
    /// heard enough: if that is not its own, it is refused there, as one that lost its disk. A node that joins listens
    /// for one timeout; of two groups it joins neither.
    fn meet(&mut self, from: (NodeId, u64), group: GroupId, now: Micros, out: &mut Outbox) {
        if !self.identity.hears_group(from, group) {
            return;
        }
        if self.joins.is_none() {
            return self.identity.belong(group, out);
        }
        match self.identity.met() {
            None => self.identity.meet(group, now),
            Some((met, _)) if met != group => self.identity.on_two_groups(met, group, out),
            Some(_) => self.join_met(now, out),
        }
    }

    /// A node that joins has listened long enough: it belongs to the one group that it has heard.
    pub(super) fn join_met(&mut self, now: Micros, out: &mut Outbox) {
        if let (None, Some((group, since))) = (self.identity.group(), self.identity.met())
            && !self.identity.is_barred()
            && now.since(since) >= self.election.longest_timeout()
        {
            self.identity.belong(group, out);
            self.beat_at = now;
        }
    }

    /// Whether a line of `speaker` may be acted on; if not, it is dropped here, and counted.
    pub(super) fn heeds(&mut self, speaker: Speaker, line: &Line, now: Micros, out: &mut Outbox) -> bool {
        let (from, message) = match (line, speaker.0) {
            // Who belongs to no group yet cannot know for which one a request is that it passes on.
            (Line::Client(_), Kind::Other | Kind::Node { is_ours: false, .. }) => return false,
            (Line::Client(_), _) | (Line::Node(..), Kind::Classic) => return true,
            (Line::Node(from, message), _) => (*from, message),
        };
        match speaker.0 {
            Kind::Node { id, incarnation, is_ours: true } if id == from => {
                let is_known = self.is_registered_life(id, incarnation);
                let may_introduce = introduces(message) && !self.objects_falsely(id, message);
                let is_heard = is_known || may_introduce || asks_only(message) || is_exempt(message);
                // A line that names another directory than its datagram does is damaged, or forged.
                let is_heard = is_heard && incarnation_in(message).is_none_or(|named| named == incarnation);
                self.dropped.other_lives += u64::from(!is_heard);
                is_heard
            }
            Kind::Node { id, is_ours: false, .. } if id == from => {
                self.on_newcomer(from, message, now, out);
                false
            }
            Kind::Other => is_exempt(message),
            _ => {
                self.dropped.headless += 1;
                if self.others.headless.len() < NAMED && self.others.headless.insert(from) {
                    out.event(Event::Warning(format!(
                        "lines of node {from} come without a head that names it, as an older version, a classic node \
                         or a forger sends them: they are ignored"
                    )));
                }
                false
            }
        }
    }

    /// Whether `incarnation` may speak as `id`: it is the one that the log names, or this node remembers; of a node
    /// that is no member, the one that its beats name; and this very node.
    fn is_registered_life(&self, id: NodeId, incarnation: u64) -> bool {
        if id == self.id {
            return true;
        }
        self.known_incarnation(id).map_or_else(
            || !self.group.members.contains(&id) && self.beats_as(id, incarnation),
            |known| known == incarnation,
        )
    }

    /// Whether an objection comes from a life of a peer that is not the registered one: nodes that were begun anew under
    /// the members' ids remember each other, and would bar every member that comes back.
    fn objects_falsely(&self, from: NodeId, message: &Message) -> bool {
        matches!(message, Message::Barred { .. }) && self.known_incarnation(from).is_some()
    }

    /// The incarnation that is registered for an id: in the log, or with this node.
    pub(super) fn known_incarnation(&self, id: NodeId) -> Option<u64> {
        self.known_by_log(id).or_else(|| self.identity.remembered(id).map(|boot| boot.incarnation))
    }

    /// The same, if the log tells it, or the identity of the group.
    pub(super) fn known_by_log(&self, id: NodeId) -> Option<u64> {
        self.identity.root(id).or_else(|| self.history.membership().incarnation(id))
    }

    fn beats_as(&self, id: NodeId, incarnation: u64) -> bool {
        self.election.last_boot(id).is_some_and(|boot| boot.incarnation == incarnation)
    }

    /// A node that belongs to no group yet, or that this node, which belongs to none yet, has heard: it is told at
    /// once that this one is here, and of which group it is.
    fn on_newcomer(&mut self, from: NodeId, message: &Message, now: Micros, out: &mut Outbox) {
        if let Message::Register { n, .. } = message
            && *n != self.n()
            && self.n() > 0
        {
            self.mark_foreign(from, *n, out);
        }
        if let Message::Pace(pace) = message {
            self.on_pace(from, *pace, out);
        }
        if matches!(message, Message::Beat(_))
            && from != self.id
            && (self.group.members.contains(&from) || self.election.has_room_for(from, &self.group, now))
            && self.election.on_heard(from, now)
        {
            self.beat_at = now;
        }
    }

    /// What every datagram of this node begins with.
    pub fn head(&self) -> Head {
        let incarnation = self.identity.boot().incarnation;
        Head { from: Some((self.id, incarnation)), group: self.identity.group(), name: self.name }
    }
}

/// The incarnation that a line names as its sender's.
fn incarnation_in(message: &Message) -> Option<u64> {
    match message {
        Message::Beat(Beat { boot, .. }) | Message::Register { boot, .. } => Some(boot.incarnation),
        _ => None,
    }
}

/// The lines that introduce a node: what they say is checked by who remembers it.
fn introduces(message: &Message) -> bool {
    matches!(
        message,
        Message::Beat(_)
            | Message::Register { .. }
            | Message::Registered { .. }
            | Message::Barred { .. }
            | Message::Join { .. }
            | Message::JoinFor { .. }
    )
}

/// The lines that only ask: who has lost its disk may do that.
pub(super) fn asks_only(message: &Message) -> bool {
    matches!(
        message,
        Message::Gap { .. } | Message::AskMark { .. } | Message::AskDigest { .. } | Message::AskChain { .. }
    )
}

/// What the mutants forget to check.
fn is_exempt(message: &Message) -> bool {
    match message {
        Message::Write { .. } | Message::WriteTags(_) => mutant::is(Mutant::WriteOfAnyLife),
        Message::Accepts { .. } | Message::Promise { .. } | Message::PromiseNone { .. } => {
            mutant::is(Mutant::VoteOfAnyLife)
        }
        Message::Mark { .. } => mutant::is(Mutant::MarkOfAnyLife),
        Message::Chosen { .. } => mutant::is(Mutant::ChosenOfAnyLife),
        _ => false,
    }
}

fn describe(group: Option<GroupId>, name: Option<GroupName>) -> String {
    match (group, name) {
        (Some(group), Some(name)) => format!("group {group}, named {name}"),
        (Some(group), None) => format!("group {group}, without a name"),
        (None, Some(name)) => format!("named {name}, about to begin"),
        (None, None) => "without a name, about to begin".into(),
    }
}
