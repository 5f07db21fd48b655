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
use crate::replica::clients::queue::RequestQueue;
use crate::replica::context::Context;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::replica::outbox::Outbox;
use crate::replica::paxos::acceptor::Acceptor;
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
pub type Written = (Instance, Value, Option<Tag>);

/// A named write that waits for its requests: its sender, and the end of its wait.
pub type Waiting = (NodeId, NamedWrite, Micros);

/// The named writes that wait for their requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DigestWrites {
    bounds: Bounds,
    waiting: Vec<Waiting>,
}

impl DigestWrites {
    /// No named writes.
    pub fn new(limits: Limits) -> DigestWrites {
        DigestWrites { bounds: limits.into(), waiting: Vec::new() }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// The time at which this node must ask for the values of a named write.
    pub fn deadline(&self) -> Option<Micros> {
        self.waiting.iter().map(|(_, _, until)| *until).min()
    }

    /// Sends the writes of a ballot to the other nodes: by name where that is shorter, else in full.
    pub fn broadcast(&self, written: &[Written], ballot: Ballot, out: &mut Outbox) {
        let mut rest = written;
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

    /// `WriteTags`: returns the writes that a named write stands for, once the requests are here. `until` is the end
    /// of its wait, if it waited already. `may_accept` says that its last instance is near enough.
    pub fn on_write_tags(
        &mut self,
        (from, write, until): (NodeId, NamedWrite, Option<Micros>),
        may_accept: bool,
        acceptor: &Acceptor,
        requests: &RequestQueue,
        context: Context,
        out: &mut Outbox,
    ) -> Vec<(Instance, Tag, Value)> {
        if !is_open(&write, acceptor, context, out) || !may_accept {
            return Vec::new();
        }
        let NamedWrite { first, last, ballot, ref names } = write;
        let learned = context.learned;
        // Waiting writes are checked in every step, and most of them still lack a request. Nothing is copied for
        // the check.
        let may_be_whole = until.is_none() || has_heard(names, requests);
        let Some(mut bodies) = may_be_whole.then(|| heard(names, requests)).flatten() else {
            self.wait((from, write, until), context, out);
            return Vec::new();
        };
        if bodies.digest() != names.digest && !mutant::is(Mutant::DigestUnchecked) {
            fetch((first.max(learned.next()), last), ballot, context, out);
            return Vec::new();
        }
        let instances = (first.0..).map(Instance);
        let writes = instances.zip(names.tags()).zip(bodies.values());
        let writes = writes.map(|((instance, tag), value)| (instance, tag, value));
        writes.filter(|(instance, _, _)| *instance > learned).collect()
    }

    /// Removes and returns the waiting writes. Each is handled anew: the group may have changed since it arrived.
    pub fn take_waiting(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    /// Keeps a named write until its requests are here. Asks for its values once it has waited too long.
    fn wait(
        &mut self,
        (from, write, until): (NodeId, NamedWrite, Option<Micros>),
        context: Context,
        out: &mut Outbox,
    ) {
        let Context { now, learned, .. } = context;
        let NamedWrite { first, last, ballot, .. } = write;
        if mutant::is(Mutant::VoteWithoutBytes) && context.is_voter {
            return out.after_sync(Message::Accepts { first, last, ballot });
        }
        let until = until.unwrap_or(now + PATIENCE);
        let is_full = self.waiting.len() >= self.bounds.naming;
        if now < until && !self.bounds.is_over(Bound::Naming, is_full) {
            self.waiting.push((from, write, until));
        } else {
            fetch((first.max(learned.next()), last), ballot, context, out);
        }
    }
}

/// Whether this node has neither learned nor accepted what a named write stands for.
fn is_open(write: &NamedWrite, acceptor: &Acceptor, context: Context, out: &mut Outbox) -> bool {
    let NamedWrite { first, last, ballot, .. } = *write;
    let first = first.max(context.learned.next());
    let stands = acceptor.accepted(first).is_some_and(|(at, _)| *at == ballot);
    let is_new = last > context.learned;
    if stands && is_new && mutant::is(Mutant::StandsVotesAll) && context.is_voter {
        out.after_sync(Message::Accepts { first, last, ballot });
    }
    is_new && !stands
}

/// Asks the leader for values in full. A node that may not vote need not hurry: it learns the chosen values later.
fn fetch((first, last): (Instance, Instance), ballot: Ballot, context: Context, out: &mut Outbox) {
    if context.is_voter {
        out.send(Message::Fetch { first, last, ballot });
    }
}

/// Whether all named requests wait here.
fn has_heard(names: &Names, requests: &RequestQueue) -> bool {
    names.tags().all(|tag| requests.write_of(tag).is_some())
}

/// The bytes of the named requests, if all of them wait here.
fn heard(names: &Names, requests: &RequestQueue) -> Option<Payloads> {
    let mut bodies = Payloads::default();
    for tag in names.tags() {
        let (tagged, value) = requests.write_of(tag)?;
        bodies.push(tagged, value);
    }
    Some(bodies)
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
