//! Two groups of real processes on one network, with the same ids. Each keeps its own log and continues to answer.
//! `UPAXOS_SOAK=600` runs for so many seconds, and compares the rate of answers with the networks joined and
//! separate.

mod live;

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use upaxos_core::entry::Entry;
use upaxos_core::types::Instance;
use upaxos_testbed::hosts::{Client, Hosts, Node};

use live::group::{NODE, PATIENCE, plan_with};
use live::{any_hosts, or_skip, programs};

/// How long the networks stay joined, or separate, before that changes. The second is for the gate.
const SLICE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(3);

/// How many writes of a group are in flight.
const WINDOW: usize = 8;

/// The time between two writes of a group. Both groups and their networks run on one machine. This load leaves the
/// machine room to deliver every datagram. A write that is too late is skipped.
const STEP: Duration = Duration::from_millis(1);

/// How late a write may start.
const LATE: Duration = Duration::from_millis(10);

/// One of the two groups. Its nodes run on three consecutive hosts, and its client on the first of these.
struct Side {
    first: usize,
    nodes: Vec<Node>,
    client: Client,
    asked: BTreeMap<usize, String>,
    acknowledged: BTreeMap<u64, String>,
    answers: usize,
    unknown: usize,
    count: usize,
    next: Instant,
}

impl Side {
    fn start(hosts: &Hosts, first: usize) -> Side {
        let node = |id: usize| {
            let plan = plan_with(hosts, first + id, &["-n", "3", "-i", &id.to_string()]);
            plan.start().expect("a node starts")
        };
        let nodes = (0..3).map(node).collect();
        let client = Client::start_on(hosts, first, NODE, &["--timeout", "20s"]).expect("a client starts");
        let (asked, acknowledged) = Default::default();
        let mut side = Side {
            first,
            nodes,
            client,
            asked,
            acknowledged,
            answers: 0,
            unknown: 0,
            count: 0,
            next: Instant::now(),
        };
        side.ask();
        side.take(PATIENCE);
        assert_eq!(side.acknowledged.len(), 1, "it begins: {}", side.logs());
        side
    }

    /// Sends the writes that are due.
    fn ask_in_time(&mut self) {
        let now = Instant::now();
        while now >= self.next && self.asked.len() < WINDOW {
            self.next += STEP;
            self.ask();
        }
        self.next = self.next.max(now.checked_sub(LATE).unwrap_or(now));
    }

    fn ask(&mut self) {
        self.count += 1;
        let value = format!("group{}-{}", self.first, self.count);
        let number = self.client.ask(&format!("Request 0 {value}")).expect("the client runs");
        self.asked.insert(number, value);
    }

    fn take(&mut self, patience: Duration) {
        let Ok(answer) = self.client.next(patience) else { return };
        let value = self.asked.remove(&answer.number).expect("an answer to a pending request");
        match answer.chosen() {
            Some((instance, chosen)) => {
                assert_eq!(chosen, value, "another value was acknowledged");
                let twice = self.acknowledged.insert(instance, value);
                assert_eq!(twice, None, "instance {instance} was acknowledged twice");
                self.answers += 1;
            }
            None => {
                assert!(
                    answer.text.starts_with("Unknown") || answer.text.starts_with("unknown"),
                    "{}",
                    answer.text
                );
                self.unknown += 1;
            }
        }
    }

    fn logs(&self) -> String {
        self.nodes.iter().map(|node| format!("---\n{}\n", node.log())).collect()
    }

    /// Checks that all nodes have one log, and that it has every acknowledged write.
    fn check(&self, hosts: &Hosts) {
        let mut agreed: BTreeMap<Instance, Entry> = BTreeMap::new();
        for host in self.first..self.first + 3 {
            let history = hosts.history(host).unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
            for (instance, entry) in history {
                let known = agreed.entry(instance).or_insert_with(|| entry.clone());
                assert_eq!(*known, entry, "host {host} disagrees at {instance}\n{}", self.logs());
                let value = match &entry {
                    Entry::Tagged(_, value) | Entry::Write(value) => value.to_string(),
                    _ => continue,
                };
                assert!(
                    value.starts_with(&format!("group{}-", self.first)),
                    "{value} is none of this group's"
                );
            }
        }
        for (instance, value) in &self.acknowledged {
            let found = agreed.get(&Instance(*instance)).map(|entry| match entry {
                Entry::Tagged(_, value) | Entry::Write(value) => value.to_string(),
                other => format!("{other:?}"),
            });
            assert_eq!(found.as_ref(), Some(value), "instance {instance}\n{}", self.logs());
        }
    }
}

fn join(hosts: &Hosts, joined: bool) {
    hosts.links(|from, to| joined || (from < 3) == (to < 3)).expect("links can be cut");
}

