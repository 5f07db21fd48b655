//! A run in which links fail, as one shape that stays, and nothing else: the election on trial.
//!
//! Somebody leads; then links are cut. Where some node keeps two-way links with a quorum, somebody must lead
//! and get a request chosen in time; and then nobody may raise a ballot again, if nothing is lost.

use super::judges::Rule;
use super::swarm::Plan;
use super::world::World;
use super::{PATIENCE, give_up};
use crate::node::Timing;
use crate::types::Micros;

/// How many election timeouts it may take, without loss and with a little.
const TIMEOUTS: (u64, u64) = (4, 5);

/// Runs the part of the plan that other runs spend in chaos.
pub fn hold_out(plan: &Plan, world: &mut World) -> Option<()> {
    if !world.run_until(world.now() + PATIENCE, |world| world.is_led() && world.is_known()) {
        return give_up(world, Rule::Progress, "nobody leads, though nothing is wrong");
    }
    world.run_until(world.now() + plan.peace, |_| false);
    world.begin_chaos();
    world.run_until(world.now(), |_| false);
    if !world.allows_leader() {
        // Where the plan names the leader of the moment, that only shows now.
        return Some(());
    }
    let (began, bound) = (world.now(), patience(plan));
    let tag = world.ask_now();
    if !world.run_until(began + bound, |world| world.is_chosen_under_a_leader(tag)) {
        return give_up(world, Rule::LeaderSoon, format!("nothing chosen within {} ms", bound.0 / 1_000));
    }
    if plan.rates.loss > 0 {
        return Some(());
    }
    // The old leader may have got it chosen before anybody missed it.
    world.run_until(began + bound, |_| false);
    let settled = world.highest_ballot();
    if world.run_until(world.now() + bound, |world| world.highest_ballot() != settled) {
        let raised = world.highest_ballot();
        return give_up(world, Rule::NoDuels, format!("{settled:?} was followed by {raised:?}"));
    }
    Some(())
}

/// In how much time somebody must lead.
fn patience(plan: &Plan) -> Micros {
    let timeouts = if plan.rates.loss == 0 { TIMEOUTS.0 } else { TIMEOUTS.1 };
    Timing { beat: plan.beat }.timeout() * timeouts
}
