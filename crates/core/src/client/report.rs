//! Outcomes as text, for people and pipes.

use std::fmt;

use super::outcome::Outcome;
use crate::text;
use crate::types::{Instance, MAX_NUMBER, NodeId, Value};
use crate::wire::{self, Dialect, Line, Message};

impl Outcome {
    /// One line without a newline: `OK I V`, `Value I L V`, `Reply L V`, `NotYet I L`, `Members I L H`, `Refused
    /// TEXT` or `Unknown`. It keeps every byte of a value; newline, carriage return and backslash are escaped as on
    /// the wire.
    pub fn to_line(&self) -> Vec<u8> {
        match self {
            Outcome::Chosen { instance, value } => with_value(format!("OK {instance} "), value),
            Outcome::Read { instance, learned, value } => {
                with_value(format!("Value {instance} {learned} "), value)
            }
            Outcome::Replied { learned, value } => with_value(format!("Reply {learned} "), value),
            Outcome::NotYet { instance, learned } => format!("NotYet {instance} {learned}").into_bytes(),
            Outcome::Members { epoch, learned, members } => {
                let ids: Vec<_> = members.iter().map(NodeId::to_string).collect();
                format!("Members {epoch} {learned} {}", ids.join(",")).into_bytes()
            }
            Outcome::Refused { reason } => with_value("Refused ".into(), reason),
            Outcome::Unknown | Outcome::Forgotten => b"Unknown".to_vec(),
        }
    }

    /// Reads the form that [`to_line`](Self::to_line) writes, and ignores words behind `Unknown`. `None` for any
    /// other line.
    pub fn parse(line: &[u8]) -> Option<Outcome> {
        let (word, rest) = match line.iter().position(|byte| *byte == b' ') {
            Some(end) => (&line[..end], &line[end + 1..]),
            None => (line, &line[line.len()..]),
        };
        // These two have the same form on the wire. The sender's id there does not matter.
        let says = || match wire::parse_line(&[b"0 ", line].concat(), Dialect::Extended) {
            Ok(Line::Node(_, message)) => Some(message),
            _ => None,
        };
        match word {
            b"OK" => {
                let (instance, value) = number(rest)?;
                Some(Outcome::Chosen { instance, value: text::unescape(value, Dialect::Extended).ok()? })
            }
            b"Value" => {
                let (instance, rest) = number(rest)?;
                let (learned, value) = number(rest)?;
                Some(Outcome::Read {
                    instance,
                    learned,
                    value: text::unescape(value, Dialect::Extended).ok()?,
                })
            }
            b"Reply" => {
                let (learned, value) = number(rest)?;
                Some(Outcome::Replied {
                    learned: Instance(learned.0),
                    value: text::unescape(value, Dialect::Extended).ok()?,
                })
            }
            b"NotYet" | b"Members" => match says()? {
                Message::NotYet { instance, learned } => Some(Outcome::NotYet { instance, learned }),
                Message::Members { epoch, learned, members } => {
                    Some(Outcome::Members { epoch, learned, members })
                }
                _ => None,
            },
            b"Refused" => Some(Outcome::Refused { reason: text::unescape(rest, Dialect::Extended).ok()? }),
            b"Unknown" => Some(Outcome::Unknown),
            _ => None,
        }
    }

    /// The kind of the outcome, for programs: `chosen`, `read`, `replied`, `not-yet`, `members`, `refused` or `unknown`.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Chosen { .. } => "chosen",
            Outcome::Read { .. } => "read",
            Outcome::Replied { .. } => "replied",
            Outcome::NotYet { .. } => "not-yet",
            Outcome::Members { .. } => "members",
            Outcome::Refused { .. } => "refused",
            Outcome::Unknown | Outcome::Forgotten => "unknown",
        }
    }
}

/// The reason why the outcome is unknown although a node answered.
pub const FORGOTTEN: &str =
    "the group does not remember any more whether it was carried out; ask what is in the log (Request I)";

impl fmt::Display for Outcome {
    /// Prints for people: [`to_line`](Self::to_line) without the bytes that would control a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Value::from(self.to_line()).fmt(f)
    }
}

fn with_value(head: String, value: &Value) -> Vec<u8> {
    let mut line = head.into_bytes();
    text::escape(&mut line, value.as_bytes());
    line
}

/// Reads a number and the blank behind it.
fn number(text: &[u8]) -> Option<(Instance, &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    Some((Instance(text::decimal(&text[..end], MAX_NUMBER)?), &text[end + 1..]))
}
