//! The log of one node on disk: records in, and back after a restart.
//!
//! Owns a data directory: its lock, the identity of its node, and the segments. Blocks are framed by
//! [`upaxos_core::record::block`]; what a record says, is not known here. One [`Disk::commit`] is one
//! write and one sync, whatever the number of records: the daemon's loop calls it once per batch.
//! After a failed write or sync nothing more is written, and the process has to end: the kernel may have
//! dropped the pages that it could not write, and would call the next sync a success.

mod error;
mod identity;
mod recovery;
mod segment;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use upaxos_core::record::block::{self, Chain, HEADER_BYTES};

use error::Context;
pub use error::DiskError;
pub use identity::Identity;
pub use recovery::OnRecord;
use segment::{Next, Segment};

/// Who the directory should belong to.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The node's id.
    pub id: u16,
    /// The size of the first group.
    pub n: u16,
    /// A random number, used if the directory is made now.
    pub incarnation_if_new: u64,
}

/// How the log is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The size of a segment that is made now, in bytes.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 8 << 20 }
    }
}

/// A log that is open for writing; at most one per directory, in all processes.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    segment_bytes: u64,
    active: Segment,
    next: Option<Next>,
    /// Where the next block goes.
    at: u64,
    chain: Chain,
    body: Vec<u8>,
    block: Vec<u8>,
    is_poisoned: bool,
    _lock: File,
}

/// What [`Disk::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready to be written to.
    pub disk: Disk,
    /// Whose it is.
    pub identity: Identity,
    /// Whether it was made just now.
    pub is_new: bool,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

impl Disk {
    /// Opens a data directory, makes it if need be, and hands every record of its log to `on_record`, in
    /// order. A tail that a crash cut short is removed, with a warning.
    ///
    /// # Errors
    /// [`DiskError`]: in use, of another node, damaged, or a system call failed.
    pub fn open(
        dir: &Path,
        wanted: &Wanted,
        options: &Options,
        on_record: OnRecord,
    ) -> Result<Opened, DiskError> {
        make_dir(dir)?;
        let lock = lock(dir)?;
        segment::remove_drafts(dir)?;
        let found = Identity::read(dir)?;
        let is_new = found.is_none();
        let identity = match found {
            Some(identity) => check_owner(dir, identity, wanted)?,
            None => begin(dir, wanted, options)?,
        };
        let walked = recovery::walk(dir, identity.incarnation, on_record)?;
        let active = Segment::open(dir, walked.number)?;
        let mut warnings = Vec::new();
        if walked.torn > 0 {
            cut(&active, walked.at, walked.torn)?;
            warnings.push(format!(
                "cut {} bytes that a crash left unfinished at byte {} of {}; nothing that was acknowledged is in them",
                walked.torn,
                walked.at,
                active.path.display()
            ));
        }
        if let Some((number, at, bytes)) = &walked.last_block {
            write_again(dir, *number, *at, bytes)?;
        }
        let segment_bytes = options.segment_bytes;
        let next = Some(Next::begin(dir, active.number + 1, segment_bytes));
        let disk = Disk {
            dir: dir.to_owned(),
            segment_bytes,
            active,
            next,
            at: walked.at,
            chain: walked.chain,
            body: Vec::new(),
            block: Vec::new(),
            is_poisoned: false,
            _lock: lock,
        };
        Ok(Opened { disk, identity, is_new, warnings })
    }

    /// Adds a record, a line without its newline, to what the next commit makes durable.
    pub fn append(&mut self, line: &[u8]) {
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
    }

    /// Makes everything appended durable: one write, one sync (more only where a batch is larger than a
    /// segment). Without anything appended it does nothing.
    ///
    /// # Errors
    /// When the write or the sync failed. Nothing appended since the last commit may be taken for
    /// durable, and every later call fails too.
    pub fn commit(&mut self) -> Result<(), DiskError> {
        if self.is_poisoned {
            return Err(DiskError::Poisoned(self.dir.clone()));
        }
        if self.body.is_empty() {
            return Ok(());
        }
        let body = std::mem::take(&mut self.body);
        self.is_poisoned = true;
        for part in parts(&body, self.segment_bytes as usize - HEADER_BYTES) {
            self.write_block(part)?;
        }
        self.is_poisoned = false;
        self.body = body;
        self.body.clear();
        Ok(())
    }

