//! Draws mixed faults: classes, their odds, and the faults of each.

use upaxos_core::replica::Limits;
use upaxos_core::types::Micros;

use super::{Class, Fault, Kind, LEADER, Plan, Planned, Rates, Topology};
use crate::rng::Rng;

/// The most events that the chaos of a run may have.
const EVENTS: u64 = 2_000;

impl Plan {
    /// A plan without faults and without time for them.
    pub(super) fn calm(seed: u64, n: u16) -> Plan {
        Plan {
            seed,
            kind: Kind::Chaos,
            n,
            joiners: 0,
            peace: Micros(0),
            chaos: Micros(0),
            events: EVENTS,
            beat: Micros::from_millis(100),
            think: Micros::from_millis(100),
            open: Plan::OPEN,
            limits: Limits::USUAL,
            rates: Rates::default(),
            skew: vec![0; usize::from(n)],
            fast_read: Vec::new(),
            scripted: false,
            stray: None,
            faults: Vec::new(),
            other: None,
        }
    }
}

/// Gives the faults numbers, in order of time.
pub(super) fn numbered(faults: &mut [Planned]) {
    faults.sort_by_key(|planned| planned.at);
    faults.iter_mut().enumerate().for_each(|(number, planned)| planned.number = number);
}

/// All classes of faults, mixed.
pub(super) fn chaos(seed: u64, n: u16, chance: &mut Rng) -> Plan {
    let mut classes = draw_classes(chance);
    if n == 1 && !classes.contains(&Class::Join) {
        classes.push(Class::Join);
    }
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
    let joiners = if classes.contains(&Class::Join) { 3 } else { 0 };
    let skew =
        (0..n + joiners).map(|_| if has_skew { chance.between(0, 200_000) as i64 - 100_000 } else { 0 });
    let skew = skew.collect();
    let ms = |chance: &mut Rng, low, high| Micros::from_millis(chance.between(low, high));
    let peace = if chance.hits(300_000) { Micros(0) } else { ms(chance, 0, 700) };
    // The larger a group is, the more datagrams it sends in a second.
    let chaos = ms(chance, 800, 3_000);
    let per_node = |length: Micros| Micros(length.0 * 7 / (u64::from(n) + 4));
    let (peace, chaos) = (per_node(peace), per_node(chaos));
    let beat = ms(chance, 15, 100);
    let think = ms(chance, 60, 600);
    let mut faults = Vec::new();
    for class in classes {
        let many = match class {
            Class::Crash | Class::TornWrite | Class::Partition => 8,
            Class::Join => u64::from(joiners),
            Class::Leave => 2,
            _ => 4,
        };
        for _ in 0..=chance.below(many) {
            let fault = draw_fault(class, n, joiners, chance);
            let at = Micros(chance.below(chaos.0));
            faults.extend(fault.map(|fault| Planned { number: 0, at, fault }));
        }
    }
    numbered(&mut faults);
    Plan { joiners, peace, chaos, beat, think, rates, skew, faults, ..Plan::calm(seed, n) }
}

fn draw_classes(chance: &mut Rng) -> Vec<Class> {
    let mut classes = Class::DRAWN;
    chance.shuffle(&mut classes);
    let most = if chance.hits(500_000) { 2 } else { classes.len() as u64 };
    let count = chance.between(u64::from(most == 2), most) as usize;
    let mut chosen = classes[..count].to_vec();
    chosen.sort();
    chosen
}

/// Draws a fault of a class. `None` for a class that is not drawn here.
pub(super) fn draw_fault(class: Class, n: u16, joiners: u16, chance: &mut Rng) -> Option<Fault> {
    let node = chance.below(u64::from(n + joiners)) as u16;
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
        Class::Pause => {
            let after = chance.hits(500_000).then(|| chance.below(12));
            Fault::Pause { node, after, length }
        }
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
        Class::Join => Fault::Enter { replaces: chance.hits(500_000).then_some(node) },
        Class::Leave => Fault::Leave { node },
        Class::BitFlip => Fault::BitFlip { node, down },
        _ => return None,
    })
}

/// Draws a shape of cut links.
pub(super) fn draw_topology(node: u16, n: u16, chance: &mut Rng) -> Topology {
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
