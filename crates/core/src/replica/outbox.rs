//! The effects that one step of a node asks for, each in the lane that safety demands.
//!
//! Owns no decision. The roles fill the outbox. The [`Driver`](crate::driver::Driver) empties it, in the order that
//! makes a vote durable before it is sent (README, "What is promised", 5).

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::hooks::{Hooks, Script};
use crate::record::Record;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::types::{Ballot, GroupId, Instance, NodeId, Tag, Value};
use crate::wire::{Line, Message};

/// A request for old values. They are in the history files, and no longer in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The first instance to read.
    pub first: Instance,
    /// The last instance to read. The answer may stop earlier, at the byte limit of a lookup
    /// ([`Limits`](crate::replica::limits::Limits)).
    pub last: Instance,
    /// Why the node needs the values. It decides what the node does with them.
    pub purpose: LookupPurpose,
}

/// The reason for a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupPurpose {
    /// A client asked for this instance. This node answers after the delay of this rank.
    Request(usize),
    /// A request with this tag was carried out there. This node answers after the delay of this rank.
    Tagged(Tag, usize),
    /// A peer lacks the value and must learn it.
    Repair,
    /// A digest over the values is computed again.
    Digest,
}

/// How many events a driver asks for. An event for every request costs as much as the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventLevel {
    /// Only events that are rare.
    Seldom,
    /// Also one event for each answer to a client.
    Answers,
    /// Also one event for each learned instance.
    Learned,
}

/// The effects of a step, in lanes. One outbox is reused for all steps of a node.
#[derive(Debug)]
pub struct Outbox {
    me: NodeId,
    bounds: Bounds,
    /// Lines that claim nothing about this node's disk. They may be sent before the sync.
    pub early: Vec<Line>,
    /// Records to append to the log, in this order.
    pub records: Vec<Record>,
    /// Lines that claim what `records` says. They may only be sent after a sync.
    pub after_sync: Vec<Line>,
    /// Events for the log of the process, and for scripts.
    pub events: Vec<Event>,
    /// Values to read from the history files and to hand to
    /// [`Replica::on_found`](crate::replica::Replica::on_found), before anything else.
    pub lookups: Vec<Lookup>,
    /// The scripts of this node. Like the time, they are an argument of every step.
    pub hooks: Option<Rc<dyn Hooks>>,
    flush: bool,
    ends: bool,
    detail: EventLevel,
}

impl Outbox {
    /// An empty outbox of node `me`, without scripts, with the default bounds and with all events.
    pub fn new(me: NodeId) -> Outbox {
        let lanes = || (Vec::new(), Vec::new());
        let ((early, after_sync), records, events) = (lanes(), Vec::new(), Vec::new());
        Outbox {
            bounds: Bounds::default(),
            me,
            early,
            records,
            after_sync,
            events,
            lookups: Vec::new(),
            hooks: None,
            flush: false,
            ends: false,
            detail: EventLevel::Learned,
        }
    }

    /// The same, for a node with scripts.
    pub fn with_hooks(me: NodeId, hooks: Rc<dyn Hooks>) -> Outbox {
        Outbox { hooks: Some(hooks), ..Outbox::new(me) }
    }

    /// Sets which events the driver asks for. The default is all of them.
    pub fn tell(&mut self, detail: EventLevel) {
        self.detail = detail;
    }

    pub(in crate::replica) fn tells(&self, detail: EventLevel) -> bool {
        self.detail >= detail
    }

    /// Replaces the default bounds.
    pub fn limit(&mut self, limits: Limits) {
        self.bounds = limits.into();
    }

    /// The bounds of this outbox that were reached.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Whether there are no effects to carry out.
    pub fn is_empty(&self) -> bool {
        self.early.is_empty()
            && self.records.is_empty()
            && self.after_sync.is_empty()
            && self.events.is_empty()
            && self.lookups.is_empty()
            && !self.flush
    }

    /// Whether the log must be synced now: all records of this step and of earlier ones.
    pub fn needs_sync(&self) -> bool {
        self.flush || !self.after_sync.is_empty()
    }

    /// Empties all lanes, keeping their memory.
    pub fn clear(&mut self) {
        self.early.clear();
        self.records.clear();
        self.after_sync.clear();
        self.events.clear();
        self.lookups.clear();
        self.flush = false;
    }

