//! Named writes: the leader names requests that all nodes have heard, and the other nodes look them up.
//!
//! A client's words cross the wire once. For a run of tagged writes, the leader sends only their tags, and a digest
//! of their bytes ([`crate::digest_write`]). This module owns the named writes whose requests have not all arrived yet. A
//! node handles a named write like a full one, once it has the bytes and the digest confirms them. So accepted,
//! logged, promised and repaired values are always bytes, and a vote is for exactly the value that the leader
//! wrote. A node that lacks some bytes, or has others, asks the leader, which writes them in full. The leader also
//! does so by itself where no quorum answers. So a lost request costs a retransmission, never more.
//!
//! Only values that are written as the client sent them can be named. Classic nodes do not use named writes.

use crate::digest_write::{NamedWrite, Names, Payloads};
use crate::mutant::{self, Mutant};
use crate::replica::Replica;
use crate::replica::limits::{Bound, Bounds};
use crate::replica::outbox::Outbox;
use crate::types::{Ballot, Instance, Micros, NodeId, Tag, Value};
use crate::wire::Message;

/// How many bytes of values a run needs to be named. Shorter values travel in their `Write`, where no node can lack
/// them.
const NAMED_FROM: usize = 512;

/// How long a named write waits for a request that is on its way. On a busy machine, a datagram may reach one node
/// milliseconds after another. The wait is well below a leader's first retransmission.
const PATIENCE: Micros = Micros::from_millis(5);

/// A write that this node has just made. The tag is that of its request, if the value has the client's words
/// unchanged.
pub(in crate::replica) type Written = (Instance, Value, Option<Tag>);

/// Named writes that wait for their requests, each with its sender and the end of its wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DigestWrites {
    waiting: Vec<(NodeId, NamedWrite, Micros)>,
}

impl DigestWrites {
    /// The time at which this node must ask for the values of a named write.
    pub fn deadline(&self) -> Option<Micros> {
        self.waiting.iter().map(|(_, _, until)| *until).min()
    }
}

impl Replica {
    /// Sends the writes to the other nodes: by name where that is shorter, else in full.
    pub(in crate::replica) fn broadcast_writes(&mut self, written: Vec<Written>, out: &mut Outbox) {
        let Some(ballot) = self.leader.ballot() else { return };
        let mut rest = &written[..];
        while let Some((first, _, _)) = rest.first() {
            let (run, behind) = rest.split_at(length_of_run(rest, &self.bounds));
            let bytes: usize = run.iter().map(|(_, value, _)| value.as_bytes().len()).sum();
            let named: Option<Vec<(Tag, Value)>> =
                run.iter().map(|(_, value, tag)| Some(((*tag)?, value.clone()))).collect();
            match named.filter(|_| bytes >= NAMED_FROM) {
                Some(named) => {
                    let (first, last) = (*first, Instance(first.0 + run.len() as u64 - 1));
                    let names = Names::of(&named);
                    out.send(Message::WriteTags(NamedWrite { first, last, ballot, names }));
                }
                None => run.iter().for_each(|(instance, value, _)| {
                    out.send(Message::Write { instance: *instance, ballot, value: value.clone() });
                }),
            }
            rest = behind;
        }
    }

    /// `WriteTags`: handles a named write like that many `Write`s, once the requests are here.
    pub(in crate::replica) fn on_write_tags(
        &mut self,
        from: NodeId,
        write: NamedWrite,
        until: Option<Micros>,
        now: Micros,
        out: &mut Outbox,
    ) {
        let NamedWrite { first, last, ballot, ref names } = write;
        let learned = self.learner.learned();
        // The leader has not heard that these instances are chosen.
        self.repair.owe_learned(first, last, learned, now);
        let first_open = first.max(learned.next());
        let stands = self.acceptor.accepted(first_open).is_some_and(|(at, _)| *at == ballot);
        if stands && last > learned && mutant::is(Mutant::StandsVotesAll) && self.is_voter() {
            return out.after_sync(Message::Accepts { first: first_open, last, ballot });
        }
        if last <= learned || !self.may_accept(last, now) || stands {
            return;
        }
        // Waiting writes are checked in every step, and most of them still lack a request. Nothing is copied for
        // the check.
        let may_be_whole = until.is_none() || self.has_heard(names);
        let Some(mut bodies) = may_be_whole.then(|| self.heard(names)).flatten() else {
            return self.lacks(from, write, until, now, out);
        };
        if bodies.digest() != names.digest && !mutant::is(Mutant::DigestUnchecked) {
            return self.fetch((first_open, last), ballot, out);
        }
        let tags = names.tags();
        for ((instance, tag), value) in (first.0..).map(Instance).zip(tags).zip(bodies.values()) {
            if instance > learned {
                self.requests.on_tag_taken_up(tag, now);
                self.take_up_write(instance, ballot, &value, out);
            }
        }
    }

