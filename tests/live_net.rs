//! Claims about groups of real processes on a network with losses, partitions and garbage.

mod live;

use std::env;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use upaxos_net::{Options, Socket};
use upaxos_testbed::hosts::{Client, Host, Hosts, Node};

use live::garbage::Garbage;
use live::group::{Group, Load, NODE, plan};
use live::{eventually, or_skip};

/// Datagrams in each of two halves.
const GARBAGE: usize = 50_000;
const SEED: u64 = 20_253;

fn group() -> Option<Group> {
    or_skip(Hosts::switched(3, SEED)).map(Group::start)
}

#[test]
fn at_thirty_percent_loss_every_write_is_chosen_once() {
    let Some(group) = group() else { return };
    group.hosts.loss(30).expect("packets can be lost here");
    let mut client =
        Client::start(&group.hosts, NODE, &["--window", "16", "--timeout", "25s"]).expect("starts");
    let mut load = Load::default();
    load.ask(&mut client, 200);
    load.take(&group, &client, 200);
    group.check_after(&load, &mut client, &[0, 1, 2]);
    assert_eq!(load.acknowledged.len(), 200);
}

/// Each datagram has seven fragments. At least one of them is lost in about every second datagram.
#[test]
fn where_long_datagrams_are_lost_with_one_fragment_every_write_is_chosen_once() {
    let Some(hosts) = or_skip(Hosts::switched(3, SEED)) else { return };
    let long = ["--datagram", "16000"];
    let node = |index| plan(&hosts, index).args(long).start().expect("a node starts");
    let group = Group { nodes: (0..3).map(node).collect(), hosts };
    group.hosts.loss(10).expect("packets can be lost here");
    let args = [&["--window", "200", "--timeout", "25s"][..], &long].concat();
    let mut client = Client::start(&group.hosts, NODE, &args).expect("starts");
    let mut load = Load::default();
    load.ask(&mut client, 1_000);
    load.take(&group, &client, 1_000);
    group.check_after(&load, &mut client, &[0, 1, 2]);
    assert_eq!(load.acknowledged.len(), 1_000);
}

#[test]
fn a_leader_cut_off_from_the_others_is_replaced_and_rejoins() {
    let Some(group) = group() else { return };
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    load.ask(&mut client, 500);
    load.take(&group, &client, 100);
    group.hosts.partition(&[&others]).expect("links can be cut here");
    load.take(&group, &client, 400);
    load.ask(&mut client, 100);
    load.take(&group, &client, 100);
    assert_ne!(group.leader(&mut client), leader, "{}", group.logs());
    group.hosts.heal().expect("links can be healed");
    load.ask(&mut client, 100);
    load.take(&group, &client, 100);
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_chain_of_three_keeps_one_leader() {
    let Some(group) = group() else { return };
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    let end = (leader + 1) % 3;
    group.hosts.cut(leader, end).expect("links can be cut here");
    group.hosts.cut(end, leader).expect("links can be cut here");
    for _ in 0..20 {
        load.ask(&mut client, 50);
        load.take(&group, &client, 50);
    }
    // A duel shows only after four election timeouts or more.
    let begin = Instant::now();
    eventually("time passes", || begin.elapsed() > Duration::from_secs(2));
    load.ask(&mut client, 50);
    load.take(&group, &client, 50);
    let reigns: usize = group.nodes.iter().map(|node| node.log().matches("leads with ballot").count()).sum();
    assert!(reigns <= 2, "{reigns} reigns\n{}", group.logs());
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn cuts_in_one_direction_stop_nobody() {
    let Some(group) = group() else { return };
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    // First the leader no longer receives one follower. Then the other follower no longer receives the leader.
    group.hosts.cut((leader + 1) % 3, leader).expect("links can be cut here");
    load.ask(&mut client, 100);
    load.take(&group, &client, 100);
    group.hosts.cut(leader, (leader + 2) % 3).expect("links can be cut here");
    load.ask(&mut client, 100);
    load.take(&group, &client, 100);
    group.hosts.heal().expect("links can be healed");
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
#[ignore = "not a test: a host that floods the group with garbage"]
fn flood() {
    let seed = env::var("UPAXOS_SEED").expect("the test gives the seed").parse().expect("a number");
    let address = [10, 253, 0, 255].into();
    let mut socket =
        Socket::open(&Options { address, ..Options::default() }).expect("the host has a network");
    let mut garbage = Garbage(seed);
    for _ in 0..GARBAGE / 100 {
        let batch: Vec<Vec<u8>> = (0..100).map(|_| garbage.datagram()).collect();
        socket.send(&batch).expect("the socket stays usable");
        // Paced, because a datagram that overflows a queue is never parsed, and would not test the parser.
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(socket.send_errors(), 0);
}

/// Sends garbage from `seed`, while a client writes.
fn flooded(group: &Group, load: &mut Load, client: &mut Client, seed: u64) {
    let program = env::current_exe().expect("a test has a path");
    let mut command = group.hosts.command(Host::Client, program);
    command.args(["--exact", "flood", "--ignored"]).env("UPAXOS_SEED", seed.to_string());
    let mut flood = command.stdout(Stdio::null()).spawn().expect("the test program starts again");
    load.ask(client, 50);
    load.take(group, client, 50);
    assert!(flood.wait().expect("the flood ends").success());
    load.ask(client, 200);
    load.take(group, client, 200);
}

fn resident(group: &Group) -> Vec<u64> {
    group.nodes.iter().map(|node| node.resident().expect("it runs")).collect()
}

#[test]
fn a_hundred_thousand_garbage_datagrams_change_nothing() {
    let Some(mut group) = group() else { return };
    let (mut client, mut load) = (group.client(), Load::default());
    load.ask(&mut client, 500);
    load.take(&group, &client, 500);
    let calm = resident(&group);
    // The first half may fill the bounded buffers. The second half finds them full.
    flooded(&group, &mut load, &mut client, SEED);
    let full = resident(&group);
    flooded(&group, &mut load, &mut client, SEED + 1);
    let after = resident(&group);
    group.check_after(&load, &mut client, &[0, 1, 2]);
    assert!(group.nodes.iter_mut().all(Node::is_running), "{}", group.logs());
    println!("resident: {calm:?} calm, {full:?} after half of the garbage, {after:?} after all");
    for index in 0..3 {
        assert!(full[index] < calm[index] + (32 << 20), "node {index}, seed {SEED}");
        assert!(after[index] < full[index] + (2 << 20), "node {index}, seed {SEED}");
    }
}

#[test]
fn garbage_does_not_flood_the_log() {
    let Some(group) = group() else { return };
    let (mut client, mut load) = (group.client(), Load::default());
    load.ask(&mut client, 50);
    load.take(&group, &client, 50);
    flooded(&group, &mut load, &mut client, SEED);
    for node in &group.nodes {
        let log = node.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(5)..];
        assert!(lines.len() < GARBAGE / 10, "{} lines, the last of them {last:#?}", lines.len());
    }
}
