//! What happens to a group in one run: drawn from the seed, written down before it begins.
//!
//! Half of the seeds have two fault classes at most: most bugs need little, and too much hides them.
//! A [`Plan`] can be made smaller, a class or a single fault at a time, without disturbing what is left.

use std::fmt;

use super::chance::{Chance, Stream};
use crate::types::Micros;

/// A kind of trouble, on or off in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it; the README's table says more")]
pub enum Class {
    Loss,
    Duplication,
    Replay,
    Delay,
    Corruption,
    Partition,
    Crash,
    TornWrite,
    SyncError,
    SlowSync,
    Pause,
    Skew,
    Wipe,
    BitFlip,
}

impl Class {
    /// All of them, with the names that the command line uses.
    pub const ALL: [(Class, &'static str); 14] = [
        (Class::Loss, "loss"),
        (Class::Duplication, "duplication"),
        (Class::Replay, "replay"),
        (Class::Delay, "delay"),
        (Class::Corruption, "corruption"),
        (Class::Partition, "partition"),
        (Class::Crash, "crash"),
        (Class::TornWrite, "torn-write"),
        (Class::SyncError, "sync-error"),
        (Class::SlowSync, "slow-sync"),
        (Class::Pause, "pause"),
        (Class::Skew, "skew"),
        (Class::Wipe, "wipe"),
        (Class::BitFlip, "bit-flip"),
    ];

    /// The class of that name.
    pub fn named(name: &str) -> Option<Class> {
        Class::ALL.iter().find(|(_, known)| *known == name).map(|(class, _)| *class)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Class::ALL.iter().find(|(class, _)| class == self).map_or("", |(_, name)| name))
    }
}

/// How often the network misbehaves, per million, and the longest way in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Rates {
    pub loss: u64,
    pub duplicates: u64,
    pub replays: u64,
    pub corruption: u64,
    pub delay: u64,
}

/// Stands for whoever leads at the moment, where a fault names a node.
pub const LEADER: u16 = u16::MAX;

/// Which links are cut, as shapes that have names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Two sides, by the bits of this mask, that do not hear each other.
    Split(u64),
    /// This node hears nobody and is not heard.
    Alone(u16),
    /// The side with a bit is not heard by the other, but hears it.
    OneWay(u64),
    /// Only this node has links: the others, a leader among them, lost the quorum.
    QuorumLoss(u16),
    /// The same, but it has no link with that other node, the old leader perhaps.
    Constrained(u16, u16),
    /// A line of nodes, beginning at this one: each hears its neighbours.
    Chained(u16),
    /// Any of the links, by the bits of this mask.
    Any(u64),
}

impl Topology {
    /// Whether the link is cut.
    pub fn cuts(&self, n: u16, from: u16, to: u16) -> bool {
        let has = |mask: u64, at: u16| (mask >> (at % 64)) & 1 == 1;
        match *self {
            Topology::Split(mask) => has(mask, from) != has(mask, to),
            Topology::Alone(node) => from == node || to == node,
            Topology::OneWay(mask) => has(mask, from) && !has(mask, to),
            Topology::QuorumLoss(center) => from != center && to != center,
            Topology::Constrained(center, other) => {
                (from != center && to != center) || from == other || to == other
            }
            Topology::Chained(first) => {
                let place = |id: u16| (id + n - first % n) % n;
                place(from).abs_diff(place(to)) != 1
            }
            Topology::Any(mask) => has(mask, from * n + to),
        }
    }
}

