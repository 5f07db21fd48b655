//! The text of the log on disk: the durable promises, votes and learned values of one node.
//!
//! This module owns the grammar of a record and (in [`block`]) the framing that makes a batch of records one write
//! that can be checked. It is pure: the real disk and the simulated one use the same code. Recovery reads the
//! records in order and rebuilds the roles from them.
//!
//! docs/storage.md, "Reading a log", tells the same to users.
//!
//! | record | meaning | durable before |
//! | --- | --- | --- |
//! | `start K B` | start number K of this directory, boot B | anything is sent |
//! | `member` | enough peers remember this directory's incarnation | the first vote |
//! | `founded G` | this directory belongs to the group G | a peer is told that it is remembered, and the first vote |
//! | `genesis N` | the first group had N members; a joining node received this from a peer | the first instance is learned |
//! | `group E V` | the value V, chosen at instance E, began the epoch in force | (only in a checkpoint) |
//! | `gone T,T,…` | these nodes are former members | (only in a checkpoint) |
//! | `barred` | this disk was rolled back: no life of it votes any more | (at once) |
//! | `registered T C K B` | T is incarnation C; its last known start is K, boot B | T is told so |
//! | `promise P` | promised ballot P in every instance | a promise, or an own proposal, is sent |
//! | `promise I P` | promised ballot P in instance I (classic) | the same |
//! | `accept I P V` | accepted V in ballot P, which promises P too | the vote is sent |
//! | `chosen I J P` | learned I to J, each with the value last accepted there (in ballot P) | lazily |
//! | `learn I V` | learned V at I | lazily |
//! | `lost I [P]` | the value accepted at I in ballot P can no longer be read; without P: the value learned at I | (only in a checkpoint) |
//! | `checkpoint N L` | segment N begins with everything the node remembers, with I to L learned | the segment's use |
//! | `session C F U [Q I]…` | client C: floor F, last use at U; its request Q stands at I (in checkpoints) | |
//! | `forgot Q` | sessions were forgotten; none of them had a number above Q carried out (in checkpoints) | |
//! | `user I V` | the last value that a user wrote, chosen at I (in checkpoints) | |
//! | `script N S C D` | script N, made from source S; C is the digest of all it did, D of its state (in checkpoints) | |
//! | `chain I D` | the digest of all values learned up to I is D (in checkpoints) | |
//! | `state N K V` | script N remembers the scalar V under K (in checkpoints) | |
//! | `checkpoint-end` | the checkpoint is complete | |
//!
//! Values are escaped as on the wire, so that a record is one line. `# ` in a value becomes `\# `, so that no
//! client can write text that passes for the header of a block. A zero byte becomes `\0`, so that zeros in a log
//! are bytes that were never written. (Older versions wrote a zero byte as it is; this version reads that, too.)

pub mod block;
pub(crate) mod fields;
mod script;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fields::{bad, field, line, line_with_ballot, number, small, value, value_text};

use crate::hooks::Script;
use crate::script_state::Scalar;
use crate::text::{self, ParseError};
use crate::types::{self, Ballot, Epoch, GroupId, Instance, MAX_NUMBER, NodeId, Value};
use crate::wire::Boot;

/// One fact, durable once its block is synced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are the letters of the module's table")]
pub enum Record {
    Start { start: u64, boot: u64 },
    Member,
    Founded { group: GroupId },
    Barred,
    Genesis { n: u16 },
    Group { epoch: Epoch, value: Value },
    Gone { nodes: Vec<NodeId> },
    Registered { node: NodeId, boot: Boot },
    PromiseAll { ballot: Ballot },
    Promise { instance: Instance, ballot: Ballot },
    Accept { instance: Instance, ballot: Ballot, value: Value },
    Chosen { first: Instance, last: Instance, ballot: Ballot },
    Learn { instance: Instance, value: Value },
    Lost { instance: Instance, ballot: Option<Ballot> },
    Checkpoint { segment: u64, learned: Instance },
    Session { client: u64, floor: u64, used: Instance, done: Vec<(u64, Instance)> },
    Forgotten { through: u64 },
    User { instance: Instance, value: Value },
    Script { script: Script, chain: u64, state: u64 },
    State { name: Arc<str>, key: Value, value: Scalar },
    Chain { instance: Instance, digest: u128 },
    CheckpointEnd,
}

