//! The meaning of a value in the log.
//!
//! This module owns the marks that the protocol puts before a value. It also owns the rule that keeps any byte
//! string legal for users: a value that begins with `@` gets another `@` in front. The roles that agree on values
//! never look inside; sessions, reads and answers do.
//!
//! | in the log | meaning |
//! | --- | --- |
//! | `@noop` | nothing: fills an instance that a leader found empty |
//! | `@tag C Q F V` | the tagged request C Q, with floor F, writes V |
//! | `@for W V` | V replaces an untagged write whose words have the fingerprint W: a script changed them |
//! | `@read I V` | a safe read proposed for instance I, which reads V; void elsewhere |
//! | `@tread I C Q F V` | the same, tagged |
//! | `@refused C Q F TEXT` | the tagged request C Q is never carried out; TEXT is the reason |
//! | `@group E M` | from the next instance on the members M govern; based on epoch E, void unless that is in force |
//! | `@tgroup C Q F E M` | the same, tagged |
//! | `@@…` | a user's value that begins with one `@` less |
//! | anything else | a user's value as it is |
//!
//! A classic group has no marks. There, a value is a user's value or a safe read: `safe read V`, or `safe read`
//! where there is nothing to read.

use std::collections::BTreeMap;

use crate::dialect::Dialect;
use crate::text;
use crate::types::{Epoch, Instance, MAX_NUMBER, NodeId, Tag, Tagged, Value};

/// The maximum length of a refusal's reason in the log, in bytes.
pub const MAX_REASON: usize = 1_024;

/// The prefix of the answer to a safe read.
pub const SAFE_READ: &str = "safe read ";

/// A group as the log names it: the epoch it is based on, and the members that govern from the next instance on. It
/// is printed as `E M`, where M lists ids, each with `:` and its incarnation if that is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewGroup {
    /// The epoch in force when the group was proposed.
    pub base: Epoch,
    /// The members, each with the incarnation that its data directory must have, if known.
    pub members: BTreeMap<NodeId, Option<u64>>,
}

impl NewGroup {
    /// The text as it stands behind the mark.
    pub fn text(&self) -> String {
        let member = |(id, incarnation): (&NodeId, &Option<u64>)| match incarnation {
            Some(incarnation) => format!("{id}:{incarnation}"),
            None => id.to_string(),
        };
        let members: Vec<_> = self.members.iter().map(member).collect();
        format!("{} {}", self.base, members.join(","))
    }

    /// Reads the text. It accepts one spelling only, and at least one member.
    pub fn parse(text: &[u8]) -> Option<NewGroup> {
        let mut rest = text;
        let base = Epoch(number(&mut rest)?);
        let member = |text: &[u8]| {
            let mut parts = text.splitn(2, |b| *b == b':');
            let id = text::decimal(parts.next()?, u64::from(u16::MAX))?;
            let incarnation = match parts.next() {
                Some(text) => Some(text::decimal(text, MAX_NUMBER)?),
                None => None,
            };
            Some((NodeId(id as u16), incarnation))
        };
        let members = rest.split(|b| *b == b',').map(member).collect::<Option<_>>()?;
        let group = NewGroup { base, members };
        (group.text().as_bytes() == text).then_some(group)
    }

    /// The text shown to readers of the log: the ids without incarnations.
    pub fn reads(&self) -> Value {
        let members: Vec<_> = self.members.keys().map(NodeId::to_string).collect();
        Value::from(format!("group {}", members.join(",")).as_str())
    }
}

/// The decoded form of a value in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Fills an instance without any effect.
    Noop,
    /// A write, at least once.
    Write(Value),
    /// A write, at least once, that a script has changed: the fingerprint of the original words, and the new value.
    Changed(u64, Value),
    /// A write, exactly once.
    Tagged(Tagged, Value),
    /// A safe read. It is valid at one instance only.
    Read {
        /// The instance it was computed for; in a classic group, the instance where it stands.
        instance: Instance,
        /// The tag of the request, if it had one.
        tagged: Option<Tagged>,
        /// The answer (`safe read …`).
        value: Value,
    },
    /// A change of the group.
    Group(Option<Tagged>, NewGroup),
    /// A tagged request that is never carried out, with the reason. Its tag is used up, without effect.
    Refused(Tagged, Value),
}

impl Entry {
    /// Refuses a tagged request for this reason. A reason longer than [`MAX_REASON`] is cut.
    pub fn refused(tagged: Tagged, reason: &str) -> Entry {
        Entry::Refused(tagged, Value::from(&reason[..reason.floor_char_boundary(MAX_REASON)]))
    }

