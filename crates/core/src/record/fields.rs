//! The fields of a record: words, numbers and values, each behind a blank.
//!
//! This module owns the escapes that a log needs beside those of the wire. It knows no record.

use crate::dialect::Dialect;
use crate::text::{self, ParseError};
use crate::types::{Ballot, MAX_NUMBER, Value};

/// Appends a word and numbers, each behind a blank.
pub(super) fn line(out: &mut Vec<u8>, word: &str, numbers: &[u64]) {
    out.extend_from_slice(word.as_bytes());
    for number in numbers {
        out.push(b' ');
        text::print_decimal(out, *number);
    }
}

/// Appends a word, numbers and a ballot, each behind a blank.
pub(super) fn line_with_ballot(out: &mut Vec<u8>, word: &str, numbers: &[u64], ballot: Ballot) {
    line(out, word, numbers);
    out.push(b' ');
    text::print_ballot(out, ballot);
}

/// Appends a blank and the value, escaped.
pub(crate) fn value_text(out: &mut Vec<u8>, value: &Value) {
    out.push(b' ');
    let start = out.len();
    text::escape(out, value.as_bytes());
    let needs_more = |at| out[at] == 0 || out.get(at + 1) == Some(&b' ');
    if !memchr::memchr2_iter(b'#', 0, &out[start..]).any(|at| needs_more(start + at)) {
        return;
    }
    let text = out.split_off(start);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            0 => out.extend_from_slice(b"\\0"),
            b'#' if text.get(at + 1) == Some(&b' ') => out.extend_from_slice(b"\\#"),
            _ => out.push(*byte),
        }
    }
}

/// Takes the next field; empty if there is none.
pub(super) fn field<'a>(rest: &mut Option<&'a [u8]>) -> &'a [u8] {
    let text = rest.unwrap_or_default();
    match memchr::memchr(b' ', text) {
        Some(at) => {
            *rest = Some(&text[at + 1..]);
            &text[..at]
        }
        None => {
            *rest = None;
            text
        }
    }
}

/// Takes the next field, a number.
pub(super) fn number(rest: &mut Option<&[u8]>) -> Result<u64, ParseError> {
    let text = field(rest);
    text::decimal(text, MAX_NUMBER).ok_or_else(|| bad(text))
}

/// Takes the next field, a number of sixteen bits.
pub(super) fn small(rest: &mut Option<&[u8]>) -> Result<u16, ParseError> {
    let text = field(rest);
    let number = text::decimal(text, u64::from(u16::MAX)).ok_or_else(|| bad(text))?;
    Ok(number as u16)
}

/// Reads a value that [`value_text`] printed.
pub(crate) fn value(rest: Option<&[u8]>) -> Result<Value, ParseError> {
    let text = rest.ok_or(ParseError::NoValue("record"))?;
    let is_own = |at: usize| matches!(text.get(at + 1), Some(b'#' | b'0'));
    if !memchr::memchr_iter(b'\\', text).any(is_own) {
        return text::unescape(text, Dialect::Extended);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let pair = &text[at..text.len().min(at + 2)];
        match pair {
            b"\\#" => plain.push(b'#'),
            b"\\0" => plain.push(0),
            [b'\\', _] => plain.extend_from_slice(pair),
            _ => plain.push(text[at]),
        }
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    text::unescape(&plain, Dialect::Extended)
}

/// The error of a record that cannot be read.
pub(super) fn bad(text: &[u8]) -> ParseError {
    ParseError::UnknownVerb(String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned())
}
