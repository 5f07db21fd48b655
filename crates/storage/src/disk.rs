//! The disk of one node: a directory with its identity, its lock and its store.
//!
//! ```text
//! upaxos-2/identity        the node, its group and its incarnation
//! upaxos-2/lock            held while a process has the directory open
//! upaxos-2/00000007.log    segments of the log, and history files: see [`crate`]
//! ```
//!
//! Owns what a store needs of a real machine: files that only this user may read, one process per directory, and
//! threads for tasks that no commit should wait for. The daemon appends records and commits. When `commit` returns,
//! they are durable; only then may the node send a message that depends on them (README, "What is promised"). After
//! one failed write or sync the disk cannot be used any more, and the daemon ends.

mod create;
mod dialect;
mod dir;
mod error;
mod identity;
mod lock;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::path::{Path, PathBuf};

use upaxos_core::types::Instance;
use upaxos_core::wire::{Dialect, GroupName};

use crate::{self as store, OnRecord, Past, Source, Store, StoreError, Task};
pub use crate::{Found, Options};
use dir::Dir;
pub use error::DiskError;
pub use identity::{Identity, Named};
use worker::Worker;

/// The identity that this start expects of the directory.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Id of the node, as `-i` gives it.
    pub id: u16,
    /// Size of the first group; 0 for a node that joins later.
    pub n: u16,
    /// A fresh random number, used only when this call creates the directory.
    pub incarnation_if_new: u64,
    /// The grammar that the node votes in.
    pub dialect: Dialect,
    /// The name of its group, if it has one. A classic group has none.
    pub name: Option<GroupName>,
}

impl Wanted {
    fn named(&self) -> Named {
        match self.dialect {
            Dialect::Extended => Named::from_flag(self.name),
            Dialect::Classic => Named::Unsaid,
        }
    }
}

/// An open directory and its state.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The log, ready for the next record.
    pub disk: Disk,
    /// The identity that the directory holds.
    pub identity: Identity,
    /// Whether this call created the directory. The node has then sent nothing under this incarnation.
    pub is_new: bool,
    /// Warnings for the operator, one sentence each, such as a torn tail that was cut.
    pub warnings: Vec<String>,
    /// Notices for the operator, one sentence each, such as foreign files.
    pub notices: Vec<String>,
}

/// The result of [`read`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Contents {
    /// The identity of the log's node.
    pub identity: Identity,
    /// The place where the scan stopped, if it is not a clean end.
    pub note: Option<String>,
}

/// The log of one node, open for writing. At any time there is at most one per directory.
#[derive(Debug)]
pub struct Disk {
    store: Store<Dir>,
    dir: PathBuf,
    /// The identity in the directory's file.
    identity: Identity,
    /// The name of the group that this start was given.
    asked: Named,
    // Declared before the lock, so that it is dropped first: its threads work in the directory.
    worker: Worker,
    _lock: lock::Lock,
}

impl Disk {
    /// Opens the log in `dir`, or creates one, and hands every record in it to `on_record`.
    ///
    /// A tail that a crash has torn is cut, with a warning.
    ///
    /// # Errors
    ///
    /// When another process has the directory open; when the directory belongs to another node or group, or to
    /// another grammar; when synced data is corrupt or missing ([`StoreError::Damaged`]); when `on_record` rejects
    /// a record; or when the file system reports an error.
    pub fn open(
        dir: &Path,
        wanted: &Wanted,
        options: &Options,
        on_record: OnRecord<'_>,
    ) -> Result<Opened, DiskError> {
        let opened = Disk::open_any(dir, wanted, options, on_record);
        opened.map_err(|error| error.in_dialect(wanted.dialect))
    }

    fn open_any(
        dir: &Path,
        wanted: &Wanted,
        options: &Options,
        on_record: OnRecord<'_>,
    ) -> Result<Opened, DiskError> {
        options.check()?;
        lock::create_dir(dir)?;
        let lock = lock::lock(dir)?;
        let (identity, is_new) = create::identify(dir, wanted, options)?;
        let files = Dir::new(dir);
        let opened = Store::open(files.clone(), identity.incarnation, options, on_record)?;
        let mut warnings = opened.warnings;
        create::warn_of_open_doors(dir, &mut warnings)?;
        let mut notices = Vec::new();
        create::tell_foreign(dir, &mut notices)?;
        let disk = Disk {
            store: opened.store,
            dir: dir.into(),
            identity,
            asked: wanted.named(),
            worker: Worker::new(files),
            _lock: lock,
        };
        Ok(Opened { disk, identity, is_new, warnings, notices })
    }

