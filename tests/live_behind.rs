//! Real members that are far behind, or missed a forged number, when the leader crashes. The group still answers in
//! time.

mod live;

use std::env;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use upaxos_core::wire;
use upaxos_net::{Options, Socket};
use upaxos_testbed::hosts::{Client, Host, Hosts};

use live::group::{Group, Load, PATIENCE};
use live::{any_hosts, or_skip};

/// Four times the election timeout, which is four beats of 100 ms, and a reserve for a slow machine.
const IN_TIME: Duration = Duration::from_millis(1_600 + 1_000);

/// How far behind the member is, in instances. This is more than the window in which other nodes vote.
const BEHIND: u64 = 30_000;

fn write(group: &Group, client: &mut Client, value: &str) {
    let answer = client.call(&format!("Request 0 {value}"), PATIENCE).expect("an answer");
    assert!(answer.chosen().is_some(), "{value}: {}\n{}", answer.text, group.logs());
}

#[test]
fn a_write_is_answered_in_time_when_the_leader_dies_while_the_next_is_far_behind() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    let next = (leader + 1) % 3;
    write(&group, &mut client, "first");
    group.learned(&mut client, 3, 1);
    group.nodes[next].kill9();
    for _ in 0..BEHIND / 500 {
        load.ask(&mut client, 500);
        load.take(&group, &client, 500);
    }
    group.nodes[next].start().expect("it starts again");
    let voted = group.nodes[next].wait_for_line("may vote", PATIENCE);
    voted.unwrap_or_else(|error| panic!("{error}\n{}", group.logs()));
    group.nodes[leader].kill9();
    let began = Instant::now();
    write(&group, &mut client, "after");
    let took = began.elapsed();
    println!("answered after {took:?}");
    assert!(took < IN_TIME, "{took:?}\n{}", group.logs());
    group.nodes[leader].start().expect("it starts again");
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

/// The incarnation in a node's data directory.
fn incarnation(group: &Group, index: usize) -> u64 {
    let text = fs::read_to_string(group.hosts.node_dir(index).join("identity")).expect("an identity");
    let field = text.lines().find_map(|line| line.strip_prefix("incarnation ")).expect("an incarnation");
    u64::from_str_radix(field, 16).expect("a number in hexadecimal")
}

/// Sends one datagram from another host, in the name of a node.
fn forge(group: &Group, id: usize, line: &str) {
    // The incarnation of node 0 names the group.
    let head = format!("{id} From {} {:016x}", incarnation(group, id), incarnation(group, 0));
    let mut datagram = format!("{head}\n{id} {line}").into_bytes();
    wire::complete(&mut datagram);
    let text = String::from_utf8(datagram).expect("it is text");
    let program = env::current_exe().expect("a test has a path");
    let mut command = group.hosts.command(Host::Client, program);
    command.args(["--exact", "say", "--ignored"]).env("UPAXOS_DATAGRAM", text);
    let status = command.stdout(Stdio::null()).status().expect("the test program starts again");
    assert!(status.success());
}

#[test]
#[ignore = "not a test: a host that sends a forged datagram"]
fn say() {
    let datagram = env::var("UPAXOS_DATAGRAM").expect("the test gives the datagram").into_bytes();
    let address = [10, 253, 0, 255].into();
    let mut socket =
        Socket::open(&Options { address, ..Options::default() }).expect("the host has a network");
    socket.send(&[datagram]).expect("the socket sends");
}

#[test]
fn a_member_that_missed_a_forged_ballot_is_there_when_the_leader_dies() {
    let Some(hosts) = or_skip(Hosts::raw_only(3)) else { return };
    let mut group = Group::start(hosts);
    let mut client = group.client();
    let leader = group.leader(&mut client);
    let [named, away] = [(leader + 1) % 3, (leader + 2) % 3];
    write(&group, &mut client, "first");
    group.learned(&mut client, 3, 1);
    group.nodes[away].kill9();
    // Each ballot is as far above the last one as a node believes from one line.
    for jump in 1..=2 {
        let ballot = (jump << 20) * 65_536 + named as u64;
        forge(&group, named, &format!("ProposeAll 2 {ballot}"));
        write(&group, &mut client, &format!("after jump {jump}"));
    }
    write(&group, &mut client, "second");
    group.nodes[away].start().expect("it starts again");
    write(&group, &mut client, "third");
    group.learned(&mut client, 3, 5);
    let leader = group.leader(&mut client);
    let other = (0..3).find(|id| *id != leader && *id != away).unwrap_or(named);
    // The member that was away is needed for a quorum, whichever node is killed.
    let dies = if leader == away { other } else { leader };
    group.nodes[dies].kill9();
    let began = Instant::now();
    write(&group, &mut client, "fourth");
    assert!(began.elapsed() < IN_TIME, "{:?}\n{}", began.elapsed(), group.logs());
}