impl Record {
    /// Appends the record as one line, without a newline.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Start { start, boot } => line(out, "start", &[*start, *boot]),
            Record::Member => line(out, "member", &[]),
            Record::Founded { group } => {
                out.extend_from_slice(b"founded ");
                group.print(out);
            }
            Record::Barred => line(out, "barred", &[]),
            Record::Genesis { n } => line(out, "genesis", &[u64::from(*n)]),
            Record::Group { epoch, value } => {
                line(out, "group", &[epoch.0]);
                value_text(out, value);
            }
            Record::Gone { nodes } => {
                line(out, "gone", &[]);
                text::print_ids(out, nodes);
            }
            Record::Registered { node, boot } => {
                line(out, "registered", &[u64::from(node.0), boot.incarnation, boot.start, boot.boot]);
            }
            Record::PromiseAll { ballot } => line_with_ballot(out, "promise", &[], *ballot),
            Record::Promise { instance, ballot } => line_with_ballot(out, "promise", &[instance.0], *ballot),
            Record::Accept { instance, ballot, value } => {
                line_with_ballot(out, "accept", &[instance.0], *ballot);
                value_text(out, value);
            }
            Record::Chosen { first, last, ballot } => {
                line_with_ballot(out, "chosen", &[first.0, last.0], *ballot);
            }
            Record::Learn { instance, value } => {
                line(out, "learn", &[instance.0]);
                value_text(out, value);
            }
            Record::Lost { instance, ballot: None } => line(out, "lost", &[instance.0]),
            Record::Lost { instance, ballot: Some(ballot) } => {
                line_with_ballot(out, "lost", &[instance.0], *ballot);
            }
            Record::Checkpoint { segment, learned } => line(out, "checkpoint", &[*segment, learned.0]),
            Record::Session { client, floor, used, done } => {
                line(out, "session", &[*client, *floor, used.0]);
                done.iter().for_each(|(seq, instance)| line(out, "", &[*seq, instance.0]));
            }
            Record::Forgotten { through } => line(out, "forgot", &[*through]),
            Record::User { instance, value } => {
                line(out, "user", &[instance.0]);
                value_text(out, value);
            }
            Record::Script { script, chain, state } => script::print_script(out, script, *chain, *state),
            Record::State { name, key, value } => script::print_state(out, name, key, value),
            Record::Chain { instance, digest } => {
                line(out, "chain", &[instance.0]);
                text::print_digest(out, *digest);
            }
            Record::CheckpointEnd => line(out, "checkpoint-end", &[]),
        }
    }

    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// When the line does not fit the grammar. In a log whose checksums hold, another version wrote it.
    pub fn parse(text: &[u8]) -> Result<Record, ParseError> {
        let mut rest = Some(text);
        let word = field(&mut rest);
        let record = match word {
            b"start" => Record::Start { start: number(&mut rest)?, boot: number(&mut rest)? },
            b"member" => Record::Member,
            b"founded" => {
                let text = field(&mut rest);
                Record::Founded { group: GroupId::parse(text).ok_or_else(|| bad(text))? }
            }
            b"barred" => Record::Barred,
            b"genesis" => Record::Genesis { n: small(&mut rest)? },
            b"group" => {
                let epoch = Epoch(number(&mut rest)?);
                return Ok(Record::Group { epoch, value: value(rest)? });
            }
            b"gone" => Record::Gone { nodes: text::parse_ids(field(&mut rest))? },
            b"registered" => Record::Registered {
                node: NodeId(small(&mut rest)?),
                boot: Boot {
                    incarnation: number(&mut rest)?,
                    start: number(&mut rest)?,
                    boot: number(&mut rest)?,
                },
            },
            b"promise" => promise(&mut rest)?,
            b"accept" => {
                let instance = Instance(number(&mut rest)?);
                let ballot = text::parse_ballot(field(&mut rest))?;
                return Ok(Record::Accept { instance, ballot, value: value(rest)? });
            }
            b"chosen" => Record::Chosen {
                first: Instance(number(&mut rest)?),
                last: Instance(number(&mut rest)?),
                ballot: text::parse_ballot(field(&mut rest))?,
            },
            b"learn" => {
                let instance = Instance(number(&mut rest)?);
                return Ok(Record::Learn { instance, value: value(rest)? });
            }
            b"lost" => Record::Lost {
                instance: Instance(number(&mut rest)?),
                ballot: rest.is_some().then(|| text::parse_ballot(field(&mut rest))).transpose()?,
            },
            b"checkpoint" => {
                Record::Checkpoint { segment: number(&mut rest)?, learned: Instance(number(&mut rest)?) }
            }
            b"session" => session(&mut rest)?,
            b"forgot" => Record::Forgotten { through: number(&mut rest)? },
            // An older checkpoint names the last use of a session instead; the numbers can be above it by at most
            // this much.
            b"forgotten" => {
                Record::Forgotten { through: number(&mut rest)?.saturating_add(1 << 20).min(MAX_NUMBER) }
            }
            b"user" => {
                let instance = Instance(number(&mut rest)?);
                return Ok(Record::User { instance, value: value(rest)? });
            }
            b"script" => {
                let (script, chain, state) = script::parse_script(&mut rest)?;
                Record::Script { script, chain, state }
            }
            b"state" => {
                let (name, key, value) = script::parse_state(&mut rest)?;
                Record::State { name, key, value }
            }
            b"chain" => {
                let instance = Instance(number(&mut rest)?);
                let text = field(&mut rest);
                Record::Chain { instance, digest: text::parse_digest(text).ok_or_else(|| bad(text))? }
            }
            b"checkpoint-end" => Record::CheckpointEnd,
            _ => return Err(bad(text)),
        };
        if rest.is_some() { Err(bad(text)) } else { Ok(record) }
    }

    /// Reads a line whose value, if it has one, is corrupt: the value accepted or learned there is lost.
    ///
    /// # Errors
    /// As [`Record::parse`]. Also when the corrupt value stands in a line of a checkpoint, because no peer has a
    /// copy of that.
    pub fn parse_corrupt(text: &[u8]) -> Result<Record, ParseError> {
        let at = value_at(text);
        // The rest of the line reads as a line with an empty value.
        match Record::parse(if at < text.len() { &text[..at] } else { text })? {
            Record::Accept { instance, ballot, .. } => Ok(Record::Lost { instance, ballot: Some(ballot) }),
            Record::Learn { instance, .. } => Ok(Record::Lost { instance, ballot: None }),
            Record::Group { .. } | Record::User { .. } => Err(bad(text)),
            whole => Ok(whole),
        }
    }
}