    /// Adds one record to the batch. `write` appends the record to the buffer that it gets. Nothing is written before
    /// [`Disk::commit`].
    ///
    /// # Panics
    ///
    /// When the record contains a newline or begins with `#`: no record does.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.store.append_with(write);
    }

    /// Makes the batch durable, with one write and one sync. Now and then it also begins a new segment. Does nothing
    /// without a batch.
    ///
    /// # Errors
    ///
    /// When a write or sync fails, here or in a task beside the loop, and at every later call. It is then unknown
    /// which records are durable: the process must end, and the next start reads the disk.
    pub fn commit(&mut self, source: &dyn Source) -> io::Result<()> {
        while let Some(done) = self.worker.done() {
            self.finish(done)?;
        }
        while self.store.is_blocked() {
            let done = self.worker.wait();
            self.finish(done)?;
        }
        self.store.commit(source)?;
        while let Some(task) = self.store.task(source) {
            self.worker.begin(task)?;
        }
        Ok(())
    }

    fn finish(&mut self, done: io::Result<Task<Dir>>) -> io::Result<()> {
        let done = done.inspect_err(|failure| self.store.fail(failure))?;
        self.store.finish(done);
        Ok(())
    }

    /// Records in the directory the name of the group that this start was given, once it is confirmed. Does nothing
    /// where the directory already has that name.
    ///
    /// # Errors
    ///
    /// When the identity cannot be written.
    pub fn confirm_name(&mut self) -> io::Result<()> {
        let confirmed = Identity { group: self.asked, ..self.identity };
        if confirmed != self.identity {
            confirmed.replace(&self.dir)?;
            self.identity = confirmed;
        }
        Ok(())
    }

    /// The last instance in the history files. Values up to it need not be kept in memory.
    pub fn compacted(&self) -> Instance {
        self.store.compacted()
    }

    /// The values of `first` to `last` that the history holds, in order, up to about `bytes` bytes.
    ///
    /// # Errors
    ///
    /// When the history is damaged or cannot be read. The node must then end.
    pub fn past(&self, first: Instance, last: Instance, bytes: usize) -> Result<Vec<Past>, DiskError> {
        Ok(self.store.past(first, last, bytes)?)
    }
}

/// The identity of the node whose log is in `dir`.
///
/// # Errors
///
/// When there is no log, or its identity is corrupt or missing.
pub fn identity(dir: &Path) -> Result<Identity, DiskError> {
    if let Some(identity) = Identity::load(dir)? {
        return Ok(identity);
    }
    Err(create::without_identity(dir)?.unwrap_or_else(|| DiskError::NoLog { dir: dir.into() }))
}

/// The grammar of the node in `dir`, whose identity is `found`.
///
/// # Errors
///
/// The same as [`read`].
pub fn dialect(dir: &Path, found: &Identity) -> Result<Dialect, DiskError> {
    Ok(dialect::said_or_spoken(dir, found)?.unwrap_or(Dialect::Extended))
}

/// Scans the log in `dir` without opening it. It takes no lock and changes nothing, so it may run beside the node;
/// it then stops at some block near the end. It hands out the history first.
///
/// # Errors
///
/// The same as [`Disk::open`], except that an end that is no block is only noted: the node may be writing it.
pub fn read(
    dir: &Path,
    on_past: &mut dyn FnMut(Past) -> Result<(), String>,
    on_record: OnRecord<'_>,
) -> Result<Contents, DiskError> {
    let identity = identity(dir)?;
    let contents = store::read(&Dir::to_read(dir), identity.incarnation, on_past, on_record)?;
    let note = contents.torn.map(|(number, at, bytes)| {
        format!(
            "{}: stopped at byte {at}: {bytes} bytes that are no block (being written, or torn)",
            dir.join(store::segment::name(number)).display(),
        )
    });
    Ok(Contents { identity, note })
}

fn damaged(file: PathBuf, what: String) -> DiskError {
    StoreError::Damaged { file, at: 0, what }.into()
}
