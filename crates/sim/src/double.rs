//! A script without a language. Simulated nodes run it, so that states, checkpoints and digests are tested under
//! every fault.
//!
//! It remembers a little of everything and forgets some of it. For one value in seven it fails after it has changed
//! something. Now and then it has no time. Whether it refuses a write depends only on how many it was asked about
//! before, so another leader decides otherwise. A stray one computes something else from one instance on.

use std::cell::Cell;

use upaxos_core::hooks::{Applied, At, Fault, Hooks, Script, fingerprint};
use upaxos_core::script_state::{Number, Scalar, ScriptState};
use upaxos_core::types::{Instance, Tag, Value};

/// How many different keys the values are stored under.
const KEYS: u64 = 13;

/// The script of simulated nodes.
#[derive(Debug)]
pub struct Double {
    scripts: [Script; 1],
    strays_from: Option<Instance>,
    asked: Cell<u64>,
    requests: Cell<u64>,
}

impl Double {
    /// A script that computes what all others do, or something else from instance `strays_from` on.
    pub fn new(strays_from: Option<Instance>) -> Double {
        let script = Script { name: "double".into(), source: 7 };
        Double { scripts: [script], strays_from, asked: Cell::new(0), requests: Cell::new(0) }
    }
}

impl Hooks for Double {
    fn scripts(&self) -> &[Script] {
        &self.scripts
    }

    fn has_time(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        !self.asked.get().is_multiple_of(16)
    }

    fn request(&self, _: &Value, _: Option<Tag>) -> Result<Option<Value>, String> {
        self.requests.set(self.requests.get() + 1);
        if self.requests.get().is_multiple_of(23) { Err("not this one".into()) } else { Ok(None) }
    }

    fn apply(&self, _: usize, state: &mut ScriptState, applied: &Applied<'_>) -> Result<(), Fault> {
        let words = fingerprint(applied.value.as_bytes());
        let key = |number: u64| format!("key {}", number % KEYS).into_bytes();
        let count = match state.get(b"count") {
            Some(Scalar::Number(count)) => count.get(),
            _ => 0.0,
        };
        let number = |number: f64| Number::new(number).map(Scalar::Number);
        let changes = [
            (b"count".to_vec(), number(count + 1.0)),
            (key(words), Some(Scalar::Text(applied.value.clone()))),
            (key(words / 16), None),
            (key(words / 64), number(applied.instance.0 as f64)),
            (b"even".to_vec(), Some(Scalar::Bool(words.is_multiple_of(2)))),
        ];
        for (key, value) in changes {
            state.set(&key, value).map_err(|error| Fault::Raised(error.to_string()))?;
        }
        let strays = self.strays_from.is_some_and(|from| applied.instance >= from);
        if strays {
            _ = state.set(b"stray", Some(Scalar::Bool(true)));
        }
        match words % 7 {
            // A change that is undone would not show.
            0 if !strays => Err(Fault::Raised("one in seven".into())),
            _ => Ok(()),
        }
    }

    fn reader(&self) -> Option<Option<usize>> {
        None
    }

    fn read(&self, _: &ScriptState, _: &At<'_>) -> Result<Value, String> {
        Err("it is not asked".into())
    }
}
