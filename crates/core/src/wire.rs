//! The text of the wire: the one description of the content of datagrams.
//!
//! This module owns the grammar, in both directions: [`lines`] and [`parse_line`] read, [`Line::encode`] and
//! [`Packer`] write. No other module of the project knows the form of a message. It never decides whether a message
//! is *believed*: the roles decide that.
//!
//! A datagram is one or more lines, separated by `\n` (one at the end is allowed). A line is fields separated by
//! exactly one space. If a message carries a value, the last field is the rest of the line. Numbers are plain
//! decimals up to 2^63-1. In a value, the bytes newline, carriage return and backslash travel as `\n`, `\r` and
//! `\\`; every other byte is carried as it is. Two kinds of values are literal, backslashes included: the value of
//! an untagged `Request`, and all values between [`Dialect::Classic`] nodes. In values between classic nodes, white
//! space separates words and is otherwise not part of the value, because classic nodes split on it. A line that
//! does not parse is dropped alone.
//!
//! `S` is the sender's id, `T` another node's, `I` and `J` instances, `P` a ballot (`E:P`, or `P` in epoch 0), `L`
//! the last instance of a durably learned prefix, `C Q` a tag (client, sequence number), `F` the client's floor,
//! `E` an epoch, `V` a value, `N` a script's name. `*` as a last instance means: without end. Every datagram of a
//! node begins with its head, `From`, which ties its lines to one data directory and one group (16 hexadecimal
//! digits; see [`GroupId`](crate::types::GroupId)). A client's datagram may begin with `For`. A head that does not
//! parse invalidates the whole datagram. So does a first line, of several, that does not parse at all. A head that
//! is not the first line is dropped.
//!
//! Raw IP has no checksum of its own. So every datagram with a head ends with one, `Sum`: without it, or with a wrong
//! one, the whole datagram is dropped. A datagram without a head needs none, because people write such datagrams.
//!
//! | line | says | example |
//! | --- | --- | --- |
//! | `For G [NAME]` | a client, first in a datagram: the following lines are for the group G (`-`: any), named NAME | `For 5f3a9c01d2b4e6f8` |
//! | `S From C G [NAME]` | first in a datagram: the sender is S, incarnation C, of group G (`-`: of none yet), named NAME | `2 From 77 5f3a9c01d2b4e6f8` |
//! | `Request I [V]` | a client: `0 V` write, `0` safe read, `I` history | `Request 0 one` |
//! | `quit`, `exit`, `bye` | a client: every node that allows it ends | `quit` |
//! | `Submit C Q F V` | a client: write V, exactly once | `Submit 7 1 1 one` |
//! | `Read C Q F` | a client: safe read, exactly once | `Read 7 2 2` |
//! | `FastRead C Q F` | a client: the last value written, without an instance if possible | `FastRead 7 3 2` |
//! | `Query C Q F V` | a client: the answer of a script to the question V, as a safe read, exactly once | `Query 7 4 3 get color` |
//! | `FastQuery C Q F V` | the same, without an instance if possible | `FastQuery 7 5 3 get color` |
//! | `members` | a client: asks for the members of the group; every node beats within 100 ms | `members` |
//! | `leave T [force]` | an operator: T is to leave the group | `leave 2` |
//! | `replace T U [force]` | an operator: U, ready to join, is to take the place of T | `replace 2 7` |
//! | `Change C Q F V` | the same two, exactly once | `Change 7 3 3 leave 2` |
//! | `S Propose I P` | phase 1a: asks to promise P in instance I (text after P is ignored) | `2 Propose 1 2` |
//! | `S ProposeAll I P` | phase 1a: asks to promise P in every instance from I on | `2 ProposeAll 1 65538` |
//! | `S Promise I P [B V]` | phase 1b: S promises P; in I it last accepted V in ballot B | `1 Promise 1 65538 2 one` |
//! | `S PromiseNone I J P L` | phase 1b: S promises P; it accepted nothing in I to J; it has learned up to L | `1 PromiseNone 2 * 65538 0` |
//! | `S Write I P V` | phase 2a: asks acceptors to accept V | `2 Write 1 2 one` |
//! | `S WriteTags I J P D C Q N …` | phase 2a: asks to accept, in I to J, the N writes C Q, C Q+1, …, as their client sent them; D is a digest of their bytes | `2 WriteTags 5 8 65538 0e7fb7a0f1b9ec3ff2a4d0a4e2a1e7a2d19d3a8b6f5c4e3d2c1b0a9f8e7d6c5b 7 1 3 9 1 1` |
//! | `S Fetch I J P` | S lacks values that WriteTags named in I to J in ballot P, and asks for them in full | `0 Fetch 5 8 65538` |
//! | `S Accept I P V` | phase 2b: S accepted V; a vote in classic groups only | `0 Accept 1 2 one` |
//! | `S Accepts I J P` | phase 2b: S accepted, in I to J, the values written there in ballot P | `0 Accepts 1 9 65538` |
//! | `S NACK I P` | S has promised the higher ballot P | `0 NACK 1 2` |
//! | `S Written I V` | S knows that V is chosen at I | `2 Written 1 one` |
//! | `S Chosen I J P` | in I to J, the values written in ballot P are chosen | `2 Chosen 1 9 65538` |
//! | `S Gap I J` | S asks for the chosen values of I to J | `1 Gap 4 9` |
//! | `S Join N` | S wants to join; N is the last instance it has learned | `3 Join 0` |
//! | `S AskMark E X` | asks for marks in epoch E, for the round of fast reads X | `1 AskMark 0 91` |
//! | `S Mark E X I` | when S was asked in round X, it had accepted nothing above I in epoch E, and learned nothing above I | `0 Mark 0 91 9` |
//! | `S JoinFor N T` | S wants to join in the place of T; if T is S, an operator names the member to replace | `7 JoinFor 41 2` |
//! | `S Members I L H` | the members H form the group that instance I began; S has learned up to L | `1 Members 5 41 0,1,7` |
//! | `S OK I V` | the answer to a client: V is chosen at I | `0 OK 2 two` |
//! | `S Done I J C Q` | the requests C Q, C Q+1, … are chosen at I to J | `2 Done 5 6 7 1` |
//! | `S Answer I C Q V` | the safe read C Q is chosen at I and reads V | `2 Answer 7 7 3 safe read two` |
//! | `S Value I L C Q V` | the answer to the fast read C Q: up to L, the last value written is V, at I (0 and empty: none was written) | `2 Value 6 7 7 4 two` |
//! | `S Reply L C Q V` | the answer to the fast query C Q: as of L, a script answers V | `2 Reply 7 7 5 red` |
//! | `S NotYet I L` | S has learned only up to L, which is below instance I | `0 NotYet 9 4` |
//! | `S Refused C Q TEXT` | the request C Q is never carried out; TEXT is the reason | `2 Refused 7 1 no` |
//! | `S Busy C Q T` | S cannot take C Q now: retry after T milliseconds or later; a fast read then as a safe read | `2 Busy 7 1 100` |
//! | `S Unknown C Q` | it is no longer known whether C Q was carried out; it will not be from here on | `2 Unknown 7 1` |
//! | `S Forgotten C Q M` | C Q is not carried out from here on: S does not know client C (any more); new sessions begin above M | `2 Forgotten 7 1 1` |
//! | `S Error TEXT` | an untagged request is not carried out now; TEXT is the reason | `2 Error no` |
//! | `S Dropped W` | the untagged write whose words have the fingerprint W is not carried out: a script rejects it | `2 Dropped 81985` |
//! | `S AskDigest I N` | asks for the digest of script N as of instance I | `0 AskDigest 20 kv` |
//! | `S Digest I D X N` | the digest of script N, of source X, as of instance I is D | `1 Digest 20 4660 81985 kv` |
//! | `S AskChain I` | asks for the digest of all values learned up to I | `0 AskChain 20` |
//! | `S Chain I D` | the digest of all values that S has learned up to I is D | `1 Chain 20 0123456789abcdef0123456789abcdef` |
//! | `S Differs I T` | S and T hold different values at I, the first such instance that S knows of | `1 Differs 3 0` |
//! | `S Relay [V]` | S passes on an untagged write, or safe read, that no leader has taken | `1 Relay one` |
//! | `S Beat N C K B P L R H` | the heartbeat of S: size N of the first group; C, K and B its incarnation, start and boot; its ballot P; its durable prefix L; R, its stance (leads, seeks, follows, waits or learns); H, whom it hears | `1 Beat 3 77 2 9 65538 4 follows 0,2` |
//! | `S Pace M P` | S beats every M milliseconds; P was the highest ballot it knew when it began to vote in this life (`-`: none, or it does not vote) | `1 Pace 100 65537` |
//! | `S Register N C K B [B' …]` | S asks its peers to remember its incarnation C, start K, boot B; B' … are the boots of its earlier starts, the latest first | `1 Register 3 77 2 9 5` |
//! | `S Registered T B` | S has durably remembered T as it started in boot B | `0 Registered 1 9` |
//! | `S Barred T B C K [B']` | S remembers T as incarnation C, start K, boot B'; boot B is neither that life nor a later one of it (if T is S, then S is barred, and sends this with its beats) | `0 Barred 1 9 77 5` |
//! | `S Part X K N TEXT`, or without S | alone in its datagram: part K of N of the datagram X, which is longer than a packet; a client sends it without S | `Part 9007 1 2 Submit 7 1 1 o` |
//! | `Missing X K,K-K` | alone in its datagram: these parts of X were not received; the sender of X retransmits them | `Missing 9007 2` |
//! | `& V` | the line before it again, with the next number and this value | `& two` |
//! | `Sum H` | last in every datagram that begins with a head: H is the CRC-32C of all bytes before this line (example: after `For 5f3a9c01d2b4e6f8` and `members`) | `Sum 7a256bb1` |
//!
//! A continuation may follow `Submit` (next sequence number), `Write` and `Written` (next instance). It never comes
//! first in a datagram. Every participant ignores unknown verbs; known verbs never change their meaning. Only
//! [`part`] reads `Part` and `Missing`, before any other module sees them.

