//! The plan of a run: all faults that happen to a group, drawn from the seed before the run begins.
//!
//! Half of the seeds have two fault classes at most: most bugs need little, and too many faults hide them. Small
//! bounds, long absences, operators, other groups and rolled back disks are drawn besides, from streams of their
//! own. A [`Plan`] can be made smaller by a class or a single fault at a time, and the rest stays as it was.

mod bounds;
mod class;
mod draw;
mod fault;
mod mixed;
mod operators;
mod other;
mod rollbacks;
mod topology;

use std::fmt;

use upaxos_core::replica::Limits;
use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::Dialect;

pub use class::Class;
pub use fault::{Fault, LEADER};
pub use topology::Topology;

/// The rates of network faults, per million, and the longest delay in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Rates {
    pub loss: u64,
    pub duplicates: u64,
    pub replays: u64,
    pub corruption: u64,
    pub delay: u64,
}

/// A fault, with its time from the beginning of the chaos and its number in the whole plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the summary says it")]
pub struct Planned {
    pub number: usize,
    pub at: Micros,
    pub fault: Fault,
}

/// What a run tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// All classes of faults, mixed.
    #[default]
    Chaos,
    /// Links fail in one shape, which stays. Nothing else fails, except perhaps for a little loss. Where a leader
    /// is possible, there must be one soon.
    Partitioned,
    /// Mixed faults except lost disks, in a group that speaks the classic grammar only.
    Classic,
}

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of all random streams.
    pub seed: u64,
    /// What the run tests.
    pub kind: Kind,
    /// How many nodes the first group has.
    pub n: u16,
    /// How many more nodes may join it.
    pub joiners: u16,
    /// The length of the quiet start.
    pub peace: Micros,
    /// The length of the chaos.
    pub chaos: Micros,
    /// The most events that the chaos may have.
    pub events: u64,
    /// The interval between two heartbeats of a node. The shorter it is, the more elections a run has.
    pub beat: Micros,
    /// The longest pause of a client between two requests.
    pub think: Micros,
    /// How many requests a client has open at once.
    pub open: usize,
    /// The bounds of all nodes.
    pub limits: Limits,
    /// The rates of network faults during the chaos.
    pub rates: Rates,
    /// How much each node's clock is faster than real time, per million. Negative: slower.
    pub skew: Vec<i64>,
    /// For each node, whether it answers untagged reads without an instance.
    pub fast_read: Vec<bool>,
    /// Whether the nodes run scripts.
    pub scripted: bool,
    /// A node whose scripts diverge, and the instance from which on they do.
    pub stray: Option<(u16, Instance)>,
    /// The faults of the chaos, in order of time.
    pub faults: Vec<Planned>,
    /// Another group on the same wire.
    pub other: Option<Box<Other>>,
}

/// Another group, and the times at which the wires are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The plan of the other group itself.
    pub plan: Plan,
    /// Its age when this group begins. `None`: its members are started on the joined wire, with empty disks.
    pub age: Option<Micros>,
    /// When the wires are joined, as (begin, end) from the beginning of the chaos.
    pub joined: Vec<(Micros, Micros)>,
    /// Whether the wires are joined again for good when everything is healed.
    pub stays: bool,
}

impl Plan {
    /// The grammar that the group speaks.
    pub fn dialect(&self) -> Dialect {
        if self.kind == Kind::Classic { Dialect::Classic } else { Dialect::Extended }
    }

    /// The classes of faults that the plan has.
    pub fn classes(&self) -> Vec<Class> {
        let is_on = |class: &Class| match class {
            Class::Loss => self.rates.loss > 0,
            Class::Duplication => self.rates.duplicates > 0,
            Class::Replay => self.rates.replays > 0,
            Class::Corruption => self.rates.corruption > 0,
            Class::Delay => self.rates.delay > 0,
            Class::Skew => self.skew.iter().any(|skew| *skew != 0),
            Class::Bounds => self.limits != Limits::USUAL,
            Class::Other => self.other.is_some(),
            class => self.faults.iter().any(|planned| planned.fault.class() == *class),
        };
        Class::ALL.map(|(class, _)| class).into_iter().filter(is_on).collect()
    }

