//! The nouns of the protocol: nodes, groups, instances, ballots, values, requests and time.
//!
//! This module owns the arithmetic of ballots and quorums. It knows no wire, no disk and no clock: time is a
//! [`Micros`] that callers pass in. Every module of the crate builds on it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Range, RangeFrom};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::mutant::{self, Mutant};

/// The largest number on the wire: the maximum of a classic node's signed 64-bit integer. Adding one to a number
/// from the wire can therefore never overflow a `u64`.
pub const MAX_NUMBER: u64 = i64::MAX as u64;

/// The first sequence number of requests that never enter the log. Fast reads count from here, so they use up none
/// of the numbers of logged requests.
pub const FIRST_FAST: u64 = 1_000_000_000_000_000_000;

/// The maximum length of a client's value, in bytes.
pub const MAX_VALUE: usize = 60_000;

/// A member's number. It is unique in the group for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// The identity of a group: the incarnation of the directory of node 0 of its first group. Every group has a
/// different one, whatever ids its members have. The wire, the log and messages show it as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    /// Appends the 16 lower-case hexadecimal digits.
    pub(crate) fn print(self, out: &mut Vec<u8>) {
        let digits = (0..16).rev().map(|at| b"0123456789abcdef"[(self.0 >> (4 * at)) as usize & 15]);
        out.extend(digits);
    }

    /// Reads exactly 16 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &[u8]) -> Option<GroupId> {
        if text.len() != 16 {
            return None;
        }
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Some(u64::from(byte - b'0')),
            b'a'..=b'f' => Some(u64::from(byte - b'a') + 10),
            _ => None,
        };
        text.iter().try_fold(0, |number, byte| Some(number << 4 | digit(byte)?)).map(GroupId)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One slot of the log, counted from 1. In a prefix, `Instance(0)` means "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(pub u64);

impl Instance {
    /// The instance after this one.
    pub fn next(self) -> Instance {
        Instance(self.0 + 1)
    }
}

/// The instance that chose the group in force. It is 0 for the first group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A proposal number. The epoch compares first: a ballot of an older epoch is lower than every ballot of a newer
/// one. It is written `E:P`, or just `P` in epoch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// The epoch of the group that votes on this ballot.
    pub epoch: Epoch,
    /// Round and owner, combined by a [`Numbering`].
    pub number: u64,
}

impl Ballot {
    /// A ballot of the first group, in epoch 0.
    pub const fn first_epoch(number: u64) -> Ballot {
        Ballot { epoch: Epoch(0), number }
    }
}

/// The encoding of round and owner in a ballot's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbering {
    /// `round * 65536 + id`. There is room for every possible id.
    Standard,
    /// `round * n + id`, in a group of `n` classic nodes.
    Classic(u16),
}

impl Numbering {
    fn ids(self) -> u64 {
        match self {
            Numbering::Standard => 1 << 16,
            Numbering::Classic(n) => u64::from(n.max(1)),
        }
    }

    /// The only node that may propose with this ballot.
    pub fn owner(self, ballot: Ballot) -> NodeId {
        NodeId((ballot.number % self.ids()) as u16)
    }

    /// The round of this ballot, without its owner.
    pub fn round(self, ballot: Ballot) -> u64 {
        ballot.number / self.ids()
    }

    /// The lowest ballot of `id` in `epoch` that is above `above`; the lowest of all if `above` is `None` or of
    /// another epoch. `None` when the numbers are exhausted.
    pub fn next_owned_by(self, id: NodeId, epoch: Epoch, above: Option<Ballot>) -> Option<Ballot> {
        let number = match above {
            Some(top) if top.epoch == epoch => {
                let same_round = self.round(top) * self.ids() + u64::from(id.0);
                if same_round > top.number { same_round } else { same_round.checked_add(self.ids())? }
            }
            _ => u64::from(id.0),
        };
        (number <= MAX_NUMBER).then_some(Ballot { epoch, number })
    }
}

/// The members that govern an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The instance that chose this group.
    pub epoch: Epoch,
    /// The ids of the voters.
    pub members: BTreeSet<NodeId>,
}

impl Group {
    /// The first group of `n` members: ids 0 to n-1, epoch 0.
    pub fn first(n: u16) -> Group {
        Group { epoch: Epoch(0), members: (0..n).map(NodeId).collect() }
    }

    /// The size of a quorum: a strict majority of the members.
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + usize::from(!mutant::is(Mutant::HalfIsQuorum))
    }

    /// The position of `id` when members line up in order of id, starting behind `after`; `after` itself comes
    /// last. The order is deterministic, so all nodes agree on which node acts first.
    pub fn rank_after(&self, id: NodeId, after: Option<NodeId>) -> usize {
        let (mut place, mut start) = (0, 0);
        for member in &self.members {
            place += usize::from(*member < id);
            start += usize::from(after.is_some_and(|after| *member <= after));
        }
        let n = self.members.len().max(1);
        (place + n - start % n) % n
    }
}

