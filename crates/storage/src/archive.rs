//! History files: old chosen values, kept for ever.
//!
//! ```text
//! # 5a0e3f11 8c28b28a 00000075 0000000000000001
//! ## upaxos history 2 values 1 to 3 incarnation 1f3a5c7e9b2d4f60
//! # 62a1b8c0 58e2d661 00000042 0000000000000001
//! value 1 @tag 7 1 1 one
//! value 2 two
//! void 3 1 @tag 7 1 1 one
//! 0000000000000001 000000000121
//! # index 000000000228 00000001 8f21c3aa
//! ```
//!
//! This module owns the form of such a file: blocks of lines, each block with a checksum; an index, which holds the
//! first instance and the offset of each block; and a last line of fixed length, which holds the offset of the
//! index. A lookup therefore reads the end, the index and one block, however long the history is. A file gets its
//! name, which states its content, when it is whole and durable. It never changes after that.

use std::io;

use upaxos_core::past::Past;
use upaxos_core::record::block::{self, Chain, NO_VALUES, Scanner};
use upaxos_core::types::Instance;

use super::StoreError;
use super::files::{Files, cannot_in};
use super::segment;

/// The maximum length of the lines of a block, in bytes. A longer line gets a block of its own.
const BLOCK_BYTES: usize = 16 * 1024;
const ENTRY_BYTES: usize = 30;
const END_BYTES: usize = 39;

/// The instances in one history file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub first: Instance,
    pub last: Instance,
}

impl Range {
    pub(super) fn name(&self) -> String {
        format!("{:016}-{:016}.values", self.first.0, self.last.0)
    }

    pub(super) fn draft_name(&self) -> String {
        self.name() + segment::DRAFT
    }

    pub(super) fn parse(name: &str) -> Option<Range> {
        let (first, last) = name.strip_suffix(".values")?.split_once('-')?;
        let number = |text: &str| text.parse().ok().map(Instance);
        let range = Range { first: number(first)?, last: number(last)? };
        (range.name() == name && range.first <= range.last).then_some(range)
    }

    fn head(&self, incarnation: u64) -> Vec<u8> {
        let Range { first, last } = self;
        let line = format!("## upaxos history 2 values {first} to {last} incarnation {incarnation:016x}\n");
        let mut out = Vec::new();
        block::seal(&mut Chain::new(0), line.as_bytes(), NO_VALUES, &mut out);
        out
    }
}

/// The existing history files, in order, from instance 1 on.
pub(super) fn list<F: Files>(files: &F) -> Result<Vec<Range>, StoreError> {
    let (ranges, gap) = list_to_gap(files)?;
    gap.map_or(Ok(ranges), Err)
}

/// The history files up to a gap, and the error for the missing file.
pub(super) fn list_to_gap<F: Files>(files: &F) -> Result<(Vec<Range>, Option<StoreError>), StoreError> {
    let mut ranges: Vec<Range> = files.list()?.iter().filter_map(|name| Range::parse(name)).collect();
    ranges.sort_by_key(|range| range.first);
    let mut next = Instance(1);
    for (at, range) in ranges.iter().enumerate() {
        if range.first != next {
            let (name, what) = match Instance(range.first.0 - 1) {
                last if last < next => (
                    range.name(),
                    format!("it begins at or before instance {}, where another one ends", next.0 - 1),
                ),
                last => {
                    let missing = Range { first: next, last };
                    (missing.name(), format!("it is missing, though there is {}", range.name()))
                }
            };
            let gap = StoreError::Damaged { file: files.place(&name), at: 0, what };
            ranges.truncate(at);
            return Ok((ranges, Some(gap)));
        }
        next = range.last.next();
    }
    Ok((ranges, None))
}

/// Prints a history file in memory, one piece at a time.
#[derive(Debug)]
pub(super) struct Printer {
    incarnation: u64,
    range: Range,
    at: usize,
    written: u64,
    index: Vec<u8>,
}

impl Printer {
    pub(super) fn new(incarnation: u64, range: Range) -> Printer {
        Printer { incarnation, range, at: 0, written: 0, index: Vec::new() }
    }

    /// The next piece, of about `bytes` bytes; `None` after the last piece, which is the index.
    pub(super) fn next(&mut self, values: &[Past], bytes: usize) -> Option<Vec<u8>> {
        let mut piece = Vec::new();
        if self.written == 0 {
            piece = self.range.head(self.incarnation);
        } else if self.at > values.len() {
            return None;
        }
        while self.at < values.len() && piece.len() < bytes {
            let mut body = Vec::new();
            let offset = self.written + piece.len() as u64;
            self.index.extend(format!("{:016} {offset:012}\n", values[self.at].instance.0).as_bytes());
            while self.at < values.len() && body.len() < BLOCK_BYTES {
                values[self.at].print(&mut body);
                self.at += 1;
            }
            block::seal(&mut Chain::new(self.incarnation), &body, NO_VALUES, &mut piece);
        }
        if self.at == values.len() {
            let offset = self.written + piece.len() as u64;
            let count = self.index.len() / ENTRY_BYTES;
            piece.extend_from_slice(&self.index);
            piece.extend(end_line(offset, count as u64, &self.index).as_bytes());
            self.at += 1;
        }
        self.written += piece.len() as u64;
        Some(piece)
    }
}

