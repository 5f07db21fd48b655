//! The retransmission of one request: with exponential backoff, and later still when the group reports that it is
//! busy.
//!
//! This module owns the waits of one request, and the randomness that spreads them. The clock is its caller's.

use crate::types::Micros;

/// The time before the first retransmission: many round trips and syncs, yet too short for people to notice. Each
/// later wait is twice the one before, up to [`LONGEST_WAIT`].
pub const FIRST_WAIT: Micros = Micros::from_millis(100);
/// The longest wait between two transmissions of a request. It is shorter than people's patience with a group that
/// has just recovered.
pub const LONGEST_WAIT: Micros = Micros::from_millis(1_600);
/// The longest pause that a node can impose.
const LONGEST_PAUSE: Micros = Micros::from_millis(5_000);

/// The transmission schedule of one request.
#[derive(Debug)]
pub(super) struct Pace {
    /// The time of the next transmission.
    pub send_at: Micros,
    wait: Micros,
    /// The number of transmissions under the current sequence number.
    pub sent: u64,
    /// The number of transmissions when `Busy` last arrived. A second `Busy` for the same transmission is ignored.
    busy: u64,
}

impl Pace {
    /// The schedule of a request that is sent first at `now`.
    pub fn new(now: Micros) -> Pace {
        Pace { send_at: now, wait: FIRST_WAIT, sent: 0, busy: 0 }
    }

    /// Records a transmission, and doubles the wait for the next one.
    pub fn on_sent(&mut self, now: Micros) {
        self.sent += 1;
        self.send_at = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// Handles `Busy`. The pause is the longer of the wait without an answer and the pause that the node asks for.
    /// It is spread between half of that and one and a half times that, so that clients that were told together do
    /// not return together.
    pub fn on_busy(&mut self, pause: Micros, chance: &mut Chance, now: Micros) {
        if self.busy == self.sent {
            return;
        }
        self.busy = self.sent;
        let pause = self.wait.max(pause.min(LONGEST_PAUSE));
        self.send_at = now + Micros(pause.0 / 2 + chance.below(pause.0));
    }
}

/// A small stream of random numbers (SplitMix64), which is the same for the same seed.
#[derive(Debug)]
pub(super) struct Chance(pub u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}
