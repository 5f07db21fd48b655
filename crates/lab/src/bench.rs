//! `upaxos-node bench`: measures what a group can do, and judges every run.
//!
//! Owns the matrix of runs and the printed results. The nodes are real daemons on hosts of their own (`group`). The
//! load is a process next to them ([`load`]). The kernel reports what each node uses (`usage`). A run counts only
//! if its logs agree and hold every acknowledged write (`judge`).

mod args;
mod attached;
mod drive;
mod group;
mod judge;
pub mod load;
mod plot;
mod report;
mod run_config;
mod usage;
mod watch;

use std::env;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use upaxos_cli::{complain, print};
use upaxos_testbed::hosts::Host;

pub use args::Args;
use args::On;
use drive::Load;
use group::Group;
use load::Acks;
use report::Report;
pub use run_config::{Reads, RunConfig};
use watch::Watch;

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
