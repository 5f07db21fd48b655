//! Packs the load's requests into datagrams: as many in each as fit, in reused buffers.

use std::ops::Range;

use upaxos_core::wire::{self, Head, SUM_LINE};

use super::session::Session;

/// Room for the longest head, `Submit C Q F `.
const HEAD_BYTES: usize = 72;

/// The number of bytes that distinguish a value from others: its number, in digits.
const DIGITS: usize = 16;

/// Writes the value of request `seq` over `value`: the request's number in decimal, with as many digits as there is
/// room for, and the old filling behind it. The judge knows the number from the tag.
pub fn value_of(seq: u64, value: &mut [u8]) {
    let digits = value.len().min(DIGITS);
    let mut number = seq;
    for digit in value[..digits].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A value of `size` bytes. [`value_of`] puts the number into it.
pub fn filling(size: usize) -> Vec<u8> {
    b"abcdefghijklmnopqrstuvwxyz".iter().copied().cycle().take(size).collect()
}

/// The datagrams being filled.
#[derive(Debug)]
pub struct Packing {
    limit: usize,
    value: Vec<u8>,
    /// The beginning of every datagram.
    head: (Head, Vec<u8>),
    datagrams: Vec<Vec<u8>>,
    used: usize,
}

impl Packing {
    /// Datagrams of at most `limit` bytes, unless a single value of `size` bytes needs more.
    pub fn new(limit: usize, size: usize) -> Packing {
        Packing { limit, value: filling(size), head: Default::default(), datagrams: Vec::new(), used: 0 }
    }

    /// Sets the beginning of every datagram from the next one on.
    pub fn set_head(&mut self, head: Head) {
        if self.head.0 != head {
            let mut text = Vec::new();
            head.encode(&mut text);
            self.head = (head, text);
        }
    }

    /// Adds writes of a session: the first in each datagram with all fields, the others as continuations.
    pub fn writes(&mut self, session: &Session, seqs: Range<u64>) {
        let continuation = b"\n& ".len() + self.value.len();
        let mut follows = false;
        let mut value = std::mem::take(&mut self.value);
        for seq in seqs {
            value_of(seq, &mut value);
            follows &= self.has_room(continuation);
            let head = HEAD_BYTES + value.len();
            let datagram = self.open(if follows { 0 } else { head });
            if follows {
                datagram.extend_from_slice(b"\n& ");
            } else {
                head_of(datagram, b"Submit", session, seq);
                datagram.push(b' ');
            }
            datagram.extend_from_slice(&value);
            follows = true;
        }
        self.value = value;
    }

    /// Adds reads of a session, one line each. The lines start with `verb`.
    pub fn reads(&mut self, verb: &[u8], session: &Session, seqs: Range<u64>) {
        for seq in seqs {
            let datagram = self.open(HEAD_BYTES);
            head_of(datagram, verb, session, seq);
        }
    }

    /// Adds a query for an instance.
    pub fn history(&mut self, instance: u64) {
        let datagram = self.open(HEAD_BYTES);
        datagram.extend_from_slice(b"Request ");
        decimal(datagram, instance);
    }

    /// The datagrams to send, each with the checksum that goes with a head. None may be added before they are
    /// [cleared](Packing::clear).
    pub fn finish(&mut self) -> &[Vec<u8>] {
        let used = &mut self.datagrams[..self.used];
        used.iter_mut().for_each(wire::complete);
        used
    }

    /// Frees the buffers, after the datagrams were sent.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// The datagram for `bytes` more bytes (0 for a continuation): the last one, or a new one. Starts a new line in
    /// it.
    fn open(&mut self, bytes: usize) -> &mut Vec<u8> {
        let room = self.room();
        let Packing { limit, head: (_, head), datagrams, used, .. } = self;
        if *used == 0 || datagrams[*used - 1].len() + bytes > room {
            if *used == datagrams.len() {
                datagrams.push(Vec::with_capacity((*limit).max(bytes + head.len() + SUM_LINE)));
            }
            datagrams[*used].clear();
            datagrams[*used].extend_from_slice(head);
            *used += 1;
        } else if bytes > 0 {
            datagrams[*used - 1].push(b'\n');
        }
        &mut datagrams[*used - 1]
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used > 0 && self.datagrams[self.used - 1].len() + bytes <= self.room()
    }

    /// The bytes of a datagram before its checksum.
    fn room(&self) -> usize {
        if self.head.1.is_empty() { self.limit } else { self.limit.saturating_sub(SUM_LINE) }
    }
}

fn head_of(datagram: &mut Vec<u8>, verb: &[u8], session: &Session, seq: u64) {
    datagram.extend_from_slice(verb);
    for number in [session.client(), seq, session.floor()] {
        datagram.push(b' ');
        decimal(datagram, number);
    }
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use upaxos_core::types::Value;
    use upaxos_core::wire::{Dialect, Line, Request};

    use super::*;

    fn submits(packing: &mut Packing) -> Vec<(u64, u64, Value)> {
        let lines = packing.finish().iter().flat_map(|datagram| wire::lines(datagram, Dialect::Extended));
        let submit = |line| match line {
            Ok(Line::Client(Request::Submit(tagged, value))) => (tagged.tag.client, tagged.tag.seq, value),
            other => panic!("{other:?}"),
        };
        lines.map(submit).collect()
    }

    #[test]
    fn every_write_stands_in_some_datagram_once_and_none_is_too_long() {
        for (size, limit) in [(1, 200), (16, 1_480), (256, 1_480), (1_400, 1_480), (4_096, 1_480)] {
            let mut packing = Packing::new(limit, size);
            let (mut a, mut b) = (Session::new(7, 400, 4_096), Session::new(8, 400, 4_096));
            for _ in 0..2 {
                let (first, second) = (a.ask(300, 1, 1), b.ask(5, 1, 1));
                let wanted: Vec<_> =
                    first.clone().map(|q| (7, q)).chain(second.clone().map(|q| (8, q))).collect();
                packing.writes(&a, first);
                packing.writes(&b, second);
                let mut value = filling(size);
                for ((client, seq, said), wanted) in submits(&mut packing).into_iter().zip(&wanted) {
                    value_of(seq, &mut value);
                    assert_eq!((client, seq, said.as_bytes()), (wanted.0, wanted.1, value.as_slice()));
                }
                assert_eq!(submits(&mut packing).len(), wanted.len());
                assert!(packing.finish().iter().all(|d| d.len() <= limit.max(HEAD_BYTES + size)));
                packing.clear();
            }
        }
    }

    #[test]
    fn a_datagram_with_a_head_keeps_its_limit_with_its_checksum() {
        let mut packing = Packing::new(200, 16);
        packing.set_head(Head { name: Some("lab".parse().unwrap()), ..Head::default() });
        let mut session = Session::new(7, 400, 4_096);
        let seqs = session.ask(300, 1, 1);
        packing.writes(&session, seqs);
        let datagrams = packing.finish();
        assert!(datagrams.len() > 20 && datagrams.iter().all(|datagram| datagram.len() <= 200));
        let opened = datagrams.iter().map(|datagram| wire::open(datagram, Dialect::Extended).unwrap());
        assert_eq!(opened.map(|(_, lines)| lines.map(Result::unwrap).count()).sum::<usize>(), 300);
    }

    #[test]
    fn reads_are_lines_of_the_grammar() {
        let mut packing = Packing::new(100, 16);
        let mut session = Session::new(7, 8, 4_096);
        packing.reads(b"FastRead", &session, session.floor()..3);
        packing.history(19);
        session.ask(1, 1, 1);
        let lines = packing.finish().iter().flat_map(|d| wire::lines(d, Dialect::Extended));
        let lines: Vec<_> = lines.map(|line| line.unwrap().to_string()).collect();
        assert_eq!(lines, ["FastRead 7 1 1", "FastRead 7 2 1", "Request 19"]);
    }
}
