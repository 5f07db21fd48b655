//! The disk of one node: a directory with its identity, its lock, and the segments of its log.
//!
//! ```text
//! upaxos-2/identity        whose log it is, and of which incarnation
//! upaxos-2/lock            held while a process has it open
//! upaxos-2/00000001.log    segments: a head, blocks of records, zeros to the full length
//! upaxos-2/00000002.log
//! ```
//!
//! The daemon appends records and commits; when `commit` returns, they are durable, and only
//! then may anything be said that they stand behind (README, "Safety"). One commit is one
//! block, one write and one sync. A batch that no segment holds is cut between two records
//! into several blocks, each synced before the next is begun: what survives of it is a prefix,
//! and only a last block can ever be torn (see [`upaxos_core::record::block`]).
//!
//! It knows blocks and lines, not what a record means. It never forgives: after one failed
//! write or sync the disk is of no use, since nobody knows what the device holds; the daemon
//! ends, and the next start finds out.

mod error;
mod identity;
mod lock;
mod prepare;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod walk;

pub use error::DiskError;
pub use identity::Identity;

use prepare::Prepared;
use segment::{Head, MAX_HEAD_BYTES, Segment};
use std::io::{self, ErrorKind};
use std::mem;
use std::path::{Path, PathBuf};
use upaxos_core::record::block::{self, Chain, HEADER_BYTES};

/// The shortest segment that can be asked for.
pub const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

/// The longest segment that can be asked for; recovery holds one in memory.
pub const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Takes one record, without its newline; or says why it means nothing.
pub type OnRecord<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), String>;

/// Whose directory it should be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The node's id.
    pub id: u16,
    /// The size of the first group.
    pub n: u16,
    /// A fresh random number, used only when the directory is made.
    pub incarnation_if_new: u64,
}

/// How the log is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The length of segments made from now on, [`MIN_SEGMENT_BYTES`] to
    /// [`MAX_SEGMENT_BYTES`]; 8 MiB by default. No record may be longer.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 8 * 1024 * 1024 }
    }
}

/// An open directory, and what was found in it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The log, ready for the next record.
    pub disk: Disk,
    /// Whose it is.
    pub identity: Identity,
    /// Whether this call made it: then the node has said nothing under this incarnation.
    pub is_new: bool,
    /// What the owner should know, a sentence each, as a tail that was cut.
    pub warnings: Vec<String>,
}

/// What [`read`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Contents {
    /// Whose log it is.
    pub identity: Identity,
    /// Where the walk stopped, if not at a clean end.
    pub note: Option<String>,
}

/// The log of one node, open for writing. There is one per directory at any time.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    incarnation: u64,
    options: Options,
    chain: Chain,
    segment: Segment,
    // Before the lock, so that it is dropped first: its thread works in the directory.
    next: Option<Prepared>,
    batch: Vec<u8>,
    block: Vec<u8>,
    failure: Option<String>,
    _lock: lock::Lock,
}

impl Disk {
    /// Opens the log in `dir`, or makes one, and hands every record in it to `on_record`.
    ///
    /// A tail that a crash tore is cut; the warnings say so.
    ///
    /// # Errors
    ///
    /// When another process has the directory, when it is another node's, when something that
    /// was synced is hurt or gone ([`DiskError::Damaged`]), when `on_record` refuses a record,
    /// or when the file system does.
    pub fn open(
        dir: &Path,
        wanted: &Wanted,
        options: &Options,
        on_record: OnRecord<'_>,
    ) -> Result<Opened, DiskError> {
        check_options(options)?;
        lock::create_dir(dir)?;
        let lock = lock::lock(dir)?;
        segment::remove_drafts(dir)?;
        let (identity, is_new) = recovery::identify(dir, wanted, options.segment_bytes)?;
        let tail = walk::walk(dir, identity.incarnation, on_record)?;
        let mut warnings = Vec::new();
        recovery::warn_of_open_doors(dir, &mut warnings)?;
        let segment = recovery::mend(dir, &tail, &mut warnings)?;
        let disk = Disk {
            dir: dir.into(),
            incarnation: identity.incarnation,
            options: *options,
            chain: tail.chain,
            segment,
            next: None,
            batch: Vec::new(),
            block: Vec::new(),
            failure: None,
            _lock: lock,
        };
        Ok(Opened { disk, identity, is_new, warnings })
    }

