//! Prints answers: above the prompt for people, to the standard streams for programs.
//!
//! Owns the words of answers and news. The engine calls it.

use std::io::{self, IsTerminal};

use rustyline::ExternalPrinter;
use serde_json::{Value as Json, json};
use upaxos_cli::{self as cli, OutputError};
use upaxos_core::client::{FORGOTTEN, Outcome, Settled};
use upaxos_core::types::{Epoch, Group, Instance, Micros, NodeId};

/// The engine's output, to a prompt or to the standard streams, as text or JSON.
pub struct Output {
    prompt: Option<Box<dyn ExternalPrinter + Send>>,
    json: bool,
}

impl Output {
    /// An output above the prompt, with latencies and news.
    pub fn above_prompt(printer: impl ExternalPrinter + Send + 'static, json: bool) -> Output {
        Output { prompt: Some(Box::new(printer)), json }
    }

    /// An output of one line per answer on standard output, and of errors on standard error.
    pub fn streams(json: bool) -> Output {
        Output { prompt: None, json }
    }

    /// Prints the outcome of a request. `why` explains a missing answer.
    pub fn settled(&mut self, request: &[u8], settled: &Settled, why: &str) -> Result<(), OutputError> {
        if self.json {
            return self.object(&upaxos_cli::request_json(request, &settled.outcome, settled.took));
        }
        let request = String::from_utf8_lossy(request);
        match (&settled.outcome, &mut self.prompt) {
            (Outcome::Unknown, _) => {
                self.complain(&format!("no answer to `{request}` in time, the outcome is unknown: {why}"))
            }
            (Outcome::Forgotten, _) => {
                self.complain(&format!("the outcome of `{request}` is unknown: {FORGOTTEN}"))
            }
            (Outcome::Refused { reason }, _) => self.complain(&format!("refused `{request}`: {reason}")),
            (outcome, None) => {
                if io::stdout().is_terminal() {
                    return cli::print(outcome);
                }
                cli::print_bytes(&outcome.to_line())
            }
            (outcome, Some(_)) => {
                let answer = answer(outcome, request.trim() == "fast");
                self.text(&format!("{answer}{})", length(settled.took)))
            }
        }
    }

    /// Prints an event, at a prompt without JSON only.
    pub fn news(&mut self, text: &str) -> Result<(), OutputError> {
        if self.prompt.is_some() && !self.json { self.text(text) } else { Ok(()) }
    }

    /// Prints the text of an answer.
    pub fn text(&mut self, text: &str) -> Result<(), OutputError> {
        match &mut self.prompt {
            Some(prompt) => prompt.print(format!("{text}\n")).map_err(|why| io::Error::other(why).into()),
            None => cli::print(text),
        }
    }

    /// Prints a JSON object as one line.
    pub fn object(&mut self, object: &Json) -> Result<(), OutputError> {
        self.text(&object.to_string())
    }

    /// Prints an error: above the prompt, or on standard error.
    pub fn complain(&mut self, text: &str) -> Result<(), OutputError> {
        match (&self.prompt, self.json) {
            (Some(_), true) => self.object(&json!({ "error": text })),
            (Some(_), false) => self.text(text),
            (None, true) => {
                cli::complain(json!({ "error": text }));
                Ok(())
            }
            (None, false) => {
                cli::complain(format_args!("upaxos-repl: {text}"));
                Ok(())
            }
        }
    }

    /// Whether this output is above a prompt.
    pub fn is_prompt(&self) -> bool {
        self.prompt.is_some()
    }

    /// Whether answers and errors are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }
}

/// The text of an answer, up to its latency. For a fast read it includes whether the read used an instance.
fn answer(outcome: &Outcome, is_fast: bool) -> String {
    match outcome {
        Outcome::Chosen { instance, value } if is_fast => {
            format!("OK {instance} {value}   (instance {instance}; ")
        }
        Outcome::Chosen { instance, value } => format!("OK {instance} {value}   ("),
        Outcome::Read { instance: Instance(0), learned, .. } => {
            format!("nothing written yet   (no instance used, as of {learned}; ")
        }
        Outcome::Read { instance, learned, value } => {
            format!("OK {instance} {value}   (no instance used, as of {learned}; ")
        }
        Outcome::Replied { learned, value } => {
            format!("{value}   (no instance used, as of {learned}; ")
        }
        Outcome::NotYet { instance, learned } => {
            format!("not yet: instance {instance}; learned so far: up to {learned}   (")
        }
        Outcome::Members { epoch, learned, members } => {
            format!("{}   (", members_text(*epoch, *learned, members))
        }
        Outcome::Refused { reason } => format!("refused: {reason}   ("),
        Outcome::Unknown | Outcome::Forgotten => "unknown   (".into(),
    }
}

/// The members, their first instance and their quorum, for people.
fn members_text(epoch: Epoch, learned: Instance, members: &[NodeId]) -> String {
    let ids: Vec<_> = members.iter().map(NodeId::to_string).collect();
    let group = Group { epoch, members: members.iter().copied().collect() };
    let since = match epoch {
        Epoch(0) => "from the start".to_owned(),
        Epoch(instance) => format!("from instance {} on", instance + 1),
    };
    let plural = if ids.len() == 1 { "" } else { "s" };
    format!(
        "member{plural} {} {since}; a quorum is {}; learned so far: up to {learned}",
        ids.join(", "),
        group.quorum()
    )
}

fn length(took: Micros) -> String {
    match took.0 {
        0..10_000 => format!("{:.2} ms", took.0 as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", took.0 as f64 / 1e3),
        _ => format!("{:.1} s", took.0 as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_read_says_whether_it_used_an_instance() {
        let read = |instance, value: &str| Outcome::Read {
            instance: Instance(instance),
            learned: Instance(41),
            value: value.into(),
        };
        assert_eq!(answer(&read(40, "one"), true), "OK 40 one   (no instance used, as of 41; ");
        assert_eq!(answer(&read(0, ""), true), "nothing written yet   (no instance used, as of 41; ");
        let fallen_back = Outcome::Chosen { instance: Instance(42), value: "safe read one".into() };
        assert_eq!(answer(&fallen_back, true), "OK 42 safe read one   (instance 42; ");
        assert_eq!(answer(&fallen_back, false), "OK 42 safe read one   (");
    }

    #[test]
    fn who_governs_is_told_with_since_when_and_the_quorum() {
        let text = members_text(Epoch(5), Instance(41), &[NodeId(0), NodeId(1), NodeId(7)]);
        assert_eq!(text, "members 0, 1, 7 from instance 6 on; a quorum is 2; learned so far: up to 41");
    }

    #[test]
    fn latencies_have_two_to_three_digits() {
        assert_eq!(length(Micros(1_234)), "1.23 ms");
        assert_eq!(length(Micros(123_456)), "123 ms");
        assert_eq!(length(Micros(2_345_678)), "2.3 s");
    }
}
