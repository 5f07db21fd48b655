//! The first line of a datagram: the sender, its life, and the group that it belongs to.
//!
//! This module owns the link between the lines of a datagram and one data directory and one group. It never decides
//! whether to believe the lines: that is up to the node ([`crate::replica::Replica::hear`]) and the client
//! ([`Scope`](crate::client::Scope)). Classic nodes send no head, and drop datagrams with one: those are for
//! another group.

use std::fmt;
use std::str::FromStr;

use crate::text::{ParseError, bad_number, decimal, excerpt, print_decimal};
use crate::types::{GroupId, MAX_NUMBER, NodeId};

/// The maximum length of a group's name, in bytes.
pub const MAX_GROUP_NAME: usize = 24;

/// The name of a group: 1 to [`MAX_GROUP_NAME`] letters, digits, dots, dashes and underscores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName {
    length: u8,
    bytes: [u8; MAX_GROUP_NAME],
}

impl GroupName {
    /// The name as ASCII text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("a name is made of ASCII only")
    }

    fn parse(text: &[u8]) -> Option<GroupName> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        // A single dash stands for "none" elsewhere on the wire.
        if text.is_empty() || text.len() > MAX_GROUP_NAME || text == b"-" || !text.iter().all(is_plain) {
            return None;
        }
        let mut bytes = [0; MAX_GROUP_NAME];
        bytes[..text.len()].copy_from_slice(text);
        Some(GroupName { length: text.len() as u8, bytes })
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A text that is no [`GroupName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a group: use 1 to {MAX_GROUP_NAME} letters, digits, dots, dashes and underscores"
)]
pub struct BadGroupName(pub String);

impl FromStr for GroupName {
    type Err = BadGroupName;

    fn from_str(text: &str) -> Result<Self, BadGroupName> {
        GroupName::parse(text.as_bytes()).ok_or_else(|| BadGroupName(excerpt(text.as_bytes())))
    }
}

/// The content of the first line of a datagram. The default stands for a datagram without a head: of a client that
/// names no group, of a person with netcat, or of a classic node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Head {
    /// The sending node, and the incarnation of its directory; `None` for a client.
    pub from: Option<(NodeId, u64)>,
    /// The identity of the group. A node that belongs to no group yet has `None`; so has a client that accepts any
    /// group.
    pub group: Option<GroupId>,
    /// The name of the group, if it has one.
    pub name: Option<GroupName>,
}

impl Head {
    /// Appends the line and a newline; appends nothing if all fields are empty.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.from {
            Some((id, incarnation)) => {
                print_decimal(out, u64::from(id.0));
                out.extend_from_slice(b" From ");
                print_decimal(out, incarnation);
            }
            None if self.group.is_none() && self.name.is_none() => return,
            None => out.extend_from_slice(b"For"),
        }
        out.push(b' ');
        match self.group {
            Some(group) => group.print(out),
            None => out.push(b'-'),
        }
        if let Some(name) = &self.name {
            out.push(b' ');
            out.extend_from_slice(name.as_str().as_bytes());
        }
        out.push(b'\n');
    }

    /// Parses S, if the sender is a node, and the fields after `S From` or `For`.
    pub(super) fn parse(from: Option<&[u8]>, fields: &[u8]) -> Result<Head, ParseError> {
        let mut fields = fields.split(|byte| *byte == b' ');
        let mut next = || fields.next().unwrap_or_default();
        let from = match from {
            Some(id) => {
                let id = decimal(id, u64::from(u16::MAX)).ok_or_else(|| bad_number("node", id))?;
                let text = next();
                Some((
                    NodeId(id as u16),
                    decimal(text, MAX_NUMBER).ok_or_else(|| bad_number("incarnation", text))?,
                ))
            }
            None => None,
        };
        let group = match next() {
            b"-" => None,
            text => Some(GroupId::parse(text).ok_or_else(|| bad_number("group", text))?),
        };
        let name = match fields.next() {
            Some(text) => Some(GroupName::parse(text).ok_or_else(|| ParseError::Trailing(excerpt(text)))?),
            None => None,
        };
        match fields.next() {
            Some(text) => Err(ParseError::Trailing(excerpt(text))),
            None => Ok(Head { from, group, name }),
        }
    }
}

/// Splits a head at its verb into the digits of the sender, if it is a node, and the fields. `None` for any other
/// line.
pub(super) fn split(line: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if let Some(fields) = line.strip_prefix(b"For ") {
        return Some((None, fields));
    }
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let fields = line[digits..].strip_prefix(b" From ")?;
    Some((Some(&line[..digits]), fields))
}

/// Parses a line as a head. `None` if it is none.
pub(super) fn head_of(line: &[u8]) -> Option<Head> {
    let (from, fields) = split(line)?;
    Head::parse(from, fields).ok()
}

/// Whether a line is a head. A head may only be the first line of a datagram.
pub(super) fn is_head(line: &[u8]) -> bool {
    split(line).is_some()
}
