//! Parses bytes into [`Line`]s. The parser never panics, and never allocates more than the values it returns.

use std::sync::Arc;

use super::head::is_head;
use super::{Beat, Boot, Line, MAX_PACE_MS, Message, Pace, Request, Stance};
use crate::dialect::Dialect;
use crate::digest_write::{Digest, NamedWrite, Names, Run};
use crate::hooks::{MAX_NAME, Script};
use crate::text::{
    ParseError, bad_number, decimal, excerpt, node_id, parse_ballot, parse_digest, parse_ids, unescape,
};
use crate::types::{Act, Ballot, Change, Epoch, Instance, MAX_NUMBER, NodeId, Tag, Tagged, Value};

/// Reads the lines of a datagram without a head, or the lines after the head ([`open`](super::open)). Empty lines
/// are skipped.
pub fn lines(datagram: &[u8], dialect: Dialect) -> Lines<'_> {
    Lines { rest: datagram, dialect, head: None, piece: None }
}

/// Consecutive short values of a datagram share memory in pieces of this many bytes. One value that is kept
/// therefore never keeps more than this alive.
const PIECE: usize = 1024;
const SHORT: usize = PIECE / 8;

/// The iterator of [`lines`]: one item per line.
#[derive(Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
    dialect: Dialect,
    head: Option<Head>,
    /// A copy of a part of the datagram, and the length of the datagram from its start on.
    piece: Option<(Value, usize)>,
}

/// The line that a continuation line repeats.
#[derive(Clone, Copy, Debug)]
enum Head {
    Submit(Tagged),
    Write(NodeId, Instance, Ballot),
    Written(NodeId, Instance),
}

impl Head {
    fn of(line: &Line) -> Option<Head> {
        match line {
            Line::Client(Request::Submit(tagged, _)) => Some(Head::Submit(*tagged)),
            Line::Node(from, Message::Write { instance, ballot, .. }) => {
                Some(Head::Write(*from, *instance, *ballot))
            }
            Line::Node(from, Message::Written { instance, .. }) => Some(Head::Written(*from, *instance)),
            _ => None,
        }
    }

    fn continued(self, value: Value) -> Line {
        match self {
            Head::Submit(Tagged { tag, floor }) => {
                let tag = Tag { seq: tag.seq + 1, ..tag };
                Line::Client(Request::Submit(Tagged { tag, floor }, value))
            }
            Head::Write(from, instance, ballot) => {
                Line::Node(from, Message::Write { instance: instance.next(), ballot, value })
            }
            Head::Written(from, instance) => {
                Line::Node(from, Message::Written { instance: instance.next(), value })
            }
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let (line, rest) = match memchr::memchr(b'\n', self.rest) {
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, &self.rest[self.rest.len()..]),
            };
            let whole = std::mem::replace(&mut self.rest, rest);
            if line.is_empty() {
                continue;
            }
            let parsed = match line.strip_prefix(b"& ") {
                Some(value) if self.dialect == Dialect::Extended => self.continuation(value, &whole[2..]),
                _ if self.dialect == Dialect::Extended && is_head(line) => Err(ParseError::MisplacedHead),
                _ => parse_line(line, self.dialect),
            };
            // A dropped line breaks the numbering, so a later continuation must not refer to a line before it.
            self.head = parsed.as_ref().ok().and_then(Head::of);
            return Some(parsed);
        }
    }
}

impl<'a> Lines<'a> {
    /// The part of the datagram that was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// `ahead` is the datagram from the value on.
    fn continuation(&mut self, value: &[u8], ahead: &[u8]) -> Result<Line, ParseError> {
        let head = self.head.ok_or(ParseError::NothingToContinue)?;
        let line = head.continued(self.value(value, ahead)?);
        let in_range = match &line {
            Line::Client(Request::Submit(tagged, _)) => tagged.tag.seq <= MAX_NUMBER,
            Line::Node(_, Message::Write { instance, .. } | Message::Written { instance, .. }) => {
                instance.0 <= MAX_NUMBER
            }
            _ => true,
        };
        if in_range { Ok(line) } else { Err(bad_number("continued number", value)) }
    }

