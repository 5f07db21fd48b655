//! The file system as the store needs it: a directory of flat names.
//!
//! The daemon uses the real one. The simulator uses a model that loses what real ones may lose. This module decides
//! nothing, and only the store calls it.

use std::fmt::{Debug, Display};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A directory. Names hold no slash. Nothing is durable before a sync: [`Files::sync_data`] makes the bytes of a
/// file durable, [`Files::sync_dir`] makes names (created, renamed, removed) durable, in order.
pub trait Files {
    /// An open file. It stays readable after its name is removed.
    type File: Debug;

    /// The path of `name`, for messages.
    fn place(&self, name: &str) -> PathBuf;

    /// The names of all files in the directory.
    ///
    /// # Errors
    /// When the file system refuses. The same holds for all other methods.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file, or truncates the existing one to zero length.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and writing; in the directory of a reader, for reading only.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// The length of a file, in bytes.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn length(&self, file: &Self::File) -> io::Result<u64>;

    /// Writes all of `bytes` at byte `at`. The file grows as needed.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn write_at(&self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Fills `bytes` from byte `at` on.
    ///
    /// # Errors
    /// See [`Files::list`]; also when the file ends too early.
    fn read_at(&self, file: &Self::File, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Makes the written bytes durable, and the file's length with them.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;

    /// Renames a file. It replaces a file that has the new name.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name from the directory.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all changes of names durable.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn sync_dir(&self) -> io::Result<()>;
}

/// Adds the act, the object and a remedy for its kind to an error of the file system.
pub fn cannot(act: impl Display, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| {
        let remedy = match cause.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, then start again",
            ErrorKind::PermissionDenied => "give this user access, or choose another --dir",
            ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another --dir",
            ErrorKind::NotFound => "create what is missing, or choose another --dir",
            ErrorKind::NotADirectory => "choose another --dir",
            ErrorKind::IsADirectory => {
                "a directory there has the name of a file that upaxos makes: move that one away, not all of --dir"
            }
            ErrorKind::InvalidInput => "move it away: upaxos makes a regular file of that name",
            ErrorKind::FileTooLarge => "allow longer files (ulimit -f), then start again",
            _ => "look into the kernel's log (dmesg) for the device, then start again",
        };
        let text = format!("cannot {act} {}: {cause}; {remedy}", path.display());
        io::Error::new(cause.kind(), text)
    }
}

/// Does the same as [`cannot`] for a name in a directory.
pub(super) fn cannot_in<F: Files>(
    files: &F,
    act: impl Display,
    name: &str,
) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| cannot(act, &files.place(name))(cause)
}
