//! Reads a log and its history without opening it: for those who look on.

use std::io;
use std::mem;

use super::files::Files;
use super::history::{self, Past, Range};
use super::{Found, OnRecord, StoreError, walk};
use crate::record::Record;
use crate::types::Instance;

/// What [`read`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Contents {
    /// Where the walk stopped, if not at a clean end: the segment, the byte, how much is behind.
    pub torn: Option<(u64, u64, u64)>,
}

/// Walks the log without opening it: changes nothing, so it may run beside the node, and then ends at some
/// block near the end. Hands out the history below the first record, then every record. What can be read of a damaged
/// log is handed out, too, before the error is.
///
/// # Errors
/// As [`Store::open`](super::Store::open); but an end that is no block is not an error, only noted: it may be being written.
pub fn read<F: Files>(
    files: &F,
    incarnation: u64,
    on_past: &mut dyn FnMut(Past) -> Result<(), String>,
    on_record: OnRecord<'_>,
) -> Result<Contents, StoreError> {
    let (mut is_first, mut failure) = (true, None);
    let walked = walk::walk_what_there_is(files, incarnation, &mut |found: Found<'_>| {
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
    let (ranges, gap) = history::list_to_gap(files)?;
    let (mut next, mut is_hurt) = (Instance(1), false);
    while next <= through {
        let last = if is_hurt { next } else { through };
        let found = match history::values(files, (&ranges, incarnation), (next, last), 1 << 20) {
            // One after another, up to the damage.
            Err(_) if !is_hurt => {
                is_hurt = true;
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

/// The history does not go as far as the log needs it to.
pub(super) fn history_ends<F: Files>(files: &F, ranges: &[Range], needed: Instance) -> StoreError {
    let end = ranges.last().map_or(Instance(0), |range| range.last);
    let missing = Range { first: end.next(), last: needed };
    let what = format!("it is missing: what was chosen at {} to {needed} is nowhere else", missing.first);
    StoreError::Damaged { file: files.place(&missing.name()), at: 0, what }
}
