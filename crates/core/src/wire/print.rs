//! Prints [`Line`]s as bytes, and packs them into datagrams. It avoids `format!`, because this is the hot path.

use std::fmt;

use super::{Head, Line, Message, Request, SUM_LINE, append_sum};
use crate::dialect::Dialect;
use crate::digest_write::{NamedWrite, print_runs};
use crate::text::{escape, print_ballot, print_decimal, print_digest, print_ids};
use crate::types::{self, Ballot, Instance, NodeId, Tagged, Value};

impl Line {
    /// Appends the line, without a newline.
    pub fn encode(&self, dialect: Dialect, out: &mut Vec<u8>) {
        let mut print = Print { out, dialect };
        match self {
            Line::Client(request) => print.request(request),
            Line::Node(from, message) => {
                print_decimal(print.out, u64::from(from.0));
                print.message(message);
            }
        }
    }

    /// The line as bytes of its own.
    pub fn to_bytes(&self, dialect: Dialect) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(dialect, &mut out);
        out
    }
}

impl fmt::Display for Line {
    /// Prints the line as on the wire, with `\xNN` for each byte that cannot be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        types::write_printable(f, &self.to_bytes(Dialect::Extended), |_| None)
    }
}

struct Print<'a> {
    out: &'a mut Vec<u8>,
    dialect: Dialect,
}

