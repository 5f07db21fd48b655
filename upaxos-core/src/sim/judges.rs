//! What must hold in every run, judged from durable records, from the wire and from the clients' side.
//!
//! The judges know nothing of how a node works. They see each record when it is made and when it is
//! durable, each line when it is sent, what a node says that an instance reads, and what clients asked
//! and were told. Each looks only at what is new, so a whole run costs linear time (times a logarithm).
//! The first violation is kept; what follows from it is of no interest.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use calls::Calls;

use crate::entry::Entry;
use crate::record::Record;
use crate::types::{Ballot, Instance, NodeId, Numbering, Value};
use crate::wire::{Beat, Boot, Dialect, Line, Message};

/// The rules, by what a reader of the README calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "Display says what each asks for")]
pub enum Rule {
    Agreement,
    OneValuePerBallot,
    OwnBallot,
    PromisesNeverRegress,
    DurableBeforeSaid,
    PromiseTellsAll,
    Validity,
    Integrity,
    LostDiskNeverVotes,
    RealTimeOrder,
    ReadsSeeWrites,
    Durability,
    ExactlyOnce,
    NothingRefused,
    RecoversWhole,
    Progress,
    NoPanic,
}

impl Rule {
    /// What must hold.
    pub fn text(self) -> &'static str {
        match self {
            Rule::Agreement => "an instance has one chosen value, and reads the same at every node for ever",
            Rule::OneValuePerBallot => "one value per instance and ballot",
            Rule::OwnBallot => "a ballot is used by its owner alone, durable before it is shown, in one life",
            Rule::PromisesNeverRegress => "no vote in a lower ballot than one before, across restarts",
            Rule::DurableBeforeSaid => {
                "what a line claims about its sender's disk is durable before it is sent"
            }
            Rule::PromiseTellsAll => "a promise tells the last accepted value of every instance it covers",
            Rule::Validity => "what is chosen was asked for by a client, or is a mark of our own",
            Rule::Integrity => "what a node claims to be chosen was accepted by a quorum in one ballot",
            Rule::LostDiskNeverVotes => "who has lost its disk never votes again under its id",
            Rule::RealTimeOrder => "what was asked after an answer stands above the instance answered",
            Rule::ReadsSeeWrites => "a safe read reads the last user value below its instance",
            Rule::Durability => "what was acknowledged is in the log of every node, for ever",
            Rule::ExactlyOnce => "a tagged request takes effect once, where its answer says",
            Rule::NothingRefused => "a request that its client still waits for is not refused",
            Rule::RecoversWhole => "a crash leaves a log that opens, with every durable record",
            Rule::Progress => "a healed group answers every request and learns alike",
            Rule::NoPanic => "no input and no order of events makes a node panic",
        }
    }
}

/// What was expected, and what was found instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What happened.
    pub got: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected: {}\ngot:      {}", self.rule.text(), self.got)
    }
}

/// The judges of one run.
#[derive(Debug, Default)]
pub struct Judges {
    quorum: usize,
    disks: Vec<Disk>,
    /// The one value of each (instance, ballot), wherever it was seen.
    values: BTreeMap<(Instance, Ballot), Value>,
    accepts: BTreeMap<(Instance, Ballot), BTreeSet<u16>>,
    /// What a quorum accepted in one ballot: by definition chosen.
    chosen: BTreeMap<Instance, Value>,
    /// What nodes say that each instance reads.
    reads: BTreeMap<Instance, Value>,
    /// In which life its owner asked for promises in a ballot.
    proposed: BTreeMap<Ballot, u64>,
    calls: Calls,
    violation: Option<Violation>,
}

/// What one member has durably said, over all its lives.
#[derive(Clone, Debug, Default)]
struct Disk {
    starts: u64,
    is_member: bool,
    registered: BTreeMap<NodeId, Boot>,
    is_lost: bool,
    promised: Option<Ballot>,
    accepted: BTreeMap<(Instance, Ballot), Value>,
    learned: Instance,
    /// The highest ballot that it voted in, as the others see it.
    voted: Option<Ballot>,
}

impl Disk {
    /// What a promise of `ballot` has to tell: all that was accepted before it. (A batch may hold the
    /// promise and then a vote in that ballot, or a higher one.)
    fn accepted_below(
        &self,
        ballot: Ballot,
        (first, last): (Instance, Instance),
    ) -> impl DoubleEndedIterator<Item = (Instance, (Ballot, &Value))> {
        let lowest = Ballot::first_epoch(0);
        let range = self.accepted.range((first, lowest)..(last.next(), lowest));
        range.filter(move |((_, at), _)| *at < ballot).map(|((i, at), value)| (*i, (*at, value)))
    }
}

