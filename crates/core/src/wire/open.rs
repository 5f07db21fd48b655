//! Opens a datagram: its checksum, its head, and the iterator over the lines after it.
//!
//! This module owns the rule that a datagram that was damaged is dropped whole, and the rule that a datagram whose
//! head cannot be read is.

use super::head::{Head, split};
use super::parse::{Lines, lines, parse_line};
use super::sum::{SUM_LINE, Sum, verify};
use crate::dialect::Dialect;
use crate::mutant::{self, Mutant};
use crate::text::{ParseError, decimal};
use crate::types::NodeId;

/// Opens a datagram: its head, and the lines between its head and its checksum.
///
/// A datagram without a head needs no checksum: a person can write it. If it has one all the same, the checksum must
/// be right, because the missing head may be a damaged one. Datagrams of classic groups have neither.
///
/// # Errors
/// When the checksum is wrong, or when there is a head and no checksum. When the first line is a head that does not
/// parse. Also when the first line is one of several and does not parse: it may be a head that was damaged. The
/// intended group of the rest is then unknown, and the whole datagram must be dropped. In a classic group, a datagram
/// with any head is another group's.
pub fn open(datagram: &[u8], dialect: Dialect) -> Result<(Head, Lines<'_>), ParseError> {
    if dialect == Dialect::Classic {
        return match split(&datagram[..line_end(datagram)]) {
            Some(_) => Err(ParseError::HeadInClassic),
            None => Ok((Head::default(), lines(datagram, dialect))),
        };
    }
    let (bytes, has_sum) = match verify(datagram) {
        Sum::Right(bytes) => (bytes, true),
        Sum::Missing => (datagram, mutant::is(Mutant::DamageIsRead)),
        Sum::Wrong if mutant::is(Mutant::DamageIsRead) => (&datagram[..datagram.len() - SUM_LINE], true),
        Sum::Wrong => return Err(ParseError::WrongSum),
    };
    let end = line_end(bytes);
    match split(&bytes[..end]) {
        Some((from, _)) if !has_sum => Err(ParseError::NoSum(from.and_then(node))),
        Some((from, fields)) => {
            let rest = &bytes[(end + 1).min(bytes.len())..];
            Ok((Head::parse(from, fields)?, lines(rest, dialect)))
        }
        None => {
            let is_one_of_several = end < bytes.len() && bytes.len() > 1;
            if is_one_of_several {
                parse_line(&bytes[..end], dialect)?;
            }
            Ok((Head::default(), lines(bytes, dialect)))
        }
    }
}

fn line_end(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())
}

fn node(digits: &[u8]) -> Option<NodeId> {
    decimal(digits, u64::from(u16::MAX)).map(|id| NodeId(id as u16))
}
