//! The network decides which nodes a datagram reaches, when, how often, and whether its bytes are damaged.
//!
//! It owns the links, the cuts and old datagrams. Every datagram goes to every node, its sender included. An answer
//! to a client goes to the clients as well. The network damages any bytes, too: the checksum of the datagram has to
//! drop them. Some damage leaves no trace in the checksum, and some datagrams have none. Where such damaged bytes
//! happen to parse as another line, the network drops the datagram, as a link's checksum would. A party that can forge
//! lines can break a group without a key, and no simulation changes that.

use std::rc::Rc;
use std::slice;

use upaxos_core::parts::Parts;
use upaxos_core::types::Micros;
use upaxos_core::wire::part::Piece;
use upaxos_core::wire::{self, Dialect, Head, Line, Message};

use super::damage::{self, Protection};
use super::fault_plan::{Rates, Topology};
use super::rng::Rng;

/// How many old datagrams are kept for replays.
const OLD: usize = 256;

/// The shortest and the usual time that a datagram is under way, in microseconds.
const FASTEST: u64 = 50;
const USUAL: u64 = 400;

/// A datagram as it was sent, with its parsed lines.
#[derive(Debug)]
pub struct Datagram {
    /// The bytes on the wire, as printed.
    pub bytes: Vec<u8>,
    /// The head, which names the sender. Empty when the datagram has none.
    pub head: Head,
    /// The parsed lines. Of a datagram that is cut into parts, the last part has them.
    pub lines: Vec<Line>,
    /// Whether it may answer a client: then the clients receive it, too.
    pub is_answer: bool,
}

impl Datagram {
    /// Parses the bytes, for the checkers and for the trace. Lines that do not parse are left out.
    pub fn new(bytes: Vec<u8>, dialect: Dialect) -> Rc<Datagram> {
        let (head, lines) = match wire::open(&bytes, dialect) {
            Ok((head, lines)) => (head, lines.filter_map(Result::ok).collect()),
            Err(_) => (Head::default(), Vec::new()),
        };
        // A classic client compares rounds to know how new an answer is.
        let is_step = |line: &Line| {
            use Message as M;
            let step = matches!(
                line,
                Line::Node(_, M::Propose { .. } | M::Promise { .. } | M::Write { .. } | M::Accept { .. })
            );
            step && dialect == Dialect::Classic
        };
        let is_answer = lines.iter().any(|line| {
            is_step(line)
                || matches!(
                    line,
                    Line::Node(
                        _,
                        Message::Ok { .. }
                            | Message::Done { .. }
                            | Message::Answer { .. }
                            | Message::Value { .. }
                            | Message::Reply { .. }
                            | Message::Refused { .. }
                            | Message::Forgotten { .. }
                            | Message::Busy { .. }
                            | Message::Unknown { .. }
                            | Message::Members { .. }
                            | Message::NotYet { .. }
                            | Message::Error { .. }
                    )
                )
        });
        Rc::new(Datagram { bytes, head, lines, is_answer })
    }

    /// Returns what is sent for this datagram: itself, or its parts if it is longer than a packet.
    pub fn cut(self: Rc<Datagram>, parts: &mut Parts, now: Micros) -> Vec<Rc<Datagram>> {
        let Some(cut) = parts.cut(slice::from_ref(&self.bytes), now) else { return vec![self] };
        let last = cut.len() - 1;
        let part = |(place, bytes)| {
            let lines = if place == last { self.lines.clone() } else { Vec::new() };
            Rc::new(Datagram { bytes, head: self.head, lines, is_answer: self.is_answer })
        };
        cut.into_iter().enumerate().map(part).collect()
    }

    /// The due datagrams of the exchange of parts: retransmitted parts, and requests for missing ones. They go to
    /// all.
    pub fn due(parts: &mut Parts, now: Micros) -> impl Iterator<Item = Rc<Datagram>> + use<> {
        let due = parts.tick(now).into_iter();
        due.map(|bytes| {
            Rc::new(Datagram { bytes, head: Head::default(), lines: Vec::new(), is_answer: true })
        })
    }
}

/// The destination that stands for the clients, where a node id could stand.
pub const CLIENTS: u16 = u16::MAX;

/// One delivery: destination, time, datagram.
pub type Delivery = (u16, Micros, Rc<Datagram>);

