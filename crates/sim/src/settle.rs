//! The waits of a run: until the group has settled, or has detected that its log is split.

use upaxos_core::types::Micros;

use super::chaos::Chaos;
use super::checkers::Rule;

/// How long a healed group may take to answer every request and to bring all nodes to the same learned prefix.
pub(crate) const PATIENCE: Micros = Micros::from_millis(15_000);

/// The minimum time that members have to detect that their logs differ. It is longer than they take to catch up.
const SEARCH: Micros = Micros::from_millis(3_000);

/// Waits until every request is answered and all nodes have learned the same. `None` ends the run.
pub(crate) fn wait_until_settled(world: &mut Chaos, when: &str) -> Option<()> {
    world.ask(false);
    let is_settled = |world: &Chaos| world.is_settled() && world.not_found().is_none();
    let wait = |world: &mut Chaos| {
        world.run_until(world.now() + PATIENCE, |world| world.is_split() || is_settled(world))
    };
    let (mut open, mut is_settled) = (world.clients().open(), wait(world));
    // With small bounds a group answers few requests at a time, so many requests take longer. Keep waiting while
    // the number of open requests falls.
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

/// A rolled back disk has split the log. The only thing that this group must still do is to detect that.
fn find_split(world: &mut Chaos, when: &str) -> Option<()> {
    world.run_until(world.now() + SEARCH, |_| false);
    let is_found = world.run_until(world.now() + PATIENCE, |world| world.not_found().is_none());
    if !is_found && let Some(what) = world.not_found() {
        return give_up(world, Rule::RollbackIsFound, format!("{when}: {what}"));
    }
    world.note_found();
    None
}

/// Ends the run with a violation.
pub(crate) fn give_up(world: &mut Chaos, rule: Rule, got: impl Into<String>) -> Option<()> {
    // The violation in the other group is the reason why this one did not progress.
    if world.violation().is_none() {
        world.checkers().fail(rule, got);
    }
    None
}