    /// Adds a line to send before the sync. An answer to a client that continues the previous one extends it.
    pub(in crate::replica) fn send(&mut self, message: Message) {
        if let (
            Some(Line::Node(_, Message::Done { first, last, client, seq })),
            Message::Done { first: next, last: new_last, client: same, seq: next_seq },
        ) = (self.early.last_mut(), &message)
            && last.next() == *next
            && *client == *same
            && *seq + (last.0 - first.0) + 1 == *next_seq
        {
            *last = *new_last;
            return;
        }
        self.early.push(Line::Node(self.me, message));
    }

    pub(in crate::replica) fn send_line(&mut self, line: Line) {
        self.early.push(line);
    }

    pub(in crate::replica) fn look_up(&mut self, first: Instance, last: Instance, purpose: LookupPurpose) {
        let lookup = Lookup { first, last, purpose };
        let is_full = self.lookups.len() >= self.bounds.lookups;
        if !self.lookups.contains(&lookup) && !self.bounds.is_over(Bound::Lookups, is_full) {
            self.lookups.push(lookup);
        }
    }

    /// Whether scripts have time left in this step. Always true without scripts, since then nothing waits for them.
    pub(in crate::replica) fn has_time(&self) -> bool {
        self.hooks.as_ref().is_none_or(|hooks| hooks.has_time())
    }

    /// Whether the node must end ([`Event::MustEnd`]). If so, no further effect may be carried out.
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// Adds an event. A fast read with the same answer as the previous one is counted in that one.
    pub(in crate::replica) fn event(&mut self, event: Event) {
        if let (
            Some(Event::Read { by, instance, learned, clients, .. }),
            Event::Read { by: also, instance: same, learned: as_far, clients: more, .. },
        ) = (self.events.last_mut(), &event)
            && (*by, *instance, *learned) == (*also, *same, *as_far)
        {
            *clients += more;
            return;
        }
        self.ends |= matches!(event, Event::MustEnd(_));
        self.events.push(event);
    }

    /// Asks for a sync although no line waits for it. Lazily appended records should not stay volatile for long.
    pub fn flush(&mut self) {
        self.flush = true;
    }

    /// Adds a record. A `chosen` that continues the previous one extends it.
    pub(in crate::replica) fn persist(&mut self, record: Record) {
        if let (
            Some(Record::Chosen { last, ballot, .. }),
            Record::Chosen { first, last: new_last, ballot: same },
        ) = (self.records.last_mut(), &record)
            && last.next() == *first
            && *ballot == *same
        {
            *last = *new_last;
            return;
        }
        self.records.push(record);
    }

    /// Adds a line to send after the sync. A range of accepts that continues the previous one extends it.
    pub(in crate::replica) fn after_sync(&mut self, message: Message) {
        if let (
            Some(Line::Node(_, Message::Accepts { last, ballot, .. })),
            Message::Accepts { first, last: new_last, ballot: same },
        ) = (self.after_sync.last_mut(), &message)
            && last.next() == *first
            && *ballot == *same
        {
            *last = *new_last;
            return;
        }
        self.after_sync.push(Line::Node(self.me, message));
    }
}

