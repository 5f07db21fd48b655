//! What comes in: a whole datagram at a time, as its bytes.
//!
//! Owns the order in which a node looks at a datagram, and how much of it is read at all. Called by whoever
//! drives the node, with every datagram as it came; what the lines mean is none of its business.

use memchr::memchr_iter;

use super::Node;
use super::limits::Bound;
use super::outbox::Outbox;
use crate::types::Micros;
use crate::wire::{self, Line, ParseError};

impl Node {
    /// Takes a datagram from the network: hands each line to [`Node::handle`], after `note` has seen it. Says how
    /// many lines did not parse.
    ///
    /// In a flood of requests, the first line of a client's datagram is answered, and the rest not even read:
    /// what the nodes have to say to each other comes first.
    pub fn receive(
        &mut self,
        now: Micros,
        datagram: &[u8],
        note: &mut dyn FnMut(&Result<Line, ParseError>),
        out: &mut Outbox,
    ) -> u64 {
        let Ok((head, lines)) = wire::open(datagram, self.dialect) else { return 1 };
        let rest = lines.rest();
        let is_flood = self.requests.is_full() && rest.starts_with(b"Submit ");
        let most = if is_flood { 1 } else { usize::MAX };
        if is_flood {
            self.bounds.reach(Bound::Flood);
            self.requests.pass_over(memchr_iter(b'\n', rest).count() as u64);
        }
        let mut malformed = 0;
        let speaker = self.hear(&head, now, out);
        for line in lines.take(most) {
            note(&line);
            match line {
                Ok(line) => self.handle(now, speaker, line, out),
                Err(_) => malformed += 1,
            }
        }
        malformed
    }
}
