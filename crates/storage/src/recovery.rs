//! Prepares a log for writing, whatever state the last run left it in.

use std::io;

use upaxos_core::mutant::{self, Mutant};

use super::files::{Files, cannot_in};
use super::scan::Tail;
use super::segment::{self, Segment};

/// Cuts a write that a crash cut short, writes the last block again, and opens the log at its end.
pub(super) fn mend<F: Files>(files: &F, tail: &Tail, warnings: &mut Vec<String>) -> io::Result<Segment<F>> {
    // If an earlier sync of the directory failed, a name may be visible and yet not durable.
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

/// Removes the segments from `number` on, the last first and each durably. In whatever order a power cut drops
/// names, the rest then has no gaps.
fn remove_from<F: Files>(files: &F, number: u64) -> io::Result<()> {
    for later in segment::numbers(files)?.into_iter().rev().filter(|later| *later >= number) {
        let name = segment::name(later);
        files.remove(&name).map_err(cannot_in(files, "remove", &name))?;
        files.sync_dir()?;
    }
    Ok(())
}

/// The last run may have ended because a sync failed. The kernel then keeps the pages, marked clean, so that the
/// bytes just read may be nowhere on the device, and no later sync would write them (fsync(2), "errors"). Only the
/// last block can be in that state, because nothing is written after a failed sync. So this writes it again before
/// anything builds on it.
fn rewrite_last<F: Files>(files: &F, tail: &Tail) -> io::Result<()> {
    match tail.last.filter(|_| !mutant::is(Mutant::NoRewriteLast)) {
        Some((number, at, length)) => Segment::open(files, number, at)?.rewrite(files, at, length),
        None => Ok(()),
    }
}
