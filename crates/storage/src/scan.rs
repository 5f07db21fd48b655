//! Reads a log from its first segment on, and finds its end. It changes nothing.
//!
//! This module owns the rule which segments must exist: they have no gaps and, unless the first is number 1, begin
//! with a whole checkpoint. The checkpoints of later segments repeat earlier records: they are checked and skipped.
//! A checkpoint at the end of the log that is not whole was being written when the node crashed. The log then ends
//! before it, in the previous segment.

use std::collections::BTreeMap;

use upaxos_core::mutant::{self, Mutant};
use upaxos_core::record::block::{Block, Chain, End, Scanner};
use upaxos_core::record::{self, Record};
use upaxos_core::types::Instance;

use super::files::{Files, cannot_in};
use super::segment::{self, Head};
use super::{Found, OnRecord, StoreError};

/// The longest segment that is read, in bytes: recovery holds one segment in memory.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// The end of the log.
#[derive(Debug)]
pub(super) struct Tail {
    /// The last segment in use.
    pub number: u64,
    /// The chain that the next block must cite.
    pub chain: Chain,
    /// The end of the blocks in that segment, in bytes.
    pub at: u64,
    /// The number of bytes of a torn block behind it.
    pub torn_bytes: u64,
    /// The last block: its segment, its offset, its length.
    pub last: Option<(u64, u64, usize)>,
    /// The learned prefix of each segment's checkpoint.
    pub bases: BTreeMap<u64, Instance>,
    /// The segment behind, if its checkpoint is not whole.
    pub unfinished: Option<u64>,
    /// The blocks that are corrupt inside values, one sentence each.
    pub corrupt: Vec<String>,
}

struct Walk<'a, F: Files> {
    files: &'a F,
    incarnation: u64,
    /// The segments, opened before any is read, because a running node may remove the first ones.
    open: Vec<(u64, F::File)>,
    bytes: Vec<u8>,
    chain: Chain,
    last: Option<(u64, u64, usize)>,
    bases: BTreeMap<u64, Instance>,
    corrupt: Vec<String>,
    /// Whether to read the valid parts of a damaged log. Its errors come after them.
    is_reader: bool,
    /// The error for the segment read last, if the file is shorter than it was created.
    cut: Option<StoreError>,
}

/// The progress of reading the checkpoint at the beginning of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checkpoint {
    Expected,
    Inside,
    Whole,
}

/// Passes every record of the log to `on_record`, in order.
///
/// Another process may write meanwhile. The segments in use are determined before anything is read, so every
/// segment before the last one in use is finished, and must end cleanly.
pub(super) fn walk<F: Files>(
    files: &F,
    incarnation: u64,
    on_record: OnRecord<'_>,
) -> Result<Tail, StoreError> {
    walk_as(false, files, incarnation, on_record)
}

/// Does the same for a reader: it also reads a damaged log, up to the damage.
pub(super) fn walk_what_there_is<F: Files>(
    files: &F,
    incarnation: u64,
    on_record: OnRecord<'_>,
) -> Result<Tail, StoreError> {
    walk_as(true, files, incarnation, on_record)
}

fn walk_as<F: Files>(
    is_reader: bool,
    files: &F,
    incarnation: u64,
    on_record: OnRecord<'_>,
) -> Result<Tail, StoreError> {
    let (chain, bases) = (Chain::new(incarnation), BTreeMap::new());
    let (open, bytes) = (open_all(files)?, Vec::new());
    let mut walk = Walk {
        files,
        incarnation,
        open,
        bytes,
        chain,
        last: None,
        bases,
        corrupt: vec![],
        is_reader,
        cut: None,
    };
    let used = walk.used();
    let range = match &used {
        Err(_) if is_reader => walk.without_gap(),
        _ => None,
    };
    let (first, tail) = match (used, range) {
        (Err(damage), Some(range)) => return Err(walk.all(range, on_record).err().unwrap_or(damage)),
        (used, _) => walk.all(used?, on_record)?,
    };
    if first > 1 && tail.bases.values().all(|base| base.0 == 0) {
        // Only a checkpoint with a learned prefix makes the segments before it redundant. That is the checkpoint of
        // the first remaining segment or, where a power cut interrupted the removal of segments, of a later one.
        let what = format!("the segment is missing, though there is {}", segment::name(first));
        return Err(damaged(files, first - 1, 0, what));
    }
    Ok(tail)
}

