//! What the tests with real processes share.

#![allow(dead_code, reason = "no test program uses all of it")]

pub mod garbage;
pub mod group;

use std::env;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use upaxos_node::hosts::{Host, Hosts, HostsError, Node};

/// Long enough for a machine that does other things at the same time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Three hosts that can be had here, for tests that do not need the network to fail.
pub fn any_hosts() -> Option<Hosts> {
    or_skip(if is_raw_required() { Hosts::raw_only(3) } else { Hosts::new(3) })
}

/// The hosts, or nothing with a word of why; where `UPAXOS_REQUIRE=raw` that is a failure.
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

/// Says that this test, or the rest of it, is skipped, and why; where `UPAXOS_REQUIRE=raw` that is a failure.
///
/// What a test prints is shown only if it fails. This goes past that: a test that passes because it was skipped
/// says so.
pub fn skip(why: impl Display) {
    assert!(!is_raw_required(), "UPAXOS_REQUIRE=raw, but: {why}");
    say_skipped(why);
}

/// The same for a part that nobody demands.
pub fn say_skipped(why: impl Display) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    writeln!(io::stderr(), "skipped: {test}: {why}").expect("standard error can be written");
}

/// Whether whoever runs the tests demands that all of them run.
pub fn is_raw_required() -> bool {
    env::var("UPAXOS_REQUIRE").is_ok_and(|what| what == "raw")
}

/// The folder of the built programs, `upaxos-send` and `upaxos-repl` among them: they belong to other
/// packages, so cargo is asked for them.
pub fn programs() -> PathBuf {
    let folder = PathBuf::from(group::NODE).parent().expect("a program is in a folder").to_owned();
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

/// Waits until `holds`, which is asked again and again.
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

/// The running test program once more, on `host`, as its ignored test `role`.
pub fn oneself(hosts: &Hosts, host: impl Into<Host>, role: &str) -> Node {
    let program = env::current_exe().expect("a test has a path");
    let args = ["--exact", role, "--ignored", "--nocapture"];
    let plan = Node::on(hosts, host, program).args(args);
    plan.start().expect("the test program starts again")
}