impl Print<'_> {
    fn request(&mut self, request: &Request) {
        match request {
            Request::Write(value) => self.literal(b"Request 0 ", value),
            Request::Read => self.out.extend_from_slice(b"Request 0"),
            Request::History(instance) => self.word("Request").number(instance.0).done(),
            Request::Misplaced(instance, value) => {
                self.word("Request").number(instance.0).out.push(b' ');
                self.out.extend_from_slice(value.as_bytes());
            }
            Request::Submit(tagged, value) => self.word("Submit").tagged(tagged).value(value),
            Request::TaggedRead(tagged) => self.word("Read").tagged(tagged).done(),
            Request::FastRead(tagged) => self.word("FastRead").tagged(tagged).done(),
            Request::Query(tagged, question) => self.word("Query").tagged(tagged).value(question),
            Request::FastQuery(tagged, question) => self.word("FastQuery").tagged(tagged).value(question),
            Request::Members => self.out.extend_from_slice(b"members"),
            Request::Change(None, change) => self.out.extend_from_slice(change.to_string().as_bytes()),
            Request::Change(Some(tagged), change) => {
                self.word("Change").tagged(tagged).text(&change.to_string()).done();
            }
            Request::Quit => self.out.extend_from_slice(b"quit"),
        }
    }

    fn message(&mut self, message: &Message) {
        use Message as M;
        match message {
            M::Propose { instance, ballot } => {
                self.verb("Propose").instance(*instance).ballot(*ballot).done()
            }
            M::ProposeAll { first, ballot } => {
                self.verb("ProposeAll").instance(*first).ballot(*ballot).done()
            }
            M::Promise { instance, ballot, accepted } => {
                self.verb("Promise").instance(*instance).ballot(*ballot);
                if let Some((accepted_in, value)) = accepted {
                    self.ballot(*accepted_in).value(value);
                }
            }
            M::PromiseNone { first, last, ballot, learned } => {
                self.verb("PromiseNone").instance(*first);
                match last {
                    Some(last) => self.instance(*last),
                    None => self.text("*"),
                };
                self.ballot(*ballot).instance(*learned).done();
            }
            M::Write { instance, ballot, value } => {
                self.verb("Write").instance(*instance).ballot(*ballot).value(value)
            }
            M::WriteTags(NamedWrite { first, last, ballot, names }) => {
                self.verb("WriteTags").range(*first, *last).ballot(*ballot).out.push(b' ');
                names.digest.print(self.out);
                print_runs(&names.runs, self.out);
            }
            M::Fetch { first, last, ballot } => {
                self.verb("Fetch").range(*first, *last).ballot(*ballot).done()
            }
            M::Accept { instance, ballot, value } => {
                self.verb("Accept").instance(*instance).ballot(*ballot).value(value)
            }
            M::Accepts { first, last, ballot } => {
                self.verb("Accepts").range(*first, *last).ballot(*ballot).done()
            }
            M::Nack { instance, ballot } => self.verb("NACK").instance(*instance).ballot(*ballot).done(),
            M::Written { instance, value } => self.verb("Written").instance(*instance).value(value),
            M::Chosen { first, last, ballot } => {
                self.verb("Chosen").range(*first, *last).ballot(*ballot).done()
            }
            M::Gap { first, last } => self.verb("Gap").range(*first, *last).done(),
            M::AskMark { epoch, nonce } => self.verb("AskMark").number(epoch.0).number(*nonce).done(),
            M::Mark { epoch, nonce, mark } => {
                self.verb("Mark").number(epoch.0).number(*nonce).instance(*mark).done()
            }
            M::Join { learned } => self.verb("Join").instance(*learned).done(),
            M::JoinFor { learned, replaces } => {
                self.verb("JoinFor").instance(*learned).number(u64::from(replaces.0)).done()
            }
            other => self.answer(other),
        }
    }

    fn answer(&mut self, message: &Message) {
        use Message as M;
        match message {
            M::Ok { instance, value } => self.verb("OK").instance(*instance).value(value),
            M::Done { first, last, client, seq } => {
                self.verb("Done").range(*first, *last).number(*client).number(*seq).done()
            }
            M::Answer { instance, client, seq, value } => {
                self.verb("Answer").instance(*instance).number(*client).number(*seq).value(value)
            }
            M::Value { instance, learned, client, seq, value } => self
                .verb("Value")
                .instance(*instance)
                .instance(*learned)
                .number(*client)
                .number(*seq)
                .value(value),
            M::Members { epoch, learned, members } => {
                self.verb("Members").number(epoch.0).instance(*learned).ids(members)
            }
            M::Reply { learned, client, seq, value } => {
                self.verb("Reply").instance(*learned).number(*client).number(*seq).value(value)
            }
            M::NotYet { instance, learned } => {
                self.verb("NotYet").instance(*instance).instance(*learned).done()
            }
            M::Refused { client, seq, reason } => {
                self.verb("Refused").number(*client).number(*seq).value(reason)
            }
            M::Busy { client, seq, pause } => {
                self.verb("Busy").number(*client).number(*seq).number(*pause).done()
            }
            M::Unknown { client, seq } => self.verb("Unknown").number(*client).number(*seq).done(),
            M::Forgotten { client, seq, begin } => {
                self.verb("Forgotten").number(*client).number(*seq).number(*begin).done()
            }
            M::Error { reason } => self.verb("Error").value(reason),
            M::Relay { value: None } => self.verb("Relay").done(),
            M::Relay { value: Some(value) } => self.verb("Relay").value(value),
            M::Dropped { words } => self.verb("Dropped").number(*words).done(),
            M::AskDigest { instance, name } => self.verb("AskDigest").instance(*instance).text(name).done(),
            M::Digest { instance, digest, script } => {
                self.verb("Digest").instance(*instance).number(*digest).number(script.source);
                self.text(&script.name).done();
            }
            M::AskChain { instance } => self.verb("AskChain").instance(*instance).done(),
            M::Chain { instance, digest: number } => {
                self.verb("Chain").instance(*instance);
                print_digest(self.out, *number);
            }
            M::Differs { instance, node } => {
                self.verb("Differs").instance(*instance).number(u64::from(node.0)).done()
            }
            M::Beat(beat) => {
                self.verb("Beat").number(u64::from(beat.n)).boot(&beat.boot);
                self.ballot_or_none(beat.ballot).instance(beat.learned).text(beat.stance.word());
                self.ids(&beat.heard);
            }
            M::Pace(pace) => self.verb("Pace").number(pace.every_ms).ballot_or_none(pace.since).done(),
            M::Register { n, boot, earlier } => {
                let line = self.verb("Register").number(u64::from(*n)).boot(boot);
                earlier.iter().fold(line, |line, boot| line.number(*boot)).done();
            }
            M::Registered { node, boot } => {
                self.verb("Registered").number(u64::from(node.0)).number(*boot).done()
            }
            M::Barred { node, boot, known } => {
                let line = self.verb("Barred").number(u64::from(node.0)).number(*boot);
                let line = line.number(known.incarnation).number(known.start);
                if known.boot == 0 { line.done() } else { line.number(known.boot).done() }
            }
            _ => unreachable!("message() prints the rest"),
        }
    }

    fn word(&mut self, word: &str) -> &mut Self {
        self.out.extend_from_slice(word.as_bytes());
        self
    }

    fn text(&mut self, word: &str) -> &mut Self {
        self.out.push(b' ');
        self.word(word)
    }

    fn verb(&mut self, verb: &str) -> &mut Self {
        self.text(verb)
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.out.push(b' ');
        print_decimal(self.out, number);
        self
    }

    fn instance(&mut self, instance: Instance) -> &mut Self {
        self.number(instance.0)
    }

    fn range(&mut self, first: Instance, last: Instance) -> &mut Self {
        self.instance(first).instance(last)
    }

    fn ballot(&mut self, at: Ballot) -> &mut Self {
        self.out.push(b' ');
        print_ballot(self.out, at);
        self
    }

    fn tagged(&mut self, tagged: &Tagged) -> &mut Self {
        self.number(tagged.tag.client).number(tagged.tag.seq).number(tagged.floor)
    }

    fn boot(&mut self, boot: &super::Boot) -> &mut Self {
        self.number(boot.incarnation).number(boot.start).number(boot.boot)
    }

    fn ballot_or_none(&mut self, ballot: Option<Ballot>) -> &mut Self {
        match ballot {
            Some(ballot) => self.ballot(ballot),
            None => self.text("-"),
        }
    }

    fn ids(&mut self, list: &[NodeId]) {
        print_ids(self.out, list);
    }

    fn value(&mut self, value: &Value) {
        self.out.push(b' ');
        match self.dialect {
            Dialect::Extended => escape(self.out, value.as_bytes()),
            Dialect::Classic => self.out.extend_from_slice(value.as_bytes()),
        }
    }

    fn literal(&mut self, head: &[u8], value: &Value) {
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn done(&mut self) {}
}

