//! A simulated group of real nodes under injected faults. One seed determines the whole run.
//!
//! The protocol code is the real code: the [`Replica`](upaxos_core::replica::Replica) and the order in which its effects are
//! carried out. Every message is printed and parsed. Every record is framed, written as bytes and read back after a
//! crash. Only time, the network, the disks and the clients are simulated. The seed determines all of them: the
//! same seed gives the same run on every machine, which the trace hash shows.
//!
//! Every event happens on a [`cluster`], the simulated cluster. Either a drawn plan ([`chaos`]) or a script that
//! gives each step ([`scripted`]) directs it.
//!
//! A run of a plan has phases: a quiet start, then chaos drawn from the seed ([`fault_plan`]), then healing. After
//! healing the group must make progress. Then the power of all nodes fails, and afterwards every acknowledged value
//! must still be there. The [`checkers`] check every step. In some runs ([`Kind`]) only links fail, or the group is a
//! classic one.
//!
//! ```
//! use upaxos_sim::{self as sim, Plan};
//!
//! let outcome = sim::run(&Plan::draw(1, None));
//! assert!(outcome.failure.is_none());
//! ```

pub mod chaos;
pub mod checkers;
pub mod clients;
pub mod cluster;
pub mod damage;
pub mod disk;
pub mod double;
pub mod fault_plan;
pub mod machine;
pub mod network;
mod partitioned;
pub mod rng;
pub mod scripted;
mod settle;
pub mod shrink;
pub mod trace;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use upaxos_core::types::Micros;

use chaos::Chaos;
pub use checkers::{Rule, Violation};
pub use fault_plan::{Class, Kind, Plan};
use settle::wait_until_settled;
pub use shrink::shrink;
pub use trace::Seen;

/// The result of one run of a plan.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hash of all events of the run. Two runs of one plan have the same hash.
    pub trace: u64,
    /// What was counted until the group had healed.
    pub seen: Seen,
    /// The violated rule and the state at that moment, if a check failed.
    pub failure: Option<Failure>,
}

/// A violated rule, and the state of every node at that moment.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The rule that was violated, and how.
    pub violation: Violation,
    /// The state of every node, and the last lines that were sent.
    pub view: String,
}

/// Runs a plan to its end, or to the first violation.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = Chaos::new(plan.clone());
    let mut seen = None;
    let ended = catch_unwind(AssertUnwindSafe(|| phases(plan, &mut world, &mut seen)));
    if let Err(panic) = ended {
        world.checkers().fail(Rule::NoPanic, panic_text(&*panic));
    }
    let (all, trace) = world.seen();
    let seen = Seen { events: all.events, ..seen.unwrap_or(all) };
    let violation = world.violation();
    let failure = violation.map(|violation| Failure { violation, view: world.view() });
    Outcome { trace: trace.hash(), seen, failure }
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// Ends with the first violation: later events would hide the state of the nodes at that moment.
fn phases(plan: &Plan, world: &mut Chaos, seen: &mut Option<Seen>) -> Option<()> {
    match plan.kind {
        Kind::Chaos | Kind::Classic => run_chaos(plan, world),
        Kind::Partitioned => partitioned::hold_out(plan, world)?,
    }
    world.heal();
    wait_until_settled(world, "after healing")?;
    world.note_found();
    world.count_fetched();
    let fast_reads = world.checkers().calls().fast_reads() as u64;
    let mut all = Seen { fast_reads, ..world.seen().0 };
    world.clients().count(&mut all);
    *seen = Some(all);
    world.cut_all_power();
    world.ask(true);
    world.run_until(world.now() + Micros::from_millis(100), |_| false);
    wait_until_settled(world, "after a power cut of all")?;
    world.finish();
    Some(())
}

/// A quiet start, then all faults of the plan.
fn run_chaos(plan: &Plan, world: &mut Chaos) {
    world.run_until(plan.peace, |_| false);
    world.begin_chaos();
    let most = world.seen().0.events + plan.events;
    world.run_until(world.now() + plan.chaos, |world| world.seen().0.events >= most);
}
