//! Reads a log from its beginning, one segment at a time, and finds its end. Changes nothing.

use super::segment;
use super::{DiskError, MAX_SEGMENT_BYTES, OnRecord};
use std::path::{Path, PathBuf};
use upaxos_core::record::block::{Block, Chain, End, Scanner};

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Tail {
    /// The last segment in use.
    pub number: u64,
    /// What the next block must cite.
    pub chain: Chain,
    /// Where the blocks end in that segment.
    pub at: u64,
    /// How many bytes of a torn block follow.
    pub torn_bytes: u64,
    /// The last block: its segment, where it begins, its length.
    pub last: Option<(u64, u64, usize)>,
}

struct Walk<'a> {
    dir: &'a Path,
    incarnation: u64,
    bytes: Vec<u8>,
    chain: Chain,
    last: Option<(u64, u64, usize)>,
}

/// Hands every record of the log to `on_record`, in order.
///
/// Another process may be writing meanwhile. What is in use is settled before anything is
/// read, so every segment before the last in use is finished, and must end cleanly.
pub(super) fn walk(dir: &Path, incarnation: u64, on_record: OnRecord<'_>) -> Result<Tail, DiskError> {
    let mut walk = Walk { dir, incarnation, bytes: Vec::new(), chain: Chain::new(incarnation), last: None };
    let last_used = walk.last_used()?;
    for number in 1..last_used {
        let end = walk.segment(number, on_record)?;
        if let End::Torn { at, .. } = end {
            // The next segment is begun only when the last block of this one is durable.
            let what = "no valid block, though a later segment is in use";
            return Err(walk.damaged(number, at, what.into()));
        }
    }
    let end = walk.segment(last_used, on_record)?;
    Ok(Tail {
        number: last_used,
        chain: walk.chain,
        at: end.at() as u64,
        torn_bytes: match end {
            End::Torn { bytes, .. } => bytes as u64,
            _ => 0,
        },
        last: walk.last,
    })
}

impl Walk<'_> {
    /// The last segment with anything in it, be it garbage; the first if there is none.
    fn last_used(&mut self) -> Result<u64, DiskError> {
        let numbers = segment::numbers(self.dir)?;
        for (number, found) in (1..).zip(&numbers) {
            if number != *found {
                let what = format!("the segment is missing, though there is {found:08}.log");
                return Err(self.damaged(number, 0, what));
            }
        }
        if numbers.is_empty() {
            let what = "the segment is missing, though the directory has an identity";
            return Err(self.damaged(1, 0, what.into()));
        }
        for number in numbers.into_iter().rev() {
            let at = self.load(number)?;
            if self.bytes[at..].iter().any(|byte| *byte != 0) {
                return Ok(number);
            }
        }
        Ok(1)
    }

    /// Reads a segment; says where its blocks begin.
    fn load(&mut self, number: u64) -> Result<usize, DiskError> {
        let path = self.path(number);
        let (head, at) = segment::load(&path, &mut self.bytes, MAX_SEGMENT_BYTES)?;
        if head.incarnation != self.incarnation {
            let what = format!(
                "it belongs to another directory (incarnation {:016x}, here {:016x})",
                head.incarnation, self.incarnation
            );
            return Err(self.damaged(number, 0, what));
        }
        if head.number != number {
            let what = format!("it was written as segment {:08}", head.number);
            return Err(self.damaged(number, 0, what));
        }
        let length = self.bytes.len();
        if (length as u64) < head.bytes {
            // It was whole before it had its name, so no crash does this; blocks may be gone with the rest.
            let what = format!("the file ends here, and was made with {} bytes", head.bytes);
            return Err(self.damaged(number, length, what));
        }
        Ok(at)
    }

    fn segment(&mut self, number: u64, on_record: OnRecord<'_>) -> Result<End, DiskError> {
        let mut at = self.load(number)?;
        let mut seen_hurt = None;
        loop {
            let end = self.blocks(number, at, on_record)?;
            let End::Damaged { at: hurt, next_valid_at } = end else {
                return Ok(end);
            };
            if seen_hurt == Some(hurt) {
                return Err(self.damaged(number, hurt, what_is_hurt(hurt, next_valid_at)));
            }
            // A node at work may have written blocks between two parts of one read: look again.
            (seen_hurt, at) = (Some(hurt), hurt);
            self.load(number)?;
        }
    }

    /// Hands out the blocks from `at` on.
    fn blocks(&mut self, number: u64, at: usize, on_record: OnRecord<'_>) -> Result<End, DiskError> {
        let mut scanner = Scanner::new(&self.bytes, at, self.chain);
        for block in scanner.by_ref() {
            hand_out(block, on_record).map_err(|(at, reason)| DiskError::Record {
                file: segment::path(self.dir, number),
                at: at as u64,
                reason,
            })?;
            self.last = Some((number, block.at as u64, block.end() - block.at));
        }
        self.chain = scanner.reached().1;
        Ok(scanner.end())
    }

    fn path(&self, number: u64) -> PathBuf {
        segment::path(self.dir, number)
    }

    fn damaged(&self, number: u64, at: usize, what: String) -> DiskError {
        DiskError::Damaged { file: self.path(number), at: at as u64, what }
    }
}

fn what_is_hurt(at: usize, next_valid_at: usize) -> String {
    if at == next_valid_at {
        "the block there is whole but does not follow the one before \
         (a write was lost, repeated or misdirected)"
            .into()
    } else {
        format!("no valid block, though one follows at byte {next_valid_at}")
    }
}

fn hand_out(block: Block<'_>, on_record: OnRecord<'_>) -> Result<(), (usize, String)> {
    let mut at = block.body_at();
    for line in block.body.split_inclusive(|byte| *byte == b'\n') {
        on_record(&line[..line.len() - 1]).map_err(|reason| (at, reason))?;
        at += line.len();
    }
    Ok(())
}