mod head;
pub mod kinds;
mod open;
mod parse;
pub mod part;
mod print;
mod size;
mod sum;

pub use head::{BadGroupName, GroupName, Head, MAX_GROUP_NAME};
pub use open::open;
pub use parse::{Lines, joined_words, lines, parse_line};
pub use print::Packer;
pub use size::{MAX_DATAGRAM, MAX_HEAD, value_refusal};
pub use sum::{SUM_LINE, append_sum, complete, without_sum};

pub use crate::dialect::Dialect;
pub use crate::text::ParseError;

use std::sync::Arc;

use crate::digest_write::NamedWrite;
use crate::hooks::Script;
use crate::types::{Ballot, Change, Epoch, Instance, NodeId, Tagged, Value};

/// One line, of a client or of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// A request of a client; it names no sender.
    Client(Request),
    /// A message of a node, with the id that the node claims.
    Node(NodeId, Message),
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// `Request 0 V`: a write, at least once.
    Write(Value),
    /// `Request 0`: a safe read.
    Read,
    /// `Request I`: asks for the value chosen at I, from 1.
    History(Instance),
    /// `Request I V` with I > 0. It is refused: a client cannot choose an instance.
    Misplaced(Instance, Value),
    /// `Submit C Q F V`: a write, exactly once.
    Submit(Tagged, Value),
    /// `Read C Q F`: a safe read, exactly once.
    TaggedRead(Tagged),
    /// `FastRead C Q F`: a read that takes no instance if possible; else a safe read, exactly once.
    FastRead(Tagged),
    /// `Query C Q F V`: a safe read that a script answers, exactly once.
    Query(Tagged, Value),
    /// `FastQuery C Q F V`: a query that takes no instance if possible; else a `Query`, exactly once.
    FastQuery(Tagged, Value),
    /// `members`: asks for the members of the group.
    Members,
    /// `leave T` or `replace T U`. The tagged form is `Change C Q F …`.
    Change(Option<Tagged>, Change),
    /// `quit`, `exit` or `bye`: asks every node that allows it to end.
    Quit,
}

