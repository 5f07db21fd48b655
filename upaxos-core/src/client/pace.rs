//! When a request is sent again: later and later, and later still where the group says that it is busy.
//!
//! Owns the waits of one request, and the chance that spreads them. The clock is its caller's.

use crate::types::Micros;

/// How long the first answer may take before the request is sent again: many round trips and syncs,
/// yet not noticed by people. Each wait after it is twice the one before, up to [`LONGEST_WAIT`].
pub const FIRST_WAIT: Micros = Micros::from_millis(100);
/// The longest wait between two sendings of a request: shorter than people's patience with a group
/// that has just come back.
pub const LONGEST_WAIT: Micros = Micros::from_millis(1_600);
/// The longest pause that a node may ask for.
const LONGEST_PAUSE: Micros = Micros::from_millis(5_000);

/// When one request is sent.
#[derive(Debug)]
pub(super) struct Pace {
    /// When it is sent next.
    pub send_at: Micros,
    wait: Micros,
    /// How often it was sent under its number.
    pub sent: u64,
    /// Which sending was answered `Busy`: a second answer to the same one says nothing new.
    busy: u64,
}

impl Pace {
    /// To be sent at `now`, for the first time.
    pub fn new(now: Micros) -> Pace {
        Pace { send_at: now, wait: FIRST_WAIT, sent: 0, busy: 0 }
    }

    /// It is sent.
    pub fn on_sent(&mut self, now: Micros) {
        self.sent += 1;
        self.send_at = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// A node has no room for what was sent: waits as long as it would without an answer, and as long as the
    /// node says; between a half of that more and a half less, so that those who were told so together do not
    /// come back together.
    pub fn on_busy(&mut self, pause: Micros, chance: &mut Chance, now: Micros) {
        if self.busy == self.sent {
            return;
        }
        self.busy = self.sent;
        let pause = self.wait.max(pause.min(LONGEST_PAUSE));
        self.send_at = now + Micros(pause.0 / 2 + chance.below(pause.0));
    }
}

/// A small stream of random numbers (SplitMix64), the same from the same seed.
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