    /// The bytes that stand in the log.
    pub fn encode(&self, dialect: Dialect) -> Value {
        match (dialect, self) {
            (Dialect::Classic, Entry::Write(value) | Entry::Changed(_, value) | Entry::Tagged(_, value)) => {
                value.clone()
            }
            // Classic nodes see no blank at the end of a read of nothing.
            (Dialect::Classic, Entry::Read { value, .. }) => Value::from(value.as_bytes().trim_ascii_end()),
            (_, Entry::Noop) => Value::from("@noop"),
            (_, Entry::Refused(tagged, reason)) => mark(format!("@refused {}", tag_text(tagged)), reason),
            (_, Entry::Group(None, group)) => Value::from(format!("@group {}", group.text()).as_str()),
            (_, Entry::Group(Some(tagged), group)) => {
                Value::from(format!("@tgroup {}{}", tag_text(tagged), group.text()).as_str())
            }
            (_, Entry::Write(value)) if value.as_bytes().starts_with(b"@") => mark("@".into(), value),
            (_, Entry::Write(value)) => value.clone(),
            (_, Entry::Changed(words, value)) => mark(format!("@for {words} "), value),
            (_, Entry::Tagged(tagged, value)) => {
                let mut bytes = Vec::with_capacity(64 + value.as_bytes().len());
                print_tagged(tagged, value, &mut bytes);
                Value::from(bytes)
            }
            (_, Entry::Read { instance, tagged: None, value }) => mark(format!("@read {instance} "), value),
            (_, Entry::Read { instance, tagged: Some(tagged), value }) => {
                mark(format!("@tread {instance} {}", tag_text(tagged)), value)
            }
        }
    }

    /// Decodes a value of the log at instance `at`. Bytes that no node of this version would have written count as
    /// a user's value, so nothing is lost.
    pub fn decode(at: Instance, value: &Value, dialect: Dialect) -> Entry {
        let bytes = value.as_bytes();
        if dialect == Dialect::Classic {
            return match bytes.starts_with(SAFE_READ.as_bytes()) || bytes == SAFE_READ.trim_end().as_bytes() {
                true => Entry::Read { instance: at, tagged: None, value: value.clone() },
                false => Entry::Write(value.clone()),
            };
        }
        if !bytes.starts_with(b"@") {
            return Entry::Write(value.clone());
        }
        marked(value).unwrap_or_else(|| Entry::Write(value.clone()))
    }

    /// The value that a user wrote, if the entry is a write.
    pub fn written(&self) -> Option<&Value> {
        match self {
            Entry::Write(value) | Entry::Changed(_, value) | Entry::Tagged(_, value) => Some(value),
            Entry::Noop | Entry::Read { .. } | Entry::Group(..) | Entry::Refused(..) => None,
        }
    }

    /// The text shown to readers of the log: the user's value, or the answer of a safe read.
    pub fn reads(&self) -> Value {
        match self {
            Entry::Noop => Value::from("no-op"),
            Entry::Write(value)
            | Entry::Changed(_, value)
            | Entry::Tagged(_, value)
            | Entry::Read { value, .. } => value.clone(),
            Entry::Group(_, group) => group.reads(),
            Entry::Refused(_, reason) => mark("refused: ".into(), reason),
        }
    }

    /// Whether this is a safe read without a tag, which cannot be told from another one.
    pub fn is_untagged_read(&self) -> bool {
        matches!(self, Entry::Read { tagged: None, .. })
    }

    /// The tag, if the request had one.
    pub fn tagged(&self) -> Option<Tagged> {
        match self {
            Entry::Tagged(tagged, _)
            | Entry::Read { tagged: Some(tagged), .. }
            | Entry::Group(Some(tagged), _)
            | Entry::Refused(tagged, _) => Some(*tagged),
            _ => None,
        }
    }
}

/// Appends a tagged write as it stands in the log.
pub fn print_tagged(tagged: &Tagged, value: &Value, out: &mut Vec<u8>) {
    print_tag_mark(tagged.tag.client, out);
    print_tagged_rest(tagged, value, out);
}

/// Appends the mark of a tagged write, with the name of its client.
pub fn print_tag_mark(client: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"@tag ");
    text::print_decimal(out, client);
    out.push(b' ');
}

/// Appends the rest of a tagged write, after [`print_tag_mark`].
pub fn print_tagged_rest(Tagged { tag, floor }: &Tagged, value: &Value, out: &mut Vec<u8>) {
    for number in [tag.seq, *floor] {
        text::print_decimal(out, number);
        out.push(b' ');
    }
    out.extend_from_slice(value.as_bytes());
}

fn tag_text(Tagged { tag, floor }: &Tagged) -> String {
    format!("{} {} {floor} ", tag.client, tag.seq)
}

fn mark(head: String, value: &Value) -> Value {
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(value.as_bytes());
    Value::from(bytes)
}

