//! A run in which links fail in one shape that stays, and nothing else fails. It tests the election.
//!
//! The group elects a leader; then links are cut. Where some node keeps two-way links with a quorum, a leader must
//! exist and get a request chosen in time. After that no node may raise a ballot again, if no datagrams are lost.

use upaxos_core::replica::Timing;
use upaxos_core::types::Micros;

use super::chaos::Chaos;
use super::checkers::Rule;
use super::fault_plan::Plan;
use super::settle::{PATIENCE, give_up};

/// How many election timeouts that may take, without loss and with a little loss.
const TIMEOUTS: (u64, u64) = (4, 5);

/// Runs the phase that takes the place of the chaos in other runs.
pub fn hold_out(plan: &Plan, world: &mut Chaos) -> Option<()> {
    if !world.run_until(world.now() + PATIENCE, |world| world.is_led() && world.is_known()) {
        return give_up(world, Rule::Progress, "there is no leader, though nothing is wrong");
    }
    world.run_until(world.now() + plan.peace, |_| false);
    world.begin_chaos();
    world.run_until(world.now(), |_| false);
    if !world.allows_leader() {
        // Where the plan names the present leader, this is known only now.
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
    // The old leader may have got it chosen before the others missed it.
    world.run_until(began + bound, |_| false);
    let settled = world.highest_ballot();
    if world.run_until(world.now() + bound, |world| world.highest_ballot() != settled) {
        let raised = world.highest_ballot();
        return give_up(world, Rule::NoDuels, format!("{settled:?} was followed by {raised:?}"));
    }
    Some(())
}

/// The time within which a leader must exist.
fn patience(plan: &Plan) -> Micros {
    let timeouts = if plan.rates.loss == 0 { TIMEOUTS.0 } else { TIMEOUTS.1 };
    Timing { beat: plan.beat }.timeout() * timeouts
}
