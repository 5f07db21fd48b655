//! What must hold in every run, checked from durable records, from the wire and from the clients' side.
//!
//! The checkers know nothing of how a node works. They see each record when it is made and when it is durable. They
//! see each line when it is sent, the value that a node reports for an instance, and what clients requested and
//! received. Each checker looks only at what is new, so a whole run costs linear time (times a logarithm). The
//! first violation is kept. Later ones are ignored, because they may follow from the first.

mod calls;
mod clients;
mod disk;
mod disks;
mod epochs;
mod excuses;
mod groups;
mod overheard;
mod reference;
mod rollback;
mod rule;
mod scripts;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::entry::Entry;
use upaxos_core::replica::Limits;
use upaxos_core::types::{Ballot, Instance, Numbering, Tag, Value};
use upaxos_core::wire::Dialect;

pub use calls::Calls;
use disk::Disk;
use epochs::Groups;
use excuses::Rollback;
use reference::Reference;
pub use rule::{Rule, Violation};

/// The checkers of one run.
#[derive(Debug)]
pub struct Checkers {
    groups: Groups,
    dialect: Dialect,
    numbering: Numbering,
    disks: Vec<Disk>,
    /// The one value of each (instance, ballot), from records and from the wire.
    values: BTreeMap<(Instance, Ballot), Value>,
    /// The nodes that have durably promised each ballot, by the slot of the promise.
    promises: BTreeMap<(Instance, Ballot), BTreeSet<u16>>,
    accepts: BTreeMap<(Instance, Ballot), BTreeSet<u16>>,
    /// The values that a quorum accepted in one ballot. They are chosen, by definition.
    chosen: BTreeMap<Instance, Value>,
    /// The value that nodes report for each instance.
    reads: BTreeMap<Instance, Value>,
    /// The life in which the owner of a ballot first sent a proposal in it.
    proposed: BTreeMap<(Instance, Ballot), u64>,
    /// Ballots in lines that were forged by hand.
    forged: BTreeSet<Ballot>,
    calls: Calls,
    /// What scripts must have computed. Made when the first digest is checked.
    scripts: Option<Reference>,
    rollback: Rollback,
    violation: Option<Violation>,
}

impl Checkers {
    /// The checkers of a first group of `n` nodes, and of `joiners` more nodes that may join it.
    pub fn new(n: u16, joiners: u16, dialect: Dialect, limits: Limits) -> Checkers {
        let numbering = match dialect {
            Dialect::Extended => Numbering::Standard,
            Dialect::Classic => Numbering::Classic(n),
        };
        Checkers {
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

    /// Records a violation, unless an earlier one is recorded. A rule that a rolled back disk may violate is
    /// excused: then the nodes must detect the difference.
    pub fn fail(&mut self, rule: Rule, got: impl Into<String>) {
        let violation = Violation { rule, got: got.into() };
        match self.rollback.excuses(rule) {
            true => self.rollback.broken.get_or_insert(violation),
            false => self.violation.get_or_insert(violation),
        };
    }

    /// The requests of clients and the answers to them.
    pub fn calls(&mut self) -> &mut Calls {
        &mut self.calls
    }

    /// The first instance at which a tagged request was chosen.
    pub fn chosen(&self, tag: Tag) -> Option<Instance> {
        self.calls.chosen(tag)
    }

    /// The highest instance that was acknowledged to any client.
    pub fn acknowledged(&self) -> Instance {
        self.calls.acknowledged()
    }

    /// A node reports the value of an instance. It must be the same at every node, in every life.
    pub fn on_reads(&mut self, id: u16, instance: Instance, reads: &Value) {
        let known = self.reads.entry(instance).or_insert_with(|| reads.clone());
        if known != reads {
            let got = format!("instance {instance} reads {reads:?} at {id}, and {known:?} elsewhere");
            self.fail(Rule::Agreement, got);
        }
    }

    /// The run is over and the group has settled: no request is open, and `learned` has the learned prefix of every
    /// node that still runs.
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

    /// The key of a promise. A classic group keeps one promise for each instance, an extended group keeps one for
    /// all.
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
                    self.fail(Rule::Validity, format!("no client requested {value:?}, chosen at {instance}"));
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
