//! The seam to scripts: what a node asks of them, and what it tells them.
//!
//! Owns no script and no language: whoever drives a node hands it an implementation with every
//! [`Outbox`](crate::node::Outbox), as it does with time. Scripts see values, never promises or votes, and
//! nothing they do can touch what is promised about those (README, "What is promised"). The states of scripts
//! belong to the node, which computes them from the learned prefix and from nothing else.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::state::State;
use crate::types::{Instance, MAX_NUMBER, Tag, Value};

/// The most bytes that the name of a script may have.
pub const MAX_NAME: usize = 64;

/// A script that has a state, as nodes speak of it: two are the same when both fields are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Script {
    /// Its name: no blanks in it.
    pub name: Arc<str>,
    /// A number made from its source, and from everything else that decides what it computes.
    pub source: u64,
}

impl fmt::Display for Script {
    /// `kv (source 4a7f…)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (source {:016x})", self.name, self.source)
    }
}

/// A number of bytes as the wire and the log can carry it: what a script's source, or a client's words, are
/// known by where they need not be repeated.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    xxh3_64(bytes) & MAX_NUMBER
}

/// The value that a script is to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied<'a> {
    /// What a user wrote, or what `request` made of it.
    pub value: &'a Value,
    /// Where it was chosen.
    pub instance: Instance,
    /// The request it carries out, if that was tagged.
    pub tag: Option<Tag>,
}

/// What a read is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<'a> {
    /// The learned prefix that is read: everything up to here, and nothing above.
    pub instance: Instance,
    /// The last value that a user wrote there, and where.
    pub last: Option<&'a (Instance, Value)>,
    /// What was asked; `None` where a client only asks for the last value.
    pub question: Option<&'a Value>,
}

/// What went wrong in `apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The script raised an error, or used up its budget: the same on every node. The state is undone.
    Raised(String),
    /// What happened here need not happen elsewhere (memory ran out, say): the node must not go on. In words,
    /// with the remedy.
    Fatal(String),
}

/// What a node asks of its scripts.
///
/// They must be functions of their arguments: `apply` because every node has to compute the same, the others
/// because people will expect it.
pub trait Hooks: fmt::Debug {
    /// The scripts that have a state, in the order in which they are applied. Never changes.
    fn scripts(&self) -> &[Script];

    /// Whether scripts may run now, or have had enough time in this turn of the driver: then what they would
    /// do waits for the next, so that votes do not wait for them.
    fn has_time(&self) -> bool {
        true
    }

    /// A client's write is about to be proposed: what to propose instead, if anything.
    ///
    /// # Errors
    /// Why it must not be proposed.
    fn request(&self, value: &Value, tag: Option<Tag>) -> Result<Option<Value>, String> {
        let _ = (value, tag);
        Ok(None)
    }

    /// A value took effect: script number `script` of [`Hooks::scripts`] computes its next state.
    ///
    /// # Errors
    /// Then the caller undoes what was done to the state.
    fn apply(&self, script: usize, state: &mut State, applied: &Applied<'_>) -> Result<(), Fault>;

    /// Whether a script words what is read, and the number of its state, if it has one.
    fn reader(&self) -> Option<Option<usize>> {
        None
    }

    /// Words what is read. Only called where there is a [`Hooks::reader`]; `state` is that script's.
    ///
    /// # Errors
    /// Why there is no answer.
    fn read(&self, state: &State, at: &At<'_>) -> Result<Value, String> {
        let _ = (state, at);
        Err("no script answers".into())
    }
}