    /// The same plan without a class.
    pub fn without(mut self, class: Class) -> Plan {
        match class {
            Class::Loss => self.rates.loss = 0,
            Class::Duplication => self.rates.duplicates = 0,
            Class::Replay => self.rates.replays = 0,
            Class::Corruption => self.rates.corruption = 0,
            Class::Delay => self.rates.delay = 0,
            Class::Skew => self.skew.fill(0),
            Class::Bounds => self.limits = Limits::USUAL,
            Class::Other => self.other = None,
            class => self.faults.retain(|planned| planned.fault.class() != class),
        }
        self
    }

    /// The same plan without the fault of that number.
    pub fn skip(mut self, number: usize) -> Plan {
        self.faults.retain(|planned| planned.number != number);
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.classes().iter().map(Class::to_string).collect();
        write!(
            f,
            "seed {}, {} nodes, {} ms of peace, {} ms between beats, {} ms of ",
            self.seed,
            self.n,
            self.peace.0 / 1000,
            self.beat.0 / 1000,
            self.chaos.0 / 1000
        )?;
        let kind = match self.kind {
            Kind::Chaos => "",
            Kind::Partitioned => ", to test the election",
            Kind::Classic => ", in a classic group",
        };
        writeln!(f, "{}{kind}", if names.is_empty() { "nothing".into() } else { names.join(", ") })?;
        writeln!(f, "  {:?}", self.rates)?;
        if self.skew.iter().any(|skew| *skew != 0) {
            writeln!(f, "  clocks off by {:?} per million", self.skew)?;
        }
        if self.fast_read.contains(&true) {
            let ids = self
                .fast_read
                .iter()
                .zip(0u16..)
                .filter(|(is_fast, _)| **is_fast)
                .map(|(_, id)| id)
                .collect::<Vec<_>>();
            writeln!(f, "  untagged reads are fast at {ids:?}")?;
        }
        match self.stray {
            Some((node, from)) => {
                writeln!(f, "  scripts; those of node {node} diverge from instance {from} on")?
            }
            None if self.scripted => writeln!(f, "  scripts")?,
            None => {}
        }
        if self.limits != Limits::USUAL {
            writeln!(f, "  {:?}", self.limits)?;
        }
        if self.open != Plan::OPEN {
            writeln!(f, "  {} requests of each client open at once", self.open)?;
        }
        for Planned { number, at, fault } in &self.faults {
            writeln!(f, "  fault {number} at {} ms: {fault:?}", at.0 / 1000)?;
        }
        if let Some(other) = &self.other {
            let age = other.age.map_or("begun there".into(), |age| format!("{} ms older", age.0 / 1000));
            let joined: Vec<_> = other
                .joined
                .iter()
                .map(|(from, to)| format!("{} to {} ms", from.0 / 1000, to.0 / 1000))
                .collect();
            let stays = if other.stays { ", and in the end" } else { "" };
            write!(
                f,
                "  another group, {age}, on the wire from {}{stays}: {}",
                joined.join(", "),
                other.plan
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_seeds_have_two_classes_at_most_and_every_class_occurs() {
        let plans: Vec<Plan> = (0..1000).map(|seed| Plan::draw(seed, None)).collect();
        let partitioned = plans.iter().filter(|plan| plan.kind == Kind::Partitioned).count();
        assert!((40..100).contains(&partitioned), "{partitioned} of 1000");
        let classic = plans.iter().filter(|plan| plan.kind == Kind::Classic).count();
        assert!((30..80).contains(&classic), "{classic} of 1000");
        let strays = plans.iter().filter(|plan| plan.stray.is_some());
        assert!(strays.clone().count() > 10, "{} of 1000 stray", strays.clone().count());
        assert!(strays.clone().all(|plan| plan.kind == Kind::Chaos), "elsewhere nothing but links may fail");
        let drawn = |plan: &Plan| plan.classes().iter().filter(|class| Class::DRAWN.contains(class)).count();
        let few = plans.iter().filter(|plan| drawn(plan) <= 2).count();
        assert!((500..700).contains(&few), "{few} of 1000");
        for (class, name) in Class::ALL {
            let count = plans.iter().filter(|plan| plan.classes().contains(&class)).count();
            assert!(count > 150, "{name} is in {count} of 1000");
            assert_eq!(Class::named(name), Some(class));
            assert!(plans.iter().all(|plan| !plan.clone().without(class).classes().contains(&class)));
        }
    }
}