/// The set of members that sent the same vote. It is a set because the network duplicates datagrams: a vote counts
/// once per sender ("Paxos Made Simple" 2.2 asks for a majority of *acceptors*).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Votes(SmallVec<[NodeId; 8]>);

impl Votes {
    /// Counts `from`. Returns false for a duplicate.
    pub fn insert(&mut self, from: NodeId) -> bool {
        let place = self.0.binary_search(&from);
        place.map_err(|place| self.0.insert(place, from)).is_err()
    }

    /// Whether `from` has been counted.
    pub fn contains(&self, from: NodeId) -> bool {
        self.0.contains(&from)
    }

    /// Whether a strict majority of `group` is in the set. Votes of non-members do not count.
    pub fn is_quorum(&self, group: &Group) -> bool {
        self.0.iter().filter(|from| group.members.contains(from)).count() >= group.quorum()
    }

    /// The counted nodes, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.0.iter().copied()
    }

    /// The number of counted nodes, non-members included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Bytes that the group agrees on, as they stand in the log (see [`crate::entry`] for their meaning). A value is
/// cheap to clone, and so is a part of one.
#[derive(Clone)]
pub struct Value {
    bytes: Arc<[u8]>,
    first: u32,
    end: u32,
}

impl Value {
    /// The bytes of the value, marks included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.first as usize..self.end as usize]
    }

    /// The rest of the value from `part.start` on, in the same memory.
    ///
    /// # Panics
    /// When the value is shorter than `part.start`.
    pub fn slice(&self, part: RangeFrom<usize>) -> Value {
        self.part(part.start..self.as_bytes().len())
    }

    /// A part of the value, in the same memory.
    ///
    /// # Panics
    /// When the part is not within the value.
    pub fn part(&self, part: Range<usize>) -> Value {
        let is_within = part.start <= part.end && part.end <= self.as_bytes().len();
        assert!(is_within, "a part of a value is within it");
        let (first, end) = (self.first + part.start as u32, self.first + part.end as u32);
        Value { bytes: Arc::clone(&self.bytes), first, end }
    }

    /// Splits one shared piece of memory into consecutive values. Each value ends where the next number of `ends`
    /// says.
    ///
    /// # Panics
    /// When the ends do not rise, or go beyond the bytes.
    pub fn shared<I: Iterator<Item = usize>>(bytes: &[u8], ends: I) -> impl Iterator<Item = Value> + use<I> {
        assert!(u32::try_from(bytes.len()).is_ok(), "values are far shorter than 4 GiB");
        let bytes: Arc<[u8]> = bytes.into();
        let mut first = 0;
        ends.map(move |end| {
            assert!(first <= end && end <= bytes.len(), "values follow each other");
            let value = Value { bytes: Arc::clone(&bytes), first: first as u32, end: end as u32 };
            first = end;
            value
        })
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        let is_same = Arc::ptr_eq(&self.bytes, &other.bytes) && self.first == other.first;
        (is_same && self.end == other.end) || self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.as_bytes().hash(to);
    }
}

impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        let end = u32::try_from(bytes.len()).expect("a value is far shorter than 4 GiB");
        Value { bytes: bytes.into(), first: 0, end }
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value::from(&bytes[..])
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::from(text.as_bytes())
    }
}

impl fmt::Display for Value {
    /// Prints the value for people, without loss, in the form that the prompt reads. Text appears as it is. A value
    /// with control characters, or with bytes that are not UTF-8, appears in double quotes with escapes
    /// (`"a\nb\xff"`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.as_bytes();
        // The prompt removes the quotes around a value.
        let is_quoted = bytes.len() > 1 && bytes.starts_with(b"\"") && bytes.ends_with(b"\"");
        match str::from_utf8(bytes) {
            Ok(text) if !is_quoted && !text.contains(char::is_control) => f.write_str(text),
            _ => {
                f.write_str("\"")?;
                write_printable(f, bytes, |c| match c {
                    '\n' => Some("\\n"),
                    '\r' => Some("\\r"),
                    '\t' => Some("\\t"),
                    '"' => Some("\\\""),
                    '\\' => Some("\\\\"),
                    _ => None,
                })?;
                f.write_str("\"")
            }
        }
    }
}

