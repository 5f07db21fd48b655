//! Reads a log and its history without opening it, for readers beside the node.

use std::io;
use std::mem;

use upaxos_core::past::Past;
use upaxos_core::record::Record;
use upaxos_core::types::Instance;

use super::archive::{self, Range};
use super::files::Files;
use super::{Found, OnRecord, StoreError, scan};

/// The result of [`read`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Contents {
    /// The position where the walk stopped, if not at a clean end: the segment, the offset, the number of bytes
    /// behind it.
    pub torn: Option<(u64, u64, u64)>,
}

/// Reads the log without opening it. It changes nothing, so it may run beside the node; it then ends at some block
/// near the end. It passes on the history below the first record, then every record. Of a damaged log, it passes on
/// all readable parts before it returns the error.
///
/// # Errors
/// As [`Store::open`](super::Store::open). But an end that is no block is only noted, not an error, because the
/// node may be writing it.
pub fn read<F: Files>(
    files: &F,
    incarnation: u64,
    on_past: &mut dyn FnMut(Past) -> Result<(), String>,
    on_record: OnRecord<'_>,
) -> Result<Contents, StoreError> {
    let (mut is_first, mut failure) = (true, None);
    let walked = scan::walk_what_there_is(files, incarnation, &mut |found: Found<'_>| {
        if mem::take(&mut is_first)
            && let Ok(Record::Checkpoint { learned, .. }) = Record::parse(found.line)
            && let Err(error) = read_history(files, incarnation, learned, on_past)
        {
            failure = Some(error);
        }
        on_record(found)
    });
    let tail = match failure {
        Some(failure) => return Err(failure),
        None => walked?,
    };
    Ok(Contents { torn: (tail.torn_bytes > 0).then_some((tail.number, tail.at, tail.torn_bytes)) })
}

fn read_history<F: Files>(
    files: &F,
    incarnation: u64,
    through: Instance,
    on_past: &mut dyn FnMut(Past) -> Result<(), String>,
) -> Result<(), StoreError> {
    let (ranges, gap) = archive::list_to_gap(files)?;
    let (mut next, mut is_corrupt) = (Instance(1), false);
    while next <= through {
        let last = if is_corrupt { next } else { through };
        let found = match archive::values(files, (&ranges, incarnation), (next, last), 1 << 20) {
            // Read the instances one by one, up to the damage.
            Err(_) if !is_corrupt => {
                is_corrupt = true;
                continue;
            }
            found => found?,
        };
        let Some(last) = found.last().map(|past| past.instance) else {
            return Err(gap.unwrap_or_else(|| history_ends(files, &ranges, through)));
        };
        for past in found {
            on_past(past).map_err(io::Error::other)?;
        }
        next = last.next();
    }
    Ok(())
}

/// The error for a history that ends before the point where the log begins.
pub(super) fn history_ends<F: Files>(files: &F, ranges: &[Range], needed: Instance) -> StoreError {
    let end = ranges.last().map_or(Instance(0), |range| range.last);
    let missing = Range { first: end.next(), last: needed };
    let what =
        format!("it is missing: no other file holds the values chosen at {} to {needed}", missing.first);
    StoreError::Damaged { file: files.place(&missing.name()), at: 0, what }
}
