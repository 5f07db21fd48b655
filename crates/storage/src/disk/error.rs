//! The errors of a data directory. Each text names the act, the object and a remedy.

use std::io;
use std::path::PathBuf;

use upaxos_core::wire::Dialect;

use super::{Identity, Named};
use crate::StoreError;

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The file system reports an error. The text names the act, the path and a remedy.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// Another process holds the directory's lock.
    #[error(
        "cannot open {}: another process has it open; stop that process, or give this node \
         a directory of its own (--dir)",
        dir.display()
    )]
    InUse {
        /// The data directory that is in use.
        dir: PathBuf,
    },

    /// The file system has no locks.
    #[error(
        "cannot lock {}: {cause}; choose a --dir on a file system with file locks, such as one on a local disk",
        path.display()
    )]
    NoLocks {
        /// The file that was to be locked.
        path: PathBuf,
        /// The error of the lock call.
        cause: io::Error,
    },

    /// The path of the directory names something else.
    #[error("cannot use {} as a data directory: {what}; choose another --dir", dir.display())]
    NoDirectory {
        /// The path that was given as a data directory.
        dir: PathBuf,
        /// A sentence about the thing at that path.
        what: String,
    },

    /// The directory belongs to another node or another group.
    #[error(
        "cannot open {}: it belongs to a node started with {option} {found}, and this one is \
         started with {option} {expected}; start it with {option} {found}, or in another \
         directory (--dir)",
        dir.display()
    )]
    Mismatch {
        /// The data directory of the other node.
        dir: PathBuf,
        /// The option that differs, such as `-i`.
        option: &'static str,
        /// The option's value at this start.
        expected: u16,
        /// The option's value in the directory.
        found: u16,
    },

    /// A start changes the role of a node. A member of the first group always starts with -n, a joiner always with
    /// --join.
    #[error(
        "cannot open {}: {}",
        dir.display(),
        match found.n {
            0 => format!("its node joined the group later; start it with --join -i {}, without -n", found.id),
            n => format!(
                "its node is one of the first group; start it with -n {n} -i {0}, without --join; or, to join under \
                 a new id, in another directory (--dir), and with --replace {0} if that takes this node's place",
                found.id
            ),
        }
    )]
    OtherRole {
        /// The data directory of the node.
        dir: PathBuf,
        /// The identity that the directory holds.
        found: Identity,
    },

    /// A start changes the grammar of a node, which never changes.
    #[error(
        "cannot open {}: its node {} --classic, and its votes mean something else {}; start it {} --classic, \
         or in another directory (--dir)",
        dir.display(),
        if *is_classic { "was started with" } else { "was started without" },
        if *is_classic { "without it" } else { "with it" },
        if *is_classic { "with" } else { "without" }
    )]
    OtherDialect {
        /// The data directory of the node.
        dir: PathBuf,
        /// Whether its node speaks the classic grammar.
        is_classic: bool,
    },

    /// A start changes the name of a node's group. Under another name the node would hear nothing of its group.
    #[error(
        "cannot open {}: its node belongs to a group {}, and this one is started {}; start it {}, or in another \
         directory (--dir)",
        dir.display(),
        with_group(found),
        with_group(expected),
        with_group(found)
    )]
    OtherGroup {
        /// The data directory of the node.
        dir: PathBuf,
        /// The name that this start was given.
        expected: Named,
        /// The name in the directory.
        found: Named,
    },

    /// The log of a classic node is corrupt. A classic node cannot rejoin under another id, and no peer can restore
    /// it.
    #[error(
        "cannot trust {} at byte {at}: {what}; first check that this is the directory of this node (--dir, and the \
         working directory), that this version of upaxos wrote it, and that no other program put a file there. If the \
         disk is damaged, bring back the file as it was at this node's last sync (an older copy will not do), or go on \
         without this node. A classic group takes in no other node: to have all of its nodes again, begin a new log, \
         with every node in a directory that does not exist yet, and keep the old ones",
        file.display()
    )]
    DamagedClassic {
        /// The damaged file.
        file: PathBuf,
        /// The byte at which the damage begins.
        at: u64,
        /// A sentence about the damage.
        what: String,
    },

    /// The directory holds no log.
    #[error("cannot read {}: there is no log of a node in it; name the directory of a node, such as ./upaxos-0", dir.display())]
    NoLog {
        /// The directory that was to be read.
        dir: PathBuf,
    },

    /// The log or the history is corrupt, holds a record without meaning, or cannot be created.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn with_group(named: &Named) -> String {
    match named {
        Named::As(name) => format!("with --group {name}"),
        Named::Nameless | Named::Unsaid => "without --group".to_owned(),
    }
}

impl DiskError {
    /// The same error, with a remedy that is possible in a group of this grammar.
    pub(super) fn in_dialect(self, dialect: Dialect) -> DiskError {
        match (self, dialect) {
            (DiskError::Store(StoreError::Damaged { file, at, what }), Dialect::Classic) => {
                DiskError::DamagedClassic { file, at, what }
            }
            (DiskError::Store(StoreError::Record { file, at, reason }), Dialect::Classic) => {
                DiskError::DamagedClassic { file, at, what: reason }
            }
            (error, _) => error,
        }
    }
}