impl Judges {
    /// The judges of a group of `n`.
    pub fn new(n: u16) -> Judges {
        let disks = vec![Disk::default(); usize::from(n)];
        Judges { quorum: usize::from(n) / 2 + 1, disks, ..Judges::default() }
    }

    /// The first violation, if any.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Takes note of a violation, unless there was one before.
    pub fn fail(&mut self, rule: Rule, got: impl Into<String>) {
        self.violation.get_or_insert_with(|| Violation { rule, got: got.into() });
    }

    /// What clients asked and were told.
    pub fn calls(&mut self) -> &mut Calls {
        &mut self.calls
    }

    /// The highest instance that any client was told of.
    pub fn acknowledged(&self) -> Instance {
        self.calls.acknowledged()
    }

    /// Whether a member may vote, by its own disk.
    pub fn is_member(&self, id: u16) -> bool {
        self.disks[usize::from(id)].is_member
    }

    /// Whether a member has lost its disk.
    pub fn is_lost(&self, id: u16) -> bool {
        self.disks[usize::from(id)].is_lost
    }

    /// A record became durable at a member.
    pub fn on_durable(&mut self, id: u16, record: &Record) {
        let disk = &mut self.disks[usize::from(id)];
        match record {
            Record::Start { start, .. } => disk.starts = *start,
            Record::Member => disk.is_member = true,
            Record::Registered { node, boot } => drop(disk.registered.insert(*node, *boot)),
            Record::PromiseAll { ballot } => disk.promised = disk.promised.max(Some(*ballot)),
            Record::Accept { instance, ballot, value } => {
                disk.promised = disk.promised.max(Some(*ballot));
                disk.accepted.insert((*instance, *ballot), value.clone());
                self.on_value(*instance, *ballot, value);
                let voters = self.accepts.entry((*instance, *ballot)).or_default();
                voters.insert(id);
                if voters.len() >= self.quorum {
                    self.on_chosen(*instance, value);
                }
            }
            Record::Chosen { last, .. } => disk.learned = *last,
            Record::Learn { instance, .. } => disk.learned = *instance,
            _ => {}
        }
    }

    /// A member made a record: it may only learn what is chosen.
    pub fn on_record(&mut self, id: u16, record: &Record) {
        match record {
            Record::Accept { instance, ballot, value } => self.on_value(*instance, *ballot, value),
            Record::Learn { instance, value } => self.must_be_chosen(id, *instance, Some(value.clone())),
            Record::Chosen { first, last, ballot } => self.must_be_chosen_in(id, *first, *last, *ballot),
            _ => {}
        }
    }

    /// A member opened its log, and would begin the next segment with this: all that was durable, and
    /// nothing else.
    pub fn on_recovered(&mut self, id: u16, (learned, records): &(Instance, Vec<Record>)) {
        let disk = &self.disks[usize::from(id)];
        let mut durable: Vec<Record> = Vec::new();
        durable.extend(disk.is_member.then_some(Record::Member));
        let registered = disk.registered.iter();
        durable.extend(registered.map(|(node, boot)| Record::Registered { node: *node, boot: *boot }));
        durable.extend(disk.promised.map(|ballot| Record::PromiseAll { ballot }));
        let open = disk.accepted.range((learned.next(), Ballot::first_epoch(0))..);
        // The last ballot of an instance is the one that counts.
        let last: BTreeMap<_, _> = open.map(|((i, ballot), value)| (*i, (*ballot, value.clone()))).collect();
        let accept = |(instance, (ballot, value))| Record::Accept { instance, ballot, value };
        durable.extend(last.into_iter().map(accept));
        let is_judged = |record: &&Record| {
            !matches!(
                record,
                Record::Start { .. }
                    | Record::Session { .. }
                    | Record::User { .. }
                    | Record::Forgotten { .. }
            )
        };
        let found: Vec<Record> = records.iter().filter(is_judged).cloned().collect();
        let start = |record: &Record| match record {
            Record::Start { start, .. } => Some(*start),
            _ => None,
        };
        let starts = records.iter().find_map(start).unwrap_or(0);
        if found != durable || disk.learned != *learned || disk.starts + 1 != starts {
            let (found, durable) = ((learned, starts, found), (disk.learned, disk.starts, durable));
            self.fail(
                Rule::RecoversWhole,
                format!("{id} recovers (learned, start, the rest) {found:?}; durable are {durable:?}"),
            );
        }
    }