const NO_CHECKPOINT: &str = "no whole checkpoint, which every segment after the first begins with";

/// Opens every segment. A segment that a running node removes meanwhile is not needed.
fn open_all<F: Files>(files: &F) -> Result<Vec<(u64, F::File)>, StoreError> {
    loop {
        let numbers = segment::numbers(files)?;
        let opened = numbers.iter().map(|number| Ok((*number, files.open(&segment::name(*number))?)));
        match opened.collect::<std::io::Result<Vec<_>>>() {
            Ok(opened) => return Ok(opened),
            Err(_) if segment::numbers(files)? != numbers => {}
            Err(cause) => return Err(cannot_in(files, "open the segments of", "")(cause).into()),
        }
    }
}

impl<F: Files> Walk<'_, F> {
    /// Reads these segments. Returns the number of the log's first segment and the tail.
    fn all(
        mut self,
        (first, last_used): (u64, u64),
        on_record: OnRecord<'_>,
    ) -> Result<(u64, Tail), StoreError> {
        if first > 1 {
            let at = self.load(first)?;
            let cited = Chain::cited_by(&self.bytes[at..], record::value_at);
            self.chain = cited.ok_or_else(|| self.damaged(first, at, NO_CHECKPOINT.into()))?;
        }
        let mut before = None;
        for number in first..=last_used {
            let kept = (self.chain, self.last);
            let read = self.segment(number, first, on_record);
            if let Some(cut) = self.cut.take() {
                return Err(cut);
            }
            let (end, is_whole) = read?;
            if !is_whole && number == last_used {
                // The previous segment still exists, and this node has sent nothing since.
                let Some((number_before, at)) = before else {
                    return Err(self.damaged(number, end.at(), NO_CHECKPOINT.into()));
                };
                (self.chain, self.last) = kept;
                self.bases.remove(&number);
                return Ok((first, self.tail(number_before, at, 0, Some(number))));
            }
            if !is_whole {
                return Err(self.damaged(number, end.at(), NO_CHECKPOINT.into()));
            }
            match end {
                End::Torn { at, bytes } if number == last_used => {
                    return Ok((first, self.tail(number, at as u64, bytes as u64, None)));
                }
                End::Torn { at, bytes } if mutant::is(Mutant::CutAnyDamage) => {
                    return Ok((first, self.tail(number, at as u64, bytes as u64, Some(number + 1))));
                }
                End::Torn { at, .. } => {
                    // The next segment is begun only when the last block of this one is durable.
                    let what = "no valid block, though a later segment is in use";
                    return Err(self.damaged(number, at, what.into()));
                }
                end => before = Some((number, end.at() as u64)),
            }
        }
        let (number, at) = before.expect("the first segment has been walked");
        Ok((first, self.tail(number, at, 0, None)))
    }

    /// The segments from the first one up to the first gap.
    fn without_gap(&self) -> Option<(u64, u64)> {
        let (first, _) = self.open.first()?;
        let without_gap = (*first..).zip(&self.open).take_while(|(number, (found, _))| number == found);
        Some((*first, without_gap.last()?.0))
    }

    fn tail(self, number: u64, at: u64, torn_bytes: u64, unfinished: Option<u64>) -> Tail {
        let Walk { chain, last, bases, corrupt, .. } = self;
        Tail { number, chain, at, torn_bytes, last, bases, unfinished, corrupt }
    }

    /// The first segment, and the last one that is not empty (garbage counts, too); the first one twice if all are
    /// empty.
    fn used(&mut self) -> Result<(u64, u64), StoreError> {
        let numbers: Vec<u64> = self.open.iter().map(|(number, _)| *number).collect();
        let Some(first) = numbers.first().copied() else {
            let what = "the segment is missing, though the directory has an identity";
            return Err(self.damaged(1, 0, what.into()));
        };
        for (number, found) in (first..).zip(&numbers) {
            if number != *found {
                let what = format!("the segment is missing, though there is {found:08}.log");
                return Err(self.damaged(number, 0, what));
            }
        }
        for number in numbers.into_iter().rev() {
            let at = self.load(number)?;
            // If that segment is short, the error follows when it is read in its turn.
            self.cut = None;
            if self.bytes[at..].iter().any(|byte| *byte != 0) {
                return Ok((first, number));
            }
        }
        Ok((first, first))
    }

    /// Reads a segment. Returns the offset of its first block.
    fn load(&mut self, number: u64) -> Result<usize, StoreError> {
        let name = segment::name(number);
        let file = self.open.iter().find(|(found, _)| *found == number);
        let (_, file) = file.expect("all segments that there are were opened");
        let length = self.files.length(file).map_err(cannot_in(self.files, "measure", &name))?;
        if length > MAX_SEGMENT_BYTES {
            let what = format!("it is longer than any segment ({MAX_SEGMENT_BYTES} bytes)");
            return Err(self.damaged(number, 0, what));
        }
        self.bytes.resize(length as usize, 0);
        let read = self.files.read_at(file, &mut self.bytes, 0);
        read.map_err(cannot_in(self.files, "read", &name))?;
        let parsed = Head::parse(&self.bytes);
        let (head, at) =
            parsed.ok_or_else(|| self.damaged(number, 0, "its head is missing or damaged".into()))?;
        self.check(number, &head, length)?;
        Ok(at)
    }

    fn check(&mut self, number: u64, head: &Head, length: u64) -> Result<(), StoreError> {
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
        if length < head.bytes {
            // The file was whole before it had its name, so no crash causes this. Blocks may be lost with the rest.
            let what = format!("the file ends here, and was made with {} bytes", head.bytes);
            let cut = self.damaged(number, length as usize, what);
            if !self.is_reader {
                return Err(cut);
            }
            self.cut = Some(cut);
        }
        Ok(())
    }

    /// Reads one segment. Returns its end, and whether its checkpoint is whole.
    fn segment(
        &mut self,
        number: u64,
        first: u64,
        on_record: OnRecord<'_>,
    ) -> Result<(End, bool), StoreError> {
        let mut at = self.load(number)?;
        let mut state = if number == 1 { Checkpoint::Whole } else { Checkpoint::Expected };
        let mut seen_hurt = None;
        loop {
            let end = self.blocks(number, at, (number == first, &mut state), on_record)?;
            let End::Damaged { at: corrupt, next_valid_at } = end else {
                return Ok((end, state == Checkpoint::Whole));
            };
            let is_last = next_valid_at.is_none();
            if mutant::is(Mutant::CutAnyDamage) || is_last && mutant::is(Mutant::CutLastBlock) {
                return Ok((End::Torn { at: corrupt, bytes: self.bytes.len() - corrupt }, true));
            }
            if seen_hurt == Some(corrupt) {
                if state != Checkpoint::Whole && is_last {
                    // Treat it as cut short: the segment before holds everything that this one does.
                    return Ok((End::Torn { at: corrupt, bytes: self.bytes.len() - corrupt }, false));
                }
                let had = match state {
                    Checkpoint::Whole => self.hurt_block(number, corrupt, on_record)?,
                    Checkpoint::Expected | Checkpoint::Inside => None,
                };
                at =
                    had.ok_or_else(|| self.damaged(number, corrupt, what_is_hurt(corrupt, next_valid_at)))?;
                continue;
            }
            // A running node may have written blocks between two parts of one read: read again.
            (seen_hurt, at) = (Some(corrupt), corrupt);
            self.load(number)?;
        }
    }

    /// Passes on the blocks from `at` on.
    fn blocks(
        &mut self,
        number: u64,
        at: usize,
        (is_first, state): (bool, &mut Checkpoint),
        on_record: OnRecord<'_>,
    ) -> Result<End, StoreError> {
        let mut scanner = Scanner::new(&self.bytes, at, self.chain, record::value_at);
        while let Some(block) = scanner.next() {
            let sequence = scanner.reached().1.sequence();
            let take = |line: &[u8]| {
                let is_redundant = !is_first && *state != Checkpoint::Whole;
                if *state != Checkpoint::Whole {
                    self.bases.extend(step(state, number, line)?.map(|base| (number, base)));
                }
                if is_redundant { Ok(()) } else { on_record(Found { line, sequence, is_corrupt: false }) }
            };
            hand_out(block, take).map_err(|(at, reason)| StoreError::Record {
                file: self.files.place(&segment::name(number)),
                at: at as u64,
                reason,
            })?;
            self.last = Some((number, block.at as u64, block.end() - block.at));
        }
        self.chain = scanner.reached().1;
        Ok(scanner.end())
    }

    /// Passes on the block at `at`, if it is corrupt inside values only, and returns its end. Blocks of a
    /// checkpoint are never passed here: no peer knows their content.
    fn hurt_block(
        &mut self,
        number: u64,
        at: usize,
        on_record: OnRecord<'_>,
    ) -> Result<Option<usize>, StoreError> {
        let mut scanner = Scanner::new(&self.bytes, at, self.chain, record::value_at);
        let Some(block) = scanner.skip_hurt() else { return Ok(None) };
        let (end, chain) = scanner.reached();
        let sequence = chain.sequence();
        let mut lost = Vec::new();
        let take = |line: &[u8]| {
            let value_at = record::value_at(line);
            if value_at < line.len() {
                lost.push(String::from_utf8_lossy(&line[..value_at - 1]).into_owned());
            }
            on_record(Found { line, sequence, is_corrupt: true })
        };
        hand_out(block, take).map_err(|(at, reason)| self.damaged(number, at, reason))?;
        self.corrupt.push(format!(
            "{}: the block at byte {at} is damaged inside values; the values of {} are lost, and are fetched \
             again from the peers",
            self.files.place(&segment::name(number)).display(),
            lost.join(", ")
        ));
        self.last = Some((number, at as u64, end - at));
        self.chain = chain;
        Ok(Some(end))
    }

    fn damaged(&self, number: u64, at: usize, what: String) -> StoreError {
        damaged(self.files, number, at, what)
    }
}

