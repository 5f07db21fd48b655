//! Makes a node's directory, or says whose it is.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use upaxos_core::store::files::{Files, cannot};
use upaxos_core::store::segment::{self, Head};
use upaxos_core::store::{self, Options};

use super::dir::Dir;
use super::{DiskError, Identity, Named, Wanted, damaged, dialect, identity, lock};

/// The identity of the directory, and whether this call gave it one.
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

/// Refuses a start under another name than the one that was written down, if one was. A group without a name may be
/// given one, when all of it is stopped; none gets rid of it.
fn check_name(dir: &Path, wanted: &Wanted, found: &Identity) -> Result<(), DiskError> {
    match (found.group, wanted.named()) {
        (Named::Unsaid | Named::Nameless, _) => Ok(()),
        (known, asked) if known == asked => Ok(()),
        (found, expected) => Err(DiskError::OtherGroup { dir: dir.into(), expected, found }),
    }
}

/// The identity gets its name last: a directory that has one is complete, so a missing segment
/// is a loss and never a crash half way through making it.
fn create(dir: &Path, wanted: &Wanted, options: &Options) -> io::Result<Identity> {
    let Wanted { id, n, incarnation_if_new: incarnation, dialect, .. } = *wanted;
    let identity = Identity { id, n, incarnation, dialect: Some(dialect), group: Named::Unsaid };
    identity.draft(dir)?;
    store::create(&Dir::new(dir), identity.incarnation, options)?;
    Identity::publish(dir)?;
    lock::sync_dir(lock::parent(dir))?;
    Ok(identity)
}

/// Without an identity there must be nothing, or what `create` leaves when it is cut short:
/// the draft of the identity, and perhaps a first segment that was never written to.
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

/// What is wrong with a directory that has no identity: nothing, if it has no log either, or only what `create` leaves
/// when it is cut short.
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
    let bytes = fs::read(path).map_err(cannot("read", path))?;
    let head = Head::parse(&bytes);
    let (_, at) = head.ok_or_else(|| damaged(path.into(), "its head is missing or damaged".into()))?;
    Ok(bytes[at..].iter().any(|byte| *byte != 0))
}

/// Names what lies in the directory and is not the node's: it is left alone.
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

/// Says so when others may read what is in the log; the owner may want it so.
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
