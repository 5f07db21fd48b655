//! The disk of one simulated machine: the real [`Store`] on a model of a directory.
//!
//! A commit changes memory when it begins; the outside world relies on it when its sync ends. A crash in the
//! meantime may strike between any two of its file operations. A failed sync ends the process. The machine may go
//! on, and then unsynced bytes read back until the power fails. Tasks of the store take their steps at random
//! moments, and may fail, too.

use std::io;

use upaxos_core::past::{Past, Source};
use upaxos_core::record::block::{Chain, Scanner};
use upaxos_core::record::{self, Record};
use upaxos_core::types::Instance;
use upaxos_storage::model::Files;
pub use upaxos_storage::model::Refusal;
use upaxos_storage::segment::Head;
use upaxos_storage::{self as store, Options, Store, StoreError, Task};

use super::rng::Rng;

/// Tiny, so that segments roll over and old values are compacted several times in a run.
const OPTIONS: Options = Options { segment_bytes: 4096 };

/// The disk of one simulated node. Each machine owns one, and a wipe replaces it.
#[derive(Debug)]
pub struct Disk {
    files: Files,
    seed: u64,
    store: Option<Store<Files>>,
    tasks: Vec<Task<Files>>,
    /// Records appended and not yet durable.
    batch: Vec<Record>,
    /// The number of the last block that the outside world relies on.
    relied: u64,
    /// The kind of operation that fails next, if any.
    fails: Option<Refusal>,
}

/// The content of a disk, as opening it reads it.
#[derive(Debug)]
pub struct Opened {
    /// The records, in order, from the first remaining segment on.
    pub records: Vec<Record>,
    /// The records that were not known to be durable before.
    pub news: Vec<Record>,
    /// The records that mark a value as lost.
    pub lost: Vec<Record>,
    /// Whether a write that a crash had cut short was truncated.
    pub is_torn: bool,
}

/// The place of a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// Inside a value of the log: the node must start without that value.
    Value,
    /// In the checkpoint that ends the log: the node may start from the segment before, or refuse to start.
    Spare,
    /// Elsewhere: the node must refuse to start.
    Else,
}

/// Bytes that are all synced: a block of the log, or a whole history file.
struct Place {
    name: String,
    from: usize,
    to: usize,
    /// Whether it is a block of a checkpoint.
    is_checkpoint: bool,
    /// Whether the peers have the values in it, too.
    may_lose_values: bool,
}

impl Disk {
    /// An empty disk. `seed` is the random number of its log.
    pub fn new(seed: u64) -> Disk {
        let files = Files::default();
        store::create(&files, seed, &OPTIONS).expect("the model refuses nothing");
        files.rely();
        Disk { files, seed, store: None, tasks: Vec::new(), batch: Vec::new(), relied: 0, fails: None }
    }

    /// The random number of the log: the incarnation of its node.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Appends a record, in memory.
    pub fn append(&mut self, record: &Record) {
        self.store().append_with(|batch| record.encode(batch));
        self.batch.push(record.clone());
    }

    /// Begins to write all appended records.
    ///
    /// # Errors
    /// When [`Disk::fail`] asked for that.
    pub fn begin_sync(&mut self, source: &dyn Source) -> io::Result<()> {
        while self.store().is_blocked() {
            let task = self.tasks.pop().expect("a blocked store waits for a task");
            let done = task.run(&self.files).expect("the model refuses nothing");
            self.store().finish(done);
        }
        self.files.refuse(self.fails);
        let done = self.store().commit(source);
        self.fails = self.files.refuse(None);
        done?;
        while let Some(task) = self.store().task(source) {
            self.tasks.push(task);
        }
        Ok(())
    }

    /// From now on the next operation of that kind fails. `None` cancels that.
    pub fn fail(&mut self, fails: Option<Refusal>) {
        self.fails = fails;
    }

    /// The process ends. The machine goes on, and keeps all that the process has written.
    pub fn close(&mut self) {
        self.store = None;
        self.tasks.clear();
        self.batch.clear();
    }

    /// The sync is done. Returns the records that are durable from now on.
    pub fn end_sync(&mut self) -> Vec<Record> {
        self.files.rely();
        self.relied = self.store().sequence();
        std::mem::take(&mut self.batch)
    }

    /// Takes one step of a random task, if there is one. Returns the instance up to which old values need not be
    /// kept in memory any more. A failed task makes the next commit fail.
    pub fn work(&mut self, chance: &mut Rng) -> Option<Instance> {
        let at = chance.below(self.tasks.len() as u64) as usize;
        let task = self.tasks.get_mut(at)?;
        self.files.refuse(self.fails);
        let step = task.step(&self.files);
        self.fails = self.files.refuse(None);
        match step {
            Ok(false) => {}
            Ok(true) => {
                let task = self.tasks.swap_remove(at);
                self.store().finish(task);
            }
            Err(failure) => {
                self.tasks.swap_remove(at);
                self.store().fail(&failure);
            }
        }
        Some(self.store().compacted())
    }

    /// A copy of the disk, with the bytes that are not synced yet.
    pub fn copy(&self) -> Disk {
        let (files, seed, relied) = (self.files.copy(), self.seed, self.relied);
        Disk { files, seed, store: None, tasks: Vec::new(), batch: Vec::new(), relied, fails: None }
    }

