//! Claims about the lab's hosts: they are isolated, their processes are the real programs, injected faults take
//! effect, and no process or file is left behind.

mod live;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use upaxos_testbed::hosts::{Host, Hosts, HostsError, Isolation, Node};

use live::{PATIENCE, eventually, oneself, or_skip, stat};

/// The random seed of the switches.
const SEED: u64 = 253;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Hosts with a switch, one set for each kind of isolation that has namespaces. Root can use both kinds.
fn raw_hosts(count: usize) -> Vec<Hosts> {
    let Some(best) = or_skip(Hosts::switched(count, SEED)) else {
        return Vec::new();
    };
    let second = match best.ground() {
        Isolation::Root => Hosts::switched_on(Isolation::User, count, SEED, false),
        _ => return vec![best],
    };
    match second {
        Ok(second) => vec![best, second],
        Err(error) => {
            live::say_skipped(&error);
            vec![best]
        }
    }
}

fn sleeper(hosts: &Hosts) -> Node {
    let plan = Node::on(hosts, 0, "sleep").args(["1000"]);
    let node = plan.start().expect("sleep starts");
    eventually("it is sleep itself", || comm(node.pid()) == "sleep");
    node
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// The running processes of a process group.
fn members(group: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let living = |fields: &Vec<String>| fields[0] != "Z" && fields[2] == group;
    pids.filter(|&pid| stat(pid).as_ref().is_some_and(living)).collect()
}

fn group_of(node: &Node) -> String {
    stat(node.pid()).expect("the process runs")[2].clone()
}

const PACKETS: usize = 200;

#[test]
#[ignore = "not a test: a host that listens"]
fn listen() {
    let socket = UdpSocket::bind("0.0.0.0:9000").expect("the port is free here");
    eprintln!("listening");
    let mut buffer = [0; 64];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let word = String::from_utf8_lossy(&buffer[..length]);
        eprintln!("heard {word} from {}", from.ip());
    }
}

fn shout(word: &str) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port is free");
    socket.set_broadcast(true).expect("broadcasting is allowed");
    // Few enough for a receive buffer of the default size. So every missing packet was dropped by the switch.
    for _ in 0..PACKETS {
        let sent = socket.send_to(word.as_bytes(), "10.253.0.255:9000");
        sent.expect("the host has a network");
    }
}

#[test]
#[ignore = "not a test: a host that speaks"]
fn speak() {
    shout("hello");
}

#[test]
#[ignore = "not a test: a host that speaks last"]
fn close() {
    shout("last");
}

#[test]
#[ignore = "not a test: a process that owns hosts and is killed"]
fn victim() {
    let name = env::var("UPAXOS_GROUND").expect("the test names a ground");
    let mut grounds = Isolation::ALL.into_iter();
    let ground = grounds.find(|ground| format!("{ground:?}") == name);
    let hosts = match ground.expect("a known ground") {
        Isolation::Udp => Hosts::on(Isolation::Udp, 2),
        ground => Hosts::switched_on(ground, 2, SEED, true),
    };
    let hosts = hosts.expect("hosts");
    let node = sleeper(&hosts);
    let traced = Node::on(&hosts, 1, "sleep").args(["1000"]);
    let traced = traced.inject("fdatasync:error=EIO").start();
    fs::create_dir(hosts.node_dir(0)).expect("a directory");
    println!("\nhosts {} {}", group_of(&node), hosts.dir().display());
    traced.expect("strace starts").wait_for_line("never", PATIENCE * 10).ok();
}

#[test]
fn every_host_has_an_address_of_its_own() -> Outcome {
    for hosts in raw_hosts(3) {
        for (host, address) in [(Host::Node(0), 10), (Host::Node(2), 12), (Host::Client, 13)] {
            let output = hosts.command(host, "ip").args(["-o", "addr"]).output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let wanted = format!("10.253.0.{address}/24 brd 10.253.0.255");
            assert!(text.contains(&wanted), "{}: {text}", hosts.ground());
        }
        assert_eq!(hosts.args(), ["-a", "10.253.0.255"]);
    }
    Ok(())
}

