//! The judges of what members write: what is durable where, and what a log that is opened again holds.
//!
//! Called with each record when it is made and when it is durable, in every life. What was said about it
//! on the wire is judged next door.

use std::collections::BTreeMap;

use super::{Judges, Rule};
use crate::record::Record;
use crate::types::{Ballot, Instance, Value};

/// What one member has durably said, over all its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub records: usize,
    pub is_member: bool,
    pub is_lost: bool,
    /// By the slot of each promise.
    pub promised: BTreeMap<Instance, Ballot>,
    pub accepted: BTreeMap<(Instance, Ballot), Value>,
    pub learned: Instance,
    /// The highest ballot that it voted in, as the others see it.
    pub voted: BTreeMap<Instance, Ballot>,
}

impl Disk {
    /// What a promise of `ballot` has to tell: all that was accepted before it. (A batch may hold the
    /// promise and then a vote in that ballot, or a higher one.)
    pub fn accepted_below(
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
        let slot = |instance| self.slot(instance);
        let promise = match record {
            Record::PromiseAll { ballot } => Some((Instance(0), *ballot)),
            Record::Promise { instance, ballot } | Record::Accept { instance, ballot, .. } => {
                Some((slot(*instance), *ballot))
            }
            _ => None,
        };
        let disk = &mut self.disks[usize::from(id)];
        disk.records += 1;
        if let Some((slot, ballot)) = promise {
            let promised = disk.promised.entry(slot).or_insert(ballot);
            *promised = ballot.max(*promised);
        }
        match record {
            Record::Member => disk.is_member = true,
            Record::Accept { instance, ballot, value } => {
                disk.accepted.insert((*instance, *ballot), value.clone());
                self.on_value(*instance, *ballot, value);
                let voters = self.accepts.entry((*instance, *ballot)).or_default();
                voters.insert(id);
                self.on_accepted(*instance, *ballot, value);
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

    /// A member opened its log: so many records, learned so far.
    pub fn on_recovered(&mut self, id: u16, records: usize, learned: Instance) {
        let disk = &self.disks[usize::from(id)];
        if disk.records != records || disk.learned != learned {
            let durable = (disk.records, disk.learned);
            self.fail(
                Rule::RecoversWhole,
                format!("{id} recovers {records} records, learned {learned}; durable are {durable:?}"),
            );
        }
    }

    /// A member lost its disk, with all that it had promised.
    pub fn on_wiped(&mut self, id: u16) {
        self.disks[usize::from(id)] = Disk { is_lost: true, ..Disk::default() };
    }
}
