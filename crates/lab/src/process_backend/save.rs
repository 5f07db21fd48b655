//! The files of a real run: the recorded wire, and the log of each node.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::processes::ProcessBackend;

/// Writes `wire.jsonl` (where these hosts record it) and `node-ID.log` for every node into `dir`.
///
/// # Errors
/// When it cannot be written.
pub fn save(world: &ProcessBackend, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // If the switch has ended, the lab has already failed with that. The nodes' logs are still worth keeping.
    if let Some(record) = world.hosts.record().ok().flatten() {
        let to = dir.join("wire.jsonl");
        fs::copy(&record, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    for (id, log) in world.members.logs() {
        let to = dir.join(format!("node-{id}.log"));
        let text: String = log.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}
