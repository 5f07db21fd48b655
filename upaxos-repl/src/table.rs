//! `status`: the group as its beats describe it.

use serde_json::{Value as Json, json};
use upaxos_core::client::{Status, View};
use upaxos_core::types::{Micros, NodeId};
use upaxos_core::wire::Beat;

const HEADS: [&str; 5] = ["node", "does", "ballot", "learned", "hears"];

/// One row a node, then what follows from them.
pub fn text(view: &View, now: Micros) -> String {
    let mut rows: Vec<[String; 5]> = vec![HEADS.map(String::from)];
    rows.extend(view.nodes(now).map(|(id, beat)| row(id, beat)));
    if rows.len() == 1 {
        return view.explain_silence(now);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text + &verdict(view, now)
}

fn verdict(view: &View, now: Micros) -> String {
    match view.leader(now) {
        Some(leader) => format!("node {leader} leads"),
        None => view.explain_silence(now),
    }
}

fn row(id: NodeId, beat: &Beat) -> [String; 5] {
    let ballot = beat.ballot.map_or("-".into(), |ballot| ballot.to_string());
    let mut heard = beat.heard.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" ");
    if heard.is_empty() {
        heard.push('-');
    }
    [id.to_string(), beat.stance.word().into(), ballot, beat.learned.to_string(), heard]
}

/// The same as one object: `nodes` (each with `node`, `does`, `ballot`, `learned`, `hears`), `leader`
/// and `quorum`, where null means that nothing is known.
pub fn json(view: &View, now: Micros) -> Json {
    let node = |(id, beat): (NodeId, &Beat)| {
        json!({
            "node": id.0,
            "does": beat.stance.word(),
            "ballot": beat.ballot.map(|ballot| ballot.to_string()),
            "learned": beat.learned.0,
            "hears": beat.heard.iter().map(|id| id.0).collect::<Vec<_>>(),
        })
    };
    json!({
        "nodes": view.nodes(now).map(node).collect::<Vec<_>>(),
        "leader": view.leader(now).map(|id| id.0),
        "quorum": view.has_quorum(now),
    })
}

/// Whether the group can be worked with.
pub fn status(view: &View, now: Micros) -> Status {
    if view.leader(now).is_some() { Status::Done } else { Status::NoQuorum }
}
