//! Names for values that every node has received from the client: the tags of the requests, and a digest of their
//! bytes.
//!
//! This module owns the digest, which makes a name as good as the bytes. It is BLAKE3 over the values exactly as
//! they stand in the log (marks, tags and floors included), one after another, and then over the length of each
//! value as eight bytes, the most significant first. A node that received other words under the same tag, or the
//! same words with another floor, thereby detects that its values are not the named ones. This module decides
//! nothing: the roles decide whether a node may vote for named values.

use std::fmt::{self, Write};
use std::ops::Range;

use crate::entry;
use crate::text;
use crate::types::{Ballot, Instance, Tag, Tagged, Value};

/// Consecutive requests of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The tag of the first request.
    pub first: Tag,
    /// The number of requests, from 1.
    pub count: u64,
}

/// The hash that the bytes of a range must have. `Display` prints 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of values, in order.
    pub fn of<'a>(values: impl Iterator<Item = &'a Value>) -> Digest {
        let mut bodies = Payloads::default();
        values.for_each(|value| bodies.push_bytes(value.as_bytes()));
        bodies.digest()
    }

    /// Reads the form that `Display` prints, in one spelling only.
    pub fn parse(text: &[u8]) -> Option<Digest> {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let text: &[u8; 64] = text.try_into().ok()?;
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest(digest))
    }

    /// Appends the 64 digits.
    pub fn print(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digits());
    }

    fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        digits
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().iter().try_for_each(|digit| f.write_char(char::from(*digit)))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The content of a range of instances: exactly the values of these requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Names {
    /// The requests, in order.
    pub runs: Vec<Run>,
    /// The digest of their values.
    pub digest: Digest,
}

impl Names {
    /// The name of these tagged writes.
    pub fn of(written: &[(Tag, Value)]) -> Names {
        let mut runs: Vec<Run> = Vec::new();
        for (tag, _) in written {
            match runs.last_mut() {
                Some(run) if run.first.client == tag.client && run.first.seq + run.count == tag.seq => {
                    run.count += 1;
                }
                _ => runs.push(Run { first: *tag, count: 1 }),
            }
        }
        Names { runs, digest: Digest::of(written.iter().map(|(_, value)| value)) }
    }

    /// The tags of the requests, one by one.
    pub fn tags(&self) -> impl Iterator<Item = Tag> {
        let each = |run: &Run| (run.first, run.count);
        self.runs.iter().map(each).flat_map(|(first, count)| {
            (first.seq..first.seq + count).map(move |seq| Tag { client: first.client, seq })
        })
    }
}

/// A leader's request to accept named values in a range of instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are the letters of the wire's table")]
pub struct NamedWrite {
    pub first: Instance,
    pub last: Instance,
    pub ballot: Ballot,
    pub names: Names,
}

/// Consecutive values in one piece of memory, while they are put together.
#[derive(Debug, Default)]
pub struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The client of the last tagged write, and the position of the mark with its name.
    mark: Option<(u64, Range<usize>)>,
}

impl Payloads {
    /// Adds a tagged write, as it stands in the log.
    pub fn push(&mut self, tagged: &Tagged, value: &Value) {
        // Client names are long, and neighbours nearly always have the same one.
        match &self.mark {
            Some((client, mark)) if *client == tagged.tag.client => {
                self.bytes.extend_from_within(mark.clone());
            }
            _ => {
                let from = self.bytes.len();
                entry::print_tag_mark(tagged.tag.client, &mut self.bytes);
                self.mark = Some((tagged.tag.client, from..self.bytes.len()));
            }
        }
        entry::print_tagged_rest(tagged, value, &mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn push_bytes(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    /// The digest of the values added so far.
    pub fn digest(&mut self) -> Digest {
        let length = self.bytes.len();
        let mut from = 0;
        for end in &self.ends {
            self.bytes.extend_from_slice(&((end - from) as u64).to_be_bytes());
            from = *end;
        }
        let digest = Digest(*blake3::hash(&self.bytes).as_bytes());
        self.bytes.truncate(length);
        digest
    }

    /// The values, in the order in which they were added.
    pub fn values(self) -> impl Iterator<Item = Value> {
        Value::shared(&self.bytes, self.ends.into_iter())
    }
}

/// Appends ` C Q N` of each run.
pub(crate) fn print_runs(runs: &[Run], out: &mut Vec<u8>) {
    for run in runs {
        for number in [run.first.client, run.first.seq, run.count] {
            out.push(b' ');
            text::print_decimal(out, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(texts: &[&str]) -> Vec<Value> {
        texts.iter().map(|text| Value::from(*text)).collect()
    }

    #[test]
    fn a_digest_says_where_one_value_ends_and_the_next_begins() {
        let digests = [&["ab", "c"][..], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"], &["ac", "b"]];
        let digests: Vec<Digest> = digests.map(|texts| Digest::of(values(texts).iter())).into();
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest), "{at}");
            assert_eq!(Digest::parse(digest.to_string().as_bytes()), Some(*digest));
        }
        assert_eq!(Digest::parse(digests[0].to_string().to_uppercase().as_bytes()), None, "one spelling");
    }

    #[test]
    fn requests_that_follow_each_other_are_one_run() {
        let tag = |client, seq| Tag { client, seq };
        let tags = [tag(7, 1), tag(7, 2), tag(9, 3), tag(7, 4), tag(7, 3)];
        let written: Vec<_> = tags.iter().map(|tag| (*tag, Value::from("x"))).collect();
        let names = Names::of(&written);
        assert_eq!(names.runs.iter().map(|run| run.count).collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert_eq!(names.tags().collect::<Vec<_>>(), tags);
    }

    #[test]
    fn bodies_are_the_values_in_their_order() {
        let tagged = |seq| Tagged { tag: Tag { client: 7, seq }, floor: 1 };
        let mut bodies = Payloads::default();
        bodies.push(&tagged(1), &"one".into());
        bodies.push(&tagged(2), &"".into());
        let digest = bodies.digest();
        let values: Vec<Value> = bodies.values().collect();
        assert_eq!(values, [Value::from("@tag 7 1 1 one"), Value::from("@tag 7 2 1 ")]);
        assert_eq!(digest, Digest::of(values.iter()));
    }
}