    /// Handles the waiting writes whose requests are here now. Asks for the ones that have waited too long.
    pub(in crate::replica) fn take_up_named(&mut self, now: Micros, out: &mut Outbox) {
        if self.naming.waiting.is_empty() {
            return;
        }
        for (from, write, until) in std::mem::take(&mut self.naming.waiting) {
            // The group may have changed since the write arrived.
            let message = Message::WriteTags(write);
            if self.group.members.contains(&from)
                && self.is_plausible(from, &message, now, out)
                && let Message::WriteTags(write) = message
            {
                self.on_write_tags(from, write, Some(until), now, out);
            }
        }
    }

    /// `Fetch`: a node lacks values that this node named.
    pub(in crate::replica) fn on_fetch(
        &mut self,
        (first, last): (Instance, Instance),
        ballot: Ballot,
        now: Micros,
        out: &mut Outbox,
    ) {
        if self.leader.ballot() != Some(ballot) {
            return;
        }
        self.requests.on_lacking(now);
        self.repair.owe_learned(first, last, self.learner.learned(), now);
        self.leader.write_in_full(first, last, now, out);
    }

    /// Whether all named requests wait here.
    fn has_heard(&self, names: &Names) -> bool {
        names.tags().all(|tag| self.requests.write_of(tag).is_some())
    }

    /// The bytes of the named requests, if all of them wait here.
    fn heard(&self, names: &Names) -> Option<Payloads> {
        let mut bodies = Payloads::default();
        for tag in names.tags() {
            let (tagged, value) = self.requests.write_of(tag)?;
            bodies.push(tagged, value);
        }
        Some(bodies)
    }

    fn lacks(
        &mut self,
        from: NodeId,
        write: NamedWrite,
        until: Option<Micros>,
        now: Micros,
        out: &mut Outbox,
    ) {
        let NamedWrite { first, last, ballot, .. } = write;
        if mutant::is(Mutant::VoteWithoutBytes) && self.is_voter() {
            return out.after_sync(Message::Accepts { first, last, ballot });
        }
        let until = until.unwrap_or(now + PATIENCE);
        let is_full = self.naming.waiting.len() >= self.bounds.naming;
        if now < until && !self.bounds.is_over(Bound::Naming, is_full) {
            self.naming.waiting.push((from, write, until));
        } else {
            self.fetch((first.max(self.learner.learned().next()), last), ballot, out);
        }
    }

    /// Asks the leader for values in full. A node that may not vote need not hurry: it learns the chosen values
    /// later.
    fn fetch(&mut self, (first, last): (Instance, Instance), ballot: Ballot, out: &mut Outbox) {
        if self.is_voter() {
            out.send(Message::Fetch { first, last, ballot });
        }
    }
}

/// How many of the first writes can be sent together: all in a row that have names, or a single one without.
fn length_of_run(written: &[Written], bounds: &Bounds) -> usize {
    let mut bytes = 0;
    let fits = |(at, (instance, value, tag)): &(usize, &Written)| {
        bytes += value.as_bytes().len();
        let follows = instance.0 == written[0].0.0 + *at as u64;
        follows
            && tag.is_some()
            && !bounds.is_over(Bound::Named, *at >= bounds.named)
            && (*at == 0 || !bounds.is_over(Bound::NamedBytes, bytes > bounds.named_bytes))
    };
    written.iter().enumerate().take_while(fits).count().max(1)
}
