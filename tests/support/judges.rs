//! What must hold in every run, judged from durable records and from the wire alone.
//!
//! The judges know nothing of how a node works: they see each record when it becomes durable, each line
//! when it is sent, and each record of learning when it is made.

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::record::Record;
use upaxos_core::types::{Ballot, Instance, Value};
use upaxos_core::wire::{Beat, Line, Message};

#[derive(Default)]
pub struct Judges {
    quorum: usize,
    disks: Vec<Disk>,
    /// The one value of each (instance, ballot), wherever it was seen.
    values: BTreeMap<(Instance, Ballot), Value>,
    accepts: BTreeMap<(Instance, Ballot), BTreeSet<u16>>,
    /// What a quorum accepted in one ballot: by definition chosen.
    pub chosen: BTreeMap<Instance, Value>,
    /// What nodes say that each instance reads.
    pub reads: BTreeMap<Instance, Value>,
    /// In which life its owner asked for promises in a ballot.
    proposed: BTreeMap<Ballot, u64>,
}

/// What one member has durably said, over all its lives.
#[derive(Clone, Default)]
struct Disk {
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
    ) -> impl DoubleEndedIterator<Item = (Instance, (Ballot, Value))> {
        let range =
            self.accepted.range((first, Ballot::first_epoch(0))..=(last, Ballot::first_epoch(u64::MAX)));
        range.filter(move |((_, at), _)| *at < ballot).map(|((i, at), value)| (*i, (*at, value.clone())))
    }
}

impl Judges {
    pub fn new(n: u16) -> Judges {
        let disks = vec![Disk::default(); usize::from(n)];
        Judges { quorum: usize::from(n) / 2 + 1, disks, ..Judges::default() }
    }