/// The offset of a record's value, which is the last field and ends with the line. The length of the line if the
/// record has no value. No other code knows where values begin: the framing of the lines calls this
/// ([`block::ValueAt`]).
pub fn value_at(line: &[u8]) -> usize {
    let fields = match line.first().zip(memchr::memchr(b' ', line)) {
        Some((b'a', at)) if &line[..at] == b"accept" => 3,
        Some((b'l' | b'g' | b'u', at)) if matches!(&line[..at], b"learn" | b"group" | b"user") => 2,
        _ => return line.len(),
    };
    // Values are long; the fields before them are short.
    let mut blanks = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    blanks.nth(fields - 1).map_or(line.len(), |blank| blank + 1)
}

impl fmt::Display for Record {
    /// Prints the record as in the log, with two differences: [`Value`] prints a value that is the last field, and
    /// elsewhere each byte that cannot be printed becomes `\xNN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.encode(&mut text);
        let head = &text[..value_at(&text)];
        types::write_printable(f, head, |_| None)?;
        match self {
            Record::Group { value, .. }
            | Record::Accept { value, .. }
            | Record::Learn { value, .. }
            | Record::User { value, .. } => value.fmt(f),
            _ => Ok(()),
        }
    }
}

/// Follows the records of a log and yields the learned values, for readers of logs. A node does not use it: it
/// recovers in its roles.
#[derive(Debug, Default)]
pub struct Reader {
    accepted: BTreeMap<Instance, Value>,
    /// The values up to here were handed out. A repetition in the log is ignored.
    learned: Instance,
    /// The value learned here is lost. Values learned above count once this one is known again.
    lost: Option<Instance>,
}

