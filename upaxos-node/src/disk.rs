//! The disk of one node: a directory with its identity, its lock, and its store.
//!
//! ```text
//! upaxos-2/identity        whose log it is, and of which incarnation
//! upaxos-2/lock            held while a process has it open
//! upaxos-2/00000007.log    segments of the log, and history files: see [`upaxos_core::store`]
//! ```
//!
//! Owns what a store needs of a real machine: files that only this user may read, one process per
//! directory, threads for what no commit should wait for. The daemon appends records and commits; when
//! `commit` returns, they are durable, and only then may anything be said that they stand behind (README,
//! "What is promised"). After one failed write or sync it is of no use; the daemon ends.

mod create;
mod dialect;
mod dir;
mod error;
mod identity;
mod lock;
#[cfg(test)]
pub(crate) mod tests;
mod worker;

use std::io;
use std::path::{Path, PathBuf};

use upaxos_core::store::{self, OnRecord, Past, Source, Store, StoreError, Task};
use upaxos_core::types::Instance;
use upaxos_core::wire::{Dialect, GroupName};

use dir::Dir;
pub use error::DiskError;
pub use identity::{Identity, Named};
pub use upaxos_core::store::{Found, Options};
use worker::Worker;

/// Whose directory it should be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The node's id.
    pub id: u16,
    /// The size of the first group; 0 for a node that joins later.
    pub n: u16,
    /// A fresh random number, used only when the directory is made.
    pub incarnation_if_new: u64,
    /// The grammar that it is to vote in.
    pub dialect: Dialect,
    /// What its group is called, if it has a name; a classic group has none.
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
    /// What the owner may want to know, a sentence each, as files of others.
    pub notices: Vec<String>,
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
    store: Store<Dir>,
    dir: PathBuf,
    /// What its file says.
    identity: Identity,
    /// What this start says that the group is called.
    asked: Named,
    // Before the lock, so that it is dropped first: its threads work in the directory.
    worker: Worker,
    _lock: lock::Lock,
}

impl Disk {
    /// Opens the log in `dir`, or makes one, and hands every record in it to `on_record`.
    ///
    /// A tail that a crash tore is cut; the warnings say so.
    ///
    /// # Errors
    ///
    /// When another process has the directory, when it is another node's or another group's, or speaks another grammar,
    /// when something that was synced is hurt or gone ([`StoreError::Damaged`]), when `on_record` refuses a record,
    /// or when the file system does.
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

    /// Adds to the batch the record that `write` puts at the end of the buffer it is given. Nothing is
    /// written before [`Disk::commit`].
    ///
    /// # Panics
    ///
    /// When that contains a newline or begins with `#`: no record does.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.store.append_with(write);
    }

    /// Makes the batch durable: one write, one sync; now and then a new segment too. Does nothing when
    /// there is no batch.
    ///
    /// # Errors
    ///
    /// When a write or sync fails, here or in what goes on beside, and ever after: then nobody knows what
    /// is durable, the process must end, and the next start reads what there is.
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

    /// Writes down what the group is called, as this start said: that is confirmed. Does nothing where the directory
    /// says so already.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn confirm_name(&mut self) -> io::Result<()> {
        let confirmed = Identity { group: self.asked, ..self.identity };
        if confirmed != self.identity {
            confirmed.replace(&self.dir)?;
            self.identity = confirmed;
        }
        Ok(())
    }

    /// How far the history files go: what is up to there need not be held in memory.
    pub fn compacted(&self) -> Instance {
        self.store.compacted()
    }

    /// Old values: of `first` to `last` those that the history holds, in order, until about `bytes`.
    ///
    /// # Errors
    ///
    /// When the history is damaged, or cannot be read: then the node must end.
    pub fn past(&self, first: Instance, last: Instance, bytes: usize) -> Result<Vec<Past>, DiskError> {
        Ok(self.store.past(first, last, bytes)?)
    }
}

/// Whose log is in `dir`.
///
/// # Errors
///
/// When there is none, or its identity is hurt, or missing.
pub fn identity(dir: &Path) -> Result<Identity, DiskError> {
    if let Some(identity) = Identity::load(dir)? {
        return Ok(identity);
    }
    Err(create::without_identity(dir)?.unwrap_or_else(|| DiskError::NoLog { dir: dir.into() }))
}

/// The grammar of the node of `dir`, whose identity is `found`.
///
/// # Errors
///
/// As [`read`].
pub fn dialect(dir: &Path, found: &Identity) -> Result<Dialect, DiskError> {
    Ok(dialect::said_or_spoken(dir, found)?.unwrap_or(Dialect::Extended))
}

/// Walks the log in `dir` without opening it: takes no lock and changes nothing, so it may run
/// beside the node, and then ends at some block near the end. Hands out the history first.
///
/// # Errors
///
/// As [`Disk::open`]; but an end that is no block is not an error, only noted: it may be being
/// written.
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
