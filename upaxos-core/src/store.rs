//! The durable side of a node: a log that is written on, and a history that never ends.
//!
//! ```text
//! 00000007.log                                segments: a head, a checkpoint, blocks of records, zeros
//! 00000008.log
//! 0000000000000001-0000000000081200.values    history files: what was chosen, and where to find it
//! 0000000000081201-0000000000162044.values
//! ```
//!
//! Owns the order in which things become durable. The daemon runs it on a directory, the simulator on a
//! model of one ([`Files`]), so that what the one proves holds for the other. It knows blocks and lines,
//! and of the records only those that begin and end a checkpoint; what the others mean, [`Source`] knows.
//!
//! One commit is one block, one write and one sync. When it has filled a segment, the next one begins with
//! a checkpoint: all that the node has to remember at that moment, except old values. Those go to a history
//! file, a [`Task`] beside the commits; when that is durable, the segments before the checkpoint are
//! removed. So neither start-up nor memory grows with the history, and an old value is found by a few reads.
//!
//! It never forgives: after one failed write or sync it is of no use, since nobody knows what the device
//! holds; the node ends, and the next start finds out.

mod error;
pub mod files;
mod history;
mod read;
mod recovery;
pub mod segment;
mod task;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::mem;

pub use error::StoreError;
pub use files::Files;
pub use history::Past;
pub use read::{Contents, read};
pub use task::Task;

use crate::record::block::{self, Chain, HEADER_BYTES};
use crate::record::{self, Record};
use crate::types::Instance;
use crate::wire::ParseError;
use history::Range;
use segment::{Head, MAX_HEAD_BYTES, Segment};
use task::{Compaction, Kind};

/// The shortest segment that can be asked for.
pub const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

/// The longest segment that can be asked for. One with a long checkpoint may become longer.
pub const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// How many segments there may be before a commit that needs another waits for a compaction under way.
const MAX_LAG: usize = 6;

/// A record, as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The record, without its newline.
    pub line: &'a [u8],
    /// The number of its block, counted over the whole log.
    pub sequence: u64,
    /// Whether the values of its block are hurt: of its own, if it has one, nothing can be said.
    pub is_hurt: bool,
}

impl Found<'_> {
    /// What the line says; of a hurt value, that it is lost.
    ///
    /// # Errors
    /// What is not of the grammar: another version's log.
    pub fn record(&self) -> Result<Record, ParseError> {
        if self.is_hurt { Record::parse_hurt(self.line) } else { Record::parse(self.line) }
    }
}

/// Takes one record; or says why it means nothing.
pub type OnRecord<'a> = &'a mut dyn FnMut(Found<'_>) -> Result<(), String>;

/// What checkpoints and history are made from: the node.
pub trait Source {
    /// How far it has learned, and the records that rebuild all that it has to remember, values up to there
    /// excepted: what the log says, no more and no less. Who says 0 keeps its log whole.
    fn checkpoint(&self) -> (Instance, Vec<Record>);

    /// How far it has learned; less than a checkpoint of an earlier life says, when a value was lost since.
    fn learned(&self) -> Instance;

    /// What stands in `first` to `last`, which it has learned and not been told to forget.
    fn past(&self, first: Instance, last: Instance) -> Vec<Past>;
}

/// How the log is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The length of segments made from now on, [`MIN_SEGMENT_BYTES`] to [`MAX_SEGMENT_BYTES`]; 8 MiB by
    /// default.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 8 * 1024 * 1024 }
    }
}

impl Options {
    /// # Errors
    /// When no log can be made with them.
    pub fn check(&self) -> Result<(), StoreError> {
        let (bytes, min, max) = (self.segment_bytes, MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
        if (min..=max).contains(&bytes) { Ok(()) } else { Err(StoreError::SegmentBytes { bytes, min, max }) }
    }
}

/// The next segment.
#[derive(Debug)]
enum Next<F: Files> {
    Unmade,
    Making,
    Made(Segment<F>),
}

/// A log with its history, open for writing. There is one per directory at any time.
#[derive(Debug)]
pub struct Store<F: Files> {
    files: F,
    incarnation: u64,
    options: Options,
    chain: Chain,
    segment: Segment<F>,
    next: Next<F>,
    /// The remaining segments that begin with a checkpoint, and how far each had learned.
    bases: BTreeMap<u64, Instance>,
    /// The first remaining segment.
    first: u64,
    history: Vec<Range>,
    compacting: bool,
    batch: Vec<u8>,
    block: Vec<u8>,
    failure: Option<String>,
}

/// What opening a store found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened<F: Files> {
    /// The store, ready for the next record.
    pub store: Store<F>,
    /// What the owner should know, a sentence each, as a tail that was cut.
    pub warnings: Vec<String>,
}

/// Whether a store makes files of this name. It touches and judges no others, however similar their names are.
pub fn is_own(name: &str) -> bool {
    is_name(name.strip_suffix(segment::DRAFT).unwrap_or(name))
}

/// The same, of a finished file.
fn is_name(name: &str) -> bool {
    segment::number(name).is_some() || Range::parse(name).is_some()
}

/// Makes an empty log: its first segment.
///
/// # Errors
/// When the file system refuses.
pub fn create<F: Files>(files: &F, incarnation: u64, options: &Options) -> io::Result<()> {
    Segment::create(files, &Head { number: 1, bytes: options.segment_bytes, incarnation }).map(drop)
}

