//! Claims about scripts in groups of real processes.

mod live;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use upaxos_testbed::hosts::{Answer, Client, Hosts};

use live::any_hosts;
use live::group::{Group, Load, PATIENCE, plan_with};

/// Counts the values, and remembers about the last hundred.
const COUNTS: &str = "return {
  apply = function(st, value)
    local count = st:add('count', 1)
    st:set('last ' .. count % 100, value)
    if count % 7 == 0 then error('one in seven') end
  end,
  read = function(st, at) return tostring(st:get('count')) end,
}";

/// The value says which hostile action the hook takes.
const HOSTILE: &str = "
local function act(value)
  if value == 'loop' then while true do end
  elseif value == 'pcall' then while true do pcall(function() while true do end end) end
  elseif value == 'pattern' then return (('('):rep(50000)):find('%b()')
  elseif value == 'memory' then local s = 'x' for i = 1, 60 do s = s .. s end
  elseif value == 'stack' then local function f() return 1 + f() end return f() end
end
";

struct Scripts(TempDir);

impl Scripts {
    fn new() -> Scripts {
        Scripts(tempfile::tempdir().expect("a folder"))
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a script is written");
        path
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/hooks").join(name)
}

/// Starts three nodes, each with its script.
fn start(hosts: Hosts, script: impl Fn(usize) -> PathBuf) -> Group {
    let start = |index: usize| {
        let script = script(index);
        let flags =
            ["-n", "3", "-i", &index.to_string(), "--script", script.to_str().expect("a path of text")];
        plan_with(&hosts, index, &flags).start().expect("a node starts")
    };
    let nodes = (0..3).map(start).collect();
    Group { nodes, hosts }
}

fn call(client: &mut Client, line: &str) -> Answer {
    client.call(line, PATIENCE).expect("an answer")
}

/// Writes a value, and returns its instance.
fn write(client: &mut Client, value: &str) -> u64 {
    let answer = call(client, &format!("Request 0 {value}"));
    answer.chosen().unwrap_or_else(|| panic!("{value}: {}", answer.text)).0
}

/// Stops a node cleanly, and returns the digest line of its script.
fn last_digest(group: &mut Group, index: usize) -> String {
    group.nodes[index].terminate();
    let line = group.wait_end(index, 0, "has computed up to");
    line.split_once("has computed ").expect("as awaited").1.to_owned()
}

#[test]
fn ten_thousand_values_and_crashes_end_with_equal_digests() {
    let Some(hosts) = any_hosts() else { return };
    let scripts = Scripts::new();
    let path = scripts.put("counts.lua", COUNTS);
    let mut group = start(hosts, |_| path.clone());
    let mut client = group.client();
    let mut watcher = group.client();
    group.leader(&mut client);
    let mut load = Load::default();
    for round in 0..10 {
        load.ask(&mut client, 1_000);
        // Sometimes the leader, otherwise the nodes in turn.
        let victim = if round % 3 == 0 { group.leader(&mut watcher) } else { round % 3 };
        group.nodes[victim].kill9();
        std::thread::sleep(Duration::from_millis(50));
        group.nodes[victim].start().expect("a node starts");
        load.take_all(&group, &client);
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
    let counted = call(&mut client, "fast query count");
    let count: f64 = counted.text.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0.0);
    // Every seventh `apply` fails and is undone. So the count stays at six and never passes it.
    assert!(count >= 6.0, "{counted:?}");
    write(&mut client, "the last one");
    let highest = write(&mut client, "the very last one");
    group.learned(&mut client, 3, highest);
    let digests: Vec<String> = (0..3).map(|index| last_digest(&mut group, index)).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}\n{}", group.logs());
    assert!(!group.logs().contains("DIVERGES"), "{}", group.logs());
}

