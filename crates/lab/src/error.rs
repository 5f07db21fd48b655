//! The failures of a lab, and their places in the script.
//!
//! Owns the one error type that travels through Lua. Its parts (expected, got, file, line) are still separate when
//! it returns to Rust. Decides nothing. [`super::report`] turns it into words.

use std::fmt;
use std::sync::Arc;

use mlua::Lua;
use upaxos_script::engine;

use super::backend::{BackendError, Violation};

/// A line of a script.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The path of the script, as given on the command line.
    pub file: String,
    /// The number of the line, counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why a lab ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An expectation did not hold.
    Expected {
        /// The expected state.
        expected: String,
        /// The actual state.
        got: String,
    },
    /// The script's call makes no sense, or the world broke. The text names act, object and remedy.
    Error(String),
    /// The script asked to be skipped here, for this reason.
    Skip(String),
}

/// A failure and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabError {
    /// The line of the script that caused it, if a line did.
    pub place: Option<Place>,
    /// The failure itself.
    pub what: What,
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        match &self.what {
            What::Expected { expected, got } => write!(f, "expected {expected}; got {got}"),
            What::Error(text) => f.write_str(text),
            What::Skip(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

impl std::error::Error for LabError {}

impl From<LabError> for mlua::Error {
    fn from(trouble: LabError) -> mlua::Error {
        mlua::Error::external(trouble)
    }
}

impl From<BackendError> for LabError {
    fn from(error: BackendError) -> LabError {
        let what = match error {
            BackendError::Violated(Violation { expected, got }) => What::Expected { expected, got },
            BackendError::Unsupported(lacks) => What::Skip(lacks.0),
            BackendError::Broken(error) => What::Error(format!("{error:#}")),
            other => What::Error(other.to_string()),
        };
        LabError { place: None, what }
    }
}

impl LabError {
    /// Makes the error of an API call that makes no sense.
    pub fn misuse(text: impl Into<String>) -> LabError {
        LabError { place: None, what: What::Error(text.into()) }
    }

    /// Makes the failure of an expectation.
    pub fn expected(expected: impl Into<String>, got: impl Into<String>) -> LabError {
        LabError { place: None, what: What::Expected { expected: expected.into(), got: got.into() } }
    }

    /// Adds the place, unless it already has one.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> LabError {
        self.place = self.place.or(place);
        self
    }

    /// Converts a Lua error: one of ours is unwrapped, any other keeps Lua's words.
    pub fn of(error: &mlua::Error) -> LabError {
        let mut traceback = None;
        let mut inner = error;
        loop {
            match inner {
                mlua::Error::CallbackError { traceback: text, cause } => {
                    traceback = traceback.or(Some(text.as_str()));
                    inner = cause;
                }
                mlua::Error::WithContext { cause, .. } => inner = cause,
                mlua::Error::BadArgument { pos, name, cause, .. } => {
                    let named = name.as_ref().map_or(String::new(), |name| format!(" `{name}`"));
                    let text = format!("argument {pos}{named} does not fit: {cause}");
                    return LabError::misuse(text).at(traceback.and_then(first_place));
                }
                mlua::Error::ExternalError(external) => return LabError::external(external, traceback),
                mlua::Error::MemoryError(_) => {
                    let text = "the script takes more memory than a lab may; keep less in tables and strings";
                    return LabError::misuse(text).at(traceback.and_then(first_place));
                }
                other => return LabError::worded(&other.to_string(), traceback),
            }
        }
    }

    fn external(external: &Arc<dyn std::error::Error>, traceback: Option<&str>) -> LabError {
        match external.downcast_ref::<LabError>() {
            Some(trouble) => trouble.clone(),
            None => LabError::worded(&external.to_string(), traceback),
        }
    }

    /// Lua's own messages start with the place. Our own errors that Lua carries as text contain no more
    /// information.
    fn worded(text: &str, traceback: Option<&str>) -> LabError {
        let text =
            text.strip_prefix("runtime error: ").or(text.strip_prefix("syntax error: ")).unwrap_or(text);
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        match split_place(first) {
            Some((place, rest)) => LabError::misuse(rest.trim()).at(Some(place)),
            None => {
                let text = engine::without_address(first).unwrap_or_else(|| first.to_owned());
                LabError::misuse(text).at(traceback.or(Some(rest)).and_then(first_place))
            }
        }
    }
}

/// Splits `FILE.lua:LINE: text`.
fn split_place(line: &str) -> Option<(Place, &str)> {
    let end = line.find(".lua:")? + ".lua".len();
    let rest = &line[end + 1..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let place = Place { file: line[..end].trim().to_owned(), line: rest[..digits].parse().ok()? };
    Some((place, rest[digits..].trim_start_matches([':', ' '])))
}

fn first_place(traceback: &str) -> Option<Place> {
    traceback.lines().find_map(|line| split_place(line).map(|(place, _)| place))
}

/// The line of the script that is running now.
pub fn place(lua: &Lua) -> Option<Place> {
    const DEEP: usize = 32;
    (0..DEEP).find_map(|level| {
        let found = lua.inspect_stack(level, |debug| {
            let source = debug.source().source?.into_owned();
            Some((source.strip_prefix('@')?.to_owned(), debug.current_line()?))
        });
        found.flatten().map(|(file, line)| Place { file, line })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lua_says_the_place_first_and_it_is_taken_apart() {
        let trouble = LabError::worded("runtime error: a/b.lua:12: attempt to index nil\nstack", None);
        let place = Place { file: "a/b.lua".into(), line: 12 };
        assert_eq!(trouble, LabError::misuse("attempt to index nil").at(Some(place)));
        assert_eq!(LabError::worded("no place", None), LabError::misuse("no place"));
    }
}
