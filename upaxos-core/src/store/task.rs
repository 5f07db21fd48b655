//! Work that no commit should wait for: the next segment's zeros, and compaction.
//!
//! A task is a machine with steps. The daemon takes them on a thread beside its loop, the simulator at any
//! moment; the power may fail between any two operations of any step. Owns nothing of the store: what a
//! task needs it carries, and what it made is handed back to [`Store::finish`](super::Store::finish).

use std::io;

use super::files::{Files, cannot_in};
use super::history::{Past, Printer, Range, cannot_write};
use super::segment::{self, Head, Segment};
use crate::mutant::{self, Mutant};

/// About how many bytes of a history file one step writes.
const STEP_BYTES: usize = 256 * 1024;

/// One piece of work in progress.
#[derive(Debug)]
pub struct Task<F: Files>(pub(super) Kind<F>);

#[derive(Debug)]
pub(super) enum Kind<F: Files> {
    Prepare { head: Head, made: Option<Segment<F>> },
    Compact(Compaction<F>),
}

/// From values in memory to a history file, then to fewer segments. The order is what makes it safe: the
/// file is durable before it has its name, its name is durable before anything else is removed, and each removal
/// is durable before the next, so that a power cut leaves no gap, in whatever order it lets names go.
#[derive(Debug)]
pub(super) struct Compaction<F: Files> {
    pub range: Range,
    values: Vec<Past>,
    /// Which segments nobody needs after that, the oldest first.
    remove: Vec<u64>,
    stage: Stage<F>,
}

#[derive(Debug)]
enum Stage<F: Files> {
    Create(Printer),
    Write(F::File, u64, Printer),
    Sync(F::File),
    Rename,
    SyncName,
    Remove(usize),
    SyncRemoval(usize),
    Done,
}

impl<F: Files> Compaction<F> {
    /// Of `values`, which may be empty: then there is only something to remove.
    pub(super) fn new(incarnation: u64, range: Range, values: Vec<Past>, remove: Vec<u64>) -> Self {
        let stage = match values.is_empty() {
            true if remove.is_empty() => Stage::Done,
            true => Stage::Remove(0),
            false => Stage::Create(Printer::new(incarnation, range)),
        };
        Compaction { range, values, remove, stage }
    }

    fn step(&mut self, files: &F) -> io::Result<bool> {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        self.stage = match stage {
            Stage::Create(printer) => {
                let file = files.create(&self.range.draft_name());
                Stage::Write(file.map_err(cannot_write(files, "create", self.range))?, 0, printer)
            }
            Stage::Write(file, at, mut printer) => match printer.next(&self.values, STEP_BYTES) {
                Some(piece) => {
                    let written = files.write_at(&file, &piece, at);
                    written.map_err(cannot_write(files, "write", self.range))?;
                    Stage::Write(file, at + piece.len() as u64, printer)
                }
                None => Stage::Sync(file),
            },
            Stage::Sync(file) => {
                self.values = Vec::new();
                files.sync_data(&file).map_err(cannot_write(files, "sync", self.range))?;
                Stage::Rename
            }
            Stage::Rename => {
                let renamed = files.rename(&self.range.draft_name(), &self.range.name());
                renamed.map_err(cannot_write(files, "rename", self.range))?;
                Stage::SyncName
            }
            Stage::SyncName => {
                if !mutant::is(Mutant::NameNotSynced) {
                    files.sync_dir()?;
                }
                self.remove_from(0)
            }
            Stage::Remove(at) => {
                let name = segment::name(self.remove[at]);
                files.remove(&name).map_err(cannot_in(files, "remove", &name))?;
                Stage::SyncRemoval(at)
            }
            Stage::SyncRemoval(at) => {
                files.sync_dir()?;
                self.remove_from(at + 1)
            }
            Stage::Done => Stage::Done,
        };
        Ok(matches!(self.stage, Stage::Done))
    }

    fn remove_from(&self, at: usize) -> Stage<F> {
        if at < self.remove.len() { Stage::Remove(at) } else { Stage::Done }
    }

    /// Which segments it removed.
    pub(super) fn removed(&self) -> &[u64] {
        &self.remove
    }
}

impl<F: Files> Task<F> {
    /// Goes on; true when it is done.
    ///
    /// # Errors
    /// When the file system refuses. Then the node must end: as after a failed commit.
    pub fn step(&mut self, files: &F) -> io::Result<bool> {
        match &mut self.0 {
            Kind::Prepare { head, made } => {
                *made = Some(Segment::open_or_create(files, head)?);
                Ok(true)
            }
            Kind::Compact(compaction) => compaction.step(files),
        }
    }

    /// Goes on to the end.
    ///
    /// # Errors
    /// See [`Task::step`].
    pub fn run(mut self, files: &F) -> io::Result<Self> {
        while !self.step(files)? {}
        Ok(self)
    }
}