/// One thing that happens at one moment. Every fault ends by itself, at the latest when all is healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node ends after so many more effects of its loop, and comes back after a while.
    Crash {
        /// Who.
        node: u16,
        /// Effects: a datagram sent, a batch appended, a sync begun, a sync ended.
        after: u64,
        /// For how long.
        down: Micros,
    },
    /// The node's power fails while the next block is being written.
    TornWrite {
        /// Who.
        node: u16,
        /// For how long.
        down: Micros,
    },
    /// The next sync fails.
    SyncError {
        /// Who.
        node: u16,
        /// For how long the node is down then.
        down: Micros,
    },
    /// Syncs take long.
    SlowSync {
        /// Whose.
        node: u16,
        /// How long each takes.
        each: Micros,
        /// For how long they do.
        length: Micros,
    },
    /// The node stands still.
    Pause {
        /// Who.
        node: u16,
        /// For how long.
        length: Micros,
    },
    /// Links are cut.
    Cut {
        /// Which.
        topology: Topology,
        /// For how long.
        length: Micros,
    },
    /// Nodes are cut off one by one, and come back in another order.
    SwizzleClog {
        /// In the order of going.
        goes: Vec<u16>,
        /// In the order of coming back.
        comes: Vec<u16>,
        /// Between two steps.
        step: Micros,
    },
    /// A bit of what the node had synced is flipped while it is down. It must refuse to start; then it comes
    /// back as with a lost disk.
    BitFlip {
        /// Whose.
        node: u16,
        /// After how long.
        down: Micros,
    },
    /// The node's disk is lost; it comes back with an empty one.
    Wipe {
        /// Whose.
        node: u16,
        /// After how long.
        down: Micros,
    },
}

impl Fault {
    /// The same with `leader` where it says [`LEADER`].
    pub fn aimed_at(&self, leader: u16) -> Fault {
        let mut fault = self.clone();
        let aim = |node: &mut u16| {
            if *node == LEADER {
                *node = leader;
            }
        };
        match &mut fault {
            Fault::Crash { node, .. }
            | Fault::TornWrite { node, .. }
            | Fault::SyncError { node, .. }
            | Fault::SlowSync { node, .. }
            | Fault::Pause { node, .. }
            | Fault::BitFlip { node, .. }
            | Fault::Wipe { node, .. } => aim(node),
            Fault::Cut { topology, .. } => match topology {
                Topology::Alone(node) | Topology::QuorumLoss(node) | Topology::Chained(node) => aim(node),
                Topology::Constrained(center, other) => {
                    aim(center);
                    aim(other);
                }
                Topology::Split(_) | Topology::OneWay(_) | Topology::Any(_) => {}
            },
            Fault::SwizzleClog { .. } => {}
        }
        fault
    }

    /// Of which class it is.
    pub fn class(&self) -> Class {
        match self {
            Fault::Crash { .. } => Class::Crash,
            Fault::TornWrite { .. } => Class::TornWrite,
            Fault::SyncError { .. } => Class::SyncError,
            Fault::SlowSync { .. } => Class::SlowSync,
            Fault::Pause { .. } => Class::Pause,
            Fault::Cut { .. } | Fault::SwizzleClog { .. } => Class::Partition,
            Fault::Wipe { .. } => Class::Wipe,
            Fault::BitFlip { .. } => Class::BitFlip,
        }
    }
}

/// A fault with its moment, counted from the beginning of the chaos, and its number in the whole plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the summary says it")]
pub struct Planned {
    pub number: usize,
    pub at: Micros,
    pub fault: Fault,
}

/// All that a run is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many nodes.
    pub n: u16,
    /// How long nothing happens at first.
    pub peace: Micros,
    /// How long things go wrong.
    pub chaos: Micros,
    /// The interval between two signs of life of a node: the shorter, the more elections fit in.
    pub beat: Micros,
    /// The longest pause of a client between two requests.
    pub think: Micros,
    /// The network's misbehaviour.
    pub rates: Rates,
    /// How much faster than time each node's clock goes, per million.
    pub skew: Vec<i64>,
    /// What happens when.
    pub faults: Vec<Planned>,
}