/// A message of a node. The variants keep the spelling of the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are the letters of the module's table")]
pub enum Message {
    Propose { instance: Instance, ballot: Ballot },
    ProposeAll { first: Instance, ballot: Ballot },
    Promise { instance: Instance, ballot: Ballot, accepted: Option<(Ballot, Value)> },
    PromiseNone { first: Instance, last: Option<Instance>, ballot: Ballot, learned: Instance },
    Write { instance: Instance, ballot: Ballot, value: Value },
    WriteTags(NamedWrite),
    Fetch { first: Instance, last: Instance, ballot: Ballot },
    Accept { instance: Instance, ballot: Ballot, value: Value },
    Accepts { first: Instance, last: Instance, ballot: Ballot },
    Nack { instance: Instance, ballot: Ballot },
    Written { instance: Instance, value: Value },
    Chosen { first: Instance, last: Instance, ballot: Ballot },
    Gap { first: Instance, last: Instance },
    AskMark { epoch: Epoch, nonce: u64 },
    Mark { epoch: Epoch, nonce: u64, mark: Instance },
    Join { learned: Instance },
    JoinFor { learned: Instance, replaces: NodeId },
    Members { epoch: Epoch, learned: Instance, members: Vec<NodeId> },
    Ok { instance: Instance, value: Value },
    Done { first: Instance, last: Instance, client: u64, seq: u64 },
    Answer { instance: Instance, client: u64, seq: u64, value: Value },
    Value { instance: Instance, learned: Instance, client: u64, seq: u64, value: Value },
    Reply { learned: Instance, client: u64, seq: u64, value: Value },
    NotYet { instance: Instance, learned: Instance },
    Refused { client: u64, seq: u64, reason: Value },
    Busy { client: u64, seq: u64, pause: u64 },
    Unknown { client: u64, seq: u64 },
    Forgotten { client: u64, seq: u64, begin: u64 },
    Error { reason: Value },
    Relay { value: Option<Value> },
    Dropped { words: u64 },
    AskDigest { instance: Instance, name: Arc<str> },
    Digest { instance: Instance, digest: u64, script: Script },
    AskChain { instance: Instance },
    Chain { instance: Instance, digest: u128 },
    Differs { instance: Instance, node: NodeId },
    Beat(Beat),
    Pace(Pace),
    Register { n: u16, boot: Boot, earlier: Vec<u64> },
    Registered { node: NodeId, boot: u64 },
    Barred { node: NodeId, boot: u64, known: Boot },
}