impl Reader {
    /// Takes the next record and returns the values it says were learned, in order. `None` stands for a value that
    /// the records before did not hold.
    pub fn take(&mut self, record: &Record) -> Vec<(Instance, Option<Value>)> {
        match record {
            Record::Accept { instance, value, .. } => {
                self.accepted.insert(*instance, value.clone());
                Vec::new()
            }
            Record::Chosen { first, last, .. } => {
                let learned = (first.0..=last.0).map(Instance);
                learned.filter_map(|instance| self.learn(instance)).collect()
            }
            Record::Learn { instance, value } => {
                self.accepted.insert(*instance, value.clone());
                self.learn(*instance).into_iter().collect()
            }
            Record::Lost { instance, ballot: Some(_) } => {
                self.accepted.remove(instance);
                Vec::new()
            }
            Record::Lost { instance, ballot: None } => {
                self.accepted.remove(instance);
                self.learn(*instance).into_iter().collect()
            }
            Record::Checkpoint { learned, .. } => {
                self.lost.take_if(|lost| *lost <= *learned);
                self.learned = self.learned.max(*learned);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn learn(&mut self, instance: Instance) -> Option<(Instance, Option<Value>)> {
        if instance <= self.learned || self.lost.is_some_and(|lost| lost < instance) {
            return None;
        }
        let value = self.accepted.remove(&instance);
        let is_told = self.lost == Some(instance) && value.is_none();
        self.lost = value.is_none().then_some(instance);
        self.learned = if value.is_some() { instance } else { self.learned };
        (!is_told).then_some((instance, value))
    }
}

fn promise(rest: &mut Option<&[u8]>) -> Result<Record, ParseError> {
    let first = field(rest);
    if rest.is_none() {
        return Ok(Record::PromiseAll { ballot: text::parse_ballot(first)? });
    }
    let instance = Instance(text::decimal(first, MAX_NUMBER).ok_or_else(|| bad(first))?);
    Ok(Record::Promise { instance, ballot: text::parse_ballot(field(rest))? })
}

fn session(rest: &mut Option<&[u8]>) -> Result<Record, ParseError> {
    let (client, floor, used) = (number(rest)?, number(rest)?, Instance(number(rest)?));
    let mut done = Vec::new();
    while rest.is_some() {
        done.push((number(rest)?, Instance(number(rest)?)));
    }
    Ok(Record::Session { client, floor, used, done })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::script_state::Number;
    use crate::types::Epoch;

    fn any_record() -> impl Strategy<Value = Record> {
        let number = || 0..=MAX_NUMBER;
        let instance = || number().prop_map(Instance);
        let ballot = || (0..3u64, number()).prop_map(|(e, number)| Ballot { epoch: Epoch(e), number });
        let value = || {
            let bytes = prop_oneof![
                prop::collection::vec(any::<u8>(), 0..30),
                r"[# \\n\n0\x00]{0,9}".prop_map(String::into_bytes),
            ];
            bytes.prop_map(Value::from)
        };
        let boot = (number(), number(), number()).prop_map(|(incarnation, start, boot)| Boot {
            incarnation,
            start,
            boot,
        });
        let scalar = prop_oneof![
            any::<bool>().prop_map(Scalar::Bool),
            any::<f64>().prop_filter_map("a number", Number::new).prop_map(Scalar::Number),
            value().prop_map(Scalar::Text),
        ];
        prop_oneof![
            (number(), number()).prop_map(|(start, boot)| Record::Start { start, boot }),
            Just(Record::Member),
            Just(Record::Barred),
            any::<u16>().prop_map(|n| Record::Genesis { n }),
            (number(), value()).prop_map(|(e, value)| Record::Group { epoch: Epoch(e), value }),
            prop::collection::vec(any::<u16>().prop_map(NodeId), 0..4)
                .prop_map(|nodes| Record::Gone { nodes }),
            (any::<u16>(), boot).prop_map(|(id, boot)| Record::Registered { node: NodeId(id), boot }),
            ballot().prop_map(|ballot| Record::PromiseAll { ballot }),
            (instance(), ballot()).prop_map(|(instance, ballot)| Record::Promise { instance, ballot }),
            (instance(), ballot(), value()).prop_map(|(instance, ballot, value)| Record::Accept {
                instance,
                ballot,
                value
            }),
            (instance(), instance(), ballot()).prop_map(|(first, last, ballot)| Record::Chosen {
                first,
                last,
                ballot
            }),
            (instance(), value()).prop_map(|(instance, value)| Record::Learn { instance, value }),
            (instance(), prop::option::of(ballot()))
                .prop_map(|(instance, ballot)| Record::Lost { instance, ballot }),
            (number(), instance()).prop_map(|(segment, learned)| Record::Checkpoint { segment, learned }),
            (number(), number(), instance(), prop::collection::vec((number(), instance()), 0..4))
                .prop_map(|(client, floor, used, done)| Record::Session { client, floor, used, done }),
            (0..=MAX_NUMBER).prop_map(|through| Record::Forgotten { through }),
            (instance(), value()).prop_map(|(instance, value)| Record::User { instance, value }),
            ("[a-z]{1,3}", number(), number(), number()).prop_map(|(name, source, chain, state)| {
                Record::Script { script: Script { name: name.into(), source }, chain, state }
            }),
            ("[a-z]{1,3}", value(), scalar).prop_map(|(name, key, value)| Record::State {
                name: name.into(),
                key,
                value
            }),
            (instance(), any::<u128>()).prop_map(|(instance, digest)| Record::Chain { instance, digest }),
            Just(Record::CheckpointEnd),
        ]
    }

    proptest! {
        #[test]
        fn a_record_is_one_line_that_reads_back(record in any_record()) {
            let mut text = Vec::new();
            record.encode(&mut text);
            prop_assert!(!text.contains(&b'\n') && !text.contains(&0) && !text.starts_with(b"#"));
            let has_mark = text.windows(3).any(|three| three[0] != b'\\' && three[1..] == *b"# ");
            prop_assert!(!has_mark, "{:?} could pass for the header of a block", Value::from(text));
            prop_assert_eq!(Record::parse(&text), Ok(record));
        }

        #[test]
        fn a_hurt_value_hides_itself_and_nothing_else(record in any_record(), other in any::<u8>()) {
            let (mut text, mut value) = (Vec::new(), Vec::new());
            record.encode(&mut text);
            let corrupt = match &record {
                Record::Accept { instance, ballot, value: held } => {
                    value_text(&mut value, held);
                    Some(Record::Lost { instance: *instance, ballot: Some(*ballot) })
                }
                Record::Learn { instance, value: held } => {
                    value_text(&mut value, held);
                    Some(Record::Lost { instance: *instance, ballot: None })
                }
                Record::Group { value: held, .. } | Record::User { value: held, .. } => {
                    value_text(&mut value, held);
                    None
                }
                whole => Some(whole.clone()),
            };
            let at = value_at(&text);
            prop_assert_eq!(&text[at..], value.get(1..).unwrap_or_default());
            text[at..].fill(other);
            prop_assert_eq!(value_at(&text), at);
            prop_assert_eq!(Record::parse_corrupt(&text).ok(), corrupt);
        }

        #[test]
        fn arbitrary_lines_never_panic(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Record::parse(&text);
            let _ = Record::parse_corrupt(&text);
        }
    }

    #[test]
    fn records_are_readable() {
        let accept =
            Record::Accept { instance: Instance(1), ballot: Ballot::first_epoch(2), value: "one".into() };
        assert_eq!(accept.to_string(), "accept 1 2 one");
        assert_eq!(Record::PromiseAll { ballot: Ballot::first_epoch(2) }.to_string(), "promise 2");
    }

    #[test]
    fn what_is_learned_above_a_lost_value_is_told_when_that_is_back() {
        let mut reader = Reader::default();
        let mut told = |records: &[&str]| {
            let records = records.iter().map(|record| Record::parse(record.as_bytes()).expect("a record"));
            let told = records.flat_map(|record| reader.take(&record)).collect::<Vec<_>>();
            let text = |(instance, value): (Instance, Option<Value>)| match value {
                Some(value) => format!("{instance} {value}"),
                None => format!("{instance} lost"),
            };
            told.into_iter().map(text).collect::<Vec<_>>()
        };
        let corrupt = ["accept 1 0 a", "accept 2 0 b", "lost 2 0", "accept 3 0 c", "chosen 1 3 0"];
        assert_eq!(told(&corrupt), ["1 a", "2 lost"]);
        assert_eq!(told(&["accept 4 0 d", "chosen 2 2 0"]), [""; 0], "it is still lost");
        assert_eq!(told(&["learn 2 b", "chosen 3 4 0"]), ["2 b", "3 c", "4 d"]);
        assert_eq!(told(&["chosen 1 4 0", "learn 2 b"]), [""; 0], "each once");
        assert_eq!(told(&["lost 5", "accept 6 0 f", "chosen 6 6 0"]), ["5 lost"]);
        assert_eq!(told(&["checkpoint 7 5", "accept 6 0 f", "chosen 6 6 0"]), ["6 f"]);
    }
}