/// An event at this node. `Display` is its text in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This node learned an instance. `reads` is the answer to `Request I` from now on.
    Learned {
        /// The instance that was learned.
        instance: Instance,
        /// The value that a client reads there.
        reads: Value,
    },
    /// A client was answered, by this node or by a peer that this node overheard.
    Answered {
        /// The node that answered.
        by: NodeId,
        /// The instance that the answer is about.
        instance: Instance,
        /// The value in the answer. Absent when the answer names an instance whose value this node does not hold.
        value: Option<Value>,
    },
    /// Fast reads were answered, by this node or by a peer that this node overheard. Such a read takes no instance.
    Read {
        /// The node that answered.
        by: NodeId,
        /// The instance of the last value that a client wrote; 0 if there is none.
        instance: Instance,
        /// The answering node had learned all instances up to this one.
        learned: Instance,
        /// The value of `instance`.
        value: Value,
        /// How many clients got this same answer.
        clients: u64,
    },
    /// This node told a client that its request is not carried out. The text is the reason.
    Refused(Value),
    /// There was no room for a client's request. The client must ask again.
    Busy(Tag),
    /// A client was answered about a range of instances at once.
    AnsweredRange {
        /// The node that answered.
        by: NodeId,
        /// The first instance of the range.
        first: Instance,
        /// The last instance of the range.
        last: Instance,
    },
    /// A classic node sends this message, in one of the roles of Paxos. Its claim is durable.
    Says(Message),
    /// A classic node refuses a ballot (NACK).
    Refuses {
        /// The instance whose ballot is refused.
        instance: Instance,
        /// The ballot that it refuses.
        refused: Ballot,
        /// The ballot that it has promised.
        promised: Ballot,
    },
    /// A classic node gives up its round for a higher ballot.
    GivesWay {
        /// The instance of the round.
        instance: Instance,
        /// The abandoned ballot. The node never uses it again.
        ballot: Ballot,
        /// The higher ballot.
        to: Ballot,
    },
    /// This node became leader, with this ballot.
    Leads(Ballot),
    /// This node abandoned its ballot. It heard of a higher one, or of another value in its own ballot, or it made
    /// no progress.
    SteppedDown {
        /// The abandoned ballot. The node never uses it again.
        ballot: Ballot,
        /// The higher ballot that it yields to. Equal to `ballot` if there is none.
        to: Ballot,
    },
    /// This node follows a new leader.
    Follows {
        /// The new leader, as its own messages name it.
        leader: NodeId,
        /// The ballot that the leader leads with.
        ballot: Ballot,
    },
    /// This node has had two-way links with less than a quorum of the group, for two timeouts in a row.
    LostQuorum {
        /// The members of the group in force.
        members: Vec<NodeId>,
        /// The other members that vote and have a two-way link with this node. Only those count for a quorum.
        linked: Vec<NodeId>,
    },
    /// This node learned which group it belongs to. That never changes.
    Belongs(GroupId),
    /// This node may not vote until these nodes have remembered its identity. When the list is empty, it still
    /// listens for what they remember.
    WaitsFor(Vec<NodeId>),
    /// This node may vote: enough peers remember its identity, or the log names it.
    MayVote,
    /// This node must not vote in this life. The text says why, and how to bring the node back.
    MayNotVote(String),
    /// Another group governs, from the instance after `since` on.
    Governs {
        /// The instance that chose the group. It is the number of its epoch.
        since: Instance,
        /// The members of the new group.
        members: Vec<NodeId>,
    },
    /// This node is no longer a member, and a quorum of the new group knows it. It may end.
    Left {
        /// The instance that chose the group in force. This node is not in that group, and may not have been in the
        /// one before.
        since: Instance,
    },
    /// A script raised an error while it applied a value. Its changes at that instance are undone, on every node.
    ApplyFailed {
        /// The script that failed.
        script: Arc<Script>,
        /// The instance whose value it applied.
        instance: Instance,
        /// The error text of the script.
        error: String,
    },
    /// A script computed a different state at a peer.
    Diverged {
        /// The script whose states differ.
        script: Arc<Script>,
        /// The peer with the other state.
        peer: NodeId,
        /// The last instance at which both states are known to be equal.
        after: Instance,
        /// The first instance at which the states are known to differ. It is the one after `after`, unless that is
        /// too long ago to be found.
        first: Instance,
    },
    /// A peer learned another value: the log is split.
    LogDiverged {
        /// The peer that learned another value.
        peer: NodeId,
        /// The last instance up to which both logs are known to be equal.
        after: Instance,
        /// The first instance at which the logs are known to differ. It is the one after `after`, unless the peer
        /// has not reported so much.
        first: Instance,
    },
    /// Information for the operator.
    Notice(String),
    /// A condition that the operator should look at.
    Warning(String),
    /// This node must end with an error. The text says why, and what to do. No effect of this step may be carried
    /// out any more.
    MustEnd(String),
    /// A client asks all nodes to end (`quit`).
    Quit,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Learned { instance, reads } => write!(f, "learn {instance} {reads}"),
            Event::Answered { by, instance, value: Some(value) } => {
                write!(f, "OK {instance} {value} (answered by {by})")
            }
            Event::Answered { by, instance, value: None } => {
                write!(f, "OK {instance} (answered by {by}; not learned here yet)")
            }
            Event::AnsweredRange { by, first, last } => write!(f, "OK {first} to {last} (answered by {by})"),
            Event::Read { by, instance, learned, value, clients } => {
                let many = if *clients == 1 { String::new() } else { format!(", {clients} times") };
                write!(f, "OK {instance} {value} (fast read as of {learned}, answered by {by}{many})")
            }
            Event::Refused(reason) => write!(f, "refused a request: {reason}"),
            Event::Busy(tag) => {
                write!(f, "cannot take request {} of client {} now: it is to ask again", tag.seq, tag.client)
            }
            Event::Says(message) => say(message, f),
            Event::Refuses { instance, refused, promised } if refused == promised => {
                write!(f, "NACK {instance} {promised} (another value stands in this ballot)")
            }
            Event::Refuses { instance, refused, promised } => {
                write!(f, "NACK {instance} {promised} (refuses ballot {refused})")
            }
            Event::GivesWay { instance, ballot, to } => {
                write!(f, "gives way in instance {instance}: ballot {ballot} to {to}")
            }
            Event::Leads(ballot) => write!(f, "leads with ballot {ballot}"),
            Event::SteppedDown { ballot, to } if ballot == to => write!(f, "steps down from ballot {ballot}"),
            Event::SteppedDown { ballot, to } => write!(f, "steps down from ballot {ballot} for {to}"),
            Event::Follows { leader, ballot } => write!(f, "follows {leader} in ballot {ballot}"),
            Event::LostQuorum { members, linked } => write!(
                f,
                "hears no quorum any more: of the members {}, {} a two-way link with this node; nothing is decided \
                 until more of them are back",
                list(members),
                match linked.as_slice() {
                    [] => "no other votes and has".into(),
                    [one] => format!("only {one} votes and has"),
                    _ => format!("only {} vote and have", list(linked)),
                }
            ),
            Event::Belongs(group) => write!(f, "belongs to the group {group}"),
            Event::WaitsFor(nodes) if nodes.is_empty() => {
                write!(f, "may not vote yet: listening for what the others remember of this node")
            }
            Event::WaitsFor(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
                write!(
                    f,
                    "may not vote yet: waiting for node {} to remember this node's identity",
                    nodes.join(" and node ")
                )
            }
            Event::MayVote => write!(f, "may vote: the group knows this node's identity"),
            Event::MayNotVote(reason) => write!(f, "refuses to vote: {reason}"),
            Event::Governs { since, members } => {
                write!(f, "group {} governs from instance {} on", list(members), since.next())
            }
            Event::Left { since } => write!(
                f,
                "is no member any more: it left, or was put out, and a quorum of the group that governs from instance {} \
                 on knows",
                since.next()
            ),
            Event::ApplyFailed { script, instance, error } => {
                write!(
                    f,
                    "script {}, instance {instance}: apply failed, and was undone: {error}",
                    script.name
                )
            }
            Event::Diverged { script, peer, after, first } => {
                write!(f, "script {} DIVERGES: node {peer} has computed something else ", script.name)?;
                match first.0 - after.0 {
                    1 => write!(f, "at instance {first}"),
                    _ => write!(
                        f,
                        "at or before instance {first}, after {after} (where exactly is too long ago)"
                    ),
                }
            }
            Event::LogDiverged { peer, after, first } => {
                write!(f, "the LOG DIVERGES: node {peer} holds another value ")?;
                match first.0 - after.0 {
                    1 => write!(f, "at instance {first}"),
                    _ => write!(
                        f,
                        "at or before instance {first}, after {after} (node {peer} does not say where)"
                    ),
                }
            }
            Event::Notice(text) | Event::Warning(text) => f.write_str(text),
            Event::MustEnd(reason) => write!(f, "cannot go on: {reason}"),
            Event::Quit => write!(f, "asked to quit"),
        }
    }
}

/// A list of nodes as text: `0,1,2`.
pub(in crate::replica) fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

/// Prints a message of a classic node in the form of its log.
fn say(message: &Message, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match message {
        Message::Propose { instance, ballot } => write!(f, "propose {instance} {ballot}"),
        Message::Promise { instance, ballot, accepted: None } => write!(f, "promise {instance} {ballot}"),
        Message::Promise { instance, ballot, accepted: Some((at, value)) } => {
            write!(f, "promise {instance} {ballot} (accepted in {at}: {value})")
        }
        Message::Write { instance, ballot, value } => write!(f, "write {instance} {ballot} {value}"),
        Message::Accept { instance, ballot, value } => write!(f, "accept {instance} {ballot} {value}"),
        other => write!(f, "{other:?}"),
    }
}
