//! Whose data directory this is: a small file, written once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{Context, DiskError};

const FORMAT: &str = "upaxos 1";

/// Whose data directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's id.
    pub id: u16,
    /// The size of the first group.
    pub n: u16,
    /// The random number the directory was made with.
    pub incarnation: u64,
}

impl Identity {
    fn text(&self) -> String {
        let Identity { id, n, incarnation } = self;
        let body = format!("{FORMAT}\nid {id}\nn {n}\nincarnation {incarnation}\n");
        format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()))
    }

    fn parse(text: &str) -> Option<Identity> {
        let mut fields = text.strip_prefix(FORMAT)?.split_whitespace().skip(1).step_by(2);
        let identity = Identity {
            id: fields.next()?.parse().ok()?,
            n: fields.next()?.parse().ok()?,
            incarnation: fields.next()?.parse().ok()?,
        };
        (identity.text() == text).then_some(identity)
    }

    /// Reads the identity of a directory; `None` when it has none yet.
    pub(super) fn read(dir: &Path) -> Result<Option<Identity>, DiskError> {
        let path = path(dir);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.act("read", &path)?,
        };
        let identity = std::str::from_utf8(&text).ok().and_then(Identity::parse);
        let damaged = || DiskError::Damaged { path, offset: 0, what: "it is no intact identity".into() };
        identity.map(Some).ok_or_else(damaged)
    }

    /// Writes the identity; all of it is there afterwards, or nothing.
    pub(super) fn write(&self, dir: &Path) -> Result<(), DiskError> {
        let path = path(dir);
        let draft = path.with_extension("tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .act("create", &draft)?;
        file.write_all(self.text().as_bytes()).and_then(|()| file.sync_all()).act("write", &draft)?;
        fs::rename(&draft, &path).act("rename to", &path)?;
        sync_dir(dir)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("identity")
}

/// Makes durable which files a directory has.
pub(super) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).and_then(|dir| dir.sync_all()).act("sync directory", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_with_any_changed_byte_is_refused() {
        let text = Identity { id: 2, n: 3, incarnation: 77 }.text();
        assert!(Identity::parse(&text).is_some());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(std::str::from_utf8(&bytes).ok().and_then(Identity::parse), None, "byte {at}");
        }
    }
}
