//! The clients of a script: the real client code, on virtual time.
//!
//! It owns which request belongs to which client, and when each client has something to do. The checkers see every
//! line that goes out and every answer that comes in.

use std::collections::BTreeMap;
use std::rc::Rc;

use upaxos_core::client::{self, Ask, Client, Outcome};
use upaxos_core::parts::{Parts, Taken};
use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::{Dialect, Line, Message};

use super::misuse::Misuse;
use crate::checkers::Checkers;
use crate::machine::PACKET;
use crate::network::Datagram;

/// The number of a request, unique in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A request that has ended, with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The number that [`Scripted::ask`](super::Scripted::ask) returned.
    pub ticket: Ticket,
    /// The client's conclusion from the answers that it received.
    pub outcome: Outcome,
    /// The virtual time from the request to its outcome.
    pub took: Micros,
}

#[derive(Debug)]
struct Open {
    ticket: Ticket,
    ask: Ask,
    /// The highest acknowledged instance when it was first sent.
    after: Option<Instance>,
}

#[derive(Debug)]
struct Caller {
    client: Client,
    open: BTreeMap<client::RequestId, Open>,
    /// When its next turn is planned.
    turn_at: Option<Micros>,
}

/// All clients of a script, by the numbers that the script gives them.
#[derive(Debug)]
pub(super) struct ScriptClients {
    dialect: Dialect,
    /// The exchange of datagrams that are longer than a packet, in both directions.
    parts: Parts,
    all: BTreeMap<u64, Caller>,
    /// The number of each client, by its name on the wire.
    names: BTreeMap<u64, u64>,
    count: u64,
    settled: Vec<Settled>,
    has_news: bool,
}

impl ScriptClients {
    pub fn new(dialect: Dialect) -> ScriptClients {
        let (all, names, settled) = Default::default();
        let parts = Parts::new(0, PACKET);
        ScriptClients { dialect, parts, all, names, count: 0, settled, has_news: false }
    }

    /// Begins a request. Its client then has a turn to take.
    pub fn ask(&mut self, number: u64, ask: Ask, now: Micros, patience: Micros) -> Result<Ticket, Misuse> {
        ask.check(self.dialect).map_err(|error| Misuse(format!("cannot ask: {error}")))?;
        let name = self.all.len() as u64 + 1;
        let caller = self.all.entry(number).or_insert_with(|| {
            self.names.insert(name, number);
            Caller { client: Client::new(name, self.dialect), open: BTreeMap::new(), turn_at: None }
        });
        let own = caller.client.ask(ask.clone(), now, patience);
        let own = own.map_err(|error| Misuse(format!("cannot ask: {error}")))?;
        self.count += 1;
        let ticket = Ticket(self.count);
        caller.open.insert(own, Open { ticket, ask, after: None });
        Ok(ticket)
    }

    /// A client does what is due. Returns the datagrams that it sends.
    pub fn turn(&mut self, number: u64, now: Micros, checkers: &mut Checkers) -> Vec<Rc<Datagram>> {
        let Some(caller) = self.all.get_mut(&number) else { return Vec::new() };
        caller.turn_at = caller.turn_at.filter(|at| *at > now);
        let turn = caller.client.tick(now);
        let after = checkers.calls().acknowledged();
        caller.open.values_mut().for_each(|open| _ = open.after.get_or_insert(after));
        turn.send.iter().for_each(|line| checkers.on_asked(line));
        let said = caller.client.pack(&turn.send, PACKET);
        self.settle(number, turn.settled, checkers);
        let said = said.into_iter().map(|bytes| Datagram::new(bytes, self.dialect));
        if self.dialect == Dialect::Classic {
            return said.collect();
        }
        let mut said: Vec<_> = said.flat_map(|datagram| datagram.cut(&mut self.parts, now)).collect();
        said.extend(self.due(now));
        said
    }

    /// The due datagrams of the exchange of parts.
    pub fn due(&mut self, now: Micros) -> Vec<Rc<Datagram>> {
        Datagram::due(&mut self.parts, now).collect()
    }

