//! The lab as users see it: the shipped labs, the command line, and the definitions for editors.

mod live;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use upaxos_lab::api::meta;

const NODE: &str = env!("CARGO_BIN_EXE_upaxos-node");

/// Runs `upaxos-node lab` in the project's folder.
fn lab(args: &[&str]) -> Output {
    Command::new(NODE).arg("lab").args(args).current_dir(root()).output().expect("the program runs")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Writes a script to a temporary folder. The script is removed with the folder.
fn script(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("test.lua");
    fs::write(&path, text).expect("a script is written");
    let path = path.to_str().expect("a path of text").to_owned();
    (folder, path)
}

fn passes_on_sim(name: &str) {
    let path = format!("scripts/labs/{name}.lua");
    let output = lab(&[&path, "--seeds", "0..4"]);
    assert!(output.status.success(), "{}", said(&output));
}

fn passes_on_raw(name: &str) {
    let path = format!("scripts/labs/{name}.lua");
    let output = lab(&[&path, "--on", "raw"]);
    if output.status.code() == Some(77) {
        return live::skip(said(&output));
    }
    assert!(output.status.success(), "{}", said(&output));
}

macro_rules! shipped {
    ($($name:ident),* $(,)?) => {
        const SHIPPED: &[&str] = &[$(stringify!($name)),*];

        mod every_shipped_lab_passes_on_sim {
            $(#[test] fn $name() { super::passes_on_sim(stringify!($name)); })*
        }

        mod every_shipped_lab_passes_on_raw {
            $(#[test] fn $name() { super::passes_on_raw(stringify!($name)); })*
        }
    };
}

shipped!(
    classic_example,
    classic_paxos,
    demo,
    disk_loss,
    exactly_once,
    first_consensus,
    hook_divergence,
    join_and_leave,
    leader_crash,
    partial_partitions,
    schedules,
    slow_disk,
    split_brain,
    storm,
    tutorial,
);

#[test]
fn labs_of_classic_groups_pass_on_udp() {
    let output = lab(&["scripts/labs/classic_paxos.lua", "--on", "udp"]);
    if output.status.code() == Some(77) {
        println!("skipped: {}", said(&output));
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
}

fn scripts(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder of the project").flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "lua"));
    paths.sort();
    paths
}

#[test]
fn every_lab_that_is_shipped_is_tried() {
    let found = scripts("scripts/labs");
    let found: BTreeSet<_> = found.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
    assert_eq!(found, SHIPPED.iter().copied().collect());
}

#[test]
fn every_shipped_lab_begins_with_what_it_teaches_and_how_it_is_played() {
    for path in scripts("scripts/labs") {
        let text = fs::read_to_string(&path).expect("a script");
        assert!(text.starts_with("-- "), "{} begins with no comment", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let command = format!("upaxos-node lab scripts/labs/{name}");
        assert!(text.contains(&command), "{} does not say `{command}`", path.display());
    }
}

#[test]
fn labs_and_hooks_are_in_the_subset_of_lua_that_all_versions_share() {
    let folders = ["scripts/labs", "scripts/labs/hooks", "scripts/hooks"];
    for path in folders.iter().flat_map(|folder| scripts(folder)) {
        let text = fs::read_to_string(&path).expect("a script");
        // Without features this parser accepts the grammar of Lua 5.1. Later versions extend it.
        if let Err(errors) = full_moon::parse(&text) {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            panic!("{}: {}", path.display(), errors.join("; "));
        }
    }
}

#[test]
fn editors_are_told_what_is_registered() {
    let path = root().join("scripts/meta/lab.lua");
    let definitions = meta::definitions();
    if std::env::var_os("UPAXOS_WRITE").is_some() {
        fs::write(&path, &definitions).expect("the definitions are written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == definitions,
        "scripts/meta/lab.lua is not what is registered; write it anew: \
         UPAXOS_WRITE=1 cargo test -p upaxos-node --test labs"
    );
}

/// The words directly after `before` in a source text, up to a quotation mark, a blank or a bracket.
fn words_behind(text: &str, before: &str) -> BTreeSet<String> {
    let rest = text.split(before).skip(1);
    let word = |rest: &str| rest.split(['"', ' ', '?', '(']).next().unwrap_or_default().to_owned();
    rest.map(word).collect()
}

#[test]
fn editors_are_told_what_hooks_can_call() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file of the project");
    let told = read("scripts/meta/hooks.lua");
    let (hooks, about) = told.split_once("---@class About").expect("the class About");
    let st = read("crates/script/src/st.rs");
    let file = read("crates/script/src/file.rs");
    let keys = file.lines().find(|line| line.starts_with("const KEYS")).expect("the keys of hooks");
    let keys: BTreeSet<String> = keys.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(words_behind(hooks, "---@field "), keys);
    assert_eq!(words_behind(about, "---@field "), words_behind(&st, "add_field_method_get(\""));
    assert_eq!(words_behind(&told, "function State:"), words_behind(&st, "add_method(\""));
    let levels = read("crates/script/src/sandbox.rs");
    let levels: BTreeSet<_> = levels.lines().filter(|line| line.contains("log::Level::")).collect();
    assert!(
        levels.iter().all(|line| words_behind(line, "(\"").is_subset(&words_behind(&told, "function log.")))
    );
}

#[test]
fn a_wrong_expectation_fails_with_the_place_both_sides_every_view_and_its_replay() {
    let (_folder, path) = script(
        "lab.test(\"it's wrong\", { nodes = 3 }, function(g)\n\
         \x20 g:write('x')\n\
         \x20 expect(g:history(1).value, 'instance 1'):equals('y')\n\
         end)\n",
    );
    let output = lab(&[&path, "--seed", "7"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "FAILED  it's wrong  (seed 7, on sim)\n",
        &format!("at:       {path}:3\n"),
        "expected: instance 1: \"y\"\n",
        "got:      \"x\"\n",
        &format!(r"again: upaxos-node lab {path} --only 'it'\''s wrong' --on sim --seed 7"),
        "1 labs on sim: 0 passed, 1 failed, 0 skipped",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    for node in 0..3 {
        assert!(text.contains(&format!("node {node}")), "no view of node {node} in\n{text}");
    }
    // The command in the report reproduces the failure.
    let again = lab(&[&path, "--only", "it's wrong", "--on", "sim", "--seed", "7"]);
    let cut = |text: &str| text.split("labs on sim").next().map(str::to_owned);
    assert_eq!(cut(&said(&again)), cut(&text));
}

#[test]
fn the_first_seed_that_fails_ends_a_sweep_and_is_named() {
    let (_folder, path) = script(
        "lab.test('from five on', { nodes = 1 }, function(g)\n\
         \x20 expect(lab.seed):below(5)\n\
         end)\n\
         lab.test('always', { nodes = 1 }, function(g) end)\n",
    );
    let output = lab(&[&path, "--seeds", "0..40"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FAILED  from five on  (seed 5, on sim)"), "{text}");
    assert!(text.contains("passed  always  (40 seeds)"), "{text}");
}

#[test]
fn as_json_every_lab_and_seed_is_one_object() {
    let (_folder, path) = script(
        "lab.test('good', {}, function(g) g:write('x') end)\n\
         lab.test('bad', {}, function(g) lab.fail('enough') end)\n\
         lab.test('not here', {}, function(g) lab.skip('rain') end)\n",
    );
    let output = lab(&[&path, "--seed", "3", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut objects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    objects.sort_by_key(|object| object["lab"].to_string());
    assert_eq!(objects.len(), 3, "{text}");
    let [bad, good, not_here] = &objects[..] else { panic!("{text}") };
    assert_eq!((&good["outcome"], &good["asked"]), (&"passed".into(), &1.into()));
    assert_eq!((&bad["failure"]["line"], &bad["failure"]["error"]), (&2.into(), &"enough".into()));
    assert_eq!((&not_here["outcome"], &not_here["reason"]), (&"skipped".into(), &"rain".into()));
}

#[test]
fn what_is_saved_is_the_wire_the_logs_and_a_report() {
    let (folder, path) = script("lab.test('A lab!', { nodes = 3 }, function(g) g:write('x') end)\n");
    let out = folder.path().join("out");
    let output = lab(&[&path, "--seed", "3", "--out", out.to_str().expect("text")]);
    assert!(output.status.success(), "{}", said(&output));
    let saved = out.join("a-lab--3");
    let report = fs::read_to_string(saved.join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("an object");
    assert_eq!(report["outcome"], "passed");
    let files: Vec<_> =
        fs::read_dir(&saved).expect("a folder").flatten().map(|file| file.file_name()).collect();
    assert!(files.len() >= 3, "{files:?}");
}

#[test]
fn what_cannot_be_loaded_or_is_not_there_is_a_usage_error() {
    let (_folder, path) = script("lab.test('x', { node = 3 }, function(g) end)\n");
    let output = lab(&[&path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("there is no option `node`; did you mean `nodes`?"), "{}", said(&output));

    let output = lab(&["no-such.lua"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("cannot read the lab script no-such.lua"), "{}", said(&output));

    let output = lab(&["scripts/labs/storm.lua", "--only", "sunshine"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no lab has \"sunshine\" in its name"), "{}", said(&output));
}

#[test]
fn labs_are_listed_and_chosen_by_name() {
    let output = lab(&["scripts/labs/schedules.lua", "--list"]);
    let text = said(&output);
    assert!(output.status.success() && text.lines().count() == 3, "{text}");
    let output = lab(&["scripts/labs/tutorial.lua", "--only", "1.", "--json"]);
    assert!(output.status.success() && said(&output).lines().count() == 1, "{}", said(&output));
}

/// The running processes that this process has started.
fn children(of: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent(*pid) == Some(of)).collect()
}

/// The parent of this process, if the process still runs.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = fields.next()? == "Z";
    fields.next().filter(|_| !is_dead)?.parse().ok()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "not in 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_is_interrupted_leaves_no_process_behind() {
    let (_folder, path) = script("lab.test('long', { nodes = 3 }, function(g) lab.sleep('120s') end)\n");
    let mut lab = Command::new(NODE);
    lab.args(["lab", &path, "--on", "udp"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut lab = lab.spawn().expect("the program runs");
    eventually("three nodes and a client run", || children(lab.id()).len() >= 4);
    let started = children(lab.id());
    let pid = Pid::from_raw(i32::try_from(lab.id()).expect("a process id"));
    kill(pid, Signal::SIGINT).expect("it is there");
    lab.wait().expect("it ends");
    eventually("nothing is left of it", || started.iter().all(|pid| parent(*pid).is_none()));
}