    fn write_block(&mut self, body: &[u8]) -> Result<(), DiskError> {
        self.block.clear();
        block::seal(&mut self.chain, body, &mut self.block);
        if self.at + self.block.len() as u64 > self.active.bytes {
            self.roll()?;
        }
        let Segment { file, path, .. } = &self.active;
        file.write_all_at(&self.block, self.at).act("write to", path)?;
        file.sync_data().act("sync", path)?;
        self.at += self.block.len() as u64;
        Ok(())
    }

    fn roll(&mut self) -> Result<(), DiskError> {
        let number = self.active.number + 1;
        self.active = match self.next.take() {
            Some(next) => next.take()?,
            None => Segment::prepare(&self.dir, number, self.segment_bytes)?,
        };
        self.at = 0;
        self.next = Some(Next::begin(&self.dir, number + 1, self.segment_bytes));
        Ok(())
    }
}

/// Hands every record of a log to `on_record`, also while its node runs; stops silently where a write is
/// under way.
///
/// # Errors
/// As [`Disk::open`].
pub fn read(dir: &Path, on_record: OnRecord) -> Result<(), DiskError> {
    recovery::walk(dir, identity(dir)?.incarnation, on_record).map(drop)
}

/// Whose data directory it is.
///
/// # Errors
/// When it is none, or cannot be read.
pub fn identity(dir: &Path) -> Result<Identity, DiskError> {
    Identity::read(dir)?.ok_or_else(|| DiskError::NotADirectory(dir.to_owned()))
}

fn make_dir(dir: &Path) -> Result<(), DiskError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).act("create directory", dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    identity::sync_dir(parent.unwrap_or(Path::new(".")))
}

fn lock(dir: &Path) -> Result<File, DiskError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .act("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DiskError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(DiskError::Io { act: "lock", path, source }),
    }
}

fn check_owner(dir: &Path, identity: Identity, wanted: &Wanted) -> Result<Identity, DiskError> {
    let Identity { id, n, .. } = identity;
    if (id, n) != (wanted.id, wanted.n) {
        let dir = dir.to_owned();
        return Err(DiskError::OtherNode { dir, id, n, wanted_id: wanted.id, wanted_n: wanted.n });
    }
    if segment::list(dir)?.is_empty() {
        let what = "it is missing, and the directory has an identity".into();
        return Err(DiskError::Damaged { path: segment::path(dir, 1), offset: 0, what });
    }
    Ok(identity)
}

/// Makes a first segment, then the identity: a directory with an identity has had a log.
fn begin(dir: &Path, wanted: &Wanted, options: &Options) -> Result<Identity, DiskError> {
    for number in segment::list(dir)? {
        let path = segment::path(dir, number);
        let bytes = std::fs::read(&path).act("read", &path)?;
        if let Some(offset) = bytes.iter().position(|byte| *byte != 0) {
            let what = "it has records, but the directory's identity is missing".into();
            return Err(DiskError::Damaged { path, offset: offset as u64, what });
        }
        std::fs::remove_file(&path).act("remove", &path)?;
    }
    Segment::prepare(dir, 1, options.segment_bytes)?;
    let identity = Identity { id: wanted.id, n: wanted.n, incarnation: wanted.incarnation_if_new };
    identity.write(dir)?;
    Ok(identity)
}

fn cut(segment: &Segment, at: u64, bytes: u64) -> Result<(), DiskError> {
    let Segment { file, path, .. } = segment;
    file.write_all_at(&vec![0; bytes as usize], at).act("cut the unfinished end of", path)?;
    file.sync_data().act("sync", path)
}

/// Writes the last block once more, and syncs it. If the life before ended in a failed sync, the block may
/// be readable from memory and yet not be on the disk, and no later sync would mend that.
fn write_again(dir: &Path, number: u64, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
    let Segment { file, path, .. } = Segment::open(dir, number)?;
    file.write_all_at(bytes, at).act("write again to", &path)?;
    file.sync_data().act("sync", &path)
}

/// A batch in parts of at most `max` bytes, cut between records; a single longer record stays whole.
fn parts(body: &[u8], max: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = match rest.get(..max) {
            None => rest.len(),
            Some(head) => {
                let fits = head.iter().rposition(|byte| *byte == b'\n');
                let first = || rest.iter().position(|byte| *byte == b'\n');
                fits.or_else(first).map_or(rest.len(), |at| at + 1)
            }
        };
        let (part, later) = rest.split_at(end);
        rest = later;
        Some(part)
    })
}

#[cfg(test)]
mod tests;
