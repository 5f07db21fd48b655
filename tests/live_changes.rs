//! Claims about groups of real processes under load, while nodes join, leave and are replaced.

mod live;

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

use upaxos_core::entry::Entry;
use upaxos_core::types::Instance;
use upaxos_testbed::hosts::{Answer, Client, Host, Hosts};

use live::group::{Group, Load, NODE, PATIENCE, plan_with};
use live::{eventually, or_skip, programs};

/// How many writes are in flight during one change of the group.
const LOAD: usize = 150;

fn hosts(count: usize) -> Option<Hosts> {
    or_skip(Hosts::switched(count, 0))
}

/// A second client. It asks for changes while the first one writes.
fn operator(group: &Group) -> Client {
    Client::start(&group.hosts, NODE, &["--timeout", "20s"]).expect("a client starts")
}

fn tell(group: &Group, operator: &mut Client, line: &str) -> Answer {
    operator.call(line, PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", group.logs()))
}

/// Tells a member to leave, and waits until its process exits with status 0.
fn leave(group: &mut Group, operator: &mut Client, index: usize) {
    let leave = format!("leave {index}");
    // On a busy machine a healthy node may look dead for a moment. So the request is repeated.
    eventually(&leave, || {
        let answer = tell(group, operator, &leave);
        assert!(
            answer.chosen().is_some_and(|(_, value)| value == leave) || answer.text.contains("no quorum")
        );
        answer.chosen().is_some()
    });
    group.wait_end(index, 0, "is no member any more");
}

/// Waits until the members are `ids`, a list with commas. The answering node may not know the last change yet.
fn wait_for_members(group: &Group, operator: &mut Client, ids: &str) {
    eventually(&format!("{ids} are the members"), || {
        tell(group, operator, "members").text.ends_with(&format!(" {ids}"))
    });
}

/// Checks that these nodes have the same log, up to the last acknowledged write and without holes.
fn same_history(group: &Group, load: &Load, indices: &[usize]) {
    let last = *load.acknowledged.keys().last().expect("there was a load");
    let history = |index: usize| -> BTreeMap<Instance, Entry> {
        group.history(index).into_iter().filter(|(instance, _)| instance.0 <= last).collect()
    };
    let first = history(indices[0]);
    assert_eq!(first.len() as u64, last, "node {} has holes\n{}", indices[0], group.logs());
    for index in &indices[1..] {
        assert!(history(*index) == first, "node {index} has another history\n{}", group.logs());
    }
}

/// Runs a client program on the client's host.
fn run(group: &Group, program: &str, args: &[&str]) -> Output {
    let mut command = group.hosts.command(Host::Client, programs().join(program));
    command.args(group.hosts.args()).args(args).output().expect("it runs")
}

#[test]
fn a_group_grows_from_one_to_five_and_shrinks_to_three_under_load_and_loss() {
    let Some(hosts) = hosts(5) else { return };
    let mut group = Group::lone(hosts);
    group.hosts.loss(10).expect("packets can be lost here");
    let (mut client, mut load, mut operator) = (group.client(), Load::default(), operator(&group));
    load.ask(&mut client, LOAD);
    load.take(&group, &client, LOAD);
    for _ in 1..5 {
        load.ask(&mut client, LOAD);
        group.join(None);
        load.take(&group, &client, LOAD);
    }
    wait_for_members(&group, &mut operator, "0,1,2,3,4");
    for gone in [3, 0] {
        load.ask(&mut client, LOAD);
        leave(&mut group, &mut operator, gone);
        load.take(&group, &client, LOAD);
    }
    wait_for_members(&group, &mut operator, "1,2,4");
    group.check_after(&load, &mut client, &[1, 2, 4]);
    same_history(&group, &load, &[1, 2, 4]);
}

#[test]
fn a_dead_node_is_replaced_under_load_and_harmless_with_or_without_its_disk() {
    let Some(hosts) = hosts(4) else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let mut operator = operator(&group);
    let dead = (group.leader(&mut client) + 1) % 3;
    load.ask(&mut client, 3 * LOAD);
    load.take(&group, &client, LOAD);
    group.nodes[dead].kill9();
    let new = group.join(Some(dead));
    load.take(&group, &client, 2 * LOAD);
    let alive: Vec<usize> = (0..=new).filter(|index| *index != dead).collect();
    let ids: Vec<String> = alive.iter().map(usize::to_string).collect();
    wait_for_members(&group, &mut operator, &ids.join(","));

    load.ask(&mut client, LOAD);
    group.nodes[dead].start().expect("it starts again");
    group.wait_end(dead, 0, "was put out");
    fs::remove_dir_all(group.hosts.node_dir(dead)).expect("the directory is there");
    group.nodes[dead].start().expect("it starts again");
    group.wait_end(dead, 4, "was a member before");
    load.take(&group, &client, LOAD);
    group.check_after(&load, &mut client, &alive);
    same_history(&group, &load, &alive);
}

#[test]
fn a_node_that_joined_and_was_replaced_while_dead_comes_back_with_its_disk_and_ends_with_status_0() {
    let Some(hosts) = hosts(6) else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut operator) = (group.client(), operator(&group));
    // All nodes of a first group must be up once.
    assert!(client.call("Request 0 one", PATIENCE).expect("an answer").chosen().is_some());
    group.learned(&mut client, 3, 1);
    group.nodes[2].kill9();
    let joined = group.join(Some(2));
    group.nodes[joined].kill9();
    let new = group.join(Some(joined));
    wait_for_members(&group, &mut operator, &format!("0,1,{new}"));
    for dead in [2, joined] {
        group.nodes[dead].start().expect("it starts again");
        group.wait_end(dead, 0, "was put out");
        assert!(!group.nodes[dead].log().contains("refuses to vote"), "{}", group.logs());
    }
    // The same after another change.
    group.nodes[new].kill9();
    let last = group.join(Some(new));
    wait_for_members(&group, &mut operator, &format!("0,1,{last}"));
    for dead in [2, joined, new] {
        group.nodes[dead].start().expect("it starts again");
        group.wait_end(dead, 0, "was put out");
    }
}

