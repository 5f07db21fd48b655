//! The identity of a data directory: a small text file, written when the directory is created.
//!
//! ```text
//! format 1
//! id 2
//! n 3
//! incarnation 1f3a5c7e9b2d4f60
//! dialect extended
//! group kitchen
//! checksum f309412e
//! ```
//!
//! Directories of the first version have no `dialect`. Their records prove it ([`super::dialect`]), and the next
//! start adds it. The name of the group (`-`: no name) is recorded when it is confirmed: the node has heard another
//! node of its group under that name, or votes in a group of one. Until then the file stays as it is, so that a
//! start under a mistyped name leaves no trace. A classic group has no name.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use upaxos_core::wire::{Dialect, GroupName};

use super::{DiskError, damaged, lock};
use crate::files::cannot;

const FORMAT: &str = "format 1";
const DIALECTS: [Dialect; 2] = [Dialect::Extended, Dialect::Classic];

/// The word for a dialect in the file.
pub(super) fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Extended => "extended",
        Dialect::Classic => "classic",
    }
}

/// The identity of the node whose log a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the node, as `-i` gave it.
    pub id: u16,
    /// Size of the first group; 0 for a node that joined later, which learns it from the group.
    pub n: u16,
    /// The random number that distinguishes this directory from every other, also from those of the same id.
    pub incarnation: u64,
    /// The grammar of its votes; `None` in a directory of the first version.
    pub dialect: Option<Dialect>,
    /// The name of its group, as far as it is confirmed.
    pub group: Named,
}

/// The knowledge of a directory about the name of its node's group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// No name is confirmed yet, or the node is a classic one.
    #[default]
    Unsaid,
    /// The group has no name.
    Nameless,
    /// The group has this name.
    As(GroupName),
}

impl Named {
    /// The name of a start with `--group NAME`, or without it.
    pub(super) fn from_flag(name: Option<GroupName>) -> Named {
        name.map_or(Named::Nameless, Named::As)
    }

    fn parse(text: &str) -> Option<Named> {
        match text {
            "-" => Some(Named::Nameless),
            name => name.parse().ok().map(Named::As),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { id, n, incarnation, dialect, group } = self;
        let mut text = format!("{FORMAT}\nid {id}\nn {n}\nincarnation {incarnation:016x}\n");
        if let Some(dialect) = dialect {
            text += &format!("dialect {}\n", word(*dialect));
        }
        match group {
            Named::Unsaid => {}
            Named::Nameless => text += "group -\n",
            Named::As(name) => text += &format!("group {name}\n"),
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        writeln!(out, "{text}checksum {checksum:08x}")
    }
}

impl Identity {
    fn parse(text: &str) -> Option<Identity> {
        let mut lines = text.lines();
        lines.next().filter(|line| *line == FORMAT)?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (id, n) = (field("id")?.parse().ok()?, field("n")?.parse().ok()?);
        let incarnation = u64::from_str_radix(field("incarnation")?, 16).ok()?;
        // Later versions added these lines: each may be missing.
        let mut optional = lines.map_while(|line| line.split_once(' ')).peekable();
        let dialect = optional.next_if(|(name, _)| *name == "dialect").map(|(_, text)| text);
        let dialect = DIALECTS.into_iter().find(|known| dialect == Some(word(*known)));
        let group = optional.next_if(|(name, _)| *name == "group").map(|(_, text)| text);
        let group = group.and_then(Named::parse).unwrap_or_default();
        let identity = Identity { id, n, incarnation, dialect, group };
        // The comparison checks the checksum, and that the file has the only spelling of this identity.
        (identity.to_string() == text).then_some(identity)
    }

    /// The identity of `dir`, if it has one.
    pub(super) fn load(dir: &Path) -> Result<Option<Identity>, DiskError> {
        let file = path(dir);
        let bytes = match lock::must_be_regular(&file).and_then(|()| fs::read(&file)) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cannot("read", &file)(cause).into()),
        };
        let identity = str::from_utf8(&bytes).ok().and_then(Identity::parse);
        let what = || format!("it is no identity of \"{FORMAT}\", or its checksum is wrong");
        identity.map(Some).ok_or_else(|| damaged(file, what()))
    }

    /// Writes the identity under its draft name, which a start ignores.
    pub(super) fn draft(&self, dir: &Path) -> io::Result<()> {
        let path = draft_path(dir);
        let file = lock::private().create(true).truncate(true).open(&path);
        file.and_then(|mut file| {
            file.write_all(self.to_string().as_bytes())?;
            file.sync_all()
        })
        .map_err(cannot("write", &path))
    }

    /// Replaces the identity of the directory by this one.
    pub(super) fn replace(&self, dir: &Path) -> io::Result<()> {
        self.draft(dir)?;
        Identity::publish(dir)
    }

    /// Renames the draft to its final name. From here on the directory belongs to this node.
    pub(super) fn publish(dir: &Path) -> io::Result<()> {
        let draft = draft_path(dir);
        fs::rename(&draft, path(dir)).map_err(cannot("rename", &draft))?;
        lock::sync_dir(dir)
    }
}

const NAME: &str = "identity";
const DRAFT_NAME: &str = "identity.tmp";

/// Whether this is the name of an identity or of its draft.
pub(super) fn is_own(name: &str) -> bool {
    [NAME, DRAFT_NAME].contains(&name)
}

/// The path of the identity file.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The path of the identity file until the directory is complete.
pub(super) fn draft_path(dir: &Path) -> PathBuf {
    dir.join(DRAFT_NAME)
}
