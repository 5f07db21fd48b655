//! One file of the log: a head, blocks, and zeros up to its full length.
//!
//! The zeros are written and synced before the file has its name, so that a commit overwrites in place: it never
//! allocates, never changes the file's length, and its sync has no metadata to write. The head is one block of its
//! own, with its own chain:
//!
//! ```text
//! # 00000000 5704d563 8c28b28a 00000079 0000000000000001
//! ## upaxos log 2 segment 00000001 of 8388608 bytes incarnation 1f3a5c7e9b2d4f60
//! ```

use std::io;

use upaxos_core::record::block::{self, Chain, NO_VALUES, Scanner};

use super::files::{Files, cannot_in};

/// The maximum length of a head, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 256;

/// The content of the head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of the segment, from 1. The file's name contains it too.
    pub number: u64,
    /// The length that the file was created with, in bytes.
    pub bytes: u64,
    /// The incarnation of the directory that it was created for.
    pub incarnation: u64,
}

impl Head {
    fn body(&self) -> String {
        format!(
            "## upaxos log 2 segment {:08} of {} bytes incarnation {:016x}\n",
            self.number, self.bytes, self.incarnation
        )
    }

    fn seal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_HEAD_BYTES);
        block::seal(&mut head_chain(), self.body().as_bytes(), NO_VALUES, &mut out);
        out
    }

    /// The head of a segment, and the offset of its first block.
    pub fn parse(bytes: &[u8]) -> Option<(Head, usize)> {
        let block = Scanner::new(bytes, 0, head_chain(), NO_VALUES).next()?;
        let words: Vec<&str> = str::from_utf8(block.body).ok()?.split_whitespace().collect();
        let head = Head {
            number: words.get(5)?.parse().ok()?,
            bytes: words.get(7)?.parse().ok()?,
            incarnation: u64::from_str_radix(words.get(10)?, 16).ok()?,
        };
        (head.body().as_bytes() == block.body).then_some((head, block.end()))
    }
}

/// Heads are not part of the log's chain: they are written before the end of the log is known.
fn head_chain() -> Chain {
    Chain::new(0)
}

/// A segment, open for writing blocks.
#[derive(Debug)]
pub(super) struct Segment<F: Files> {
    file: F::File,
    name: String,
    number: u64,
    /// The offset of the next block.
    at: u64,
    /// The current length, in bytes.
    bytes: u64,
    /// The length that the segment was created with, in bytes.
    made: u64,
}

impl<F: Files> Segment<F> {
    /// Creates a segment. It is whole and durable before it gets its name.
    pub(super) fn create(files: &F, head: &Head) -> io::Result<Segment<F>> {
        let (name, draft) = (name(head.number), draft_name(head.number));
        let file = files.create(&draft).map_err(cannot_in(files, "create", &draft))?;
        let sealed = head.seal();
        let (number, at, bytes) = (head.number, sealed.len() as u64, head.bytes);
        let mut segment = Segment { file, name: draft, number, at, bytes, made: bytes };
        segment.put(files, &sealed, 0)?;
        segment.zero(files, at, bytes)?;
        files.rename(&segment.name, &name).map_err(cannot_in(files, "rename", &segment.name))?;
        files.sync_dir()?;
        segment.name = name;
        Ok(segment)
    }

    /// Opens a segment to continue writing at `at`.
    pub(super) fn open(files: &F, number: u64, at: u64) -> io::Result<Segment<F>> {
        let name = name(number);
        let file = files.open(&name).map_err(cannot_in(files, "open", &name))?;
        let bytes = files.length(&file).map_err(cannot_in(files, "measure", &name))?;
        Ok(Segment { file, name, number, at, bytes, made: bytes })
    }

