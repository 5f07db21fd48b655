//! Long absences of nodes, and operators. They are drawn besides the other faults, from a stream of their own.
//!
//! It owns the odds. An absent node comes back far behind the log, after compaction, while the leader fails: a
//! candidate that has to catch up everything. Operators request any change, also by `force`. That may cost a group
//! its quorum, but never its agreement.

use upaxos_core::types::{Act, Change, Micros, NodeId};

use super::{Fault, Kind, LEADER, Plan, Planned};
use crate::rng::{Rng, Stream};

/// The most events of the chaos in runs in which the group learns much during an absence.
const EVENTS: u64 = 6_000;

/// The same for runs in which the group learns thousands of instances.
const MANY_EVENTS: u64 = 60_000;

/// Adds the absences and operators of this seed to the plan.
pub(super) fn draw(plan: &mut Plan) {
    let mut chance = Rng::new(plan.seed, Stream::Operators);
    let (is_absent, operates) = (chance.hits(200_000), chance.hits(200_000));
    if plan.kind != Kind::Chaos || plan.n == 1 {
        return;
    }
    let mut faults = Vec::new();
    if is_absent {
        draw_absence(plan, &mut chance, &mut faults);
    }
    if operates {
        draw_operator(plan, &mut chance, &mut faults);
    }
    if is_absent && plan.events == EVENTS && chance.hits(150_000) {
        // Thousands of instances, and many compactions.
        (plan.think, plan.events) = (Micros::from_millis(3), MANY_EVENTS);
    }
    let first = plan.faults.len();
    faults.sort_by_key(|(at, _)| *at);
    let numbered = faults.into_iter().zip(first..);
    plan.faults.extend(numbered.map(|((at, fault), number)| Planned { number, at, fault }));
}

fn draw_absence(plan: &mut Plan, chance: &mut Rng, faults: &mut Vec<(Micros, Fault)>) {
    let away = Micros(plan.chaos.0 / 10 * chance.between(4, 9));
    for _ in 0..=chance.below(u64::from(plan.n - 1) / 2) {
        let node = chance.below(u64::from(plan.n)) as u16;
        faults.push((Micros(chance.below(plan.chaos.0 / 20 + 1)), Fault::Absence { node, down: away }));
    }
    let leads = Fault::Absence { node: LEADER, down: Micros::from_millis(chance.between(100, 900)) };
    faults.push((Micros(away.0 + chance.below(50_000)), leads));
    if chance.hits(400_000) {
        // The group learns much in the meantime.
        (plan.open, plan.think, plan.events) = (64, Micros::from_millis(10), EVENTS);
    }
}

fn draw_operator(plan: &mut Plan, chance: &mut Rng, faults: &mut Vec<(Micros, Fault)>) {
    if plan.joiners == 0 {
        plan.joiners = 2;
        plan.skew.extend([0, 0]);
    }
    for _ in 0..=chance.below(3) {
        let node = chance.below(u64::from(plan.n + plan.joiners)) as u16;
        let node = if chance.hits(300_000) { LEADER } else { node };
        let new = NodeId(plan.n + chance.below(u64::from(plan.joiners)) as u16);
        let at = Micros(chance.below(plan.chaos.0));
        if chance.hits(300_000) {
            faults.push((Micros(at.0 / 2), Fault::Operate { node, change: None }));
        }
        let act =
            if chance.hits(500_000) { Act::Leave(NodeId(node)) } else { Act::Replace(NodeId(node), new) };
        let change = Some(Change { act, is_forced: chance.hits(600_000) });
        faults.push((at, Fault::Operate { node, change }));
    }
}
