//! The lines of a checkpoint that hold the state of scripts.
//!
//! ```text
//! script kv 81985529216486895 4660 22136
//! state kv color text dark red
//! state kv two\swords number -1.5e300
//! state kv done true
//! ```
//!
//! This module owns the grammar of these lines. In a key, a blank travels as `\s`, `#` as `\h` and a zero byte as
//! `\0`, in addition to the usual escapes, so that a key is one field. Numbers read back exactly, to the last bit.

use std::sync::Arc;

use super::fields::{bad, field, line, number, value, value_text};
use crate::dialect::Dialect;
use crate::hooks::Script;
use crate::script_state::{Number, Scalar};
use crate::text::{self, ParseError};
use crate::types::Value;

/// Doubles below this limit are exact as integers, and are printed as such.
const WHOLE: f64 = 1e15;

/// Appends `script NAME SOURCE CHAIN STATE`.
pub(super) fn print_script(out: &mut Vec<u8>, script: &Script, chain: u64, state: u64) {
    out.extend_from_slice(b"script ");
    out.extend_from_slice(script.name.as_bytes());
    line(out, "", &[script.source, chain, state]);
}

/// Reads the fields after the word `script`: the script, and the digests of its doings and of its state.
pub(super) fn parse_script(rest: &mut Option<&[u8]>) -> Result<(Script, u64, u64), ParseError> {
    let script = Script { name: name(rest)?, source: number(rest)? };
    Ok((script, number(rest)?, number(rest)?))
}

/// Appends `state NAME KEY KIND …`.
pub(super) fn print_state(out: &mut Vec<u8>, name: &str, key: &Value, scalar: &Scalar) {
    out.extend_from_slice(b"state ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    print_key(out, key.as_bytes());
    match scalar {
        Scalar::Bool(is_true) => out.extend_from_slice(if *is_true { b" true" } else { b" false" }),
        Scalar::Number(number) => out.extend_from_slice(number_text(number.get()).as_bytes()),
        Scalar::Text(text) => {
            out.extend_from_slice(b" text");
            value_text(out, text);
        }
    }
}

/// Reads the fields after the word `state`: the name of the script, the key, and the scalar.
pub(super) fn parse_state(rest: &mut Option<&[u8]>) -> Result<(Arc<str>, Value, Scalar), ParseError> {
    let name = name(rest)?;
    let key = parse_key(field(rest))?;
    let scalar = match field(rest) {
        b"true" => Scalar::Bool(true),
        b"false" => Scalar::Bool(false),
        b"number" => {
            let text = field(rest);
            let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok()).and_then(Number::new);
            Scalar::Number(number.ok_or_else(|| bad(text))?)
        }
        b"text" => Scalar::Text(value(rest.take())?),
        kind => return Err(bad(kind)),
    };
    Ok((name, key, scalar))
}

fn name(rest: &mut Option<&[u8]>) -> Result<Arc<str>, ParseError> {
    let text = field(rest);
    str::from_utf8(text).ok().filter(|name| !name.is_empty()).map(Arc::from).ok_or_else(|| bad(text))
}

fn number_text(number: f64) -> String {
    match number {
        whole if whole.fract() == 0.0 && whole.abs() < WHOLE => format!(" number {whole}"),
        other => format!(" number {other:e}"),
    }
}

fn print_key(out: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        match byte {
            b' ' => out.extend_from_slice(b"\\s"),
            b'#' => out.extend_from_slice(b"\\h"),
            0 => out.extend_from_slice(b"\\0"),
            byte => text::escape(out, &[*byte]),
        }
    }
}

fn parse_key(text: &[u8]) -> Result<Value, ParseError> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let (taken, behind) = match (first, behind) {
            (b'\\', [b's', behind @ ..]) => (&b" "[..], behind),
            (b'\\', [b'h', behind @ ..]) => (&b"#"[..], behind),
            (b'\\', [b'0', behind @ ..]) => (&b"\0"[..], behind),
            (b'\\', [_, behind @ ..]) => (&rest[..2], behind),
            _ => (&rest[..1], behind),
        };
        match taken {
            [b'\\', ..] => {
                plain.extend_from_slice(text::unescape(taken, Dialect::Extended)?.as_bytes());
            }
            taken => plain.extend_from_slice(taken),
        }
        rest = behind;
    }
    Ok(Value::from(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn a_state_is_readable() {
        let state =
            |key: &str, value| Record::State { name: "kv".into(), key: key.into(), value }.to_string();
        let number = |number| Scalar::Number(Number::new(number).unwrap());
        assert_eq!(state("two words", Scalar::Text("dark red".into())), r"state kv two\swords text dark red");
        assert_eq!(state("#1", number(41.0)), r"state kv \h1 number 41");
        assert_eq!(state("", number(-0.0)), "state kv  number -0");
        assert_eq!(state("a", number(f64::NEG_INFINITY)), "state kv a number -inf");
        assert_eq!(state("a", Scalar::Bool(false)), "state kv a false");
    }
}
