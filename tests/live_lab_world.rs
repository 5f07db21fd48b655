//! Claims about the lab's real backends: processes crash and come back, requests get answers, links fail as set,
//! and the checkers find planted errors.

mod live;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Act, Change, Instance, Micros, NodeId};
use upaxos_core::wire::Stance;
use upaxos_lab::{
    Backend, BackendError, DiskFault, Fault, Link, NodeState, Party, ProcessBackend, Setup, Start,
    Unsupported, Violation,
};
use upaxos_testbed::hosts::Hosts;

use live::eventually;

const SEED: u64 = 253;
/// Long enough for a machine that is busy with other work.
const PATIENCE: Micros = Micros::from_millis(20_000);

fn setup() -> Setup {
    let beat = Micros::from_millis(100);
    Setup { nodes: 3, spares: 1, seed: SEED, beat, classic: false, records: true }
}

/// Returns a raw world with three running nodes. Returns `None` where namespaces are not possible.
fn raw() -> Option<ProcessBackend> {
    let hosts = live::or_skip(Hosts::raw_only(0))?;
    drop(hosts);
    let mut world = ProcessBackend::raw(&setup()).expect("hosts with a switch");
    start_all(&mut world);
    Some(world)
}

fn start_all(world: &mut ProcessBackend) {
    for id in 0..3 {
        world.start(NodeId(id), &Start::default()).expect("a node starts");
    }
}

/// Runs the world until `holds` is true.
fn await_that(world: &mut ProcessBackend, what: &str, mut holds: impl FnMut(&ProcessBackend) -> bool) {
    let until = world.now() + PATIENCE;
    while !holds(world) {
        assert!(world.now() < until, "not in time: {what}\n{}", world.describe());
        world.step(until).expect("the world continues");
    }
}

fn leader(world: &mut ProcessBackend) -> NodeId {
    let leads =
        |world: &ProcessBackend| (0..3).map(NodeId).find(|id| world.view(*id).stance == Some(Stance::Leads));
    await_that(world, "a node leads", |world| leads(world).is_some());
    leads(world).expect("just seen")
}

/// Sends a request, and waits for its outcome.
fn ask(world: &mut ProcessBackend, client: u64, ask: Ask) -> Outcome {
    let ticket = world.ask(client, ask, PATIENCE).expect("it can be asked");
    let until = world.now() + PATIENCE + Micros::from_millis(1_000);
    loop {
        if let Some(settled) = world.settled().into_iter().find(|settled| settled.ticket == ticket) {
            return settled.outcome;
        }
        assert!(world.now() < until, "no outcome\n{}", world.describe());
        world.step(until).expect("the world continues");
    }
}

fn write(world: &mut ProcessBackend, value: &str) -> Instance {
    match ask(world, 0, Ask::Write(value.into())) {
        Outcome::Chosen { instance, value: chosen } if chosen == value.into() => instance,
        other => panic!("{value}: {other:?}\n{}", world.describe()),
    }
}

fn assert_is_good(world: &mut ProcessBackend) {
    let found = world.check(PATIENCE).expect("the world can be judged");
    assert!(found.is_empty(), "{found:#?}\n{}", world.describe());
}

#[test]
fn a_group_is_asked_crashed_paused_and_judged() {
    let Some(mut world) = raw() else { return };
    let first = write(&mut world, "one");
    assert_eq!(
        ask(&mut world, 3, Ask::History(first)),
        Outcome::Chosen { instance: first, value: "one".into() }
    );
    let old = leader(&mut world);
    world.crash(old).expect("it runs");
    assert_eq!(world.view(old).state, NodeState::Down);
    assert!(world.crash(old).is_err_and(|error| matches!(error, BackendError::Misuse(_))));
    write(&mut world, "two\nin two lines");
    assert_ne!(leader(&mut world), old);
    world.start(old, &Start::default()).expect("it starts again");
    let other = NodeId((old.0 + 1) % 3);
    world.pause(other).expect("it runs");
    write(&mut world, "three");
    assert_eq!(world.view(other).stance, None);
    world.resume(other).expect("it is paused");
    assert!(
        matches!(ask(&mut world, 1, Ask::FastRead), Outcome::Read { value, .. } if value == "three".into())
    );
    world.stop(other).expect("it runs");
    await_that(&mut world, "it ends", |world| world.view(other).state == NodeState::Down);
    assert_is_good(&mut world);
    assert_eq!(world.view(other).state, NodeState::Runs, "the check has started it again");
    write(&mut world, "and on it goes");
}

