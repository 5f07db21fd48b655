//! The file of a script, and the table that it returns.
//!
//! Owns the allowed keys of that table. Every other key is an error, reported with its line and a suggested key.

use std::fs;
use std::path::{Path, PathBuf};

use mlua::{Function, MultiValue, Value};
use upaxos_core::hooks::MAX_NAME;

/// The maximum size of a script, in bytes.
const MAX_SOURCE: u64 = 1 << 20;

const KEYS: [&str; 5] = ["request", "apply", "read", "on_learn", "on_role"];

/// Why a script cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read script {}: {cause}", path.display())]
    Read {
        /// The path of the script.
        path: PathBuf,
        /// The error that the system returned.
        cause: std::io::Error,
    },
    /// Its file name is not a legal name of a script.
    #[error(
        "cannot use script {}: its name goes into logs and onto the wire; name the file like `counter.lua`: letters, \
         digits, - and _, at most {MAX_NAME}", path.display()
    )]
    Name {
        /// The path of the script.
        path: PathBuf,
    },
    /// It is too long.
    #[error("cannot use script {}: it has {bytes} bytes, over the limit of {MAX_SOURCE}", path.display())]
    TooLong {
        /// The path of the script.
        path: PathBuf,
        /// The script's size, in bytes.
        bytes: u64,
    },
    /// It does not compile, or does not run to its end.
    #[error("cannot use script {}: {reason}", path.display())]
    Broken {
        /// The path of the script.
        path: PathBuf,
        /// The place and the error.
        reason: String,
    },
    /// It does not return a table of hooks.
    #[error("cannot use script {}:{line}: {reason}", path.display())]
    Table {
        /// The path of the script.
        path: PathBuf,
        /// The number of the line, counted from 1.
        line: usize,
        /// The error in words.
        reason: String,
    },
    /// Two scripts cannot run together.
    #[error("cannot use script {}: {reason}", path.display())]
    Together {
        /// The path of the second script.
        path: PathBuf,
        /// Why they conflict.
        reason: String,
    },
}

/// Reads a script. Returns its name and its text.
pub fn read(path: &Path) -> Result<(String, Vec<u8>), LoadError> {
    let is_legal = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty()
            && name.len() <= MAX_NAME
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let is_lua = path.extension().is_some_and(|ending| ending == "lua" || ending == "luau");
    let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_legal(stem) && is_lua);
    let name = stem.ok_or_else(|| LoadError::Name { path: path.into() })?.to_owned();
    let cannot = |cause| LoadError::Read { path: path.into(), cause };
    let bytes = fs::metadata(path).map_err(cannot)?.len();
    if bytes > MAX_SOURCE {
        return Err(LoadError::TooLong { path: path.into(), bytes });
    }
    Ok((name, fs::read(path).map_err(cannot)?))
}

/// The hooks of a script.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "docs/scripts.md says what each is for")]
pub struct Table {
    pub request: Option<Function>,
    pub apply: Option<Function>,
    pub read: Option<Function>,
    pub on_learn: Option<Function>,
    pub on_role: Option<Function>,
}

impl Table {
    /// Reads the table that the script returned.
    ///
    /// # Errors
    /// With the line and the reason.
    pub fn take(path: &Path, text: &[u8], returned: MultiValue) -> Result<Table, LoadError> {
        let wrong = |line, reason: String| LoadError::Table { path: path.into(), line, reason };
        let end = line_of(text, "return").unwrap_or(1);
        let mut returned = returned.into_iter();
        let (Some(Value::Table(found)), None) = (returned.next(), returned.next()) else {
            let keys = KEYS.join(", ");
            return Err(wrong(end, format!("a script returns one table of hooks, with keys out of {keys}")));
        };
        let mut table = Table::default();
        for pair in found.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|error| wrong(end, error.to_string()))?;
            let name = key.to_string().unwrap_or_default();
            let slot = match (&key, name.as_str()) {
                (Value::String(_), "request") => &mut table.request,
                (Value::String(_), "apply") => &mut table.apply,
                (Value::String(_), "read") => &mut table.read,
                (Value::String(_), "on_learn") => &mut table.on_learn,
                (Value::String(_), "on_role") => &mut table.on_role,
                _ => return Err(wrong(line_of(text, &name).unwrap_or(end), unknown(&name))),
            };
            match value {
                Value::Function(function) => *slot = Some(function),
                other => {
                    let what = format!("`{name}` is a {}; it must be a function", super::st::kind(&other));
                    return Err(wrong(line_of(text, &name).unwrap_or(end), what));
                }
            }
        }
        let Table { request, apply, read, on_learn, on_role } = &table;
        if [request, apply, read, on_learn, on_role].iter().all(|hook| hook.is_none()) {
            return Err(wrong(end, format!("it has no hook; there are {}", KEYS.join(", "))));
        }
        Ok(table)
    }

    /// The names of the hooks that are set.
    pub fn names(&self) -> Vec<&'static str> {
        let Table { request, apply, read, on_learn, on_role } = self;
        let hooks = [request, apply, read, on_learn, on_role];
        KEYS.into_iter().zip(hooks).filter_map(|(name, hook)| hook.as_ref().map(|_| name)).collect()
    }
}

fn unknown(name: &str) -> String {
    let near = KEYS.into_iter().map(|key| (strsim::jaro_winkler(key, name), key));
    let near = near.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(like, _)| *like > 0.7);
    let meant = near.map_or(String::new(), |(_, key)| format!("; did you mean `{key}`?"));
    format!("unknown key `{name}` in the table of hooks{meant} There are {}", KEYS.join(", "))
}

/// The last line that contains this word.
fn line_of(text: &[u8], word: &str) -> Option<usize> {
    let is_letter =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let has_word = |line: &[u8]| {
        let mut places = line.windows(word.len().max(1)).enumerate();
        places.any(|(at, found)| {
            found == word.as_bytes()
                && !is_letter(at.checked_sub(1).and_then(|before| line.get(before)))
                && !is_letter(line.get(at + word.len()))
        })
    };
    let mut lines = text.split(|byte| *byte == b'\n').enumerate().collect::<Vec<_>>().into_iter().rev();
    lines.find(|(_, line)| has_word(line)).map(|(at, _)| at + 1)
}
