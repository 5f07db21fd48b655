//! The two lines for datagrams that are longer than a packet: a part of a datagram, and the request for missing
//! parts.
//!
//! This module owns their grammar. [`Parts`](crate::parts::Parts) handles them, between the packing of lines and
//! the socket. Nodes and clients never see them.

use super::head::{Head, head_of, is_head};
use super::sum::{SUM_LINE, Sum, append_sum, verify};
use crate::text::{decimal, print_decimal};
use crate::types::{MAX_NUMBER, NodeId};

/// The maximum number of parts of one datagram.
pub const MAX_PARTS: u16 = 1_024;

/// The maximum number of ranges in one `Missing` line.
pub const MAX_ASKED: usize = 32;

/// The maximum length of `S Part X K N `, in bytes.
pub const PART_HEAD: usize = b"65535 Part 9223372036854775807 1024 1024 ".len();

/// `S Part X K N TEXT`, or `Part X K N TEXT` of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// X: the number of the datagram, assigned by its sender.
    pub number: u64,
    /// K: the position of this part, from 1.
    pub place: u16,
    /// N: the number of parts.
    pub count: u16,
    /// The text itself: bytes of the datagram after its head, unchanged. The last bytes are those of the checksum of
    /// the whole datagram, so the text may contain a newline.
    pub text: &'a [u8],
}

/// `Missing X K,K-K,…`: asks for parts of a datagram that were not received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// X: the number of the datagram.
    pub number: u64,
    /// The positions of the missing parts, as ranges that include both ends.
    pub places: Vec<(u16, u16)>,
}

/// The content of a datagram that carries one of the two lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part, with the bytes of its head (newline included) and the parsed head.
    Part(&'a [u8], Head, Part<'a>),
    /// A request for missing parts.
    Missing(Missing),
}

impl<'a> Piece<'a> {
    /// Reads a datagram as one of the two; `None` if it is neither, or is a part that was damaged.
    pub fn parse(datagram: &'a [u8]) -> Option<Piece<'a>> {
        // No other line begins with this word: the first bytes decide for most datagrams.
        if let Some(fields) = datagram.strip_prefix(b"Missing ") {
            return Missing::parse(fields).map(Piece::Missing);
        }
        let end = memchr::memchr(b'\n', datagram).filter(|end| is_head(&datagram[..*end]));
        let (bytes, line) = datagram.split_at(end.map_or(0, |end| end + 1));
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let verb: &[u8] = if digits == 0 { b"Part " } else { b" Part " };
        if !line[digits..].starts_with(verb) {
            return None;
        }
        let fields = match verify(datagram) {
            Sum::Right(whole) => whole.get(bytes.len() + digits + verb.len()..)?,
            Sum::Missing | Sum::Wrong => return None,
        };
        let head = if bytes.is_empty() { Head::default() } else { head_of(&bytes[..bytes.len() - 1])? };
        let said_by = match digits {
            0 => None,
            _ => Some(decimal(&line[..digits], u64::from(u16::MAX))? as u16),
        };
        if said_by != head.from.map(|(id, _)| id.0) {
            return None;
        }
        Some(Piece::Part(bytes, head, Part::parse(fields)?))
    }
}

impl<'a> Part<'a> {
    fn parse(fields: &'a [u8]) -> Option<Part<'a>> {
        let mut fields = fields.splitn(4, |byte| *byte == b' ');
        let number = decimal(fields.next()?, MAX_NUMBER)?;
        let place = decimal(fields.next()?, u64::from(MAX_PARTS))? as u16;
        let count = decimal(fields.next()?, u64::from(MAX_PARTS))? as u16;
        let text = fields.next()?;
        (1 <= place && place <= count && count > 1).then_some(Part { number, place, count, text })
    }

    /// Prints the part as a datagram of its own, with a checksum of its own. `head` is the printed head of the whole
    /// datagram.
    pub fn print(&self, from: Option<NodeId>, head: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(head.len() + PART_HEAD + self.text.len() + SUM_LINE);
        out.extend_from_slice(head);
        if let Some(from) = from {
            print_decimal(&mut out, u64::from(from.0));
            out.push(b' ');
        }
        out.extend_from_slice(b"Part");
        for number in [self.number, u64::from(self.place), u64::from(self.count)] {
            out.push(b' ');
            print_decimal(&mut out, number);
        }
        out.push(b' ');
        out.extend_from_slice(self.text);
        append_sum(&mut out);
        out
    }
}

impl Missing {
    fn parse(fields: &[u8]) -> Option<Missing> {
        let mut fields = fields.split(|byte| *byte == b' ');
        let number = decimal(fields.next()?, MAX_NUMBER)?;
        let list = fields.next()?;
        let place = |text: &[u8]| {
            decimal(text, u64::from(MAX_PARTS)).filter(|place| *place > 0).map(|place| place as u16)
        };
        let range = |text: &[u8]| match memchr::memchr(b'-', text) {
            Some(at) => {
                let (first, last) = (place(&text[..at])?, place(&text[at + 1..])?);
                (first < last).then_some((first, last))
            }
            None => place(text).map(|place| (place, place)),
        };
        let places: Vec<_> =
            list.split(|byte| *byte == b',').take(MAX_ASKED + 1).map(range).collect::<Option<_>>()?;
        (fields.next().is_none() && places.len() <= MAX_ASKED).then_some(Missing { number, places })
    }

