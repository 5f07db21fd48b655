//! The subjects of comparison: the log itself, and the state of each script.
//!
//! This module owns the differences between the two: their lines, their words, and their digests. A digest of the
//! log can be recomputed for any past instance. A digest of a script is kept for a while only.

use std::sync::Arc;

use super::{Replica, Search, list};
use crate::hooks::Script;
use crate::mutant::{self, Mutant};
use crate::past::Past;
use crate::replica::outbox::{Event, LookupPurpose, Outbox};
use crate::types::{Instance, NodeId};
use crate::wire::Message;

/// How many values in memory one step takes to recompute a digest.
const HELD: u64 = 1 << 14;

/// A subject in which two nodes may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The learned values.
    Log,
    /// The state that this script computed, by its number.
    Script(usize),
}

impl Replica {
    /// All subjects of this node. Classic groups send no heartbeats, and compare nothing.
    pub(super) fn subjects(&self) -> impl Iterator<Item = Subject> + use<> {
        let scripts = (0..self.history.scripts().len()).map(Subject::Script);
        let has_log = self.classic.is_none();
        has_log.then_some(Subject::Log).into_iter().chain(scripts)
    }

    pub(super) fn digest_of(&self, subject: Subject, instance: Instance) -> Option<u128> {
        match subject {
            Subject::Log => self.history.chain().digest_at(instance),
            Subject::Script(number) => self.history.scripts().digest_at(number, instance).map(u128::from),
        }
    }

    /// The first instance for which this node can give a digest.
    pub(super) fn floor_of(&self, subject: Subject) -> Instance {
        match subject {
            Subject::Log => Instance(0),
            Subject::Script(number) => self.history.scripts().floor(number),
        }
    }

    pub(super) fn name_of(&self, subject: Subject) -> String {
        match subject {
            Subject::Log => "the log".into(),
            Subject::Script(number) => format!("script {}", self.history.scripts().script(number).name),
        }
    }

    pub(super) fn tell_digest(&self, subject: Subject, instance: Instance, out: &mut Outbox) {
        let Some(digest) = self.digest_of(subject, instance).filter(|_| instance <= self.durable) else {
            return;
        };
        out.send(match subject {
            Subject::Log if instance.0 == 0 => return,
            Subject::Log => Message::Chain { instance, digest },
            Subject::Script(number) => {
                let script = Script::clone(self.history.scripts().script(number));
                Message::Digest { instance, digest: digest as u64, script }
            }
        });
    }

    pub(super) fn ask_digest(&self, search: &mut Search, instance: Instance, out: &mut Outbox) {
        if search.asks == instance {
            return;
        }
        search.asks = instance;
        out.send(match search.subject {
            Subject::Log => Message::AskChain { instance },
            Subject::Script(number) => {
                let name = Arc::clone(&self.history.scripts().script(number).name);
                Message::AskDigest { instance, name }
            }
        });
    }

    pub(super) fn divergence(&self, search: &Search) -> Event {
        let Search { peer, low: after, high: first, .. } = *search;
        match search.subject {
            Subject::Log => Event::LogDiverged { peer, after, first },
            Subject::Script(number) => {
                let script = Arc::clone(self.history.scripts().script(number));
                Event::Diverged { script, peer, after, first }
            }
        }
    }

    /// The reason that a node gives when it ends because a quorum disagrees with it.
    pub(super) fn why_to_end(&self, subject: Subject, first: Instance, others: &[NodeId]) -> String {
        let (name, others) = (self.name_of(subject), list(others));
        match subject {
            Subject::Log => format!(
                "{name} holds another value here than at nodes {others}, from instance {first} on, though all were \
                 chosen: the disk of some node was rolled back, or damaged. Keep all directories, and compare \
                 `upaxos-node log DIR` of each from {first} on: acknowledged writes may stand here alone. Once what \
                 is missing is written anew, give this node a new directory and id, with the network flags as here: \
                 upaxos-node --join -i NEW_ID --replace {}",
                self.id
            ),
            Subject::Script(_) => format!(
                "{name} has computed something else here than at nodes {others}, from instance {first} on: what \
                 this node reads is wrong. Find out why (a script that remembers outside of `st`, another machine's \
                 floating point, damaged memory); then start it with --rebuild-state, which computes all anew"
            ),
        }
    }

    /// `AskChain`: sends the digest of this node's durable log up to an instance. If it must read the history for
    /// that, it answers when it is asked again.
    pub(in crate::replica) fn on_ask_chain(&mut self, instance: Instance, out: &mut Outbox) {
        if self.classic.is_some() || instance > self.durable {
            return;
        }
        self.tell_digest(Subject::Log, instance, out);
        if self.digest_of(Subject::Log, instance).is_none() {
            self.dig(Subject::Log, instance, out);
        }
    }

    /// `Chain`: handles a peer's digest of the log up to an instance.
    pub(in crate::replica) fn on_chain(&mut self, from: NodeId, said: (Instance, u128), out: &mut Outbox) {
        if self.classic.is_none() && !mutant::is(Mutant::ChainNotCompared) {
            self.on_said(from, Subject::Log, said, out);
        }
    }

    /// Starts to recompute a past digest. A peer that needs it asks again.
    pub(super) fn dig(&mut self, subject: Subject, instance: Instance, out: &mut Outbox) {
        if subject == Subject::Log && !self.history.chain().digs() {
            self.history.chain_mut().dig(instance);
            self.dig_on(out);
        }
    }

    pub(super) fn dig_on_with_beat(&mut self, out: &mut Outbox) {
        if self.classic.is_none() {
            self.history.chain_mut().begin_turn();
            self.dig_on(out);
        }
    }

    /// Continues a recomputation, with values in memory or by a lookup of the next ones in the history files.
    fn dig_on(&mut self, out: &mut Outbox) {
        let learned = self.learner.learned();
        while let Some((first, last)) = self.history.chain_mut().needs(learned) {
            if self.history.is_forgotten(first) {
                return out.look_up(first, last, LookupPurpose::Digest);
            }
            let past = self.history.past(first, last.min(Instance(first.0 + HELD)));
            self.history.chain_mut().take(&past);
        }
    }

    /// Takes the values that a lookup found in the history files.
    pub(in crate::replica) fn on_dug(&mut self, past: &[Past], out: &mut Outbox) {
        self.history.chain_mut().take(past);
        self.dig_on(out);
    }

    /// The digest of the learned prefix up to an instance, if it is in memory.
    pub fn log_digest_at(&self, instance: Instance) -> Option<u128> {
        self.digest_of(Subject::Log, instance)
    }

    /// A peer whose log is known to differ from this node's, with the first different instance.
    pub fn log_differs_from(&self) -> Option<(NodeId, Instance)> {
        self.digests.parted().next()
    }
}