/// Identifies one life of one data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Boot {
    /// The random number that the directory was created with.
    pub incarnation: u64,
    /// The number of starts of the directory so far, from 1.
    pub start: u64,
    /// A random number made at this start. It distinguishes a copied directory from the original.
    pub boot: u64,
}

impl Boot {
    /// A life of that directory of which only the incarnation is known; the other numbers are 0.
    pub fn some(incarnation: u64) -> Boot {
        Boot { incarnation, ..Boot::default() }
    }
}

/// `S Beat N C K B P L R H`: a heartbeat, sent at regular intervals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Beat {
    /// N: the size of the first group. It must be the same on all nodes.
    pub n: u16,
    /// C K B: the directory of S and its current life.
    pub boot: Boot,
    /// P: the highest ballot that S knows; `-` for none.
    pub ballot: Option<Ballot>,
    /// L: the durably learned prefix of S.
    pub learned: Instance,
    /// R: the stance of S towards that ballot.
    pub stance: Stance,
    /// H: the nodes that S has heard lately, comma-separated; `-` for none.
    pub heard: Vec<NodeId>,
}

/// `S Pace M P`: sent with every beat, as a line of its own, so that versions that know only `Beat` can still read
/// the beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// M: the interval between two beats of S, in milliseconds; at most [`MAX_PACE_MS`].
    pub every_ms: u64,
    /// P: the highest ballot that S knew when it began to vote in this life; `-` for none, or while it does not
    /// vote.
    pub since: Option<Ballot>,
}

/// The longest interval between two beats, in milliseconds.
pub const MAX_PACE_MS: u64 = 10_000;

/// What a node does about the highest ballot it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stance {
    /// The node owns the ballot and phase 1 is complete; it has two-way links with a quorum.
    Leads,
    /// The node owns the ballot and is still in phase 1; it has two-way links with a quorum.
    Seeks,
    /// The node has a fresh two-way link with the ballot's leader, and the leader has a quorum.
    Follows,
    /// None of the above: the node does not hear the leader, or it lacks a quorum.
    Waits,
    /// The node may not vote, or not yet: it is about to join, has left, or has lost its disk.
    Learns,
}

impl Stance {
    const ALL: [(Stance, &'static str); 5] = [
        (Stance::Leads, "leads"),
        (Stance::Seeks, "seeks"),
        (Stance::Follows, "follows"),
        (Stance::Waits, "waits"),
        (Stance::Learns, "learns"),
    ];

    /// The word of this stance on the wire.
    pub fn word(self) -> &'static str {
        Stance::ALL.iter().find(|(stance, _)| *stance == self).map_or("", |(_, word)| word)
    }
}

/// The words that a client's line may begin with, and the use of each, for the help of interactive programs. The
/// first column is the form, the second its effect.
pub const CLIENT_FORMS: [(&str, &str); 7] = [
    ("Request 0 VALUE", "write VALUE into the log; answered when a quorum has it on disk"),
    ("Request 0", "safe read: the last value written, through an instance of its own"),
    ("Request I", "history: what was chosen at instance I"),
    ("members", "who governs the group, and from which instance on"),
    ("leave ID [force]", "take node ID out of the group; `force`: even if too few stay alive"),
    ("replace ID NEW [force]", "put NEW, which runs with --join, in the place of ID, in one change"),
    ("quit", "end every node that honours it (exit and bye mean the same on the wire)"),
];

#[cfg(test)]
mod tests;