    fn value(&mut self, text: &[u8], ahead: &[u8]) -> Result<Value, ParseError> {
        if text.len() > SHORT || memchr::memchr(b'\\', text).is_some() {
            return unescape(text, self.dialect);
        }
        if let Some((piece, length)) = &self.piece {
            let from = length - ahead.len();
            if from + text.len() <= piece.as_bytes().len() {
                return Ok(piece.part(from..from + text.len()));
            }
        }
        let piece = Value::from(&ahead[..ahead.len().min(PIECE)]);
        let value = piece.part(0..text.len());
        self.piece = Some((piece, ahead.len()));
        Ok(value)
    }
}

/// Reads one line, without its newline. A continuation line alone does not parse.
///
/// # Errors
/// The reason to drop the line; see [`ParseError`].
pub fn parse_line(line: &[u8], dialect: Dialect) -> Result<Line, ParseError> {
    match dialect {
        Dialect::Extended => parse_fields(line, dialect),
        Dialect::Classic => parse_fields(&joined_words(line), dialect),
    }
}

/// The line as a classic node reads it: split on any white space. A node that read it otherwise would hold another
/// value than its peers, in the same ballot.
pub fn joined_words(line: &[u8]) -> Vec<u8> {
    let mut words = Vec::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if !c.is_whitespace() {
                words.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            } else if words.last().is_some_and(|last| *last != b' ') {
                words.push(b' ');
            }
        }
        words.extend_from_slice(chunk.invalid());
    }
    words.truncate(words.trim_ascii_end().len());
    words
}

fn parse_fields(line: &[u8], dialect: Dialect) -> Result<Line, ParseError> {
    let mut fields = Fields { rest: Some(line), dialect };
    match fields.next() {
        b"quit" | b"exit" | b"bye" if fields.rest.is_none() => Ok(Line::Client(Request::Quit)),
        b"Request" => request(&mut fields).map(Line::Client),
        b"members" if fields.rest.is_none() => Ok(Line::Client(Request::Members)),
        verb @ (b"leave" | b"replace") => {
            let change = change(verb, &mut fields)?;
            Ok(Line::Client(Request::Change(None, change)))
        }
        b"Change" => {
            let tagged = fields.tagged()?;
            let verb = fields.next();
            let change = change(verb, &mut fields)?;
            Ok(Line::Client(Request::Change(Some(tagged), change)))
        }
        b"Submit" => {
            let tagged = fields.tagged()?;
            Ok(Line::Client(Request::Submit(tagged, fields.value("Submit")?)))
        }
        b"Read" => {
            let tagged = fields.tagged()?;
            fields.end(Line::Client(Request::TaggedRead(tagged)))
        }
        b"Query" => {
            let tagged = fields.tagged()?;
            Ok(Line::Client(Request::Query(tagged, fields.value("Query")?)))
        }
        b"FastQuery" => {
            let tagged = fields.tagged()?;
            Ok(Line::Client(Request::FastQuery(tagged, fields.value("FastQuery")?)))
        }
        b"FastRead" => {
            let tagged = fields.tagged()?;
            fields.end(Line::Client(Request::FastRead(tagged)))
        }
        first => {
            let Some(from) = decimal(first, u64::from(u16::MAX)) else {
                return Err(ParseError::UnknownVerb(excerpt(first)));
            };
            message(&mut fields).map(|message| Line::Node(NodeId(from as u16), message))
        }
    }
}

fn request(fields: &mut Fields) -> Result<Request, ParseError> {
    let instance = Instance(fields.number("instance", MAX_NUMBER)?);
    // The text of a request is typed or piped by a client, so it is literal. An empty text is no value.
    let value = fields.rest.filter(|text| !text.is_empty()).map(Value::from);
    Ok(match (instance, value) {
        (Instance(0), Some(value)) => Request::Write(value),
        (Instance(0), None) => Request::Read,
        (instance, None) => Request::History(instance),
        (instance, Some(value)) => Request::Misplaced(instance, value),
    })
}

fn change(verb: &[u8], f: &mut Fields) -> Result<Change, ParseError> {
    let act = match verb {
        b"leave" => Act::Leave(f.id("node")?),
        b"replace" => Act::Replace(f.id("node")?, f.id("new node")?),
        unknown => return Err(ParseError::UnknownVerb(excerpt(unknown))),
    };
    let is_forced = f.rest == Some(b"force");
    let change = Change { act, is_forced };
    if is_forced { Ok(change) } else { f.end(change) }
}

