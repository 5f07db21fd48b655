//! `upaxos-node bench`: measures what a group can do, and judges every run.
//!
//! Owns the matrix of runs and the printed results. The nodes are real daemons on hosts of their own (`group`). The
//! load is a process next to them ([`load`]). The kernel reports what each node uses (`usage`). A run counts only
//! if its logs agree and hold every acknowledged write (`judge`).

mod attached;
mod drive;
mod group;
mod judge;
pub mod load;
mod plot;
mod report;
mod usage;
mod watch;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use upaxos_cli as cli;
use upaxos_cli::{complain, print};
use upaxos_core::types::Micros;
use upaxos_net as net;
use upaxos_testbed::hosts::Host;

use drive::Load;
use group::Group;
use load::Acks;
use report::Report;
use watch::Watch;

/// What to measure: every combination of nodes, sizes and requests in flight is one run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Transport of the group: raw (IP between network namespaces) or udp (multicast on loopback)
    #[arg(long, value_enum, hide_possible_values = true, value_name = "raw|udp", default_value_t = On::Raw)]
    on: On,

    // The logs of such a group are out of reach, so the judges ask it for the sample.
    /// Load the running group of the network options, and check a sample of its acknowledged requests
    #[arg(long, conflicts_with_all = ["on", "nodes", "dir", "beat", "kill_leader", "restart", "overload"])]
    attach: bool,

    #[command(flatten)]
    net: net::Args,

    /// Numbers of nodes, 1 to 100
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "3", value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: Vec<u16>,

    /// Sizes of a value in bytes, 1 to 60000
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    size: Vec<u32>,

    /// Numbers of requests in flight, over all clients
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16,256,1024", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    outstanding: Vec<u32>,

    /// Number of clients, 1 to 16384, each with its own session
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    clients: u32,

    /// Measured time per run, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = seconds)]
    seconds: f64,

    /// Read instead of write: fast (no instance), safe (through an instance) or history (a chosen instance)
    #[arg(long, value_enum, hide_possible_values = true, value_name = "KIND")]
    reads: Option<Reads>,

    /// Number of values written before each run; at least 20000 with --reads
    #[arg(long, value_name = "N", default_value_t = 0)]
    fill: u64,

    /// Requests per second, sent whether answers arrive or not, up to --outstanding in flight
    #[arg(long, value_name = "PER-SECOND", value_parser = positive)]
    rate: Option<f64>,

    /// Kill the leader (kill -9) in the middle of each run; the longest gap is then the failover's
    #[arg(long)]
    kill_leader: bool,

    /// After each run, kill a node (kill -9), start it again and measure the time until it is back
    #[arg(long)]
    restart: bool,

    /// After each run, send FACTOR times the rate that it reached, for --seconds
    #[arg(long, value_name = "FACTOR", conflicts_with = "rate", value_parser = positive)]
    overload: Option<f64>,

    /// Interval between heartbeats of the nodes, 1ms to 10s [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = cli::beat)]
    beat: Option<Micros>,

    /// Number of times that the whole matrix is run
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: u32,

    /// Directory on a real disk; the data goes into a temporary directory below it
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// Draw latency over load into an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Print one JSON object per run instead of a table
    #[arg(long)]
    json: bool,
}

/// The network of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    Raw,
    Udp,
}

/// The kind of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// A read of the last value written, without an instance.
    Fast,
    /// A read of the last value written, through an instance.
    Safe,
    /// A query for the value chosen at some instance.
    History,
}

/// One run of the matrix.
#[derive(Clone, Debug, Serialize)]
pub struct RunConfig {
    /// The size of the group. 0 for an attached group.
    pub nodes: u16,
    /// Bytes of each value.
    pub size: u32,
    /// The maximum number of requests in flight.
    pub outstanding: u32,
    /// The number of clients, as --clients gives it.
    pub clients: u32,
    /// The kind of reads. `None` for writes.
    pub reads: Option<Reads>,
    /// The number of values written before the run.
    pub fill: u64,
    /// The requested rate in requests per second. `None`: as fast as answers arrive.
    pub rate: Option<f64>,
    /// The round of the matrix, from 1.
    pub round: u32,
}

/// The minimum number of values to choose from for reads: far more than are in flight.
const LEAST_TO_READ: u64 = 20_000;

/// The maximum number of requests in flight when clients send more than the group can handle.
const MOST_UNDER_WAY: u32 = 65_536;

/// Measures every cell of the matrix.
///
/// # Errors
/// When a group cannot be started or loaded, or a run breaks a rule.
pub fn run(args: &Args) -> Result<()> {
    let dir = args.dir.canonicalize().with_context(|| format!("cannot use {}", args.dir.display()))?;
    if !args.attach && group::is_in_memory(&dir) {
        complain(format_args!(
            "upaxos-node: {} is in memory: nothing there is durable, and the results are meaningless; \
             name a directory on a real disk with --dir",
            dir.display()
        ));
    }
    if !args.json {
        say(report::HEADING)?;
    }
    let mut reports = Vec::new();
    for cell in args.cells() {
        let report = measure_and_print(args, &cell, &dir, None)?;
        if let Some(factor) = args.overload {
            let peak = report.counts.per_second;
            let over = RunConfig { rate: Some(peak * factor), outstanding: MOST_UNDER_WAY, ..cell };
            measure_and_print(args, &over, &dir, Some(peak))?;
        }
        reports.push(report);
    }
    args.plot.as_deref().map_or(Ok(()), |path| plot::draw(&reports, path))
}

