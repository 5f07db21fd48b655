//! The interface between a node and its scripts.
//!
//! This module owns no script and no language. The driver of a node passes an implementation with every
//! [`Outbox`](crate::replica::Outbox), as it does with time. Scripts see values, never promises or votes, and nothing
//! they do can affect the guarantees about those (README, "What is promised"). The states of scripts belong to the
//! node, which computes them from the learned prefix and from nothing else.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::script_state::ScriptState;
use crate::types::{Instance, MAX_NUMBER, Tag, Value};

/// The maximum length of a script's name, in bytes.
pub const MAX_NAME: usize = 64;

/// Identifies a script that has a state, between nodes. Two scripts are the same if both fields are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Script {
    /// The name of the script, without blanks.
    pub name: Arc<str>,
    /// A fingerprint of its source, and of everything else that determines its results.
    pub source: u64,
}

impl fmt::Display for Script {
    /// Prints `kv (source 4a7f…)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (source {:016x})", self.name, self.source)
    }
}

/// A hash of bytes that fits the numbers of the wire and the log. It stands for a script's source, or for a
/// client's words, where these need not be repeated.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    xxh3_64(bytes) & MAX_NUMBER
}

/// The value that a script is to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied<'a> {
    /// The value of the user's write, or the value that `request` replaced it with.
    pub value: &'a Value,
    /// The instance where it was chosen.
    pub instance: Instance,
    /// The tag of the request that it carries out, if it had one.
    pub tag: Option<Tag>,
}

/// The context of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<'a> {
    /// The learned prefix that is read: everything up to here, and nothing above.
    pub instance: Instance,
    /// The last value that a user wrote in this prefix, with its instance.
    pub last: Option<&'a (Instance, Value)>,
    /// The question; `None` if a client only asks for the last value.
    pub question: Option<&'a Value>,
}

/// The failure of an `apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The script raised an error, or used up its budget. This happens on every node alike. The state is undone.
    Raised(String),
    /// A failure that other nodes need not share (such as out of memory): the node must not continue. The text
    /// contains the remedy.
    Fatal(String),
}

/// The calls that a node makes to its scripts.
///
/// They must be functions of their arguments: `apply` because every node must compute the same state, the others
/// because people will expect it.
pub trait Hooks: fmt::Debug {
    /// The scripts that have a state, in the order in which they are applied. The list never changes.
    fn scripts(&self) -> &[Script];

    /// Whether scripts may run now. False if they have used their time in this turn of the driver: the rest of
    /// their work then waits for the next turn, so that votes do not wait for scripts.
    fn has_time(&self) -> bool {
        true
    }

    /// Handles a client's write that is about to be proposed. Returns the value to propose instead, if any.
    ///
    /// # Errors
    /// The reason why it must not be proposed.
    fn request(&self, value: &Value, tag: Option<Tag>) -> Result<Option<Value>, String> {
        let _ = (value, tag);
        Ok(None)
    }

    /// Applies a value that took effect: script number `script` of [`Hooks::scripts`] computes its next state.
    ///
    /// # Errors
    /// The failure. The caller then undoes the changes of the state.
    fn apply(&self, script: usize, state: &mut ScriptState, applied: &Applied<'_>) -> Result<(), Fault>;

    /// Whether a script answers reads, and the number of its state, if it has one.
    fn reader(&self) -> Option<Option<usize>> {
        None
    }

    /// Answers a read. It is called only if there is a [`Hooks::reader`]; `state` is that script's.
    ///
    /// # Errors
    /// The reason why there is no answer.
    fn read(&self, state: &ScriptState, at: &At<'_>) -> Result<Value, String> {
        let _ = (state, at);
        Err("no script answers".into())
    }
}
