//! What the store needs of a file system: a directory of flat names.
//!
//! The daemon's is the real one, the simulator's a model that loses what real ones may lose. Owns no
//! decision; the store alone calls it.

use std::fmt::{Debug, Display};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A directory. Names hold no slash. Nothing is durable before it is synced: bytes of a file by
/// [`Files::sync_data`], names (created, renamed, removed) by [`Files::sync_dir`], in order.
pub trait Files {
    /// An open file; stays readable when its name is gone.
    type File: Debug;

    /// The path of `name`, for messages.
    fn place(&self, name: &str) -> PathBuf;

    /// All names.
    ///
    /// # Errors
    /// As the file system says; so for all the others.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file, or empties the one there is.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file to read and write; a directory of a reader, to read.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// How many bytes a file has.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn length(&self, file: &Self::File) -> io::Result<u64>;

    /// Writes all of `bytes` at byte `at`; the file grows as needed.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn write_at(&self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Fills `bytes` from byte `at` on.
    ///
    /// # Errors
    /// See [`Files::list`]; also when the file ends before.
    fn read_at(&self, file: &Self::File, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Makes what was written durable, and the file's length with it.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;

    /// Gives a file another name, in place of what had it.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a name away.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn sync_dir(&self) -> io::Result<()>;
}

/// Gives an error of the file system its act and object, and the remedy that its kind suggests.
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
            ErrorKind::FileTooLarge => "allow longer files (ulimit -f), then start again",
            _ => "look into the kernel's log (dmesg) for the device, then start again",
        };
        let text = format!("cannot {act} {}: {cause}; {remedy}", path.display());
        io::Error::new(cause.kind(), text)
    }
}

/// The same, for a name in a directory.
pub(super) fn cannot_in<F: Files>(
    files: &F,
    act: impl Display,
    name: &str,
) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| cannot(act, &files.place(name))(cause)
}