    /// When a client has something to do. `None` if that is planned already.
    pub fn next_turn(&mut self, number: u64, now: Micros) -> Option<Micros> {
        let caller = self.all.get_mut(&number)?;
        let parts = self.parts.deadline().filter(|_| !caller.open.is_empty());
        let next = [caller.client.next_deadline(now), parts].into_iter().flatten().min()?;
        if caller.turn_at.is_some_and(|planned| planned <= next) {
            return None;
        }
        caller.turn_at = Some(next);
        Some(next)
    }

    /// A datagram of a node reaches the clients. Returns the clients that it concerns.
    pub fn hear(&mut self, datagram: &Datagram, now: Micros, checkers: &mut Checkers) -> Vec<u64> {
        match self.parts.take(&datagram.bytes, now) {
            Taken::AsItIs => self.hear_whole(datagram, now, checkers),
            Taken::Whole(whole) => self.hear_whole(&Datagram::new(whole, self.dialect), now, checkers),
            // A client that waits may have to ask for the missing parts.
            Taken::Nothing => self.all.keys().copied().collect(),
        }
    }

    fn hear_whole(&mut self, datagram: &Datagram, now: Micros, checkers: &mut Checkers) -> Vec<u64> {
        let mut touched = Vec::new();
        for line in &datagram.lines {
            let Line::Node(from, message) = line else { continue };
            // Messages that mean nothing to extended clients show classic ones how new an answer is.
            if self.dialect == Dialect::Classic && !matches!(message, Message::Ok { .. }) {
                self.all.values_mut().for_each(|caller| _ = caller.client.on_message(*from, message, now));
                continue;
            }
            checkers.on_told(message);
            for number in self.addressed(message) {
                let Some(caller) = self.all.get_mut(&number) else { continue };
                let settled = caller.client.on_message(*from, message, now);
                self.settle(number, settled, checkers);
                touched.push(number);
            }
        }
        touched
    }

    /// The requests that have ended since the last call.
    pub fn settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    /// Whether any request has ended since the last call.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Whether no client waits for an answer.
    pub fn is_content(&self) -> bool {
        self.all.values().all(|caller| caller.open.is_empty())
    }

    /// The open requests, each with the number of its client.
    pub fn open(&self) -> impl Iterator<Item = (u64, &Ask)> {
        self.all.iter().flat_map(|(number, caller)| caller.open.values().map(|open| (*number, &open.ask)))
    }

    /// The clients that a line may concern: the client that it names, or all waiting clients if it names none.
    fn addressed(&self, message: &Message) -> Vec<u64> {
        if let Some(name) = named(message) {
            return self.names.get(&name).copied().into_iter().collect();
        }
        let is_answer =
            matches!(message, Message::Ok { .. } | Message::NotYet { .. } | Message::Members { .. });
        let waiting = self.all.iter().filter(|(_, caller)| is_answer && !caller.open.is_empty());
        waiting.map(|(number, _)| *number).collect()
    }

    fn settle(&mut self, number: u64, settled: Vec<client::Settled>, checkers: &mut Checkers) {
        let Some(caller) = self.all.get_mut(&number) else { return };
        for client::Settled { ticket, outcome, took, .. } in settled {
            if let Some(Open { ticket, ask, after }) = caller.open.remove(&ticket) {
                if let (Dialect::Classic, Outcome::Chosen { instance, value }) = (self.dialect, &outcome) {
                    let after = after.unwrap_or_default();
                    checkers.on_untagged_answer(&ask, after, *instance, value);
                }
                self.settled.push(Settled { ticket, outcome, took });
                self.has_news = true;
            }
        }
    }
}

/// The client that an answer names. `None` if it names none.
fn named(message: &Message) -> Option<u64> {
    match message {
        Message::Done { client, .. }
        | Message::Answer { client, .. }
        | Message::Value { client, .. }
        | Message::Reply { client, .. }
        | Message::Refused { client, .. }
        | Message::Busy { client, .. }
        | Message::Unknown { client, .. }
        | Message::Forgotten { client, .. } => Some(*client),
        _ => None,
    }
}
