//! `upaxos-node lab`: plays labs with seeds in a world, and prints the results.
//!
//! Owns the flags and the report. Exit status: 0 every lab passed or was skipped with its reason, 1 a lab failed, 2
//! a script cannot be loaded or there is nothing to play, 77 the world needs a privilege that is not available.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use upaxos_cli as cli;

use super::backends::Kind;
use super::page;
use super::panics;
use super::report::{self, Name};
use super::runner::Open;
use super::script::Script;
use super::sweep::{Entry, Sweep};
use super::verdict::{End, Verdict};
use crate::seeds;

/// Which labs, in which world, with which seeds.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Lab scripts; scripts/labs holds examples and a tutorial
    #[arg(value_name = "SCRIPT.lua", required = true)]
    pub scripts: Vec<PathBuf>,

    /// World: sim (virtual time), raw (processes over IP) or udp (processes on loopback)
    #[arg(long, value_enum, hide_possible_values = true, value_name = "WORLD", default_value = "sim")]
    pub on: Kind,

    /// Seed of all random choices
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..u64::MAX))]
    pub seed: u64,

    /// Run each lab with seeds A to B-1 until one fails
    #[arg(long, value_name = "A..B", conflicts_with = "seed", value_parser = seeds::range)]
    pub seeds: Option<Range<u64>>,

    /// Run only labs whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,

    /// Save the wire, the nodes' logs and a report of each run in DIR; with --seeds, of failed runs
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Print one JSON object per lab and seed, one per line
    #[arg(long)]
    pub json: bool,

    /// List labs and exit
    #[arg(long)]
    pub list: bool,
}

/// Plays the labs.
///
/// # Errors
/// When no world is available, or the output cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let entries = match entries(args) {
        Ok(entries) => entries,
        Err(error) => {
            cli::complain(format_args!("upaxos-node: {error:#}"));
            return Ok(ExitCode::from(2));
        }
    };
    if args.list {
        for Entry { script, title, .. } in &entries {
            cli::print(format_args!("{title}  ({})", script.name))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    panics::hush();
    let open = |setup: &_| args.on.open(setup);
    let failed = Report::new(args, &entries).play(&open)?;
    Ok(ExitCode::from(u8::from(failed)))
}

/// The labs to play.
fn entries(args: &Args) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for path in &args.scripts {
        let script = Script::read(path)?;
        let loaded = script.load(args.seed).with_context(|| format!("cannot load {}", script.name))?;
        for lab in loaded.labs {
            if args.only.as_ref().is_none_or(|only| lab.title.contains(only.as_str())) {
                entries.push(Entry::new(&script, &lab.title, &entries));
            }
        }
    }
    if let (true, Some(only)) = (entries.is_empty(), &args.only) {
        anyhow::bail!("no lab has {only:?} in its name; --list shows all labs");
    }
    Ok(entries)
}

/// The results of each lab so far, and how they are printed.
struct Report<'r> {
    args: &'r Args,
    entries: &'r [Entry],
    seeds: Range<u64>,
    bar: ProgressBar,
    labs: Vec<Sum>,
    /// The number of labs whose line has been printed.
    told: usize,
    written: Result<()>,
}

/// The totals of all plays of one lab.
#[derive(Clone, Debug, Default)]
struct Sum {
    plays: u64,
    asked: u64,
    skips: BTreeMap<String, u64>,
    /// Why the whole lab was skipped.
    skipped: Option<String>,
    /// The lowest seed that failed.
    failed: Option<Verdict>,
    said: Vec<String>,
    lasted: f64,
}

