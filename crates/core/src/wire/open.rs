//! Opens a datagram: its head, and the iterator over the lines after it.
//!
//! This module owns the rule that a datagram whose head cannot be read is dropped whole.

use super::head::{Head, split};
use super::parse::{Lines, lines, parse_line};
use crate::dialect::Dialect;
use crate::text::ParseError;

/// Opens a datagram: its head, and the lines after it.
///
/// # Errors
/// When its first line is a head that does not parse. Also when its first line is one of several and does not
/// parse: it may be a head that was damaged. The intended group of the rest is then unknown, and the whole datagram
/// must be dropped. In a classic group, a datagram with any head is another group's.
pub fn open(datagram: &[u8], dialect: Dialect) -> Result<(Head, Lines<'_>), ParseError> {
    let end = memchr::memchr(b'\n', datagram).unwrap_or(datagram.len());
    match split(&datagram[..end]) {
        Some(_) if dialect == Dialect::Classic => Err(ParseError::HeadInClassic),
        Some((from, fields)) => {
            let rest = &datagram[(end + 1).min(datagram.len())..];
            Ok((Head::parse(from, fields)?, lines(rest, dialect)))
        }
        None => {
            let is_one_of_several = dialect == Dialect::Extended && (1..datagram.len()).contains(&end);
            if is_one_of_several {
                parse_line(&datagram[..end], dialect)?;
            }
            Ok((Head::default(), lines(datagram, dialect)))
        }
    }
}
