//! Reads what the switch wrote down, for the judges. The form is the [switch](crate::switch)'s.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value as Json;
use upaxos_core::types::{Micros, NodeId};

/// A datagram that a node sent: when the switch heard it, whose it is, what it says.
pub type Heard = (Micros, NodeId, Vec<u8>);

/// Every datagram of every node once, however many it was for, in the order in which they came.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<Vec<Heard>> {
    let act = || format!("cannot read the record {}", path.display());
    let file = File::open(path).with_context(act)?;
    let mut datagrams: Vec<Heard> = Vec::new();
    for line in BufReader::new(file).lines() {
        let entry: Json = serde_json::from_str(&line.with_context(act)?).with_context(act)?;
        // What clients say, nobody has to answer for; and what is no text is no line.
        let (Some(from), Some(text)) = (entry["from"].as_u64(), entry["text"].as_str()) else { continue };
        let from = NodeId(u16::try_from(from).with_context(act)?);
        let at = Micros(entry["us"].as_u64().with_context(act)?);
        let is_known = datagrams.last().is_some_and(|(known_at, known_from, known)| {
            (*known_at, *known_from, known.as_slice()) == (at, from, text.as_bytes())
        });
        if !is_known {
            datagrams.push((at, from, text.as_bytes().to_vec()));
        }
    }
    Ok(datagrams)
}