    /// A member lost its disk, with all that it had promised.
    pub fn on_wiped(&mut self, id: u16) {
        self.disks[usize::from(id)] = Disk { is_lost: true, ..Disk::default() };
    }

    /// An instance reads the same at every node, in every life.
    pub fn on_reads(&mut self, id: u16, instance: Instance, reads: &Value) {
        let known = self.reads.entry(instance).or_insert_with(|| reads.clone());
        if known != reads {
            let got = format!("instance {instance} reads {reads:?} at {id}, and {known:?} elsewhere");
            self.fail(Rule::Agreement, got);
        }
    }

    /// A member, in its `life`, sends a line.
    pub fn on_sent(&mut self, id: u16, life: u64, line: &Line) {
        let Line::Node(from, message) = line else { return };
        if from.0 != id {
            return self.fail(Rule::OwnBallot, format!("{id} speaks for {from}: {line}"));
        }
        match message {
            Message::ProposeAll { ballot, .. } => {
                self.must_own_durably(id, *ballot, line);
                let first = *self.proposed.entry(*ballot).or_insert(life);
                if first != life {
                    self.fail(Rule::OwnBallot, format!("{id} says {line} in life {life}, first in {first}"));
                }
            }
            Message::Write { instance, ballot, value } => {
                self.must_own_durably(id, *ballot, line);
                self.on_value(*instance, *ballot, value);
            }
            Message::Promise { instance, ballot, accepted } => {
                self.on_promise(id, *instance, *ballot, accepted.as_ref(), line);
            }
            Message::PromiseNone { first, last, ballot, learned } => {
                self.on_promise_none(id, (*first, *last), *ballot, *learned, line);
            }
            Message::Accepts { first, last, ballot } => self.on_accepts(id, (*first, *last), *ballot, line),
            Message::Beat(Beat { ballot, learned, .. }) => {
                self.must_have_learned(id, *learned, line);
                // Who has lost its disk may hear of a ballot that it once owned, as of anybody's.
                let is_own = |ballot: &Ballot| Numbering::Standard.owner(*ballot) == NodeId(id);
                if let Some(ballot) = ballot.filter(is_own).filter(|_| !self.is_lost(id)) {
                    self.must_own_durably(id, ballot, line);
                }
            }
            Message::Chosen { first, last, ballot } => self.must_be_chosen_in(id, *first, *last, *ballot),
            Message::Written { instance, value } => self.must_be_chosen(id, *instance, Some(value.clone())),
            Message::Ok { instance, value } | Message::Answer { instance, value, .. } => {
                self.must_be_chosen(id, *instance, None);
                if self.reads.get(instance) != Some(value) {
                    let reads = self.reads.get(instance);
                    self.fail(Rule::Agreement, format!("{id} says {line}, which reads {reads:?}"));
                }
            }
            Message::Done { first, last, .. } => {
                (first.0..=last.0).for_each(|i| self.must_be_chosen(id, Instance(i), None));
            }
            _ => {}
        }
    }

    /// The run is over, the group has settled: so far has every member learned, and nothing is open.
    pub fn finish(&mut self, learned: &[Instance]) {
        let acknowledged = self.calls.acknowledged();
        for (id, learned) in learned.iter().enumerate() {
            if *learned < acknowledged {
                let got = format!("{id} has learned up to {learned}, acknowledged is {acknowledged}");
                self.fail(Rule::Durability, got);
            }
        }
        if let Err((rule, got)) = self.calls.check(&self.reads) {
            self.fail(rule, got);
        }
    }

    fn on_promise(
        &mut self,
        id: u16,
        instance: Instance,
        ballot: Ballot,
        accepted: Option<&(Ballot, Value)>,
        line: &Line,
    ) {
        let last = self.disks[usize::from(id)].accepted_below(ballot, (instance, instance)).next_back();
        let last = last.map(|(_, accepted)| accepted);
        // A late question may be answered with what its own ballot wrote in the meantime.
        let is_own = accepted.is_some_and(|(at, _)| *at == ballot);
        if !is_own && last != accepted.map(|(at, value)| (*at, value)) {
            let got = format!("{id} says {line}, having accepted last {last:?}");
            self.fail(Rule::PromiseTellsAll, got);
        }
        self.on_vote(id, ballot, line);
    }

