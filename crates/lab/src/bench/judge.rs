//! The judges of a load: the logs of all nodes must agree, and hold every acknowledged write exactly once.
//!
//! Reads data directories after their nodes have ended, one record at a time, because a log may not fit into
//! memory. Trusts no report of a node or of the load about itself.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use upaxos_core::entry::Entry;
use upaxos_core::record::Reader;
use upaxos_core::types::{Instance, Tag, Value};
use upaxos_core::wire::Dialect;
use upaxos_storage::disk;

use super::load::{self, Run, Summary};

/// The numbers of a run that passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The number of entries in the log.
    pub entries: u64,
    /// The number of acknowledged requests, each found at its acknowledged instance.
    pub found: u64,
    /// The number of entries that repeat a request. They are void.
    pub repeated: u64,
    /// The number of blocks that each node has written since it was made: about the number of syncs.
    pub syncs: Vec<u64>,
}

/// Judges the logs in `dirs` against the load's summary and its acknowledgements `acks`.
///
/// # Errors
/// The first rule that does not hold.
pub fn judge(dirs: &[impl AsRef<Path>], load: &Summary, acks: &[Run]) -> Result<Verdict> {
    let mut first = Log::new(load);
    let mut syncs = Vec::new();
    for (index, dir) in dirs.iter().enumerate() {
        let mut log = Log::new(load);
        syncs.push(log.read(dir.as_ref())?);
        if index == 0 {
            first = log;
            continue;
        }
        let differs = first.hashes.iter().zip(&log.hashes).position(|(a, b)| a != b);
        if let Some(at) = differs {
            bail!("the logs of node 0 and node {index} differ at instance {}", at + 1);
        }
        let (of_first, of_this) = (first.hashes.len(), log.hashes.len());
        ensure!(
            of_this.min(of_first) as u64 >= load.last,
            "node 0 has learned {of_first} instances, node {index} {of_this}, and {} was acknowledged",
            load.last
        );
    }
    ensure!(load.stale == 0, "{} reads did not see the last value written", load.stale);
    let found = first.find(acks, load)?;
    Ok(Verdict { entries: first.hashes.len() as u64, found, repeated: first.repeated, syncs })
}

/// The summary of one log.
struct Log {
    first_client: u64,
    size: usize,
    /// One hash for each instance, from instance 1.
    hashes: Vec<u64>,
    /// For each session: the instance where each request has its effect, indexed by the request's number; 0 for
    /// none.
    effects: Vec<Vec<u64>>,
    repeated: u64,
    expected: Vec<u8>,
}

impl Log {
    fn new(load: &Summary) -> Log {
        Log {
            first_client: load.first_client,
            size: load.size as usize,
            hashes: Vec::new(),
            effects: vec![Vec::new(); load.clients as usize],
            repeated: 0,
            expected: load::filling(load.size as usize),
        }
    }

    /// Reads a directory. Returns the number of blocks that its log has had.
    fn read(&mut self, dir: &Path) -> Result<u64> {
        let mut reader = Reader::default();
        let mut blocks = 0;
        let log = std::cell::RefCell::new(self);
        disk::read(
            dir,
            &mut |past| log.borrow_mut().learned(past.instance, Some(&past.value)),
            &mut |found| {
                blocks = found.sequence;
                let record = found.record().map_err(|error| error.to_string())?;
                let mut learned = reader.take(&record).into_iter();
                learned.try_for_each(|(at, value)| log.borrow_mut().learned(at, value.as_ref()))
            },
        )?;
        Ok(blocks)
    }

    fn learned(&mut self, instance: Instance, value: Option<&Value>) -> Result<(), String> {
        let value = value.ok_or_else(|| format!("instance {instance} was learned, but its value is gone"))?;
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = hasher.finish();
        let at = (instance.0 - 1) as usize;
        if at < self.hashes.len() {
            // History and log overlap: both may hold an instance where they meet.
            let is_same = self.hashes[at] == hash;
            return if is_same { Ok(()) } else { Err(format!("instance {instance} reads in two ways")) };
        }
        if at > self.hashes.len() {
            return Err(format!("instance {} is not there, but {instance} is", self.hashes.len() + 1));
        }
        self.hashes.push(hash);
        match Entry::decode(instance, value, Dialect::Extended) {
            Entry::Tagged(tagged, value) => self.effect(tagged.tag, instance, Some(&value)),
            Entry::Read { tagged: Some(tagged), .. } => self.effect(tagged.tag, instance, None),
            _ => Ok(()),
        }
    }

    /// A request of the load is chosen at `instance`. The first entry of its tag is its effect.
    fn effect(&mut self, tag: Tag, instance: Instance, value: Option<&Value>) -> Result<(), String> {
        let session = tag.client.checked_sub(self.first_client).map_or(usize::MAX, |at| at as usize);
        let Some(effects) = self.effects.get_mut(session) else { return Ok(()) };
        if let Some(value) = value {
            load::value_of(tag.seq, &mut self.expected);
            if value.as_bytes() != self.expected.as_slice() {
                return Err(format!("instance {instance} holds {} bytes that no request wrote", self.size));
            }
        }
        let at = tag.seq as usize;
        if at >= effects.len() {
            effects.resize(at + 1, 0);
        }
        if effects[at] == 0 {
            effects[at] = instance.0;
        } else {
            self.repeated += 1;
        }
        Ok(())
    }

