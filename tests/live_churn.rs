//! Five nodes over raw IP, with all faults of operators and networks in turns, while clients write and read. No
//! acknowledged write is lost. After each turn the group answers at once.
//!
//! `UPAXOS_CHURN=2400` runs for so many seconds. `UPAXOS_SEED` repeats the turns of a run.

mod churn;
mod live;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use upaxos_core::types::{Instance, Value};
use upaxos_testbed::hosts::{Client, Hosts};

use churn::faults::{Kind, Turn};
use churn::group::{Churned, in_words};
use churn::judge::Common;
use churn::tale::{Tale, Told};
use churn::{Chance, Outcome};
use live::group::{NODE, PATIENCE};
use live::or_skip;

/// For how many seconds new turns begin in the gate, and from which seed.
const SECONDS: u64 = 16;
const SEED: u64 = 7;

/// Hosts for the most members, and for one dead node.
const HOSTS: usize = 8;

/// How many clients send requests.
const CLIENTS: usize = 4;

/// How long a client waits for one answer.
const TIMEOUT: &str = "8s";

/// After a turn: how long the group has to settle, how long it is probed, and how long a probe may take.
const SETTLE: Duration = Duration::from_secs(2);
const PROBED: Duration = Duration::from_secs(1);
const PROMPT: Duration = Duration::from_secs(3);

/// The most memory that a node may hold in the end, in bytes.
const MOST_RESIDENT: u64 = 48 << 20;

/// The results of a run so far.
#[derive(Default)]
struct Run {
    seed: u64,
    turns: Vec<String>,
    probes: usize,
    /// The longest time that a probe took.
    longest: Duration,
    /// The longest time after a turn until all nodes were back, or a change was made.
    longest_return: Duration,
    /// The resident memory of each node in the end, in KiB.
    resident: Vec<(usize, u64)>,
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: no number: {text}")))
}

fn seed() -> u64 {
    let by_hand = number("UPAXOS_CHURN").is_some();
    number("UPAXOS_SEED")
        .unwrap_or_else(|| if by_hand { getrandom::u64().expect("a number") >> 32 } else { SEED })
}

fn client(group: &Churned) -> Outcome<Client> {
    Client::start(&group.hosts, NODE, &["--timeout", TIMEOUT]).map_err(in_words)
}

impl Run {
    /// Runs the turns, each followed by a quiet time, until the time is over.
    fn take_turns(&mut self, group: &mut Churned, tale: &Tale, seconds: u64) -> Outcome {
        let (begin, mut chance) = (Instant::now(), Chance(self.seed));
        let (mut prober, mut bag) = (client(group)?, Vec::new());
        self.probe(&mut prober, tale, Duration::from_secs(60))?;
        while begin.elapsed() < Duration::from_secs(seconds) {
            // Every kind comes once before any kind is repeated.
            if bag.is_empty() {
                bag = chance.shuffled(Kind::ALL.to_vec());
            }
            let kind = bag.pop().expect("it was filled");
            let turn = Turn::draw(kind, group.members.len(), &mut chance);
            let what = format!("turn {} at {:.1?}: {turn}", self.turns.len() + 1, begin.elapsed());
            eprintln!("{what}, members {:?}", group.ids());
            self.turns.push(what);
            // With a separate stream of random numbers, so that the turn's length changes no later turn.
            let took = turn.take(group, tale, &mut chance.split())?;
            self.longest_return = self.longest_return.max(took);
            eprintln!("  all are there again after {took:.1?}");
            sleep(SETTLE);
            let until = Instant::now() + PROBED;
            while Instant::now() < until {
                self.probe(&mut prober, tale, PROMPT)?;
                sleep(Duration::from_millis(100));
            }
            group.check_health()?;
            tale.complaint()?;
        }
        Ok(())
    }

    /// Sends a write that must be answered within `most`.
    fn probe(&mut self, prober: &mut Client, tale: &Tale, most: Duration) -> Outcome {
        self.probes += 1;
        let (name, asked) = (format!("p-{}-10", self.probes), Instant::now());
        let mut took = tale.write(prober, name.clone())?;
        // The first probe comes before the group is ready.
        while took.is_none() && asked.elapsed() < most {
            self.probes += 1;
            took = tale.write(prober, format!("p-{}-10", self.probes))?;
        }
        let took = took.ok_or_else(|| format!("{name} was not answered in {:?}", asked.elapsed()))?;
        if most == PROMPT {
            self.longest = self.longest.max(took);
        }
        if took > most { Err(format!("{name} took {took:?} with no fault")) } else { Ok(()) }
    }

    /// Checks that all members have learned all, that no node holds too much memory, and that all exit when told.
    fn finish(&mut self, group: &mut Churned, told: &Told) -> Outcome {
        let line = format!("learned {} {}", group.members.len(), told.highest);
        let until = Instant::now() + PATIENCE;
        while !group.operator.call(&line, PATIENCE).map_err(in_words)?.text.starts_with("learned") {
            if Instant::now() > until {
                return Err(format!("not in {PATIENCE:?}: {line}"));
            }
        }
        for (id, member) in &group.members {
            self.resident.push((*id, member.node.resident().map_err(in_words)? / 1024));
        }
        if self.resident.iter().any(|(_, kib)| kib * 1024 > MOST_RESIDENT) {
            return Err(format!("a node holds too much memory (KiB): {:?}", self.resident));
        }
        for id in group.ids() {
            group.node(id).terminate();
            group.wait_for_end(id, &[(0, "")])?;
        }
        group.check_words()
    }