/// How a link behaves in one direction. Rates are per million. The default is a good link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether the link drops every datagram.
    pub is_cut: bool,
    /// How many datagrams of a million are lost.
    pub loss: u64,
    /// How many of a million arrive twice.
    pub duplicate: u64,
    /// How many of a million arrive with damaged bytes.
    pub corrupt: u64,
    /// Added to the time of every datagram.
    pub delay: Micros,
    /// The most that is added besides, drawn evenly for each datagram.
    pub jitter: Micros,
}

/// The fate of a datagram on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at that moment.
    Delivered(Micros),
    /// It arrives once more, at that moment.
    Duplicate(Micros),
    /// An old datagram arrives again, at that moment, long after it was sent.
    Replayed(Micros),
    /// The network dropped it at random.
    Lost,
    /// Its bytes were damaged. It arrives at that moment, or a checksum drops it (`None`).
    Damaged(Option<Micros>),
    /// The link is cut.
    Cut,
}

/// The passage of a datagram over one link.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The time of sending.
    pub at: Micros,
    /// The sending node, or [`CLIENTS`].
    pub from: u16,
    /// The receiving node, or [`CLIENTS`].
    pub to: u16,
    /// How the link treated it.
    pub fate: Fate,
    /// The datagram as it was sent. If it arrives damaged, the datagram as it arrives.
    pub datagram: Rc<Datagram>,
}

/// All links of a group, and the faults on them.
#[derive(Debug)]
pub struct Network {
    n: u16,
    dialect: Dialect,
    chance: Rng,
    rates: Rates,
    /// The link from `from` to `to` is at `from * (n + 1) + to`. The clients have the last place.
    links: Vec<Link>,
    isolated: Vec<bool>,
    old: Vec<Rc<Datagram>>,
    /// Every passage, if they are recorded.
    kept: Option<Vec<Passed>>,
}

impl Network {
    /// A network without faults, for `n` nodes and their clients.
    pub fn new(n: u16, dialect: Dialect, chance: Rng) -> Network {
        Network {
            n,
            dialect,
            chance,
            rates: Rates::default(),
            links: vec![Link::default(); usize::from(n + 1).pow(2)],
            isolated: vec![false; usize::from(n)],
            old: Vec::new(),
            kept: None,
        }
    }

