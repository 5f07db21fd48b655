//! Another group on the wire: what is drawn of it, from a stream of its own.
//!
//! Owns the odds and the moments. The other group has the same ids, and ballots that coincide; it is older, and has
//! a plan of faults of its own, or it begins on this group's wire, and must not come to vote there.

use super::{Class, Kind, Plan};
use crate::sim::chance::{Chance, Stream};
use crate::types::Micros;

/// How many events of its own the other group's chaos has at most.
const EVENTS: u64 = 1_500;

/// Another group, and when the wires are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// What happens to it.
    pub plan: Plan,
    /// How old it is when this group begins; `None`: its members are started on the joined wire, with empty disks.
    pub age: Option<Micros>,
    /// From when to when the wires are joined, counted from the beginning of the chaos.
    pub joined: Vec<(Micros, Micros)>,
    /// Whether they are joined again when all is healed, and stay so.
    pub stays: bool,
}

/// Adds another group to a plan, perhaps.
pub(super) fn draw(plan: &mut Plan) {
    let mut chance = Chance::new(plan.seed, Stream::Others);
    if plan.kind != Kind::Chaos || !chance.hits(220_000) {
        return;
    }
    // Both are there before the wires meet: who begins on a joined wire has to be told apart by a name.
    let founded = plan.beat * 14 + Micros::from_millis(200);
    plan.peace = plan.peace.max(founded);
    let mut other = super::draw::chaos(chance.below(u64::MAX), plan.n, &mut chance);
    for class in Class::DRAWN {
        if chance.hits(700_000) {
            other = other.without(class);
        }
    }
    other.peace = founded;
    other.events = EVENTS;
    // Nodes that are begun on this group's wire learn its log, and must judge sessions as it does.
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