#[test]
fn a_cut_is_one_way_and_a_client_that_nobody_hears_learns_nothing() {
    let Some(mut world) = raw() else { return };
    write(&mut world, "one");
    let leader = leader(&mut world);
    let deaf = NodeId((leader.0 + 1) % 3);
    let cut = Link { is_cut: true, ..Link::default() };
    world.link(Party::Node(leader), Party::Node(deaf), cut.clone()).expect("links can be cut here");
    await_that(&mut world, "one hears less", |world| {
        let heard = world.view(deaf).heard;
        !heard.is_empty() && !heard.contains(&leader) && world.view(leader).heard.contains(&deaf)
    });
    for id in (0..3).map(NodeId) {
        world.link(Party::Clients, Party::Node(id), cut.clone()).expect("links can be cut here");
    }
    let ticket =
        world.ask(0, Ask::Write("unheard".into()), Micros::from_millis(500)).expect("it can be asked");
    await_that(&mut world, "patience ends", |world| world.view(deaf).state == NodeState::Runs);
    let until = world.now() + Micros::from_millis(2_000);
    let mut settled = Vec::new();
    while settled.is_empty() && world.now() < until {
        world.step(until).expect("the world continues");
        settled = world.settled();
    }
    assert_eq!((settled[0].ticket, &settled[0].outcome), (ticket, &Outcome::Unknown));
    assert!(settled[0].took >= Micros::from_millis(500));
    let itself = Party::Node(leader);
    assert!(matches!(world.link(itself, itself, cut), Err(BackendError::Misuse(_))));
    assert_is_good(&mut world);
}

#[test]
fn writes_over_links_with_every_fault_are_chosen_once() {
    let Some(mut world) = raw() else { return };
    leader(&mut world);
    let bad = Link {
        loss: 0.1,
        duplicate: 0.2,
        corrupt: 0.1,
        delay: Micros::from_millis(1),
        jitter: Micros::from_millis(5),
        ..Link::default()
    };
    let all = (0..3).map(|id| Party::Node(NodeId(id))).chain([Party::Clients]);
    let all: Vec<Party> = all.collect();
    for (from, to) in
        all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))).filter(|(a, b)| a != b)
    {
        world.link(from, to, bad.clone()).expect("links can fail here");
    }
    let tickets: Vec<_> = (0..60)
        .map(|at| {
            world.ask(at % 5, Ask::Write(format!("value {at}").as_str().into()), PATIENCE).expect("asked")
        })
        .collect();
    let mut settled = Vec::new();
    while settled.len() < tickets.len() {
        let until = world.now() + PATIENCE;
        world.step(until).expect("the world continues");
        settled.extend(world.settled());
    }
    assert!(settled.iter().all(|settled| matches!(settled.outcome, Outcome::Chosen { .. })), "{settled:#?}");
    assert_is_good(&mut world);
    let saved = tempfile::tempdir().expect("a directory");
    world.save(saved.path()).expect("it can be saved");
    let wire = fs::read_to_string(saved.path().join("wire.jsonl")).expect("the wire was recorded");
    for word in [
        r#""fate":"lost""#,
        r#""fate":"duplicate""#,
        r#""fate":"damaged""#,
        r#""us":"#,
        r#""from":"clients""#,
    ] {
        assert!(wire.contains(word), "the record lacks {word}");
    }
    assert!(fs::read_to_string(saved.path().join("node-0.log")).expect("a log").contains("starting 0"));
}

#[test]
fn a_slow_disk_delays_answers_for_as_long_as_it_is_slow() {
    let Some(mut world) = raw() else { return };
    if let Some(Unsupported(why)) = world.lacks(Fault::Disk(DiskFault::SyncFails)) {
        return live::skip(why);
    }
    leader(&mut world);
    write(&mut world, "fast");
    let slow = DiskFault::Slow(Micros::from_millis(150));
    for id in (0..3).map(NodeId) {
        world.disk(id, Some(slow)).expect("strace attaches");
    }
    let before = world.now();
    write(&mut world, "slow");
    assert!(world.now().since(before) >= Micros::from_millis(150), "answered before any sync");
    for id in (0..3).map(NodeId) {
        world.disk(id, None).expect("strace lets go");
    }
    write(&mut world, "settles");
    assert_is_good(&mut world);
}

