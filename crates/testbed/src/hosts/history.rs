//! Reads the learned values from a data directory, for comparisons between nodes.

use std::collections::BTreeMap;
use std::path::Path;

use upaxos_core::past::Past;
use upaxos_core::record::Reader;
use upaxos_core::types::{Instance, Value};
use upaxos_storage::disk;

use super::error::HostsError;

/// Reads the learned values in order, exactly as the log holds them. Works while the node runs.
pub(super) fn read(dir: &Path) -> Result<BTreeMap<Instance, Value>, HostsError> {
    let mut reader = Reader::default();
    let (mut old, mut learned) = (BTreeMap::new(), BTreeMap::new());
    let mut on_past = |past: Past| {
        old.insert(past.instance, past.value);
        Ok(())
    };
    let outcome = disk::read(dir, &mut on_past, &mut |found| {
        let record = found.record().map_err(|error| error.to_string())?;
        // A missing value leaves a hole, which the comparison finds.
        let found = reader.take(&record).into_iter();
        learned.extend(found.filter_map(|(instance, value)| Some((instance, value?))));
        Ok(())
    });
    let cannot = |said| HostsError::Failed { act: format!("read the log in {}", dir.display()), said };
    outcome.map_err(|error| cannot(error.to_string()))?;
    for (instance, value) in old {
        // History and log overlap: both may hold an instance where they meet.
        if learned.get(&instance).is_some_and(|known| *known != value) {
            return Err(cannot(format!("instance {instance} reads in two ways")));
        }
        learned.insert(instance, value);
    }
    Ok(learned)
}
