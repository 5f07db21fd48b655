//! Reads what the switch wrote down, for the judges. The form is the [switch](crate::switch)'s.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value as Json;
use upaxos_core::types::Micros;

/// A datagram that came to the switch: when, from which port, what.
pub type Heard = (Micros, usize, Vec<u8>);

/// Every datagram once, however many it was for, in the order in which they came.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<Vec<Heard>> {
    let act = || format!("cannot read the record {}", path.display());
    let file = File::open(path).with_context(act)?;
    let mut datagrams: Vec<(Heard, usize)> = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(act)?;
        let entry: Json = serde_json::from_str(&line).with_context(act)?;
        let number =
            |key: &str| entry[key].as_u64().with_context(|| format!("{}: no {key} in {line}", act()));
        let (at, from, to) = (Micros(number("at_us")?), number("from")? as usize, number("to")? as usize);
        // A datagram is for all: of its entries, the first receiver's stands for it.
        let is_first = to == usize::from(from == 0);
        if let Some(text) = entry["text"].as_str().filter(|_| is_first) {
            datagrams.push(((at, from, text.as_bytes().to_vec()), to));
        }
    }
    Ok(datagrams.into_iter().map(|(heard, _)| heard).collect())
}
