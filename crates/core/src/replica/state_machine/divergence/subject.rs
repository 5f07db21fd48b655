//! The subjects of comparison: the log itself, and the state of each script.
//!
//! This module owns the differences between the two: their lines, their words, and their digests. A digest of the
//! log can be recomputed for any past instance. A digest of a script is kept for a while only.

use std::sync::Arc;

use super::search::{Search, Subject};
use crate::hooks::Script;
use crate::replica::context::Context;
use crate::replica::outbox::{Event, Outbox, list};
use crate::replica::state_machine::learned_log::LearnedLog;
use crate::types::{Instance, NodeId};
use crate::wire::{Dialect, Message};

/// This node's side of a comparison: its digests, and the log with the group whose quorum decides.
#[derive(Debug)]
pub struct OwnDigests<'a> {
    /// The context of this step.
    pub context: Context,
    /// The learned log, with its scripts, their digests, and the group in force.
    pub log: &'a mut LearnedLog,
}

impl OwnDigests<'_> {
    /// Whether the log is compared. Classic groups send no heartbeats, and compare nothing.
    pub fn has_log(&self) -> bool {
        self.context.dialect == Dialect::Extended
    }

    /// The subjects of this node.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> + use<> {
        let scripts = (0..self.log.scripts().len()).map(Subject::Script);
        self.has_log().then_some(Subject::Log).into_iter().chain(scripts)
    }

    /// The digest of a subject up to an instance, if it is in memory.
    pub fn digest_of(&self, subject: Subject, instance: Instance) -> Option<u128> {
        match subject {
            Subject::Log => self.log.chain().digest_at(instance),
            Subject::Script(number) => self.log.scripts().digest_at(number, instance).map(u128::from),
        }
    }

    /// The first instance for which this node can give a digest.
    pub fn floor_of(&self, subject: Subject) -> Instance {
        match subject {
            Subject::Log => Instance(0),
            Subject::Script(number) => self.log.scripts().floor(number),
        }
    }

    /// The name of a subject in reports.
    pub fn name_of(&self, subject: Subject) -> String {
        match subject {
            Subject::Log => "the log".into(),
            Subject::Script(number) => format!("script {}", self.log.scripts().script(number).name),
        }
    }

    /// Sends the digest of a subject up to an instance, if that is durable and the digest is in memory.
    pub fn tell(&self, subject: Subject, instance: Instance, out: &mut Outbox) {
        let is_durable = instance <= self.context.durable;
        let Some(digest) = self.digest_of(subject, instance).filter(|_| is_durable) else { return };
        out.send(match subject {
            Subject::Log if instance.0 == 0 => return,
            Subject::Log => Message::Chain { instance, digest },
            Subject::Script(number) => {
                let script = Script::clone(self.log.scripts().script(number));
                Message::Digest { instance, digest: digest as u64, script }
            }
        });
    }

    /// Asks the peers for their digests at an instance, unless that question is open.
    pub fn ask(&self, search: &mut Search, instance: Instance, out: &mut Outbox) {
        if search.asks == instance {
            return;
        }
        search.asks = instance;
        out.send(match search.subject {
            Subject::Log => Message::AskChain { instance },
            Subject::Script(number) => {
                let name = Arc::clone(&self.log.scripts().script(number).name);
                Message::AskDigest { instance, name }
            }
        });
    }

    /// The report of a divergence whose first instance is found.
    pub fn divergence(&self, search: &Search) -> Event {
        let Search { peer, low: after, high: first, .. } = *search;
        match search.subject {
            Subject::Log => Event::LogDiverged { peer, after, first },
            Subject::Script(number) => {
                let script = Arc::clone(self.log.scripts().script(number));
                Event::Diverged { script, peer, after, first }
            }
        }
    }

    /// The reason that a node gives when it ends because a quorum disagrees with it.
    pub fn why_to_end(&self, subject: Subject, first: Instance, others: &[NodeId]) -> String {
        let (name, others) = (self.name_of(subject), list(others));
        match subject {
            Subject::Log => format!(
                "{name} holds another value here than at nodes {others}, from instance {first} on, though all were \
                 chosen: the disk of some node was rolled back, or damaged. Keep all directories, and compare \
                 `upaxos-node log DIR` of each from {first} on: acknowledged writes may stand here alone. Once what \
                 is missing is written anew, give this node a new directory and id, with the network flags as here: \
                 upaxos-node --join -i NEW_ID --replace {}",
                self.context.me
            ),
            Subject::Script(_) => format!(
                "{name} has computed something else here than at nodes {others}, from instance {first} on: what \
                 this node reads is wrong. Find out why (a script that remembers outside of `st`, another machine's \
                 floating point, damaged memory); then start it with --rebuild-state, which computes all anew"
            ),
        }
    }

    /// `AskDigest`: sends the digest of a script, as it is durable here.
    pub fn on_ask_digest(&self, instance: Instance, name: &str, out: &mut Outbox) {
        if let Some(script) = self.log.scripts().named(name) {
            self.tell(Subject::Script(script), instance, out);
        }
    }

    /// `AskChain`: sends the digest of this node's durable log up to an instance. If it must read the history for
    /// that, it answers when it is asked again.
    pub fn on_ask_chain(&mut self, instance: Instance, out: &mut Outbox) {
        if !self.has_log() || instance > self.context.durable {
            return;
        }
        self.tell(Subject::Log, instance, out);
        if self.digest_of(Subject::Log, instance).is_none() {
            self.dig(Subject::Log, instance, out);
        }
    }

    /// Starts to recompute a past digest. A peer that needs it asks again.
    pub fn dig(&mut self, subject: Subject, instance: Instance, out: &mut Outbox) {
        if subject == Subject::Log {
            self.log.dig(instance, out);
        }
    }
}
