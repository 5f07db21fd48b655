//! Claims about groups whose disks fail, and whose nodes die between any two syncs.

mod live;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use live::group::{Group, Load, PATIENCE, plan};
use live::{any_world, eventually};
use upaxos_node::lab::{Client, Node};

/// Restarts node `index` with `fault` under load; when it has ended, and the others have gone on
/// without it, starts it as it was. Returns its exit status and what it had said.
fn fail(group: &mut Group, load: &mut Load, client: &mut Client, index: usize, fault: &str) -> (i32, String) {
    group.nodes[index].terminate();
    group.nodes[index].wait_exit(PATIENCE).expect("it ends when asked");
    let mut failing = plan(&group.world, index).inject(fault).start().expect("strace starts");
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
    (status.code().unwrap_or(-status.signal().unwrap_or(0)), failing.log())
}

#[test]
fn a_failed_sync_ends_the_node_at_once_and_loses_nothing() {
    let Some(world) = any_world() else { return };
    let mut group = Group::start(world);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    for (index, when) in [(leader, 6), ((leader + 1) % 3, 1), ((leader + 2) % 3, 11)] {
        let fault = format!("fdatasync:error=EIO:when={when}");
        let (status, log) = fail(&mut group, &mut load, &mut client, index, &fault);
        assert_eq!(status, 1, "{log}");
        assert!(log.contains("Input/output error"), "says what failed: {log}");
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_full_disk_ends_the_node_at_once_and_loses_nothing() {
    let Some(world) = any_world() else { return };
    let mut group = Group::start(world);
    let (mut client, mut load) = (group.client(), Load::default());
    let leader = group.leader(&mut client);
    for (index, when) in [(leader, 8), ((leader + 1) % 3, 3), ((leader + 2) % 3, 20)] {
        let fault = format!("pwrite64:error=ENOSPC:when={when}+");
        let (status, log) = fail(&mut group, &mut load, &mut client, index, &fault);
        assert_eq!(status, 1, "{log}");
        assert!(log.contains("No space left"), "says what failed: {log}");
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_node_killed_at_any_sync_loses_nothing() {
    let Some(world) = any_world() else { return };
    let mut group = Group::start(world);
    let (mut client, mut load) = (group.client(), Load::default());
    group.leader(&mut client);
    for when in 1..20 {
        let fault = format!("fdatasync:signal=KILL:when={when}");
        let (status, log) = fail(&mut group, &mut load, &mut client, when % 3, &fault);
        assert_eq!(status, -9, "{log}");
    }
    group.check_after(&load, &mut client, &[0, 1, 2]);
}

#[test]
fn a_group_killed_at_any_sync_of_its_first_start_comes_up_and_loses_nothing() {
    for when in 1..20 {
        let Some(world) = any_world() else { return };
        let fault = format!("fdatasync:signal=KILL:when={when}");
        let failing = |index| plan(&world, index).inject(&fault).start().expect("strace starts");
        let mut failing: Vec<_> = (0..3).map(failing).collect();
        let mut group = Group { nodes: Vec::new(), world };
        let (mut client, mut load) = (group.client(), Load::default());
        load.ask(&mut client, 200);
        // A node that the load does not bring to this sync is killed a little later instead.
        let begin = Instant::now();
        eventually("they are dead", || {
            let is_late = begin.elapsed() > Duration::from_millis(500);
            if is_late {
                failing.iter_mut().for_each(Node::kill9);
            }
            !failing.iter_mut().any(Node::is_running)
        });
        group.nodes =
            (0..3).map(|index| plan(&group.world, index).start().expect("it starts again")).collect();
        load.take(&group, &client, 200);
        group.check_after(&load, &mut client, &[0, 1, 2]);
    }
}

#[test]
fn a_slow_disk_gives_no_early_answer_and_stops_nobody() {
    let Some(world) = any_world() else { return };
    let slow = "fdatasync:delay_exit=100000";
    let nodes =
        (0..3).map(|index| plan(&world, index).inject(slow).start().expect("strace starts")).collect();
    let group = Group { nodes, world };
    let (mut client, mut load) = (group.client(), Load::default());
    group.leader(&mut client);
    load.ask(&mut client, 1);
    let first = client.next(PATIENCE).expect("an answer");
    assert!(first.chosen().is_some(), "{}", first.text);
    assert!(first.took >= Duration::from_millis(100), "answered before any sync: {:?}", first.took);
}
