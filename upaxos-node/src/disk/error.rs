//! Why a directory cannot be used, each with the act, the object and the way out.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

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

    /// There is no log here to read.
    #[error("cannot read {}: there is no log in it; name the directory of a node (--dir, ./upaxos-ID)", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },

    /// Something that was synced is hurt or gone. Nothing was changed.
    #[error("cannot trust {} at byte {at}: {what}; {}", file.display(), way_out(file))]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the trouble begins.
        at: u64,
        /// What is wrong there.
        what: String,
    },

    /// A record whose block is whole means nothing to this program.
    #[error(
        "cannot use the record in {} at byte {at}: {reason}; start the version of upaxos that \
         wrote it, or else {}",
        file.display(), way_out(file)
    )]
    Record {
        /// The file.
        file: PathBuf,
        /// Where the line begins.
        at: u64,
        /// What the reader of records said.
        reason: String,
    },

    /// An option that no log can be made with.
    #[error("cannot make segments of {bytes} bytes; choose {min} to {max}")]
    SegmentBytes {
        /// What was asked for.
        bytes: u64,
        /// The least possible.
        min: u64,
        /// The most possible.
        max: u64,
    },
}

/// A backup is no way out: a node that forgot what it promised can break the group.
fn way_out(file: &Path) -> String {
    let dir = file.parent().unwrap_or(file).display();
    format!(
        "wipe {dir} and rejoin the group under a new id (upaxos-node --join), or bring back the \
         file as it was at this node's last sync (an older copy will not do)"
    )
}

/// Gives an error of the file system its act and object, and the remedy that its kind suggests.
pub(super) fn cannot(act: impl Display, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| {
        let remedy = match cause.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, then start again",
            ErrorKind::PermissionDenied => "give this user access, or choose another --dir",
            ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another --dir",
            ErrorKind::NotFound => "create what is missing, or choose another --dir",
            ErrorKind::NotADirectory => "choose another --dir",
            _ => "look into the kernel's log (dmesg) for the device, then start again",
        };
        let text = format!("cannot {act} {}: {cause}; {remedy}", path.display());
        io::Error::new(cause.kind(), text)
    }
}