    /// Prints the request as a datagram of its own. It has no head: the number identifies the datagram and thereby
    /// its sender. Nor has it a checksum: if it is damaged, parts are retransmitted in vain, or asked for again.
    pub fn print(&self) -> Vec<u8> {
        let mut out = b"Missing ".to_vec();
        print_decimal(&mut out, self.number);
        for (at, (first, last)) in self.places.iter().enumerate() {
            out.push(if at == 0 { b' ' } else { b',' });
            print_decimal(&mut out, u64::from(*first));
            if first < last {
                out.push(b'-');
                print_decimal(&mut out, u64::from(*last));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::GroupId;

    #[test]
    fn a_part_reads_as_it_was_printed() {
        let whole = Head { from: Some((NodeId(2), 77)), group: Some(GroupId(9)), name: None };
        for head in [whole, Head::default(), Head { from: None, ..whole }] {
            let mut text = Vec::new();
            head.encode(&mut text);
            let part = Part { number: MAX_NUMBER, place: 3, count: 7, text: b"some  text \xff\nSum" };
            let printed = part.print(head.from.map(|(id, _)| id), &text);
            assert_eq!(Piece::parse(&printed), Some(Piece::Part(&text, head, part)));
        }
    }

    #[test]
    fn one_damaged_bit_in_a_part_drops_it() {
        let mut head = Vec::new();
        Head { from: Some((NodeId(2), 77)), group: Some(GroupId(9)), name: None }.encode(&mut head);
        let part = Part { number: 9_007, place: 3, count: 7, text: b"some text" };
        for (from, head) in [(Some(NodeId(2)), head.as_slice()), (None, b"For -\n"), (None, b"")] {
            let printed = part.print(from, head);
            assert!(Piece::parse(&printed).is_some());
            for bit in 0..8 * printed.len() {
                let mut damaged = printed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Piece::parse(&damaged), None, "{:?}", String::from_utf8_lossy(&damaged));
            }
        }
    }

    #[test]
    fn a_part_without_its_checksum_is_none() {
        for text in ["2 From 7 -\n2 Part 1 1 2 x", "2 From 7 -\n2 Part 1 1 2 x\nSum 00000000", "Part 1 1 2 x"]
        {
            assert_eq!(Piece::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_question_reads_as_it_was_printed() {
        let missing = Missing { number: 5, places: vec![(1, 1), (3, 9), (1_024, 1_024)] };
        assert_eq!(missing.print(), b"Missing 5 1,3-9,1024");
        assert_eq!(Piece::parse(&missing.print()), Some(Piece::Missing(missing)));
    }

    #[test]
    fn what_is_neither_is_left_to_others() {
        for text in [
            "",
            "Part",
            "Part 1 1 1 x",
            "Part 1 0 2 x",
            "Part 1 3 2 x",
            "Part 1 1 1025 x",
            "Part 1 1 2",
            "Part 1 1 x y",
            "2 Part 1 1 2 x",
            "2 From 7 -\nPart 1 1 2 x",
            "2 From 7 -\n3 Part 1 1 2 x",
            "For -\n2 Part 1 1 2 x",
            "2 From x -\n2 Part 1 1 2 x",
            "Request 0 Part",
            "2 From 7 -\n2 Gap 1 2\n2 Part 1 1 2 x",
            "Missing",
            "Missing 1",
            "Missing 1 ",
            "Missing 1 0",
            "Missing 1 2-1",
            "Missing 1 1,",
            "Missing 1 1 2",
            "Missing 1 1-1025",
        ] {
            assert_eq!(Piece::parse(text.as_bytes()), None, "{text}");
            let mut with_sum = text.as_bytes().to_vec();
            append_sum(&mut with_sum);
            assert_eq!(Piece::parse(&with_sum), None, "{text}");
        }
    }
}