/// The verbs between classic nodes. Other verbs on the wire are not for them.
const CLASSIC_VERBS: [&[u8]; 8] =
    [b"Propose", b"Promise", b"Write", b"Accept", b"NACK", b"Written", b"Join", b"OK"];

fn message(f: &mut Fields) -> Result<Message, ParseError> {
    let verb = f.next();
    if f.dialect == Dialect::Classic && !CLASSIC_VERBS.contains(&verb) {
        return Err(ParseError::UnknownVerb(excerpt(verb)));
    }
    let message = match verb {
        b"Propose" => {
            let message = Message::Propose { instance: f.instance()?, ballot: f.ballot()? };
            return Ok(message);
        }
        b"ProposeAll" => Message::ProposeAll { first: f.instance()?, ballot: f.ballot()? },
        b"Promise" => return promise(f),
        b"PromiseNone" => promise_none(f)?,
        b"Write" => {
            let (instance, ballot) = (f.instance()?, f.ballot()?);
            return Ok(Message::Write { instance, ballot, value: f.value("Write")? });
        }
        b"WriteTags" => write_tags(f)?,
        b"Fetch" => {
            let (first, last) = f.range()?;
            Message::Fetch { first, last, ballot: f.ballot()? }
        }
        b"Accept" => {
            let (instance, ballot) = (f.instance()?, f.ballot()?);
            return Ok(Message::Accept { instance, ballot, value: f.value("Accept")? });
        }
        b"Accepts" => {
            let (first, last) = f.range()?;
            Message::Accepts { first, last, ballot: f.ballot()? }
        }
        b"NACK" => Message::Nack { instance: f.instance()?, ballot: f.ballot()? },
        b"Written" => {
            return Ok(Message::Written { instance: f.instance()?, value: f.value("Written")? });
        }
        b"Chosen" => {
            let (first, last) = f.range()?;
            Message::Chosen { first, last, ballot: f.ballot()? }
        }
        b"Gap" => {
            let (first, last) = f.range()?;
            Message::Gap { first, last }
        }
        b"AskMark" => Message::AskMark { epoch: f.epoch()?, nonce: f.number("nonce", MAX_NUMBER)? },
        b"Mark" => {
            Message::Mark { epoch: f.epoch()?, nonce: f.number("nonce", MAX_NUMBER)?, mark: f.prefix()? }
        }
        b"Join" => Message::Join { learned: f.prefix()? },
        b"JoinFor" => Message::JoinFor { learned: f.prefix()?, replaces: f.id("node")? },
        b"Members" => {
            let epoch = Epoch(f.number("epoch", MAX_NUMBER)?);
            Message::Members { epoch, learned: f.prefix()?, members: f.ids()? }
        }
        b"OK" => return Ok(Message::Ok { instance: f.instance()?, value: f.value("OK")? }),
        b"Done" => {
            let (first, last) = f.range()?;
            Message::Done { first, last, client: f.number("client", MAX_NUMBER)?, seq: f.seq()? }
        }
        b"Answer" => {
            let (instance, client, seq) = (f.instance()?, f.number("client", MAX_NUMBER)?, f.seq()?);
            return Ok(Message::Answer { instance, client, seq, value: f.value("Answer")? });
        }
        b"Value" => return last_value(f),
        b"Reply" => {
            let (learned, client, seq) = (f.prefix()?, f.number("client", MAX_NUMBER)?, f.seq()?);
            return Ok(Message::Reply { learned, client, seq, value: f.value("Reply")? });
        }
        b"NotYet" => Message::NotYet { instance: f.instance()?, learned: f.prefix()? },
        b"Refused" => {
            let (client, seq) = (f.number("client", MAX_NUMBER)?, f.seq()?);
            return Ok(Message::Refused { client, seq, reason: f.value("Refused")? });
        }
        b"Busy" => Message::Busy {
            client: f.number("client", MAX_NUMBER)?,
            seq: f.seq()?,
            pause: f.number("milliseconds", MAX_NUMBER)?,
        },
        b"Unknown" => Message::Unknown { client: f.number("client", MAX_NUMBER)?, seq: f.seq()? },
        b"Forgotten" => Message::Forgotten {
            client: f.number("client", MAX_NUMBER)?,
            seq: f.seq()?,
            begin: f.number("number", MAX_NUMBER)?,
        },
        b"Error" => return Ok(Message::Error { reason: f.value("Error")? }),
        b"Relay" if f.rest.is_none() => Message::Relay { value: None },
        b"Relay" => return Ok(Message::Relay { value: Some(f.value("Relay")?) }),
        b"Dropped" => Message::Dropped { words: f.number("fingerprint", MAX_NUMBER)? },
        b"AskDigest" => Message::AskDigest { instance: f.instance()?, name: f.name()? },
        b"Digest" => script_digest(f)?,
        b"AskChain" => Message::AskChain { instance: f.instance()? },
        b"Chain" => {
            let (instance, text) = (f.instance()?, f.next());
            Message::Chain { instance, digest: parse_digest(text).ok_or_else(|| bad_number("digest", text))? }
        }
        b"Differs" => Message::Differs { instance: f.instance()?, node: f.id("node")? },
        b"Beat" => Message::Beat(beat(f)?),
        b"Pace" => Message::Pace(Pace {
            every_ms: f.number("milliseconds", MAX_PACE_MS)?,
            since: f.ballot_or_none()?,
        }),
        b"Register" => {
            let (n, boot) = (f.id("group size")?.0, f.boot()?);
            let mut earlier = Vec::new();
            while f.rest.is_some() {
                earlier.push(f.number("boot", MAX_NUMBER)?);
            }
            Message::Register { n, boot, earlier }
        }
        b"Registered" => Message::Registered { node: f.id("node")?, boot: f.number("boot", MAX_NUMBER)? },
        b"Barred" => Message::Barred {
            node: f.id("node")?,
            boot: f.number("boot", MAX_NUMBER)?,
            known: Boot {
                incarnation: f.number("incarnation", MAX_NUMBER)?,
                start: f.number("start", MAX_NUMBER)?,
                boot: if f.rest.is_some() { f.number("boot", MAX_NUMBER)? } else { 0 },
            },
        },
        unknown => return Err(ParseError::UnknownVerb(excerpt(unknown))),
    };
    f.end(message)
}