fn measure_and_print(args: &Args, cell: &RunConfig, dir: &Path, peak: Option<f64>) -> Result<Report> {
    let progress = progress(cell);
    let report = measure(args, cell, dir, &progress);
    progress.finish_and_clear();
    let mut report = report.with_context(|| format!("cannot measure {}", cell.words()))?;
    report.of_peak = peak.map(|peak| report.counts.per_second / peak.max(1.0));
    if args.json {
        say(&serde_json::to_string(&report)?)?;
    } else {
        say(&report::row(&report))?;
        report::remarks(&report).iter().try_for_each(|remark| say(&format!("      {remark}")))?;
    }
    Ok(report)
}

fn say(line: &str) -> Result<()> {
    Ok(print(line)?)
}

impl Args {
    fn cells(&self) -> Vec<RunConfig> {
        let mut cells = Vec::new();
        let nodes: &[u16] = if self.attach { &[0] } else { &self.nodes };
        for round in 1..=self.rounds {
            for &nodes in nodes {
                for &size in &self.size {
                    cells.extend(self.outstanding.iter().map(|&outstanding| RunConfig {
                        nodes,
                        size,
                        outstanding,
                        clients: self.clients,
                        reads: self.reads,
                        fill: if self.reads.is_some() { self.fill.max(LEAST_TO_READ) } else { self.fill },
                        rate: self.rate,
                        round,
                    }));
                }
            }
        }
        cells
    }

    /// The nodes' flags, besides their ids and their network.
    fn node_flags(&self) -> Vec<String> {
        let beat = self.beat.map(|beat| format!("--beat={}us", beat.0));
        beat.into_iter().chain(self.datagram_flag()).collect()
    }

    fn datagram_flag(&self) -> Option<String> {
        self.net.datagram.map(|most| format!("--datagram={most}"))
    }

    /// Adds the flags of one cell to the load's command.
    fn load(&self, cell: &RunConfig, mut command: Command, acks: &Path) -> Command {
        let mut flag = |name: &str, value: String| {
            command.arg(format!("--{name}={value}"));
        };
        flag("size", cell.size.to_string());
        flag("outstanding", cell.outstanding.to_string());
        flag("clients", cell.clients.to_string());
        flag("seconds", self.seconds.to_string());
        flag("fill", cell.fill.to_string());
        flag("nodes", cell.nodes.to_string());
        flag("acks", acks.display().to_string());
        cell.rate.into_iter().for_each(|rate| flag("rate", rate.to_string()));
        let reads = cell.reads.and_then(|reads| reads.to_possible_value());
        reads.into_iter().for_each(|reads| flag("reads", reads.get_name().to_owned()));
        command.args(self.datagram_flag());
        if self.restart {
            command.arg("--restart");
        }
        command
    }
}

impl RunConfig {
    fn words(&self) -> String {
        let of = if self.nodes == 0 { String::new() } else { format!(" of {} nodes", self.nodes) };
        format!("{} B × {}{of}, round {}", self.size, self.outstanding, self.round)
    }
}

/// One run: a group of its own, a load, and the judges.
fn measure(args: &Args, cell: &RunConfig, dir: &Path, progress: &ProgressBar) -> Result<Report> {
    if args.attach {
        return attached::measure(args, cell, progress);
    }
    let mut group = Group::start(&group::Plan {
        nodes: cell.nodes.into(),
        is_raw: args.on == On::Raw,
        dir: dir.to_owned(),
        flags: args.node_flags(),
    })?;
    let report = measure_group(args, cell, &mut group, progress);
    report.map_err(|error| match group.log() {
        log if log.is_empty() => error,
        log => error.context(format!("the nodes said:\n{log}")),
    })
}

fn measure_group(args: &Args, cell: &RunConfig, group: &mut Group, progress: &ProgressBar) -> Result<Report> {
    let acks = group.hosts().dir().join("acknowledged");
    let program = env::current_exe().context("cannot find the running program")?;
    let mut command = group.hosts().command(Host::Client, program);
    command.arg("load").args(group.hosts().args());
    let load = Load::start(args.load(cell, command, &acks))?;
    let mut watch = Watch::new(load, kill_after(args));
    let summary = watch.follow(Some(group), progress)?;
    ensure!(
        summary.learned.len() >= usize::from(cell.nodes),
        "in the end only {} of {} nodes were heard",
        summary.learned.len(),
        cell.nodes
    );
    progress.set_message("judging");
    group.end()?;
    let verdict = judge::judge(&group.dirs(), &summary, &Acks::read(&acks)?)?;
    let report = Report::new(cell.clone(), &summary, &watch.used, Some(&verdict));
    Ok(Report { leader: watch.led, killed: watch.killed, restart_ms: watch.restart_ms, ..report })
}

/// How long after the start of the measurement the leader is killed, if at all.
fn kill_after(args: &Args) -> Option<Duration> {
    args.kill_leader.then(|| Duration::from_secs_f64(args.seconds / 2.0))
}

fn progress(cell: &RunConfig) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix}: {msg}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("the template is fixed"));
    bar.set_prefix(cell.words());
    bar.set_message("starting");
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("must be 0.1 to 86400".into()) }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "must be a number above 0".into())
}