fn marked(stored: &Value) -> Option<Entry> {
    let bytes = stored.as_bytes();
    if bytes.starts_with(b"@@") {
        return Some(Entry::Write(stored.slice(1..)));
    }
    if bytes == b"@noop" {
        return Some(Entry::Noop);
    }
    let at = memchr::memchr(b' ', bytes)?;
    let (mark, mut rest) = (&bytes[..at], &bytes[at + 1..]);
    // The user's value is the end of the stored bytes.
    let value = |rest: &[u8]| stored.slice(bytes.len() - rest.len()..);
    match mark {
        b"@for" => Some(Entry::Changed(number(&mut rest)?, value(rest))),
        b"@tag" => Some(Entry::Tagged(tagged(&mut rest)?, value(rest))),
        b"@read" => {
            let instance = Instance(number(&mut rest)?);
            Some(Entry::Read { instance, tagged: None, value: value(rest) })
        }
        b"@tread" => {
            let instance = Instance(number(&mut rest)?);
            let tagged = Some(tagged(&mut rest)?);
            Some(Entry::Read { instance, tagged, value: value(rest) })
        }
        b"@refused" => Some(Entry::Refused(tagged(&mut rest)?, value(rest))),
        b"@group" => Some(Entry::Group(None, NewGroup::parse(rest)?)),
        b"@tgroup" => Some(Entry::Group(Some(tagged(&mut rest)?), NewGroup::parse(rest)?)),
        _ => None,
    }
}

fn tagged(rest: &mut &[u8]) -> Option<Tagged> {
    let tag = Tag { client: number(rest)?, seq: number(rest)? };
    Some(Tagged { tag, floor: number(rest)? })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let digits = rest.iter().take_while(|byte| is_digit(byte)).count();
    let (text, behind) = rest.split_at(digits);
    *rest = behind.strip_prefix(b" ")?;
    text::decimal(text, MAX_NUMBER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member() -> impl Strategy<Value = Option<u64>> {
        prop::option::of(0..=MAX_NUMBER)
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let value = || {
            let bytes = prop_oneof![
                prop::collection::vec(any::<u8>(), 0..20),
                "@{0,3}(noop|tag|for|read|tread|refused|t?group)?( [0-9]{1,3}){0,5} ?[x:,7]{0,2}"
                    .prop_map(String::into_bytes),
            ];
            bytes.prop_map(Value::from)
        };
        let tagged = || {
            (0..=MAX_NUMBER, 0..9u64, 0..9u64)
                .prop_map(|(client, seq, floor)| Tagged { tag: Tag { client, seq }, floor })
        };
        let group = || {
            let members = prop::collection::btree_map(any::<u16>().prop_map(NodeId), member(), 1..5);
            (0..=MAX_NUMBER, members).prop_map(|(base, members)| NewGroup { base: Epoch(base), members })
        };
        prop_oneof![
            Just(Entry::Noop),
            (prop::option::of(tagged()), group()).prop_map(|(tagged, group)| Entry::Group(tagged, group)),
            value().prop_map(Entry::Write),
            (0..=MAX_NUMBER, value()).prop_map(|(words, value)| Entry::Changed(words, value)),
            (tagged(), value()).prop_map(|(tagged, value)| Entry::Tagged(tagged, value)),
            (tagged(), value()).prop_map(|(tagged, reason)| Entry::Refused(tagged, reason)),
            (1..99u64, prop::option::of(tagged()), value()).prop_map(|(i, tagged, value)| Entry::Read {
                instance: Instance(i),
                tagged,
                value
            }),
        ]
    }

    proptest! {
        #[test]
        fn any_byte_string_is_a_legal_value(entry in any_entry()) {
            let stored = entry.encode(Dialect::Extended);
            prop_assert_eq!(Entry::decode(Instance(1), &stored, Dialect::Extended), entry);
        }
    }

    #[test]
    fn of_a_reason_that_is_too_long_the_beginning_stands_in_the_log() {
        let tagged = Tagged { tag: Tag { client: 7, seq: 1 }, floor: 1 };
        let Entry::Refused(_, reason) = Entry::refused(tagged, &"ä".repeat(MAX_REASON)) else { panic!() };
        assert_eq!(reason, Value::from("ä".repeat(MAX_REASON / 2).as_str()));
        let Entry::Refused(_, reason) = Entry::refused(tagged, &format!("a{}", "ä".repeat(MAX_REASON)))
        else {
            panic!()
        };
        assert_eq!(reason.as_bytes().len(), MAX_REASON - 1, "no half of a character");
    }

    #[test]
    fn a_plain_value_stands_in_the_log_as_it_is() {
        assert_eq!(Entry::Write("one".into()).encode(Dialect::Extended), "one".into());
        assert_eq!(Entry::Write("@noop".into()).encode(Dialect::Extended), "@@noop".into());
    }
}
