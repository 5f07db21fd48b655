//! The grammar in which a directory's node has voted. The node must keep it.
//!
//! A log has no meaning in the other grammar: values are marked in one and literal in the other, and promises hold
//! for all instances or for one. A node that changed its grammar would answer under its group's own ballots with
//! other values than it accepted.

use std::path::Path;

use upaxos_core::record::Record;
use upaxos_core::wire::Dialect;

use super::dir::Dir;
use super::{DiskError, Identity};
use crate as store;

/// Checks that the node of `dir` votes in the grammar `wanted`, or has not voted yet.
pub(super) fn check(dir: &Path, wanted: Dialect, found: &Identity) -> Result<(), DiskError> {
    let spoken = said_or_spoken(dir, found)?;
    if spoken.is_some_and(|spoken| spoken != wanted) {
        return Err(DiskError::OtherDialect { dir: dir.into(), is_classic: wanted == Dialect::Extended });
    }
    Ok(())
}

/// The grammar in which the node of `dir` has voted, if it has voted.
pub(super) fn said_or_spoken(dir: &Path, found: &Identity) -> Result<Option<Dialect>, DiskError> {
    match found.dialect {
        Some(dialect) => Ok(Some(dialect)),
        None => spoken(dir, found.incarnation),
    }
}

/// The grammar that the records prove; `None` where they prove none, so that either is possible.
fn spoken(dir: &Path, incarnation: u64) -> Result<Option<Dialect>, DiskError> {
    let mut spoken = None;
    store::read(&Dir::to_read(dir), incarnation, &mut |_| Ok(()), &mut |found| {
        // A record that cannot be read is reported when the log is opened.
        let said = found.record().ok().as_ref().and_then(dialect_of);
        // Logs of both grammars hold accepted values. A record that only one grammar has is proof.
        if said == Some(Dialect::Extended) || spoken.is_none() {
            spoken = said.or(spoken);
        }
        Ok(())
    })?;
    Ok(spoken)
}

fn dialect_of(record: &Record) -> Option<Dialect> {
    match record {
        Record::Start { .. } => None,
        // A node of an extended group does not vote before its log holds one of the records of the last arm.
        Record::Promise { .. }
        | Record::Accept { .. }
        | Record::Chosen { .. }
        | Record::Learn { .. }
        | Record::Lost { .. } => Some(Dialect::Classic),
        _ => Some(Dialect::Extended),
    }
}
