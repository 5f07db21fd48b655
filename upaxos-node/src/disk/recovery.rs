//! From a directory, in whatever state the last run left it, to a log that can be written on.

use super::error::cannot;
use super::segment::{self, Head, Segment};
use super::walk::Tail;
use super::{DiskError, Identity, MAX_SEGMENT_BYTES, Wanted, identity, lock};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The identity of the directory, and whether this call gave it one.
pub(super) fn identify(
    dir: &Path,
    wanted: &Wanted,
    segment_bytes: u64,
) -> Result<(Identity, bool), DiskError> {
    if let Some(found) = Identity::load(dir)? {
        check(dir, "-i", wanted.id, found.id)?;
        check(dir, "-n", wanted.n, found.n)?;
        return Ok((found, false));
    }
    clear_unfinished(dir)?;
    Ok((create(dir, wanted, segment_bytes)?, true))
}

fn check(dir: &Path, option: &'static str, expected: u16, found: u16) -> Result<(), DiskError> {
    if expected == found {
        return Ok(());
    }
    Err(DiskError::Mismatch { dir: dir.into(), option, expected, found })
}

/// The identity gets its name last: a directory that has one is complete, so a missing segment
/// is a loss and never a crash half way through making it.
fn create(dir: &Path, wanted: &Wanted, segment_bytes: u64) -> io::Result<Identity> {
    let identity = Identity { id: wanted.id, n: wanted.n, incarnation: wanted.incarnation_if_new };
    identity.draft(dir)?;
    let head = Head { number: 1, bytes: segment_bytes, incarnation: identity.incarnation };
    Segment::create(dir, &head)?;
    Identity::publish(dir)?;
    lock::sync_dir(lock::parent(dir))?;
    Ok(identity)
}

/// Without an identity there must be nothing, or what `create` leaves when it is cut short:
/// the draft of the identity, and perhaps a first segment that was never written to.
fn clear_unfinished(dir: &Path) -> Result<(), DiskError> {
    let Some(last) = segment::numbers(dir)?.pop() else {
        return Ok(());
    };
    let path = segment::path(dir, last);
    if last != 1 || !identity::draft_path(dir).exists() || is_written(&path)? {
        return Err(DiskError::Damaged {
            file: identity::path(dir),
            at: 0,
            what: format!("it is missing, though there is {}", path.display()),
        });
    }
    fs::remove_file(&path).map_err(cannot("remove", &path))?;
    Ok(())
}

fn is_written(path: &Path) -> Result<bool, DiskError> {
    let mut bytes = Vec::new();
    let (_, at) = segment::load(path, &mut bytes, MAX_SEGMENT_BYTES)?;
    Ok(bytes[at..].iter().any(|byte| *byte != 0))
}

/// Cuts a torn tail, makes sure of the last block, and opens the log where it ends.
pub(super) fn mend(dir: &Path, tail: &Tail, warnings: &mut Vec<String>) -> io::Result<Segment> {
    // A name may be visible and not durable, if the sync of the directory failed.
    lock::sync_dir(dir)?;
    let mut segment = Segment::open(dir, tail.number, tail.at)?;
    let path = segment::path(dir, tail.number);
    if tail.torn_bytes > 0 {
        warnings.push(format!(
            "{}: cut {} bytes at byte {}: a write that a crash cut short (nothing valid follows)",
            path.display(),
            tail.torn_bytes,
            tail.at
        ));
    }
    if tail.torn_bytes > 0 {
        segment.zero(tail.at, tail.at + tail.torn_bytes)?;
    }
    rewrite_last(dir, tail)?;
    Ok(segment)
}

/// The last run may have ended because a sync failed. The kernel then keeps the pages, marked
/// clean, so that what we have just read may be nowhere on the device; and no later sync would
/// write it (fsync(2), "errors"). Only the last block can be in that state: nothing is written
/// after a failed sync. So write it again before anything is built on it.
fn rewrite_last(dir: &Path, tail: &Tail) -> io::Result<()> {
    match tail.last {
        Some((number, at, length)) => Segment::open(dir, number, at)?.rewrite(at, length),
        None => Ok(()),
    }
}

/// Says so when others may read what is in the log; the owner may want it so.
pub(super) fn warn_of_open_doors(dir: &Path, warnings: &mut Vec<String>) -> io::Result<()> {
    let metadata = fs::metadata(dir).map_err(cannot("look at", dir))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        warnings.push(format!(
            "{}: others have access to it (mode {mode:o}); chmod 700 keeps the values private",
            dir.display()
        ));
    }
    Ok(())
}
