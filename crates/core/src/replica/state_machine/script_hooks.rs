//! The calls of the scripts, and the use of their results.
//!
//! This module owns the time of each call. The leader asks once for every proposal of a client's write, just before
//! it proposes. A node asks once for every read whose result a script composes. (`history` calls `apply` when an
//! instance is learned.) Scripts have already seen values that phase 1 found, or that were written before and lost
//! their instance. These are not shown to them again.

use crate::entry::{Entry, SAFE_READ};
use crate::hooks::{At, Fault, Hooks, fingerprint};
use crate::mutant::{self, Mutant};
use crate::past::Past;
use crate::replica::Replica;
use crate::replica::clients::queue::Proposal;
use crate::replica::outbox::{Event, Outbox};
use crate::replica::recovery::RecoverError;
use crate::replica::state_machine::script_states::Failed;
use crate::script_state::ScriptState;
use crate::types::{Instance, Micros, Value};
use crate::wire::{self, Message};

impl Replica {
    /// The entry to write at `instance` for a request.
    ///
    /// # Errors
    /// The reason why a script rejects the request, or cannot answer it.
    pub(in crate::replica) fn entry_of(
        &self,
        wanted: &Proposal,
        instance: Instance,
        out: &Outbox,
    ) -> Result<Entry, String> {
        if wanted.is_read() {
            let worded = self.worded(wanted.question(), out)?;
            let mut bytes = SAFE_READ.as_bytes().to_vec();
            bytes.extend_from_slice(worded.as_bytes());
            return Ok(wanted.entry(instance, || Value::from(bytes)));
        }
        let entry = wanted.entry(instance, || self.history.safe_read());
        let (Some(hooks), Some(value)) = (&out.hooks, wanted.unseen()) else { return Ok(entry) };
        let changed = hooks.request(value, wanted.tagged().map(|tagged| tagged.tag))?;
        let Some(changed) = changed.filter(|changed| changed != value) else { return Ok(entry) };
        if let Some(why) = wire::value_refusal(changed.as_bytes()) {
            return Err(format!("a script made it too large: {why}"));
        }
        Ok(match wanted.tagged() {
            Some(tagged) => Entry::Tagged(tagged, changed),
            None => Entry::Changed(fingerprint(value.as_bytes()), changed),
        })
    }

    /// The entry to write at `instance` for a request that cannot be carried out. If the request has a tag and
    /// would have an effect, the log records the refusal. Otherwise the next leader, or this one on a copy of the
    /// request, might decide differently. A logged refusal is answered when it is learned. Every other refusal is
    /// answered now, and nothing is written.
    pub(in crate::replica) fn refusal_of(
        &mut self,
        wanted: &Proposal,
        reason: &str,
        now: Micros,
        out: &mut Outbox,
    ) -> Option<Entry> {
        if matches!(wanted, Proposal::Change(..)) && !self.election.has_quorum(&self.group, now) {
            // Another node may lead by now, and decide differently.
            return None;
        }
        match wanted.tagged() {
            Some(tagged) if !wanted.is_read() && !mutant::is(Mutant::RefusedByWord) => {
                Some(Entry::refused(tagged, reason))
            }
            _ => {
                self.reject(wanted, reason, now, out);
                None
            }
        }
    }

    /// Refuses the request, and tells the nodes that would pass it on.
    pub(in crate::replica) fn reject(
        &mut self,
        wanted: &Proposal,
        reason: &str,
        now: Micros,
        out: &mut Outbox,
    ) {
        if let Proposal::Write(value) = wanted {
            out.send(Message::Dropped { words: fingerprint(value.as_bytes()) });
        }
        self.refuse(Some(wanted), reason, now, out);
    }

    /// The result of a read of the learned prefix. A script composes it, if one has a reader.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub(in crate::replica) fn worded(&self, question: Option<&Value>, out: &Outbox) -> Result<Value, String> {
        let last = self.history.last_user();
        let reader = out.hooks.as_ref().and_then(|hooks| Some((hooks, hooks.reader()?)));
        let Some((hooks, state)) = reader else {
            let value = last.map_or_else(|| Value::from(""), |(_, value)| value.clone());
            return question.map_or(Ok(value), |_| Err(Replica::NO_READER.into()));
        };
        let at = At { instance: self.learner.learned(), last, question };
        let empty = ScriptState::default();
        let worded = hooks.read(state.map_or(&empty, |at| self.history.scripts().state(at)), &at)?;
        match wire::value_refusal(worded.as_bytes()) {
            Some(why) => Err(format!("a script's answer is too large: {why}")),
            None => Ok(worded),
        }
    }

    /// The refusal of a query when no script can answer it.
    pub(in crate::replica) const NO_READER: &'static str =
        "no script here answers queries: start the nodes with a --script that has a `read`";

    /// Reports the scripts that could not apply an instance. True when the node must end for that reason.
    pub(in crate::replica) fn note_failed(
        &self,
        instance: Instance,
        failed: Vec<Failed>,
        out: &mut Outbox,
    ) -> bool {
        for Failed { script, fault } in failed {
            match fault {
                Fault::Raised(error) => out.event(Event::ApplyFailed { script, instance, error }),
                Fault::Fatal(reason) => {
                    let name = &script.name;
                    out.event(Event::MustEnd(format!("script {name}, instance {instance}: {reason}")));
                    return true;
                }
            }
        }
        false
    }

    /// The first known instance that a script has yet to apply: the script was added or changed since the log
    /// began. Before the node starts, its driver reads the values from there on, and passes them to
    /// [`Replica::catch_up`].
    pub fn behind(&self) -> Option<Instance> {
        self.history.behind()
    }

    /// Lets the scripts that are behind apply old values. These are the ones in `past`, which starts with the
    /// instance of [`Replica::behind`]. If `past` is empty, they are the values that the node holds itself. Call this
    /// until no script is behind.
    ///
    /// # Errors
    /// When a script cannot go on.
    pub fn catch_up(&mut self, past: &[Past], hooks: &dyn Hooks) -> Result<(), RecoverError> {
        let held = match (past, self.behind()) {
            ([], Some(next)) => self.history.past(next, self.learner.learned()),
            _ => Vec::new(),
        };
        let past = if past.is_empty() { &held } else { past };
        // The history may reach beyond the learned prefix when a value in the log is lost. That part comes later.
        let known = past.partition_point(|past| past.instance <= self.learner.learned());
        let past = &past[..known];
        assert!(!past.is_empty() || self.behind().is_none(), "a value is in memory, or in the history");
        self.history.catch_up(past, hooks).map_err(|Failed { script, fault }| {
            let (Fault::Fatal(reason) | Fault::Raised(reason)) = fault;
            let instance = self.history.behind().unwrap_or_default();
            RecoverError::Script { script: script.name.to_string(), instance, reason }
        })
    }

    /// The result of each script: its name, the last applied instance, and the digest up to there.
    pub fn digests(&self) -> Vec<(&str, Instance, u64)> {
        let scripts = self.history.scripts();
        let through = self.learner.learned();
        let digest = |at| Some((&*scripts.script(at).name, through, scripts.digest_at(at, through)?));
        (0..scripts.len()).filter_map(digest).collect()
    }

    /// The digest of script number `script` up to an instance, if that is recent enough.
    pub fn digest_at(&self, script: usize, instance: Instance) -> Option<u64> {
        self.history.scripts().digest_at(script, instance)
    }

    /// The state of script number `script`, if there is such a script.
    pub fn state(&self, script: usize) -> Option<&ScriptState> {
        (script < self.history.scripts().len()).then(|| self.history.scripts().state(script))
    }
}
