//! `status`: the state of the group according to the beats of its nodes.
//!
//! Owns the columns of the table and the keys of its JSON form.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use upaxos_core::client::{Scope, Status, View};
use upaxos_core::types::{Micros, NodeId};
use upaxos_core::wire::Beat;

const HEADS: [&str; 6] = ["node", "member", "does", "ballot", "learned", "hears"];

type Row = [String; 6];

/// One row per node, including silent members, and below it the conclusions: split logs, the leader, the groups.
pub fn text(view: &View, scope: &Scope, now: Micros) -> String {
    let mut rows: BTreeMap<NodeId, Row> =
        view.nodes(now).map(|(id, beat)| (id, row(view, id, beat))).collect();
    if rows.is_empty() {
        return scope.explain_silence(view, now);
    }
    for id in view.silent(now) {
        let silence = ["yes", "is silent", "-", "-", "-"].map(String::from);
        let [member, does, ballot, learned, hears] = silence;
        rows.insert(id, [id.to_string(), member, does, ballot, learned, hears]);
    }
    let rows: Vec<Row> = std::iter::once(HEADS.map(String::from)).chain(rows.into_values()).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4, 5].map(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text + &split(view, now) + &twins(view, now) + &verdict(view, scope, now) + &group(scope, now)
}

/// One line for each pair of nodes whose logs differ.
fn split(view: &View, now: Micros) -> String {
    let lines = view.differs(now).map(|(a, b, first)| {
        format!("THE LOG DIVERGES: nodes {a} and {b} hold different values from instance {first} on\n")
    });
    lines.collect()
}

/// One line for each id under which two processes run.
fn twins(view: &View, now: Micros) -> String {
    view.twins(now).map(|id| format!("two processes run as node {id}: stop one of them\n")).collect()
}

fn verdict(view: &View, scope: &Scope, now: Micros) -> String {
    match view.leader(now) {
        Some(leader) => format!("node {leader} leads"),
        None => scope.explain_silence(view, now),
    }
}

/// The id and name of the group, and the other groups of that name on the wire.
fn group(scope: &Scope, now: Micros) -> String {
    let Some(group) = scope.group() else { return String::new() };
    let name = scope.name().map_or_else(String::new, |name| format!(" {name}"));
    let others: Vec<_> =
        scope.namesakes(now).map(|other| format!("\nanother group is on this wire: {other}")).collect();
    format!("\ngroup{name} {group}{}", others.concat())
}

fn row(view: &View, id: NodeId, beat: &Beat) -> Row {
    let ballot = beat.ballot.map_or("-".into(), |ballot| ballot.to_string());
    let mut heard = beat.heard.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" ");
    if heard.is_empty() {
        heard.push('-');
    }
    let member = match is_member(view, id) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    };
    let learned = beat.learned.to_string();
    [id.to_string(), member.into(), view.does(id, beat).into(), ballot, learned, heard]
}

fn is_member(view: &View, id: NodeId) -> Option<bool> {
    view.members().map(|(_, members)| members.contains(&id))
}

/// The state of the group as one JSON object:
///
/// - `nodes`: the nodes that were heard, each with `node`, `member`, `does`, `ballot`, `learned` and `hears`;
/// - `differs`: pairs of `nodes` whose logs differ, from the instance `first` on;
/// - `twins`: ids under which two processes run;
/// - `leader`, `quorum`, `members` and their `epoch`, `group` and its `name`, where null means unknown;
/// - `others`: each other group that was heard lately, with `group` and `name`.
pub fn json(view: &View, scope: &Scope, now: Micros) -> Json {
    let node = |(id, beat): (NodeId, &Beat)| {
        json!({
            "node": id.0,
            "member": is_member(view, id),
            "does": view.does(id, beat),
            "ballot": beat.ballot.map(|ballot| ballot.to_string()),
            "learned": beat.learned.0,
            "hears": beat.heard.iter().map(|id| id.0).collect::<Vec<_>>(),
        })
    };
    let ids = |members: &[NodeId]| members.iter().map(|id| id.0).collect::<Vec<_>>();
    let differs = view.differs(now).map(|(a, b, first)| json!({ "nodes": [a.0, b.0], "first": first.0 }));
    let others = scope.others(now).map(|(name, group)| {
        json!({ "group": group.map(|group| group.to_string()), "name": name.map(|name| name.to_string()) })
    });
    json!({
        "differs": differs.collect::<Vec<_>>(),
        "twins": view.twins(now).map(|id| id.0).collect::<Vec<_>>(),
        "nodes": view.nodes(now).map(node).collect::<Vec<_>>(),
        "leader": view.leader(now).map(|id| id.0),
        "quorum": view.has_quorum(now),
        "members": view.members().map(|(_, members)| ids(members)),
        "epoch": view.members().map(|(epoch, _)| epoch.0),
        "group": scope.group().map(|group| group.to_string()),
        "name": scope.name().map(|name| name.to_string()),
        "others": others.collect::<Vec<_>>(),
    })
}

/// The exit status of `status`: a fault if the log is split, otherwise by whether a node leads.
pub fn status(view: &View, now: Micros) -> Status {
    if view.differs(now).next().is_some() {
        return Status::Fault;
    }
    if view.leader(now).is_some() { Status::Done } else { Status::NoQuorum }
}
