//! The senders of datagrams: compares the head of a datagram with this node's knowledge.
//!
//! This module owns the one place where lines are tied to a group and to a data directory. Two groups on one wire
//! have the same ids, and their ballots coincide. A new directory under the id of a lost one has the same id, too.
//! A line of another group is dropped, whatever it says. A line of an incarnation other than the one registered for
//! its id is dropped, unless it introduces its sender or only asks. Classic groups use no heads, so there all lines
//! are accepted.

use std::collections::BTreeSet;

use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::outbox::{Event, Outbox};
use crate::replica::senders::{Kind, Speaker};
use crate::types::{GroupId, Instance, Micros, NodeId};
use crate::wire::kinds::{asks_only, incarnation_in, introduces};
use crate::wire::{GroupName, Head, Line, Message};

impl Replica {
    /// Reads the head of a datagram and returns its sender, for [`handle`](Replica::handle).
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
            // The other nodes wait for that.
            self.candidacy.beat_again_at(now);
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

    /// The names of the other groups that this run has heard and named in the log. `None` stands for a group
    /// without a name.
    pub fn other_names(&self) -> BTreeSet<Option<GroupName>> {
        self.others.names().filter(|name| *name != self.name).collect()
    }

    /// Whether the group name of this run is confirmed: this node heard another node of its group under that name,
    /// or it votes and is the only member.
    pub fn has_company(&self) -> bool {
        self.has_heard_own || (self.is_voter() && self.history.group().members.len() == 1)
    }

    fn hear_other(&mut self, head: &Head, out: &mut Outbox) -> Speaker {
        self.dropped.other_groups += 1;
        let Head { from, group, name } = *head;
        if let Some((id, _)) = from
            && self.others.name_group(group, name)
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

    /// A node without a group hears one. A member of a first group belongs to the first group that it has heard
    /// often enough. If that is not its own, it is refused there, as a node with a lost disk. A joiner listens for
    /// one timeout; if it hears two groups, it joins neither.
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

    /// Ends the listening time of a joiner: it belongs to the one group that it has heard.
    pub(in crate::replica) fn join_met(&mut self, now: Micros, out: &mut Outbox) {
        if let (None, Some((group, since))) = (self.identity.group(), self.identity.met())
            && !self.identity.is_barred()
            && now.since(since) >= self.election.longest_timeout()
        {
            self.identity.belong(group, out);
            self.candidacy.beat_again_at(now);
        }
    }

    /// Whether this node may act on a line of `speaker`. If not, the line is dropped and counted here.
    pub(in crate::replica) fn heeds(
        &mut self,
        speaker: Speaker,
        line: &Line,
        now: Micros,
        out: &mut Outbox,
    ) -> bool {
        let (from, message) = match (line, speaker.0) {
            // A node without a group cannot know for which group the request is that it passes on.
            (Line::Client(_), Kind::Other | Kind::Node { is_ours: false, .. }) => return false,
            (Line::Client(_), _) | (Line::Node(..), Kind::Classic) => return true,
            (Line::Node(from, message), _) => (*from, message),
        };
        match speaker.0 {
            Kind::Node { id, incarnation, is_ours: true } if id == from => {
                let is_known = self.group_view(now).is_registered_life(id, incarnation);
                let may_introduce = introduces(message) && !self.objects_falsely(id, message, now);
                let is_heard = is_known || may_introduce || asks_only(message) || is_exempt(message);
                // A line whose incarnation differs from its datagram's is damaged or forged.
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
                if self.others.name_headless(from) {
                    out.event(Event::Warning(format!(
                        "lines of node {from} come without a head that names it, as an older version, a classic node \
                         or a forger sends them: they are ignored"
                    )));
                }
                false
            }
        }
    }

    /// Whether an objection comes from an incarnation of a peer that is not the registered one. Nodes that started
    /// anew under the members' ids remember each other, and would bar every member that comes back.
    fn objects_falsely(&self, from: NodeId, message: &Message, now: Micros) -> bool {
        matches!(message, Message::Barred { .. }) && self.group_view(now).known_incarnation(from).is_some()
    }

    /// Handles a node without a group, or any node while this node has none. This node at once reports that it is
    /// here, and its group.
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
            && (self.history.group().members.contains(&from)
                || self.election.has_room_for(from, self.history.group(), now))
            && self.election.on_heard(from, now)
        {
            self.candidacy.beat_again_at(now);
        }
    }

    /// The head of every datagram that this node sends.
    pub fn head(&self) -> Head {
        let incarnation = self.identity.boot().incarnation;
        Head { from: Some((self.id, incarnation)), group: self.identity.group(), name: self.name }
    }
}

/// The lines that a mutant fails to check.
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
