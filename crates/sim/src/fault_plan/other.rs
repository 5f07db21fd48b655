//! Another group on the wire, drawn from a stream of its own.
//!
//! It owns the odds and the times. The other group has the same ids, and ballots that coincide. Either it is older
//! and has a plan of faults of its own, or it begins on this group's wire and must not vote in this group.

use upaxos_core::types::Micros;

use super::class::Class;
use super::{Kind, Other, Plan, mixed};
use crate::rng::{Rng, Stream};

/// The most events of its own that the chaos of the other group may have.
const EVENTS: u64 = 1_500;

/// Adds another group to some plans.
pub(super) fn draw(plan: &mut Plan) {
    let mut chance = Rng::new(plan.seed, Stream::Others);
    if plan.kind != Kind::Chaos || !chance.hits(220_000) {
        return;
    }
    // Both groups exist before the wires are joined. A group that begins on a joined wire needs a name to tell it
    // apart.
    let founded = plan.beat * 14 + Micros::from_millis(200);
    plan.peace = plan.peace.max(founded);
    let mut other = mixed::chaos(chance.below(u64::MAX), plan.n, &mut chance);
    for class in Class::DRAWN {
        if chance.hits(700_000) {
            other = other.without(class);
        }
    }
    other.peace = founded;
    other.events = EVENTS;
    // Nodes that start on this group's wire learn its log, so their session tables must have the same bounds.
    other.limits = plan.limits;
    other.fast_read = vec![false; usize::from(other.n + other.joiners)];
    let age = chance.hits(750_000).then(|| founded + Micros::from_millis(chance.below(1_500)));
    let mut joined = Vec::new();
    let mut at = Micros(chance.below(plan.chaos.0 / 2));
    for _ in 0..=chance.below(3) {
        let until = at + Micros::from_millis(chance.between(50, 1_500));
        joined.push((at, until));
        at = until + Micros::from_millis(chance.between(20, 400));
    }
    plan.other = Some(Box::new(Other { plan: other, age, joined, stays: chance.hits(500_000) }));
}
