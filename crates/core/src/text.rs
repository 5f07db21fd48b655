//! The text of single fields, for lines of the wire, records and entries: numbers, ids, ballots, digests and values.
//!
//! This module owns their one spelling, in both directions, and the reasons why a text is refused. It knows no line
//! and no record.

use crate::dialect::Dialect;
use crate::types::{Ballot, Epoch, Instance, MAX_NUMBER, NodeId, Value};

/// The reason why a line was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The line has no verb, or a verb that this version does not know. Receivers ignore such a line.
    #[error("unknown verb {0:?}")]
    UnknownVerb(String),
    /// A number is missing, not a plain decimal, or over 2^63-1 (65535 for ids).
    #[error("{field} is not a number in range: {text:?}")]
    BadNumber {
        /// The name of the field in the grammar.
        field: &'static str,
        /// The offending text, shortened.
        text: String,
    },
    /// A value that the verb needs is missing.
    #[error("{0} has no value")]
    NoValue(&'static str),
    /// There is text after the last field.
    #[error("text after the end: {0:?}")]
    Trailing(String),
    /// A backslash is followed by something other than `n`, `r` or a backslash.
    #[error("bad escape in a value")]
    BadEscape,
    /// A range ends before it begins.
    #[error("range {0}..{1} ends before it begins")]
    BadRange(Instance, Instance),
    /// `&` is first in a datagram, or follows a line that cannot be continued.
    #[error("continuation of nothing")]
    NothingToContinue,
    /// A head is not the first line of its datagram.
    #[error("a head that does not come first")]
    MisplacedHead,
    /// A head in a classic group: the following lines are for another group.
    #[error("a head, which classic datagrams do not have")]
    HeadInClassic,
    /// The checksum of a datagram is that of other bytes: the datagram was damaged on its way.
    #[error("a wrong checksum")]
    WrongSum,
    /// A datagram has a head, perhaps of this node, and no checksum: an older version sent it, or its end is missing.
    #[error("a head without a checksum at the end")]
    NoSum(Option<NodeId>),
}

/// Reads a plain decimal of at most `max`: digits only.
pub fn decimal(text: &[u8], max: u64) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    // Nineteen digits always fit; a twentieth may not.
    let (safe, rest) = text.split_at(text.len().min(19));
    let mut number = 0u64;
    for byte in safe {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        number = number.checked_mul(10)?.checked_add(u64::from(digit)).filter(|_| digit <= 9)?;
    }
    (number <= max).then_some(number)
}

/// Appends a plain decimal.
pub fn print_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Reads the id of a node; `field` is its name in the grammar.
pub(crate) fn node_id(field: &'static str, text: &[u8]) -> Result<NodeId, ParseError> {
    let id = decimal(text, u64::from(u16::MAX)).ok_or_else(|| bad_number(field, text))?;
    Ok(NodeId(id as u16))
}

/// Reads comma-separated ids; `-` for none.
pub fn parse_ids(text: &[u8]) -> Result<Vec<NodeId>, ParseError> {
    match text {
        b"-" => Ok(Vec::new()),
        ids => ids.split(|b| *b == b',').map(|id| node_id("node in a list", id)).collect(),
    }
}

/// Appends a blank and comma-separated ids; `-` for none.
pub fn print_ids(out: &mut Vec<u8>, ids: &[NodeId]) {
    out.push(b' ');
    for (place, id) in ids.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        print_decimal(out, u64::from(id.0));
    }
    if ids.is_empty() {
        out.push(b'-');
    }
}

/// Reads a ballot as it stands on the wire and in the log: `P` or `E:P`.
pub fn parse_ballot(text: &[u8]) -> Result<Ballot, ParseError> {
    let (epoch, number) = match text.iter().position(|b| *b == b':') {
        Some(at) => (decimal(&text[..at], MAX_NUMBER), &text[at + 1..]),
        None => (Some(0), text),
    };
    let parsed = epoch.zip(decimal(number, MAX_NUMBER));
    let (epoch, number) = parsed.ok_or_else(|| bad_number("ballot", text))?;
    Ok(Ballot { epoch: Epoch(epoch), number })
}

/// Appends a ballot as it stands on the wire and in the log.
pub fn print_ballot(out: &mut Vec<u8>, ballot: Ballot) {
    if ballot.epoch.0 > 0 {
        print_decimal(out, ballot.epoch.0);
        out.push(b':');
    }
    print_decimal(out, ballot.number);
}

/// Reads 32 lower-case hex digits.
pub fn parse_digest(text: &[u8]) -> Option<u128> {
    let is_spelt = text.len() == 32 && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(str::from_utf8(text).ok().filter(|_| is_spelt)?, 16).ok()
}

/// Appends a blank and 32 hex digits.
pub fn print_digest(out: &mut Vec<u8>, digest: u128) {
    out.push(b' ');
    out.extend_from_slice(format!("{digest:032x}").as_bytes());
}

/// Undoes the escapes of a value.
pub fn unescape(text: &[u8], dialect: Dialect) -> Result<Value, ParseError> {
    if dialect == Dialect::Classic || memchr::memchr(b'\\', text).is_none() {
        return Ok(Value::from(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'\\') => b'\\',
                _ => return Err(ParseError::BadEscape),
            },
            plain => *plain,
        });
    }
    Ok(Value::from(bytes))
}

/// Appends a value, with escapes for the bytes that would break a line.
pub fn escape(out: &mut Vec<u8>, value: &[u8]) {
    let mut plain = value;
    while let Some(at) = memchr::memchr3(b'\n', b'\r', b'\\', plain) {
        out.extend_from_slice(&plain[..at]);
        out.extend_from_slice(match plain[at] {
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\\\",
        });
        plain = &plain[at + 1..];
    }
    out.extend_from_slice(plain);
}

/// The length of a value once escaped, in bytes.
pub fn escaped_len(value: &[u8]) -> usize {
    value.len() + memchr::memchr3_iter(b'\n', b'\r', b'\\', value).count()
}

/// The error of a field that is no number in its range.
pub(crate) fn bad_number(field: &'static str, text: &[u8]) -> ParseError {
    ParseError::BadNumber { field, text: excerpt(text) }
}

/// Shortens offending text for an error message, whatever its length and content.
pub(crate) fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned()
}
