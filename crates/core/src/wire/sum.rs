//! The last line of a datagram with a head: the checksum of all bytes before it.
//!
//! Raw IP does not protect its payload, so one damaged number in a datagram of a member would be believed. This
//! module owns the form of the line `Sum H` and the computation of H. [`open`](super::open()) and
//! [`Piece::parse`](super::part::Piece::parse) verify it before any line is read. A checksum shows damage; it does
//! not stop a forger.

use super::head::split;

/// The beginning of the line, with the newline before it. The checksum covers that newline.
const PREFIX: &[u8] = b"\nSum ";

/// The number of hexadecimal digits, lower-case ones only. So a checksum has exactly one form, and no damage to it
/// goes unnoticed.
const DIGITS: usize = 8;

/// The length of the line, with the newline before it, in bytes.
pub const SUM_LINE: usize = PREFIX.len() + DIGITS;

/// What the last line of a datagram says about the bytes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum<'a> {
    /// There is no checksum.
    Missing,
    /// The checksum is that of other bytes.
    Wrong,
    /// The bytes before the line and its newline arrived as they were sent.
    Right(&'a [u8]),
}

/// Verifies the checksum of a datagram.
pub(super) fn verify(datagram: &[u8]) -> Sum<'_> {
    match said(datagram) {
        None => Sum::Missing,
        Some((bytes, sum)) if sum_of(&datagram[..=bytes.len()]) == sum => Sum::Right(bytes),
        Some(_) => Sum::Wrong,
    }
}

/// The bytes before the checksum, whether it is right or not. `None` if the datagram has no checksum.
pub fn without_sum(datagram: &[u8]) -> Option<&[u8]> {
    said(datagram).map(|(bytes, _)| bytes)
}

/// Appends the checksum of a datagram to it.
pub fn append_sum(datagram: &mut Vec<u8>) {
    let newline = datagram.len();
    datagram.extend_from_slice(PREFIX);
    let sum = sum_of(&datagram[..=newline]);
    let digit = |at: usize| b"0123456789abcdef"[(sum >> (4 * (DIGITS - 1 - at))) as usize & 15];
    datagram.extend((0..DIGITS).map(digit));
}

/// Appends the checksum to a datagram that was made by hand, if it has a head and no checksum yet.
pub fn complete(datagram: &mut Vec<u8>) {
    let end = memchr::memchr(b'\n', datagram).unwrap_or(datagram.len());
    if split(&datagram[..end]).is_some() && said(datagram).is_none() {
        append_sum(datagram);
    }
}

/// Splits off the checksum, if the last line is one.
fn said(datagram: &[u8]) -> Option<(&[u8], u32)> {
    let (bytes, line) = datagram.split_at_checked(datagram.len().checked_sub(SUM_LINE)?)?;
    let digits = line.strip_prefix(PREFIX)?;
    let value = |sum: u32, digit: &u8| match digit {
        b'0'..=b'9' => Some(sum << 4 | u32::from(digit - b'0')),
        b'a'..=b'f' => Some(sum << 4 | u32::from(digit - b'a' + 10)),
        _ => None,
    };
    Some((bytes, digits.iter().try_fold(0, value)?))
}

/// The checksum of these bytes, which end with the newline before the line.
fn sum_of(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}
