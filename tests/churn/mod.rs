//! The parts of the churn test: random numbers, the clients, the group, the faults, and the final checks.

pub mod faults;
pub mod group;
pub mod judge;
pub mod room;
pub mod tale;

use std::ops::Range;
use std::time::Duration;

use crate::live::garbage::splitmix64;

/// `Ok`, or a text that says what went wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// A generator of pseudo-random numbers. The same seed gives the same numbers (splitmix64).
#[derive(Clone)]
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        splitmix64(&mut self.0)
    }

    /// Starts a separate stream. It takes one number from this stream.
    pub fn split(&mut self) -> Chance {
        Chance(self.next())
    }

    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + (self.next() % range.len().max(1) as u64) as usize
    }

    /// True with probability 1 / `count`.
    pub fn once_in(&mut self, count: usize) -> bool {
        self.within(0..count) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.within(0..from.len())]
    }

    pub fn shuffled<T>(&mut self, mut all: Vec<T>) -> Vec<T> {
        for at in (1..all.len()).rev() {
            all.swap(at, self.within(0..at + 1));
        }
        all
    }

    pub fn millis(&mut self, range: Range<usize>) -> Duration {
        Duration::from_millis(self.within(range) as u64)
    }
}
