//! Why a directory cannot be used, each with the act, the object and the way out.

use std::io;
use std::path::PathBuf;

use upaxos_core::store::StoreError;
use upaxos_core::wire::Dialect;

use super::{Identity, Named};

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

    /// The file system has no locks.
    #[error(
        "cannot lock {}: {cause}; choose a --dir on a file system with file locks, such as one on a local disk",
        path.display()
    )]
    NoLocks {
        /// The file that was to be locked.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },

    /// Something else has the name of the directory.
    #[error("cannot use {} as a data directory: {what}; choose another --dir", dir.display())]
    NoDirectory {
        /// The path.
        dir: PathBuf,
        /// What is there.
        what: String,
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
                "its node is one of the first group; start it with -n {n} -i {0}, without --join; or, to join under \
                 a new id, in another directory (--dir), and with --replace {0} if that takes this node's place",
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

    /// A node votes in one grammar for ever.
    #[error(
        "cannot open {}: its node {} --classic, and what it has said means something else {}; start it {} --classic, \
         or in another directory (--dir)",
        dir.display(),
        if *is_classic { "was started with" } else { "was started without" },
        if *is_classic { "without it" } else { "with it" },
        if *is_classic { "with" } else { "without" }
    )]
    OtherDialect {
        /// The directory.
        dir: PathBuf,
        /// Whether its node speaks the classic grammar.
        is_classic: bool,
    },

    /// A node belongs to the group of one name for ever: under another one it would hear nothing of its own.
    #[error(
        "cannot open {}: its node belongs to a group {}, and this one is started {}; start it {}, or in another \
         directory (--dir)",
        dir.display(),
        with_group(found),
        with_group(expected),
        with_group(found)
    )]
    OtherGroup {
        /// The directory.
        dir: PathBuf,
        /// What this start asks for.
        expected: Named,
        /// What the directory says.
        found: Named,
    },

    /// The log of a classic node is hurt: there is no other id to come back under, and no peer to believe.
    #[error(
        "cannot trust {} at byte {at}: {what}; first check that this is the directory of this node (--dir, and the \
         working directory), that this version of upaxos wrote it, and that no other program put a file there. If the \
         disk is damaged, bring back the file as it was at this node's last sync (an older copy will not do), or go on \
         without this node. A classic group takes in no other node: to have all of its nodes again, begin a new log, \
         with every node in a directory that does not exist yet, and keep the old ones",
        file.display()
    )]
    DamagedClassic {
        /// The file.
        file: PathBuf,
        /// Where the trouble begins.
        at: u64,
        /// What is wrong there.
        what: String,
    },

    /// There is no log here to read.
    #[error("cannot read {}: there is no log of a node in it; name the directory of a node, such as ./upaxos-0", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },

    /// The log or the history is hurt, means nothing, or cannot be made.
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
    /// The same, with a way out that a group of this grammar has.
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