impl Plan {
    /// What `seed` stands for, in a group of `nodes`, or of as many as the seed says.
    pub fn draw(seed: u64, nodes: Option<u16>) -> Plan {
        let mut chance = Chance::new(seed, Stream::Plan);
        let drawn = [3, 3, 3, 3, 5, 5, 4, 6, 7, 2][chance.below(10) as usize];
        let n = nodes.unwrap_or(drawn);
        let classes = draw_classes(&mut chance);
        let mut rate = |class, most| {
            let rate = chance.between(most / 50, most);
            if classes.contains(&class) { rate } else { 0 }
        };
        let rates = Rates {
            loss: rate(Class::Loss, 400_000),
            duplicates: rate(Class::Duplication, 400_000),
            replays: rate(Class::Replay, 500_000),
            corruption: rate(Class::Corruption, 100_000),
            delay: rate(Class::Delay, 250_000),
        };
        let has_skew = classes.contains(&Class::Skew);
        let skew = (0..n).map(|_| if has_skew { chance.between(0, 200_000) as i64 - 100_000 } else { 0 });
        let skew = skew.collect();
        let ms = |chance: &mut Chance, low, high| Micros::from_millis(chance.between(low, high));
        let peace = if chance.hits(300_000) { Micros(0) } else { ms(&mut chance, 0, 700) };
        // The larger a group, the more is said in a second.
        let chaos = ms(&mut chance, 800, 3_000);
        let per_node = |length: Micros| Micros(length.0 * 7 / (u64::from(n) + 4));
        let (peace, chaos) = (per_node(peace), per_node(chaos));
        let beat = ms(&mut chance, 15, 100);
        let think = ms(&mut chance, 60, 600);
        let mut faults = Vec::new();
        for class in classes {
            let many =
                if matches!(class, Class::Crash | Class::TornWrite | Class::Partition) { 8 } else { 4 };
            for _ in 0..=chance.below(many) {
                let fault = draw_fault(class, n, &mut chance);
                let at = Micros(chance.below(chaos.0));
                faults.extend(fault.map(|fault| Planned { number: 0, at, fault }));
            }
        }
        faults.sort_by_key(|planned| planned.at);
        faults.iter_mut().enumerate().for_each(|(number, planned)| planned.number = number);
        Plan { seed, n, peace, chaos, beat, think, rates, skew, faults }
    }

    /// The classes that are in it.
    pub fn classes(&self) -> Vec<Class> {
        let is_on = |class: &Class| match class {
            Class::Loss => self.rates.loss > 0,
            Class::Duplication => self.rates.duplicates > 0,
            Class::Replay => self.rates.replays > 0,
            Class::Corruption => self.rates.corruption > 0,
            Class::Delay => self.rates.delay > 0,
            Class::Skew => self.skew.iter().any(|skew| *skew != 0),
            class => self.faults.iter().any(|planned| planned.fault.class() == *class),
        };
        Class::ALL.map(|(class, _)| class).into_iter().filter(is_on).collect()
    }

    /// The same without a class.
    pub fn without(mut self, class: Class) -> Plan {
        match class {
            Class::Loss => self.rates.loss = 0,
            Class::Duplication => self.rates.duplicates = 0,
            Class::Replay => self.rates.replays = 0,
            Class::Corruption => self.rates.corruption = 0,
            Class::Delay => self.rates.delay = 0,
            Class::Skew => self.skew.fill(0),
            class => self.faults.retain(|planned| planned.fault.class() != class),
        }
        self
    }

    /// The same without the fault of that number.
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
        writeln!(f, "{}", if names.is_empty() { "nothing".into() } else { names.join(", ") })?;
        writeln!(f, "  {:?}", self.rates)?;
        if self.skew.iter().any(|skew| *skew != 0) {
            writeln!(f, "  clocks off by {:?} per million", self.skew)?;
        }
        for Planned { number, at, fault } in &self.faults {
            writeln!(f, "  fault {number} at {} ms: {fault:?}", at.0 / 1000)?;
        }
        Ok(())
    }
}