/// Writes bytes as text. A character that `escape` knows is written as its escape. Each byte of any other control
/// character, and each byte that is not UTF-8, is written as `\xNN`.
pub(crate) fn write_printable(
    f: &mut fmt::Formatter<'_>,
    bytes: &[u8],
    escape: impl Fn(char) -> Option<&'static str>,
) -> fmt::Result {
    let write_hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
        bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match escape(c) {
                Some(escaped) => f.write_str(escaped)?,
                None if c.is_control() => write_hex(f, c.encode_utf8(&mut [0; 4]).as_bytes())?,
                None => write!(f, "{c}")?,
            }
        }
        write_hex(f, chunk.invalid())?;
    }
    Ok(())
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// A point in time, in microseconds since an origin that the caller chose. It is never the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// A duration of `ms` milliseconds.
    pub const fn from_millis(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    /// The time since `earlier`; zero if `earlier` is in the future.
    pub fn since(self, earlier: Micros) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Micros {
    fn from(length: Duration) -> Micros {
        Micros(u64::try_from(length.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Micros> for Duration {
    fn from(length: Micros) -> Duration {
        Duration::from_micros(length.0)
    }
}

impl std::ops::Add for Micros {
    type Output = Micros;
    fn add(self, length: Micros) -> Micros {
        Micros(self.0.saturating_add(length.0))
    }
}

impl std::ops::Mul<u64> for Micros {
    type Output = Micros;
    fn mul(self, times: u64) -> Micros {
        Micros(self.0.saturating_mul(times))
    }
}

/// A change of the group that an operator requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The kind of change, and the members it concerns.
    pub act: Act,
    /// Whether to make the change even if too few members of the new group are alive.
    pub is_forced: bool,
}

/// The changes of a group, except joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// This member leaves, or is removed.
    Leave(NodeId),
    /// In one change, the first node, a member, leaves, and the second, which is ready to join, takes its place.
    Replace(NodeId, NodeId),
}

impl fmt::Display for Change {
    /// The form that an operator types: `leave 2`, `replace 2 7 force`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.act {
            Act::Leave(node) => write!(f, "leave {node}")?,
            Act::Replace(old, new) => write!(f, "replace {old} {new}")?,
        }
        f.write_str(if self.is_forced { " force" } else { "" })
    }
}

/// The identity of a client's request: retransmissions of a request have the same tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// The client: a random number of at most 63 bits.
    pub client: u64,
    /// The sequence number of the request, counted by the client from 1.
    pub seq: u64,
}

/// A [`Tag`] as a request carries it, with the client's floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tagged {
    /// The identity of the request.
    pub tag: Tag,
    /// The lowest sequence number that the client may still retry. All requests below it are settled.
    pub floor: u64,
}

macro_rules! displays_its_number {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
displays_its_number!(NodeId, Instance, Epoch);

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Epoch(0) => write!(f, "{}", self.number),
            epoch => write!(f, "{epoch}:{}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_ballot_is_the_lowest_of_its_owner_above_what_was_heard() {
        let n = Numbering::Classic(3);
        let next = |id, above| n.next_owned_by(NodeId(id), Epoch(0), above).map(|b| b.number);
        assert_eq!(next(0, None), Some(0), "ballot 0 is a ballot");
        assert_eq!(next(0, Some(Ballot::first_epoch(0))), Some(3));
        assert_eq!(next(2, Some(Ballot::first_epoch(4))), Some(5));
        assert_eq!(next(1, Some(Ballot::first_epoch(5))), Some(7));
        assert_eq!(next(1, Some(Ballot::first_epoch(MAX_NUMBER))), None, "numbers end, loudly");
    }

    #[test]
    fn the_epoch_of_a_ballot_compares_first() {
        let old = Ballot { epoch: Epoch(0), number: 900 };
        let new = Ballot { epoch: Epoch(7), number: 2 };
        assert!(new > old);
        assert_eq!(new.to_string(), "7:2");
    }

    #[test]
    fn a_quorum_is_a_strict_majority_of_distinct_members() {
        for n in 1..=7u16 {
            let group = Group::first(n);
            let mut votes = Votes::default();
            votes.insert(NodeId(100));
            for id in 0..n {
                votes.insert(NodeId(id));
                votes.insert(NodeId(id));
                assert_eq!(votes.is_quorum(&group), 2 * (id + 1) > n, "{id} of {n}");
            }
        }
    }

    #[test]
    fn ranks_start_after_the_old_leader_and_end_with_it() {
        let group = Group::first(3);
        let ranks = |after| [0, 1, 2].map(|id| group.rank_after(NodeId(id), after));
        assert_eq!(ranks(None), [0, 1, 2]);
        assert_eq!(ranks(Some(NodeId(0))), [2, 0, 1]);
        assert_eq!(ranks(Some(NodeId(2))), [0, 1, 2]);
    }
}
