//! Reproducible random numbers: one stream per subject, all from one seed.
//!
//! The generator is `rand_pcg`'s. Its documentation fixes its output, the same on every platform and in every
//! version, so a seed in a bug report keeps its meaning. Network, disk, workload and plan draw from streams of
//! their own: leaving a fault out disturbs the others as little as possible.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng as _;

/// The subject of a stream of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The faults of a run.
    Plan,
    /// Which datagrams are lost, late or repeated.
    Network,
    /// Which sectors of a torn block are kept, and how long a sync takes.
    Disk,
    /// The requests of clients and their times.
    Workload,
    /// When nodes run, and the errors of their clocks.
    Machines,
    /// The small bounds of nodes.
    Bounds,
    /// Long absences of nodes, and the requests of operators.
    Operators,
    /// The other group on the wire.
    Others,
    /// Which disk is rolled back, and when.
    Rollbacks,
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng(Pcg64Mcg);

impl Rng {
    /// The stream of `seed` for one subject.
    pub fn new(seed: u64, stream: Stream) -> Rng {
        let mut chance = Rng(Pcg64Mcg::new((u128::from(seed) << 64) | (stream as u128 + 1) << 32 | 1));
        // The streams of nearby seeds begin with nearby numbers.
        (0..8).for_each(|_| _ = chance.0.next_u64());
        chance
    }

    /// A number from 0 to `end` - 1, or 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Returns true `per_million` times in a million.
    pub fn hits(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.below(1_000_000) < per_million
    }

    /// Shuffles the elements.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_wherever_it_is_drawn() {
        let draw = |seed, stream| {
            let mut chance = Rng::new(seed, stream);
            [(); 4].map(|()| chance.below(1000))
        };
        assert_eq!(draw(1, Stream::Network), draw(1, Stream::Network));
        assert_ne!(draw(1, Stream::Network), draw(1, Stream::Disk));
        assert_ne!(draw(1, Stream::Network), draw(2, Stream::Network));
    }
}
