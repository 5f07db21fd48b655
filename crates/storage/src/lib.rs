//! The durable side of a node: a log for new records, and a history of old values that never ends.
//!
//! ```text
//! 00000007.log                                segments: a head, a checkpoint, blocks of records, zeros
//! 00000008.log
//! 0000000000000001-0000000000081200.values    history files: chosen values, with an index
//! 0000000000081201-0000000000162044.values
//! ```
//!
//! This module owns the order in which writes become durable. The daemon runs it on a directory, the simulator on a
//! model of one ([`Files`]), so that a proof by the simulator holds for the daemon. The store knows blocks and
//! lines. Of the records, it knows only those that begin and end a checkpoint; [`Source`] knows the meaning of the
//! others.
//!
//! One commit is one block, one write and one sync. When it has filled a segment, the next segment begins with a
//! checkpoint: everything that the node must remember at that moment, except old values. Old values go to a history
//! file, written by a [`Task`] beside the commits. When that file is durable, the segments before the checkpoint
//! are removed. So neither the start-up time nor the memory grows with the history, and an old value is found by a
//! few reads.
//!
//! The store never recovers from a failed write or sync: after one, the content of the device is unknown. The node
//! ends, and the next start reads what there is.
//!
//! [`disk`] is the store on a real directory: it adds the lock, the identity of the node, and the threads.

mod archive;
#[cfg(unix)]
pub mod disk;
mod error;
pub mod files;
pub mod model;
mod read;
mod recovery;
mod scan;
pub mod segment;
mod task;
#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use std::collections::BTreeMap;
use std::io;
use std::mem;

use upaxos_core::past::{Past, Source};
use upaxos_core::record::block::{self, Chain, HEADER_BYTES};
use upaxos_core::record::{self, Record};
use upaxos_core::types::Instance;
use upaxos_core::wire::ParseError;

use archive::Range;
pub use error::StoreError;
pub use files::Files;
pub use read::{Contents, read};
use segment::{Head, MAX_HEAD_BYTES, Segment};
pub use task::Task;
use task::{Compaction, Kind};

/// The minimum for [`Options::segment_bytes`].
pub const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

/// The maximum for [`Options::segment_bytes`]. A segment with a long checkpoint may become longer.
pub const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The lag of the first segment behind the current one, in segments, from which a commit that needs another segment
/// waits for a compaction under way.
const MAX_LAG: usize = 6;

/// A record found in the log.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The record, without its newline.
    pub line: &'a [u8],
    /// The number of its block, counted over the whole log.
    pub sequence: u64,
    /// Whether the values of its block are corrupt. If so, the value of this record, if it has one, counts as lost.
    pub is_corrupt: bool,
}

impl Found<'_> {
    /// Parses the line. A corrupt value yields [`Record::Lost`].
    ///
    /// # Errors
    /// When the line does not fit the grammar: another version wrote the log.
    pub fn record(&self) -> Result<Record, ParseError> {
        if self.is_corrupt { Record::parse_corrupt(self.line) } else { Record::parse(self.line) }
    }
}

/// Takes one record, or returns the reason why it means nothing.
pub type OnRecord<'a> = &'a mut dyn FnMut(Found<'_>) -> Result<(), String>;

/// The layout of the log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The length of segments created from now on, in bytes, from [`MIN_SEGMENT_BYTES`] to [`MAX_SEGMENT_BYTES`]; 8
    /// MiB by default.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 8 * 1024 * 1024 }
    }
}

impl Options {
    /// Checks the bounds of the options.
    ///
    /// # Errors
    /// When no log can be created with them.
    pub fn check(&self) -> Result<(), StoreError> {
        let (bytes, min, max) = (self.segment_bytes, MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
        if (min..=max).contains(&bytes) { Ok(()) } else { Err(StoreError::SegmentBytes { bytes, min, max }) }
    }
}

/// The state of the next segment.
#[derive(Debug)]
enum Next<F: Files> {
    Unmade,
    Making,
    Made(Segment<F>),
}

/// A log with its history, open for writing. There is at most one per directory at any time.
#[derive(Debug)]
pub struct Store<F: Files> {
    files: F,
    incarnation: u64,
    options: Options,
    chain: Chain,
    segment: Segment<F>,
    next: Next<F>,
    /// The remaining segments that begin with a checkpoint, and the learned prefix of each.
    bases: BTreeMap<u64, Instance>,
    /// The number of the first remaining segment.
    first: u64,
    history: Vec<Range>,
    compacting: bool,
    batch: Vec<u8>,
    block: Vec<u8>,
    failure: Option<String>,
}

/// The result of opening a store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened<F: Files> {
    /// The store, ready for the next record.
    pub store: Store<F>,
    /// Warnings for the owner, one sentence each, for example about a torn tail that was cut.
    pub warnings: Vec<String>,
}

