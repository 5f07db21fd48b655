//! The counts of the load during the measurement: how many answers, the latency of each, and the longest silence.
//! Also the load's final summary.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The maximum recorded latency, in microseconds; longer ones count as this. Latencies from 1 µs on keep three
/// digits.
const LONGEST_US: u64 = 600_000_000;

/// The counts of the measured time.
#[derive(Debug)]
pub struct Stats {
    /// The start of the measurement, in nanoseconds.
    began: u64,
    latencies: Histogram<u64>,
    last: u64,
    gap: u64,
    gap_began: u64,
    /// The number of requests that the group refused.
    pub refused: u64,
}

/// The results of a tally. Latencies and gaps are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// The number of answers.
    pub ok: u64,
    /// The number of requests that the group refused.
    pub refused: u64,
    /// The length of the measurement, in seconds.
    pub seconds: f64,
    /// Answers per second.
    pub per_second: f64,
    /// The median latency.
    pub p50_us: u64,
    /// The 99th percentile of the latency.
    pub p99_us: u64,
    /// The 99.9th percentile of the latency.
    pub p999_us: u64,
    /// The maximum latency.
    pub max_us: u64,
    /// The longest time without an answer.
    pub gap_us: u64,
    /// When that gap began, in microseconds since the start of the measurement.
    pub gap_at_us: u64,
}

/// The final report of the load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The results of the measured time.
    #[serde(flatten)]
    pub counts: Counts,
    /// The id of the first client; the others follow.
    pub first_client: u64,
    /// The number of clients.
    pub clients: u64,
    /// Bytes per value.
    pub size: u64,
    /// The number of requests sent in the measured time.
    pub asked: u64,
    /// The number of retransmitted requests in the measured time.
    pub sent_again: u64,
    /// With a rate: the number of requests without room among those in flight.
    pub unsent: u64,
    /// The number of reads that did not return the last value written.
    pub stale: u64,
    /// The number of requests without an answer.
    pub unanswered: u64,
    /// How far each node that was heard has learned at the end: (id, instance).
    pub learned: Vec<(u16, u64)>,
    /// The last acknowledged instance.
    pub last: u64,
}

impl Stats {
    /// Starts counting at `now`.
    pub fn new(now: u64) -> Stats {
        let latencies = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are a histogram's");
        Stats { began: now, latencies, last: now, gap: 0, gap_began: now, refused: 0 }
    }

    /// `count` requests from the time `asked` are answered.
    pub fn on_ok(&mut self, asked: u64, count: u64, now: u64) {
        self.latencies.saturating_record_n(now.saturating_sub(asked).div_ceil(1_000).max(1), count);
        self.silence_until(now);
        self.last = now;
    }

    /// The number of answers so far.
    pub fn ok(&self) -> u64 {
        self.latencies.len()
    }

    /// The results of a measurement that ends at `now`.
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
            let mut tally = Stats::new(100 * MS);
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
        let mut tally = Stats::new(1);
        tally.on_ok(1, 98, MS + 1);
        tally.on_ok(1, 2, 9 * MS + 1);
        let counts = tally.finish(10 * MS + 1);
        assert_eq!((counts.ok, counts.per_second.round()), (100, 10_000.0));
        assert_eq!((counts.p50_us, counts.max_us), (1_000, 9_007));
        assert_eq!(counts.p99_us, counts.max_us);
    }
}
