//! The final checks: of the logs of all nodes, and of the answers that clients received.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use upaxos_core::entry::Entry;
use upaxos_core::types::{Instance, Value};
use upaxos_core::wire::Dialect;

use super::Outcome;
use super::tale::{Told, name_of};

/// The common log, as far as the nodes' logs were read.
#[derive(Default)]
pub struct Common {
    /// A hash of the value at each instance.
    hashes: BTreeMap<u64, u64>,
    /// The writes that took effect, by instance.
    writes: BTreeMap<u64, String>,
}

impl Common {
    /// Adds the log of one more node. It must have no hole, and it must agree with the logs of the others.
    pub fn take(&mut self, id: usize, log: &BTreeMap<Instance, Value>) -> Outcome {
        if let Some((hole, _)) = (1..).zip(log.keys()).find(|(expected, at)| *expected != at.0) {
            return Err(format!("node {id} lacks instance {hole}"));
        }
        let is_longest = log.len() > self.hashes.len();
        for (at, value) in log {
            let mut hasher = DefaultHasher::new();
            value.as_bytes().hash(&mut hasher);
            let hash = hasher.finish();
            if *self.hashes.entry(at.0).or_insert(hash) != hash {
                return Err(format!("node {id} disagrees at {at}"));
            }
        }
        if is_longest {
            self.writes = writes(log).map_err(|error| format!("node {id}: {error}"))?;
        }
        Ok(())
    }

    /// The number of instances in the common log.
    pub fn end(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Checks every answer against the common log.
    pub fn judge(&self, told: &Told) -> Outcome {
        for (at, name) in &told.acknowledged {
            if self.writes.get(at) != Some(name) {
                let found = self.writes.get(at);
                return Err(format!("{name} was acknowledged at {at}, but {found:?} is there"));
            }
        }
        if let Some((at, name)) = self.writes.iter().find(|(_, name)| !told.asked.contains(*name)) {
            return Err(format!("{name} at {at} was never asked for"));
        }
        for seen in &told.seen {
            let last = self.writes.range(..=seen.up_to).next_back();
            let is_there = seen.at.is_none_or(|told_at| told_at == last.map_or(0, |(at, _)| *at));
            let is_fit = is_there && seen.name.as_ref() == last.map(|(_, name)| name);
            if !is_fit {
                let (up_to, name) = (seen.up_to, &seen.name);
                return Err(format!(
                    "a read up to {up_to} was answered {name:?}, but the last write is {last:?}"
                ));
            }
        }
        Ok(())
    }
}

/// The names of the writes that took effect, by instance. Of a tag that was chosen twice, the first counts.
fn writes(log: &BTreeMap<Instance, Value>) -> Outcome<BTreeMap<u64, String>> {
    let (mut tags, mut names, mut writes) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for (at, stored) in log {
        let value = match Entry::decode(*at, stored, Dialect::Extended) {
            Entry::Tagged(tagged, value) if tags.insert(tagged.tag) => value,
            Entry::Write(value) => value,
            _ => continue,
        };
        let text = value.to_string();
        let name = name_of(&text).ok_or_else(|| format!("{at} is no whole value"))?;
        if !names.insert(name.to_owned()) {
            return Err(format!("{name} took effect twice, the second time at {at}"));
        }
        writes.insert(at.0, name.to_owned());
    }
    Ok(writes)
}