#[test]
fn two_groups_on_joined_wires_stay_one_log_each_and_go_on_answering_while_nodes_are_killed() {
    let Some(hosts) = or_skip(Hosts::switched(6, 1)) else { return };
    let soak: Option<u64> = env::var("UPAXOS_SOAK").ok().map(|seconds| seconds.parse().expect("seconds"));
    let (slice, slices) =
        soak.map_or((SHORT, 2), |seconds| (SLICE, (seconds / SLICE.as_secs()).max(2) as usize));
    join(&hosts, false);
    let mut sides = [Side::start(&hosts, 0), Side::start(&hosts, 3)];
    // Indexed by whether the networks are joined, then by group.
    let mut answered = [[0usize; 2]; 2];
    let mut turns = [0usize; 2];
    for turn in 0..slices {
        // Joined and separate slices alternate, so that both see the same conditions.
        let joined = turn % 2 == 0;
        join(&hosts, joined);
        let before = sides.each_ref().map(|side| side.answers);
        let (begun, victim) = (Instant::now(), turn / 2 % 3);
        let (mut is_killed, mut is_back) = (false, false);
        while begun.elapsed() < slice {
            if !is_killed && begun.elapsed() > slice / 4 {
                sides.iter_mut().for_each(|side| side.nodes[victim].kill9());
                is_killed = true;
            }
            if !is_back && begun.elapsed() > slice / 2 {
                sides.iter_mut().for_each(|side| side.nodes[victim].start().expect("it starts again"));
                is_back = true;
            }
            for side in &mut sides {
                side.ask_in_time();
                side.take(Duration::from_millis(1));
            }
        }
        turns[usize::from(joined)] += 1;
        for (at, side) in sides.iter().enumerate() {
            answered[usize::from(joined)][at] += side.answers - before[at];
        }
    }
    for side in &mut sides {
        let until = Instant::now() + PATIENCE;
        while !side.asked.is_empty() && Instant::now() < until {
            side.take(Duration::from_millis(100));
        }
        assert!(side.asked.is_empty(), "it continues to answer: {}", side.logs());
        // Waits until all of it is durable on every node, because the check reads the logs.
        let last = side.acknowledged.last_key_value().map_or(0, |(instance, _)| *instance);
        let learned = side.client.call(&format!("learned 3 {last}"), PATIENCE).expect("an answer");
        assert!(learned.text.starts_with("learned"), "{}\n{}", learned.text, side.logs());
    }
    sides.iter().for_each(|side| side.check(&hosts));
    for (at, side) in sides.iter().enumerate() {
        let rate =
            |joined: usize| answered[joined][at] as f64 / turns[joined].max(1) as f64 / slice.as_secs_f64();
        eprintln!(
            "group {at}: {} answers, {} unknown; {:.0}/s joined, {:.0}/s apart ({:.3})",
            side.answers,
            side.unknown,
            rate(1),
            rate(0),
            rate(1) / rate(0)
        );
        assert!(soak.is_none() || rate(1) >= 0.95 * rate(0), "joined wires cost more than a twentieth");
        let warned = side.nodes.iter().any(|node| node.log().contains("another group is on this wire"));
        assert!(warned, "the other group is named: {}", side.logs());
    }
}

fn run(mut command: Command) -> Output {
    command.output().expect("the program runs")
}

#[test]
fn groups_with_names_share_a_wire_and_a_client_that_names_none_is_told_so() {
    let Some(hosts) = any_hosts() else { return };
    let start = |group: &'static str, id: usize| {
        let dir = hosts.dir().join(format!("{group}-{id}"));
        let plan = Node::on(&hosts, id, NODE).args(hosts.args());
        let plan = plan.args(["-n", "3", "-i", &id.to_string(), "--group", group]);
        plan.args(["--dir".into(), dir.into_os_string()]).start().expect("a node starts")
    };
    let groups: Vec<Vec<Node>> =
        ["red", "blue"].map(|group| (0..3).map(|id| start(group, id)).collect()).into();
    let send = |args: &[&str]| {
        let mut command = hosts.command(0, programs().join("upaxos-send"));
        command.args(hosts.args()).args(["--wait", "--timeout", "20s"]).args(args);
        run(command)
    };
    for (group, value) in [("red", "apple"), ("blue", "sky")] {
        let output = send(&["--group", group, "Request", "0", value]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, format!("OK 1 {value}\n"), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut command = hosts.command(0, programs().join("upaxos-send"));
    command.args(hosts.args()).args(["--wait", "--timeout", "1s", "Request", "0", "unsent"]);
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--group blue") && said.contains("--group red"), "{said}");
    assert_eq!(output.status.code(), Some(4), "it was sent to no group: {said}");
    let joiner =
        plan_with(&hosts, 0, &["--join", "-i", "7", "--group", "rde"]).start().expect("a node starts");
    let said = joiner.wait_for_line("hears no group", PATIENCE).expect("it says so");
    assert!(said.contains("--group blue") && said.contains("--group red"), "{said}");
    drop(groups);
}

#[test]
fn a_node_started_once_under_a_mistyped_name_comes_back_to_its_group_and_a_confirmed_name_stays() {
    let Some(hosts) = any_hosts() else { return };
    let start = |id: usize, more: &[&str]| {
        let id_flag = id.to_string();
        let flags = [["-n", "3", "-i", &id_flag].as_slice(), more].concat();
        plan_with(&hosts, id, &flags).start().expect("a node starts")
    };
    let votes = |node: &Node| drop(node.wait_for_line("may vote: ", PATIENCE).expect("it votes"));
    let mut nodes: Vec<Node> = (0..3).map(|id| start(id, &[])).collect();
    nodes.iter().for_each(votes);
    nodes[2].kill9();
    let mut mistyped = start(2, &["--group", "kitchne"]);
    mistyped.wait_for_line("this one with --group kitchne", PATIENCE).expect("it hears the others");
    mistyped.kill9();
    nodes[2].start().expect("it starts again");
    votes(&nodes[2]);

    nodes.iter_mut().for_each(Node::kill9);
    let mut named: Vec<Node> = (0..3).map(|id| start(id, &["--group", "kitchen"])).collect();
    named.iter().for_each(votes);
    named[2].kill9();
    let mut refused = start(2, &["--group", "kitchne"]);
    refused.wait_for_line("start it with --group kitchen,", PATIENCE).expect("it says how");
    assert_eq!(refused.wait_exit(PATIENCE).expect("it ends by itself").code(), Some(1));
}
