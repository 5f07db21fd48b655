//! The fate of each datagram on each link.
//!
//! Pure: takes the links' settings and a seed, and returns fates. For every datagram the same numbers are drawn
//! from the link's stream, whether its settings need them or not. So the k-th datagram of a link meets the same
//! chance in every run of a seed, and a change of one setting leaves the others alone.

use anyhow::{Result, ensure};
use upaxos_core::types::Micros;
use upaxos_sim::rng::{Rng, Stream};

use crate::link::Link;

const MILLION: u64 = 1_000_000;

/// The fate of one datagram on one link.
#[derive(Clone, Debug)]
pub enum LinkModel {
    /// The link is cut.
    Cut,
    /// Lost by chance.
    Lost,
    /// It arrives after this delay.
    Arrives(Micros),
    /// It arrives after the first delay, and once more after the second.
    Twice(Micros, Micros),
    /// It arrives damaged.
    Damaged {
        /// The delay until it arrives.
        delay: Micros,
        /// Decides which bytes are damaged.
        chance: Rng,
    },
}

impl LinkModel {
    /// The delay of each undamaged copy that arrives.
    pub fn whole(&self) -> Vec<Micros> {
        match self {
            LinkModel::Arrives(delay) => vec![*delay],
            LinkModel::Twice(delay, again) => vec![*delay, *again],
            LinkModel::Cut | LinkModel::Lost | LinkModel::Damaged { .. } => Vec::new(),
        }
    }
}

/// All links between the ports, each in both directions.
#[derive(Debug)]
pub struct Links {
    ports: usize,
    /// Indexed by `from * ports + to`.
    all: Vec<(Link, Rng)>,
}

impl Links {
    /// Makes good links, with chance from `seed`.
    pub fn new(ports: usize, seed: u64) -> Links {
        let mut seeds = Rng::new(seed, Stream::Network);
        let mut chance = || Rng::new(seeds.below(u64::MAX), Stream::Network);
        Links { ports, all: (0..ports * ports).map(|_| (Link::default(), chance())).collect() }
    }

    /// The number of ports.
    pub fn ports(&self) -> usize {
        self.ports
    }

    /// Sets how a link behaves from now on.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn set(&mut self, from: usize, to: usize, link: &Link) -> Result<()> {
        let ports = self.ports;
        ensure!(from < ports && to < ports, "no link from port {from} to {to}: there are {ports} ports");
        self.all[from * ports + to].0 = link.clone();
        Ok(())
    }

    /// Decides the fate of the next datagram from one port to another.
    pub fn decide(&mut self, from: usize, to: usize) -> LinkModel {
        let (link, chance) = &mut self.all[from * self.ports + to];
        let [loss, duplicate, corrupt, late, later] = [(); 5].map(|()| chance.below(MILLION));
        let damage = chance.below(u64::MAX);
        let hits = |roll: u64, share: f64| (roll as f64) < share * MILLION as f64;
        let delay = |roll: u64| link.delay + Micros(link.jitter.0 * roll / MILLION);
        if link.is_cut {
            LinkModel::Cut
        } else if hits(loss, link.loss) {
            LinkModel::Lost
        } else if hits(corrupt, link.corrupt) {
            LinkModel::Damaged { delay: delay(late), chance: Rng::new(damage, Stream::Network) }
        } else if hits(duplicate, link.duplicate) {
            LinkModel::Twice(delay(late), delay(later))
        } else {
            LinkModel::Arrives(delay(late))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 10_000;

    fn words(links: &mut Links, from: usize, to: usize) -> Vec<&'static str> {
        let word = |fate| match fate {
            LinkModel::Cut => "cut",
            LinkModel::Lost => "lost",
            LinkModel::Arrives(_) => "arrives",
            LinkModel::Twice(..) => "twice",
            LinkModel::Damaged { .. } => "damaged",
        };
        (0..MANY).map(|_| word(links.decide(from, to))).collect()
    }

    fn count(words: &[&str], word: &str) -> usize {
        words.iter().filter(|known| **known == word).count()
    }

    #[test]
    fn a_fault_is_of_the_size_it_was_told_and_one_way() {
        let mut links = Links::new(3, 7);
        links.set(0, 1, &Link { loss: 0.3, duplicate: 0.2, corrupt: 0.1, ..Link::default() }).unwrap();
        let there = words(&mut links, 0, 1);
        // The range is more than five deviations wide on each side.
        assert!((2_750..3_250).contains(&count(&there, "lost")));
        assert!((550..850).contains(&count(&there, "damaged")));
        assert!((1_050..1_470).contains(&count(&there, "twice")));
        assert_eq!(count(&words(&mut links, 1, 0), "arrives"), MANY);
        links.set(0, 1, &Link { is_cut: true, ..Link::default() }).unwrap();
        assert_eq!(count(&words(&mut links, 0, 1), "cut"), MANY);
        links.set(0, 1, &Link::default()).unwrap();
        assert_eq!(count(&words(&mut links, 0, 1), "arrives"), MANY);
    }

    #[test]
    fn the_same_seed_means_the_same_fates_whatever_else_was_set() {
        let lossy = Link { loss: 0.5, ..Link::default() };
        let fates = |seed, disturb: &Link| {
            let mut links = Links::new(2, seed);
            links.set(0, 1, disturb).unwrap();
            words(&mut links, 0, 1);
            links.set(0, 1, &lossy).unwrap();
            words(&mut links, 0, 1)
        };
        let jittered = Link { jitter: Micros(9), duplicate: 1.0, ..Link::default() };
        assert_eq!(fates(1, &Link::default()), fates(1, &jittered));
        assert_ne!(fates(1, &Link::default()), fates(2, &Link::default()));
        let mut links = Links::new(2, 1);
        links.set(0, 1, &lossy).unwrap();
        links.set(1, 0, &lossy).unwrap();
        assert_ne!(words(&mut links, 0, 1), words(&mut links, 1, 0), "each link has a stream of its own");
    }

    #[test]
    fn a_delay_is_never_shorter_and_jitter_never_longer_than_told() {
        let mut links = Links::new(2, 3);
        let link = Link { delay: Micros(100), jitter: Micros(50), ..Link::default() };
        links.set(0, 1, &link).unwrap();
        let delays: Vec<u64> = (0..MANY).map(|_| links.decide(0, 1).whole()[0].0).collect();
        assert!(delays.iter().all(|delay| (100..150).contains(delay)));
        assert!(!delays.is_sorted(), "it reorders");
        assert!(links.set(0, 2, &link).is_err());
    }
}
