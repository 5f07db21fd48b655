//! A disk is rolled back in a group of real processes, while the only peer that remembers its later life is down.
//! So the log splits. The nodes find that, and a node that a quorum disagrees with exits.

mod live;

use std::fs;
use std::path::Path;

use upaxos_testbed::hosts::Client;

use live::any_hosts;
use live::group::{Group, PATIENCE};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a data directory").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file of the directory");
    }
}

fn write(group: &Group, client: &mut Client, value: &str) {
    let answer = client.call(&format!("Request 0 {value}"), PATIENCE).expect("an answer");
    assert!(answer.chosen().is_some(), "{value}: {}\n{}", answer.text, group.logs());
}

#[test]
fn a_log_that_a_rolled_back_disk_has_split_is_found_with_its_first_instance() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let mut client = group.client();
    group.leader(&mut client);
    write(&group, &mut client, "first");
    group.learned(&mut client, 3, 1);
    let backup = tempfile::tempdir().expect("a folder");
    let (dir, old) = (group.hosts.node_dir(0), backup.path().join("0"));
    group.nodes[0].terminate();
    group.wait_end(0, 0, "ends; learned 1");
    copy(&dir, &old);
    // A later life of node 0 writes with node 1. Only node 1 remembers that life.
    group.nodes[2].terminate();
    group.wait_end(2, 0, "ends; learned 1");
    group.nodes[0].start().expect("it starts");
    ["lost1", "lost2"].iter().for_each(|value| write(&group, &mut client, value));
    group.nodes[0].kill9();
    group.nodes[1].kill9();
    fs::remove_dir_all(&dir).expect("the directory goes");
    copy(&old, &dir);
    group.nodes[0].start().expect("it starts");
    group.nodes[2].start().expect("it starts");
    ["other1", "other2", "other3"].iter().for_each(|value| write(&group, &mut client, value));
    group.nodes[1].start().expect("it starts");
    let end = group.wait_end(1, 1, "cannot go on");
    assert!(end.contains("the log holds another value here than at nodes 0,2, from instance 2 on"), "{end}");
    let found = group.nodes[2].wait_for_line("DIVERGES", PATIENCE).expect("it is found");
    assert!(found.contains("node 1 holds another value at instance 2"), "{found}");
    let barred = group.nodes[0].wait_for_line("refuses to vote", PATIENCE).expect("node 1 remembers");
    assert!(barred.contains("its disk is an older one, put back since node 1 heard of start 2"), "{barred}");
    group.nodes[2].terminate();
    group.wait_end(2, 1, "the log differs from that of node 1 from instance 2 on");
}
