//! The network: whom a datagram reaches, when, how often, and what is left of it.
//!
//! Owns links, cuts and old datagrams. Everything sent goes to every node, its sender included, and
//! what answers a client to the clients as well. Bytes are damaged too; but where the damage happens to
//! read as another line, the datagram is dropped, as a link's checksum would do it: whoever can forge
//! lines can break a group without a key, and no simulation changes that.

use std::rc::Rc;
use std::slice;

use super::chance::Chance;
use super::swarm::{Rates, Topology};
use crate::parts::Parts;
use crate::types::Micros;
use crate::wire::part::Piece;
use crate::wire::{self, Dialect, Head, Line, Message};

/// How many old datagrams the network can bring up again.
const OLD: usize = 256;

/// The fastest and the usual way of a datagram.
const FASTEST: u64 = 50;
const USUAL: u64 = 400;

/// A datagram as it was sent, with what it reads as.
#[derive(Debug)]
pub struct Datagram {
    /// As printed.
    pub bytes: Vec<u8>,
    /// Who says it.
    pub head: Head,
    /// As parsed; of one that is cut into parts, with the last of them.
    pub lines: Vec<Line>,
    /// Whether clients want to hear it.
    pub is_answer: bool,
}

impl Datagram {
    /// Parses what was printed, for those who watch. What does not parse is left out.
    pub fn new(bytes: Vec<u8>, dialect: Dialect) -> Rc<Datagram> {
        let (head, lines) = match wire::open(&bytes, dialect) {
            Ok((head, lines)) => (head, lines.filter_map(Result::ok).collect()),
            Err(_) => (Head::default(), Vec::new()),
        };
        // A classic client judges by the round how new an answer is.
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

    /// What is sent in the place of this datagram: itself, or its parts, if it is longer than a packet.
    pub fn cut(self: Rc<Datagram>, parts: &mut Parts, now: Micros) -> Vec<Rc<Datagram>> {
        let Some(cut) = parts.cut(slice::from_ref(&self.bytes), now) else { return vec![self] };
        let last = cut.len() - 1;
        let part = |(place, bytes)| {
            let lines = if place == last { self.lines.clone() } else { Vec::new() };
            Rc::new(Datagram { bytes, head: self.head, lines, is_answer: self.is_answer })
        };
        cut.into_iter().enumerate().map(part).collect()
    }

    /// What is due between those that hold large datagrams: parts said again, and questions for them. All hear it.
    pub fn due(parts: &mut Parts, now: Micros) -> impl Iterator<Item = Rc<Datagram>> + use<> {
        let due = parts.tick(now).into_iter();
        due.map(|bytes| {
            Rc::new(Datagram { bytes, head: Head::default(), lines: Vec::new(), is_answer: true })
        })
    }
}

/// Stands for the clients where a node's number could stand.
pub const CLIENTS: u16 = u16::MAX;

/// One delivery: to whom, when, what.
pub type Delivery = (u16, Micros, Rc<Datagram>);

/// How a link behaves in one direction, at shares per million. The default is a good one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Nothing passes.
    pub is_cut: bool,
    /// So many are lost.
    pub loss: u64,
    /// So many arrive twice.
    pub duplicate: u64,
    /// Of so many the bytes are damaged.
    pub corrupt: u64,
    /// Added to the way of every datagram.
    pub delay: Micros,
    /// At most so much more, drawn evenly for each.
    pub jitter: Micros,
}

/// What became of a datagram on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at that moment.
    Delivered(Micros),
    /// It arrives once more, at that moment.
    Duplicate(Micros),
    /// It arrives late, and again, long after it was sent.
    Replayed(Micros),
    /// It was lost.
    Lost,
    /// Its bytes were damaged: it arrives like that, or a checksum stops it.
    Damaged(Option<Micros>),
    /// The link is cut.
    Cut,
}

/// A datagram on one link.
#[derive(Clone, Debug)]
pub struct Passed {
    /// When it was sent.
    pub at: Micros,
    /// By whom.
    pub from: u16,
    /// To whom.
    pub to: u16,
    /// What became of it.
    pub fate: Fate,
    /// It, as it was sent; if it arrives damaged, as it arrives.
    pub datagram: Rc<Datagram>,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    n: u16,
    dialect: Dialect,
    chance: Chance,
    rates: Rates,
    /// From `from * (n + 1) + to`; the clients come last.
    links: Vec<Link>,
    isolated: Vec<bool>,
    old: Vec<Rc<Datagram>>,
    /// All that was sent, if anybody wants to know.
    kept: Option<Vec<Passed>>,
}

impl Network {
    /// A network that is well, for `n` nodes and their clients.
    pub fn new(n: u16, dialect: Dialect, chance: Chance) -> Network {
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

    /// From now on keeps all that is sent.
    pub fn keep(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// What was sent since it was to be kept, if it was.
    pub fn kept(&self) -> Option<&[Passed]> {
        self.kept.as_deref()
    }

    /// From now on links misbehave at these rates, each link in its own way.
    pub fn disturb(&mut self, rates: &Rates) {
        self.rates = rates.clone();
        for link in &mut self.links {
            let is_good = self.chance.hits(125_000);
            link.loss = if is_good { 0 } else { self.chance.between(rates.loss / 2, rates.loss) };
        }
    }

    /// Everything is well again.
    pub fn heal(&mut self) {
        self.rates = Rates::default();
        self.links.fill(Link::default());
        self.isolated.fill(false);
    }

    /// Cuts links; nodes and clients stay connected.
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

    /// Cuts a node off from the others, or connects it again.
    pub fn isolate(&mut self, node: u16, isolated: bool) {
        self.isolated[usize::from(node)] = isolated;
    }

    /// Decides what becomes of a datagram that `from` sends to all.
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
        // Most are fast, some are late: that is what reorders.
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

    /// The datagram with some bytes changed, or cut short; `None` if a checksum has to stop it.
    fn damaged(&mut self, datagram: &Datagram) -> Option<Rc<Datagram>> {
        let mut bytes = datagram.bytes.clone();
        let length = bytes.len() as u64;
        match self.chance.below(3) {
            0 => bytes.truncate(self.chance.below(length) as usize),
            1 => bytes.extend((0..20).map(|_| self.chance.below(256) as u8)),
            _ => {
                for _ in 0..=self.chance.below(8) {
                    bytes[self.chance.below(length) as usize] = self.chance.below(256) as u8;
                }
            }
        }
        let damaged = Datagram::new(bytes, self.dialect);
        let piece = Piece::parse(&damaged.bytes);
        let is_forged = (piece.is_some() && piece != Piece::parse(&datagram.bytes))
            || (damaged.head != datagram.head && damaged.head != Head::default())
            || damaged.lines.iter().any(|line| !datagram.lines.contains(line));
        (!is_forged).then_some(damaged)
    }

    /// The link from one node, or the clients, to another.
    pub fn link(&mut self, from: u16, to: u16) -> &mut Link {
        let at = self.place(from, to);
        &mut self.links[at]
    }

    fn place(&self, from: u16, to: u16) -> usize {
        usize::from(from.min(self.n)) * usize::from(self.n + 1) + usize::from(to.min(self.n))
    }
}