impl<F: Files> Store<F> {
    /// Opens a log, and hands every record of it to `on_record`.
    ///
    /// A tail that a crash tore is cut; a block that is hurt inside values only is handed out without them
    /// ([`Found::is_hurt`]). The warnings say so.
    ///
    /// # Errors
    /// When something else that was synced is hurt or gone ([`StoreError::Damaged`]), when `on_record` refuses
    /// a record, or when the file system does.
    pub fn open(
        files: F,
        incarnation: u64,
        options: &Options,
        on_record: OnRecord<'_>,
    ) -> Result<Opened<F>, StoreError> {
        options.check()?;
        segment::remove_drafts(&files)?;
        let tail = walk::walk(&files, incarnation, on_record)?;
        let history = history::list(&files)?;
        let first = segment::numbers(&files)?.first().copied().unwrap_or(1);
        if let Some(base) = tail.bases.get(&first).filter(|base| **base > end_of(&history)) {
            return Err(read::history_ends(&files, &history, *base));
        }
        let mut warnings = tail.hurt.clone();
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

    /// How far the history files go: what is up to there need not be held in memory.
    pub fn compacted(&self) -> Instance {
        end_of(&self.history)
    }

    /// The number of the segment in use.
    pub fn segment(&self) -> u64 {
        self.segment.number()
    }

    /// How many blocks the log has had.
    pub fn sequence(&self) -> u64 {
        self.chain.sequence()
    }

    /// Adds to the batch the record that `write` puts at the end of the buffer it is given. Nothing is
    /// written before [`Store::commit`].
    ///
    /// # Panics
    /// When that contains a newline or a zero byte, or begins with `#`: no record does.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.batch.len();
        write(&mut self.batch);
        let line = &self.batch[start..];
        assert!(memchr::memchr2(b'\n', 0, line).is_none(), "a record is one line, without zero bytes");
        assert!(!line.starts_with(b"#"), "# is for headers");
        self.batch.push(b'\n');
    }

    /// Whether a commit has to wait for a task under way to be finished, so that the log does not outgrow
    /// what is done beside it.
    pub fn is_blocked(&self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let lags = (self.segment.number() - self.first) as usize >= MAX_LAG;
        let is_making = matches!(self.next, Next::Making);
        self.segment.is_nearly_full() && (self.compacting && lags || is_making && self.segment.is_overlong())
    }

    /// Makes the batch durable: one write, one sync. When that has filled the segment, begins a new one with
    /// a checkpoint of `source`. Does nothing when there is no batch.
    ///
    /// # Errors
    /// When a write or sync fails, and ever after: then nobody knows what is durable, the process must
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
        // Only now does the log say what the node knows, no less.
        match self.segment.is_nearly_full() && !matches!(self.next, Next::Making) {
            true => self.begin_next_segment(source),
            false => Ok(()),
        }
    }

    /// The longest body that an empty segment has room for.
    fn most(&self) -> usize {
        self.options.segment_bytes as usize - MAX_HEAD_BYTES - HEADER_BYTES
    }

    fn write(&mut self, body: &[u8]) -> io::Result<()> {
        self.block.clear();
        block::seal(&mut self.chain, body, record::value_at, &mut self.block);
        self.segment.append(&self.files, &self.block)
    }

    /// Every block of the checkpoint is durable before the next is begun, as everywhere in the log.
    fn begin_next_segment(&mut self, source: &dyn Source) -> io::Result<()> {
        let head = self.next_head();
        self.segment = match mem::replace(&mut self.next, Next::Unmade) {
            Next::Made(segment) => segment,
            Next::Unmade => Segment::open_or_create(&self.files, &head)?,
            Next::Making => unreachable!("nobody begins a segment that is being made"),
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
        // Two blocks together are longer than that.
        let whole = text.len() + HEADER_BYTES * (2 * text.len() / most + 2);
        // Half a segment for what follows, however long the checkpoint: else there were one for every batch.
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

    /// Work to be begun now, to be given back to [`Store::finish`] when it is done. To be asked for after
    /// a commit, until there is none.
    pub fn task(&mut self, source: &dyn Source) -> Option<Task<F>> {
        if matches!(self.next, Next::Unmade) && self.segment.is_half_full() {
            self.next = Next::Making;
            return Some(Task(Kind::Prepare { head: self.next_head(), made: None }));
        }
        // What the last checkpoint knows, the segments before it need not repeat.
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

    /// Takes a task back that is done.
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

    /// A task has failed: then nothing is committed any more.
    pub fn fail(&mut self, failure: &io::Error) {
        self.failure.get_or_insert_with(|| failure.to_string());
    }

    /// Old values: of `first` to `last` those that the history holds, in order, until about `bytes`.
    ///
    /// # Errors
    /// When the history is damaged, or cannot be read: then the node must end.
    pub fn past(&self, first: Instance, last: Instance, bytes: usize) -> Result<Vec<Past>, StoreError> {
        history::values(&self.files, (&self.history, self.incarnation), (first, last), bytes)
    }
}

/// Whether a checkpoint can stand for what is before it. One that has learned nothing does not: it is that
/// of a node that keeps its log whole.
fn is_base(learned: Instance) -> bool {
    learned.0 > 0
}

fn end_of(history: &[Range]) -> Instance {
    history.last().map_or(Instance(0), |range| range.last)
}

/// How much of `text` is at most `most` bytes of whole lines; the first line, if that is longer.
fn whole_lines(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let newline = |byte: &u8| *byte == b'\n';
    let last = text[..most].iter().rposition(newline).or_else(|| text.iter().position(newline));
    last.map_or(text.len(), |at| at + 1)
}
