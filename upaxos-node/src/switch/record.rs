//! The record of the network: every datagram that came to the switch, for each of its receivers.
//!
//! One JSON object a line: `at_us` (when the switch heard it), `from` and `to` (ports), `fate` (see
//! [`Fate::word`]), `delay_us` (until its first copy went on, where that is not at once) and `text`, as it
//! was sent; a datagram that is not UTF-8 stands in `text_hex` instead, two digits a byte.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, json};
use upaxos_core::types::Micros;

use super::fate::Fate;

/// Writes the record.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Recorder {
    /// Begins a record, in place of what the file held.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Recorder> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Recorder { path: path.to_owned(), out: BufWriter::with_capacity(1 << 18, file) })
    }

    /// Takes note of a datagram and its fate on one link.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(
        &mut self,
        at: Micros,
        (from, to): (usize, usize),
        fate: &Fate,
        payload: &[u8],
    ) -> Result<()> {
        let mut object = Map::new();
        object.insert("at_us".into(), json!(at.0));
        object.insert("from".into(), json!(from));
        object.insert("to".into(), json!(to));
        object.insert("fate".into(), json!(fate.word()));
        if let Some(delay) = fate.delay().filter(|delay| delay.0 > 0) {
            object.insert("delay_us".into(), json!(delay.0));
        }
        match std::str::from_utf8(payload) {
            Ok(text) => object.insert("text".into(), json!(text)),
            Err(_) => {
                let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                object.insert("text_hex".into(), json!(hex))
            }
        };
        let written = serde_json::to_writer(&mut self.out, &object).map_err(std::io::Error::from);
        written.and_then(|()| self.out.write_all(b"\n")).with_context(|| self.cannot())
    }

    /// All that was noted is on file.
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
