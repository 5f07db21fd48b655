//! The lock that admits one process per directory, and the sync that makes names in a directory durable.

use super::DiskError;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::files::cannot;

/// A lock that is held while the directory is in use. The kernel releases it when the process ends, however it
/// ends. The file itself stays, and its presence means nothing.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

/// The name of the locked file.
pub(super) const NAME: &str = "lock";

/// Locks the directory, or fails at once if another process has it.
pub(super) fn lock(dir: &Path) -> Result<Lock, DiskError> {
    let path = dir.join(NAME);
    let file = must_be_regular(&path).and_then(|()| private().create(true).truncate(false).open(&path));
    let file = file.map_err(cannot("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(DiskError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(cause)) => Err(DiskError::NoLocks { path, cause }),
    }
}

/// Fails if something else than a regular file has this name: to open a fifo may block for ever. Directories have a
/// message of their own.
pub(super) fn must_be_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Err(io::Error::new(ErrorKind::InvalidInput, format!("{name} is no regular file")))
        }
        _ => Ok(()),
    }
}

/// Options for files that only this user may read: values may be secrets.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Creates the directory if it is missing. Its parent must exist: a typing error in `--dir` must not start an empty
/// node somewhere else.
pub(super) fn create_dir(dir: &Path) -> Result<(), DiskError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => check_dir(dir),
        Err(cause) => Err(cannot("create the directory", dir)(cause).into()),
    }
}

/// Checks that the path names a directory, or a link to one.
fn check_dir(dir: &Path) -> Result<(), DiskError> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(DiskError::NoDirectory { dir: dir.into(), what: "it is a file".into() }),
        Err(_) if dir.is_symlink() => {
            let what = "it is a symbolic link to something that does not exist or cannot be reached".into();
            Err(DiskError::NoDirectory { dir: dir.into(), what })
        }
        Err(cause) => Err(cannot("look at", dir)(cause).into()),
    }
}

/// Syncs a directory: only then are the names in it durable (fsync(2)).
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|opened| opened.sync_all()).map_err(cannot("sync the directory", dir))
}

/// The directory that holds the name of `dir`.
pub(super) fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => dir,
    }
}
