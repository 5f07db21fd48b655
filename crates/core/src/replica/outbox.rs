//! What a step of the node wants done, in the lanes that safety asks for.
//!
//! Owns no decision. The roles fill it, and the [`Driver`](crate::driver::Driver) empties it in the order that
//! makes a vote durable before it is sent (README, "What is promised", 5).

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::hooks::{Hooks, Script};
use crate::record::Record;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::types::{Ballot, GroupId, Instance, NodeId, Tag, Value};
use crate::wire::{Line, Message};

/// Old values that the node wants: they stand in the history files, and are no longer held in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// From here.
    pub first: Instance,
    /// To here, or as far as the bytes of a lookup go ([`Limits`](crate::replica::limits::Limits)).
    pub last: Instance,
    /// What for.
    pub purpose: LookupPurpose,
}

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupPurpose {
    /// A client asked for this instance; who answers as one of this rank.
    Request(usize),
    /// A request of this tag was carried out there; who answers as one of this rank.
    Tagged(Tag, usize),
    /// A peer has to learn it.
    Repair,
    /// A digest of it is computed anew.
    Digest,
}

/// How much a driver wants to know: an event for every request costs as much as the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventLevel {
    /// Of what happens seldom.
    Seldom,
    /// Of every answer, too.
    Answers,
    /// Of every instance that is learned, too.
    Learned,
}

/// The effects of a step.
#[derive(Debug)]
pub struct Outbox {
    me: NodeId,
    bounds: Bounds,
    /// Lines that claim nothing about our disk.
    pub early: Vec<Line>,
    /// What must reach the disk, in this order.
    pub records: Vec<Record>,
    /// Lines that claim what `records` says, and so may only follow a sync.
    pub after_sync: Vec<Line>,
    /// What people and their programs want to know of.
    pub events: Vec<Event>,
    /// What is to be read from the history, and handed to [`Replica::on_found`](crate::replica::Replica::found), before
    /// anything else.
    pub lookups: Vec<Lookup>,
    /// The scripts of this node: an argument of every step, as the time is.
    pub hooks: Option<Rc<dyn Hooks>>,
    flush: bool,
    ends: bool,
    detail: EventLevel,
}

impl Outbox {
    /// An empty outbox of node `me`.
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

    /// The same for a node that has scripts.
    pub fn with_hooks(me: NodeId, hooks: Rc<dyn Hooks>) -> Outbox {
        Outbox { hooks: Some(hooks), ..Outbox::new(me) }
    }

    /// Says of what its driver wants events; at first of everything.
    pub fn tell(&mut self, detail: EventLevel) {
        self.detail = detail;
    }

    pub(in crate::replica) fn tells(&self, detail: EventLevel) -> bool {
        self.detail >= detail
    }

    /// Has other bounds than the usual ones.
    pub fn limit(&mut self, limits: Limits) {
        self.bounds = limits.into();
    }

    /// Which of its bounds were reached.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.early.is_empty()
            && self.records.is_empty()
            && self.after_sync.is_empty()
            && self.events.is_empty()
            && self.lookups.is_empty()
            && !self.flush
    }

    /// Whether what was appended, now or in earlier steps, must be synced now.
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

    /// Adds a line for now; an answer to a client that goes on from the one before extends it.
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

    /// Whether scripts may run now; where there are none, nothing waits for them.
    pub(in crate::replica) fn has_time(&self) -> bool {
        self.hooks.as_ref().is_none_or(|hooks| hooks.has_time())
    }

    /// Whether the node must end ([`Event::MustEnd`]): none of its effects may be carried out any more.
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// The next lookup, which is carried out from here on.
    pub(crate) fn take_lookup(&mut self) -> Option<Lookup> {
        (!self.lookups.is_empty()).then(|| self.lookups.remove(0))
    }

    /// Adds an event; a fast read like the one before is counted with it.
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

    /// Asks for a sync although nothing waits for it: lazily appended records should not stay
    /// volatile for long.
    pub fn flush(&mut self) {
        self.flush = true;
    }

    /// Adds a record; a `chosen` that goes on from the one before extends it.
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

    /// Adds a line for after the sync; a range of accepts that goes on from the one before extends it.
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

