//! The intake of datagrams, as bytes.
//!
//! This module owns the order in which a node looks at a datagram, and how much of it is read at all. The node's
//! driver calls it with every datagram as received. It does not interpret the lines.

use memchr::memchr_iter;

use crate::replica::Replica;
use crate::replica::limits::Bound;
use crate::replica::outbox::{Event, Outbox};
use crate::types::Micros;
use crate::wire::{self, Line, ParseError};

impl Replica {
    /// Parts of long datagrams are arriving late, one after the other, as
    /// [`Parts::is_mending`](crate::parts::Parts::is_mending) says.
    pub fn on_mending(&mut self, now: Micros) {
        self.repair.on_mending(now);
    }

    /// Handles a datagram from the network: passes each line to [`Replica::handle`], after `note` has seen it. Returns
    /// how many lines did not parse. A datagram that was damaged is dropped whole and counted.
    ///
    /// In a flood of requests, only the first line of a client's datagram is read and answered. The rest is not
    /// even read: the traffic between nodes comes first.
    pub fn receive(
        &mut self,
        now: Micros,
        datagram: &[u8],
        note: &mut dyn FnMut(&Result<Line, ParseError>),
        out: &mut Outbox,
    ) -> u64 {
        let (head, lines) = match wire::open(datagram, self.dialect) {
            Ok(opened) => opened,
            Err(error) => return self.on_unreadable(&error, out),
        };
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

    /// Drops a whole datagram. Returns how many lines of it count as malformed.
    fn on_unreadable(&mut self, error: &ParseError, out: &mut Outbox) -> u64 {
        match error {
            ParseError::WrongSum => self.dropped.damaged += 1,
            ParseError::NoSum(from) => {
                self.dropped.without_sum += 1;
                if self.others.name_without_sum(*from) {
                    let sender = from.map_or("a client".into(), |id| format!("node {id}"));
                    out.event(Event::Warning(format!(
                        "a datagram of {sender} came without a checksum, as an older version or a damaged link sends \
                         it: such datagrams are ignored; run the same version everywhere"
                    )));
                }
            }
            _ => return 1,
        }
        0
    }
}
