//! Reading a log back: what is intact, what a crash cut short, what was damaged.

use std::fs;
use std::path::Path;

use upaxos_core::record::block::{Chain, End, Scanner};

use super::error::{Context, DiskError};
use super::segment;

/// Takes one record line; an error says what is wrong with it.
pub type OnRecord<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), String>;

/// Where a log ends, and what stands there.
#[derive(Debug)]
pub(super) struct Walked {
    /// The chain up to the last block.
    pub chain: Chain,
    /// The segment that the next block belongs to, and where in it.
    pub number: u64,
    pub at: u64,
    /// Bytes to be zeroed there: a write that a crash cut short.
    pub torn: u64,
    /// The last block: where it stands, and its bytes.
    pub last_block: Option<(u64, u64, Vec<u8>)>,
}

/// Walks a log from its beginning, one segment in memory at a time, and hands over its records.
pub(super) fn walk(dir: &Path, seed: u64, on_record: OnRecord) -> Result<Walked, DiskError> {
    let mut walked = Walked { chain: Chain::new(seed), number: 1, at: 0, torn: 0, last_block: None };
    for (number, expected) in segment::list(dir)?.into_iter().zip(1..) {
        if number != expected {
            let what = format!("segment {expected:08}.log is missing");
            return Err(damaged(dir, number, 0, what));
        }
        walk_segment(dir, number, &mut walked, on_record)?;
    }
    Ok(walked)
}

fn walk_segment(dir: &Path, number: u64, walked: &mut Walked, on_record: OnRecord) -> Result<(), DiskError> {
    let path = segment::path(dir, number);
    let bytes = fs::read(&path).act("read", &path)?;
    let mut scanner = Scanner::new(&bytes, 0, walked.chain);
    for block in scanner.by_ref() {
        for line in block.body.split_inclusive(|byte| *byte == b'\n') {
            on_record(&line[..line.len() - 1]).map_err(|what| damaged(dir, number, block.at, what))?;
        }
        walked.last_block = Some((number, block.at as u64, bytes[block.at..block.end()].to_vec()));
    }
    let (_, chain) = scanner.reached();
    let has_blocks = chain != walked.chain;
    let end = scanner.end();
    let is_empty = !has_blocks && matches!(end, End::Clean { .. });
    if walked.torn > 0 && !is_empty {
        let what = "what stands there is no intact block, and the log goes on in a later segment";
        return Err(damaged(dir, walked.number, walked.at as usize, what.into()));
    }
    match end {
        End::Damaged { at, next_valid_at } if at == next_valid_at => {
            let what = "an intact block stands there that does not follow the one before: a write was lost, repeated, \
                        or went astray";
            Err(damaged(dir, number, at, what.into()))
        }
        End::Damaged { at, next_valid_at } => {
            let what = format!(
                "what stands there is no intact block, and an intact one follows at byte {next_valid_at}"
            );
            Err(damaged(dir, number, at, what))
        }
        _ if is_empty && number > 1 => Ok(()),
        End::Clean { .. } | End::Torn { .. } => {
            let torn = if let End::Torn { bytes, .. } = end { bytes as u64 } else { 0 };
            (walked.chain, walked.number, walked.at, walked.torn) = (chain, number, end.at() as u64, torn);
            Ok(())
        }
    }
}

fn damaged(dir: &Path, number: u64, offset: usize, what: String) -> DiskError {
    DiskError::Damaged { path: segment::path(dir, number), offset: offset as u64, what }
}
