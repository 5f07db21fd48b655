//! The errors of a store. Each names the act, the object and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// The reason why a log or its history cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused. The text names the act, the path and a remedy.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// Synced bytes are corrupt or missing. Nothing was changed.
    #[error("cannot trust {} at byte {at}: {what}; {}", file.display(), way_out(file))]
    Damaged {
        /// The path of the damaged file.
        file: PathBuf,
        /// The offset of the damage, in bytes.
        at: u64,
        /// A description of the damage.
        what: String,
    },

    /// A record in a valid block means nothing to this program.
    #[error(
        "cannot use the record in {} at byte {at}: {reason}; start the version of upaxos that \
         wrote it, or else {}",
        file.display(), way_out(file)
    )]
    Record {
        /// The path of the file with the record.
        file: PathBuf,
        /// The offset of the line, in bytes.
        at: u64,
        /// The reason that the reader of records returned.
        reason: String,
    },

    /// No log can be created with this segment length.
    #[error("cannot make segments of {bytes} bytes; choose {min} to {max}")]
    SegmentBytes {
        /// The requested length, in bytes.
        bytes: u64,
        /// The minimum, in bytes.
        min: u64,
        /// The maximum, in bytes.
        max: u64,
    },
}

/// The text for damage. The harmless causes come first: with a healthy directory, this advice must not destroy it.
/// To restore a backup is no remedy: a node that forgot its promises can break the group.
fn way_out(file: &Path) -> String {
    let dir = file.parent().unwrap_or(file).display();
    format!(
        "first check that this is the directory of this node (--dir, and the working directory), that this version of \
         upaxos wrote it, and that no other program put a file there. If the disk is damaged, bring back the file as \
         it was at this node's last sync (an older copy will not do); or move {dir} away, without deleting it, and \
         rejoin the group under a new id, in the place of this node, ID (upaxos-node --join -i NEW_ID --replace ID)"
    )
}
