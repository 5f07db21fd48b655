//! Claims about the store on a real directory. Killed at any moment, it opens with nothing lost. Neither memory nor
//! start-up time grows with the history.
//!
//! `cargo test --release -p upaxos-node --test live_store -- --ignored --nocapture` fills a directory with ten
//! million instances and prints the cost.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use upaxos_core::past::{Past, Source};
use upaxos_core::record::Record;
use upaxos_core::types::{Instance, Value};
use upaxos_core::wire::Dialect;
use upaxos_storage::disk::{Disk, Options, Wanted};

/// In the environment of a child: the directory that the child fills until it is killed.
const FILLS: &str = "UPAXOS_STORE_FILLS";

const WANTED: Wanted = Wanted { id: 1, n: 3, incarnation_if_new: 99, dialect: Dialect::Extended, name: None };

/// A node that learns each value as soon as it gets it.
#[derive(Default)]
struct Learner {
    forgotten: Instance,
    values: VecDeque<Value>,
}

impl Learner {
    fn learned(&self) -> Instance {
        Instance(self.forgotten.0 + self.values.len() as u64)
    }

    fn take(&mut self, record: &Record) {
        match record {
            Record::Checkpoint { learned, .. } => self.forgotten = *learned,
            Record::Learn { instance, value } => {
                assert_eq!(*instance, self.learned().next(), "values follow each other");
                assert_eq!(*value, value_of(*instance));
                self.values.push_back(value.clone());
            }
            _ => {}
        }
    }

    fn forget(&mut self, through: Instance) {
        self.values.drain(..through.0.saturating_sub(self.forgotten.0) as usize);
        self.forgotten = self.forgotten.max(through);
    }
}

impl Source for Learner {
    fn checkpoint(&self) -> (Instance, Vec<Record>) {
        (self.learned(), vec![Record::Member; 20])
    }

    fn learned(&self) -> Instance {
        Learner::learned(self)
    }

    fn past(&self, first: Instance, last: Instance) -> Vec<Past> {
        let value = |instance: Instance| self.values[(instance.0 - self.forgotten.0 - 1) as usize].clone();
        let past = |instance| Past { instance, value: value(instance), void: None };
        (first.0..=last.0).map(Instance).map(past).collect()
    }
}

fn value_of(instance: Instance) -> Value {
    Value::from(format!("{instance:016}").as_str())
}

fn open(dir: &Path, options: &Options) -> (Disk, Learner) {
    let mut learner = Learner::default();
    let opened = Disk::open(dir, &WANTED, options, &mut |found| {
        learner.take(&found.record().map_err(|error| error.to_string())?);
        Ok(())
    });
    let disk = opened.expect("a kill leaves no damage").disk;
    learner.forget(disk.compacted());
    (disk, learner)
}

fn learn(disk: &mut Disk, learner: &mut Learner, count: u64) {
    for _ in 0..count {
        let instance = learner.learned().next();
        let record = Record::Learn { instance, value: value_of(instance) };
        learner.take(&record);
        disk.append_with(|batch| record.encode(batch));
    }
    disk.commit(learner).expect("commits");
    learner.forget(disk.compacted());
}

fn check_history(disk: &Disk) {
    let compacted = disk.compacted();
    let past = disk.past(Instance(1), compacted, usize::MAX).expect("the history is whole");
    assert!(past.iter().map(|past| past.instance).eq((1..=compacted.0).map(Instance)));
    assert!(past.iter().all(|past| past.value == value_of(past.instance)));
}

/// Fills the directory until the process is killed. Prints what is durable after each commit.
fn fill(dir: &Path) {
    let (mut disk, mut learner) = open(dir, &Options { segment_bytes: 4096 });
    check_history(&disk);
    println!("durable {}", learner.learned());
    for count in (1..=5).cycle() {
        learn(&mut disk, &mut learner, count);
        println!("durable {}", learner.learned());
        std::io::stdout().flush().expect("the parent listens");
    }
}

#[test]
fn a_store_killed_at_any_moment_opens_with_nothing_lost() {
    if let Some(dir) = env::var_os(FILLS) {
        return fill(Path::new(&dir));
    }
    let parent = TempDir::new().expect("a temporary directory");
    let dir = parent.path().join("data");
    let mut durable = 0;
    for round in 0..40 {
        let mut child = Command::new(env::current_exe().expect("a test has a path"))
            .args(["a_store_killed_at_any_moment_opens_with_nothing_lost", "--exact", "--nocapture"])
            .env(FILLS, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut first = None;
        let mut after = 3 + round * 13 % 97;
        // A line that the kill cut short does not parse.
        let said = |line: String| line.strip_prefix("durable ")?.parse::<u64>().ok();
        for learned in lines.map_while(Result::ok).filter_map(said) {
            first.get_or_insert(learned);
            assert!(learned >= durable, "{learned} after {durable}: something was lost");
            durable = learned;
            after -= 1;
            if after == 0 {
                child.kill().expect("SIGKILL");
            }
        }
        child.wait().expect("it is dead");
        assert!(first.is_some(), "round {round}: it did not open");
    }
    let (disk, learner) = open(&dir, &Options { segment_bytes: 4096 });
    check_history(&disk);
    assert!(learner.learned().0 >= durable);
    assert!(disk.compacted().0 > durable / 2, "{} of {durable}", disk.compacted());
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

#[test]
#[ignore = "takes minutes and half a gigabyte of disk"]
fn ten_million_instances_cost_neither_memory_nor_time_to_start() {
    const COUNT: u64 = 10_000_000;
    let parent = TempDir::new().expect("a temporary directory");
    let dir = parent.path().join("data");
    let began = Instant::now();
    let (mut disk, mut learner) = open(&dir, &Options::default());
    let mut most = 0;
    while learner.learned().0 < COUNT {
        learn(&mut disk, &mut learner, 2_000);
        if learner.learned().0.is_multiple_of(100_000) {
            most = most.max(resident_mib());
        }
    }
    println!("filled in {:?}, {most} MiB resident at most", began.elapsed());
    drop(disk);
    let began = Instant::now();
    let (disk, learner) = open(&dir, &Options::default());
    println!("opened in {:?}; in history up to {}", began.elapsed(), disk.compacted());
    assert!(began.elapsed().as_secs() < 5 && most < 200);
    assert_eq!(learner.learned().0, COUNT);
    for instance in [5_000_000, 1, 9_000_000, 5_000_001].map(Instance) {
        let began = Instant::now();
        let found = disk.past(instance, instance, 1).expect("reads");
        println!("instance {instance} in {:?}", began.elapsed());
        assert_eq!(found[0].value, value_of(instance));
    }
    let began = Instant::now();
    let some = disk.past(Instance(3_000_000), Instance(3_004_095), 256 << 10).expect("reads");
    println!("{} instances from 3,000,000 on in {:?}", some.len(), began.elapsed());
}