    fn on_promise_none(
        &mut self,
        id: u16,
        (first, last): (Instance, Option<Instance>),
        ballot: Ballot,
        learned: Instance,
        line: &Line,
    ) {
        let last = last.unwrap_or(Instance(u64::MAX - 1));
        let hidden = self.disks[usize::from(id)].accepted_below(ballot, (first, last)).next();
        if let Some(hidden) = hidden {
            let got = format!("{id} says {line}, hiding {hidden:?}");
            self.fail(Rule::PromiseTellsAll, got);
        }
        self.must_have_learned(id, learned, line);
        self.on_vote(id, ballot, line);
    }

    fn on_accepts(&mut self, id: u16, (first, last): (Instance, Instance), ballot: Ballot, line: &Line) {
        for instance in (first.0..=last.0).map(Instance) {
            let voters = self.accepts.get(&(instance, ballot));
            if !voters.is_some_and(|voters| voters.contains(&id)) {
                self.fail(Rule::DurableBeforeSaid, format!("{id} says {line}, not durable at {instance}"));
            }
        }
        self.on_vote(id, ballot, line);
    }

    fn on_value(&mut self, instance: Instance, ballot: Ballot, value: &Value) {
        let known = self.values.entry((instance, ballot)).or_insert_with(|| value.clone());
        if known != value {
            let got = format!("instance {instance}, ballot {ballot}: {known:?} and {value:?}");
            self.fail(Rule::OneValuePerBallot, got);
        }
    }

    fn on_chosen(&mut self, instance: Instance, value: &Value) {
        match self.chosen.get(&instance) {
            Some(known) if known == value => {}
            Some(known) => {
                let got = format!("instance {instance} is chosen as {known:?} and as {value:?}");
                self.fail(Rule::Agreement, got);
            }
            None => {
                self.chosen.insert(instance, value.clone());
                if !self.calls.asked_for(&Entry::decode(instance, value, Dialect::Extended)) {
                    self.fail(Rule::Validity, format!("nobody asked for {value:?}, chosen at {instance}"));
                }
            }
        }
    }

    fn on_vote(&mut self, id: u16, ballot: Ballot, line: &Line) {
        let disk = &mut self.disks[usize::from(id)];
        let (voted, promised) = (disk.voted, disk.promised);
        disk.voted = voted.max(Some(ballot));
        if disk.is_lost {
            self.fail(Rule::LostDiskNeverVotes, format!("{id} says {line}"));
        } else if promised < Some(ballot) {
            self.fail(Rule::DurableBeforeSaid, format!("{id} says {line}, durably promised {promised:?}"));
        } else if voted > Some(ballot) {
            self.fail(Rule::PromisesNeverRegress, format!("{id} says {line} after it voted in {voted:?}"));
        }
    }

    fn must_own_durably(&mut self, id: u16, ballot: Ballot, line: &Line) {
        let promised = self.disks[usize::from(id)].promised;
        if Numbering::Standard.owner(ballot) != NodeId(id) || promised < Some(ballot) {
            self.fail(Rule::OwnBallot, format!("{id} says {line}, durably promised {promised:?}"));
        }
    }

    fn must_have_learned(&mut self, id: u16, learned: Instance, line: &Line) {
        let durable = self.disks[usize::from(id)].learned;
        if learned > durable {
            self.fail(Rule::DurableBeforeSaid, format!("{id} says {line}, durably learned {durable}"));
        }
    }

    fn must_be_chosen(&mut self, id: u16, instance: Instance, value: Option<Value>) {
        let chosen = self.chosen.get(&instance);
        if chosen.is_none() || (value.is_some() && value.as_ref() != chosen) {
            let got = format!("{id} claims {value:?} at {instance}, chosen is {chosen:?}");
            self.fail(Rule::Integrity, got);
        }
    }

    fn must_be_chosen_in(&mut self, id: u16, first: Instance, last: Instance, ballot: Ballot) {
        for instance in (first.0..=last.0).map(Instance) {
            match self.values.get(&(instance, ballot)) {
                Some(value) => self.must_be_chosen(id, instance, Some(value.clone())),
                None => {
                    let got = format!("{id} claims {instance} in ballot {ballot}, where nothing was written");
                    self.fail(Rule::Integrity, got);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
