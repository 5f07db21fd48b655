//! The disk of one simulated machine: the real [`Store`], on a model of a directory.
//!
//! A commit is done in memory when it begins; when its sync ends, the world relies on it. A crash between
//! strikes between any two of its file operations, and a failed sync is the same: what the kernel did with
//! the pages is not known. Tasks of the store take their steps at random moments.

use super::chance::Chance;
use super::files::Files;
use crate::record::Record;
use crate::record::block::{Chain, Scanner};
use crate::store::segment::Head;
use crate::store::{self, Options, Past, Source, Store, StoreError, Task};
use crate::types::Instance;

/// Tiny, so that segments roll over, and old values are compacted, several times in a run.
const OPTIONS: Options = Options { segment_bytes: 4096 };

/// The disk of one node.
#[derive(Debug)]
pub struct Disk {
    files: Files,
    seed: u64,
    store: Option<Store<Files>>,
    tasks: Vec<Task<Files>>,
    /// Records appended, and not yet durable.
    batch: Vec<Record>,
    /// The number of the last block that the world relies on.
    relied: u64,
}

/// What opening a disk found.
#[derive(Debug)]
pub struct Opened {
    /// The records, in order, from the first remaining segment on.
    pub records: Vec<Record>,
    /// Those that nobody knew to be durable.
    pub news: Vec<Record>,
    /// Whether something was cut that a crash had cut short.
    pub is_torn: bool,
}

impl Disk {
    /// An empty disk, whose log has this random number.
    pub fn new(seed: u64) -> Disk {
        let files = Files::default();
        store::create(&files, seed, &OPTIONS).expect("the model refuses nothing");
        files.rely();
        Disk { files, seed, store: None, tasks: Vec::new(), batch: Vec::new(), relied: 0 }
    }

    /// The log's random number: the incarnation.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Appends a record, in memory.
    pub fn append(&mut self, record: &Record) {
        self.store().append_with(|batch| record.encode(batch));
        self.batch.push(record.clone());
    }

    /// Begins to write what was appended.
    pub fn begin_sync(&mut self, source: &dyn Source) {
        while self.store().is_blocked() {
            let task = self.tasks.pop().expect("who is blocked waits for a task");
            let done = task.run(&self.files).expect("the model refuses nothing");
            self.store().finish(done);
        }
        self.store().commit(source).expect("the model refuses nothing");
        while let Some(task) = self.store().task(source) {
            self.tasks.push(task);
        }
    }

    /// The sync is done: hands out the records that are durable from now on.
    pub fn end_sync(&mut self) -> Vec<Record> {
        self.files.rely();
        self.relied = self.store().sequence();
        std::mem::take(&mut self.batch)
    }

    /// Takes a step of some task, if there is one. Says how far old values need not be held any more.
    pub fn work(&mut self, chance: &mut Chance) -> Option<Instance> {
        let at = chance.below(self.tasks.len() as u64) as usize;
        let is_done = self.tasks.get_mut(at)?.step(&self.files).expect("the model refuses nothing");
        if is_done {
            let task = self.tasks.swap_remove(at);
            self.store().finish(task);
        }
        Some(self.store().compacted())
    }

    /// The power fails.
    pub fn cut_power(&mut self, chance: &mut Chance) {
        self.store = None;
        self.tasks.clear();
        self.batch.clear();
        self.files.cut_power(chance);
    }

    /// Flips one bit: of a block of the log that is not the last, or of the history. False when there is
    /// neither.
    pub fn flip_bit(&mut self, chance: &mut Chance) -> bool {
        let names = store::Files::list(&self.files).expect("the model refuses nothing");
        let (logs, values): (Vec<String>, Vec<String>) =
            names.into_iter().filter(|name| !name.ends_with(".tmp")).partition(|name| name.ends_with(".log"));
        let mut places: Vec<(String, usize, usize)> = Vec::new();
        for name in logs {
            let bytes = self.files.bytes(&name);
            let (_, at) = Head::parse(&bytes).expect("a segment has its name when its head is durable");
            if let Some(chain) = Chain::cited_by(&bytes[at..]) {
                let blocks = Scanner::new(&bytes, at, chain);
                places.extend(blocks.map(|block| (name.clone(), block.at, block.end())));
            }
        }
        // A last block that is hurt after its sync cannot be told from one that was never whole.
        places.pop();
        if places.is_empty() || chance.hits(250_000) {
            let whole = |name: String| (name.clone(), 0, self.files.bytes(&name).len());
            places.extend(values.into_iter().map(whole));
        }
        let at = chance.below(places.len() as u64) as usize;
        let Some((name, from, to)) = places.get(at) else { return false };
        let bit = chance.below((to - from) as u64 * 8) as usize;
        self.files.damage(name, |bytes| bytes[from + bit / 8] ^= 1 << (bit % 8));
        true
    }

    /// Reads the log as a node does when it starts, and mends what a crash cut short.
    ///
    /// # Errors
    /// When what is found is damaged. No crash may leave that.
    pub fn open(&mut self) -> Result<Opened, StoreError> {
        let (mut records, mut news) = (Vec::new(), Vec::new());
        let mut in_checkpoint = false;
        let relied = self.relied;
        let opened = Store::open(self.files.clone(), self.seed, &OPTIONS, &mut |found| {
            let record = Record::parse(found.line).map_err(|error| error.to_string())?;
            in_checkpoint |= matches!(record, Record::Checkpoint { .. });
            if found.sequence > relied && !in_checkpoint {
                news.push(record.clone());
            }
            in_checkpoint &= record != Record::CheckpointEnd;
            records.push(record);
            Ok(())
        })?;
        self.files.rely();
        self.relied = opened.store.sequence();
        self.store = Some(opened.store);
        Ok(Opened { records, news, is_torn: !opened.warnings.is_empty() })
    }

    /// How far old values need not be held in memory.
    pub fn compacted(&self) -> Instance {
        self.store.as_ref().map_or(Instance(0), Store::compacted)
    }

    /// Old values, as a node looks them up.
    ///
    /// # Errors
    /// When the history is damaged. No crash may leave that.
    pub fn past(&self, first: Instance, last: Instance, bytes: usize) -> Result<Vec<Past>, StoreError> {
        self.store.as_ref().map_or(Ok(Vec::new()), |store| store.past(first, last, bytes))
    }

    fn store(&mut self) -> &mut Store<Files> {
        self.store.as_mut().expect("a node that runs has opened its disk")
    }
}