fn end_line(offset: u64, count: u64, index: &[u8]) -> String {
    let text = format!("# index {offset:012} {count:08} ");
    let checksum = crc32c::crc32c_append(crc32c::crc32c(text.as_bytes()), index);
    format!("{text}{checksum:08x}\n")
}

/// A history file, open for reading.
pub(super) struct Reader<'a, F: Files> {
    files: &'a F,
    file: F::File,
    range: Range,
    incarnation: u64,
    /// The first instance and the offset of each block; as the last element, the end of the last block.
    index: Vec<(Instance, u64)>,
}

impl<'a, F: Files> Reader<'a, F> {
    /// Opens the file and reads its index.
    pub(super) fn open(files: &'a F, range: Range, incarnation: u64) -> Result<Self, StoreError> {
        let name = range.name();
        let file = files.open(&name).map_err(cannot_in(files, "open", &name))?;
        let mut reader = Reader { files, file, range, incarnation, index: Vec::new() };
        let length = files.length(&reader.file).map_err(cannot_in(files, "measure", &name))?;
        let end_at = length.saturating_sub(END_BYTES as u64);
        let end = reader.bytes(end_at, length - end_at)?;
        let (offset, count) = parse_end(&end)
            .filter(|(offset, count)| offset + count * ENTRY_BYTES as u64 == end_at)
            .ok_or_else(|| reader.damaged(end_at, "its last line is missing or damaged"))?;
        let index = reader.bytes(offset, end_at - offset)?;
        if end_line(offset, count, &index).as_bytes() != end {
            return Err(reader.damaged(offset, "the checksum of its index is wrong"));
        }
        let head = range.head(incarnation);
        if reader.bytes(0, (head.len() as u64).min(length))? != head {
            return Err(reader.damaged(0, "its head is damaged, or another directory's"));
        }
        let entries = index.chunks(ENTRY_BYTES).map(parse_entry).collect::<Option<Vec<_>>>();
        reader.index = entries.ok_or_else(|| reader.damaged(offset, "its index cannot be read"))?;
        reader.index.push((range.last.next(), offset));
        Ok(reader)
    }

    /// The number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.index.len() - 1
    }

    /// The number of the block that holds `instance`.
    pub(super) fn block_of(&self, instance: Instance) -> usize {
        self.index.partition_point(|(first, _)| *first <= instance).saturating_sub(1)
    }

    /// Reads the content of block number `at`.
    pub(super) fn block(&self, at: usize) -> Result<Vec<Past>, StoreError> {
        let ((first, offset), (next, end)) = (self.index[at], self.index[at + 1]);
        let bytes = self.bytes(offset, end.saturating_sub(offset))?;
        let corrupt = || self.damaged(offset, "the block there is damaged");
        let block =
            Scanner::new(&bytes, 0, Chain::new(self.incarnation), NO_VALUES).next().ok_or_else(corrupt)?;
        let lines = block.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let found = lines.map(Past::parse).collect::<Option<Vec<_>>>().ok_or_else(corrupt)?;
        let is_in_order = found.iter().map(|past| past.instance).eq((first.0..next.0).map(Instance));
        if is_in_order { Ok(found) } else { Err(corrupt()) }
    }

    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; length as usize];
        let read = self.files.read_at(&self.file, &mut bytes, at);
        read.map_err(cannot_in(self.files, "read", &self.range.name()))?;
        Ok(bytes)
    }

    fn damaged(&self, at: u64, what: &str) -> StoreError {
        StoreError::Damaged { file: self.files.place(&self.range.name()), at, what: what.into() }
    }
}

fn parse_end(line: &[u8]) -> Option<(u64, u64)> {
    let text = str::from_utf8(line).ok()?.strip_prefix("# index ")?;
    let mut fields = text.split(' ');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_entry(line: &[u8]) -> Option<(Instance, u64)> {
    let (first, offset) = str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
    Some((Instance(first.parse().ok()?), offset.parse().ok()?))
}

/// Reads the values of `first` to `last`, in order. It stops after about `bytes` bytes of values, or at the end of
/// the history.
pub(super) fn values<F: Files>(
    files: &F,
    (ranges, incarnation): (&[Range], u64),
    (first, last): (Instance, Instance),
    bytes: usize,
) -> Result<Vec<Past>, StoreError> {
    let mut found: Vec<Past> = Vec::new();
    let (mut next, mut length) = (first, 0);
    let start = ranges.partition_point(|range| range.last < first);
    for range in ranges[start..].iter().take_while(|range| range.first <= last) {
        let reader = Reader::open(files, *range, incarnation)?;
        for at in reader.block_of(next)..reader.blocks() {
            let block = reader.block(at)?;
            for past in block.into_iter().filter(|past| past.instance >= next && past.instance <= last) {
                if length >= bytes {
                    return Ok(found);
                }
                length += past.value.as_bytes().len() + 16;
                found.push(past);
            }
            next = found.last().map_or(next, |past| past.instance.next());
            if next > last {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Adds act and object to a failure to write a history file.
pub(super) fn cannot_write<F: Files>(
    files: &F,
    act: &str,
    range: Range,
) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| cannot_in(files, act, &range.draft_name())(cause)
}
