//! What the load counts while it is measured: how many, how long each, and the longest silence; and all that it
//! has to say in the end.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Three digits of every latency are kept, from 1 µs on; what took longer counts as this many.
const LONGEST_US: u64 = 600_000_000;

/// What was counted in the measured time.
#[derive(Debug)]
pub struct Tally {
    /// When it began, in nanoseconds.
    began: u64,
    latencies: Histogram<u64>,
    last: u64,
    gap: u64,
    gap_began: u64,
    /// Requests that the group refused.
    pub refused: u64,
}

/// A tally in numbers; latencies and gaps in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Answers.
    pub ok: u64,
    /// Requests that the group refused.
    pub refused: u64,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Answers per second.
    pub per_second: f64,
    /// Half of the answers took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// The longest time without an answer.
    pub gap_us: u64,
    /// When that began, in microseconds since the measurement did.
    pub gap_at_us: u64,
}

/// What the load has to say in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Of the measured time.
    #[serde(flatten)]
    pub counts: Counts,
    /// The id of the first client; the others follow.
    pub first_client: u64,
    /// How many clients there were.
    pub clients: u64,
    /// Bytes of each value.
    pub size: u64,
    /// Requests that were asked for in the measured time.
    pub asked: u64,
    /// Requests that were sent again, in the measured time.
    pub sent_again: u64,
    /// With a rate: requests for which there was no room among those under way.
    pub unsent: u64,
    /// Reads that did not see the last value written.
    pub stale: u64,
    /// Requests that were never answered.
    pub unanswered: u64,
    /// How far the nodes that were heard have learned in the end.
    pub learned: Vec<(u16, u64)>,
    /// The last instance that was acknowledged.
    pub last: u64,
}

impl Tally {
    /// Counts from `now` on.
    pub fn new(now: u64) -> Tally {
        let latencies = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are a histogram's");
        Tally { began: now, latencies, last: now, gap: 0, gap_began: now, refused: 0 }
    }

    /// `count` requests that were asked for at `asked` are answered.
    pub fn on_ok(&mut self, asked: u64, count: u64, now: u64) {
        self.latencies.saturating_record_n(now.saturating_sub(asked).div_ceil(1_000).max(1), count);
        self.silence_until(now);
        self.last = now;
    }

    /// How many were answered so far.
    pub fn ok(&self) -> u64 {
        self.latencies.len()
    }

    /// The numbers, of a measurement that ends at `now`.
    pub fn finish(mut self, now: u64) -> Counts {
        self.silence_until(now);
        let seconds = now.saturating_sub(self.began) as f64 / 1e9;
        let at =
            |quantile| if self.latencies.is_empty() { 0 } else { self.latencies.value_at_quantile(quantile) };
        Counts {
            ok: self.ok(),
            refused: self.refused,
            seconds,
            per_second: if seconds > 0.0 { self.ok() as f64 / seconds } else { 0.0 },
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.latencies.max(),
            gap_us: self.gap / 1_000,
            gap_at_us: self.gap_began.saturating_sub(self.began) / 1_000,
        }
    }

    fn silence_until(&mut self, now: u64) {
        let silence = now.saturating_sub(self.last);
        if silence > self.gap {
            (self.gap, self.gap_began) = (silence, self.last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_longest_gap_is_found_also_at_either_end() {
        let gap = |answers: &[u64]| {
            let mut tally = Tally::new(100 * MS);
            answers.iter().for_each(|at| tally.on_ok(at * MS - 1, 1, at * MS));
            let counts = tally.finish(200 * MS);
            (counts.gap_us, counts.gap_at_us)
        };
        assert_eq!(gap(&[110, 150, 190]), (40_000, 10_000));
        assert_eq!(gap(&[160, 190]), (60_000, 0));
        assert_eq!(gap(&[110, 120]), (80_000, 20_000));
        assert_eq!(gap(&[]), (100_000, 0));
    }

    #[test]
    fn quantiles_count_every_request_of_a_stretch() {
        let mut tally = Tally::new(1);
        tally.on_ok(1, 98, MS + 1);
        tally.on_ok(1, 2, 9 * MS + 1);
        let counts = tally.finish(10 * MS + 1);
        assert_eq!((counts.ok, counts.per_second.round()), (100, 10_000.0));
        assert_eq!((counts.p50_us, counts.max_us), (1_000, 9_007));
        assert_eq!(counts.p99_us, counts.max_us);
    }
}
