//! `upaxos-node sim`: runs simulated groups, seed after seed, on all cores, until one breaks a rule.
//!
//! Owns the sweep over the seeds and the report. [`upaxos_sim`] decides what happens in a seed and which
//! rules must hold.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use upaxos_cli as cli;
use upaxos_core::replica::Bound;
use upaxos_sim::shrink::Shrunk;
use upaxos_sim::{self as sim, Class, Failure, Outcome, Plan, Seen};

/// The options of the sweep: its seeds, the number of nodes, and the faults to leave out.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Seeds to run, A to B-1
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = range)]
    pub seeds: Range<u64>,

    /// Run this seed only
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    pub seed: Option<u64>,

    /// Number of nodes, 1 to 9 [default: drawn from the seed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: Option<u16>,

    /// Simulate classic groups only [default: in one seed of twenty]
    #[arg(long)]
    pub classic: bool,

    /// Classes of faults to leave out, separated by commas: loss, crash, partition, …
    #[arg(long, value_name = "CLASS", value_delimiter = ',', value_parser = class)]
    pub without: Vec<Class>,

    /// Faults to leave out, by their numbers in the plan, separated by commas
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    pub skip: Vec<usize>,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// The result of a sweep.
#[derive(Debug, Default)]
struct Sweep {
    seeds: u64,
    seen: Seen,
    /// The number of seeds in which each of [`SHARES`] was seen.
    shares: Vec<u64>,
    /// The number of seeds in which each bound was reached.
    bounds: [u64; Bound::ALL.len()],
    failed: Option<u64>,
}

