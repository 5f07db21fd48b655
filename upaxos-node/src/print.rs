//! `upaxos-node log DIR`: a data directory's log as the classic nodes print theirs.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use upaxos_core::entry::Entry;
use upaxos_core::record::{Reader, Record};
use upaxos_core::types::{Instance, Value};
use upaxos_core::wire::Dialect;

use crate::disk;

/// Prints every record as `ID: …`; what was learned with its value, and without the marks that the log
/// keeps with it.
///
/// # Errors
/// When the directory cannot be read, or standard output cannot be written; a closed pipe is no error.
pub fn log(dir: &Path) -> Result<()> {
    let id = disk::identity(dir)?.id;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut reader = Reader::default();
    let (out_cell, written) = (RefCell::new(&mut out), RefCell::new(Ok(())));
    let go_on = |print: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
        let mut written = written.borrow_mut();
        if written.is_ok() {
            *written = print(&mut **out_cell.borrow_mut());
        }
        Ok(())
    };
    let contents = disk::read(
        dir,
        &mut |past| go_on(&|out| print_learned(out, id, past.instance, Some(&past.value))),
        &mut |found| {
            let record = found.record().map_err(|error| error.to_string())?;
            let learned = reader.take(&record);
            go_on(&|out| print(out, id, &record, &learned))
        },
    )?;
    match written.into_inner().and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(error).context("cannot print the log");
        }
        _ => {}
    }
    if let Some(note) = contents.note {
        eprintln!("upaxos-node: {note}");
    }
    Ok(())
}

fn print(
    out: &mut dyn Write,
    id: u16,
    record: &Record,
    learned: &[(Instance, Option<Value>)],
) -> io::Result<()> {
    match record {
        Record::Start { start, .. } => writeln!(out, "{id}: starting {id} (start {start})")?,
        Record::Chosen { .. } | Record::Learn { .. } => {}
        other => writeln!(out, "{id}: {other}")?,
    }
    learned.iter().try_for_each(|(instance, value)| print_learned(out, id, *instance, value.as_ref()))
}

fn print_learned(out: &mut dyn Write, id: u16, instance: Instance, value: Option<&Value>) -> io::Result<()> {
    let entry = value.map(|value| Entry::decode(instance, value, Dialect::Extended));
    match entry.as_ref().map(Entry::reads) {
        Some(reads) => writeln!(out, "{id}: learn {instance} {reads}"),
        None => writeln!(out, "{id}: learn {instance}, but not what"),
    }
}
