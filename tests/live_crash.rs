//! Claims about groups of real processes that are killed, stopped and restarted, or lose their disks.

mod live;

use std::fs;
use std::time::Duration;

use upaxos_testbed::hosts::{Client, Node};

use live::any_hosts;
use live::group::{Group, Load, NODE, PATIENCE, plan};

/// Four times the election timeout, which is four beats of 100 ms.
const FOUR_TIMEOUTS: Duration = Duration::from_millis(1_600);

#[test]
fn a_leader_killed_under_load_loses_nothing_and_is_replaced_in_time() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    load.ask(&mut client, 3_000);
    load.take(&group, &client, 500);
    group.nodes[leader].kill9();
    load.restart_clock();
    assert!(!load.is_done(), "the load ended before the crash");
    load.take_all(&group, &client);
    assert_eq!(load.unknown, 0, "{}", group.logs());
    println!("longest gap between answers: {:?}", load.gap);
    assert!(load.gap < FOUR_TIMEOUTS, "no answer for {:?}\n{}", load.gap, group.logs());
    group.nodes[leader].start().expect("the node starts again");
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn every_node_restarted_in_turn_under_load_loses_nothing() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    group.leader(&mut client);
    for round in 0..2 {
        for index in 0..3 {
            load.ask(&mut client, 300);
            load.take(&group, &client, 100);
            if round == 0 {
                group.nodes[index].restart().expect("it ends when asked, and starts again");
            } else {
                group.nodes[index].kill9();
                group.nodes[index].start().expect("it starts again");
            }
            load.take(&group, &client, 200);
        }
    }
    assert!(load.is_done());
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn all_nodes_killed_at_once_keep_what_they_acknowledged() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    for _ in 0..4 {
        load.ask(&mut client, 300);
        load.take(&group, &client, 150);
        group.nodes.iter_mut().for_each(Node::kill9);
        group.nodes.iter_mut().for_each(|node| node.start().expect("it starts again"));
        load.take(&group, &client, 150);
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_paused_follower_catches_up() {
    let Some(hosts) = any_hosts() else { return };
    let group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let follower = (group.leader(&mut client) + 1) % 3;
    load.ask(&mut client, 100);
    load.take(&group, &client, 100);
    group.nodes[follower].pause();
    load.ask(&mut client, 2_000);
    load.take(&group, &client, 2_000);
    group.nodes[follower].resume();
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_paused_leader_is_replaced_and_does_no_harm_when_it_wakes() {
    let Some(hosts) = any_hosts() else { return };
    let group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    load.ask(&mut client, 1_000);
    load.take(&group, &client, 100);
    group.nodes[leader].pause();
    load.take(&group, &client, 900);
    load.ask(&mut client, 500);
    load.take(&group, &client, 100);
    group.nodes[leader].resume();
    load.take(&group, &client, 400);
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn the_second_node_on_a_directory_is_refused() {
    let Some(hosts) = any_hosts() else { return };
    let group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    group.leader(&mut client);
    let mut second = plan(&group.hosts, 0).start().expect("it starts");
    let status = second.wait_exit(PATIENCE).expect("it ends by itself");
    assert_eq!(status.code(), Some(1), "{}", second.log());
    let dir = group.hosts.node_dir(0).display().to_string();
    let line = second.wait_for_line(&dir, PATIENCE).expect("it names the directory");
    assert!(line.contains("in use") || line.contains("another"), "says why: {line}");
    load.ask(&mut client, 10);
    load.take(&group, &client, 10);
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn the_first_start_waits_for_the_missing_node_and_says_for_whom() {
    let Some(hosts) = any_hosts() else { return };
    let nodes = [0, 1].map(|index| plan(&hosts, index).start().expect("it starts"));
    for node in &nodes {
        let line = node.wait_for_line("waiting for node", PATIENCE).expect("it says that it waits");
        assert!(line.contains('2'), "{line}");
    }
    let mut client = Client::start(&hosts, NODE, &["--timeout", "2s"]).expect("a client starts");
    let answer = client.call("Request 0 early", PATIENCE).expect("an answer");
    assert!(answer.text.starts_with("Unknown"), "{}", answer.text);

    let third = plan(&hosts, 2).start().expect("it starts");
    let mut nodes = Vec::from(nodes);
    nodes.push(third);
    let group = Group { nodes, hosts };
    let (mut client, mut load) = (group.client(), Load::default());
    load.ask(&mut client, 10);
    load.take(&group, &client, 10);
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_node_without_its_disk_refuses_to_vote_and_says_how_to_return() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    load.ask(&mut client, 50);
    load.take(&group, &client, 50);
    group.nodes[wiped].kill9();
    fs::remove_dir_all(group.hosts.node_dir(wiped)).expect("the directory is there");
    group.nodes[wiped].start().expect("it starts");
    let line = group.nodes[wiped].wait_for_line("refuses to vote", PATIENCE).expect("it says so");
    assert!(line.contains("join"), "says how to return: {line}");
    load.ask(&mut client, 50);
    load.take(&group, &client, 50);

    // With one intact voter and one without its disk, no value may be chosen.
    group.nodes[other].kill9();
    let mut hasty = Client::start(&group.hosts, NODE, &["--timeout", "3s"]).expect("a client starts");
    let answer = hasty.call("Request 0 too early", PATIENCE).expect("an answer");
    assert!(answer.text.starts_with("Unknown"), "{}\n{}", answer.text, group.logs());

    group.nodes[other].start().expect("it starts");
    load.ask(&mut client, 50);
    load.take(&group, &client, 50);
    group.check_after(&load, &mut client, &[leader, other]);
}
