//! The number of instances that a leader may have in flight.
//!
//! This module owns that one number. It grows while written values are learned without retransmission. It halves
//! when a value needs retransmission: then the network or the slowest disk of a quorum is overloaded, and more in
//! flight would only be lost. Requests beyond the window wait in the request queue. That queue is bounded too, and
//! refuses requests when it is full.

use crate::types::Micros;

/// Losses within this time of each other halve the window once.
const PAUSE: Micros = Micros::from_millis(50);

/// The window in instances, with its bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    least: usize,
    size: usize,
    most: usize,
    /// How many instances were learned cleanly since the window last changed.
    clean: usize,
    halved_at: Option<Micros>,
}

impl Window {
    /// `least` and `most` are the bounds. `size` is the first window: enough for a round trip of a healthy group.
    pub(super) fn new((least, size, most): (usize, usize, usize)) -> Window {
        Window { least, size, most, clean: 0, halved_at: None }
    }

    /// How many instances may be in flight now.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Records an instance that was learned and had been written only once.
    pub(super) fn on_clean(&mut self) {
        self.clean += 1;
        if self.clean >= self.size {
            self.size = (self.size + self.size / 4).min(self.most);
            self.clean = 0;
        }
    }

    /// Records a retransmission.
    pub(super) fn on_loss(&mut self, now: Micros) {
        self.clean = 0;
        if self.halved_at.is_none_or(|at| now.since(at) >= PAUSE) {
            self.halved_at = Some(now);
            self.size = (self.size / 2).max(self.least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::limits::Limits;

    const FLIGHTS: (usize, usize, usize) = Limits::USUAL.flights;
    const FIRST: usize = FLIGHTS.1;

    #[test]
    fn it_halves_once_for_what_is_lost_together_and_never_to_nothing() {
        let mut window = Window::new(FLIGHTS);
        (0..10).for_each(|us| window.on_loss(Micros(us)));
        assert_eq!(window.size(), FIRST / 2);
        (1..20).for_each(|times| window.on_loss(PAUSE * times));
        assert_eq!(window.size(), FLIGHTS.0);
    }

    #[test]
    fn it_grows_by_clean_rounds_only_and_within_bounds() {
        let mut window = Window::new(FLIGHTS);
        (1..FIRST).for_each(|_| window.on_clean());
        window.on_loss(Micros(0));
        (1..FIRST / 2).for_each(|_| window.on_clean());
        assert_eq!(window.size(), FIRST / 2, "the round before was not clean");
        window.on_clean();
        assert_eq!(window.size(), FIRST / 2 + FIRST / 8);
        (0..100 * FLIGHTS.2).for_each(|_| window.on_clean());
        assert_eq!(window.size(), FLIGHTS.2);
    }
}
