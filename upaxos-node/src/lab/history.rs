//! What a data directory says was learned, for those who compare nodes.

use std::collections::BTreeMap;
use std::path::Path;

use upaxos_core::entry::Entry;
use upaxos_core::record::Record;
use upaxos_core::types::{Ballot, Instance, Value};
use upaxos_core::wire::Dialect;

use super::LabError;
use crate::disk;

/// Reads what was learned, in order and with its marks; also while the node runs.
pub(super) fn read(dir: &Path) -> Result<BTreeMap<Instance, Entry>, LabError> {
    let mut history = History::default();
    let outcome = disk::read(dir, &mut |line| {
        history.take(Record::parse(line).map_err(|error| error.to_string())?);
        Ok(())
    });
    match outcome {
        Ok(()) => Ok(history.learned),
        Err(error) => Err(LabError::Failed {
            act: format!("read the log in {}", dir.display()),
            said: error.to_string(),
        }),
    }
}

#[derive(Default)]
struct History {
    accepted: BTreeMap<(Instance, Ballot), Value>,
    learned: BTreeMap<Instance, Entry>,
}

impl History {
    fn take(&mut self, record: Record) {
        match record {
            Record::Accept { instance, ballot, value } => {
                self.accepted.insert((instance, ballot), value);
            }
            Record::Chosen { first, last, ballot } => {
                for instance in (first.0..=last.0).map(Instance) {
                    // A missing value leaves a hole, for the comparison to find.
                    if let Some(value) = self.accepted.remove(&(instance, ballot)) {
                        self.learn(instance, &value);
                    }
                }
            }
            Record::Learn { instance, value } => self.learn(instance, &value),
            _ => {}
        }
    }

    fn learn(&mut self, instance: Instance, value: &Value) {
        self.learned.insert(instance, Entry::decode(instance, value, Dialect::Extended));
    }
}
