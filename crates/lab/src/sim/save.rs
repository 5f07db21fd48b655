//! The files of a simulated run: the wire as JSON lines, and one log for each node.
//!
//! Owns the form of these files. Called at the end of a run, if the run is to be saved.
//!
//! A line of `wire.jsonl` is one datagram on one link: `us` (when it was sent), `from` and `to` (a node's number,
//! or `clients`), `fate` (`delivered`, `duplicate`, `lost`, `damaged` or `cut`), `arrives` (when, if it does) and
//! `text`, as it was sent, or as it arrives damaged. Bytes that are not UTF-8 are in `hex` instead.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};
use upaxos_sim::network::{CLIENTS, Fate, Passed};
use upaxos_sim::scripted::Scripted;

/// Writes the recorded wire and all logs.
pub(super) fn all(play: &Scripted, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if let Some(wire) = play.wire() {
        write(&dir.join("wire.jsonl"), |out| {
            wire.iter().try_for_each(|passed| writeln!(out, "{}", json_of(passed)))
        })?;
    }
    for id in 0..play.nodes() {
        write(&dir.join(format!("node-{id}.log")), |out| {
            play.log(id).try_for_each(|said| writeln!(out, "{:>12} {id}: {}", said.at.0, said.what))
        })?;
    }
    Ok(())
}

fn write(file: &Path, lines: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let written = File::create(file).and_then(|created| {
        let mut out = BufWriter::new(created);
        lines(&mut out)?;
        out.flush()
    });
    written.with_context(|| format!("cannot write {}", file.display()))
}

fn json_of(passed: &Passed) -> Json {
    let party = |id: u16| if id == CLIENTS { json!("clients") } else { json!(id) };
    let (fate, arrives) = match passed.fate {
        Fate::Delivered(at) => ("delivered", Some(at)),
        Fate::Duplicate(at) | Fate::Replayed(at) => ("duplicate", Some(at)),
        Fate::Lost => ("lost", None),
        Fate::Damaged(at) => ("damaged", at),
        Fate::Cut => ("cut", None),
    };
    let mut object = Map::new();
    object.insert("us".into(), json!(passed.at.0));
    object.insert("from".into(), party(passed.from));
    object.insert("to".into(), party(passed.to));
    object.insert("fate".into(), json!(fate));
    object.extend(arrives.map(|at| ("arrives".to_owned(), json!(at.0))));
    match std::str::from_utf8(&passed.datagram.bytes) {
        Ok(text) => object.insert("text".into(), json!(text)),
        Err(_) => {
            let hex: String = passed.datagram.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert("hex".into(), json!(hex))
        }
    };
    Json::Object(object)
}