impl<'r> Report<'r> {
    fn new(args: &'r Args, entries: &'r [Entry]) -> Report<'r> {
        let seeds = args.seeds.clone().unwrap_or(args.seed..args.seed + 1);
        let plays = (seeds.end - seeds.start) * entries.len() as u64;
        let bar = if plays > 1 && !args.json { progress(plays) } else { ProgressBar::hidden() };
        let labs = vec![Sum::default(); entries.len()];
        Report { args, entries, seeds, bar, labs, told: 0, written: Ok(()) }
    }

    fn is_sweep(&self) -> bool {
        self.args.seeds.is_some()
    }

    fn name(&self, entry: usize) -> Name<'r> {
        let Entry { script, title, .. } = &self.entries[entry];
        Name { script: &script.name, title, world: self.args.on }
    }

    /// Plays all labs. Returns true when a lab failed.
    fn play(mut self, open: Open) -> Result<bool> {
        let cores = thread::available_parallelism().context("cannot count the cores")?.get();
        let threads = if self.args.on.is_simulated() { cores } else { 1 };
        let began = Instant::now();
        let sweep = Sweep {
            entries: self.entries,
            seeds: self.seeds.clone(),
            threads,
            open,
            out: self.args.out.as_deref().filter(|_| !self.is_sweep()),
            prints: threads == 1 && !self.is_sweep() && !self.args.json,
        };
        let played = sweep.run(&mut |entry, verdict| self.take(entry, verdict));
        self.bar.finish_and_clear();
        played?;
        self.told_up_to(self.entries.len());
        if self.is_sweep() {
            self.save_failures(open)?;
        }
        if !self.args.json {
            self.print(&self.summary(began.elapsed()));
        }
        let has_failed = self.labs.iter().any(|lab| lab.failed.is_some());
        self.written?;
        Ok(has_failed)
    }

    fn take(&mut self, entry: usize, verdict: Verdict) {
        self.bar.inc(1);
        let json = report::json(self.name(entry), &verdict);
        if let Some(out) = self.args.out.as_deref().filter(|_| !self.is_sweep()) {
            let folder = self.entries[entry].folder_in(out, verdict.seed);
            let saved = save(&folder, self.name(entry), &verdict, &json);
            if self.written.is_ok() {
                self.written = saved;
            }
        }
        if self.args.json {
            self.print(&json.to_string());
        }
        self.labs[entry].add(verdict);
        // Labs are printed in order, each after its last seed.
        let is_done = |lab: &Sum| lab.plays == self.seeds.end - self.seeds.start;
        let done = self.labs.iter().take_while(|lab| is_done(lab)).count();
        self.told_up_to(done);
    }

    fn told_up_to(&mut self, end: usize) {
        for entry in self.told..end.max(self.told) {
            let text = self.verdict(entry);
            if !self.args.json {
                self.print(&text);
            }
        }
        self.told = end.max(self.told);
    }

    /// The result of one lab, as printed.
    fn verdict(&self, entry: usize) -> String {
        let (lab, name) = (&self.labs[entry], self.name(entry));
        let mut text: String = lab.said.iter().flat_map(|line| [line, "\n"]).collect();
        if let Some(Verdict { seed, end: End::Failed { trouble, views }, .. }) = &lab.failed {
            return text + "\n" + &report::failure(name, *seed, trouble, views);
        }
        let title = name.title;
        if let Some(reason) = &lab.skipped {
            return text + &format!("skipped {title}: {reason}");
        }
        let what = match self.is_sweep() {
            true => format!("{} seeds", lab.plays),
            false => format!("{:.1} s, {} questions", lab.lasted, lab.asked),
        };
        text += &format!("passed  {title}  ({what})");
        for (step, times) in &lab.skips {
            text += &format!("\n        without {step} ({times} ×)");
        }
        text
    }

    fn summary(&self, took: Duration) -> String {
        let count = |holds: &dyn Fn(&Sum) -> bool| self.labs.iter().filter(|lab| holds(lab)).count();
        let failed = count(&|lab| lab.failed.is_some());
        let skipped = count(&|lab| lab.failed.is_none() && lab.skipped.is_some());
        let steps = count(&|lab| !lab.skips.is_empty());
        let plays: u64 = self.labs.iter().map(|lab| lab.plays).sum();
        let mut text = format!("{} labs on {}: ", self.labs.len(), self.args.on);
        text += &format!("{} passed, {failed} failed, {skipped} skipped", self.labs.len() - failed - skipped);
        if steps > 0 {
            text += &format!("; {steps} without some of their steps");
        }
        text + &format!("; {plays} plays in {:.1} s", took.as_secs_f64())
    }

    /// A sweep saves nothing of the plays that pass. Each failure is played again with everything recorded.
    fn save_failures(&mut self, open: Open) -> Result<()> {
        let Some(out) = self.args.out.as_deref() else { return Ok(()) };
        for entry in 0..self.entries.len() {
            let Some(seed) = self.labs[entry].failed.as_ref().map(|verdict| verdict.seed) else { continue };
            let (name, folder) = (self.name(entry), self.entries[entry].folder_in(out, seed));
            let once = Sweep {
                entries: &self.entries[entry..=entry],
                seeds: seed..seed + 1,
                threads: 1,
                open,
                out: Some(out),
                prints: false,
            };
            let mut saved = Ok(());
            once.run(&mut |_, verdict| saved = save(&folder, name, &verdict, &report::json(name, &verdict)))?;
            saved?;
        }
        Ok(())
    }

    /// Prints lines above the progress bar. A closed pipe does not change the exit status.
    fn print(&self, text: &str) {
        self.bar.suspend(|| cli::tell(text));
    }
}

impl Sum {
    fn add(&mut self, verdict: Verdict) {
        self.plays += 1;
        self.asked += verdict.asked;
        self.lasted += verdict.lasted.0 as f64 / 1e6;
        for (step, times) in &verdict.skips {
            *self.skips.entry(step.clone()).or_default() += times;
        }
        match &verdict.end {
            End::Passed => {}
            End::Skipped(reason) => self.skipped = Some(reason.clone()),
            End::Failed { .. } => {
                if self.failed.as_ref().is_none_or(|failed| verdict.seed < failed.seed) {
                    self.said = verdict.said.clone();
                    self.failed = Some(verdict);
                }
                return;
            }
        }
        if self.failed.is_none() && self.plays == 1 {
            self.said = verdict.said;
        }
    }
}

/// Writes the reports, for programs and for people, next to the files that the world has saved.
fn save(folder: &Path, name: Name, verdict: &Verdict, json: &serde_json::Value) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = folder.join("report.json");
    fs::write(&file, format!("{json:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    page::write(folder, name, verdict)
}

fn progress(plays: u64) -> ProgressBar {
    let bar = ProgressBar::new(plays);
    bar.enable_steady_tick(Duration::from_millis(200));
    match ProgressStyle::with_template("{wide_bar} {pos}/{len} plays, {per_sec}, {eta} to go") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
