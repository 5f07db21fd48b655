//! The simulated group: no seed breaks a rule, and a seed happens the same way wherever it runs.
//!
//! `UPAXOS_SEEDS=0..5000 cargo test --release -p upaxos-core --test sim` looks at more; `upaxos-node sim`
//! does it with all comfort.

use std::ops::Range;
use std::process::Command;

use upaxos_core::sim::{self, Plan};

/// A run of the test program that only prints hashes, in a process of its own.
const HASHES_OF: &str = "UPAXOS_SIM_HASHES_OF";

fn seeds() -> Range<u64> {
    let text = std::env::var("UPAXOS_SEEDS").unwrap_or_else(|_| "0..200".into());
    let (first, end) = text.split_once("..").expect("UPAXOS_SEEDS is FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn no_seed_breaks_a_rule() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let failed = |part: u64| {
        let plans = seeds().filter(move |seed| seed % threads == part).map(|seed| Plan::draw(seed, None));
        plans.filter_map(|plan| Some((sim::run(&plan).failure?, plan))).next()
    };
    let failed = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|part| scope.spawn(move || failed(part))).collect();
        parts.into_iter().filter_map(|part| part.join().expect("runs catch panics")).next()
    });
    if let Some((failure, plan)) = failed {
        panic!("{}\n{plan}{}\nagain: upaxos-node sim --seed {}", failure.violation, failure.view, plan.seed);
    }
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
