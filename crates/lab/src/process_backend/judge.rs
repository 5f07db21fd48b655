//! The judges of a real run: the simulator's judges, with the evidence that a real run offers.
//!
//! Pure: evidence in, violations out. It believes no node. It uses only the disks, the datagrams that passed the
//! switch, and the clients' answers.

use std::collections::BTreeMap;

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::replica::Limits;
use upaxos_core::types::{Instance, Micros, NodeId, Tag, Tagged, Value};
use upaxos_core::wire::{self, Dialect};
use upaxos_sim::Rule;
use upaxos_sim::checkers::Checkers;

use super::super::Violation;
use super::asker::Happening;
use super::record::Heard;

/// The evidence of a run.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The size of the first group.
    pub nodes: u16,
    /// How many more nodes might have joined.
    pub spares: u16,
    /// The grammar of the group.
    pub dialect: Dialect,
    /// The clients' requests and outcomes, in order.
    pub history: Vec<Happening>,
    /// The nodes that were started to join, each with the member that it replaces.
    pub joiners: Vec<(NodeId, Option<NodeId>)>,
    /// Whether the nodes' scripts may have changed requested values.
    pub has_scripts: bool,
    /// The nodes whose disk was removed, and when.
    pub lost: Vec<(NodeId, Micros)>,
    /// The learned values of each node that runs in the end.
    pub logs: Vec<(NodeId, BTreeMap<Instance, Value>)>,
    /// The nodes' datagrams, where the switch recorded them.
    pub wire: Vec<Heard>,
}

/// The violations: at most one from the wire and one from the outcome.
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let judges = [judge_wire(evidence), judge_outcome(evidence)];
    let found = judges.iter().filter_map(Checkers::violation);
    found.map(|found| Violation { expected: found.rule.text().to_owned(), got: found.got.clone() }).collect()
}

fn judges(evidence: &Evidence) -> Checkers {
    Checkers::new(evidence.nodes, evidence.spares, evidence.dialect, Limits::USUAL)
}

/// Judges the wire: one value in a ballot, and promises that never regress.
fn judge_wire(evidence: &Evidence) -> Checkers {
    let mut judges = judges(evidence);
    let mut lost = evidence.lost.clone();
    for (at, from, datagram) in &evidence.wire {
        lost.retain(|(id, lost_at)| {
            let is_over = lost_at <= at;
            if is_over {
                judges.on_wiped(id.0);
            }
            !is_over
        });
        for line in wire::lines(datagram, evidence.dialect).flatten() {
            judges.on_overheard(from.0, &line);
        }
    }
    judges
}

/// Judges the clients' requests and answers against the logs of all nodes.
fn judge_outcome(evidence: &Evidence) -> Checkers {
    let mut judges = judges(evidence);
    judges.calls().may_be_refused();
    if evidence.has_scripts {
        judges.calls().may_be_rewritten();
    }
    for (id, replaces) in &evidence.joiners {
        judges.on_entered(id.0, replaces.map(|old| old.0));
    }
    for (id, log) in &evidence.logs {
        judges.on_log(id.0, log);
    }
    replay(evidence, &mut judges);
    judges.judge_wishes();
    let learned = |(id, log): &(NodeId, BTreeMap<Instance, Value>)| {
        (id.0, log.last_key_value().map(|(instance, _)| *instance).unwrap_or_default())
    };
    // A node that lost its disk may lack the history for good: no node has to teach it.
    let is_whole = |(id, _): &&(NodeId, _)| evidence.lost.iter().all(|(lost, _)| lost != id);
    let learned: Vec<_> = evidence.logs.iter().filter(is_whole).map(learned).collect();
    judges.finish(&learned);
    judges
}

/// Passes the clients' side to the judges, in the order in which it happened.
fn replay(evidence: &Evidence, judges: &mut Checkers) {
    let tag = |happening: &Happening| match happening {
        Happening::Ended { asked, tag, .. } => Some((*asked, (*tag)?)),
        _ => None,
    };
    // The answer reveals the tag of its request.
    let tags: BTreeMap<usize, Tag> = evidence.history.iter().filter_map(tag).collect();
    let mut after = BTreeMap::new();
    for (at, happening) in evidence.history.iter().enumerate() {
        match happening {
            Happening::Asked { ask } => {
                after.insert(at, judges.calls().acknowledged());
                on_asked(judges, ask, tags.get(&at).copied());
            }
            Happening::Said(datagram) => {
                wire::lines(datagram, evidence.dialect).flatten().for_each(|line| judges.on_asked(&line));
            }
            Happening::Ended { asked, tag, outcome } => {
                if let Happening::Asked { ask } = &evidence.history[*asked]
                    && let Err((rule, got)) = on_ended(judges, ask, *tag, outcome)
                {
                    judges.fail(rule, got);
                }
                if let (Dialect::Classic, Happening::Asked { ask }, Outcome::Chosen { instance, value }) =
                    (evidence.dialect, &evidence.history[*asked], outcome)
                {
                    judges.on_untagged_answer(ask, after[asked], *instance, value);
                }
            }
        }
    }
}

/// Passes a request to the judges. The chosen instances at that time are unknown here, so a read is judged by
/// earlier answers.
fn on_asked(judges: &mut Checkers, ask: &Ask, tag: Option<Tag>) {
    match (ask, tag) {
        (Ask::Write(value), Some(tag)) => judges.calls().on_call(tag, Some(value.clone()), Instance(0)),
        (Ask::Read | Ask::FastRead | Ask::Query(_) | Ask::FastQuery(_), Some(tag)) => {
            judges.calls().on_call(tag, None, Instance(0))
        }
        (Ask::Change(change), Some(tag)) => judges.on_change_asked(Some(Tagged { tag, floor: 0 }), *change),
        (Ask::Write(value), None) => {
            judges.calls().on_write(value.clone());
            judges.calls().on_write(Value::from(wire::joined_words(value.as_bytes())));
        }
        _ => {}
    }
}

fn on_ended(
    judges: &mut Checkers,
    ask: &Ask,
    tag: Option<Tag>,
    outcome: &Outcome,
) -> Result<(), (Rule, String)> {
    if let (Outcome::Refused { reason }, Some(tag)) = (outcome, tag) {
        return judges.refused(tag, reason);
    }
    let calls = judges.calls();
    match (ask, outcome, tag) {
        (Ask::Write(_), Outcome::Chosen { instance, .. }, Some(tag)) => calls.on_done(tag, *instance),
        (
            Ask::Read | Ask::FastRead | Ask::Query(_) | Ask::FastQuery(_),
            Outcome::Chosen { instance, value },
            Some(tag),
        ) => {
            calls.on_done(tag, *instance)?;
            calls.on_reads(*instance, value.clone())
        }
        (_, Outcome::Read { instance, learned, value }, Some(tag)) => {
            calls.on_value(tag, *learned, *instance, value)
        }
        (_, Outcome::Replied { learned, value }, Some(tag)) => {
            calls.on_value(tag, *learned, Instance(0), value)
        }
        (Ask::Change(_), Outcome::Chosen { instance, .. }, _) => {
            calls.on_change_done(*instance);
            Ok(())
        }
        (_, Outcome::Chosen { instance, value }, _) => calls.on_reads(*instance, value.clone()),
        (_, Outcome::Unknown | Outcome::Forgotten, Some(tag)) => {
            calls.on_given_up(tag);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
