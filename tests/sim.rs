//! The simulated group: no seed breaks a rule, and a seed runs identically in every process.
//!
//! `UPAXOS_SEEDS=0..5000 cargo test --release -p upaxos-sim --test sim` runs more seeds. `upaxos-node sim` does the
//! same with more comfort. `tests/traces.txt` has the trace hashes of seeds 0..2000, one per line. A change that
//! must not alter any behaviour leaves them as they are (`scripts/compare-traces.sh` compares them all). A change
//! that alters what a node does records them again with `scripts/compare-traces.sh --record`.

use std::num::NonZero;
use std::ops::Range;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use upaxos_core::replica::Limits;
use upaxos_core::types::Micros;
use upaxos_sim::fault_plan::{Fault, LEADER, Planned, Rates};
use upaxos_sim::{self as sim, Failure, Kind, Outcome, Plan};

/// The environment variable that makes a child process of this test program print only hashes.
const HASHES_OF: &str = "UPAXOS_SIM_HASHES_OF";

fn seeds() -> Range<u64> {
    let text = std::env::var("UPAXOS_SEEDS").unwrap_or_else(|_| "0..300".into());
    let (first, end) = text.split_once("..").expect("UPAXOS_SEEDS is FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

/// The trace hash of each seed, in order of the seeds.
///
/// # Panics
/// On the first violation in a thread.
fn traces(seeds: Range<u64>) -> Vec<u64> {
    let next = AtomicU64::new(seeds.start);
    let traces = Mutex::new(vec![0; (seeds.end - seeds.start) as usize]);
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end) {
            let plan = Plan::draw(seed, None);
            let Outcome { trace, failure, .. } = sim::run(&plan);
            if let Some(Failure { violation, view }) = failure {
                panic!("{violation}\n{plan}{view}\nagain: upaxos-node sim --seed {seed}");
            }
            traces.lock().expect("no thread panics with the lock")[(seed - seeds.start) as usize] = trace;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    traces.into_inner().expect("no thread panics with the lock")
}

/// The file of recorded trace hashes, from seed 0 on.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/traces.txt");

#[test]
fn no_seed_breaks_a_rule_and_each_happens_as_recorded() {
    let seeds = seeds();
    let traces = traces(seeds.clone());
    let lines = traces.iter().map(|trace| format!("{trace:016x}"));
    if std::env::var_os("UPAXOS_RECORD").is_some() {
        assert_eq!(seeds.start, 0, "recorded traces begin with seed 0");
        let text: String = lines.map(|line| line + "\n").collect();
        std::fs::write(RECORDED, text).expect("tests/traces.txt can be written");
        return;
    }
    let recorded = std::fs::read_to_string(RECORDED).expect("tests/traces.txt can be read");
    let recorded = recorded.lines().skip(seeds.start as usize);
    let other: Vec<u64> = seeds
        .zip(lines.zip(recorded))
        .filter(|(_, (got, recorded))| got != recorded)
        .map(|(seed, _)| seed)
        .collect();
    assert!(
        other.is_empty(),
        "{} seeds happen otherwise than recorded: {:?} …\nif nodes are to do something else now, record them with \
         scripts/compare-traces.sh --record, and say why in the commit",
        other.len(),
        &other[..other.len().min(10)],
    );
}

fn hashes() -> String {
    let hash = |seed| format!("trace {:016x}", sim::run(&Plan::draw(seed, None)).trace);
    (0..6).map(hash).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_seed_happens_the_same_way_in_every_process() {
    if std::env::var_os(HASHES_OF).is_some() {
        println!("\n{}", hashes());
        return;
    }
    let child = || {
        let program = std::env::current_exe().expect("this test program");
        let name = "a_seed_happens_the_same_way_in_every_process";
        let output =
            Command::new(program).args([name, "--exact", "--nocapture"]).env(HASHES_OF, "1").output();
        let text = String::from_utf8(output.expect("a child runs").stdout).expect("text");
        text.lines().filter(|line| line.starts_with("trace ")).collect::<Vec<_>>().join("\n")
    };
    let here = hashes();
    assert_eq!(here, child());
    assert_eq!(here, child());
    let mut distinct: Vec<&str> = here.lines().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 6, "different seeds happen differently");
}

/// A group of one admits four nodes and lets two leave, while clients write and read, and 10 % of all datagrams are
/// lost. The checkers find no lost or duplicate write, and all joiners read the same history.
#[test]
fn a_group_grows_from_one_to_five_and_shrinks_to_three_under_load_and_loss() {
    let enter = || Fault::Enter { replaces: None };
    let faults = vec![
        at(50, enter()),
        at(350, enter()),
        at(700, enter()),
        at(1_050, enter()),
        at(1_700, Fault::Leave { node: 1 }),
        at(2_300, Fault::Leave { node: LEADER }),
    ];
    let mut joined = 0;
    for seed in 0..30 {
        let rates = Rates { loss: 100_000, ..Rates::default() };
        let plan = Plan {
            kind: Kind::Chaos,
            joiners: 4,
            peace: Micros::from_millis(500),
            chaos: Micros::from_millis(3_000),
            events: 20_000,
            beat: Micros::from_millis(100),
            think: Micros::from_millis(150),
            rates,
            skew: vec![0; 5],
            fast_read: vec![false; 5],
            faults: faults.clone(),
            ..Plan::draw(seed, Some(1))
        };
        let outcome = sim::run(&plan);
        if let Some(failure) = outcome.failure {
            panic!("seed {seed}: {}\n{}", failure.violation, failure.view);
        }
        assert_eq!(outcome.seen.joins, 4, "seed {seed}");
        joined += u64::from(outcome.seen.leaves == 2);
    }
    // A leader that ends after its own leave, or a leave that is refused during another change, may result in four
    // members.
    assert!(joined > 20, "of 30 runs, {joined} ended with three members");
}

/// A plan of three nodes with only these faults.
fn plan_with(seed: u64, joiners: u16, faults: Vec<Planned>) -> Plan {
    let all = usize::from(3 + joiners);
    Plan {
        kind: Kind::Chaos,
        joiners,
        peace: Micros::from_millis(300),
        chaos: Micros::from_millis(2_500),
        events: 20_000,
        beat: Micros::from_millis(30),
        think: Micros::from_millis(60),
        open: Plan::OPEN,
        limits: Limits::USUAL,
        rates: Rates::default(),
        skew: vec![0; all],
        fast_read: vec![false; all],
        scripted: false,
        stray: None,
        faults,
        ..Plan::draw(seed, Some(3))
    }
}

fn at(ms: u64, fault: Fault) -> Planned {
    Planned { number: 0, at: Micros::from_millis(ms), fault }
}

/// A joiner that asks for a place that never existed is refused. It cannot ask for its own place.
#[test]
fn who_joins_in_a_place_that_never_was_ends_and_the_group_goes_on() {
    for seed in 0..4 {
        let faults = [3, 5].map(|old| at(50, Fault::Enter { replaces: Some(old) }));
        let outcome = sim::run(&plan_with(seed, 3, faults.to_vec()));
        assert!(outcome.failure.is_none(), "seed {seed}: {:?}", outcome.failure);
        assert_eq!((outcome.seen.joins, outcome.seen.refusals), (2, 1), "seed {seed}");
    }
}

/// The disk of node 0 is rolled back. The only peer that it then meets has been away since the copy.
fn rolled_back(seed: u64, has_lived_between: bool) -> Plan {
    let away = |node, ms| Fault::Absence { node, down: Micros::from_millis(ms) };
    let mut faults = vec![at(100, Fault::CopyDisk { node: 0 }), at(100, away(2, 900))];
    if has_lived_between {
        faults.push(at(300, away(0, 5)));
    }
    faults.push(at(1_000, Fault::RollBack { node: 0, down: Micros::from_millis(5) }));
    faults.push(at(1_000, away(1, 1_000)));
    plan_with(seed, 0, faults)
}

#[test]
fn a_disk_that_was_rolled_back_is_barred_or_the_split_that_it_makes_is_found() {
    let (mut barred, mut splits, mut stopped) = (0, 0, 0);
    for seed in 0..24 {
        let outcome = sim::run(&rolled_back(seed, seed % 2 == 0));
        assert!(outcome.failure.is_none(), "seed {seed}: {:?}", outcome.failure);
        assert_eq!(outcome.seen.rolled_back, 1, "seed {seed}");
        barred += outcome.seen.barred;
        splits += outcome.seen.splits;
        stopped += outcome.seen.stopped;
    }
    assert!(barred > 6 && splits > 6 && stopped > 6, "{barred} barred, {splits} splits, {stopped} ended");
}