    /// From now on records every passage.
    pub fn keep(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The recorded passages since [`Network::keep`], if it was called.
    pub fn kept(&self) -> Option<&[Passed]> {
        self.kept.as_deref()
    }

    /// From now on links misbehave at these rates, each link with a loss rate of its own.
    pub fn disturb(&mut self, rates: &Rates) {
        self.rates = rates.clone();
        for link in &mut self.links {
            let is_good = self.chance.hits(125_000);
            link.loss = if is_good { 0 } else { self.chance.between(rates.loss / 2, rates.loss) };
        }
    }

    /// Ends every fault of the network.
    pub fn heal(&mut self) {
        self.rates = Rates::default();
        self.links.fill(Link::default());
        self.isolated.fill(false);
    }

    /// Cuts links between nodes. The links of the clients stay.
    pub fn cut(&mut self, topology: &Topology) {
        let n = self.n;
        for (from, to) in (0..n).flat_map(|from| (0..n).map(move |to| (from, to))) {
            self.link(from, to).is_cut = from != to && topology.cuts(n, from, to);
        }
    }

    /// Ends all cuts that [`Network::cut`] made.
    pub fn join(&mut self) {
        self.links.iter_mut().for_each(|link| link.is_cut = false);
    }

    /// Cuts a node off from the other nodes, or reconnects it. Clients still reach it.
    pub fn isolate(&mut self, node: u16, isolated: bool) {
        self.isolated[usize::from(node)] = isolated;
    }

    /// Decides the fate of a datagram that `from` sends to all.
    pub fn send(&mut self, from: u16, datagram: &Rc<Datagram>, now: Micros, out: &mut Vec<Delivery>) {
        let clients = datagram.is_answer.then_some(CLIENTS);
        for to in (0..self.n).chain(clients) {
            let apart = from != to && to < self.n && from < self.n;
            let at = self.place(from, to);
            let is_isolated = apart && (self.isolated[usize::from(from)] || self.isolated[usize::from(to)]);
            if self.links[at].is_cut || is_isolated {
                self.keep_fate((from, to), datagram, now, Fate::Cut);
                continue;
            }
            let mut fate: fn(Micros) -> Fate = Fate::Delivered;
            loop {
                if self.chance.hits(self.links[at].loss) {
                    self.keep_fate((from, to), datagram, now, Fate::Lost);
                    break;
                }
                self.post((from, to), datagram, (now, fate), out);
                fate = Fate::Duplicate;
                if !self.chance.hits(self.rates.duplicates) {
                    break;
                }
            }
            if self.chance.hits(self.links[at].duplicate) {
                self.post((from, to), datagram, (now, Fate::Duplicate), out);
            }
        }
        self.replay(from, datagram, now, out);
    }

    fn replay(&mut self, from: u16, datagram: &Rc<Datagram>, now: Micros, out: &mut Vec<Delivery>) {
        if self.rates.replays == 0 {
            return;
        }
        if self.old.len() < OLD {
            self.old.push(Rc::clone(datagram));
        } else {
            let at = self.chance.below(4 * OLD as u64) as usize;
            if let Some(old) = self.old.get_mut(at) {
                *old = Rc::clone(datagram);
            }
        }
        if self.chance.hits(self.rates.replays) {
            let again = Rc::clone(&self.old[self.chance.below(self.old.len() as u64) as usize]);
            let to = self.chance.below(u64::from(self.n)) as u16;
            self.post((from, to), &again, (now, Fate::Replayed), out);
        }
    }

    fn post(
        &mut self,
        (from, to): (u16, u16),
        datagram: &Rc<Datagram>,
        (now, fate): (Micros, fn(Micros) -> Fate),
        out: &mut Vec<Delivery>,
    ) {
        // Most datagrams are fast and some are late: that reorders them.
        let longest =
            if self.rates.delay > 0 && self.chance.hits(200_000) { self.rates.delay } else { USUAL };
        let mut at = now + Micros(self.chance.between(FASTEST, longest.max(FASTEST)));
        let Link { corrupt, delay, jitter, .. } = *self.link(from, to);
        if jitter > Micros(0) {
            at = at + Micros(self.chance.below(jitter.0.saturating_add(1)));
        }
        let at = at + delay;
        if !self.chance.hits(self.rates.corruption + corrupt) {
            self.keep_fate((from, to), datagram, now, fate(at));
            return out.push((to, at, Rc::clone(datagram)));
        }
        let damaged = self.damaged(datagram);
        let arriving = damaged.as_ref().unwrap_or(datagram);
        self.keep_fate((from, to), arriving, now, Fate::Damaged(damaged.as_ref().map(|_| at)));
        out.extend(damaged.map(|damaged| (to, at, damaged)));
    }

    fn keep_fate(&mut self, (from, to): (u16, u16), datagram: &Rc<Datagram>, at: Micros, fate: Fate) {
        if let Some(kept) = &mut self.kept {
            kept.push(Passed { at, from, to, fate, datagram: Rc::clone(datagram) });
        }
    }

    /// The datagram with some bytes changed or cut off. `None` if a link's checksum has to drop it.
    fn damaged(&mut self, datagram: &Datagram) -> Option<Rc<Datagram>> {
        let (bytes, protection) = damage::damaged(&datagram.bytes, true, &mut self.chance);
        let damaged = Datagram::new(bytes, self.dialect);
        if protection == Protection::Sum {
            return Some(damaged);
        }
        let piece = Piece::parse(&damaged.bytes);
        let is_forged = (piece.is_some() && piece != Piece::parse(&datagram.bytes))
            || (damaged.head != datagram.head && damaged.head != Head::default())
            || damaged.lines.iter().any(|line| !datagram.lines.contains(line));
        (!is_forged).then_some(damaged)
    }

    /// The link from one node, or from the clients, to another.
    pub fn link(&mut self, from: u16, to: u16) -> &mut Link {
        let at = self.place(from, to);
        &mut self.links[at]
    }

    fn place(&self, from: u16, to: u16) -> usize {
        usize::from(from.min(self.n)) * usize::from(self.n + 1) + usize::from(to.min(self.n))
    }
}