#[test]
fn a_loopback_world_is_one_host_with_loopback_only() -> Outcome {
    let Some(hosts) = or_skip(Hosts::loopback()) else {
        return Ok(());
    };
    for host in [Host::Node(0), Host::Client] {
        let output = hosts.command(host, "ip").args(["-o", "link"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("LOOPBACK,UP"), "{text}");
    }
    assert!(matches!(hosts.loss(1), Err(HostsError::Unsupported { .. })));
    Ok(())
}

#[test]
fn hosts_with_the_same_names_are_apart() -> Outcome {
    let (Some(one), Some(other)) = (or_skip(Hosts::raw_only(1)), or_skip(Hosts::raw_only(1))) else {
        return Ok(());
    };
    let network = |hosts: &Hosts| {
        let node = sleeper(hosts);
        fs::read_link(format!("/proc/{}/ns/net", node.pid()))
    };
    assert_ne!(network(&one)?, network(&other)?);
    assert_ne!(network(&one)?, fs::read_link("/proc/self/ns/net")?);
    Ok(())
}

#[test]
fn kill_by_pid_kills_the_program_and_its_tracer() -> Outcome {
    let mut hosts = raw_hosts(1);
    hosts.push(Hosts::on(Isolation::Udp, 1)?);
    for hosts in hosts {
        let mut node = sleeper(&hosts);
        let group = group_of(&node);
        let pid = node.pid();
        node.kill9();
        assert!(stat(pid).is_none());

        let traced = Node::on(&hosts, 0, "sleep").args(["1000"]);
        let mut traced = traced.inject("fdatasync:error=EIO").start()?;
        eventually("the program runs", || comm(traced.pid()) == "sleep");
        traced.kill9();
        let names = || members(&group).into_iter().map(comm).collect::<Vec<_>>();
        eventually("the tracer ends with it", || {
            names().iter().all(|name| ["sh", "cat", "upaxos-node"].contains(&name.as_str()))
        });
    }
    Ok(())
}

#[test]
fn an_injected_fault_reaches_the_program() -> Outcome {
    let Some(hosts) = or_skip(Hosts::raw_only(1)) else {
        return Ok(());
    };
    let plan = Node::on(&hosts, 0, "sync").args(["-d", "/dev/null"]);
    let mut node = plan.inject("fdatasync:error=EIO").start()?;
    node.wait_for_line("Input/output error", PATIENCE)?;
    assert_eq!(node.wait_exit(PATIENCE)?.code(), Some(1));
    Ok(())
}

#[test]
fn a_pause_stops_the_program_and_a_resume_continues_it() -> Outcome {
    let hosts = Hosts::new(1)?;
    let node = sleeper(&hosts);
    let state = || stat(node.pid()).expect("the process runs")[0].clone();
    node.pause();
    eventually("it is stopped", || state() == "T");
    node.resume();
    eventually("it runs", || state() == "S");
    assert!(node.resident()? > 100_000);
    Ok(())
}

#[test]
fn a_log_is_awaited_by_line_and_by_start() -> Outcome {
    let hosts = Hosts::new(1)?;
    let plan = Node::on(&hosts, 0, "sh").args(["-c", "echo one >&2; echo two >&2"]);
    let mut node = plan.start()?;
    assert_eq!(node.wait_for_line("tw", PATIENCE)?, "two");
    assert!(node.wait_exit(PATIENCE)?.success());
    let ended = node.wait_for_line("three", PATIENCE);
    assert!(matches!(ended, Err(HostsError::Ended { .. })), "{ended:?}");
    node.start()?;
    node.wait_for_line("one", PATIENCE)?;
    node.wait_for_line("two", PATIENCE)?;
    assert_eq!(node.log(), "one\ntwo\none\ntwo");
    let patience = Duration::from_millis(10);
    let quiet = sleeper(&hosts).wait_for_line("a word", patience);
    assert!(matches!(quiet, Err(HostsError::TimedOut { .. })), "{quiet:?}");
    Ok(())
}

/// How often each host received each word, once every listener has received the last one.
fn heard(hosts: &Hosts, prepare: impl Fn(&Hosts) -> Result<(), HostsError>) -> Vec<Vec<usize>> {
    let all = [Host::Node(0), Host::Node(1), Host::Node(2), Host::Client];
    let listeners = all.map(|host| oneself(hosts, host, "listen"));
    for listener in &listeners {
        let line = listener.wait_for_line("listening", PATIENCE);
        line.expect("the host listens");
    }
    prepare(hosts).expect("the fault is possible here");
    for host in all {
        let mut speaker = oneself(hosts, host, "speak");
        assert!(speaker.wait_exit(PATIENCE).expect("it ends").success());
        hosts.drain().expect("the switch runs");
        for listener in &listeners {
            eventually("the queue is read", || idle(listener));
        }
    }
    if hosts.lacks_faults().is_none() {
        hosts.heal().expect("hosts can be healed");
    }
    let mut closer = oneself(hosts, Host::Client, "close");
    closer.wait_exit(PATIENCE).expect("it ends");
    let count = |listener: &Node| {
        let line = listener.wait_for_line("last", PATIENCE);
        line.expect("a healed network carries everything");
        let log = listener.log();
        let from = |index| format!("heard hello from 10.253.0.{}", 10 + index);
        let count = |index| log.lines().filter(|line| *line == from(index)).count();
        (0..all.len()).map(count).collect()
    };
    listeners.iter().map(count).collect()
}

/// Whether the receive queue of a listener is empty.
fn idle(listener: &Node) -> bool {
    let sockets = fs::read_to_string(format!("/proc/{}/net/udp", listener.pid()));
    let sockets = sockets.expect("the listener runs");
    let rows = sockets.lines().skip(1);
    let mut queues = rows.filter_map(|row| row.split_whitespace().nth(4));
    queues.all(|sent_and_received| sent_and_received.ends_with(":00000000"))
}

#[test]
fn without_a_fault_everybody_hears_everything() {
    for hosts in raw_hosts(3).into_iter().chain(or_skip(Hosts::raw_only(3))) {
        let heard = heard(&hosts, |_| Ok(()));
        assert_eq!(heard, vec![vec![PACKETS; 4]; 4], "{}", hosts.ground());
    }
}

#[test]
fn a_cut_silences_one_direction_only() {
    for hosts in raw_hosts(3) {
        let heard = heard(&hosts, |hosts| hosts.cut(0, 1));
        assert_eq!(heard[1], [0, PACKETS, PACKETS, PACKETS]);
        for host in [0, 2, 3] {
            assert_eq!(heard[host], [PACKETS; 4], "{host} on {}", hosts.ground());
        }
    }
}

#[test]
fn a_partition_separates_nodes_but_not_the_client() {
    for hosts in raw_hosts(3) {
        let heard = heard(&hosts, |hosts| hosts.partition(&[&[0, 2]]));
        assert_eq!(heard[0], [PACKETS, 0, PACKETS, PACKETS]);
        assert_eq!(heard[1], [0, PACKETS, 0, PACKETS]);
        assert_eq!(heard[2], [PACKETS, 0, PACKETS, PACKETS]);
        assert_eq!(heard[3], [PACKETS; 4]);
    }
}

#[test]
fn links_are_set_at_once_and_each_way_on_its_own() {
    for hosts in raw_hosts(3) {
        let heard = heard(&hosts, |hosts| {
            hosts.cut(0, 2)?;
            hosts.links(|from, to| from < to)
        });
        assert_eq!(heard[0], [PACKETS, 0, 0, PACKETS]);
        assert_eq!(heard[1], [PACKETS, PACKETS, 0, PACKETS]);
        assert_eq!(heard[2..], [[PACKETS; 4]; 2], "on {}", hosts.ground());
    }
}

#[test]
fn loss_hits_every_link_but_not_oneself() {
    for hosts in raw_hosts(3) {
        let heard = heard(&hosts, |hosts| hosts.loss(30));
        for (to, row) in heard.iter().enumerate() {
            for (from, &count) in row.iter().enumerate() {
                // The mean is 140 of 200. The bounds are more than five standard deviations away.
                let expected = if to == from { 200..=200 } else { 105..=175 };
                assert!(expected.contains(&count), "{from} to {to}: {heard:?}");
            }
        }
    }
}

#[test]
fn the_plain_ground_runs_programs_and_names_the_faults_it_lacks() -> Outcome {
    let hosts = Hosts::on(Isolation::Udp, 3)?;
    let output = hosts.command(2, "echo").arg("here").output()?;
    assert_eq!(output.stdout, b"here\n");
    for outcome in [hosts.loss(10), hosts.cut(0, 1), hosts.links(|_, _| true), hosts.heal()] {
        let error = outcome.expect_err("loopback is not ours").to_string();
        assert!(error.contains("not on this ground (UDP"), "{error}");
    }
    Ok(())
}

#[test]
fn a_program_that_is_not_built_is_named_with_the_remedy() {
    let error = upaxos_testbed::hosts::binary("upaxos-nothing").expect_err("not there");
    assert!(error.to_string().contains("cargo build --workspace"), "{error}");
}

#[test]
fn nothing_is_left_after_a_world_is_dropped() -> Outcome {
    let mut hosts = raw_hosts(3);
    hosts.push(Hosts::on(Isolation::Udp, 3)?);
    for hosts in hosts {
        let dir = hosts.dir().to_owned();
        let node = sleeper(&hosts);
        let group = group_of(&node);
        fs::create_dir(hosts.node_dir(0))?;
        drop(hosts);
        // The test still holds the node's handle, so its zombie remains. No process of the group runs.
        eventually("the group is empty", || members(&group).is_empty());
        assert!(!dir.exists());
        assert_eq!(lab_names(), Vec::<PathBuf>::new());
    }
    Ok(())
}

#[test]
fn nothing_is_left_after_a_kill_of_its_owner() -> Outcome {
    let mut grounds = vec![Isolation::Udp];
    grounds.extend(raw_hosts(0).iter().map(Hosts::ground));
    for ground in grounds {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--exact", "victim", "--ignored", "--nocapture"]);
        command.env("UPAXOS_GROUND", format!("{ground:?}"));
        let mut owner = command.stdout(Stdio::piped()).spawn()?;
        let stdout = BufReader::new(owner.stdout.take().expect("stdout is piped"));
        let said = stdout.lines().map_while(Result::ok);
        let line = said.into_iter().find(|line| line.starts_with("hosts "));
        let line = line.expect("the owner has hosts");
        let words: Vec<&str> = line.split(' ').collect();
        let (group, dir) = (words[1], Path::new(words[2]));
        assert!(dir.exists());
        let most = if ground.is_raw() { 5 } else { 4 };
        eventually("a holder, two programs, a tracer, a switch", || members(group).len() >= most);

        owner.kill()?;
        owner.wait()?;
        eventually("every process ends", || members(group).is_empty());
        eventually("the directory is removed", || !dir.exists());
        assert_eq!(lab_names(), Vec::<PathBuf>::new());
    }
    Ok(())
}

/// Network namespaces of the lab that other processes on this machine can see.
fn lab_names() -> Vec<PathBuf> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().contains("/lab-")).collect()
}
