//! The report of a play: text for people, JSON for programs.
//!
//! Owns the wording of verdicts. Decides nothing.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::backends::Kind;
use super::error::{LabError, What};
use super::run::Act;
use super::verdict::{End, Verdict};

/// The name of a play: script, lab and world.
#[derive(Clone, Copy, Debug)]
pub struct Name<'n> {
    /// The path of the script, as given on the command line.
    pub script: &'n str,
    /// The title of the lab.
    pub title: &'n str,
    /// The world in which it is played.
    pub world: Kind,
}

impl Name<'_> {
    /// The command that plays it again with this seed.
    pub fn again(&self, seed: u64) -> String {
        let (script, title) = (quoted(self.script), quoted(self.title));
        format!("upaxos-node lab {script} --only {title} --on {} --seed {seed}", self.world)
    }
}

/// Quotes a text as one word of the shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The report of a failure: the place, the expected and the actual state, the knowledge about all nodes, and the
/// command that repeats it.
pub fn failure(name: Name, seed: u64, trouble: &LabError, views: &str) -> String {
    let mut text = format!("FAILED  {}  (seed {seed}, on {})\n", name.title, name.world);
    let place = trouble.place.as_ref().map_or_else(|| name.script.to_owned(), ToString::to_string);
    let _ = match &trouble.what {
        What::Expected { expected, got } => {
            writeln!(text, "at:       {place}\nexpected: {expected}\ngot:      {got}")
        }
        What::Error(what) | What::Skip(what) => writeln!(text, "at:       {place}\nerror:    {what}"),
    };
    if !views.is_empty() {
        let _ = writeln!(text, "\n{}", views.trim_end());
    }
    let _ = write!(text, "\nagain: {}", name.again(seed));
    text
}

/// One line of a story: the act, its result, and how long it took.
pub fn step(name: &str, what: &str, took: Duration) -> String {
    let took = took.as_secs_f64() * 1e3;
    let digits = if took < 10.0 { 1 } else { 0 };
    format!("{name:>9}  {what:<62} {took:>6.digits$} ms")
}

fn act(act: &Act) -> Value {
    json!({ "at": act.at.0, "node": act.node.map(|node| node.0), "what": act.what })
}

/// The JSON form of one play.
pub fn json(name: Name, verdict: &Verdict) -> Value {
    let (outcome, reason) = match &verdict.end {
        End::Passed => ("passed", None),
        End::Skipped(reason) => ("skipped", Some(reason)),
        End::Failed { .. } => ("failed", None),
    };
    let mut object = json!({
        "lab": name.title,
        "script": name.script,
        "world": name.world.to_string(),
        "seed": verdict.seed,
        "outcome": outcome,
        "skips": verdict.skips,
        "acts": verdict.acts.iter().map(act).collect::<Vec<_>>(),
        "asked": verdict.asked,
        "seconds": verdict.lasted.0 as f64 / 1e6,
        "took_seconds": verdict.took.as_secs_f64(),
    });
    if let Some(reason) = reason {
        object["reason"] = json!(reason);
    }
    if let End::Failed { trouble, views } = &verdict.end {
        let (expected, got, error) = match &trouble.what {
            What::Expected { expected, got } => (Some(expected), Some(got), None),
            What::Error(text) | What::Skip(text) => (None, None, Some(text)),
        };
        object["failure"] = json!({
            "file": trouble.place.as_ref().map(|place| &place.file),
            "line": trouble.place.as_ref().map(|place| place.line),
            "expected": expected,
            "got": got,
            "error": error,
            "views": views,
            "again": name.again(verdict.seed),
        });
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted("scripts/labs/a.lua"), "scripts/labs/a.lua");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }
}
