//! A model of a directory on a disk: the live content, the durable content, and the remains after a power cut.
//!
//! The model logs every operation in order. A power cut strikes between any two operations since the moment up to
//! which the outside world relies on them ([`Files::rely`]). All that was synced before it is kept. Of unsynced
//! bytes, any set of sectors is kept. Of unsynced names, any set of changes is kept, in order.
//!
//! After a failed sync the bytes that it should have synced are never synced: as a kernel may, the model regards
//! the pages as clean from then on. They read back until the power fails, no later sync writes them, and then they
//! are lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::rc::Rc;

use crate as store;

const SECTOR_BYTES: usize = 512;

/// A broken disk, as Linux reports it (errno(3)).
const EIO: i32 = 5;

/// A full disk.
const ENOSPC: i32 = 28;

/// Draws a number from 0 to its argument - 1.
pub type Draw<'a> = &'a mut dyn FnMut(u64) -> u64;

/// Returns true `per_million` times in a million. Without a chance it draws nothing.
fn hits(per_million: u64, below: Draw<'_>) -> bool {
    per_million > 0 && below(1_000_000) < per_million
}

/// A kind of operation that the file system refuses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A write, because the disk is full.
    Full,
    /// A sync, because the disk is broken.
    Sync,
}

/// A model of a directory. Clones share one directory.
#[derive(Clone, Debug, Default)]
pub struct Files(Rc<RefCell<Model>>);

#[derive(Debug, Default)]
struct Model {
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    contents: Vec<Content>,
    /// Changes of names since the last sync of the directory.
    renames: Vec<NameOp>,
    /// The operations since the outside world last relied on everything.
    journal: Vec<Op>,
    /// The kind of operation that is refused next.
    refuses: Option<Refusal>,
    /// How many more operations of any kind succeed before one fails.
    fails_after: Option<u64>,
}

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(String, usize),
    /// Moves the content of the first name to the second. It keeps the content, because the first name may be lost.
    Rename(String, String, usize),
    Unlink(String),
}

#[derive(Debug)]
enum Op {
    Write(usize, usize, Vec<u8>),
    Sync(usize),
    /// Earlier writes that are not synced yet will never be.
    SyncFails(usize),
    Name(NameOp),
    SyncNames,
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameOp::Link(name, content) => drop(names.insert(name.clone(), *content)),
            NameOp::Rename(from, to, content) => {
                names.remove(from);
                names.insert(to.clone(), *content);
            }
            NameOp::Unlink(name) => drop(names.remove(name)),
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    if bytes.len() < at + with.len() {
        bytes.resize(at + with.len(), 0);
    }
    bytes[at..at + with.len()].copy_from_slice(with);
}

impl Model {
    /// An operation of the journal takes effect on the disk.
    fn pass(&mut self, op: Op) {
        match op {
            Op::Write(content, at, bytes) => self.contents[content].writes.push((at, bytes)),
            Op::Sync(content) => {
                let content = &mut self.contents[content];
                for (at, bytes) in content.writes.drain(..) {
                    overwrite(&mut content.durable, at, &bytes);
                }
            }
            Op::SyncFails(content) => self.contents[content].writes.clear(),
            Op::Name(op) => self.renames.push(op),
            Op::SyncNames => self.renames.drain(..).for_each(|op| op.apply(&mut self.durable)),
        }
    }

    fn name(&mut self, op: NameOp) {
        op.apply(&mut self.live);
        self.journal.push(Op::Name(op));
    }

    /// Fails if no more operations of any kind may succeed.
    fn must_go_on(&mut self) -> io::Result<()> {
        match self.fails_after.take() {
            Some(0) => Err(io::Error::from_raw_os_error(EIO)),
            after => {
                self.fails_after = after.map(|after| after - 1);
                Ok(())
            }
        }
    }

    /// Fails if this kind is to be refused, with the error of an operating system.
    fn must_allow(&mut self, what: Refusal) -> io::Result<()> {
        self.must_go_on()?;
        match self.refuses.take_if(|refused| *refused == what) {
            None => Ok(()),
            Some(Refusal::Full) => Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Refusal::Sync) => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    fn content(&self, name: &str) -> io::Result<usize> {
        self.live.get(name).copied().ok_or_else(|| io::Error::new(ErrorKind::NotFound, name))
    }
}

impl Content {
    /// Of unsynced bytes, a set of sectors is kept: none, some or all.
    fn lose(&mut self, keeps: u64, below: Draw<'_>) {
        for (at, bytes) in std::mem::take(&mut self.writes) {
            let mut from = 0;
            while from < bytes.len() {
                let to = bytes.len().min(from + SECTOR_BYTES - (at + from) % SECTOR_BYTES);
                if keeps == 2 || (keeps == 1 && hits(500_000, below)) {
                    overwrite(&mut self.durable, at + from, &bytes[from..to]);
                }
                from = to;
            }
        }
        self.live = self.durable.clone();
    }
}

impl Files {
    /// From now on the next operation of that kind is refused. Returns the earlier refusal, if it has not happened
    /// yet.
    pub fn refuse(&self, refusal: Option<Refusal>) -> Option<Refusal> {
        std::mem::replace(&mut self.0.borrow_mut().refuses, refusal)
    }

