//! Why a directory cannot be used, each with the act, the object and the way out.

use std::io;
use std::path::PathBuf;

use upaxos_core::store::StoreError;

use super::Identity;

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The file system refused; the text names the act, the path and a remedy.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// Another process holds the lock.
    #[error(
        "cannot open {}: another process has it open; stop that process, or give this node \
         a directory of its own (--dir)",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },

    /// The directory is another node's, or another group's.
    #[error(
        "cannot open {}: it belongs to a node started with {option} {found}, and this one is \
         started with {option} {expected}; start it with {option} {found}, or in another \
         directory (--dir)",
        dir.display()
    )]
    Mismatch {
        /// The directory.
        dir: PathBuf,
        /// The option that says it, as `-i`.
        option: &'static str,
        /// What this start asks for.
        expected: u16,
        /// What the directory says.
        found: u16,
    },

    /// A member of the first group starts with -n, who joined starts with --join, each for ever.
    #[error(
        "cannot open {}: {}",
        dir.display(),
        match found.n {
            0 => format!("its node joined the group later; start it with --join -i {}, without -n", found.id),
            n => format!(
                "its node is one of the first group; start it with -n {n} -i {}, without --join; or, to join under \
                 a new id, in another directory (--dir)",
                found.id
            ),
        }
    )]
    OtherRole {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: Identity,
    },

    /// There is no log here to read.
    #[error("cannot read {}: there is no log in it; name the directory of a node (--dir, ./upaxos-ID)", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },

    /// The log or the history is hurt, means nothing, or cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}
