//! Work that no commit should wait for: the zeros of the next segment, and compaction.
//!
//! A task is a state machine with steps. The daemon runs the steps on a thread beside its loop, the simulator at
//! any moment. The power may fail between any two operations of any step. A task owns nothing of the store: it
//! carries everything it needs, and its result goes back to [`Store::finish`](super::Store::finish).

use std::io;

use upaxos_core::mutant::{self, Mutant};
use upaxos_core::past::Past;

use super::archive::{Printer, Range, cannot_write};
use super::files::{Files, cannot_in};
use super::segment::{self, Head, Segment};

/// The approximate number of bytes that one step writes to a history file.
const STEP_BYTES: usize = 256 * 1024;

/// One piece of work in progress.
#[derive(Debug)]
pub struct Task<F: Files>(pub(super) Kind<F>);

#[derive(Debug)]
pub(super) enum Kind<F: Files> {
    Prepare { head: Head, made: Option<Segment<F>> },
    Compact(Compaction<F>),
}

/// Moves values from memory to a history file, then removes segments. The order makes it safe. The file is durable
/// before it has its name. Its name is durable before anything else is removed. Each removal is durable before the
/// next, so that a power cut leaves no gap, in whatever order it drops names.
#[derive(Debug)]
pub(super) struct Compaction<F: Files> {
    pub range: Range,
    values: Vec<Past>,
    /// The segments that are redundant after that, the oldest first.
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
    /// A compaction of `values`. If they are empty, it only removes segments.
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

    /// The numbers of the segments that it removes.
    pub(super) fn removed(&self) -> &[u64] {
        &self.remove
    }
}

impl<F: Files> Task<F> {
    /// Runs the next step. Returns true when the task is done.
    ///
    /// # Errors
    /// When the file system refuses. The node must end then, as after a failed commit.
    pub fn step(&mut self, files: &F) -> io::Result<bool> {
        match &mut self.0 {
            Kind::Prepare { head, made } => {
                *made = Some(Segment::open_or_create(files, head)?);
                Ok(true)
            }
            Kind::Compact(compaction) => compaction.step(files),
        }
    }

    /// Runs all remaining steps.
    ///
    /// # Errors
    /// See [`Task::step`].
    pub fn run(mut self, files: &F) -> io::Result<Self> {
        while !self.step(files)? {}
        Ok(self)
    }
}