fn draw_classes(chance: &mut Chance) -> Vec<Class> {
    let mut classes = Class::ALL.map(|(class, _)| class);
    chance.shuffle(&mut classes);
    let most = if chance.hits(500_000) { 2 } else { classes.len() as u64 };
    let count = chance.between(u64::from(most == 2), most) as usize;
    let mut chosen = classes[..count].to_vec();
    chosen.sort();
    chosen
}

fn draw_fault(class: Class, n: u16, chance: &mut Chance) -> Option<Fault> {
    let node = chance.below(u64::from(n)) as u16;
    let node = if chance.hits(400_000) { LEADER } else { node };
    let down = Micros::from_millis(if chance.hits(300_000) { chance.below(20) } else { chance.below(900) });
    let longest = if chance.hits(500_000) { 300 } else { 1_500 };
    let length = Micros::from_millis(chance.between(20, longest));
    Some(match class {
        Class::Crash => Fault::Crash { node, after: chance.below(12), down },
        Class::TornWrite => Fault::TornWrite { node, down },
        Class::SyncError => Fault::SyncError { node, down },
        Class::SlowSync => {
            let each = Micros::from_millis(chance.between(5, 600));
            Fault::SlowSync { node, each, length }
        }
        Class::Pause => Fault::Pause { node, length },
        Class::Partition if chance.hits(150_000) => {
            let mut goes: Vec<u16> = (0..n).collect();
            chance.shuffle(&mut goes);
            goes.truncate(chance.between(1, u64::from(n)) as usize);
            let mut comes = goes.clone();
            chance.shuffle(&mut comes);
            Fault::SwizzleClog { goes, comes, step: Micros::from_millis(chance.between(10, 200)) }
        }
        Class::Partition => Fault::Cut { topology: draw_topology(node, n, chance), length },
        Class::Wipe => Fault::Wipe { node, down },
        Class::BitFlip => Fault::BitFlip { node, down },
        _ => return None,
    })
}

fn draw_topology(node: u16, n: u16, chance: &mut Chance) -> Topology {
    let mask = chance.below(1 << n.min(32));
    match chance.below(7) {
        0 => Topology::Split(mask),
        1 => Topology::OneWay(mask),
        2 => Topology::QuorumLoss(node),
        3 => Topology::Constrained(chance.below(u64::from(n)) as u16, node),
        4 => Topology::Chained(node),
        5 => Topology::Alone(node),
        _ => Topology::Any(chance.below(u64::MAX) & chance.below(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_seeds_have_two_classes_at_most_and_every_class_occurs() {
        let plans: Vec<Plan> = (0..1000).map(|seed| Plan::draw(seed, None)).collect();
        let few = plans.iter().filter(|plan| plan.classes().len() <= 2).count();
        assert!((500..700).contains(&few), "{few} of 1000");
        for (class, name) in Class::ALL {
            let count = plans.iter().filter(|plan| plan.classes().contains(&class)).count();
            assert!(count > 150, "{name} is in {count} of 1000");
            assert_eq!(Class::named(name), Some(class));
            assert!(plans.iter().all(|plan| !plan.clone().without(class).classes().contains(&class)));
        }
    }

    #[test]
    fn the_named_shapes_leave_the_links_that_their_names_say() {
        let left = |topology: Topology| {
            let pairs = (0..5u16).flat_map(|a| (0..a).map(move |b| (b, a)));
            pairs.filter(|(a, b)| !topology.cuts(5, *a, *b)).collect::<Vec<_>>()
        };
        assert_eq!(left(Topology::QuorumLoss(0)), [(0, 1), (0, 2), (0, 3), (0, 4)]);
        assert_eq!(left(Topology::Constrained(0, 3)), [(0, 1), (0, 2), (0, 4)]);
        assert_eq!(left(Topology::Chained(0)), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(left(Topology::Split(0b11)), [(0, 1), (2, 3), (2, 4), (3, 4)]);
    }
}
