//! Outcomes as text for people and pipes, and as JSON for programs.

use std::fmt;

use serde_json::{Map, Value as Json, json};

use super::Outcome;
use crate::types::{Instance, MAX_NUMBER, Micros, NodeId, Value};
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
                Some(Outcome::Chosen { instance, value: wire::unescape(value, Dialect::Extended).ok()? })
            }
            b"Value" => {
                let (instance, rest) = number(rest)?;
                let (learned, value) = number(rest)?;
                Some(Outcome::Read {
                    instance,
                    learned,
                    value: wire::unescape(value, Dialect::Extended).ok()?,
                })
            }
            b"Reply" => {
                let (learned, value) = number(rest)?;
                Some(Outcome::Replied {
                    learned: Instance(learned.0),
                    value: wire::unescape(value, Dialect::Extended).ok()?,
                })
            }
            b"NotYet" | b"Members" => match says()? {
                Message::NotYet { instance, learned } => Some(Outcome::NotYet { instance, learned }),
                Message::Members { epoch, learned, members } => {
                    Some(Outcome::Members { epoch, learned, members })
                }
                _ => None,
            },
            b"Refused" => Some(Outcome::Refused { reason: wire::unescape(rest, Dialect::Extended).ok()? }),
            b"Unknown" => Some(Outcome::Unknown),
            _ => None,
        }
    }

    fn word(&self) -> &'static str {
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
    wire::escape(&mut line, value.as_bytes());
    line
}

/// The result of a request as one JSON object: `request` (the text), `outcome` (`chosen`, `read`, `replied`,
/// `not-yet`, `members`, `refused` or `unknown`) and, where they apply, `instance`, `learned`, `value`, `members`
/// (ids) with `epoch`, `reason` and `ms` (the duration in milliseconds). A `read` used no instance: its `instance`
/// is that of the value, or null if nothing was written. A value that is not UTF-8 stands in `value_hex` instead,
/// two digits per byte.
pub fn request_json(request: &[u8], outcome: &Outcome, took: Micros) -> Json {
    let mut object = Map::new();
    put_bytes(&mut object, "request", request);
    object.insert("outcome".into(), json!(outcome.word()));
    match outcome {
        Outcome::Chosen { instance, value } => {
            object.insert("instance".into(), json!(instance.0));
            put_bytes(&mut object, "value", value.as_bytes());
        }
        Outcome::Read { instance, learned, value } => {
            object.insert("instance".into(), json!((instance.0 > 0).then_some(instance.0)));
            object.insert("learned".into(), json!(learned.0));
            put_bytes(&mut object, "value", value.as_bytes());
        }
        Outcome::Replied { learned, value } => {
            object.insert("learned".into(), json!(learned.0));
            put_bytes(&mut object, "value", value.as_bytes());
        }
        Outcome::NotYet { instance, learned } => {
            object.insert("instance".into(), json!(instance.0));
            object.insert("learned".into(), json!(learned.0));
        }
        Outcome::Members { epoch, learned, members } => {
            object.insert("epoch".into(), json!(epoch.0));
            object.insert("learned".into(), json!(learned.0));
            object.insert("members".into(), json!(members.iter().map(|id| id.0).collect::<Vec<_>>()));
        }
        Outcome::Refused { reason } => put_bytes(&mut object, "reason", reason.as_bytes()),
        Outcome::Forgotten => put_bytes(&mut object, "reason", FORGOTTEN.as_bytes()),
        Outcome::Unknown => {}
    }
    object.insert("ms".into(), json!(took.0 as f64 / 1_000.0));
    Json::Object(object)
}

/// Reads a number and the blank behind it.
fn number(text: &[u8]) -> Option<(Instance, &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    Some((Instance(wire::decimal(&text[..end], MAX_NUMBER)?), &text[end + 1..]))
}

fn put_bytes(object: &mut Map<String, Json>, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(key.into(), json!(text)),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{key}_hex"), json!(hex))
        }
    };
}