#[test]
fn a_disk_that_fails_ends_the_node_with_the_reason_and_the_check_brings_it_back() {
    let Some(mut world) = raw() else { return };
    if let Some(Unsupported(why)) = world.lacks(Fault::Disk(DiskFault::Full)) {
        return live::skip(why);
    }
    let leader = leader(&mut world);
    let others = [NodeId((leader.0 + 1) % 3), NodeId((leader.0 + 2) % 3)];
    for (id, fault, words) in [
        (others[0], DiskFault::SyncFails, "Input/output error"),
        (others[1], DiskFault::Full, "No space left"),
    ] {
        world.disk(id, Some(fault)).expect("strace attaches");
        write(&mut world, words);
        await_that(&mut world, "it ends", |world| matches!(world.view(id).state, NodeState::Ended(..)));
        let NodeState::Ended(status, said) = world.view(id).state else { panic!("just seen") };
        assert!(status == 1 && said.contains(words), "{status}: {said}");
        // The node's next disk works.
        world.start(id, &Start::default()).expect("it starts again");
        write(&mut world, "and on");
    }
    world.crash(others[0]).expect("it runs");
    world.disk(others[0], Some(DiskFault::SyncFails)).expect("it is kept for later");
    world.start(others[0], &Start::default()).expect("its process begins");
    await_that(&mut world, "its first sync fails", |world| {
        matches!(world.view(others[0]).state, NodeState::Ended(1, _))
    });
    world.disk(leader, Some(DiskFault::SyncFails)).expect("strace attaches");
    world.ask(0, Ask::Write("by and by".into()), PATIENCE).expect("it can be asked");
    assert_is_good(&mut world);
}

#[test]
fn a_node_whose_disk_was_wiped_learns_and_votes_no_more() {
    let Some(mut world) = raw() else { return };
    write(&mut world, "one");
    let id = NodeId((leader(&mut world).0 + 1) % 3);
    assert!(matches!(world.wipe(id), Err(BackendError::Misuse(_))), "it runs");
    world.crash(id).expect("it runs");
    world.wipe(id).expect("its directory is ours");
    assert_eq!(world.view(id).learned, Instance(0));
    world.start(id, &Start::default()).expect("it starts");
    await_that(&mut world, "it only learns", |world| {
        let view = world.view(id);
        view.stance == Some(Stance::Learns) && view.learned > Instance(0)
    });
    write(&mut world, "two");
    assert_is_good(&mut world);
}

#[test]
fn a_spare_joins_in_the_place_of_another_and_one_leaves() {
    let Some(mut world) = raw() else { return };
    write(&mut world, "one");
    let old = NodeId((leader(&mut world).0 + 1) % 3);
    world.crash(old).expect("it runs");
    world.start(NodeId(3), &Start { joins: Some(Some(old)), ..Start::default() }).expect("it starts");
    await_that(&mut world, "it follows", |world| world.view(NodeId(3)).stance == Some(Stance::Follows));
    let members = ask(&mut world, 0, Ask::Members);
    assert!(matches!(&members, Outcome::Members { members, .. } if !members.contains(&old)), "{members:?}");
    let leaves = Change { act: Act::Leave(NodeId(3)), is_forced: false };
    let left = ask(&mut world, 0, Ask::Change(leaves));
    assert!(matches!(left, Outcome::Chosen { .. }), "{left:?}");
    await_that(&mut world, "it ends", |world| matches!(world.view(NodeId(3)).state, NodeState::Ended(0, _)));
    write(&mut world, "two");
    assert!(
        matches!(world.start(NodeId(4), &Start::default()), Err(BackendError::Misuse(_))),
        "there is no host for it"
    );
    assert_is_good(&mut world);
}

#[test]
fn an_acknowledged_write_that_a_disk_forgot_is_found() {
    let Some(_) = live::or_skip(Hosts::raw_only(0)) else { return };
    let mut world = ProcessBackend::raw(&Setup { nodes: 1, ..setup() }).expect("hosts with a switch");
    let id = NodeId(0);
    let stop = |world: &mut ProcessBackend| {
        world.stop(id).expect("it runs");
        await_that(world, "it ends", |world| world.view(id).state == NodeState::Down);
    };
    world.start(id, &Start::default()).expect("it starts");
    write(&mut world, "kept");
    stop(&mut world);
    let dir = directory(&world).join("upaxos-0");
    let copy = tempfile::tempdir().expect("a directory");
    copy_files(&dir, copy.path());
    world.start(id, &Start::default()).expect("it starts");
    write(&mut world, "forgotten");
    stop(&mut world);
    fs::remove_dir_all(&dir).and_then(|()| fs::create_dir(&dir)).expect("the directory is ours");
    copy_files(copy.path(), &dir);
    let found = world.check(Micros::from_millis(3_000)).expect("it can be judged");
    let expected = "an acknowledged value is in the log of every node, for ever";
    assert!(found.iter().any(|violation| violation.expected == expected), "{found:#?}");
}

