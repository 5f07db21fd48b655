//! The parts that the tests with real processes share.

#![allow(dead_code, reason = "no test program uses all of it")]

pub mod garbage;
pub mod group;

use std::env;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use upaxos_testbed::hosts::{Host, Hosts, HostsError, Node};

/// How long a condition may take. Long enough for a machine that is busy with other work.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Three hosts of any kind that is possible here, for tests without network faults.
pub fn any_hosts() -> Option<Hosts> {
    or_skip(if is_raw_required() { Hosts::raw_only(3) } else { Hosts::new(3) })
}

/// Returns the hosts. Where no hosts are possible it prints why and returns `None`; with `UPAXOS_REQUIRE=raw` it
/// fails.
pub fn or_skip(hosts: Result<Hosts, HostsError>) -> Option<Hosts> {
    match hosts {
        Ok(hosts) => Some(hosts),
        Err(error @ HostsError::NoGround { .. }) => {
            skip(&error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Prints that this test, or the rest of it, is skipped, and why. With `UPAXOS_REQUIRE=raw` it fails.
///
/// The test harness hides what a passing test prints. This function writes to standard error directly, and to the
/// file that `UPAXOS_SKIPS` names, so that a skipped test is visible.
pub fn skip(why: impl Display) {
    assert!(!is_raw_required(), "UPAXOS_REQUIRE=raw, but: {why}");
    say_skipped(why);
}

/// Prints the same for an optional part. It never fails.
pub fn say_skipped(why: impl Display) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    let line = format!("skipped: {test}: {why}\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
    if let Some(path) = env::var_os("UPAXOS_SKIPS") {
        let mut file = File::options().append(true).open(path).expect("the file opens");
        file.write_all(line.as_bytes()).expect("the file can be written");
    }
}

/// Whether the environment demands that no test is skipped.
pub fn is_raw_required() -> bool {
    env::var("UPAXOS_REQUIRE").is_ok_and(|what| what == "raw")
}

/// The folder of the built programs, with `upaxos-send` and `upaxos-repl`. They belong to other packages, so this
/// function builds them with cargo, unless `UPAXOS_PROGRAMS=built` says that the whole workspace is built.
pub fn programs() -> PathBuf {
    let folder = PathBuf::from(group::NODE).parent().expect("a program is in a folder").to_owned();
    if env::var("UPAXOS_PROGRAMS").is_ok_and(|state| state == "built") {
        return folder;
    }
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "-p", "upaxos-send", "-p", "upaxos-repl", "--target-dir"]);
    build.arg(folder.parent().expect("of a target folder"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "cannot build upaxos-send and upaxos-repl");
    folder
}

/// Waits until `holds` returns true. It checks every 5 ms.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The fields of `/proc/PID/stat` after the command's name: state, parent, group, …
pub fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Starts the running test program once more, on `host`. It runs its ignored test `role`.
pub fn oneself(hosts: &Hosts, host: impl Into<Host>, role: &str) -> Node {
    let program = env::current_exe().expect("a test has a path");
    let args = ["--exact", role, "--ignored", "--nocapture"];
    let plan = Node::on(hosts, host, program).args(args);
    plan.start().expect("the test program starts again")
}