fn write_tags(f: &mut Fields) -> Result<Message, ParseError> {
    let (first, last) = f.range()?;
    let ballot = f.ballot()?;
    let text = f.next();
    let digest = Digest::parse(text).ok_or_else(|| bad_number("digest", text))?;
    let (mut runs, mut open) = (Vec::new(), last.0 - first.0 + 1);
    while open > 0 {
        let tag = Tag { client: f.number("client", MAX_NUMBER)?, seq: f.seq()? };
        let count = f.number("count", open.min(MAX_NUMBER - tag.seq + 1))?;
        if count == 0 {
            return Err(ParseError::BadRange(first, last));
        }
        runs.push(Run { first: tag, count });
        open -= count;
    }
    Ok(Message::WriteTags(NamedWrite { first, last, ballot, names: Names { runs, digest } }))
}

fn promise(f: &mut Fields) -> Result<Message, ParseError> {
    let (instance, ballot) = (f.instance()?, f.ballot()?);
    if f.rest.is_none() {
        return Ok(Message::Promise { instance, ballot, accepted: None });
    }
    let accepted = Some((f.ballot()?, f.value("Promise")?));
    Ok(Message::Promise { instance, ballot, accepted })
}

fn promise_none(f: &mut Fields) -> Result<Message, ParseError> {
    let first = f.instance()?;
    let last = match f.next() {
        b"*" => None,
        text => Some(instance(text)?),
    };
    if let Some(last) = last.filter(|last| *last < first) {
        return Err(ParseError::BadRange(first, last));
    }
    Ok(Message::PromiseNone { first, last, ballot: f.ballot()?, learned: f.prefix()? })
}

fn last_value(f: &mut Fields) -> Result<Message, ParseError> {
    // If nothing was written, the instance is 0, as in a prefix.
    let (instance, learned) = (f.prefix()?, f.prefix()?);
    let (client, seq) = (f.number("client", MAX_NUMBER)?, f.seq()?);
    Ok(Message::Value { instance, learned, client, seq, value: f.value("Value")? })
}

fn script_digest(f: &mut Fields) -> Result<Message, ParseError> {
    let (instance, digest) = (f.instance()?, f.number("digest", MAX_NUMBER)?);
    let source = f.number("source", MAX_NUMBER)?;
    Ok(Message::Digest { instance, digest, script: Script { name: f.name()?, source } })
}

