//! The results of a run: one line of a table, or one JSON object.

use serde::Serialize;

use super::judge::Verdict;
use super::load::{Counts, Summary};
use super::run_config::RunConfig;
use super::usage::Usage;

/// One run. Rates are per second, latencies in microseconds. Where the load reads, values "per write" are per read.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The parameters of the run.
    #[serde(flatten)]
    pub cell: RunConfig,
    /// Answers and latencies.
    #[serde(flatten)]
    pub counts: Counts,
    /// CPU time of all nodes, in seconds per 1,000 answers.
    pub cpu_s_per_1000: f64,
    /// The same for each node.
    pub cpu_s_per_1000_of: Vec<f64>,
    /// The same for the load itself.
    pub cpu_s_per_1000_of_load: f64,
    /// The maximum memory that a node ever used, in MiB.
    pub peak_mib: f64,
    /// Packets that nodes and load sent, per answer. `None` where hosts share an interface.
    pub packets_per_write: Option<f64>,
    /// Blocks that a node wrote, each with a sync, per entry of its log. `None` where logs were not read.
    pub syncs_per_write: Option<f64>,
    /// The leader at the start of the measured time.
    pub leader: Option<usize>,
    /// The leader that was killed during the run.
    pub killed: Option<usize>,
    /// The time from the restart of a node that was killed at the end, to its first beat, in milliseconds.
    pub restart_ms: Option<f64>,
    /// Under overload: the throughput relative to the same group without overload.
    pub of_peak: Option<f64>,
    /// The number of requests sent per second.
    pub asked_per_second: f64,
    /// The number of retransmitted requests.
    pub sent_again: u64,
    /// With a rate: the number of requests without room among those in flight.
    pub unsent: u64,
    /// The number of requests without an answer.
    pub unanswered: u64,
    /// The number of acknowledged writes that the judges found, each once and at its acknowledged instance; for an
    /// attached group, the size of the checked sample.
    pub judged: Option<u64>,
}

/// The usage in the measured time.
#[derive(Debug, Default)]
pub struct Used {
    /// The usage of each node, by id.
    pub nodes: Vec<Usage>,
    /// The usage of the load's process.
    pub load: Usage,
}

impl Report {
    /// Combines the load's counts, the kernel's counts and the judges' verdict.
    pub fn new(cell: RunConfig, summary: &Summary, used: &Used, verdict: Option<&Verdict>) -> Report {
        let per_answer = |amount: f64| amount / (summary.counts.ok.max(1) as f64);
        let cpu: Vec<f64> = used.nodes.iter().map(|node| per_answer(node.cpu_s * 1_000.0)).collect();
        let all = used.nodes.iter().chain([&used.load]);
        let packets: Option<u64> = all.map(|usage| usage.packets).sum();
        let mean = |syncs: &[u64]| syncs.iter().sum::<u64>() as f64 / syncs.len().max(1) as f64;
        let peak = used.nodes.iter().map(|node| node.peak_bytes).max().unwrap_or(0);
        Report {
            cell,
            counts: summary.counts.clone(),
            cpu_s_per_1000: cpu.iter().sum(),
            cpu_s_per_1000_of: cpu,
            cpu_s_per_1000_of_load: per_answer(used.load.cpu_s * 1_000.0),
            peak_mib: peak as f64 / (1 << 20) as f64,
            packets_per_write: packets.filter(|_| !used.nodes.is_empty()).map(|sent| per_answer(sent as f64)),
            syncs_per_write: verdict.map(|v| mean(&v.syncs) / v.entries.max(1) as f64),
            leader: None,
            killed: None,
            restart_ms: None,
            of_peak: None,
            asked_per_second: summary.asked as f64 / summary.counts.seconds.max(1e-9),
            sent_again: summary.sent_again,
            unsent: summary.unsent,
            unanswered: summary.unanswered,
            judged: verdict.map(|verdict| verdict.found),
        }
    }
}

/// The heading of the table.
pub const HEADING: &str = "nodes    size  in flight      per s    p50 µs    p99 µs  p99.9 µs    max µs   gap ms  \
                           CPU s/1000     MiB  packets   syncs";

/// A line of the table.
pub fn row(report: &Report) -> String {
    let Report { cell, counts, .. } = report;
    let maybe = |number: Option<f64>| number.map_or("-".to_owned(), short);
    format!(
        "{:>5} {:>7} {:>10} {:>10.0} {:>9} {:>9} {:>9} {:>9} {:>8.1} {:>11.4} {:>7.1} {:>8} {:>7}",
        cell.nodes,
        cell.size,
        cell.outstanding,
        counts.per_second,
        counts.p50_us,
        counts.p99_us,
        counts.p999_us,
        counts.max_us,
        counts.gap_us as f64 / 1_000.0,
        report.cpu_s_per_1000,
        report.peak_mib,
        maybe(report.packets_per_write),
        maybe(report.syncs_per_write)
    )
}

/// Remarks about results without a column in the table.
pub fn remarks(report: &Report) -> Vec<String> {
    let counts = &report.counts;
    let mut said = Vec::new();
    if let (Some(rate), Some(of_peak)) = (report.cell.rate, report.of_peak) {
        let percent = of_peak * 100.0;
        said.push(format!(
            "overload: {rate:.0} per s wanted, {:.0} sent; done is {percent:.0} % of the peak",
            report.asked_per_second
        ));
    }
    let several = [
        (counts.refused, "requests were refused"),
        (report.unsent, "requests found no room among those in flight, and were not sent"),
        (report.sent_again, "requests were sent again"),
        (report.unanswered, "requests were never answered"),
    ];
    let several = several.into_iter().filter(|(count, _)| *count > 0);
    said.extend(several.map(|(count, what)| format!("{count} {what}")));
    if let Some(killed) = report.killed {
        let (gap, at) = (counts.gap_us as f64 / 1e3, counts.gap_at_us as f64 / 1e6);
        said.push(format!(
            "node {killed}, the leader, was killed: no answer for {gap:.0} ms, from {at:.2} s on"
        ));
    }
    if let Some(took) = report.restart_ms {
        said.push(format!(
            "a node that was killed at the end was heard again {took:.0} ms after its restart"
        ));
    }
    said
}

/// Formats a number with three digits.
fn short(number: f64) -> String {
    if number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 1.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    }
}
