//! Claims about groups whose disks fail, and whose nodes are killed between any two syncs.

mod live;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use upaxos_testbed::hosts::{Client, Node};

use live::group::{Group, Load, PATIENCE, plan};
use live::{any_hosts, eventually};

/// Restarts node `index` with `fault` under load. When it has exited and the others have continued without it,
/// starts it again without the fault. Returns its exit status and the failed process. The process's last lines may
/// still be in the pipe.
fn fail(group: &mut Group, load: &mut Load, client: &mut Client, index: usize, fault: &str) -> (i32, Node) {
    group.nodes[index].terminate();
    group.nodes[index].wait_exit(PATIENCE).expect("it ends when asked");
    let mut failing = plan(&group.hosts, index).inject(fault).start().expect("strace starts");
    let mut asked = 0;
    let status = loop {
        load.ask(client, 20);
        load.take(group, client, 20);
        asked += 20;
        if let Ok(status) = failing.wait_exit(Duration::from_millis(1)) {
            break status;
        }
        assert!(asked < 20_000, "{fault} has not ended the node\n{}", failing.log());
    };
    group.nodes[index].start().expect("it starts again");
    (status.code().unwrap_or(-status.signal().unwrap_or(0)), failing)
}

#[test]
fn a_failed_sync_ends_the_node_at_once_and_loses_nothing() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    for (index, when) in [(leader, 6), ((leader + 1) % 3, 1), ((leader + 2) % 3, 11)] {
        let fault = format!("fdatasync:error=EIO:when={when}");
        let (status, failed) = fail(&mut group, &mut load, &mut client, index, &fault);
        assert_eq!(status, 1, "{}", failed.log());
        failed.wait_for_line("Input/output error", PATIENCE).expect("it says what failed");
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_full_disk_ends_the_node_at_once_and_loses_nothing() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    for (index, when) in [(leader, 8), ((leader + 1) % 3, 3), ((leader + 2) % 3, 20)] {
        let fault = format!("pwrite64:error=ENOSPC:when={when}+");
        let (status, failed) = fail(&mut group, &mut load, &mut client, index, &fault);
        assert_eq!(status, 1, "{}", failed.log());
        failed.wait_for_line("No space left", PATIENCE).expect("it says what failed");
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_node_killed_at_any_sync_loses_nothing() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load) = (group.client(), Load::default());
    group.leader(&mut client);
    for when in 1..20 {
        let fault = format!("fdatasync:signal=KILL:when={when}");
        let (status, failed) = fail(&mut group, &mut load, &mut client, when % 3, &fault);
        assert_eq!(status, -9, "{}", failed.log());
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_group_killed_at_any_sync_of_its_first_start_comes_up_and_loses_nothing() {
    for when in 1..20 {
        let Some(hosts) = any_hosts() else { return };
        let fault = format!("fdatasync:signal=KILL:when={when}");
        let failing = |index| plan(&hosts, index).inject(&fault).start().expect("strace starts");
        let mut failing: Vec<_> = (0..3).map(failing).collect();
        let mut group = Group { nodes: Vec::new(), hosts };
        let (mut client, mut load) = (group.client(), Load::default());
        load.ask(&mut client, 200);
        // A node that does not reach this sync under the load is killed a little later instead.
        let begin = Instant::now();
        eventually("they are dead", || {
            let is_late = begin.elapsed() > Duration::from_millis(500);
            if is_late {
                failing.iter_mut().for_each(Node::kill9);
            }
            !failing.iter_mut().any(Node::is_running)
        });
        group.nodes =
            (0..3).map(|index| plan(&group.hosts, index).start().expect("it starts again")).collect();
        load.take(&group, &client, 200);
        group.check_after(&load, &mut client, &[0, 1, 2]);
    }
}

#[test]
fn a_slow_disk_gives_no_early_answer_and_stops_nobody() {
    let Some(hosts) = any_hosts() else { return };
    let slow = "fdatasync:delay_exit=100000";
    let nodes =
        (0..3).map(|index| plan(&hosts, index).inject(slow).start().expect("strace starts")).collect();
    let group = Group { nodes, hosts };
    let (mut client, mut load) = (group.client(), Load::default());
    group.leader(&mut client);
    load.ask(&mut client, 1);
    let first = client.next(PATIENCE).expect("an answer");
    assert!(first.chosen().is_some(), "{}", first.text);
    assert!(first.took >= Duration::from_millis(100), "answered before any sync: {:?}", first.took);
}

/// Flips a bit in node `index`'s first segment, `offset` bytes after the first occurrence of `text` from byte
/// `from` on.
fn flip_bit(group: &Group, index: usize, from: usize, text: &str, offset: usize) {
    let path = group.hosts.node_dir(index).join("00000001.log");
    let mut bytes = fs::read(&path).expect("the segment is there");
    let found = bytes[from..].windows(text.len()).position(|window| window == text.as_bytes());
    let at = from + found.expect("the text is in the log") + offset;
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("the segment can be written");
}

/// A group that has carried out sixty requests, in several blocks of its logs.
fn loaded() -> Option<(Group, Client, Load)> {
    let group = Group::start(any_hosts()?);
    let (mut client, mut load) = (group.client(), Load::default());
    group.leader(&mut client);
    for _ in 0..3 {
        load.ask(&mut client, 20);
        load.take(&group, &client, 20);
    }
    Some((group, client, load))
}

#[test]
fn a_node_whose_log_is_hurt_inside_a_value_warns_and_has_it_again_from_its_peers() {
    let Some((mut group, mut client, mut load)) = loaded() else { return };
    group.learned(&mut client, 3, 60);
    group.nodes[1].kill9();
    flip_bit(&group, 1, 0, "value-1", 0);
    group.nodes[1].start().expect("it starts again");
    let line = group.nodes[1].wait_for_line("is damaged inside values", PATIENCE).expect("it warns");
    assert!(line.contains("00000001.log: the block at byte "), "names the damaged block: {line}");
    // A node whose vote came too late learned the value by repair.
    let is_named = line.contains("accept 1 ") || line.contains("learn 1");
    assert!(is_named && line.contains("from the peers"), "says what is lost: {line}");
    load.ask(&mut client, 20);
    load.take(&group, &client, 20);
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_node_whose_log_is_hurt_in_a_header_refuses_to_start_and_says_how_to_return() {
    let Some((mut group, mut client, mut load)) = loaded() else { return };
    group.nodes[1].kill9();
    // The first block begins after the segment's header.
    flip_bit(&group, 1, 200, "\n# ", 5);
    group.nodes[1].start().expect("its process begins");
    let line = group.nodes[1].wait_for_line("cannot trust ", PATIENCE).expect("it refuses");
    assert!(line.contains("00000001.log at byte "), "names the damaged place: {line}");
    assert!(line.contains("rejoin the group under a new id"), "says how to return: {line}");
    let status = group.nodes[1].wait_exit(PATIENCE).expect("it ends by itself");
    assert_eq!(status.code(), Some(1), "{line}");
    load.ask(&mut client, 20);
    load.take(&group, &client, 20);
    group.check_after(&load, &mut client, &[0, 2]);
}
