//! One file of the log: a head, blocks, and zeros up to its full length.
//!
//! The zeros are written and synced before the file has its name, so that a commit overwrites
//! in place: it never allocates, never changes the file's length, and its fdatasync has no
//! metadata to write. The head is one block of its own, with its own chain:
//!
//! ```text
//! # 5704d563 8c28b28a 00000079 0000000000000001
//! ## upaxos log 1 segment 00000001 of 8388608 bytes incarnation 1f3a5c7e9b2d4f60
//! ```

use super::DiskError;
use super::error::cannot;
use super::lock::{private, sync_dir};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use upaxos_core::record::block::{self, Chain, Scanner};

/// No head is longer.
pub(super) const MAX_HEAD_BYTES: usize = 256;

/// What the first line of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Counted from 1; the file's name says it too.
    pub number: u64,
    /// The length that the file was made with.
    pub bytes: u64,
    /// Which directory it was made for.
    pub incarnation: u64,
}

impl Head {
    fn body(&self) -> String {
        format!(
            "## upaxos log 1 segment {:08} of {} bytes incarnation {:016x}\n",
            self.number, self.bytes, self.incarnation
        )
    }

    fn seal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_HEAD_BYTES);
        block::seal(&mut head_chain(), self.body().as_bytes(), &mut out);
        out
    }

    /// The head of a segment, and where its blocks begin.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Head, usize)> {
        let block = Scanner::new(bytes, 0, head_chain()).next()?;
        let words: Vec<&str> = str::from_utf8(block.body).ok()?.split_whitespace().collect();
        let head = Head {
            number: words.get(5)?.parse().ok()?,
            bytes: words.get(7)?.parse().ok()?,
            incarnation: u64::from_str_radix(words.get(10)?, 16).ok()?,
        };
        (head.body().as_bytes() == block.body).then_some((head, block.end()))
    }
}

/// Heads are not part of the log's chain: they are written before anyone knows its end.
fn head_chain() -> Chain {
    Chain::new(0)
}

/// A segment that blocks are written to.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    number: u64,
    /// Where the next block goes.
    at: u64,
    bytes: u64,
}

impl Segment {
    /// Makes a segment, whole and durable before it has its name.
    pub(super) fn create(dir: &Path, head: &Head) -> io::Result<Segment> {
        let (path, draft) = (path(dir, head.number), draft_path(dir, head.number));
        let file = private().create(true).truncate(true).open(&draft);
        let file = file.map_err(cannot("create", &draft))?;
        let sealed = head.seal();
        let mut segment =
            Segment { file, path: draft, number: head.number, at: sealed.len() as u64, bytes: head.bytes };
        segment.put(&sealed, 0)?;
        segment.zero(segment.at, head.bytes)?;
        fs::rename(&segment.path, &path).map_err(cannot("rename", &segment.path))?;
        sync_dir(dir)?;
        segment.path = path;
        Ok(segment)
    }

    /// Opens a segment to write on from `at`.
    pub(super) fn open(dir: &Path, number: u64, at: u64) -> io::Result<Segment> {
        let path = path(dir, number);
        let file = private().open(&path).map_err(cannot("open", &path))?;
        let bytes = file.metadata().map_err(cannot("measure", &path))?.len();
        Ok(Segment { file, path, number, at, bytes })
    }

    /// The segment after the one in use: there already if an earlier run prepared it.
    pub(super) fn open_or_create(dir: &Path, head: &Head) -> io::Result<Segment> {
        if !path(dir, head.number).exists() {
            return Segment::create(dir, head);
        }
        let mut segment = Segment::open(dir, head.number, 0)?;
        let mut start = vec![0; MAX_HEAD_BYTES.min(segment.bytes as usize)];
        let read = segment.file.read_exact_at(&mut start, 0);
        read.map_err(cannot("read", &segment.path))?;
        let found = Head::parse(&start).filter(|(found, _)| found.number == head.number);
        let (_, at) = found.ok_or_else(|| {
            let cause = io::Error::new(io::ErrorKind::InvalidData, "its head is damaged");
            cannot("go on in", &segment.path)(cause)
        })?;
        segment.at = at as u64;
        Ok(segment)
    }

    /// The number in its name.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether a block of so many bytes fits in what is left.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes.saturating_sub(self.at) >= bytes as u64
    }

    /// Whether it is time to think of the next one.
    pub(super) fn is_half_full(&self) -> bool {
        self.at >= self.bytes / 2
    }

    /// Writes one block and makes it durable: one write, one sync.
    pub(super) fn append(&mut self, block: &[u8]) -> io::Result<()> {
        self.put(block, self.at)?;
        self.sync()?;
        self.at += block.len() as u64;
        Ok(())
    }

    /// Writes zeros over `from..to` and makes them durable, and the file's length with them.
    pub(super) fn zero(&mut self, from: u64, to: u64) -> io::Result<()> {
        let zeros = [0; 64 * 1024];
        for at in (from..to).step_by(zeros.len()) {
            let length = zeros.len().min((to - at) as usize);
            self.put(&zeros[..length], at)?;
        }
        self.bytes = self.bytes.max(to);
        self.file.sync_all().map_err(cannot("sync", &self.path))
    }

    /// Writes once more what the file says in `at..at + length`, and syncs it.
    pub(super) fn rewrite(&mut self, at: u64, length: usize) -> io::Result<()> {
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(cannot("read", &self.path))?;
        self.put(&bytes, at)?;
        self.sync()
    }

    fn put(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at).map_err(|cause| {
            let act = format_args!("write {} bytes at byte {at} of", bytes.len());
            cannot(act, &self.path)(cause)
        })
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.file.sync_data();
        synced.map_err(|cause| cannot(format_args!("sync up to byte {} of", self.at), &self.path)(cause))
    }
}

/// Reads a whole segment into `bytes`. Returns its head and where its blocks begin.
pub(super) fn load(file: &Path, bytes: &mut Vec<u8>, most: u64) -> Result<(Head, usize), DiskError> {
    let damaged = |what: String| DiskError::Damaged { file: file.into(), at: 0, what };
    bytes.clear();
    let opened = File::open(file).map_err(cannot("open", file))?;
    let read = opened.take(most + 1).read_to_end(bytes);
    read.map_err(cannot("read", file))?;
    if bytes.len() as u64 > most {
        return Err(damaged(format!("it is longer than any segment ({most} bytes)")));
    }
    Head::parse(bytes).ok_or_else(|| damaged("its head is missing or damaged".into()))
}

/// The numbers of the segments in `dir`, in order.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = names(dir)?
        .iter()
        .filter_map(|name| name.strip_suffix(".log"))
        .filter(|stem| stem.len() == 8)
        .filter_map(|stem| stem.parse().ok())
        .collect::<Vec<u64>>();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what an earlier run began to prepare and did not finish. It never held a record.
pub(super) fn remove_drafts(dir: &Path) -> io::Result<()> {
    for name in names(dir)?.iter().filter(|name| name.ends_with(".log.tmp")) {
        let path = dir.join(name);
        fs::remove_file(&path).map_err(cannot("remove", &path))?;
    }
    Ok(())
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    list().map_err(cannot("list", dir))
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

fn draft_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log.tmp"))
}
