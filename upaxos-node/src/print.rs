//! `upaxos-node log DIR`: a data directory's log as the classic nodes print theirs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use upaxos_core::entry::Entry;
use upaxos_core::record::Record;
use upaxos_core::types::{Ballot, Instance, Value};
use upaxos_core::wire::Dialect;

use crate::disk;

/// Prints every record as `ID: …`, values included where the log only refers to them.
///
/// # Errors
/// When the directory cannot be read, or standard output cannot be written; a closed pipe is no error.
pub fn log(dir: &Path) -> Result<()> {
    let identity = disk::identity(dir)?;
    let mut printer =
        Printer { id: identity.id, accepted: BTreeMap::new(), out: io::stdout().lock(), error: None };
    disk::read(dir, &mut |line| {
        let record = Record::parse(line).map_err(|error| error.to_string())?;
        printer.print(&record);
        Ok(())
    })?;
    match printer.error {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot print the log")
        }
        _ => Ok(()),
    }
}

struct Printer<W> {
    id: u16,
    accepted: BTreeMap<Instance, (Ballot, Value)>,
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, record: &Record) {
        let id = self.id;
        match record {
            Record::Start { start, .. } => self.line(format_args!("{id}: starting {id} (start {start})")),
            Record::Chosen { first, last, .. } => {
                for instance in (first.0..=last.0).map(Instance) {
                    let value = self.accepted.remove(&instance).map(|(_, value)| value);
                    self.learn(instance, &value.unwrap_or_else(|| Value::from("?")));
                }
            }
            Record::Accept { instance, ballot, value } => {
                self.line(format_args!("{id}: accept {instance} {ballot} {value}"));
                self.accepted.insert(*instance, (*ballot, value.clone()));
            }
            Record::Learn { instance, value } => self.learn(*instance, value),
            other => self.line(format_args!("{id}: {other}")),
        }
    }

    /// What was learned, without the marks that the log keeps with it.
    fn learn(&mut self, instance: Instance, value: &Value) {
        let id = self.id;
        match Entry::decode(instance, value, Dialect::Extended) {
            Entry::Noop => self.line(format_args!("{id}: learn {instance} no-op")),
            Entry::Write(value) | Entry::Tagged(_, value) | Entry::Read { value, .. } => {
                self.line(format_args!("{id}: learn {instance} {value}"));
            }
        }
    }

    fn line(&mut self, text: std::fmt::Arguments) {
        if self.error.is_none() {
            self.error = writeln!(self.out, "{text}").err();
        }
    }
}