/// The directory of the hosts, which contains those of all nodes. The nodes' logs name it.
fn directory(world: &ProcessBackend) -> PathBuf {
    let described = world.describe();
    let dir = described.split("directory ").nth(1).and_then(|rest| rest.split(',').next());
    Path::new(dir.expect("a log names it")).parent().expect("it is in that of the hosts").to_owned()
}

#[test]
fn who_panics_or_cannot_open_its_log_any_more_is_found() {
    let Some(mut world) = raw() else { return };
    write(&mut world, "one");
    let dir = directory(&world).join("upaxos-2").display().to_string();
    let pid = processes_with(&dir)[0];
    kill(Pid::from_raw(pid), Signal::SIGABRT).expect("it is ours");
    await_that(&mut world, "it ends", |world| world.view(NodeId(2)).state != NodeState::Runs);
    world.start(NodeId(2), &Start::default()).expect("it starts again");
    await_that(&mut world, "it speaks", |world| world.view(NodeId(2)).stance.is_some());
    world.crash(NodeId(2)).expect("it runs");
    for file in fs::read_dir(&dir).expect("its directory").flatten() {
        if file.path().extension().is_some_and(|extension| extension == "log") {
            fs::write(file.path(), "no log").expect("the file is ours");
        }
    }
    let found = world.check(PATIENCE).expect("it can be judged");
    for (expected, got) in [
        ("no input and no order of events makes a node panic", "node 2 ended with status 134"),
        ("a crash leaves a log that opens, with every durable record", "node 2 ended with status 1: "),
    ] {
        let is_it = |violation: &Violation| violation.expected == expected && violation.got.contains(got);
        assert!(found.iter().any(is_it), "{expected}: {found:#?}");
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file can be copied");
    }
}

#[test]
fn the_udp_world_does_the_same_without_links() {
    let mut world = ProcessBackend::udp(&setup()).expect("every machine has a loopback");
    start_all(&mut world);
    write(&mut world, "one");
    let old = leader(&mut world);
    world.crash(old).expect("it runs");
    write(&mut world, "two");
    let Some(Unsupported(why)) = world.lacks(Fault::Links) else { panic!("links cannot fail on loopback") };
    assert!(why.contains("loopback") && why.contains("--on raw"), "{why}");
    let link = world.link(Party::Clients, Party::Node(old), Link::default());
    assert!(matches!(link, Err(BackendError::Unsupported(_))));
    assert_is_good(&mut world);
}

#[test]
fn a_classic_group_is_asked_and_judged() {
    let Some(_) = live::or_skip(Hosts::raw_only(0)) else { return };
    let mut world = ProcessBackend::raw(&Setup { classic: true, ..setup() }).expect("hosts with a switch");
    start_all(&mut world);
    for value in ["one", "two", "three"] {
        write(&mut world, value);
    }
    assert!(world.ask(0, Ask::Members, PATIENCE).is_err(), "a classic group does not know its members");
    assert_is_good(&mut world);
}

#[test]
#[ignore = "not a test: a process that owns a world and is killed"]
fn victim() {
    let mut world = ProcessBackend::raw(&setup()).expect("hosts with a switch");
    start_all(&mut world);
    write(&mut world, "one");
    if world.lacks(Fault::Disk(DiskFault::Full)).is_none() {
        world.disk(NodeId(0), Some(DiskFault::Slow(Micros(1_000)))).expect("strace attaches");
    }
    println!("\nowns {}", directory(&world).display());
    loop {
        let until = world.now() + PATIENCE;
        world.step(until).expect("the world continues");
    }
}

/// The processes whose command lines contain this text.
fn processes_with(text: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let command = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.filter(|pid| String::from_utf8_lossy(&command(pid)).contains(text)).collect()
}

#[test]
fn nothing_is_left_of_a_world_whose_owner_was_killed() {
    let Some(_) = live::or_skip(Hosts::raw_only(0)) else { return };
    let mut command = Command::new(env::current_exe().expect("a test has a path"));
    command.args(["--exact", "victim", "--ignored", "--nocapture"]).stdout(Stdio::piped());
    let mut owner = command.spawn().expect("the test program starts again");
    let said = BufReader::new(owner.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
    let line = said.into_iter().find(|line| line.starts_with("owns ")).expect("the owner has a world");
    let dir = line.trim_start_matches("owns ").to_owned();
    assert!(processes_with(&dir).len() >= 5, "a holder, a switch, three nodes");
    owner.kill().expect("it runs");
    owner.wait().expect("it ends");
    eventually("every process ends", || processes_with(&dir).is_empty());
    eventually("the directory is removed", || !Path::new(&dir).exists());
}