    /// Adds one record to the batch. Nothing is written before [`Disk::commit`].
    ///
    /// # Panics
    ///
    /// When `line` contains a newline or begins with `#`: no record does.
    pub fn append(&mut self, line: &[u8]) {
        self.append_with(|batch| batch.extend_from_slice(line));
    }

    /// Adds to the batch the record that `write` puts at the end of the buffer it is given.
    ///
    /// # Panics
    ///
    /// As [`Disk::append`].
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.batch.len();
        write(&mut self.batch);
        let line = &self.batch[start..];
        assert!(!line.contains(&b'\n'), "a record is one line");
        assert!(!line.starts_with(b"#"), "# is for headers");
        self.batch.push(b'\n');
    }

    /// Makes the batch durable: one write, one sync. Does nothing when there is no batch.
    ///
    /// # Errors
    ///
    /// When a write or sync fails, and ever after: then nobody knows what is durable, the
    /// process must end, and the next start reads what there is. A record longer than a
    /// segment fails in the same way.
    pub fn commit(&mut self) -> io::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::other(format!(
                "cannot write to {} any more, since an earlier write failed ({failure})",
                self.dir.display()
            )));
        }
        let mut batch = mem::take(&mut self.batch);
        let done = self.write_all(&batch);
        batch.clear();
        self.batch = batch;
        self.failure = done.as_ref().err().map(io::Error::to_string);
        done
    }

    fn write_all(&mut self, mut batch: &[u8]) -> io::Result<()> {
        while !batch.is_empty() {
            let (body, rest) = batch.split_at(self.body_length(batch)?);
            self.write(body)?;
            batch = rest;
        }
        Ok(())
    }

    /// As much of the batch as one segment can hold, whole records only.
    fn body_length(&self, batch: &[u8]) -> io::Result<usize> {
        let most = self.options.segment_bytes as usize - MAX_HEAD_BYTES - HEADER_BYTES;
        if batch.len() <= most {
            return Ok(batch.len());
        }
        let last_newline = batch[..most].iter().rposition(|byte| *byte == b'\n');
        last_newline.map(|at| at + 1).ok_or_else(|| {
            let text = format!(
                "cannot write a record of more than {most} bytes to {}; \
                 open the log with longer segments",
                self.dir.display()
            );
            io::Error::new(ErrorKind::InvalidInput, text)
        })
    }

    fn write(&mut self, body: &[u8]) -> io::Result<()> {
        self.block.clear();
        block::seal(&mut self.chain, body, &mut self.block);
        while !self.segment.has_room_for(self.block.len()) {
            self.begin_next_segment()?;
        }
        self.segment.append(&self.block)?;
        if self.next.is_none() && self.segment.is_half_full() {
            self.next = Some(Prepared::begin(&self.dir, self.next_head())?);
        }
        Ok(())
    }

    fn begin_next_segment(&mut self) -> io::Result<()> {
        self.segment = match self.next.take() {
            Some(prepared) => prepared.finish()?,
            None => Segment::open_or_create(&self.dir, &self.next_head())?,
        };
        Ok(())
    }

    fn next_head(&self) -> Head {
        Head {
            number: self.segment.number() + 1,
            bytes: self.options.segment_bytes,
            incarnation: self.incarnation,
        }
    }
}

/// Whose log is in `dir`.
///
/// # Errors
///
/// When there is none, or its identity is hurt.
pub fn identity(dir: &Path) -> Result<Identity, DiskError> {
    Identity::load(dir)?.ok_or_else(|| DiskError::NoLog { dir: dir.into() })
}

/// Walks the log in `dir` without opening it: takes no lock and changes nothing, so it may run
/// beside the node, and then ends at some block near the end.
///
/// # Errors
///
/// As [`Disk::open`]; but an end that is no block is not an error, only noted: it may be being
/// written.
pub fn read(dir: &Path, on_record: OnRecord<'_>) -> Result<Contents, DiskError> {
    let identity = identity(dir)?;
    let tail = walk::walk(dir, identity.incarnation, on_record)?;
    let note = (tail.torn_bytes > 0).then(|| {
        format!(
            "{}: stopped at byte {}: {} bytes that are no block (being written, or torn)",
            segment::path(dir, tail.number).display(),
            tail.at,
            tail.torn_bytes
        )
    });
    Ok(Contents { identity, note })
}

fn check_options(options: &Options) -> Result<(), DiskError> {
    let (bytes, min, max) = (options.segment_bytes, MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
    if (min..=max).contains(&bytes) {
        return Ok(());
    }
    Err(DiskError::SegmentBytes { bytes, min, max })
}