    fn judge(&self, group: &Churned, told: &Told) -> Outcome<u64> {
        group.room.copy_to(&group.hosts, &group.hosts.node_dir(churn::group::CRAMPED))?;
        let mut common = Common::default();
        for id in group.members.keys().chain(group.gone.keys()) {
            let log = group.hosts.values(*id).map_err(in_words)?;
            let is_behind = log.last_key_value().map_or(0, |(at, _)| at.0) < told.highest;
            if is_behind && group.members.contains_key(id) {
                return Err(format!("node {id} lacks an acknowledged write"));
            }
            common.take(*id, &log)?;
        }
        common.judge(told)?;
        Ok(common.end())
    }
}

fn churn(run: &mut Run, group: &mut Churned, tale: &Tale, seconds: u64) -> Outcome<u64> {
    let clients = (0..CLIENTS).map(|_| client(group)).collect::<Outcome<Vec<_>>>()?;
    let mut chance = Chance(run.seed ^ 0xc11e);
    thread::scope(|scope| {
        for (number, client) in clients.into_iter().enumerate() {
            let chance = chance.split();
            scope.spawn(move || tale.run(&format!("w{number}"), client, chance));
        }
        let churn = AssertUnwindSafe(|| run.take_turns(group, tale, seconds));
        let outcome = catch_unwind(churn).unwrap_or_else(|_| Err("the churn itself panicked".into()));
        tale.end();
        outcome
    })?;
    tale.complaint()?;
    let told = tale.told();
    run.finish(group, &told)?;
    run.judge(group, &told)
}

#[test]
fn a_group_under_churn_loses_nothing_and_answers_at_once_when_it_is_over() {
    let (seed, seconds) = (seed(), number("UPAXOS_CHURN").unwrap_or(SECONDS));
    let Some(hosts) = or_skip(Hosts::switched(HOSTS, seed)) else { return };
    eprintln!("seed {seed}");
    let mut group = Churned::start(hosts).unwrap_or_else(|error| panic!("{error}"));
    let (mut run, tale) = (Run { seed, ..Run::default() }, Tale::default());
    let outcome = churn(&mut run, &mut group, &tale, seconds);
    let told = tale.told();
    let end = outcome.unwrap_or_else(|error| {
        panic!("{}\n{error}\nUPAXOS_SEED={seed}\n{}", group.logs(), run.turns.join("\n"))
    });
    eprintln!(
        "seed {seed}: {} turns, {end} instances, {} writes, {} acknowledged, {} reads, {} of history, {} outcomes \
         unknown; the longest of {} probes took {:?}, the longest change {:?} after its turn; resident in KiB: {:?}",
        run.turns.len(),
        told.asked.len(),
        told.acknowledged.len(),
        told.seen.len(),
        told.history,
        told.unknown,
        run.probes,
        run.longest,
        run.longest_return,
        run.resident
    );
}

/// The verdict of the checkers on this log, after a write of `a-10` at 1 and a read up to 2 that was answered
/// `read`.
fn judged(log: &[&str], read: &str) -> Outcome {
    let mut told = Told::default();
    told.asked.extend(["a-10", "b-10"].map(str::to_owned));
    told.acknowledged.insert(1, "a-10".into());
    told.seen.push(churn::tale::Seen { up_to: 2, at: None, name: (!read.is_empty()).then(|| read.into()) });
    let whole = |name: &&str| Value::from(churn::tale::value(name).expect("a name").as_str());
    let mut common = Common::default();
    common.take(0, &(1..).map(Instance).zip(log.iter().map(whole)).collect())?;
    common.judge(&told)
}

#[test]
fn the_judges_of_the_churn_notice_what_they_are_there_for() {
    assert_eq!(judged(&["a-10", "b-10"], "b-10"), Ok(()));
    assert!(judged(&["b-10", "a-10"], "a-10").is_err(), "a write at another instance than acknowledged");
    assert!(judged(&["a-10", "b-10"], "a-10").is_err(), "a stale read");
    assert!(judged(&["a-10", "b-10"], "").is_err(), "a read of nothing");
    assert!(judged(&["a-10", "a-10"], "a-10").is_err(), "a write that took effect twice");
    assert!(judged(&["a-10", "c-10"], "c-10").is_err(), "a write that no client asked for");
    let log = |last: &str| -> std::collections::BTreeMap<Instance, Value> {
        (1..).map(Instance).zip(["x-1", last].map(Value::from)).collect()
    };
    let mut common = Common::default();
    assert_eq!(common.take(0, &log("y-1")), Ok(()));
    assert!(common.take(1, &log("z-1")).is_err(), "two logs");
    let hole = log("y-1").split_off(&Instance(2));
    assert!(common.take(2, &hole).is_err(), "a hole");
}