/// Packs lines into datagrams: as many as fit, in order, as continuations where possible. A datagram with a head ends
/// with its checksum. Under [`Dialect::Classic`] every line gets a datagram of its own.
#[derive(Debug)]
pub struct Packer {
    dialect: Dialect,
    limit: usize,
    /// The head of every datagram, and its printed form.
    head: (Head, Vec<u8>),
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// Whether the open datagram has a head.
    has_head: bool,
    /// The line that the next one may continue.
    before: Option<Line>,
    line: Vec<u8>,
}

impl Packer {
    /// A packer of datagrams of at most `limit` bytes. A single line that is longer gets a datagram of its own.
    pub fn new(dialect: Dialect, limit: usize) -> Packer {
        let (full, open, line) = Default::default();
        Packer { dialect, limit, head: Default::default(), full, open, has_head: false, before: None, line }
    }

    /// Sets the head of every datagram from the next one on. Under [`Dialect::Classic`] there are no heads.
    pub fn set_head(&mut self, head: Head) {
        if self.head.0 != head && self.dialect == Dialect::Extended {
            let mut text = Vec::new();
            head.encode(&mut text);
            self.head = (head, text);
        }
    }

    /// Adds a line behind those added before.
    pub fn push(&mut self, line: &Line) {
        self.line.clear();
        if self.continues(line) {
            self.continuation(line);
        } else {
            line.encode(self.dialect, &mut self.line);
        }
        if !self.open.is_empty() && !self.fits() {
            self.close();
            // The first line of a datagram is never a continuation.
            self.line.clear();
            line.encode(self.dialect, &mut self.line);
        }
        if self.open.is_empty() {
            self.has_head = !self.head.1.is_empty();
            self.open.extend_from_slice(&self.head.1);
        } else {
            self.open.push(b'\n');
        }
        self.open.extend_from_slice(&self.line);
        self.before = is_continuable(line).then(|| line.clone());
    }

    /// Returns the datagrams packed so far, the last one included.
    pub fn finish(&mut self) -> Vec<Vec<u8>> {
        self.close();
        std::mem::take(&mut self.full)
    }

    fn fits(&self) -> bool {
        let sum = if self.has_head { SUM_LINE } else { 0 };
        self.dialect == Dialect::Extended && self.open.len() + 1 + self.line.len() + sum <= self.limit
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            if self.has_head {
                append_sum(&mut self.open);
            }
            self.full.push(std::mem::take(&mut self.open));
        }
        self.before = None;
    }

    fn continues(&self, line: &Line) -> bool {
        match (&self.before, line) {
            (Some(Line::Client(Request::Submit(a, _))), Line::Client(Request::Submit(b, _))) => {
                a.tag.client == b.tag.client && a.tag.seq + 1 == b.tag.seq && a.floor == b.floor
            }
            (
                Some(Line::Node(from, Message::Write { instance, ballot, .. })),
                Line::Node(also, Message::Write { instance: next, ballot: same, .. }),
            ) => from == also && instance.next() == *next && ballot == same,
            (
                Some(Line::Node(from, Message::Written { instance, .. })),
                Line::Node(also, Message::Written { instance: next, .. }),
            ) => from == also && instance.next() == *next,
            _ => false,
        }
    }

    fn continuation(&mut self, line: &Line) {
        let (Line::Client(Request::Submit(_, value))
        | Line::Node(_, Message::Write { value, .. } | Message::Written { value, .. })) = line
        else {
            unreachable!("continues() asks for a value");
        };
        self.line.extend_from_slice(b"& ");
        escape(&mut self.line, value.as_bytes());
    }
}

fn is_continuable(line: &Line) -> bool {
    matches!(
        line,
        Line::Client(Request::Submit(..)) | Line::Node(_, Message::Write { .. } | Message::Written { .. })
    )
}