    /// Lets one operation fail after `operations` more that change anything. Returns how many were left of an
    /// earlier call.
    pub fn fail_after(&self, operations: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.0.borrow_mut().fails_after, operations)
    }

    /// The outside world relies on all operations so far: no power cut undoes them.
    pub fn rely(&self) {
        let model = &mut *self.0.borrow_mut();
        for op in std::mem::take(&mut model.journal) {
            model.pass(op);
        }
    }

    /// The power fails, at some moment since the last [`Files::rely`].
    pub fn cut_power(&self, below: Draw<'_>) {
        let model = &mut *self.0.borrow_mut();
        let journal = std::mem::take(&mut model.journal);
        // Most often during a sync: a write may be torn then.
        let last_sync = journal.iter().rposition(|op| matches!(op, Op::Sync(_) | Op::SyncNames));
        let passed = match last_sync.filter(|_| hits(700_000, below)) {
            Some(before) => before as u64,
            None => below(journal.len() as u64 + 1),
        };
        for op in journal.into_iter().take(passed as usize) {
            model.pass(op);
        }
        let keeps = [0, 1, 1, 2][below(4) as usize];
        model.contents.iter_mut().for_each(|content| content.lose(keeps, below));
        let names = [0, 500_000, 500_000, 1_000_000][below(4) as usize];
        let kept: Vec<NameOp> = model.renames.drain(..).filter(|_| hits(names, below)).collect();
        kept.iter().for_each(|op| op.apply(&mut model.durable));
        model.live = model.durable.clone();
    }

    /// Changes the bytes of a file without its owner's knowledge.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let model = &mut *self.0.borrow_mut();
        if let Some(at) = model.live.get(name) {
            let content = &mut model.contents[*at];
            change(&mut content.durable);
            content.live = content.durable.clone();
        }
    }

    /// A copy of all live content, as of one disk to another. Everything in the copy is durable.
    pub fn copy(&self) -> Files {
        let model = self.0.borrow();
        let copy = |content: &Content| Content {
            live: content.live.clone(),
            durable: content.live.clone(),
            writes: Vec::new(),
        };
        let (live, durable) = (model.live.clone(), model.live.clone());
        let contents = model.contents.iter().map(copy).collect();
        Files(Rc::new(RefCell::new(Model { live, durable, contents, ..Model::default() })))
    }

    /// The live content of a file. Empty if there is no such file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let model = self.0.borrow();
        model.live.get(name).map(|at| model.contents[*at].live.clone()).unwrap_or_default()
    }
}

impl store::Files for Files {
    type File = usize;

    fn place(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().live.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        let model = &mut *self.0.borrow_mut();
        model.must_go_on()?;
        model.contents.push(Content::default());
        let content = model.contents.len() - 1;
        model.name(NameOp::Link(name.into(), content));
        Ok(content)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.0.borrow().content(name)
    }

    fn length(&self, file: &usize) -> io::Result<u64> {
        Ok(self.0.borrow().contents[*file].live.len() as u64)
    }

    fn write_at(&self, file: &usize, bytes: &[u8], at: u64) -> io::Result<()> {
        let model = &mut *self.0.borrow_mut();
        model.must_allow(Refusal::Full)?;
        overwrite(&mut model.contents[*file].live, at as usize, bytes);
        model.journal.push(Op::Write(*file, at as usize, bytes.to_vec()));
        Ok(())
    }

    fn read_at(&self, file: &usize, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let model = self.0.borrow();
        let live = &model.contents[*file].live;
        let found = live.get(at as usize..at as usize + bytes.len());
        bytes.copy_from_slice(found.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn sync_data(&self, file: &usize) -> io::Result<()> {
        let model = &mut *self.0.borrow_mut();
        let allowed = model.must_allow(Refusal::Sync);
        model.journal.push(if allowed.is_ok() { Op::Sync(*file) } else { Op::SyncFails(*file) });
        allowed
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let model = &mut *self.0.borrow_mut();
        model.must_go_on()?;
        let content = model.content(from)?;
        model.name(NameOp::Rename(from.into(), to.into(), content));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let model = &mut *self.0.borrow_mut();
        model.must_go_on()?;
        model.content(name)?;
        model.name(NameOp::Unlink(name.into()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let model = &mut *self.0.borrow_mut();
        model.must_go_on()?;
        model.journal.push(Op::SyncNames);
        Ok(())
    }
}
