//! The check of a real run: every fault ends, every node returns, and then the judges look.
//!
//! In between, all nodes are killed at once and restarted. That cannot reveal a missing sync: the kernel still
//! holds the writes of a killed process. Another test covers real power cuts.

use std::collections::BTreeSet;

use upaxos_core::types::Micros;
use upaxos_core::wire::Stance;
use upaxos_sim::Rule;

use super::super::{Backend, BackendError, NodeState, Violation};
use super::judge::{Evidence, judge};
use super::processes::ProcessBackend;
use super::record;

/// How often to check conditions that no process reports.
const GLANCE: Micros = Micros::from_millis(200);

/// See [`Backend::check`].
///
/// # Errors
/// As there.
pub fn check(world: &mut ProcessBackend, patience: Micros) -> Result<Vec<Violation>, BackendError> {
    let mut found = come_back(world, patience, "after everything was healed")?;
    for id in world.members.running() {
        world.crash(id)?;
    }
    found.extend(come_back(world, patience, "after all were killed at once")?);
    found.extend(world.members.broken().map(|how| violation(Rule::NoPanic, how.to_owned())));
    found.extend(judge(&evidence(world)?));
    Ok(found)
}

fn violation(rule: Rule, got: String) -> Violation {
    Violation { expected: rule.text().to_owned(), got }
}

/// Ends every fault, starts the nodes that are down, and waits until every request is answered and all nodes have
/// learned the same. Every node that was sound must survive this. Otherwise no judge would examine a node that can
/// no longer open its log.
fn come_back(
    world: &mut ProcessBackend,
    patience: Micros,
    when: &str,
) -> Result<Vec<Violation>, BackendError> {
    let sound = world.members.sound();
    recover(world)?;
    let mut found: Vec<Violation> = settle(world, patience, when)?.into_iter().collect();
    for id in sound {
        // A node that has left, or learns that it is no longer a member, shuts down cleanly.
        if let NodeState::Ended(status, words) = world.view(id).state
            && !matches!(status, 0 | 4)
        {
            let got = format!("{when}: node {id} ended with status {status}: {words}");
            found.push(violation(Rule::RecoversWhole, got));
        }
    }
    Ok(found)
}

/// Ends every fault, and starts the nodes that are down.
fn recover(world: &mut ProcessBackend) -> Result<(), BackendError> {
    if world.hosts.lacks_faults().is_none() {
        world.hosts.heal()?;
    }
    for id in world.members.running() {
        world.members.corrupt(&world.hosts, id, None)?;
        if world.view(id).state == NodeState::Paused {
            world.resume(id)?;
        }
    }
    for (id, how) in world.members.returning() {
        world.members.corrupt(&world.hosts, id, None)?;
        world.start(id, &how)?;
    }
    Ok(())
}

/// Lets time pass until every request is answered and all nodes have learned the same.
fn settle(
    world: &mut ProcessBackend,
    patience: Micros,
    when: &str,
) -> Result<Option<Violation>, BackendError> {
    let until = world.now() + patience;
    while !is_settled(world)? {
        let now = world.now();
        if now >= until {
            let got = format!("{when}: not settled in {} ms\n{}", patience.0 / 1_000, world.describe());
            return Ok(Some(violation(Rule::Progress, got)));
        }
        world.step(until.min(now + GLANCE))?;
    }
    Ok(None)
}

fn is_settled(world: &ProcessBackend) -> Result<bool, BackendError> {
    if !world.asker.is_idle() {
        return Ok(false);
    }
    let running = world.members.running();
    let acknowledged = world.asker.acknowledged();
    if world.setup.classic {
        // Classic nodes do not report how far they have learned: read their disks.
        let mut learned = BTreeSet::new();
        for id in running {
            let log = world.hosts.values(usize::from(id.0))?;
            learned.insert(log.last_key_value().map(|(instance, _)| *instance));
        }
        return Ok(learned.len() <= 1 && learned.first().is_none_or(|learned| *learned >= Some(acknowledged)));
    }
    let views: Vec<_> = running.into_iter().map(|id| world.view(id)).collect();
    let learned = views.first().map(|view| view.learned);
    let is_alike = views.iter().all(|view| view.stance.is_some() && Some(view.learned) == learned);
    let has_leader = views.iter().any(|view| view.stance == Some(Stance::Leads));
    Ok(views.is_empty() || is_alike && has_leader && learned >= Some(acknowledged))
}

/// Collects the evidence for the judges.
fn evidence(world: &ProcessBackend) -> Result<Evidence, BackendError> {
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
        dialect: world.setup.dialect(),
        history: world.asker.history.clone(),
        joiners: world.members.joiners().collect(),
        has_scripts: world.members.have_scripts(),
        lost: world.members.lost().collect(),
        logs,
        wire,
    })
}