/// Whether a store creates files of this name. It touches and judges no other files, however similar their names
/// are.
pub fn is_own(name: &str) -> bool {
    is_name(name.strip_suffix(segment::DRAFT).unwrap_or(name))
}

/// Whether this is the name of a finished file of a store.
fn is_name(name: &str) -> bool {
    segment::number(name).is_some() || Range::parse(name).is_some()
}

/// Creates an empty log: its first segment.
///
/// # Errors
/// When the file system refuses.
pub fn create<F: Files>(files: &F, incarnation: u64, options: &Options) -> io::Result<()> {
    Segment::create(files, &Head { number: 1, bytes: options.segment_bytes, incarnation }).map(drop)
}

impl<F: Files> Store<F> {
    /// Opens a log, and passes every record of it to `on_record`.
    ///
    /// A torn tail, left by a crash, is cut. The records of a block that is corrupt inside values only are passed
    /// without those values ([`Found::is_corrupt`]). The warnings report both.
    ///
    /// # Errors
    /// When other synced bytes are corrupt or missing ([`StoreError::Damaged`]), when `on_record` refuses a record,
    /// or when the file system fails.
    pub fn open(
        files: F,
        incarnation: u64,
        options: &Options,
        on_record: OnRecord<'_>,
    ) -> Result<Opened<F>, StoreError> {
        options.check()?;
        segment::remove_drafts(&files)?;
        let tail = scan::walk(&files, incarnation, on_record)?;
        let history = archive::list(&files)?;
        let first = segment::numbers(&files)?.first().copied().unwrap_or(1);
        if let Some(base) = tail.bases.get(&first).filter(|base| **base > end_of(&history)) {
            return Err(read::history_ends(&files, &history, *base));
        }
        let mut warnings = tail.corrupt.clone();
        let segment = recovery::mend(&files, &tail, &mut warnings)?;
        let store = Store {
            files,
            incarnation,
            options: *options,
            chain: tail.chain,
            segment,
            next: Next::Unmade,
            bases: tail.bases.into_iter().filter(|(_, base)| is_base(*base)).collect(),
            first,
            history,
            compacting: false,
            batch: Vec::new(),
            block: Vec::new(),
            failure: None,
        };
        Ok(Opened { store, warnings })
    }

    /// The last instance in the history files. The values up to it need not be held in memory.
    pub fn compacted(&self) -> Instance {
        end_of(&self.history)
    }

    /// The number of the segment in use.
    pub fn segment(&self) -> u64 {
        self.segment.number()
    }

    /// The number of blocks in the log so far.
    pub fn sequence(&self) -> u64 {
        self.chain.sequence()
    }