#[test]
fn a_script_that_diverges_is_reported_with_its_instance_and_the_odd_one_out_ends() {
    let Some(hosts) = any_hosts() else { return };
    let scripts = Scripts::new();
    // The script keeps state outside of `st`. Only the leader's `request` is called.
    let text = "local seen = 0
        return { request = function(value) seen = seen + 1 return value end,
          apply = function(st, value) st:set('last', value == 'probe' and seen or 0) end }";
    let path = scripts.put("impure.lua", text);
    let mut group = start(hosts, |_| path.clone());
    let mut client = group.client();
    let leader = group.leader(&mut client);
    (0..20).for_each(|count| _ = write(&mut client, &format!("value {count}")));
    let probe = write(&mut client, "probe");
    let others: Vec<usize> = (0..3).filter(|id| *id != leader).collect();
    let text = format!(
        "has computed something else here than at nodes {},{}, from instance {probe} on",
        others[0], others[1]
    );
    group.wait_end(leader, 1, &text);
    for other in others {
        let told =
            format!("script impure DIVERGES: node {leader} has computed something else at instance {probe}");
        group.nodes[other].wait_for_line(&told, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    }
    write(&mut client, "on without it");
}

#[test]
fn hostile_requests_are_refused_while_votes_go_on() {
    let Some(hosts) = any_hosts() else { return };
    let scripts = Scripts::new();
    let path = scripts
        .put("hostile.lua", &format!("{HOSTILE} return {{ request = function(v) act(v) return v end }}"));
    let group = start(hosts, |_| path.clone());
    let mut client = group.client();
    group.leader(&mut client);
    write(&mut client, "before");
    for round in 0..5 {
        for (value, rules) in [
            // On a busy machine the time limit may be reached before the limits on steps or memory.
            ("loop", ["rule: a call takes at most"; 2]),
            ("pcall", ["rule: a call takes at most"; 2]),
            ("pattern", ["rule: a call takes at most"; 2]),
            ("memory", ["rule: a call asks for at most", "rule: a call takes at most"]),
            ("stack", ["stack overflow", "rule: a call takes at most"]),
        ] {
            let began = Instant::now();
            let (bad, good) = (format!("Request 0 {value}"), format!("Request 0 good {round} {value}"));
            let (bad, good) = (client.ask(&bad).expect("it runs"), client.ask(&good).expect("it runs"));
            for _ in 0..2 {
                let answer =
                    client.next(PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", group.logs()));
                if answer.number == bad {
                    let is_named = rules.iter().any(|rule| answer.text.contains(rule));
                    assert!(is_named && answer.text.contains("hostile.lua:"), "{answer:?}");
                }
                assert!(answer.number != good || answer.chosen().is_some(), "{answer:?}");
            }
            assert!(began.elapsed() < Duration::from_secs(2), "{value} held the group up");
        }
    }
    assert!(!group.logs().contains("steps down"), "{}", group.logs());
}

#[test]
fn hostile_applies_are_undone_alike_while_votes_go_on_and_memory_ends_the_node_alone() {
    let Some(hosts) = any_hosts() else { return };
    let scripts = Scripts::new();
    let apply = "return { apply = function(st, v) st:set('last', v) if v ~= 'memory' or remembers then act(v) end end }";
    let tame = scripts.put("hostile.lua", &format!("local remembers = false {HOSTILE} {apply}"));
    let other = Scripts::new();
    let wild = other.put("hostile.lua", &format!("local remembers = true {HOSTILE} {apply}"));
    let mut group = start(hosts, |index| if index == 2 { wild.clone() } else { tame.clone() });
    let mut client = group.client();
    group.leader(&mut client);
    for value in ["loop", "pcall", "pattern", "stack"] {
        let instance = write(&mut client, value);
        for index in 0..3 {
            let failed =
                format!("script hostile, instance {instance}: apply failed, and was undone: hostile.lua:");
            group.nodes[index].wait_for_line(&failed, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        }
        write(&mut client, "and on");
    }
    group.nodes[0]
        .wait_for_line("node 2 runs another version of script hostile", PATIENCE)
        .expect("it is named");
    let instance = write(&mut client, "memory");
    let told = format!("cannot go on: script hostile, instance {instance}: hostile.lua:");
    group.wait_end(2, 1, &told);
    let logs = group.logs();
    assert!(logs.contains("--script-memory"), "{logs}");
    write(&mut client, "on without it");
    let again = group.nodes[2].start();
    again.expect("it starts");
    group.wait_end(2, 1, "");
    write(&mut client, "and it does not come back before it can");
}

#[test]
fn scripts_are_loaded_again_when_that_cannot_diverge_and_not_otherwise() {
    let Some(hosts) = any_hosts() else { return };
    let scripts = Scripts::new();
    let reads = |text: &str| format!("return {{ read = function() return '{text}' end }}");
    let path = scripts.put("words.lua", &reads("first"));
    let group = start(hosts, |_| path.clone());
    let mut client = group.client();
    group.leader(&mut client);
    write(&mut client, "one");
    assert!(call(&mut client, "query x").text.ends_with("safe read first"));
    let reload = |expected: &str| {
        for node in &group.nodes {
            kill(Pid::from_raw(node.pid() as i32), Signal::SIGHUP).expect("it runs");
            node.wait_for_line(expected, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        }
    };
    scripts.put("words.lua", &reads("second"));
    reload("has loaded again script words: read");
    assert!(call(&mut client, "query x").text.ends_with("safe read second"));
    scripts.put("words.lua", "return { read = function( }");
    reload("keeps the scripts that run: cannot use script");
    assert!(call(&mut client, "fast query x").text.ends_with("second"));
    scripts.put("words.lua", "return { apply = function() end }");
    reload("keeps the scripts that run: words has an `apply` and was changed");
    assert!(call(&mut client, "query x").text.ends_with("safe read second"));
}

#[test]
fn a_restart_goes_on_from_the_snapshot_and_a_changed_script_from_the_beginning() {
    let Some(hosts) = any_hosts() else { return };
    let scripts = Scripts::new();
    let path = scripts.put("counts.lua", COUNTS);
    let mut group = start(hosts, |_| path.clone());
    let mut client = group.client();
    group.leader(&mut client);
    let long = "x".repeat(50_000);
    let count = 250;
    for number in 0..count {
        client.ask(&format!("Request 0 {number} {long}")).expect("it runs");
    }
    let chosen = |_| client.next(PATIENCE).expect("an answer").chosen().map(|(instance, _)| instance);
    let mut highest = (0..count).filter_map(chosen).max().expect("they are chosen");
    let has_history = |index: usize| {
        let files = std::fs::read_dir(group.hosts.node_dir(index)).expect("a directory").flatten();
        files.filter(|file| file.path().extension().is_some_and(|ending| ending == "values")).count() > 0
    };
    // Old values move to the history after a checkpoint that has learned them, with the next write.
    live::eventually("old values are in the history", || {
        highest = write(&mut client, &format!("more {long}"));
        (0..3).all(has_history)
    });
    group.learned(&mut client, 3, highest);
    let before: Vec<String> = (0..3).map(|index| last_digest(&mut group, index)).collect();
    for index in 0..3 {
        group.nodes[index].start().expect("a node starts");
        group.nodes[index].wait_for_line("starting", PATIENCE).expect("it starts");
    }
    assert!(!group.logs().contains("computes its state"), "the snapshot has it\n{}", group.logs());
    let after: Vec<String> = (0..3).map(|index| last_digest(&mut group, index)).collect();
    let number = |text: &String| text.split_whitespace().last().map(str::to_owned);
    assert!(before.iter().zip(&after).all(|(a, b)| number(a) == number(b)), "{before:?} {after:?}");
    scripts.put("counts.lua", &format!("-- another version\n{COUNTS}"));
    for index in 0..3 {
        group.nodes[index].start().expect("a node starts");
        let told = "computes its state from instance 1 to";
        group.nodes[index].wait_for_line(told, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    }
    highest = write(&mut client, "one more");
    group.learned(&mut client, 3, highest);
    let digests: Vec<String> = (0..3).map(|index| last_digest(&mut group, index)).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

#[test]
fn the_shipped_table_answers_what_was_written_and_refuses_what_it_cannot_read() {
    let Some(hosts) = any_hosts() else { return };
    let group = start(hosts, |_| shipped("kv.lua"));
    let mut client = group.client();
    group.leader(&mut client);
    write(&mut client, "set color dark red");
    write(&mut client, "add visits 2");
    write(&mut client, "add visits 3");
    write(&mut client, "cas visits 5 6");
    write(&mut client, "cas visits 5 7");
    assert!(call(&mut client, "Request 0 paint it black").text.starts_with("Refused script kv: say set KEY"));
    assert_eq!(
        call(&mut client, "fast query get color").text,
        "Reply 6 dark red",
        "the refusal is in the log"
    );
    assert!(call(&mut client, "query get visits").text.ends_with("safe read 6"));
    assert!(call(&mut client, "query list c").text.ends_with("safe read color=dark red"));
    assert!(call(&mut client, "query get nothing").text.contains("Refused script kv: no key nothing"));
}
