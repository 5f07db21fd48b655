//! What is compared: the log itself, and the state of each script.
//!
//! Owns the differences between the two: their lines, their words, and that a digest of the log can be computed anew
//! for any instance of the past, while one of a script is kept for a while.

use std::sync::Arc;

use super::{Node, Search, list};
use crate::hooks::Script;
use crate::mutant::{self, Mutant};
use crate::node::outbox::{Event, Outbox, Why};
use crate::store::Past;
use crate::types::{Instance, NodeId};
use crate::wire::Message;

/// How many values that are held are taken at once, to compute a digest anew.
const HELD: u64 = 1 << 14;

/// What two nodes may differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// What they have learned.
    Log,
    /// What this script computed.
    Script(usize),
}

impl Node {
    /// All there is to compare. Classic groups have no beats, and compare nothing.
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

    /// From which instance on this node can say what its digest is.
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

    /// What a node that a quorum disagrees with says when it ends.
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

    /// `AskChain`: what this node has durably learned, up to an instance. It may have to read its history for that;
    /// then it answers when it is asked again.
    pub(in crate::node) fn on_ask_chain(&mut self, instance: Instance, out: &mut Outbox) {
        if self.classic.is_some() || instance > self.durable {
            return;
        }
        self.tell_digest(Subject::Log, instance, out);
        if self.digest_of(Subject::Log, instance).is_none() {
            self.dig(Subject::Log, instance, out);
        }
    }

    /// `Chain`: what a peer has learned, up to an instance.
    pub(in crate::node) fn on_chain(&mut self, from: NodeId, said: (Instance, u128), out: &mut Outbox) {
        if self.classic.is_none() && !mutant::is(Mutant::ChainNotCompared) {
            self.on_said(from, Subject::Log, said, out);
        }
    }

    /// Begins to compute a digest of the past anew. Whoever needs it asks again.
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

    /// Goes on with what is computed anew: from values that are held, or with the next of the history.
    fn dig_on(&mut self, out: &mut Outbox) {
        let learned = self.learner.learned();
        while let Some((first, last)) = self.history.chain_mut().needs(learned) {
            if self.history.is_forgotten(first) {
                return out.look_up(first, last, Why::Digest);
            }
            let past = self.history.past(first, last.min(Instance(first.0 + HELD)));
            self.history.chain_mut().take(&past);
        }
    }

    /// The history has been read.
    pub(in crate::node) fn on_dug(&mut self, past: &[Past], out: &mut Outbox) {
        self.history.chain_mut().take(past);
        self.dig_on(out);
    }

    /// The digest of all that was learned up to an instance, if it is at hand.
    pub fn log_digest_at(&self, instance: Instance) -> Option<u128> {
        self.digest_of(Subject::Log, instance)
    }

    /// A peer whose log differs from this node's, and from which instance on, if one is known.
    pub fn log_differs_from(&self) -> Option<(NodeId, Instance)> {
        self.digests.parted().next()
    }
}
