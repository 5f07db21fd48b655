//! Reads the switch's record for the judges. The form is the [switch](upaxos_testbed::switch)'s.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use upaxos_core::types::{Micros, NodeId};
use upaxos_testbed::client::unhex;

/// A datagram that a node sent: when the switch received it, the sender, and the bytes.
pub type Heard = (Micros, NodeId, Vec<u8>);

/// Every datagram of every node once, however many receivers it had, in the order of arrival.
///
/// # Errors
/// When the file cannot be read, or has another form.
pub fn read(path: &Path) -> Result<Vec<Heard>> {
    let act = || format!("cannot read the record {}", path.display());
    let file = File::open(path).with_context(act)?;
    let mut datagrams: Vec<Heard> = Vec::new();
    for line in BufReader::new(file).lines() {
        let entry: Json = serde_json::from_str(&line.with_context(act)?).with_context(act)?;
        // Datagrams of clients are not judged.
        let Some(from) = entry["from"].as_u64() else { continue };
        let from = NodeId(u16::try_from(from).with_context(act)?);
        let at = Micros(entry["us"].as_u64().with_context(act)?);
        let datagram = (at, from, said(&entry).with_context(act)?);
        if datagrams.last() != Some(&datagram) {
            datagrams.push(datagram);
        }
    }
    Ok(datagrams)
}

/// The bytes of a datagram. A value need not be text, and votes for such values are judged, too.
fn said(entry: &Json) -> Result<Vec<u8>> {
    match (entry["text"].as_str(), entry["hex"].as_str()) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(digits)) => unhex(digits),
        (None, None) => bail!("a line without `text` and `hex`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_of_a_node_is_read_once_whatever_bytes_it_holds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = [
            r#"{"us":5,"from":"clients","to":0,"fate":"delivered","text":"Request 0 one"}"#,
            r#"{"us":7,"from":1,"to":0,"fate":"delivered","text":"1 Accept 1 2 one"}"#,
            r#"{"us":7,"from":1,"to":2,"fate":"lost","text":"1 Accept 1 2 one"}"#,
            r#"{"us":9,"from":2,"to":0,"fate":"cut","hex":"ff0a"}"#,
        ];
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        let known = vec![
            (Micros(7), NodeId(1), b"1 Accept 1 2 one".to_vec()),
            (Micros(9), NodeId(2), vec![0xff, b'\n']),
        ];
        assert_eq!(read(file.path()).unwrap(), known);
        std::fs::write(file.path(), r#"{"us":9,"from":2}"#).unwrap();
        assert!(read(file.path()).is_err());
    }
}