fn beat(f: &mut Fields) -> Result<Beat, ParseError> {
    let n = f.id("group size")?.0;
    let boot = f.boot()?;
    let ballot = f.ballot_or_none()?;
    let learned = f.prefix()?;
    let word = f.next();
    let stance = Stance::ALL.iter().find(|(_, known)| known.as_bytes() == word);
    let stance = stance.ok_or_else(|| ParseError::UnknownVerb(excerpt(word)))?.0;
    Ok(Beat { n, boot, ballot, learned, stance, heard: f.ids()? })
}

/// The rest of a line. It is `None` after the last field, which distinguishes an absent last field from an empty
/// one.
struct Fields<'a> {
    rest: Option<&'a [u8]>,
    dialect: Dialect,
}

impl<'a> Fields<'a> {
    /// The text up to the next space; empty at the end of the line.
    fn next(&mut self) -> &'a [u8] {
        let Some(rest) = self.rest else { return b"" };
        match memchr::memchr(b' ', rest) {
            Some(at) => {
                self.rest = Some(&rest[at + 1..]);
                &rest[..at]
            }
            None => {
                self.rest = None;
                rest
            }
        }
    }

    fn number(&mut self, field: &'static str, max: u64) -> Result<u64, ParseError> {
        let text = self.next();
        decimal(text, max).ok_or_else(|| bad_number(field, text))
    }

    fn instance(&mut self) -> Result<Instance, ParseError> {
        instance(self.next())
    }

    /// A learned prefix: an instance, or 0.
    fn prefix(&mut self) -> Result<Instance, ParseError> {
        self.number("learned prefix", MAX_NUMBER).map(Instance)
    }

    fn range(&mut self) -> Result<(Instance, Instance), ParseError> {
        let (first, last) = (self.instance()?, self.instance()?);
        if last < first { Err(ParseError::BadRange(first, last)) } else { Ok((first, last)) }
    }

    fn ballot(&mut self) -> Result<Ballot, ParseError> {
        let text = self.next();
        // Classic groups never change, so their ballots have no epoch.
        let is_known = self.dialect == Dialect::Extended || !text.contains(&b':');
        if is_known { parse_ballot(text) } else { Err(bad_number("ballot", text)) }
    }

    fn id(&mut self, field: &'static str) -> Result<NodeId, ParseError> {
        node_id(field, self.next())
    }

    /// Reads the name of a script.
    fn name(&mut self) -> Result<Arc<str>, ParseError> {
        let text = self.next();
        let name = str::from_utf8(text).ok().filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
        name.map(Arc::from).ok_or_else(|| ParseError::UnknownVerb(excerpt(text)))
    }

    fn epoch(&mut self) -> Result<Epoch, ParseError> {
        self.number("epoch", MAX_NUMBER).map(Epoch)
    }

    /// Reads a ballot; `-` for none.
    fn ballot_or_none(&mut self) -> Result<Option<Ballot>, ParseError> {
        match self.next() {
            b"-" => Ok(None),
            text => parse_ballot(text).map(Some),
        }
    }

    fn ids(&mut self) -> Result<Vec<NodeId>, ParseError> {
        parse_ids(self.next())
    }

    fn seq(&mut self) -> Result<u64, ParseError> {
        self.number("sequence number", MAX_NUMBER)
    }

    fn tagged(&mut self) -> Result<Tagged, ParseError> {
        let tag = Tag { client: self.number("client", MAX_NUMBER)?, seq: self.seq()? };
        Ok(Tagged { tag, floor: self.number("floor", MAX_NUMBER)? })
    }

    fn boot(&mut self) -> Result<Boot, ParseError> {
        Ok(Boot {
            incarnation: self.number("incarnation", MAX_NUMBER)?,
            start: self.number("start", MAX_NUMBER)?,
            boot: self.number("boot", MAX_NUMBER)?,
        })
    }

    fn value(&mut self, verb: &'static str) -> Result<Value, ParseError> {
        unescape(self.rest.take().ok_or(ParseError::NoValue(verb))?, self.dialect)
    }

    fn end<T>(&self, parsed: T) -> Result<T, ParseError> {
        self.rest.map_or(Ok(parsed), |text| Err(ParseError::Trailing(excerpt(text))))
    }
}

fn instance(text: &[u8]) -> Result<Instance, ParseError> {
    let number = decimal(text, MAX_NUMBER).filter(|number| *number > 0);
    number.map(Instance).ok_or_else(|| bad_number("instance", text))
}
