//! The classic example: three nodes and a user with a keyboard, all on 127.0.0.1, in plain Paxos.

mod live;

use std::env;

use upaxos_net::{Options, Socket};
use upaxos_testbed::hosts::{Host, Hosts, Node};

use live::group::{NODE, PATIENCE};
use live::{eventually, oneself, or_skip};

#[test]
#[ignore = "not a test: a host that prints all datagrams"]
fn watch() {
    let mut socket = Socket::open(&Options::default()).expect("loopback can be used");
    eprintln!("watching");
    while let Ok(_batch) = socket.receive(None, &mut |datagram, _| {
        eprintln!("-> {}", String::from_utf8_lossy(datagram));
    }) {}
}

#[test]
#[ignore = "not a test: a host that sends one line"]
fn say() {
    let line = env::var("UPAXOS_SAY").expect("the test gives the line");
    let mut socket = Socket::open(&Options::default()).expect("loopback can be used");
    socket.send(&[line.into_bytes()]).expect("loopback carries it");
}

fn type_line(hosts: &Hosts, line: &str) {
    let program = env::current_exe().expect("a test has a path");
    let mut command = hosts.command(Host::Client, program);
    command.args(["--exact", "say", "--ignored"]).env("UPAXOS_SAY", line);
    assert!(command.output().expect("the test program starts again").status.success());
}

/// The classic verbs of nodes. Every datagram of a node is one line with one of these.
const VERBS: [&str; 8] = ["Propose", "Promise", "Write", "Accept", "NACK", "Written", "OK", "Join"];

#[test]
fn the_classic_example_runs_as_it_stands_in_the_book() {
    let Some(hosts) = or_skip(Hosts::loopback()) else { return };
    let watcher = oneself(&hosts, Host::Client, "watch");
    watcher.wait_for_line("watching", PATIENCE).expect("it watches");
    let nodes = [0, 1, 2].map(|index: usize| {
        let plan = Node::on(&hosts, index, NODE).args(["--classic", "-n", "3", "-i", &index.to_string()]);
        let plan = plan.args(["--dir".into(), hosts.node_dir(index).into_os_string()]);
        plan.start().expect("a node starts")
    });
    for (index, node) in nodes.iter().enumerate() {
        node.wait_for_line(&format!("starting {index}"), PATIENCE).expect("it says that it starts");
    }
    let logs = || nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n---\n");
    let heard = |answer: &str| watcher.log().lines().filter(|line| line.ends_with(answer)).count();
    let ask = |line: &str, answer: &str| {
        let before = heard(answer);
        type_line(&hosts, line);
        eventually(&format!("{line} is answered with {answer}\n{}", logs()), || heard(answer) > before);
    };
    ask("Request 0 one", " OK 1 one");
    ask("Request 0 two", " OK 2 two");
    ask("Request 2", " OK 2 two");
    ask("Request 0", " OK 3 safe read two");

    for line in watcher.log().lines().filter_map(|line| line.strip_prefix("-> ")) {
        let verb = line.split(' ').nth(1).unwrap_or_default();
        let is_classic = VERBS.contains(&verb) || line.starts_with("Request ");
        assert!(is_classic, "{line:?} is not of the classic grammar\n{}", watcher.log());
    }
    for index in 0..3 {
        let learned = || hosts.history(index).expect("the log can be read").len();
        eventually("every node learns all three", || learned() == 3);
    }
    type_line(&hosts, "quit");
    for mut node in nodes {
        assert!(node.wait_exit(PATIENCE).expect("it ends when asked").success(), "{}", node.log());
    }
}
