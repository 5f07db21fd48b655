//! The directory of a node, as the store wants it: [`Files`] over the real file system.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Files;
use crate::files::cannot;

use super::lock;

/// A node's directory. Only this user may read the files that it creates: values may be secrets.
#[derive(Clone, Debug)]
pub struct Dir {
    path: PathBuf,
    is_read_only: bool,
}

impl Dir {
    /// The directory at `path`, which must exist.
    pub fn new(path: &Path) -> Dir {
        Dir { path: path.into(), is_read_only: false }
    }

    /// The directory at `path` for a reader, which needs no permission to write there.
    pub fn to_read(path: &Path) -> Dir {
        Dir { path: path.into(), is_read_only: true }
    }
}

impl Files for Dir {
    type File = File;

    fn place(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let list = || -> io::Result<Vec<String>> { fs::read_dir(&self.path)?.map(name).collect() };
        list().map_err(cannot("list", &self.path))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        lock::must_be_regular(&path)?;
        lock::private().create(true).truncate(true).open(path)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        lock::must_be_regular(&path)?;
        if self.is_read_only { File::open(path) } else { lock::private().open(path) }
    }

    fn length(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn read_at(&self, file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
        file.read_exact_at(bytes, at)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        lock::sync_dir(&self.path)
    }
}