    /// Counts the acknowledged requests. Each must have its one effect at its acknowledged instance.
    fn find(&self, acks: &[Run], load: &Summary) -> Result<u64> {
        let mut found = 0;
        for run in acks {
            for nth in 0..run.count {
                let (seq, said) = (run.seq + nth, run.instance + nth);
                let effects = self.effects.get(run.session as usize);
                let is = effects.and_then(|effects| effects.get(seq as usize)).copied().unwrap_or(0);
                ensure!(
                    is == said,
                    "request {} {seq} was acknowledged at instance {said}, and has its effect at {}",
                    load.first_client + run.session,
                    if is == 0 { "none".to_owned() } else { is.to_string() }
                );
                found += 1;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use upaxos_core::past::Whole;
    use upaxos_core::record::Record;
    use upaxos_core::types::{Ballot, Tagged};
    use upaxos_storage::disk::{Disk, Options, Wanted};

    use super::*;

    const CLIENT: u64 = 700;

    /// The log entry of request `seq` of the first session.
    fn entry(seq: u64) -> Entry {
        let mut value = load::filling(8);
        load::value_of(seq, &mut value);
        Entry::Tagged(Tagged { tag: Tag { client: CLIENT, seq }, floor: 1 }, Value::from(value))
    }

    fn log(dir: &Path, entries: &[Entry]) -> PathBuf {
        let wanted = Wanted { id: 0, n: 3, incarnation_if_new: 9, dialect: Dialect::Extended, name: None };
        let mut disk = Disk::open(dir, &wanted, &Options::default(), &mut |_| Ok(())).unwrap().disk;
        let ballot = Ballot::first_epoch(65_538);
        for (at, entry) in entries.iter().enumerate() {
            let (instance, value) = (Instance(at as u64 + 1), entry.encode(Dialect::Extended));
            let accept = Record::Accept { instance, ballot, value };
            disk.append_with(|batch| accept.encode(batch));
            let chosen = Record::Chosen { first: instance, last: instance, ballot };
            disk.append_with(|batch| chosen.encode(batch));
            disk.commit(&Whole).unwrap();
        }
        dir.to_owned()
    }

    /// The verdict about two logs and these acknowledgements of the first session: (seq, instance).
    fn verdict(first: &[Entry], second: &[Entry], acks: &[(u64, u64)]) -> Result<Verdict> {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [log(&dir.path().join("0"), first), log(&dir.path().join("1"), second)];
        let acks: Vec<_> =
            acks.iter().map(|&(seq, instance)| Run { session: 0, seq, instance, count: 1 }).collect();
        let last = acks.iter().map(|run| run.instance).max().unwrap_or(0);
        let load = Summary { first_client: CLIENT, clients: 1, size: 8, last, ..Summary::default() };
        judge(&dirs, &load, &acks)
    }

    fn refusal(first: &[Entry], second: &[Entry], acks: &[(u64, u64)]) -> String {
        format!("{:#}", verdict(first, second, acks).expect_err("a rule is broken"))
    }

    #[test]
    fn logs_that_agree_and_hold_every_acknowledged_write_once_are_found_in_order() {
        let entries = [entry(1), Entry::Noop, entry(3), entry(1), entry(2)];
        let found = verdict(&entries, &entries, &[(1, 1), (3, 3), (2, 5)]).unwrap();
        assert_eq!((found.entries, found.found, found.repeated), (5, 3, 1));
        assert!(found.syncs.iter().all(|syncs| (5..9).contains(syncs)), "{:?}", found.syncs);
    }

    #[test]
    fn logs_that_differ_are_found_out() {
        let said = refusal(&[entry(1), entry(2)], &[entry(1), entry(3)], &[]);
        assert!(said.contains("differ at instance 2"), "{said}");
    }

    #[test]
    fn an_acknowledged_write_that_is_nowhere_or_elsewhere_is_found_out() {
        let entries = [entry(1), entry(2), entry(2)];
        let nowhere = refusal(&entries, &entries, &[(1, 1), (3, 3)]);
        assert!(nowhere.contains("has its effect at none"), "{nowhere}");
        let repeated = refusal(&entries, &entries, &[(2, 3)]);
        assert!(repeated.contains("at instance 3, and has its effect at 2"), "{repeated}");
    }

    #[test]
    fn a_node_that_lacks_what_was_acknowledged_is_found_out() {
        let said = refusal(&[entry(1), entry(2)], &[entry(1)], &[(2, 2)]);
        assert!(said.contains("node 1 1, and 2 was acknowledged"), "{said}");
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found_out() {
        let forged =
            Entry::Tagged(Tagged { tag: Tag { client: CLIENT, seq: 1 }, floor: 1 }, "forged!!".into());
        let entries = [forged];
        let said = refusal(&entries, &entries, &[(1, 1)]);
        assert!(said.contains("that no request wrote"), "{said}");
    }
}
