//! A disk: what is durable, what is under way, and what a power cut leaves of it.
//!
//! Holds the very bytes that the real log would hold, in the real framing. It follows the contract of
//! [`block`]: one block, one write, one sync. A crash keeps any part of the block that was being
//! written, sector by sector, in any order. A sync that fails is the same and ends the node: what the
//! kernel did with the pages is not known.

use super::chance::Chance;
use crate::record::Record;
use crate::record::block::{self, Chain, End, Scanner};

const SECTOR_BYTES: usize = 512;

/// The disk of one node.
#[derive(Debug)]
pub struct Disk {
    /// What a reader would find; behind it are zeros.
    image: Vec<u8>,
    chain: Chain,
    /// Records appended since the last sync: they are in memory only.
    body: Vec<u8>,
    /// The block being written.
    under_way: Vec<u8>,
    under_way_chain: Chain,
    seed: u64,
}

/// What opening a disk found.
#[derive(Debug)]
pub struct Opened {
    /// The records, in order.
    pub records: Vec<Record>,
    /// How many bytes of a torn block were cut.
    pub torn_bytes: usize,
}

impl Disk {
    /// An empty disk, whose log has this random number.
    pub fn new(seed: u64) -> Disk {
        let chain = Chain::new(seed);
        let (image, body, under_way) = (Vec::new(), Vec::new(), Vec::new());
        Disk { image, chain, body, under_way, under_way_chain: chain, seed }
    }

    /// The log's random number: the incarnation.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Appends a record, in memory.
    pub fn append(&mut self, record: &Record) {
        record.encode(&mut self.body);
        self.body.push(b'\n');
    }

    /// Begins to write what was appended, as one block.
    pub fn begin_sync(&mut self) {
        self.under_way.clear();
        self.under_way_chain = self.chain;
        if !self.body.is_empty() {
            block::seal(&mut self.under_way_chain, &self.body, &mut self.under_way);
            self.body.clear();
        }
    }

    /// The sync is done: hands out the records that are durable from now on.
    pub fn end_sync(&mut self) -> Vec<Record> {
        let at = self.image.len();
        self.image.append(&mut self.under_way);
        let mut scanner = Scanner::new(&self.image, at, self.chain);
        let records = scanner.by_ref().flat_map(|block| records(block.body)).collect();
        self.chain = self.under_way_chain;
        records
    }

    /// The power fails. Of a block under way any sectors are kept; hands out its records if it is whole.
    pub fn cut_power(&mut self, chance: &mut Chance) -> Vec<Record> {
        self.body.clear();
        let block = std::mem::take(&mut self.under_way);
        if block.is_empty() {
            return Vec::new();
        }
        let at = self.image.len();
        let keeps = chance.below(3);
        let mut torn = self.image.clone();
        torn.resize(at + block.len(), 0);
        for sector in at / SECTOR_BYTES..=(at + block.len() - 1) / SECTOR_BYTES {
            let is_kept = keeps == 2 || (keeps == 1 && chance.hits(500_000));
            if is_kept {
                let from = (sector * SECTOR_BYTES).max(at);
                let to = ((sector + 1) * SECTOR_BYTES).min(at + block.len());
                torn[from..to].copy_from_slice(&block[from - at..to - at]);
            }
        }
        let is_whole = torn[at..] == block[..];
        self.image = torn;
        if is_whole {
            Scanner::new(&self.image, at, self.chain).flat_map(|b| records(b.body)).collect()
        } else {
            Vec::new()
        }
    }

    /// Reads the log as a node does when it starts, and cuts a torn tail.
    ///
    /// # Errors
    /// When what is found is neither a log nor a log with a torn tail. No crash may leave that.
    pub fn open(&mut self) -> Result<Opened, String> {
        let mut scanner = Scanner::new(&self.image, 0, Chain::new(self.seed));
        let mut found = Vec::new();
        for block in scanner.by_ref() {
            for line in lines(block.body) {
                found.push(Record::parse(line).map_err(|error| format!("at byte {}: {error}", block.at))?);
            }
        }
        self.chain = scanner.reached().1;
        let (at, torn_bytes) = match scanner.end() {
            End::Clean { at } => (at, 0),
            End::Torn { at, bytes } => (at, bytes),
            damaged @ End::Damaged { .. } => return Err(format!("{damaged:?}")),
        };
        self.image.truncate(at);
        Ok(Opened { records: found, torn_bytes })
    }
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn records(body: &[u8]) -> Vec<Record> {
    lines(body).map(|line| Record::parse(line).expect("what was just printed reads back")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::chance::Stream;
    use super::*;
    use crate::types::{Ballot, Instance};

    fn accept(instance: u64, bytes: usize) -> Record {
        let value = vec![b'v'; bytes].into();
        Record::Accept { instance: Instance(instance), ballot: Ballot::first_epoch(1), value }
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_of_the_rest_a_block_or_nothing() {
        let mut tails = [0, 0, 0];
        for seed in 0..200 {
            let mut disk = Disk::new(seed);
            let mut chance = Chance::new(seed, Stream::Disk);
            disk.append(&accept(1, 700));
            disk.begin_sync();
            assert_eq!(disk.end_sync(), [accept(1, 700)]);
            disk.append(&accept(2, 2_000));
            disk.begin_sync();
            disk.append(&accept(3, 10));
            let kept = disk.cut_power(&mut chance);
            let opened = disk.open().expect("a torn tail is no damage");
            assert_eq!(opened.records.len(), 1 + kept.len());
            tails[if kept.len() == 1 { 2 } else { usize::from(opened.torn_bytes > 0) }] += 1;
            disk.append(&accept(4, 10));
            disk.begin_sync();
            disk.end_sync();
            let again = disk.open().expect("what follows a cut tail is whole").records;
            assert_eq!(again.last(), Some(&accept(4, 10)));
        }
        assert!(tails.iter().all(|count| *count > 20), "lost, torn and whole: {tails:?}");
    }
}
