//! A group of real nodes in a world that goes wrong on purpose, all from one seed.
//!
//! Everything that matters is the real thing: the [`Node`](crate::node::Node) and the order in which its
//! effects are carried out, every message printed and parsed, every record framed, written as bytes and
//! read back after a crash. Only time, the network, the disks and the clients are simulated, and they owe
//! everything to the seed: the same seed happens the same way everywhere, which its trace hash shows.
//!
//! What happens, happens on a [`stage`]; who directs it is a drawn plan ([`world`]), or a script that says
//! step by step what is to happen ([`play`]).
//!
//! A run of a plan has phases: some peace, chaos as drawn from the seed ([`swarm`]), healing, after which the group
//! must make progress, a power cut of all, after which everything acknowledged must still be there. The
//! [`judges`] watch every step. Some runs ([`Kind`]) are no chaos, but one kind of trouble alone.
//!
//! ```
//! use upaxos_core::sim::{self, Plan};
//!
//! let outcome = sim::run(&Plan::draw(1, None));
//! assert!(outcome.failure.is_none());
//! ```

pub mod chance;
pub mod clients;
pub mod disk;
pub mod double;
pub mod files;
pub mod judges;
pub mod machine;
pub mod network;
mod partitioned;
pub mod play;
pub mod shrink;
pub mod stage;
pub mod swarm;
pub mod trace;
pub mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use judges::{Rule, Violation};
pub use shrink::shrink;
pub use swarm::{Class, Kind, Plan};
pub use trace::Seen;
use world::World;

use crate::types::Micros;

/// How long a healed group may take to answer everything and learn alike.
const PATIENCE: Micros = Micros::from_millis(15_000);

/// How long members have at least to find that their logs differ: longer than they take to learn alike.
const SEARCH: Micros = Micros::from_millis(3_000);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hash of all that happened.
    pub trace: u64,
    /// What was seen until the group had healed.
    pub seen: Seen,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
}

/// What went wrong, and where everybody stood.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The rule that was broken.
    pub violation: Violation,
    /// What every node knew, and what was said last.
    pub view: String,
}

/// Runs a plan to its end, or to the first violation.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan.clone());
    let mut seen = None;
    let ended = catch_unwind(AssertUnwindSafe(|| phases(plan, &mut world, &mut seen)));
    if let Err(panic) = ended {
        world.judges().fail(Rule::NoPanic, panic_text(&*panic));
    }
    let (all, trace) = world.seen();
    let seen = Seen { events: all.events, ..seen.unwrap_or(all) };
    let violation = world.violation();
    let failure = violation.map(|violation| Failure { violation, view: world.view() });
    Outcome { trace: trace.hash(), seen, failure }
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// Ends with the first violation: what comes after would hide where everybody stood.
fn phases(plan: &Plan, world: &mut World, seen: &mut Option<Seen>) -> Option<()> {
    match plan.kind {
        Kind::Chaos | Kind::Classic => suffer(plan, world),
        Kind::Partitioned => partitioned::hold_out(plan, world)?,
    }
    world.heal();
    settle(world, "after healing")?;
    world.note_found();
    world.count_fetched();
    let fast_reads = world.judges().calls().fast_reads() as u64;
    let mut all = Seen { fast_reads, ..world.seen().0 };
    world.clients().count(&mut all);
    *seen = Some(all);
    world.cut_all_power();
    world.ask(true);
    world.run_until(world.now() + Micros::from_millis(100), |_| false);
    settle(world, "after a power cut of all")?;
    world.finish();
    Some(())
}

/// Some peace, then everything that the plan has.
fn suffer(plan: &Plan, world: &mut World) {
    world.run_until(plan.peace, |_| false);
    world.begin_chaos();
    let most = world.seen().0.events + plan.events;
    world.run_until(world.now() + plan.chaos, |world| world.seen().0.events >= most);
}

fn settle(world: &mut World, when: &str) -> Option<()> {
    world.ask(false);
    let is_settled = |world: &World| world.is_settled() && world.not_found().is_none();
    let wait = |world: &mut World| {
        world.run_until(world.now() + PATIENCE, |world| world.is_split() || is_settled(world))
    };
    let (mut open, mut is_settled) = (world.clients().open(), wait(world));
    // Where a few answers at a time are all that is owed, many requests take longer: as long as they become fewer.
    while !is_settled && world.has_small_bounds() && world.clients().open() < open {
        (open, is_settled) = (world.clients().open(), wait(world));
    }
    if world.is_split() {
        return find_split(world, when);
    } else if !is_settled && !world.is_alive() {
        world.note_dead();
        return None;
    } else if !is_settled
        && world.is_settled()
        && let Some(what) = world.not_found()
    {
        return give_up(world, Rule::RollbackIsFound, format!("{when}: {what}"));
    } else if !is_settled {
        let got = format!("{when}: not settled in {} ms", PATIENCE.0 / 1_000);
        return give_up(world, Rule::Progress, got);
    }
    Some(())
}

/// A rolled back disk has broken what it can break, and nothing more is asked of this group but to find that out.
fn find_split(world: &mut World, when: &str) -> Option<()> {
    world.run_until(world.now() + SEARCH, |_| false);
    let is_found = world.run_until(world.now() + PATIENCE, |world| world.not_found().is_none());
    if !is_found && let Some(what) = world.not_found() {
        return give_up(world, Rule::RollbackIsFound, format!("{when}: {what}"));
    }
    world.note_found();
    None
}

fn give_up(world: &mut World, rule: Rule, got: impl Into<String>) -> Option<()> {
    // What was broken in the other group is why nothing went on.
    if world.violation().is_none() {
        world.judges().fail(rule, got);
    }
    None
}