    /// Opens the segment after the one in use, if an earlier run prepared it, or creates it.
    pub(super) fn open_or_create(files: &F, head: &Head) -> io::Result<Segment<F>> {
        if !numbers(files)?.contains(&head.number) {
            return Segment::create(files, head);
        }
        let mut segment = Segment::open(files, head.number, 0)?;
        let mut start = vec![0; MAX_HEAD_BYTES.min(segment.bytes as usize)];
        let read = files.read_at(&segment.file, &mut start, 0);
        read.map_err(cannot_in(files, "read", &segment.name))?;
        let found = Head::parse(&start).filter(|(found, _)| found.number == head.number);
        let (_, at) = found.ok_or_else(|| {
            let cause = io::Error::new(io::ErrorKind::InvalidData, "its head is damaged");
            cannot_in(files, "go on in", &segment.name)(cause)
        })?;
        segment.at = at as u64;
        Ok(segment)
    }

    /// The number in its name.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Extends the segment if fewer than `bytes` bytes are left; then it reserves some more.
    pub(super) fn make_room(&mut self, files: &F, bytes: usize) -> io::Result<()> {
        let end = self.at + bytes as u64;
        if end <= self.bytes {
            return Ok(());
        }
        self.zero(files, self.bytes, end + self.made / 8)
    }

    /// Whether it is time to prepare the next segment.
    pub(super) fn is_half_full(&self) -> bool {
        self.at >= self.bytes / 2
    }

    /// Whether it is time to begin the next segment: the free space is small.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.at >= self.bytes - self.made / 16
    }

    /// Whether the segment has grown to twice its length while waiting for the next one.
    pub(super) fn is_overlong(&self) -> bool {
        self.bytes >= self.made * 2
    }

    /// Writes one block and makes it durable: one write, one sync.
    pub(super) fn append(&mut self, files: &F, block: &[u8]) -> io::Result<()> {
        self.put(files, block, self.at)?;
        self.sync(files)?;
        self.at += block.len() as u64;
        Ok(())
    }

    /// Writes zeros over `from..to` and makes them durable, and the file's length with them.
    pub(super) fn zero(&mut self, files: &F, from: u64, to: u64) -> io::Result<()> {
        let zeros = [0; 64 * 1024];
        for at in (from..to).step_by(zeros.len()) {
            let length = zeros.len().min((to - at) as usize);
            self.put(files, &zeros[..length], at)?;
        }
        self.bytes = self.bytes.max(to);
        self.sync(files)
    }

    /// Writes the present bytes of `at..at + length` again, and syncs them.
    pub(super) fn rewrite(&mut self, files: &F, at: u64, length: usize) -> io::Result<()> {
        let mut bytes = vec![0; length];
        let read = files.read_at(&self.file, &mut bytes, at);
        read.map_err(cannot_in(files, "read", &self.name))?;
        self.put(files, &bytes, at)?;
        self.sync(files)
    }

    fn put(&self, files: &F, bytes: &[u8], at: u64) -> io::Result<()> {
        files.write_at(&self.file, bytes, at).map_err(|cause| {
            let act = format_args!("write {} bytes at byte {at} of", bytes.len());
            cannot_in(files, act, &self.name)(cause)
        })
    }

    fn sync(&self, files: &F) -> io::Result<()> {
        let act = format_args!("sync up to byte {} of", self.at);
        files.sync_data(&self.file).map_err(|cause| cannot_in(files, act, &self.name)(cause))
    }
}

/// Removes files that an earlier run began and did not finish. They were never in use.
pub(super) fn remove_drafts<F: Files>(files: &F) -> io::Result<()> {
    let is_draft = |name: &&String| name.strip_suffix(DRAFT).is_some_and(super::is_name);
    for name in files.list()?.iter().filter(is_draft) {
        files.remove(name).map_err(cannot_in(files, "remove", name))?;
    }
    Ok(())
}

/// The numbers of the segments, in order.
pub(super) fn numbers<F: Files>(files: &F) -> io::Result<Vec<u64>> {
    let names = files.list()?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The name of the file of a segment.
pub fn name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number in a segment's name; `None` for every other name, however similar.
pub(super) fn number(text: &str) -> Option<u64> {
    let number = text.strip_suffix(".log")?.parse().ok()?;
    (name(number) == text).then_some(number)
}

/// The suffix in the names of unfinished files.
pub const DRAFT: &str = ".tmp";

fn draft_name(number: u64) -> String {
    name(number) + DRAFT
}
