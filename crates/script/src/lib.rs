//! Scripts: the decisions that a node leaves to Luau, and the limits that keep them harmless.
//!
//! Owns the files given with `--script`, in their order. Each `request` receives the value as the previous script
//! left it. Each `apply` has a state of its own. At most one script has a `read`, which formats reads. This module
//! decides when a script has used its time in a turn of the daemon's loop, and what a broken limit means:
//!
//! - in `request` and `read`: the client is refused, with the reason;
//! - in `apply`, for steps: an error like any other. Steps are counted, so every node gets the same result: the
//!   change of the state is undone everywhere, and the fact is part of the digest;
//! - in `apply`, for memory or time: the node ends, since the call might have worked on other nodes;
//! - in `on_learn` and `on_role`: it is logged.
//!
//! Scripts never see a promise or a vote.

pub mod budget;
pub mod engine;
pub mod file;
mod notices;
pub mod runtime;
mod sandbox;
pub mod st;
#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use std::cell::Cell;
use std::path::PathBuf;

use upaxos_core::hooks::{Applied, At, Fault, Hooks, Script};
use upaxos_core::script_state::ScriptState;
use upaxos_core::types::{Tag, Value};

pub use budget::Limits;
use budget::Violation;
use engine::{Broken, Engine};
pub use file::LoadError;
pub use notices::{MAX_NOTICES, Notice};

/// The cost of a call in a turn, besides its steps.
const CALL_STEPS: u64 = 50;

/// The scripts of a node.
#[derive(Debug)]
pub struct Scripts {
    engines: Vec<Engine>,
    /// The scripts that have an `apply`, in order.
    stateful: Vec<Script>,
    /// The index of each of them among all scripts.
    places: Vec<usize>,
    limits: Limits,
    /// The number of steps taken in this turn.
    taken: Cell<u64>,
    notices: notices::Notices,
}

impl Scripts {
    /// Loads the files, which will run together.
    ///
    /// # Errors
    /// With file, line and reason, for the first file that cannot be used.
    pub fn load(paths: &[PathBuf], limits: Limits) -> Result<Scripts, LoadError> {
        let mut engines: Vec<Engine> = Vec::new();
        for path in paths {
            let engine = Engine::load(path, limits)?;
            if let Some(reason) = objection(&engines, &engine) {
                return Err(LoadError::Together { path: path.clone(), reason });
            }
            engines.push(engine);
        }
        let places: Vec<usize> = (0..engines.len()).filter(|at| engines[*at].hooks.apply.is_some()).collect();
        let script = |at: &usize| Script { name: (&*engines[*at].name).into(), source: engines[*at].source };
        let stateful = places.iter().map(script).collect();
        let notices = notices::Notices::default();
        Ok(Scripts { engines, stateful, places, limits, taken: Cell::new(0), notices })
    }

    /// A description of each script: its name and its hooks.
    pub fn describe(&self) -> Vec<String> {
        let line = |engine: &Engine| format!("{}: {}", engine.name, engine.hooks.names().join(", "));
        self.engines.iter().map(line).collect()
    }

    /// Why `new` cannot replace the running scripts, if it cannot: the results of one of them could differ from its
    /// results so far.
    pub fn objection_to(&self, new: &Scripts) -> Option<String> {
        let differs = |ours: &[Script], theirs: &[Script]| {
            ours.iter().find(|script| !theirs.contains(script)).map(|script| script.name.to_string())
        };
        let changed =
            differs(&self.stateful, &new.stateful).or_else(|| differs(&new.stateful, &self.stateful));
        let changed =
            changed.or_else(|| (self.stateful != new.stateful).then(|| "their order".to_owned()))?;
        Some(format!(
            "{changed} has an `apply` and was changed: what it computes could differ from node to node. Restart the \
             nodes with it, one after the other: each computes its state anew from the log"
        ))
    }

    /// Starts a turn of the daemon's loop: scripts have time again.
    pub fn begin_turn(&self) {
        self.taken.set(0);
    }

    fn took(&self, engine: &Engine) {
        self.taken.set(self.taken.get() + engine.steps() + CALL_STEPS);
    }
}

/// Why a script cannot run beside those before it, if it cannot.
fn objection(engines: &[Engine], new: &Engine) -> Option<String> {
    if engines.iter().any(|engine| engine.name == new.name) {
        return Some(format!(
            "there is another script named {}: give one of the files another name",
            new.name
        ));
    }
    new.hooks.read.as_ref()?;
    let reader = engines.iter().find(|engine| engine.hooks.read.is_some())?;
    Some(format!(
        "script {} has a `read`, too: only one can word what is read; take it out of one",
        reader.name
    ))
}