    /// A record became durable at a member.
    pub fn on_durable(&mut self, id: u16, record: &Record) {
        let disk = &mut self.disks[usize::from(id)];
        match record {
            Record::PromiseAll { ballot } => disk.promised = disk.promised.max(Some(*ballot)),
            Record::Accept { instance, ballot, value } => {
                disk.promised = disk.promised.max(Some(*ballot));
                disk.accepted.insert((*instance, *ballot), value.clone());
                self.on_value(*instance, *ballot, value);
                let voters = self.accepts.entry((*instance, *ballot)).or_default();
                voters.insert(id);
                if voters.len() >= self.quorum {
                    let chosen = self.chosen.entry(*instance).or_insert_with(|| value.clone());
                    assert_eq!(chosen, value, "instance {instance} has two chosen values");
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
            Record::Learn { instance, value } => self.must_be_chosen(id, *instance, Some(value)),
            Record::Chosen { first, last, ballot } => self.must_be_chosen_in(id, *first, *last, *ballot),
            _ => {}
        }
    }

    /// An instance reads the same at every node, in every life.
    pub fn on_reads(&mut self, id: u16, instance: Instance, reads: &Value) {
        let known = self.reads.entry(instance).or_insert_with(|| reads.clone());
        assert_eq!(known, reads, "instance {instance} reads differently at {id}");
    }

    /// A member, in its `life`, sends a line.
    pub fn on_sent(&mut self, id: u16, life: u64, line: &Line) {
        let Line::Node(from, message) = line else { return };
        assert_eq!(from.0, id);
        let disk = &self.disks[usize::from(id)];
        match message {
            Message::ProposeAll { ballot, .. } => {
                self.must_own_durably(id, *ballot);
                let first = *self.proposed.entry(*ballot).or_insert(life);
                assert_eq!(first, life, "{id} proposes ballot {ballot} again after a restart");
            }
            Message::Promise { instance, ballot, accepted } => {
                let last = disk.accepted_below(*ballot, (*instance, *instance)).next_back();
                // A late question may be answered with what its own ballot wrote in the meantime.
                let is_own = accepted.as_ref().is_some_and(|(at, _)| at == ballot);
                let is_last = last.map(|(_, accepted)| accepted) == *accepted;
                assert!(is_own || is_last, "{id} says {line}, which is not what it accepted last");
                self.on_vote(id, *ballot, line);
            }
            Message::PromiseNone { first, last, ballot, learned } => {
                let last = last.unwrap_or(Instance(u64::MAX));
                let hidden = disk.accepted_below(*ballot, (*first, last)).next();
                assert!(hidden.is_none(), "{id} says {line}, hiding {hidden:?}");
                assert!(*learned <= disk.learned, "{id} says {line}, durably learned {}", disk.learned);
                self.on_vote(id, *ballot, line);
            }
            Message::Accepts { first, last, ballot } => {
                for instance in (first.0..=last.0).map(Instance) {
                    let voters = self.accepts.get(&(instance, *ballot));
                    let is_durable = voters.is_some_and(|voters| voters.contains(&id));
                    assert!(is_durable, "{id} says {line}, not durable");
                }
                self.on_vote(id, *ballot, line);
            }
            Message::Write { instance, ballot, value } => {
                self.must_own_durably(id, *ballot);
                self.on_value(*instance, *ballot, value);
            }
            Message::Beat(Beat { ballot, learned, .. }) => {
                assert!(*learned <= disk.learned, "{id} says {line}, durably learned {}", disk.learned);
                if let Some(ballot) = ballot.filter(|ballot| ballot.number % 65_536 == u64::from(id)) {
                    self.must_own_durably(id, ballot);
                }
            }
            Message::Chosen { first, last, ballot } => self.must_be_chosen_in(id, *first, *last, *ballot),
            Message::Written { instance, value } => self.must_be_chosen(id, *instance, Some(value)),
            Message::Ok { instance, value } | Message::Answer { instance, value, .. } => {
                self.must_be_chosen(id, *instance, None);
                assert_eq!(self.reads.get(instance), Some(value), "{id} says {line}");
            }
            Message::Done { first, last, .. } => {
                (first.0..=last.0).for_each(|i| self.must_be_chosen(id, Instance(i), None));
            }
            _ => {}
        }
    }

    /// What a safe read at `instance` has to read: the last user value before it.
    pub fn last_user_value(&self, instance: Instance) -> String {
        let below = self.reads.range(..instance).rev().map(|(_, value)| value.to_string());
        let is_user = |value: &String| {
            let ours = ["safe read ", "duplicate of ", "no-op", "void"];
            !ours.iter().any(|mark| value.starts_with(mark))
        };
        below.into_iter().find(is_user).unwrap_or_default()
    }

    fn on_value(&mut self, instance: Instance, ballot: Ballot, value: &Value) {
        let known = self.values.entry((instance, ballot)).or_insert_with(|| value.clone());
        assert_eq!(known, value, "two values in instance {instance}, ballot {ballot}");
    }

    fn on_vote(&mut self, id: u16, ballot: Ballot, line: &Line) {
        let disk = &mut self.disks[usize::from(id)];
        assert!(disk.promised >= Some(ballot), "{id} says {line}, durably promised {:?}", disk.promised);
        assert!(disk.voted <= Some(ballot), "{id} says {line} after it voted in {:?}", disk.voted);
        disk.voted = Some(ballot);
    }

    fn must_own_durably(&self, id: u16, ballot: Ballot) {
        assert_eq!(ballot.number % 65_536, u64::from(id), "{id} uses ballot {ballot}");
        let promised = self.disks[usize::from(id)].promised;
        assert!(promised >= Some(ballot), "{id} shows its ballot {ballot} before it is durable");
    }

    fn must_be_chosen(&self, id: u16, instance: Instance, value: Option<&Value>) {
        let chosen = self.chosen.get(&instance);
        assert!(chosen.is_some(), "{id} claims instance {instance}, which is not chosen");
        assert!(value.is_none() || value == chosen, "{id} claims {value:?} at {instance}, chosen {chosen:?}");
    }

    fn must_be_chosen_in(&self, id: u16, first: Instance, last: Instance, ballot: Ballot) {
        for instance in (first.0..=last.0).map(Instance) {
            let value = self.values.get(&(instance, ballot));
            assert!(value.is_some(), "{id} claims instance {instance} in ballot {ballot}: no value there");
            self.must_be_chosen(id, instance, value);
        }
    }
}
