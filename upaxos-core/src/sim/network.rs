//! The network: whom a datagram reaches, when, how often, and what is left of it.
//!
//! Owns links, cuts and old datagrams. Everything sent goes to every node, its sender included, and
//! what answers a client to the clients as well. Bytes are damaged too; but where the damage happens to
//! read as another line, the datagram is dropped, as a link's checksum would do it: whoever can forge
//! lines can break a group without a key, and no simulation changes that.

use std::rc::Rc;

use super::chance::Chance;
use super::swarm::{Rates, Topology};
use crate::types::Micros;
use crate::wire::{self, Dialect, Line, Message};

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
    /// As parsed.
    pub lines: Vec<Line>,
    /// Whether clients want to hear it.
    pub is_answer: bool,
}

impl Datagram {
    /// Parses what was printed. What does not parse is left out, as a node does.
    pub fn new(bytes: Vec<u8>, dialect: Dialect) -> Rc<Datagram> {
        let lines: Vec<Line> = wire::lines(&bytes, dialect).flatten().collect();
        let is_answer = lines.iter().any(|line| {
            matches!(
                line,
                Line::Node(
                    _,
                    Message::Ok { .. }
                        | Message::Done { .. }
                        | Message::Answer { .. }
                        | Message::Value { .. }
                        | Message::Refused { .. }
                        | Message::NotYet { .. }
                        | Message::Error { .. }
                )
            )
        });
        Rc::new(Datagram { bytes, lines, is_answer })
    }
}

/// One delivery: to whom, when, what. Number `n` stands for the clients.
pub type Delivery = (u16, Micros, Rc<Datagram>);

/// All links.
#[derive(Debug)]
pub struct Network {
    n: u16,
    dialect: Dialect,
    chance: Chance,
    rates: Rates,
    /// Chance of loss per link, from `from * (n + 1) + to`.
    loss: Vec<u64>,
    cuts: Vec<bool>,
    isolated: Vec<bool>,
    old: Vec<Rc<Datagram>>,
}

impl Network {
    /// A network that is well, for `n` nodes and their clients.
    pub fn new(n: u16, dialect: Dialect, chance: Chance) -> Network {
        let links = usize::from(n + 1).pow(2);
        Network {
            n,
            dialect,
            chance,
            rates: Rates::default(),
            loss: vec![0; links],
            cuts: vec![false; links],
            isolated: vec![false; usize::from(n) + 1],
            old: Vec::new(),
        }
    }

    /// From now on links misbehave at these rates, each link in its own way.
    pub fn disturb(&mut self, rates: &Rates) {
        self.rates = rates.clone();
        for at in 0..self.loss.len() {
            let is_good = self.chance.hits(125_000);
            self.loss[at] = if is_good { 0 } else { self.chance.between(rates.loss / 2, rates.loss) };
        }
    }

    /// Everything is well again.
    pub fn heal(&mut self) {
        self.rates = Rates::default();
        self.loss.fill(0);
        self.cuts.fill(false);
        self.isolated.fill(false);
    }

    /// Cuts links; nodes and clients stay connected.
    pub fn cut(&mut self, topology: &Topology) {
        for (from, to) in (0..self.n).flat_map(|from| (0..self.n).map(move |to| (from, to))) {
            let at = self.link(from, to);
            self.cuts[at] = from != to && topology.cuts(self.n, from, to);
        }
    }

    /// Ends all cuts that [`Network::cut`] made.
    pub fn join(&mut self) {
        self.cuts.fill(false);
    }

    /// Cuts a node off from the others, or connects it again.
    pub fn isolate(&mut self, node: u16, isolated: bool) {
        self.isolated[usize::from(node)] = isolated;
    }

    /// Decides what becomes of a datagram that `from` (`n`: a client) sends to all.
    pub fn send(&mut self, from: u16, datagram: &Rc<Datagram>, now: Micros, out: &mut Vec<Delivery>) {
        let receivers = if datagram.is_answer { self.n + 1 } else { self.n };
        for to in 0..receivers {
            let at = self.link(from, to);
            let apart = from != to && to < self.n && from < self.n;
            let is_cut = self.cuts[at]
                || (apart && (self.isolated[usize::from(from)] || self.isolated[usize::from(to)]));
            while !is_cut && !self.chance.hits(self.loss[at]) {
                self.post(to, datagram, now, out);
                if !self.chance.hits(self.rates.duplicates) {
                    break;
                }
            }
        }
        self.replay(datagram, now, out);
    }

    fn replay(&mut self, datagram: &Rc<Datagram>, now: Micros, out: &mut Vec<Delivery>) {
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
            self.post(to, &again, now, out);
        }
    }

    fn post(&mut self, to: u16, datagram: &Rc<Datagram>, now: Micros, out: &mut Vec<Delivery>) {
        // Most are fast, some are late: that is what reorders.
        let longest =
            if self.rates.delay > 0 && self.chance.hits(200_000) { self.rates.delay } else { USUAL };
        let at = now + Micros(self.chance.between(FASTEST, longest.max(FASTEST)));
        if self.chance.hits(self.rates.corruption) {
            out.extend(self.damaged(datagram).map(|damaged| (to, at, damaged)));
        } else {
            out.push((to, at, Rc::clone(datagram)));
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
        let is_forged = damaged.lines.iter().any(|line| !datagram.lines.contains(line));
        (!is_forged).then_some(damaged)
    }

    fn link(&self, from: u16, to: u16) -> usize {
        usize::from(from) * usize::from(self.n + 1) + usize::from(to)
    }
}