#[test]
fn a_node_that_lost_its_disk_comes_back_with_the_command_that_it_names() {
    let Some(hosts) = hosts(4) else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let lost = (group.leader(&mut client) + 1) % 3;
    load.ask(&mut client, LOAD);
    load.take(&group, &client, LOAD);
    group.nodes[lost].kill9();
    fs::remove_dir_all(group.hosts.node_dir(lost)).expect("the directory is there");
    group.nodes[lost].start().expect("it starts");
    let line = group.nodes[lost].wait_for_line("refuses to vote", PATIENCE).expect("it says so");
    let (_, command) = line.split_once("upaxos-node ").expect("it names a command");
    let command = command.replace("NEW_ID", "3");
    let flags: Vec<&str> = command.split(' ').collect();
    assert!(flags.contains(&"--replace"), "{line}");
    group.nodes.push(plan_with(&group.hosts, 3, &flags).start().expect("it starts"));
    group.nodes[3].wait_for_line("is a full member", PATIENCE).expect("it is admitted");
    group.wait_end(lost, 4, "was a member before");
    load.ask(&mut client, LOAD);
    load.take(&group, &client, LOAD);
    let alive: Vec<usize> = (0..4).filter(|index| *index != lost).collect();
    group.check_after(&load, &mut client, &alive);
}

#[test]
fn an_id_that_was_a_member_cannot_join_again() {
    let Some(hosts) = hosts(2) else { return };
    let mut group = Group::lone(hosts);
    let mut operator = operator(&group);
    group.join(None);
    leave(&mut group, &mut operator, 1);
    fs::remove_dir_all(group.hosts.node_dir(1)).expect("the directory is there");
    group.nodes[1].start().expect("it starts");
    let line = group.wait_end(1, 4, "error: ");
    assert!(line.contains("--join -i NEW_ID"), "{line}");
    wait_for_members(&group, &mut operator, "0");
}

#[test]
fn a_follower_and_then_the_leader_leave_and_the_rest_goes_on() {
    let Some(hosts) = hosts(3) else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let mut operator = operator(&group);
    let leader = group.leader(&mut client);
    let (follower, rest) = ((leader + 1) % 3, (leader + 2) % 3);
    for gone in [follower, leader] {
        load.ask(&mut client, LOAD);
        leave(&mut group, &mut operator, gone);
        load.take(&group, &client, LOAD);
    }
    wait_for_members(&group, &mut operator, &rest.to_string());
    group.check_after(&load, &mut client, &[rest]);
    let refused = tell(&group, &mut operator, &format!("leave {rest}")).text;
    assert!(refused.contains("only member"), "{refused}");
}

#[test]
fn a_change_that_leaves_no_live_quorum_is_refused_with_status_4() {
    let Some(hosts) = hosts(3) else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    let (dead, alive) = ((leader + 1) % 3, (leader + 2) % 3);
    load.ask(&mut client, 10);
    load.take(&group, &client, 10);
    group.nodes[dead].kill9();
    eventually("the others miss the dead one", || {
        let status = run(&group, "upaxos-repl", &["--json", "-e", "status"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("an object");
        let nodes = status["nodes"].as_array().expect("a list");
        let misses = |node: &serde_json::Value| !node["hears"].to_string().contains(&dead.to_string());
        nodes.len() == 2 && nodes.iter().all(misses)
    });
    let output = run(&group, "upaxos-send", &["--wait", "--timeout", "10s", "leave", &alive.to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}\n{}", group.logs());
    assert!(said.contains("force"), "{said}");
    load.ask(&mut client, 10);
    load.take(&group, &client, 10);
    group.check_after(&load, &mut client, &[leader, alive]);
}

#[test]
fn a_directory_says_with_which_flag_its_node_is_started() {
    let Some(hosts) = hosts(2) else { return };
    let mut group = Group::lone(hosts);
    group.join(None);
    group.nodes[1].restart().expect("it ends when asked, and starts again");
    group.nodes[1].wait_for_line("is a full member", PATIENCE).expect("it votes again");
    for (index, wrong, way_out) in
        [(0, ["--join", "-i", "0"].as_slice(), "-n 1 -i 0"), (1, &["-n", "3", "-i", "1"], "--join -i 1")]
    {
        group.nodes[index].kill9();
        let mut node = plan_with(&group.hosts, index, wrong).start().expect("it starts");
        assert_eq!(node.wait_exit(PATIENCE).expect("it ends by itself").code(), Some(1));
        node.wait_for_line(way_out, PATIENCE).expect("it says how");
    }
}