/// Loads scripts to check whether a node could run them. Returns their descriptions.
///
/// # Errors
/// As [`Scripts::load`].
pub fn check(paths: &[PathBuf], limits: Limits) -> Result<Vec<String>, LoadError> {
    Ok(Scripts::load(paths, limits)?.describe())
}

impl Hooks for Scripts {
    fn scripts(&self) -> &[Script] {
        &self.stateful
    }

    fn has_time(&self) -> bool {
        self.taken.get() < u64::from(self.limits.steps)
    }

    fn request(&self, value: &Value, tag: Option<Tag>) -> Result<Option<Value>, String> {
        let mut changed: Option<Value> = None;
        for engine in &self.engines {
            let Some(function) = &engine.hooks.request else { continue };
            engine.about.instance.set(None);
            engine.about.tag.set(tag);
            let shown = changed.as_ref().unwrap_or(value).as_bytes();
            let said = engine.show::<(mlua::Value, mlua::Value)>(function, shown);
            self.took(engine);
            match said.map_err(|broken| format!("script {}: {}", engine.name, broken.text()))? {
                (mlua::Value::String(text), _) if *text.as_bytes() == *shown => {}
                (mlua::Value::String(text), _) => changed = Some(Value::from(&*text.as_bytes())),
                (mlua::Value::Nil | mlua::Value::Boolean(false), reason) => {
                    let reason = reason.as_string().map(|reason| reason.to_string_lossy());
                    return Err(match reason {
                        Some(reason) => format!("script {}: {reason}", engine.name),
                        None => format!("script {}: rejected, without a reason", engine.name),
                    });
                }
                (other, _) => {
                    let what = st::kind(&other);
                    return Err(format!(
                        "script {}: `request` returned a {what}: it returns the value to write, or nil and a reason",
                        engine.name
                    ));
                }
            }
        }
        Ok(changed)
    }

    fn apply(&self, script: usize, state: &mut ScriptState, applied: &Applied<'_>) -> Result<(), Fault> {
        let engine = &self.engines[self.places[script]];
        let function = engine.hooks.apply.as_ref().expect("only those with an `apply` are counted");
        engine.about.instance.set(Some(applied.instance));
        engine.about.tag.set(applied.tag);
        let done = engine.apply(function, state, applied.value.as_bytes());
        self.took(engine);
        done.map_err(|broken| match broken {
            Broken::Raised(text) | Broken::Limit(Violation::Steps, text) => Fault::Raised(text),
            Broken::Limit(Violation::Memory | Violation::Time, text) => Fault::Fatal(format!(
                "{text}. Elsewhere that may have worked, so this node must not go on: give all nodes more with the \
                 flag, or run another script on all of them, which computes its state anew from the log"
            )),
        })
    }

    fn reader(&self) -> Option<Option<usize>> {
        let reader = self.engines.iter().position(|engine| engine.hooks.read.is_some())?;
        Some(self.places.iter().position(|place| *place == reader))
    }

    fn read(&self, state: &ScriptState, at: &At<'_>) -> Result<Value, String> {
        let reader = self.engines.iter().find_map(|engine| Some((engine, engine.hooks.read.as_ref()?)));
        let (engine, function) = reader.ok_or("no script has a `read`")?;
        engine.about.instance.set(Some(at.instance));
        engine.about.tag.set(None);
        *engine.about.last.borrow_mut() = at.last.cloned();
        *engine.about.question.borrow_mut() = at.question.cloned();
        let said = engine.read::<(mlua::Value, mlua::Value)>(function, state);
        self.took(engine);
        let said = said.map_err(|broken| format!("script {}: {}", engine.name, broken.text()))?;
        match said {
            (mlua::Value::String(text), _) => Ok(Value::from(&*text.as_bytes())),
            (mlua::Value::Nil, reason) if reason.is_string() => {
                let reason = reason.as_string().map(|reason| reason.to_string_lossy()).unwrap_or_default();
                Err(format!("script {}: {reason}", engine.name))
            }
            (other, _) => Err(format!(
                "script {}: `read` returned a {}: it returns a string, or nil and a reason",
                engine.name,
                st::kind(&other)
            )),
        }
    }
}
