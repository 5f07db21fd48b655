//! The judges of a real run: those of the simulator, given what a real run can show.
//!
//! Pure: evidence in, violations out. It believes no node: only what stands on disks, what passed the switch,
//! and what clients were told.

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::entry::Entry;
use upaxos_core::sim::Rule;
use upaxos_core::sim::judges::Judges;
use upaxos_core::types::{Instance, Micros, NodeId, Tag, Value};
use upaxos_core::wire::{self, Dialect, Line, Request};

use super::super::Violation;
use super::asker::Happening;
use super::record::Heard;

/// What is known of a run.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The size of the first group.
    pub nodes: u16,
    /// How many more might have joined.
    pub spares: u16,
    /// What they speak.
    pub dialect: Dialect,
    /// The clients' side.
    pub history: Vec<Happening>,
    /// Who was told to join.
    pub joiners: BTreeSet<NodeId>,
    /// Whose disk was taken away, and when.
    pub lost: Vec<(NodeId, Micros)>,
    /// What each node has learned, of those that run in the end.
    pub logs: Vec<(NodeId, BTreeMap<Instance, Value>)>,
    /// What passed the switch.
    pub wire: Vec<Heard>,
}

/// What must not be, if there is something: the first thing found on each side.
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let judges = [judge_wire(evidence), judge_outcome(evidence)];
    let found = judges.iter().filter_map(Judges::violation);
    found.map(|found| Violation { expected: found.rule.text().to_owned(), got: found.got.clone() }).collect()
}

fn judges(evidence: &Evidence) -> Judges {
    Judges::new(evidence.nodes, evidence.spares, evidence.dialect)
}

/// One value in a ballot, and promises that never regress: judged from the wire.
fn judge_wire(evidence: &Evidence) -> Judges {
    let mut judges = judges(evidence);
    let mut lost = evidence.lost.clone();
    let nodes = usize::from(evidence.nodes + evidence.spares);
    for (at, from, datagram) in evidence.wire.iter().filter(|(_, from, _)| *from < nodes) {
        lost.retain(|(id, lost_at)| {
            let is_over = lost_at <= at;
            if is_over {
                judges.on_wiped(id.0);
            }
            !is_over
        });
        let id = u16::try_from(*from).expect("there are no more ports than ids");
        for line in wire::lines(datagram, evidence.dialect).flatten() {
            judges.on_overheard(id, &line);
        }
    }
    judges
}

/// What clients asked and were told, against the logs of all nodes.
fn judge_outcome(evidence: &Evidence) -> Judges {
    let mut judges = judges(evidence);
    replay(evidence, &mut judges);
    for (id, log) in &evidence.logs {
        judges.on_log(id.0, log);
    }
    judge_validity(evidence, &mut judges);
    let learned = |(id, log): &(NodeId, BTreeMap<Instance, Value>)| {
        (id.0, log.last_key_value().map(|(instance, _)| *instance).unwrap_or_default())
    };
    // Who lost its disk may be without a history for good: nobody has to teach it.
    let is_whole = |(id, _): &&(NodeId, _)| evidence.lost.iter().all(|(lost, _)| lost != id);
    let learned: Vec<_> = evidence.logs.iter().filter(is_whole).map(learned).collect();
    judges.finish(&learned);
    judges
}

/// Tells the judges the clients' side, in the order in which it happened.
fn replay(evidence: &Evidence, judges: &mut Judges) {
    let tags = tags(evidence);
    for (at, happening) in evidence.history.iter().enumerate() {
        let told = match happening {
            Happening::Asked { ask } => {
                on_asked(judges, ask, tags.get(&at).copied());
                Ok(())
            }
            Happening::Said(datagram) => {
                for line in wire::lines(datagram, evidence.dialect).flatten() {
                    on_said(judges, &line);
                }
                Ok(())
            }
            Happening::Ended { asked, tag, outcome } => match &evidence.history[*asked] {
                Happening::Asked { ask } => on_ended(judges, ask, *tag, outcome),
                _ => Ok(()),
            },
        };
        if let Err((rule, got)) = told {
            judges.fail(rule, got);
        }
    }
}

/// Under which tag each question was asked, by its place in the history.
fn tags(evidence: &Evidence) -> BTreeMap<usize, Tag> {
    let tag = |happening: &Happening| match happening {
        Happening::Ended { asked, tag, .. } => Some((*asked, (*tag)?)),
        _ => None,
    };
    evidence.history.iter().filter_map(tag).collect()
}

fn on_asked(judges: &mut Judges, ask: &Ask, tag: Option<Tag>) {
    match (ask, tag) {
        (Ask::Write(value), Some(tag)) => judges.on_call(tag, Some(value.clone())),
        (Ask::Read | Ask::FastRead, Some(tag)) => judges.on_call(tag, None),
        (Ask::Write(value), None) => judges.calls().on_write(value.clone()),
        _ => {}
    }
}

/// What is said by hand is asked for, too.
fn on_said(judges: &mut Judges, line: &Line) {
    match line {
        Line::Client(Request::Write(value)) => judges.calls().on_write(value.clone()),
        Line::Client(Request::Submit(tagged, value)) => judges.on_call(tagged.tag, Some(value.clone())),
        Line::Client(Request::TaggedRead(tagged) | Request::FastRead(tagged)) => {
            judges.on_call(tagged.tag, None)
        }
        _ => {}
    }
}

fn on_ended(
    judges: &mut Judges,
    ask: &Ask,
    tag: Option<Tag>,
    outcome: &Outcome,
) -> Result<(), (Rule, String)> {
    let calls = judges.calls();
    match (ask, outcome, tag) {
        (Ask::Write(_), Outcome::Chosen { instance, .. }, Some(tag)) => calls.on_done(tag, *instance),
        (Ask::Read | Ask::FastRead, Outcome::Chosen { instance, value }, Some(tag)) => {
            calls.on_done(tag, *instance)?;
            calls.on_reads(*instance, value.clone())
        }
        (_, Outcome::Read { instance, learned, value }, Some(tag)) => {
            calls.on_value(tag, *learned, *instance, value)
        }
        (Ask::Change(_), Outcome::Chosen { instance, .. }, _) => {
            calls.on_change_done(*instance);
            Ok(())
        }
        (_, Outcome::Chosen { instance, value }, _) => calls.on_reads(*instance, value.clone()),
        (_, Outcome::Unknown | Outcome::Forgotten | Outcome::Refused { .. }, Some(tag)) => {
            calls.on_given_up(tag);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whatever stands in a log, somebody asked for.
fn judge_validity(evidence: &Evidence, judges: &mut Judges) {
    let tags = tags(evidence);
    let is_change = |at: &usize| matches!(evidence.history[*at], Happening::Asked { ask: Ask::Change(_) });
    let changes: BTreeSet<Tag> = tags.iter().filter(|(at, _)| is_change(at)).map(|(_, tag)| *tag).collect();
    for (id, log) in &evidence.logs {
        for (instance, value) in log {
            let entry = Entry::decode(*instance, value, evidence.dialect);
            let is_wanted = match &entry {
                Entry::Group(Some(tagged), _) => changes.contains(&tagged.tag),
                // Nodes ask for their own joining; and anybody may ask for a leave by hand.
                Entry::Group(None, new) => {
                    let comes = new.members.keys().filter(|id| id.0 >= evidence.nodes);
                    comes.into_iter().all(|id| evidence.joiners.contains(id))
                }
                entry => judges.calls().asked_for(entry),
            };
            if !is_wanted {
                judges.fail(
                    Rule::Validity,
                    format!("nobody asked for {value:?}, learned by {id} at {instance}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
