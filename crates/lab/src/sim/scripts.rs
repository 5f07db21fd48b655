//! The hook scripts of simulated nodes: the real ones, each node with states of its own.
//!
//! Owns the turns. The daemon starts a turn in each pass of its loop, and the scripts then have time again. Here a
//! turn ends when the scripts have used its time, so a run depends on nothing but its seed.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context;
use upaxos_core::hooks::{Applied, At, Fault, Hooks, Script};
use upaxos_core::script_state::ScriptState;
use upaxos_core::types::{Tag, Value};
use upaxos_script::{Limits, Scripts};
use upaxos_sim::scripted::Loads;

use super::BackendError;

/// The function that loads the scripts of one node at each of its starts. `None` if there are no files.
pub(super) fn load(paths: &[PathBuf]) -> Result<Option<Loads>, BackendError> {
    let load = |paths: &[PathBuf]| Scripts::load(paths, Limits::default());
    load(paths).context("cannot load hook scripts")?;
    let (is_none, paths) = (paths.is_empty(), paths.to_owned());
    let loads = move || -> Rc<dyn Hooks> {
        Rc::new(InTurns(
            load(&paths).expect("the scripts were loaded before, and do not change while a lab plays"),
        ))
    };
    Ok((!is_none).then(|| Loads(Rc::new(loads))))
}

#[derive(Debug)]
struct InTurns(Scripts);

impl Hooks for InTurns {
    fn scripts(&self) -> &[Script] {
        self.0.scripts()
    }

    fn has_time(&self) -> bool {
        let has_time = self.0.has_time();
        if !has_time {
            self.0.begin_turn();
        }
        has_time
    }

    fn request(&self, value: &Value, tag: Option<Tag>) -> Result<Option<Value>, String> {
        self.0.request(value, tag)
    }

    fn apply(&self, script: usize, state: &mut ScriptState, applied: &Applied<'_>) -> Result<(), Fault> {
        self.0.apply(script, state, applied)
    }

    fn reader(&self) -> Option<Option<usize>> {
        self.0.reader()
    }

    fn read(&self, state: &ScriptState, at: &At<'_>) -> Result<Value, String> {
        self.0.read(state, at)
    }
}