    /// The power fails. Unsynced bytes may be lost.
    pub fn cut_power(&mut self, chance: &mut Rng) {
        self.close();
        self.files.cut_power(&mut |end| chance.below(end));
    }

    /// Flips one bit of a block of the log, or of the history. Returns `None` when there is neither.
    pub fn flip_bit(&mut self, chance: &mut Rng) -> Option<Flip> {
        let names = store::Files::list(&self.files).expect("the model refuses nothing");
        let (logs, values): (Vec<String>, Vec<String>) =
            names.into_iter().filter(|name| !name.ends_with(".tmp")).partition(|name| name.ends_with(".log"));
        let mut places: Vec<Place> = logs.into_iter().flat_map(|name| self.blocks(name)).collect();
        let spare =
            places.last().filter(|place| place.is_checkpoint).map(|place| (place.name.clone(), place.from));
        if places.is_empty() || chance.hits(250_000) {
            let whole = |name: String| {
                let to = self.files.bytes(&name).len();
                Place { name, from: 0, to, is_checkpoint: false, may_lose_values: false }
            };
            places.extend(values.into_iter().map(whole));
        }
        let values: Vec<(String, usize)> = places.iter().flat_map(|place| self.values_in(place)).collect();
        let aimed = (!values.is_empty() && chance.hits(400_000)).then(|| chance.below(values.len() as u64));
        let (name, at) = match aimed {
            Some(value) => values[value as usize].clone(),
            None => {
                let place = places.get(chance.below(places.len() as u64) as usize)?;
                let at = place.from + chance.below((place.to - place.from) as u64) as usize;
                (place.name.clone(), at)
            }
        };
        let mask = 1 << chance.below(8);
        let is_newline = self.files.bytes(&name)[at] ^ mask == b'\n';
        self.files.damage(&name, |bytes| bytes[at] ^= mask);
        if spare.is_some_and(|(last, from)| last == name && at >= from) {
            return Some(Flip::Spare);
        }
        let is_value = !is_newline && values.contains(&(name, at));
        Some(if is_value { Flip::Value } else { Flip::Else })
    }

    /// The bytes of a block that are inside values that the peers have, too.
    fn values_in(&self, place: &Place) -> Vec<(String, usize)> {
        let bytes = self.files.bytes(&place.name);
        let mut line_at = place.from;
        let mut found = Vec::new();
        for line in bytes[place.from..place.to].split(|byte| *byte == b'\n').filter(|_| place.may_lose_values)
        {
            let inside = (record::value_at(line)..line.len()).map(|at| (place.name.clone(), line_at + at));
            found.extend(inside);
            line_at += line.len() + 1;
        }
        found
    }

    /// The intact blocks of a segment, in order.
    fn blocks(&self, name: String) -> Vec<Place> {
        let bytes = self.files.bytes(&name);
        let (head, at) = Head::parse(&bytes).expect("a segment has its name when its head is durable");
        let Some(chain) = Chain::cited_by(&bytes[at..], record::value_at) else { return Vec::new() };
        let mut blocks = Scanner::new(&bytes, at, chain, record::value_at);
        let (mut found, mut in_checkpoint) = (Vec::new(), head.number > 1);
        loop {
            for block in blocks.by_ref() {
                let (is_checkpoint, may_lose_values) = (in_checkpoint, !in_checkpoint);
                let (name, from, to) = (name.clone(), block.at, block.end());
                found.push(Place { name, from, to, is_checkpoint, may_lose_values });
                in_checkpoint &= !block.body.ends_with(b"checkpoint-end\n");
            }
            if blocks.skip_hurt().is_none() {
                break;
            }
        }
        found
    }

    /// Reads the log as a node does when it starts, and repairs what a crash cut short.
    ///
    /// # Errors
    /// When the content is damaged. No crash may cause that.
    pub fn open(&mut self) -> Result<Opened, StoreError> {
        let (mut records, mut news, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut in_checkpoint = false;
        let relied = self.relied;
        let opened = Store::open(self.files.clone(), self.seed, &OPTIONS, &mut |found| {
            let record = found.record().map_err(|error| error.to_string())?;
            in_checkpoint |= matches!(record, Record::Checkpoint { .. });
            if found.sequence > relied && !in_checkpoint {
                news.push(record.clone());
            }
            in_checkpoint &= record != Record::CheckpointEnd;
            lost.extend(matches!(record, Record::Lost { .. }).then(|| record.clone()));
            records.push(record);
            Ok(())
        })?;
        self.files.rely();
        self.relied = opened.store.sequence();
        self.store = Some(opened.store);
        let is_torn = opened.warnings.iter().any(|warning| warning.contains("a crash cut"));
        Ok(Opened { records, news, lost, is_torn })
    }

    /// The instance up to which old values need not be kept in memory.
    pub fn compacted(&self) -> Instance {
        self.store.as_ref().map_or(Instance(0), Store::compacted)
    }

    /// Old values from `first` to `last`, up to `bytes` of them, as a node looks them up.
    ///
    /// # Errors
    /// When the history is damaged. No crash may cause that.
    pub fn past(&self, first: Instance, last: Instance, bytes: usize) -> Result<Vec<Past>, StoreError> {
        self.store.as_ref().map_or(Ok(Vec::new()), |store| store.past(first, last, bytes))
    }

    fn store(&mut self) -> &mut Store<Files> {
        self.store.as_mut().expect("a node that runs has opened its disk")
    }
}
