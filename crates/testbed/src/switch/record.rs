//! The record of the network: every datagram that reached the switch, for each of its receivers.
//!
//! The form is that of the simulated world, one JSON object a line: `us` (when the switch received it), `from` and
//! `to` (a node's number, or `clients`: the last port), `fate` (`delivered`, `duplicate`, `lost`, `damaged` or
//! `cut`), `arrives` (when the switch passes it on, if it does) and `text`, as it was sent. A datagram that is not
//! UTF-8 is in `hex` instead, two digits a byte. A second copy has a line of its own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, json};
use upaxos_core::types::Micros;

use super::link_model::LinkModel;

/// Writes the record, buffered; see [`Recorder::flush`].
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    out: BufWriter<File>,
    /// The clients' port: the last one.
    clients: usize,
}

impl Recorder {
    /// Starts a record for so many ports. Replaces the contents of the file.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path, ports: usize) -> Result<Recorder> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let (out, clients) = (BufWriter::with_capacity(1 << 18, file), ports.saturating_sub(1));
        Ok(Recorder { path: path.to_owned(), out, clients })
    }

    /// Records a datagram and its fate on one link.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, at: Micros, link: (usize, usize), fate: &LinkModel, payload: &[u8]) -> Result<()> {
        let (word, first, second) = match fate {
            LinkModel::Cut => ("cut", None, None),
            LinkModel::Lost => ("lost", None, None),
            LinkModel::Damaged { delay, .. } => ("damaged", Some(*delay), None),
            LinkModel::Arrives(delay) => ("delivered", Some(*delay), None),
            LinkModel::Twice(delay, again) => ("delivered", Some(*delay), Some(*again)),
        };
        self.write(at, link, (word, first), payload)?;
        second.map_or(Ok(()), |again| self.write(at, link, ("duplicate", Some(again)), payload))
    }

    fn write(
        &mut self,
        at: Micros,
        (from, to): (usize, usize),
        (fate, delay): (&str, Option<Micros>),
        payload: &[u8],
    ) -> Result<()> {
        let clients = self.clients;
        let party = |port: usize| if port == clients { json!("clients") } else { json!(port) };
        let mut object = Map::new();
        object.insert("us".into(), json!(at.0));
        object.insert("from".into(), party(from));
        object.insert("to".into(), party(to));
        object.insert("fate".into(), json!(fate));
        object.extend(delay.map(|delay| ("arrives".to_owned(), json!((at + delay).0))));
        match std::str::from_utf8(payload) {
            Ok(text) => object.insert("text".into(), json!(text)),
            Err(_) => {
                let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                object.insert("hex".into(), json!(hex))
            }
        };
        let written = serde_json::to_writer(&mut self.out, &object).map_err(std::io::Error::from);
        written.and_then(|()| self.out.write_all(b"\n")).with_context(|| self.cannot())
    }

    /// Flushes the buffer: the file then holds all that was recorded.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().with_context(|| self.cannot())
    }

    fn cannot(&self) -> String {
        format!("cannot write the record {}", self.path.display())
    }
}
