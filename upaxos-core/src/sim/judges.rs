//! What must hold in every run, judged from durable records, from the wire and from the clients' side.
//!
//! The judges know nothing of how a node works. They see each record when it is made and when it is
//! durable, each line when it is sent, what a node says that an instance reads, and what clients asked
//! and were told. Each looks only at what is new, so a whole run costs linear time (times a logarithm).
//! The first violation is kept; what follows from it is of no interest.

mod calls;
mod clients;
mod disks;
mod groups;
mod overheard;
mod rollback;
mod rule;
mod scripts;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

pub use calls::Calls;
use disks::Disk;
use groups::Groups;
use rollback::Rollback;
pub use rule::{Rule, Violation};

use crate::entry::Entry;
use crate::node::Limits;
use crate::types::{Ballot, Instance, Numbering, Tag, Value};
use crate::wire::Dialect;

/// The judges of one run.
#[derive(Debug)]
pub struct Judges {
    groups: Groups,
    dialect: Dialect,
    numbering: Numbering,
    disks: Vec<Disk>,
    /// The one value of each (instance, ballot), wherever it was seen.
    values: BTreeMap<(Instance, Ballot), Value>,
    /// Who has durably promised each ballot, by the slot of the promise.
    promises: BTreeMap<(Instance, Ballot), BTreeSet<u16>>,
    accepts: BTreeMap<(Instance, Ballot), BTreeSet<u16>>,
    /// What a quorum accepted in one ballot: by definition chosen.
    chosen: BTreeMap<Instance, Value>,
    /// What nodes say that each instance reads.
    reads: BTreeMap<Instance, Value>,
    /// In which life its owner asked for promises in a ballot.
    proposed: BTreeMap<(Instance, Ballot), u64>,
    /// Ballots that somebody spoke of by hand.
    forged: BTreeSet<Ballot>,
    calls: Calls,
    /// What scripts have to have computed; made when the first one is judged.
    scripts: Option<scripts::Reference>,
    rollback: Rollback,
    violation: Option<Violation>,
}

impl Judges {
    /// The judges of a first group of `n`, and of so many nodes that may join it.
    pub fn new(n: u16, joiners: u16, dialect: Dialect, limits: Limits) -> Judges {
        let numbering = match dialect {
            Dialect::Extended => Numbering::Standard,
            Dialect::Classic => Numbering::Classic(n),
        };
        Judges {
            groups: Groups::new(n, limits),
            dialect,
            numbering,
            disks: vec![Disk::default(); usize::from(n + joiners)],
            values: BTreeMap::new(),
            promises: BTreeMap::new(),
            accepts: BTreeMap::new(),
            chosen: BTreeMap::new(),
            reads: BTreeMap::new(),
            proposed: BTreeMap::new(),
            forged: BTreeSet::new(),
            calls: Calls::default(),
            scripts: None,
            rollback: Rollback::default(),
            violation: None,
        }
    }

    /// The first violation, if any.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Takes note of a violation, unless there was one before. What a rolled back disk may break is another matter:
    /// that must be found.
    pub fn fail(&mut self, rule: Rule, got: impl Into<String>) {
        let violation = Violation { rule, got: got.into() };
        match self.rollback.excuses(rule) {
            true => self.rollback.broken.get_or_insert(violation),
            false => self.violation.get_or_insert(violation),
        };
    }

    /// What clients asked and were told.
    pub fn calls(&mut self) -> &mut Calls {
        &mut self.calls
    }

    /// Where a tagged request was chosen first.
    pub fn chosen(&self, tag: Tag) -> Option<Instance> {
        self.calls.chosen(tag)
    }

    /// The highest instance that any client was told of.
    pub fn acknowledged(&self) -> Instance {
        self.calls.acknowledged()
    }

    /// An instance reads the same at every node, in every life.
    pub fn on_reads(&mut self, id: u16, instance: Instance, reads: &Value) {
        let known = self.reads.entry(instance).or_insert_with(|| reads.clone());
        if known != reads {
            let got = format!("instance {instance} reads {reads:?} at {id}, and {known:?} elsewhere");
            self.fail(Rule::Agreement, got);
        }
    }

    /// The run is over, the group has settled: so far has every node learned that still runs, and nothing is
    /// open.
    pub fn finish(&mut self, learned: &[(u16, Instance)]) {
        let acknowledged = self.calls.acknowledged();
        for (id, learned) in learned {
            if *learned < acknowledged {
                let got = format!("{id} has learned up to {learned}, acknowledged is {acknowledged}");
                self.fail(Rule::Durability, got);
            }
        }
        if let Err((rule, got)) = self.calls.check(&self.reads) {
            self.fail(rule, got);
        }
    }

    /// What a promise is kept under: a classic group has one for each instance, others one for all.
    fn slot(&self, instance: Instance) -> Instance {
        if self.dialect == Dialect::Classic { instance } else { Instance(0) }
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
                let entry = Entry::decode(instance, value, self.dialect);
                if !self.is_wanted(&entry) {
                    self.fail(Rule::Validity, format!("nobody asked for {value:?}, chosen at {instance}"));
                }
                self.calls.on_chosen(instance, entry);
            }
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
