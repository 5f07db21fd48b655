//! Finds the answers to clients and the beats in a datagram, without reading the rest.
//!
//! A listener in a group receives every value. A load that parsed them all would cost more than a node. This module
//! looks only at the beginning of each line, and leaves the relevant lines to [`wire::parse_line`].

use memchr::memchr;
use upaxos_core::types::NodeId;
use upaxos_core::wire::{self, Dialect, Line, Message};

/// The nodes' verbs that matter to a client, each with the blank before it.
const VERBS: [&[u8]; 9] = [
    b" Done ",
    b" Answer ",
    b" Value ",
    b" OK ",
    b" Refused ",
    b" Busy ",
    b" Unknown ",
    b" Forgotten ",
    b" Beat ",
];

/// The longest id of a node, in digits.
const ID_DIGITS: usize = 5;

/// Hands out the nodes' messages in `datagram` that matter to a client.
pub fn each(datagram: &[u8], mut take: impl FnMut(NodeId, Message)) {
    let mut rest = datagram;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        if concerns_clients(line)
            && let Ok(Line::Node(from, message)) = wire::parse_line(line, Dialect::Extended)
        {
            take(from, message);
        }
    }
}

fn concerns_clients(line: &[u8]) -> bool {
    // Most lines are continuations, and most of the others are writes.
    if !line.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let blank = line.iter().take(ID_DIGITS + 1).position(|byte| *byte == b' ');
    blank.is_some_and(|blank| VERBS.iter().any(|verb| line[blank..].starts_with(verb)))
}

#[cfg(test)]
mod tests {
    use upaxos_core::types::Instance;

    use super::*;

    #[test]
    fn answers_are_found_between_values_and_values_are_no_answers() {
        let datagram = b"2 Write 4 65538 x\n& 2 Done 1 1 7 1\n2 Done 4 5 7 1\nSubmit 7 9 9 2 Done 8 8 7 8\n\
                         12 Value 6 7 7 4 two\n70000 Done 1 1 1 1\n2 Done bad";
        let mut found = Vec::new();
        each(datagram, |from, message| found.push((from.0, message)));
        let done = Message::Done { first: Instance(4), last: Instance(5), client: 7, seq: 1 };
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], (2, done));
        assert!(matches!(&found[1], (12, Message::Value { seq: 4, .. })));
    }
}