/// Something that happened to this node. `Display` is the text for its log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This node learned an instance; `reads` is what `Request I` answers from now on.
    Learned {
        /// Which instance.
        instance: Instance,
        /// What it reads.
        reads: Value,
    },
    /// A client was answered, by this node or by one that was overheard.
    Answered {
        /// Who answered.
        by: NodeId,
        /// Which instance.
        instance: Instance,
        /// What the answer says; absent when it names an instance whose value this node does not hold.
        value: Option<Value>,
    },
    /// Clients were answered without an instance, by this node or by one that was overheard.
    Read {
        /// Who answered.
        by: NodeId,
        /// Where the last value stands that a user wrote; 0 if none was.
        instance: Instance,
        /// Up to where all had been learned.
        learned: Instance,
        /// That value.
        value: Value,
        /// How many were answered alike.
        clients: u64,
    },
    /// This node told a client that its request is not carried out.
    Refused(Value),
    /// There was no room for a client's request: it is to ask again.
    Busy(Tag),
    /// A client was answered about many instances at once.
    AnsweredRange {
        /// Who answered.
        by: NodeId,
        /// From here.
        first: Instance,
        /// To here.
        last: Instance,
    },
    /// A classic node says this, as one of the roles of Paxos; what it claims is durable.
    Says(Message),
    /// A classic node refuses a ballot.
    Refuses {
        /// Where.
        instance: Instance,
        /// What it refuses.
        refused: Ballot,
        /// What it has promised.
        promised: Ballot,
    },
    /// A classic node gives its round up, for a higher ballot.
    GivesWay {
        /// Where.
        instance: Instance,
        /// The ballot given up, for ever.
        ballot: Ballot,
        /// What it gives way to.
        to: Ballot,
    },
    /// This node leads.
    Leads(Ballot),
    /// This node no longer runs its ballot, because it heard of a higher one, or that another value
    /// stands in its own, or because it got nowhere.
    SteppedDown {
        /// The ballot given up, for ever.
        ballot: Ballot,
        /// What it gave way to; the same where that is no higher one.
        to: Ballot,
    },
    /// This node follows a new leader.
    Follows {
        /// The leader.
        leader: NodeId,
        /// Its ballot.
        ballot: Ballot,
    },
    /// This node has had no quorum of the group at hand for two timeouts on end.
    LostQuorum {
        /// The group.
        members: Vec<NodeId>,
        /// The others of it that vote and have a two-way link with this node: those that count for a quorum.
        linked: Vec<NodeId>,
    },
    /// This node knows which group it belongs to, for ever.
    Belongs(GroupId),
    /// This node may not vote until these nodes have remembered its identity.
    WaitsFor(Vec<NodeId>),
    /// Enough peers remember this node, or the log names it: it votes.
    MayVote,
    /// This node must not vote in this life, and how to come back.
    MayNotVote(String),
    /// Another group governs from the next instance on.
    Governs {
        /// The instance that chose it: its epoch.
        since: Instance,
        /// Its members.
        members: Vec<NodeId>,
    },
    /// This node is no member any more, and a quorum of the group that goes on knows it: it may end.
    Left {
        /// The instance that chose the group in force: without it, as a group before that one may have been.
        since: Instance,
    },
    /// A script raised an error where it should have applied a value: what it had done there is undone, on every
    /// node.
    ApplyFailed {
        /// Which script.
        script: Arc<Script>,
        /// Where.
        instance: Instance,
        /// What it said.
        error: String,
    },
    /// A script has computed something else at a peer.
    Diverged {
        /// Which script.
        script: Arc<Script>,
        /// Where.
        peer: NodeId,
        /// The last instance at which both are known to have computed the same.
        after: Instance,
        /// The first at which they have not: the one after it, unless that was too long ago to be found.
        first: Instance,
    },
    /// A peer has learned something else: the log is split.
    LogDiverged {
        /// Where.
        peer: NodeId,
        /// The last instance up to which both are known to have learned the same.
        after: Instance,
        /// The first at which they have not: the one after it, unless the peer has not said so much.
        first: Instance,
    },
    /// Something an operator may want to know.
    Notice(String),
    /// Something an operator should look at.
    Warning(String),
    /// This node must end, with a fault; why, and what to do. Nothing of this step may be done any more.
    MustEnd(String),
    /// Somebody asks all nodes to end.
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

/// Nodes as people read them: `0,1,2`.
pub(in crate::replica) fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

/// What a classic node says, in the words of its log.
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
