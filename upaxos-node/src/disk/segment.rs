//! The files of a log: numbered, of one size, written with zeros before they are used.
//!
//! A sync of blocks that were written before costs about half of one that has to record new blocks or a
//! new length in the file system, so a segment is filled with zeros ahead of time, in the background, and
//! then overwritten in place.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::error::{Context, DiskError};
use super::identity::sync_dir;

/// One file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub path: PathBuf,
    pub file: File,
    pub bytes: u64,
}

impl Segment {
    /// Opens a segment that is there.
    pub fn open(dir: &Path, number: u64) -> Result<Segment, DiskError> {
        let path = path(dir, number);
        let file = OpenOptions::new().read(true).write(true).open(&path).act("open", &path)?;
        let bytes = file.metadata().act("read the length of", &path)?.len();
        Ok(Segment { number, path, file, bytes })
    }

    /// Makes a segment of zeros, durable before its name is; one that is there already is taken as it is.
    pub fn prepare(dir: &Path, number: u64, bytes: u64) -> Result<Segment, DiskError> {
        let path = path(dir, number);
        if path.exists() {
            return Segment::open(dir, number);
        }
        let draft = path.with_extension("log.tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .act("create", &draft)?;
        fill(&mut file, bytes).act("fill with zeros", &draft)?;
        fs::rename(&draft, &path).act("rename to", &path)?;
        sync_dir(dir)?;
        Segment::open(dir, number)
    }
}

fn fill(file: &mut File, bytes: u64) -> std::io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut left = bytes as usize;
    while left > 0 {
        let chunk = left.min(zeros.len());
        file.write_all(&zeros[..chunk])?;
        left -= chunk;
    }
    file.sync_all()
}

/// A segment that is being prepared in the background.
#[derive(Debug)]
pub(super) struct Next(Option<JoinHandle<Result<Segment, DiskError>>>);

impl Next {
    pub fn begin(dir: &Path, number: u64, bytes: u64) -> Next {
        let dir = dir.to_owned();
        Next(Some(std::thread::spawn(move || Segment::prepare(&dir, number, bytes))))
    }

    /// Waits until it is ready.
    pub fn take(mut self) -> Result<Segment, DiskError> {
        let worker = self.0.take().expect("a next segment is taken once");
        worker.join().expect("preparing a segment does not panic")
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        // So that nobody writes into the directory after its lock is gone.
        if let Some(worker) = self.0.take() {
            let _ = worker.join();
        }
    }
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

/// The numbers of the segments of a directory, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, DiskError> {
    let mut numbers: Vec<u64> = names(dir)?
        .iter()
        .filter_map(|name| name.strip_suffix(".log").filter(|stem| stem.len() == 8)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what an earlier process had begun to prepare.
pub(super) fn remove_drafts(dir: &Path) -> Result<(), DiskError> {
    for name in names(dir)?.iter().filter(|name| name.ends_with(".tmp")) {
        let path = dir.join(name);
        fs::remove_file(&path).act("remove", &path)?;
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>, DiskError> {
    let entries = fs::read_dir(dir).act("list", dir)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().act("list", dir)
}
