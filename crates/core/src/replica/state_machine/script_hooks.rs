//! The calls of the scripts, and the use of their results.
//!
//! This module owns the form of each call. The leader asks once for every proposal of a client's write, just before
//! it proposes. A node asks once for every read whose result a script composes. (`learned_log` calls `apply` when an
//! instance is learned.) Scripts have already seen values that phase 1 found, or that were written before and lost
//! their instance. These are not shown to them again. This module keeps nothing.

use crate::entry::{Entry, SAFE_READ};
use crate::hooks::{At, Fault, Hooks, fingerprint};
use crate::replica::outbox::{Event, Outbox};
use crate::replica::state_machine::learned_log::LearnedLog;
use crate::replica::state_machine::script_states::Failed;
use crate::script_state::ScriptState;
use crate::types::{Instance, Value};
use crate::wire;

/// The refusal of a query when no script can answer it.
pub const NO_READER: &str =
    "no script here answers queries: start the nodes with a --script that has a `read`";

/// The entry of a client's write, with the value that the scripts put in the place of `unseen`, the client's own.
///
/// # Errors
/// The reason why a script rejects the write.
pub fn on_request(entry: Entry, unseen: &Value, hooks: Option<&dyn Hooks>) -> Result<Entry, String> {
    let Some(hooks) = hooks else { return Ok(entry) };
    let tagged = entry.tagged();
    let changed = hooks.request(unseen, tagged.map(|tagged| tagged.tag))?;
    let Some(changed) = changed.filter(|changed| changed != unseen) else { return Ok(entry) };
    if let Some(why) = wire::value_refusal(changed.as_bytes()) {
        return Err(format!("a script made it too large: {why}"));
    }
    Ok(match tagged {
        Some(tagged) => Entry::Tagged(tagged, changed),
        None => Entry::Changed(fingerprint(unseen.as_bytes()), changed),
    })
}

/// The result of a read of the learned prefix. A script composes it, if one has a reader.
///
/// # Errors
/// The reason why there is no answer.
pub fn read(log: &LearnedLog, question: Option<&Value>, hooks: Option<&dyn Hooks>) -> Result<Value, String> {
    let last = log.last_user();
    let reader = hooks.and_then(|hooks| Some((hooks, hooks.reader()?)));
    let Some((hooks, state)) = reader else {
        let value = last.map_or_else(|| Value::from(""), |(_, value)| value.clone());
        return question.map_or(Ok(value), |_| Err(NO_READER.into()));
    };
    let at = At { instance: log.learned(), last, question };
    let empty = ScriptState::default();
    let composed = hooks.read(state.map_or(&empty, |at| log.scripts().state(at)), &at)?;
    match wire::value_refusal(composed.as_bytes()) {
        Some(why) => Err(format!("a script's answer is too large: {why}")),
        None => Ok(composed),
    }
}

/// The result of a safe read at the next instance, in the form in which it stands in the log.
///
/// # Errors
/// The reason why there is no answer.
pub fn safe_read(
    log: &LearnedLog,
    question: Option<&Value>,
    hooks: Option<&dyn Hooks>,
) -> Result<Value, String> {
    let composed = read(log, question, hooks)?;
    let mut bytes = SAFE_READ.as_bytes().to_vec();
    bytes.extend_from_slice(composed.as_bytes());
    Ok(Value::from(bytes))
}

/// Reports the scripts that could not apply an instance. True when the node must end for that reason.
pub fn report_failed(instance: Instance, failed: Vec<Failed>, out: &mut Outbox) -> bool {
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
