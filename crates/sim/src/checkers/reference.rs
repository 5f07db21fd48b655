//! The state of scripts that a run without faults computes.

use std::collections::BTreeSet;

use upaxos_core::hooks::{Applied, Hooks};
use upaxos_core::replica::link;
use upaxos_core::script_state::ScriptState;
use upaxos_core::types::{Instance, Value};

use crate::double::Double;

/// The state that a run without faults computes.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) double: Double,
    pub(super) state: ScriptState,
    /// The digest after each instance, from instance 0 on.
    pub(super) chain: Vec<u64>,
    /// The instances at which a value was applied.
    pub(super) applied: BTreeSet<Instance>,
}

impl Reference {
    pub(super) fn new() -> Reference {
        let double = Double::new(None);
        let chain = vec![double.scripts()[0].source];
        Reference { double, state: ScriptState::default(), chain, applied: BTreeSet::new() }
    }

    pub(super) fn next(&self) -> Instance {
        Instance(self.chain.len() as u64)
    }

    pub(super) fn learn(&mut self, instance: Instance, value: Option<&Value>) {
        let mut digest = self.chain[self.chain.len() - 1];
        if let Some(value) = value {
            let applied = Applied { value, instance, tag: None };
            let failed = self.double.apply(0, &mut self.state, &applied).is_err();
            if failed {
                self.state.undo()
            } else {
                self.state.commit()
            }
            digest = link(digest, instance, failed, &self.state);
            self.applied.insert(instance);
        }
        self.chain.push(digest);
    }
}