    /// Adds a record to the batch: `write` appends it to the buffer it is given. Nothing is written before
    /// [`Store::commit`].
    ///
    /// # Panics
    /// When the record contains a newline or a zero byte, or begins with `#`. No record does.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.batch.len();
        write(&mut self.batch);
        let line = &self.batch[start..];
        assert!(memchr::memchr2(b'\n', 0, line).is_none(), "a record is one line, without zero bytes");
        assert!(!line.starts_with(b"#"), "# is for headers");
        self.batch.push(b'\n');
    }

    /// Whether a commit must wait until a task under way is finished, so that the log does not outgrow the work
    /// beside it.
    pub fn is_blocked(&self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let lags = (self.segment.number() - self.first) as usize >= MAX_LAG;
        let is_making = matches!(self.next, Next::Making);
        self.segment.is_nearly_full() && (self.compacting && lags || is_making && self.segment.is_overlong())
    }

    /// Makes the batch durable: one write, one sync. When that has filled the segment, begins a new one with a
    /// checkpoint of `source`. Does nothing when the batch is empty.
    ///
    /// # Errors
    /// When a write or sync fails, and on every later call. It is then unknown what is durable. The process must
    /// end, and the next start reads what there is.
    pub fn commit(&mut self, source: &dyn Source) -> io::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::other(format!(
                "cannot write to {} any more, since an earlier write failed ({failure})",
                self.files.place("").display()
            )));
        }
        let mut batch = mem::take(&mut self.batch);
        let done = self.write_all(&batch, source);
        batch.clear();
        self.batch = batch;
        self.failure = done.as_ref().err().map(io::Error::to_string);
        done
    }

    fn write_all(&mut self, mut batch: &[u8], source: &dyn Source) -> io::Result<()> {
        while !batch.is_empty() {
            let (body, rest) = batch.split_at(whole_lines(batch, self.most()));
            self.segment.make_room(&self.files, HEADER_BYTES + body.len())?;
            self.write(body)?;
            batch = rest;
        }
        // Only now does the log state everything that the node knows.
        match self.segment.is_nearly_full() && !matches!(self.next, Next::Making) {
            true => self.begin_next_segment(source),
            false => Ok(()),
        }
    }

    /// The longest body that fits into an empty segment, in bytes.
    fn most(&self) -> usize {
        self.options.segment_bytes as usize - MAX_HEAD_BYTES - HEADER_BYTES
    }

    fn write(&mut self, body: &[u8]) -> io::Result<()> {
        self.block.clear();
        block::seal(&mut self.chain, body, record::value_at, &mut self.block);
        self.segment.append(&self.files, &self.block)
    }

    /// As everywhere in the log, every block of the checkpoint is durable before the next is begun.
    fn begin_next_segment(&mut self, source: &dyn Source) -> io::Result<()> {
        let head = self.next_head();
        self.segment = match mem::replace(&mut self.next, Next::Unmade) {
            Next::Made(segment) => segment,
            Next::Unmade => Segment::open_or_create(&self.files, &head)?,
            Next::Making => unreachable!("no segment begins while it is being made"),
        };
        let (learned, records) = source.checkpoint();
        let first = Record::Checkpoint { segment: head.number, learned };
        let mut text = Vec::new();
        for record in [first].iter().chain(&records).chain([&Record::CheckpointEnd]) {
            record.encode(&mut text);
            text.push(b'\n');
        }
        // Small segments have small blocks, so that a simulated checkpoint has several.
        let most = (self.options.segment_bytes as usize / 8).max(256);
        // Any two neighbouring blocks together are longer than `most`.
        let whole = text.len() + HEADER_BYTES * (2 * text.len() / most + 2);
        // Reserve half a segment for later records, however long the checkpoint is. Otherwise every batch could
        // need a checkpoint.
        self.segment.make_room(&self.files, whole + self.options.segment_bytes as usize / 2)?;
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (body, behind) = rest.split_at(whole_lines(rest, most));
            self.write(body)?;
            rest = behind;
        }
        self.bases.extend(is_base(learned).then_some((head.number, learned)));
        Ok(())
    }

    fn next_head(&self) -> Head {
        Head {
            number: self.segment.number() + 1,
            bytes: self.options.segment_bytes,
            incarnation: self.incarnation,
        }
    }

    /// Returns work to begin now, if there is any. When it is done, the caller returns it to [`Store::finish`]. The
    /// caller asks after every commit until the result is `None`.
    pub fn task(&mut self, source: &dyn Source) -> Option<Task<F>> {
        if matches!(self.next, Next::Unmade) && self.segment.is_half_full() {
            self.next = Next::Making;
            return Some(Task(Kind::Prepare { head: self.next_head(), made: None }));
        }
        // The segments before the last checkpoint are redundant.
        let learned = source.learned();
        let usable = self.bases.iter().rev().find(|(_, base)| **base <= learned);
        let (number, base) = usable.map(|(number, base)| (*number, *base))?;
        if self.compacting || (base <= self.compacted() && number <= self.first) {
            return None;
        }
        self.compacting = true;
        let range = Range { first: self.compacted().next(), last: base };
        let values =
            if range.first <= range.last { source.past(range.first, range.last) } else { Vec::new() };
        let remove = (self.first..number).collect();
        Some(Task(Kind::Compact(Compaction::new(self.incarnation, range, values, remove))))
    }

    /// Takes back a finished task.
    pub fn finish(&mut self, task: Task<F>) {
        match task.0 {
            Kind::Prepare { made, .. } => self.next = made.map_or(Next::Unmade, Next::Made),
            Kind::Compact(compaction) => {
                self.compacting = false;
                if compaction.range.first <= compaction.range.last {
                    self.history.push(compaction.range);
                }
                if let Some(last) = compaction.removed().last() {
                    self.first = last + 1;
                    self.bases = self.bases.split_off(&self.first);
                }
            }
        }
    }

    /// Records that a task has failed. Every later commit then fails.
    pub fn fail(&mut self, failure: &io::Error) {
        self.failure.get_or_insert_with(|| failure.to_string());
    }

    /// Old values: those of `first` to `last` that the history holds, in order, up to about `bytes` bytes.
    ///
    /// # Errors
    /// When the history is damaged or cannot be read. The node must end then.
    pub fn past(&self, first: Instance, last: Instance, bytes: usize) -> Result<Vec<Past>, StoreError> {
        archive::values(&self.files, (&self.history, self.incarnation), (first, last), bytes)
    }
}

/// Whether a checkpoint replaces the segments before it. A checkpoint that has learned nothing does not: its node
/// keeps its log whole.
fn is_base(learned: Instance) -> bool {
    learned.0 > 0
}

fn end_of(history: &[Range]) -> Instance {
    history.last().map_or(Instance(0), |range| range.last)
}

/// The length of the longest prefix of `text` that is whole lines and at most `most` bytes; the length of the first
/// line if that is longer.
fn whole_lines(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let newline = |byte: &u8| *byte == b'\n';
    let last = text[..most].iter().rposition(newline).or_else(|| text.iter().position(newline));
    last.map_or(text.len(), |at| at + 1)
}
