//! What can be wrong with a data directory, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A system call failed.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error(
        "cannot use data directory {}: another process has it open; stop that one, or pass another --dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The directory belongs to another node, or to one of a group of another size.
    #[error(
        "cannot use data directory {}: it belongs to node {id} of a first group of {n}, not to node {wanted_id} of \
         {wanted_n}; pass -i {id} -n {n}, or another --dir",
        dir.display()
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        id: u16,
        /// The size of its first group.
        n: u16,
        /// Who was to be started.
        wanted_id: u16,
        /// In a group of this size.
        wanted_n: u16,
    },
    /// There is no node's data here.
    #[error("cannot read {}: no upaxos data directory (it has no file named identity)", .0.display())]
    NotADirectory(PathBuf),
    /// What was written and synced is not there as it was.
    #[error(
        "cannot trust {} at byte {offset}: {what}. The log was changed after it was synced, so what this node has \
         promised is not known. To repair: move the directory away and come back under a new id (upaxos-node \
         --join -i NEW_ID), or bring back an intact copy",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// An earlier write or sync failed; nothing may be written after it.
    #[error("cannot write to {}: an earlier write or sync failed", .0.display())]
    Poisoned(PathBuf),
}

/// Names the act and the file of a failed system call.
pub(super) trait Context<T> {
    fn act(self, act: &'static str, path: &std::path::Path) -> Result<T, DiskError>;
}

impl<T> Context<T> for io::Result<T> {
    fn act(self, act: &'static str, path: &std::path::Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::Io { act, path: path.to_owned(), source })
    }
}
