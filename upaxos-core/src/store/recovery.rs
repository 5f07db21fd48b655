//! From a log, in whatever state the last run left it, to one that can be written on.

use std::io;

use super::files::{Files, cannot_in};
use super::segment::{self, Segment};
use super::walk::Tail;
use crate::mutant::{self, Mutant};

/// Cuts what a crash cut short, makes sure of the last block, and opens the log where it ends.
pub(super) fn mend<F: Files>(files: &F, tail: &Tail, warnings: &mut Vec<String>) -> io::Result<Segment<F>> {
    // A name may be visible and not durable, if the sync of the directory failed.
    files.sync_dir()?;
    if let Some(unfinished) = tail.unfinished {
        remove_from(files, unfinished)?;
        warnings.push(format!(
            "{}: removed: a crash cut its checkpoint short, and it holds nothing else",
            files.place(&segment::name(unfinished)).display()
        ));
    }
    let mut segment = Segment::open(files, tail.number, tail.at)?;
    if tail.torn_bytes > 0 {
        warnings.push(format!(
            "{}: cut {} bytes at byte {}: a write that a crash cut short (nothing valid follows)",
            files.place(&segment::name(tail.number)).display(),
            tail.torn_bytes,
            tail.at
        ));
        segment.zero(files, tail.at, tail.at + tail.torn_bytes)?;
    }
    rewrite_last(files, tail)?;
    Ok(segment)
}

/// Removes the segments from `number` on, the last first and each durably: what is left has no gaps, in
/// whatever order a power cut lets names go.
fn remove_from<F: Files>(files: &F, number: u64) -> io::Result<()> {
    for later in segment::numbers(files)?.into_iter().rev().filter(|later| *later >= number) {
        let name = segment::name(later);
        files.remove(&name).map_err(cannot_in(files, "remove", &name))?;
        files.sync_dir()?;
    }
    Ok(())
}

/// The last run may have ended because a sync failed. The kernel then keeps the pages, marked
/// clean, so that what we have just read may be nowhere on the device; and no later sync would
/// write it (fsync(2), "errors"). Only the last block can be in that state: nothing is written
/// after a failed sync. So write it again before anything is built on it.
fn rewrite_last<F: Files>(files: &F, tail: &Tail) -> io::Result<()> {
    match tail.last.filter(|_| !mutant::is(Mutant::NoRewriteLast)) {
        Some((number, at, length)) => Segment::open(files, number, at)?.rewrite(files, at, length),
        None => Ok(()),
    }
}
