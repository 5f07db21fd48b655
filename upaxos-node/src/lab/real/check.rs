//! The check of a real run: everything heals, everybody comes back, and then the judges look.
//!
//! In the middle all nodes are killed at once and start again. That cannot show a sync that is missing: what a
//! killed process has written, the kernel still holds. A real power cut is another test's business.

use upaxos_core::types::Micros;
use upaxos_core::wire::{Dialect, Stance};

use super::super::{NodeState, Violation, World, WorldError};
use super::judge::{Evidence, judge};
use super::{Real, record};

/// See [`World::check`].
///
/// # Errors
/// As there.
pub fn check(world: &mut Real, patience: Micros) -> Result<Vec<Violation>, WorldError> {
    recover(world)?;
    let mut found: Vec<Violation> =
        settle(world, patience, "after everything was healed")?.into_iter().collect();
    for id in world.members.running() {
        world.crash(id)?;
    }
    recover(world)?;
    found.extend(settle(world, patience, "after all were killed at once")?);
    found.extend(judge(&evidence(world)?));
    Ok(found)
}

/// Ends every fault, and starts who is down.
fn recover(world: &mut Real) -> Result<(), WorldError> {
    if world.hosts.lacks_faults().is_none() {
        world.hosts.heal()?;
    }
    for id in world.members.running() {
        world.members.hurt(&world.hosts, id, None)?;
        if world.view(id).state == NodeState::Paused {
            world.resume(id)?;
        }
    }
    for (id, how) in world.members.returning() {
        world.members.hurt(&world.hosts, id, None)?;
        world.start(id, &how)?;
    }
    Ok(())
}

/// Lets time pass until everything is answered and all have learned alike.
fn settle(world: &mut Real, patience: Micros, when: &str) -> Result<Option<Violation>, WorldError> {
    let until = world.now() + patience;
    while !is_settled(world) {
        if world.now() >= until {
            let expected = "a healed group answers every request and learns alike".to_owned();
            let got = format!("{when}: not settled in {} ms\n{}", patience.0 / 1_000, world.describe());
            return Ok(Some(Violation { expected, got }));
        }
        world.step(until)?;
    }
    Ok(None)
}

fn is_settled(world: &Real) -> bool {
    let views: Vec<_> = world.members.running().into_iter().map(|id| world.view(id)).collect();
    // A classic group gives no sign of life: it is asked, and that is all.
    let is_heard = world.setup.classic || {
        let learned = views.first().map(|view| view.learned);
        let is_alike = views.iter().all(|view| view.stance.is_some() && Some(view.learned) == learned);
        let acknowledged = world.asker.acknowledged();
        let has_leader = views.iter().any(|view| view.stance == Some(Stance::Leads));
        is_alike && (views.is_empty() || has_leader && learned >= Some(acknowledged))
    };
    is_heard && world.asker.is_idle()
}

/// What there is to judge.
fn evidence(world: &Real) -> Result<Evidence, WorldError> {
    let mut logs = Vec::new();
    for id in world.members.running() {
        logs.push((id, world.hosts.values(usize::from(id.0))?));
    }
    let wire = match world.hosts.record()? {
        Some(record) => record::read(&record)?,
        None => Vec::new(),
    };
    Ok(Evidence {
        nodes: world.setup.nodes,
        spares: world.setup.spares,
        dialect: if world.setup.classic { Dialect::Classic } else { Dialect::Extended },
        history: world.asker.history.clone(),
        joiners: world.members.joiners().collect(),
        lost: world.members.lost().collect(),
        logs,
        wire,
    })
}