fn damaged<F: Files>(files: &F, number: u64, at: usize, what: String) -> StoreError {
    StoreError::Damaged { file: files.place(&segment::name(number)), at: at as u64, what }
}

/// Checks one line of a checkpoint. The first line states the learned prefix.
fn step(state: &mut Checkpoint, number: u64, line: &[u8]) -> Result<Option<Instance>, String> {
    let is_expected = *state == Checkpoint::Expected;
    if !is_expected && line != b"checkpoint-end" {
        return Ok(None);
    }
    *state = if is_expected { Checkpoint::Inside } else { Checkpoint::Whole };
    match Record::parse(line) {
        Ok(Record::Checkpoint { segment, learned }) if is_expected && segment == number => Ok(Some(learned)),
        Ok(Record::CheckpointEnd) if !is_expected => Ok(None),
        _ => Err(format!("expected a checkpoint of segment {number}")),
    }
}

fn what_is_hurt(at: usize, next_valid_at: Option<usize>) -> String {
    match next_valid_at {
        Some(next) if next == at => "the block there is whole but does not follow the one before \
             (a write was lost, repeated or misdirected)"
            .into(),
        Some(next) => format!("no valid block, though one follows at byte {next}"),
        None => "the last block is damaged: no part of it is missing, so it is no write that a crash cut short, and \
             this node may have sent votes that only it holds"
            .into(),
    }
}

fn hand_out(
    block: Block<'_>,
    mut on_line: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), (usize, String)> {
    let mut at = block.body_at();
    for line in block.body.split_inclusive(|byte| *byte == b'\n') {
        on_line(&line[..line.len() - 1]).map_err(|reason| (at, reason))?;
        at += line.len();
    }
    Ok(())
}
