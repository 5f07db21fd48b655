//! The checker of scripts. It computes, from the chosen values alone, what every node must have computed after
//! every instance.
//!
//! The values of the instances show which writes took effect. Nodes report their digests whenever they have
//! learned, and when they start again.

use upaxos_core::entry::Entry;
use upaxos_core::types::Instance;

use super::Checkers;
use super::reference::Reference;
use super::rule::Rule;

impl Checkers {
    /// Computes as far as the log goes that any node has learned.
    fn compute(&mut self) {
        let mut reference = self.scripts.take().unwrap_or_else(Reference::new);
        while let Some(reads) = self.reads.get(&reference.next()) {
            let instance = reference.next();
            let entry = self.chosen.get(&instance).map(|value| Entry::decode(instance, value, self.dialect));
            let written = entry.as_ref().and_then(Entry::written);
            // A repeated request has no effect, and its instance reads otherwise.
            reference.learn(instance, written.filter(|value| *value == reads));
        }
        self.scripts = Some(reference);
    }

    /// A node reports the digest of what it computed up to an instance.
    pub fn on_digest(&mut self, id: u16, instance: Instance, digest: u64) {
        self.compute();
        let known = self.scripts.as_ref().and_then(|scripts| scripts.chain.get(instance.0 as usize));
        if known.is_some_and(|known| *known != digest) {
            let got = format!("{id} has computed {digest} up to {instance}; it is {known:?}");
            self.fail(Rule::SameState, got);
        }
    }

    /// The first instance from `from` on at which a value is applied.
    pub fn applied_from(&self, from: Instance) -> Option<Instance> {
        self.scripts.as_ref()?.applied.range(from..).next().copied()
    }

    /// A node reports that a peer has computed something else, first at an instance between two. `stray` is the
    /// instance from which one of the two really computed something else.
    pub fn on_diverged(&mut self, id: u16, (after, first): (Instance, Instance), stray: Option<Instance>) {
        self.compute();
        let really = stray.and_then(|from| self.applied_from(from));
        if really.is_none_or(|really| really <= after || really > first) {
            let got = format!(
                "{id} reports that scripts diverge between {after} and {first}; they do at {really:?}"
            );
            self.fail(Rule::DivergenceIsFound, got);
        }
    }
}
