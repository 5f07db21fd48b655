//! Rolled back disks. They are drawn besides the other faults, from a stream of their own.
//!
//! It owns the odds. The disk of at most one machine of a run is copied at some moment, and the copy is put back
//! later. The node may have had a life in between, which its peers remember. Often some peers are down from the
//! copy to its return, and the others go down when those come back. Then no running node knows what was decided in
//! between, and the peers that remember the life in between may be down.

use upaxos_core::types::Micros;

use super::{Fault, Kind, Plan, Planned};
use crate::rng::{Rng, Stream};

/// The least number of events that the chaos of such a run may have.
const EVENTS: u64 = 4_000;

/// Adds the rollback of this seed to the plan, if it has one.
pub(super) fn draw(plan: &mut Plan) {
    let mut chance = Rng::new(plan.seed, Stream::Rollbacks);
    if !chance.hits(220_000) || plan.kind != Kind::Chaos || plan.n == 1 {
        return;
    }
    plan.events = plan.events.max(EVENTS);
    let chaos = plan.chaos.0;
    let node = chance.below(u64::from(plan.n)) as u16;
    // No disk may be lost before all nodes have registered each other.
    let copied = Micros(chance.between(chaos / 5, chaos / 2));
    let back = Micros(chance.between(copied.0 + chaos / 10, chaos / 5 * 4));
    let mut faults = vec![(copied, Fault::CopyDisk { node })];
    if chance.hits(500_000) {
        let down = Micros::from_millis(chance.below(20));
        faults.push((Micros(chance.between(copied.0, back.0)), Fault::Absence { node, down }));
    }
    let down = Micros::from_millis(chance.below(50));
    faults.push((back, Fault::RollBack { node, down }));
    if chance.hits(600_000) {
        swap_peers(plan, node, (copied, back), &mut chance, &mut faults);
    }
    if chance.hits(400_000) {
        // Starts that count, although the peers may hear nothing of them.
        for again in 1..=chance.between(1, 3) {
            let at = back + Micros::from_millis(60 * again);
            faults.push((at, Fault::Crash { node, after: 0, down: Micros::from_millis(5) }));
        }
    }
    let first = plan.faults.len();
    faults.sort_by_key(|(at, _)| *at);
    let numbered = faults.into_iter().zip(first..);
    plan.faults.extend(numbered.map(|((at, fault), number)| Planned { number, at, fault }));
}

/// As many peers as a quorum can spare are down from the copy to its return. Then other peers go down, so that a
/// bare quorum runs.
fn swap_peers(
    plan: &Plan,
    node: u16,
    (copied, back): (Micros, Micros),
    chance: &mut Rng,
    faults: &mut Vec<(Micros, Fault)>,
) {
    let mut peers: Vec<u16> = (0..plan.n).filter(|peer| *peer != node).collect();
    chance.shuffle(&mut peers);
    let (first, then) = peers.split_at(peers.len() / 2);
    for peer in first {
        let until = Micros(chance.between(back.0.saturating_sub(20_000), back.0 + 50_000));
        faults.push((copied, Fault::Absence { node: *peer, down: until.since(copied) }));
    }
    let spare = usize::from(plan.n - 1) / 2;
    for peer in then.iter().take(spare) {
        let down = Micros::from_millis(chance.between(400, 1_500));
        faults.push((back, Fault::Absence { node: *peer, down }));
    }
}
