//! Creates a node's directory, or checks the identity of an existing one.
//!
//! Owns the order of creation and the checks of a start against the directory. Only [`Disk::open`](super::Disk::open)
//! and the readers of `super` call it. It leaves foreign files alone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::files::{Files, cannot};
use crate::segment::{self, Head};
use crate::{self as store, Options};

use super::dir::Dir;
use super::{DiskError, Identity, Named, Wanted, damaged, dialect, identity, lock};

/// The identity of the directory, and whether this call created it.
pub(super) fn identify(
    dir: &Path,
    wanted: &Wanted,
    options: &Options,
) -> Result<(Identity, bool), DiskError> {
    if let Some(found) = Identity::load(dir)? {
        check(dir, "-i", wanted.id, found.id)?;
        if (wanted.n == 0) != (found.n == 0) {
            return Err(DiskError::OtherRole { dir: dir.into(), found });
        }
        check(dir, "-n", wanted.n, found.n)?;
        dialect::check(dir, wanted.dialect, &found)?;
        check_name(dir, wanted, &found)?;
        let identity = Identity { dialect: Some(wanted.dialect), ..found };
        if identity != found {
            identity.replace(dir)?;
        }
        return Ok((identity, false));
    }
    clear_unfinished(dir)?;
    Ok((create(dir, wanted, options)?, true))
}

fn check(dir: &Path, option: &'static str, expected: u16, found: u16) -> Result<(), DiskError> {
    if expected == found {
        return Ok(());
    }
    Err(DiskError::Mismatch { dir: dir.into(), option, expected, found })
}

/// Refuses a start under another name than the recorded one, if a name is recorded. A stopped group without a name
/// may be given one; a name is never removed.
fn check_name(dir: &Path, wanted: &Wanted, found: &Identity) -> Result<(), DiskError> {
    match (found.group, wanted.named()) {
        (Named::Unsaid | Named::Nameless, _) => Ok(()),
        (known, asked) if known == asked => Ok(()),
        (found, expected) => Err(DiskError::OtherGroup { dir: dir.into(), expected, found }),
    }
}

/// Creates the directory's files. The identity gets its final name last, so a directory that has one is complete: a
/// missing segment is then a loss, never the trace of a crash during creation.
fn create(dir: &Path, wanted: &Wanted, options: &Options) -> io::Result<Identity> {
    let Wanted { id, n, incarnation_if_new: incarnation, dialect, .. } = *wanted;
    let identity = Identity { id, n, incarnation, dialect: Some(dialect), group: Named::Unsaid };
    identity.draft(dir)?;
    store::create(&Dir::new(dir), identity.incarnation, options)?;
    Identity::publish(dir)?;
    lock::sync_dir(lock::parent(dir))?;
    Ok(identity)
}

/// Removes the traces of an interrupted `create`: the draft of the identity, and perhaps a first segment that was
/// never written to. A directory without an identity may hold nothing else of a node.
fn clear_unfinished(dir: &Path) -> Result<(), DiskError> {
    if let Some(error) = without_identity(dir)? {
        return Err(error);
    }
    let first = dir.join(segment::name(1));
    match fs::remove_file(&first) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.map_err(cannot("remove", &first))?),
    }
}

/// The fault of a directory that has no identity. `None` if it has no log either, or only the traces of an
/// interrupted `create`.
pub(super) fn without_identity(dir: &Path) -> Result<Option<DiskError>, DiskError> {
    if !dir.exists() {
        return Ok(None);
    }
    let mut names = Dir::new(dir).list()?;
    names.retain(|name| store::is_own(name) && !name.ends_with(segment::DRAFT));
    let Some(last) = names.iter().max() else {
        return Ok(None);
    };
    let path = dir.join(last);
    let is_unfinished =
        *last == segment::name(1) && identity::draft_path(dir).exists() && !is_written(&path)?;
    let what = format!("it is missing, though there is {}", path.display());
    Ok((!is_unfinished).then(|| damaged(identity::path(dir), what)))
}

fn is_written(path: &Path) -> Result<bool, DiskError> {
    let bytes = lock::must_be_regular(path).and_then(|()| fs::read(path)).map_err(cannot("read", path))?;
    let head = Head::parse(&bytes);
    let (_, at) = head.ok_or_else(|| damaged(path.into(), "its head is missing or damaged".into()))?;
    Ok(bytes[at..].iter().any(|byte| *byte != 0))
}

/// Lists the foreign files of the directory in a notice. They are left alone.
pub(super) fn tell_foreign(dir: &Path, notices: &mut Vec<String>) -> io::Result<()> {
    const NAMED: usize = 5;
    let mut foreign = Dir::new(dir).list()?;
    foreign.retain(|name| !store::is_own(name) && !identity::is_own(name) && name != lock::NAME);
    foreign.sort_unstable();
    if foreign.is_empty() {
        return Ok(());
    }
    let mut names: Vec<_> = foreign.iter().take(NAMED).map(|name| name.escape_debug().to_string()).collect();
    if foreign.len() > NAMED {
        names.push(format!("and {} more", foreign.len() - NAMED));
    }
    notices.push(format!(
        "{}: holds files of others, which are left alone: {}",
        dir.display(),
        names.join(", ")
    ));
    Ok(())
}

/// Warns when other users have access to the directory. The owner may want that.
pub(super) fn warn_of_open_doors(dir: &Path, warnings: &mut Vec<String>) -> io::Result<()> {
    let metadata = fs::metadata(dir).map_err(cannot("look at", dir))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        warnings.push(format!(
            "{}: others have access to it (mode {mode:o}); chmod 700 keeps the values private",
            dir.display()
        ));
    }
    Ok(())
}
