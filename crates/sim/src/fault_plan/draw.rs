//! Draws a plan from a seed, with the odds of all faults.
//!
//! All chance of a plan is drawn here, from a stream of its own. The [`Plan`] stores the result.

use upaxos_core::types::{Instance, Micros};

use super::mixed::{chaos, draw_fault, draw_topology, numbered};
use super::{
    Class, Fault, Kind, LEADER, Plan, Planned, Rates, Topology, bounds, operators, other, rollbacks,
};
use crate::rng::{Rng, Stream};

impl Plan {
    /// How many requests a client usually has open at once.
    pub const OPEN: usize = 4;

    /// The plan of `seed`, for a group of `nodes`, or of a size that the seed draws.
    pub fn draw(seed: u64, nodes: Option<u16>) -> Plan {
        Plan::draw_kind(seed, nodes, None)
    }

    /// The same for a classic group, whatever kind of run the seed draws otherwise.
    pub fn draw_classic(seed: u64, nodes: Option<u16>) -> Plan {
        Plan::draw_kind(seed, nodes, Some(Kind::Classic))
    }

    fn draw_kind(seed: u64, nodes: Option<u16>, kind: Option<Kind>) -> Plan {
        let mut chance = Rng::new(seed, Stream::Plan);
        let drawn = [3, 3, 3, 3, 3, 3, 5, 5, 5, 4, 4, 6, 6, 7, 2, 1][chance.below(16) as usize];
        let n = nodes.unwrap_or(drawn);
        let mut plan = match chance.below(100) {
            _ if kind == Some(Kind::Classic) => draw_classic(seed, n, &mut chance),
            0..7 if n > 2 => draw_partitioned(seed, n, &mut chance),
            7..12 => draw_classic(seed, n, &mut chance),
            12..22 => draw_turmoil(seed, nodes.unwrap_or([3, 4, 4, 5, 5][n as usize % 5]), &mut chance),
            _ => chaos(seed, n, &mut chance),
        };
        // In partitioned runs only links may fail.
        let mut bounds = Rng::new(seed, Stream::Bounds);
        if plan.kind != Kind::Partitioned && bounds.hits(250_000) {
            plan.limits = bounds::draw(&mut bounds);
            plan.open = [Plan::OPEN, 12, 32][bounds.below(3) as usize];
        }
        operators::draw(&mut plan);
        other::draw(&mut plan);
        rollbacks::draw(&mut plan);
        // Where nodes differ, so do their answers to untagged reads.
        let odds = [0, 500_000, 1_000_000][chance.below(3) as usize];
        plan.fast_read = (0..plan.n + plan.joiners).map(|_| chance.hits(odds)).collect();
        plan.scripted = chance.hits(250_000) && plan.kind != Kind::Classic;
        let stray = (chance.below(u64::from(plan.n)) as u16, Instance(chance.between(1, 60)));
        // A node whose scripts diverge is ended and gets new ones. That would be one fault too many for a
        // partitioned run. Such a node must never be alone in force: the scripts of a quorum count as right.
        let leaves = plan.faults.iter().filter(|planned| planned.fault.class() == Class::Leave).count();
        let is_outvoted = plan.n > 2 && leaves + 1 < usize::from(plan.n);
        let may_stray = plan.scripted && is_outvoted && plan.kind == Kind::Chaos;
        // Where logs differ, scripts do, too.
        let may_stray = may_stray && !plan.classes().contains(&Class::Rollback);
        plan.stray = Some(stray).filter(|_| chance.hits(150_000) && may_stray);
        plan
    }
}

/// Only links fail, and some node can always lead.
fn draw_partitioned(seed: u64, n: u16, chance: &mut Rng) -> Plan {
    let node = chance.below(u64::from(n)) as u16;
    let node = if chance.hits(400_000) { LEADER } else { node };
    let drawn = (0..8).map(|_| draw_topology(node, n, chance));
    // Shapes without a name can take longer.
    let is_fit = |topology: &Topology| topology.allows_leader(n) && !matches!(topology, Topology::Any(_));
    let topology = drawn.filter(is_fit).last().unwrap_or(Topology::QuorumLoss(node));
    let beat = Micros::from_millis(chance.between(25, 100));
    let chaos = beat * 80;
    let loss = if chance.hits(500_000) { 50_000 } else { 0 };
    Plan {
        kind: Kind::Partitioned,
        peace: Micros::from_millis(chance.below(500)),
        chaos,
        beat,
        think: Micros::from_millis(chance.between(60, 600)),
        rates: Rates { loss, ..Rates::default() },
        faults: vec![Planned { number: 0, at: Micros(0), fault: Fault::Cut { topology, length: chaos } }],
        ..Plan::calm(seed, n)
    }
}

/// A classic group has no guard against lost disks, and its members never change.
fn draw_classic(seed: u64, n: u16, chance: &mut Rng) -> Plan {
    let never = [Class::Wipe, Class::BitFlip, Class::Join, Class::Leave];
    let plan = never.into_iter().fold(chaos(seed, n, chance), Plan::without);
    Plan { kind: Kind::Classic, ..plan }
}

/// One election after another, while datagrams arrive late, twice, and long after their ballot. Old votes do harm
/// only when a leader comes back soon and other leaders chose values in the meantime.
fn draw_turmoil(seed: u64, n: u16, chance: &mut Rng) -> Plan {
    let ms = |chance: &mut Rng, low, high| Micros::from_millis(chance.between(low, high));
    let rates = Rates {
        loss: chance.between(50_000, 400_000),
        duplicates: chance.between(100_000, 400_000),
        replays: chance.between(100_000, 500_000),
        corruption: 0,
        delay: chance.between(2_000, 120_000),
    };
    let chaos = ms(chance, 600, 1_500);
    let mut faults = Vec::new();
    let joiners = if chance.hits(500_000) { 3 } else { 0 };
    let classes = [Class::Partition, Class::Partition, Class::Pause, Class::Crash, Class::Leave, Class::Join];
    let kinds = if joiners > 0 { classes.len() as u64 } else { 4 };
    for _ in 0..chance.between(6, 20) {
        let class = classes[chance.below(kinds) as usize];
        let at = Micros(chance.below(chaos.0));
        let fault = draw_fault(class, n, joiners, chance);
        faults.extend(fault.map(|fault| Planned { number: 0, at, fault: shortened(fault) }));
    }
    numbered(&mut faults);
    let (beat, think) = (ms(chance, 8, 20), ms(chance, 20, 150));
    let (peace, skew) = (ms(chance, 0, 150), vec![0; usize::from(n + joiners)]);
    Plan { joiners, peace, chaos, beat, think, rates, skew, faults, ..Plan::calm(seed, n) }
}

/// The same fault for an eighth of the time, as fits fast heartbeats.
fn shortened(mut fault: Fault) -> Fault {
    match &mut fault {
        Fault::Cut { length, .. } | Fault::Pause { length, .. } => *length = Micros(length.0 / 8),
        Fault::Crash { down, .. } => *down = Micros(down.0 / 8),
        Fault::SwizzleClog { step, .. } => *step = Micros(step.0 / 8),
        _ => {}
    }
    fault
}
