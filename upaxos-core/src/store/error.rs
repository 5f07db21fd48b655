//! Why a store cannot be used, each with the act, the object and the way out.

use std::io;
use std::path::{Path, PathBuf};

/// Why a log or its history cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused; the text names the act, the path and a remedy.
    #[error(transparent)]
    Io(#[from] io::Error),

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

/// The harmless causes come first: what this says of a healthy directory must not destroy it. A backup is no way
/// out: a node that forgot what it promised can break the group.
fn way_out(file: &Path) -> String {
    let dir = file.parent().unwrap_or(file).display();
    format!(
        "first check that this is the directory of this node (--dir, and the working directory), that this version of \
         upaxos wrote it, and that no other program put a file there. If the disk is damaged, bring back the file as \
         it was at this node's last sync (an older copy will not do); or move {dir} away, without deleting it, and \
         rejoin the group under a new id, in the place of this node, ID (upaxos-node --join -i NEW_ID --replace ID)"
    )
}