/// The name of an event that a seed may have seen, and the test for it.
type Share = (&'static str, fn(&Seen) -> bool);

const SHARES: &[Share] = &[
    ("leader change", Seen::has_leader_change),
    ("crash during sync", |seen| seen.crashes_in_sync > 0),
    ("partition", |seen| seen.partitions > 0),
    ("pause amid a turn", |seen| seen.pauses_amid > 0),
    ("recovered gap", |seen| seen.gaps > 0),
    ("lost part", |seen| seen.parts > 0),
    ("torn block", |seen| seen.torn > 0),
    ("failed sync", |seen| seen.failed_syncs > 0),
    ("lost disk", |seen| seen.wipes > 0),
    ("fast read", |seen| seen.fast_reads > 0),
    ("refusal to vote", |seen| seen.refusals > 0),
    ("change of the group", |seen| seen.changes > 0),
    ("node that joined", |seen| seen.joins > 0),
    ("node that left", |seen| seen.leaves > 0),
    ("group left without a quorum", |seen| seen.dead > 0),
    ("start refused for a flipped bit", |seen| seen.damaged > 0),
    ("value fetched again after a flipped bit", |seen| seen.fetched > 0),
    ("compaction", |seen| seen.compactions > 0),
    ("look into the history", |seen| seen.lookups > 0),
    ("failed apply, undone", |seen| seen.failed_applies > 0),
    ("divergence of scripts found", |seen| seen.diverged > 0),
    ("node with wrong scripts ended, and mended", |seen| seen.mended > 0),
    ("change by force asked for", |seen| seen.forced > 0),
    ("wires of two groups joined", |seen| seen.joined_wires > 0),
    ("client told to ask again later", |seen| seen.busy > 0),
    ("request refused by the log", |seen| seen.refused > 0),
    ("client told that its outcome is unknown", |seen| seen.told_unknown > 0),
    ("client told that it is forgotten", |seen| seen.told_forgotten > 0),
    ("request that ended so", |seen| seen.forgotten > 0),
    ("node that came back 200 instances behind", |seen| seen.behind >= 200),
    ("node that came back 2000 instances behind", |seen| seen.behind >= 2_000),
    ("disk rolled back", |seen| seen.rolled_back > 0),
    ("node barred since its disk was rolled back", |seen| seen.barred > 0),
    ("split log that nodes told of", |seen| seen.splits > 0),
    ("node that ended since a quorum has another log", |seen| seen.stopped > 0),
    ("forgotten promise broken, and no two logs differ", |seen| seen.untold > 0),
];

/// Runs the seeds, and reports the events seen, or how the first failing seed fails.
///
/// # Errors
/// When a failure does not repeat.
pub fn run(args: &Args) -> Result<ExitCode> {
    // The report holds the message of a node's panic.
    std::panic::set_hook(Box::new(|_| ()));
    let threads = std::thread::available_parallelism().context("cannot count the cores")?.get();
    let report = report(args, sim::run, threads)?;
    cli::tell(&report.text);
    Ok(ExitCode::from(report.status))
}

/// The result of a sweep in words or JSON, with the exit status for it: 1 if a seed failed.
#[derive(Debug)]
struct Report {
    text: String,
    status: u8,
}

/// Runs the seeds with `simulate`, and shrinks the first that fails.
fn report(args: &Args, simulate: impl Fn(&Plan) -> Outcome + Sync, threads: usize) -> Result<Report> {
    let seeds = args.seed.map_or(args.seeds.clone(), |seed| seed..seed + 1);
    let began = Instant::now();
    let sweep = sweep(args, &seeds, &simulate, threads);
    let took = began.elapsed();
    let failed = sweep.failed.map(|seed| args.plan(seed));
    let shrunk = failed.as_ref().map(|plan| {
        sim::shrink(plan, &simulate).ok_or_else(|| anyhow!("seed {} fails, but not twice", plan.seed))
    });
    let shrunk =
        shrunk.transpose().context("cannot repeat a failure: the simulation is not deterministic")?;
    let text = if args.json {
        json_report(args, &seeds, &sweep, took, shrunk.as_ref()).to_string()
    } else {
        let failure = shrunk.as_ref().map_or("every rule held".into(), |shrunk| failure_text(args, shrunk));
        format!("{}\n{failure}", sweep_text(&sweep, took, threads))
    };
    Ok(Report { text, status: u8::from(shrunk.is_some()) })
}

impl Args {
    fn plan(&self, seed: u64) -> Plan {
        let draw = if self.classic { Plan::draw_classic } else { Plan::draw };
        let plan = self.without.iter().fold(draw(seed, self.nodes), |plan, class| plan.without(*class));
        self.skip.iter().fold(plan, |plan, number| plan.skip(*number))
    }

    /// The command that repeats exactly this failure.
    fn again(&self, shrunk: &Shrunk) -> String {
        let mut text = format!("upaxos-node sim --seed {}", shrunk.plan.seed);
        if let Some(nodes) = self.nodes {
            text += &format!(" --nodes {nodes}");
        }
        if self.classic {
            text += " --classic";
        }
        let without: Vec<_> = self.without.iter().chain(&shrunk.without).map(Class::to_string).collect();
        if !without.is_empty() {
            text += &format!(" --without {}", without.join(","));
        }
        let skipped: Vec<_> = self.skip.iter().chain(&shrunk.skipped).map(usize::to_string).collect();
        if !skipped.is_empty() {
            text += &format!(" --skip {}", skipped.join(","));
        }
        text
    }
}

/// Runs the seeds on all cores until they are done or one fails. Of several failing seeds, the lowest is kept.
fn sweep(
    args: &Args,
    seeds: &Range<u64>,
    simulate: &(impl Fn(&Plan) -> Outcome + Sync),
    threads: usize,
) -> Sweep {
    let (next, stops) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let sweep = Mutex::new(Sweep::default());
    let bar = progress(seeds.end.saturating_sub(seeds.start));
    let work = || {
        while !stops.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = simulate(&args.plan(seed));
            let mut sweep = sweep.lock().expect("no run panics: the simulation catches them");
            sweep.add(&outcome.seen);
            if outcome.failure.is_some() {
                sweep.failed = Some(sweep.failed.map_or(seed, |failed| failed.min(seed)));
                stops.store(true, Ordering::Relaxed);
            }
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    bar.finish_and_clear();
    sweep.into_inner().expect("no run panics: the simulation catches them")
}

impl Sweep {
    fn add(&mut self, seen: &Seen) {
        self.seeds += 1;
        self.seen += *seen;
        self.shares.resize(SHARES.len(), 0);
        for (share, (_, is_in)) in self.shares.iter_mut().zip(SHARES) {
            *share += u64::from(is_in(seen));
        }
        for (count, (bound, _)) in self.bounds.iter_mut().zip(Bound::ALL) {
            *count += u64::from(seen.reached & bound.bit() != 0);
        }
    }
}

fn progress(seeds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} to go");
    let bar = ProgressBar::new(seeds);
    bar.enable_steady_tick(Duration::from_millis(200));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn sweep_text(sweep: &Sweep, took: Duration, threads: usize) -> String {
    let Sweep { seeds, seen, shares, .. } = sweep;
    let speed = *seeds as f64 / took.as_secs_f64();
    let events = seen.events / (*seeds).max(1);
    let head = format!("{seeds} seeds, {speed:.0} seeds/s on {threads} threads, {events} events each");
    let percent = |share: &u64| 100.0 * *share as f64 / (*seeds).max(1) as f64;
    let shares = shares.iter().zip(SHARES);
    let shares = shares.map(|(share, (name, _))| format!("{:>5.1} % saw a {name}", percent(share)));
    let bounds = sweep.bounds.iter().zip(Bound::ALL);
    let bounds = bounds.map(|(count, (_, name))| format!("{:.1} % {name}", percent(count)));
    let bounds = format!("  bounds reached: {}", bounds.collect::<Vec<_>>().join(", "));
    std::iter::once(head).chain(shares).chain([bounds]).collect::<Vec<_>>().join("\n")
}

fn failure_text(args: &Args, shrunk: &Shrunk) -> String {
    let Failure { violation, view } = &shrunk.failure;
    format!("\nFAILED\n{violation}\n\n{}\n{view}\nagain: {}", shrunk.plan, args.again(shrunk))
}

fn json_report(
    args: &Args,
    seeds: &Range<u64>,
    sweep: &Sweep,
    took: Duration,
    shrunk: Option<&Shrunk>,
) -> Value {
    let share = |count: &u64| *count as f64 / sweep.seeds.max(1) as f64;
    let shares = sweep.shares.iter().zip(SHARES);
    let shares: serde_json::Map<_, _> =
        shares.map(|(count, (name, _))| (name.replace(' ', "_"), share(count).into())).collect();
    let bounds = sweep.bounds.iter().zip(Bound::ALL);
    let bounds: serde_json::Map<_, _> =
        bounds.map(|(count, (_, name))| (name.replace(' ', "_"), share(count).into())).collect();
    json!({
        "seeds": format!("{}..{}", seeds.start, seeds.end),
        "run": sweep.seeds,
        "seconds": took.as_secs_f64(),
        "seeds_per_second": sweep.seeds as f64 / took.as_secs_f64(),
        "events": sweep.seen.events,
        "shares": shares,
        "bounds": bounds,
        "failure": shrunk.map(|shrunk| json!({
            "seed": shrunk.plan.seed,
            "expected": shrunk.failure.violation.rule.text(),
            "got": shrunk.failure.violation.got,
            "plan": shrunk.plan.to_string(),
            "view": shrunk.failure.view,
            "again": args.again(shrunk),
        })),
    })
}

/// Parses a range of seeds, such as `0..1000`: the first, and the one after the last.
///
/// # Errors
/// When the text is no range, or the range is empty.
pub fn range(text: &str) -> Result<Range<u64>, String> {
    let numbers = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match numbers {
        Some((first, end)) if first < end => Ok(first..end),
        _ => Err("must be two numbers, the first below the second: 0..1000".into()),
    }
}

fn class(name: &str) -> Result<Class, String> {
    let names = || Class::ALL.map(|(_, name)| name).join(", ");
    Class::named(name).ok_or_else(|| format!("there are {}", names()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(args: &[&str]) -> Result<Args, String> {
        let args = ["sim"].iter().chain(args);
        Ok(Cli::try_parse_from(args).map_err(|error| error.to_string())?.args)
    }

    #[test]
    fn the_command_of_a_shrunk_failure_makes_the_same_plan() {
        shrink_and_parse(&["--seed", "11", "--nodes", "5", "--without", "loss"]);
        shrink_and_parse(&["--seed", "11", "--classic"]);
    }

    fn shrink_and_parse(args: &[&str]) {
        let args = parsed(args).unwrap();
        let plan = args.plan(11);
        assert_eq!(plan.kind == sim::Kind::Classic, args.classic, "{plan}");
        let class = *plan.classes().last().unwrap();
        let violation = sim::Violation { rule: sim::Rule::Progress, got: String::new() };
        let failure = Failure { violation, view: String::new() };
        let shrunk =
            Shrunk { plan: plan.without(class).skip(0), without: vec![class], skipped: vec![0], failure };
        let again = args.again(&shrunk);
        let words: Vec<&str> = again.split(' ').skip(2).collect();
        assert_eq!(parsed(&words).unwrap().plan(11), shrunk.plan, "{again}");
    }

    /// The first seed whose plan has a partition and at least two other classes of faults.
    fn seed() -> u64 {
        let has_more = |classes: &[Class]| classes.len() > 2 && classes.contains(&Class::Partition);
        (0..).find(|seed| has_more(&Plan::draw(*seed, Some(5)).classes())).expect("seeds go on for ever")
    }

    /// A simulation in which the seed of [`seed`] breaks a rule, as long as its plan has a partition.
    fn simulate(plan: &Plan) -> Outcome {
        let breaks = plan.seed == seed() && plan.classes().contains(&Class::Partition);
        let violation = sim::Violation { rule: sim::Rule::Agreement, got: "two values".into() };
        let failure = breaks.then(|| Failure { violation, view: "node 0 learned 3".into() });
        Outcome { trace: 0, seen: Seen::default(), failure }
    }

    /// A sweep that reaches the seed of [`seed`].
    fn args(more: &[&str]) -> Args {
        let seeds = format!("0..{}", seed() + 2);
        parsed(&[&["--seeds", &seeds, "--nodes", "5"], more].concat()).unwrap()
    }

    #[test]
    fn a_failure_is_reported_small_with_its_replay_and_exit_status_1() {
        let args = args(&[]);
        let Report { text, status } = report(&args, simulate, 1).unwrap();
        assert_eq!(status, 1);
        for part in ["\nFAILED\nexpected: an instance has one", "\ngot:      two values", "node 0 learned 3"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let again = text.split("again: upaxos-node sim ").nth(1).expect("a command that shows it again");
        let again = parsed(&again.split_whitespace().collect::<Vec<_>>()).unwrap();
        let plan = again.plan(seed());
        assert_eq!((again.seed, plan.classes()), (Some(seed()), vec![Class::Partition]));
        assert!(text.contains(&plan.to_string()), "the shrunk schedule: {text}");
        assert_eq!(report(&again, simulate, 1).unwrap().status, 1);
    }

    #[test]
    fn a_failure_as_json_says_the_same() {
        let Report { text, status } = report(&args(&["--json"]), simulate, 1).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &report["failure"]["seed"]), (1, &json!(seed())));
        assert_eq!(report["failure"]["got"], json!("two values"));
        let again = format!("upaxos-node sim --seed {} --nodes 5", seed());
        assert!(report["failure"]["again"].as_str().is_some_and(|text| text.starts_with(&again)), "{text}");
    }

    #[test]
    fn without_a_failure_every_rule_held_and_the_exit_status_is_0() {
        let Report { text, status } = report(&args(&["--without", "partition"]), simulate, 1).unwrap();
        assert!(status == 0 && text.ends_with("\nevery rule held"), "{text}");
    }

    #[test]
    fn seeds_are_a_range_and_classes_have_names() {
        assert_eq!(parsed(&["--seeds", "5..7"]).unwrap().seeds, 5..7);
        assert!(parsed(&["--seeds", "7..5"]).unwrap_err().contains("0..1000"));
        assert!(parsed(&["--without", "rain"]).unwrap_err().contains("torn-write"));
    }
}
