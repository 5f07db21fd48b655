//! Claims about addresses, interfaces and routes: which nodes receive each other, and how real processes behave
//! when these change.

mod live;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Output, Stdio};

use upaxos_testbed::hosts::{Host, Hosts, Node, Plan};

use live::group::{NODE, PATIENCE};
use live::{eventually, or_skip, programs};

/// Addresses at which a group may meet, with their flags: both transports, multicast and broadcast.
const BY_INTERFACE: [&str; 4] = [
    "-a 239.253.7.1 --interface ring0",
    "-a 255.255.255.255 --interface ring0",
    "-a 239.253.7.1 --interface ring0 --transport udp",
    "-a 255.255.255.255 --interface ring0 --transport udp",
];

/// The same without an interface. The routing table chooses one.
const BY_ROUTE: [&str; 2] = ["-a 239.253.7.1", "-a 239.253.7.1 --transport udp"];

fn hosts() -> Option<Hosts> {
    let hosts = or_skip(Hosts::raw_only(3))?;
    for host in [Host::Node(0), Host::Node(1), Host::Node(2), Host::Client] {
        ring(&hosts, host, address(host, 10));
    }
    Some(hosts)
}

fn address(host: Host, offset: usize) -> usize {
    offset + if let Host::Node(index) = host { index } else { 3 }
}

/// Gives a host the interface ring0, a bridge to the other hosts. The host itself can delete and recreate it.
fn ring(hosts: &Hosts, host: Host, last: usize) {
    ip(hosts, host, "addr flush dev eth0");
    // Without multicast snooping, because no router here sends membership queries.
    ip(hosts, host, "link add ring0 type bridge mcast_snooping 0");
    ip(hosts, host, "link set eth0 master ring0");
    ip(hosts, host, "link set ring0 up");
    ip(hosts, host, &format!("addr add 10.77.0.{last}/24 brd + dev ring0"));
    ip(hosts, host, "route replace default dev ring0");
}

fn ip(hosts: &Hosts, host: Host, words: &str) {
    let done = hosts.command(host, "ip").args(words.split(' ')).output().expect("ip runs");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

fn node<'h>(hosts: &'h Hosts, index: usize, n: usize, place: &str) -> Plan<'h> {
    let (n, id) = (n.to_string(), index.to_string());
    let plan = Node::on(hosts, index, NODE).args(place.split(' ')).args(["-n", &n, "-i", &id]);
    plan.args(["--dir".into(), hosts.node_dir(index).into_os_string()])
}

fn three(hosts: &Hosts, place: &str) -> Vec<Node> {
    (0..3).map(|index| node(hosts, index, 3, place).start().expect("a node starts")).collect()
}

/// Starts a program with `lines` as its input.
fn start(hosts: &Hosts, host: Host, program: &str, args: &str, lines: &str) -> Child {
    let program = if program == "client" { NODE.into() } else { programs().join(program) };
    let mut command = hosts.command(host, program);
    command.args(args.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program starts");
    child.stdin.as_mut().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    child
}

fn run(hosts: &Hosts, host: Host, program: &str, args: &str, lines: &str) -> Output {
    start(hosts, host, program, args, lines).wait_with_output().expect("it ends")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Sends one line, and returns the answer.
fn ask(hosts: &Hosts, place: &str, line: &str) -> String {
    let args = format!("client {place} --timeout 25s");
    let output = run(hosts, Host::Client, "client", &args, &format!("{line}\n"));
    let said = said(&output);
    said.splitn(3, ' ').last().unwrap_or_default().trim_end().to_owned()
}

/// Writes a value, and waits until all three nodes have learned it.
fn all_take_part(hosts: &Hosts, place: &str, nodes: &[Node]) {
    let logs = || nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n---\n");
    let answer = ask(hosts, place, "Request 0 one");
    let instance = answer.strip_prefix("OK ").and_then(|rest| rest.split(' ').next());
    let instance = instance.unwrap_or_else(|| panic!("{place}: {answer}\n{}", logs()));
    let answer = ask(hosts, place, &format!("learned 3 {instance}"));
    assert!(answer.starts_with("learned"), "{place}: {answer}\n{}", logs());
}

/// For each place: starts three nodes, changes the network of the second, waits for `line` in its log, and checks
/// that all three take part as before.
fn follows(places: &[&str], change: impl Fn(&Hosts, &Node), line: &str) {
    for place in places {
        let Some(hosts) = hosts() else { return };
        let nodes = three(&hosts, place);
        all_take_part(&hosts, place, &nodes);
        change(&hosts, &nodes[1]);
        let told = nodes[1].wait_for_line(line, PATIENCE);
        told.unwrap_or_else(|error| panic!("{place}: {error}"));
        all_take_part(&hosts, place, &nodes);
    }
}

fn is_lost(node: &Node) {
    node.wait_for_line("has lost the network: ", PATIENCE).expect("it notices");
}

#[test]
fn a_node_follows_its_interface_to_another_address() {
    let change = |hosts: &Hosts, _: &Node| {
        ip(hosts, Host::Node(1), "addr add 10.78.0.111/24 brd + dev ring0");
        ip(hosts, Host::Node(1), "addr del 10.77.0.11/24 dev ring0");
        ip(hosts, Host::Node(1), "route replace default dev ring0");
    };
    follows(
        &BY_INTERFACE,
        change,
        "has the network: it sends from 10.78.0.111 on ring0 (before: 10.77.0.11)",
    );
}

#[test]
fn a_node_without_an_interface_follows_the_route() {
    let change = |hosts: &Hosts, node: &Node| {
        ip(hosts, Host::Node(1), "addr del 10.77.0.11/24 dev ring0");
        ip(hosts, Host::Node(1), "link set ring0 down");
        is_lost(node);
        ip(hosts, Host::Node(1), "link set eth0 nomaster");
        ip(hosts, Host::Node(1), "addr add 10.77.0.111/24 brd + dev eth0");
        ip(hosts, Host::Node(1), "route replace default dev eth0");
    };
    follows(&BY_ROUTE, change, "has the network: it sends from 10.77.0.111 on eth0 (before: 10.77.0.11)");
}

#[test]
fn a_node_whose_address_goes_says_so_and_takes_part_again_when_it_is_back() {
    let change = |hosts: &Hosts, node: &Node| {
        ip(hosts, Host::Node(1), "addr del 10.77.0.11/24 dev ring0");
        is_lost(node);
        ip(hosts, Host::Node(1), "addr add 10.77.0.11/24 brd + dev ring0");
    };
    follows(&BY_INTERFACE, change, "has the network: it sends from 10.77.0.11 on ring0 again");
}

#[test]
fn a_node_whose_route_leads_nowhere_for_a_while_takes_part_again_when_it_leads_to_the_group() {
    let change = |hosts: &Hosts, node: &Node| {
        ip(hosts, Host::Node(1), "route add blackhole default metric 4096");
        ip(hosts, Host::Node(1), "route del default dev ring0");
        is_lost(node);
        ip(hosts, Host::Node(1), "route add default dev ring0");
    };
    follows(&BY_ROUTE, change, "has the network: it sends from 10.77.0.11 on ring0 again");
}

#[test]
fn a_node_whose_interface_goes_down_takes_part_again_when_it_is_up() {
    let change = |hosts: &Hosts, node: &Node| {
        ip(hosts, Host::Node(1), "link set ring0 down");
        is_lost(node);
        ip(hosts, Host::Node(1), "link set ring0 up");
    };
    follows(&BY_INTERFACE, change, "has the network: it sends from 10.77.0.11 on ring0 again");
}

#[test]
fn a_node_follows_an_interface_that_is_made_anew_under_its_name() {
    let change = |hosts: &Hosts, node: &Node| {
        ip(hosts, Host::Node(1), "link del ring0");
        is_lost(node);
        ring(hosts, Host::Node(1), 111);
    };
    follows(
        &BY_INTERFACE,
        change,
        "has the network: it sends from 10.77.0.111 on ring0 (before: 10.77.0.11)",
    );
}

/// The number of the group's sockets on the host of this process. Binding is the last step of opening a socket. A
/// raw socket is bound to 239.253.7.1, shown in memory order, and protocol 253. A UDP socket is bound to any
/// address and port 25253.
fn sockets(child: &Child, place: &str) -> usize {
    let (table, bound) = if place.contains("udp") {
        ("udp", ":62A5 ".to_owned())
    } else {
        ("raw", format!("{:08X}:00FD ", u32::from_ne_bytes([239, 253, 7, 1])))
    };
    let table = std::fs::read_to_string(format!("/proc/{}/net/{table}", child.id())).unwrap_or_default();
    table.lines().filter(|line| line.contains(&bound)).count()
}

#[test]
fn a_prompt_follows_its_interface() {
    for place in BY_INTERFACE {
        let Some(hosts) = hosts() else { return };
        let nodes = three(&hosts, place);
        all_take_part(&hosts, place, &nodes);
        let args = format!("{place} --timeout 20s");
        let mut prompt = start(&hosts, Host::Client, "upaxos-repl", &args, "Request 0 one\n");
        let mut answer = String::new();
        let mut answers = BufReader::new(prompt.stdout.take().expect("piped"));
        answers.read_line(&mut answer).expect("it answers");
        assert!(answer.starts_with("OK "), "{place}: {answer}");
        ip(&hosts, Host::Client, "link del ring0");
        ring(&hosts, Host::Client, 113);
        prompt.stdin.as_mut().expect("piped").write_all(b"Request 0 two\n").expect("it reads");
        answers.read_line(&mut answer).expect("it answers");
        assert!(answer.ends_with(" two\n"), "{place}: {answer}");
        drop(prompt.stdin.take());
        assert!(prompt.wait().expect("it ends").success(), "{place}");
    }
}

#[test]
fn what_is_sent_to_another_address_does_not_reach_the_group() {
    let cases = [
        ("10.77.0.255", "10.78.0.255"),
        ("10.77.0.255", "255.255.255.255"),
        ("10.77.0.255", "10.77.0.10"),
        ("239.253.7.1", "239.253.7.2"),
        ("239.253.7.1", "10.77.0.255"),
        ("10.77.0.10", "10.77.0.255"),
    ];
    let Some(hosts) = hosts() else { return };
    ip(&hosts, Host::Node(0), "link add other0 type bridge");
    ip(&hosts, Host::Node(0), "link set other0 up");
    ip(&hosts, Host::Node(0), "addr add 10.78.0.10/24 brd + dev other0");
    for (number, (ours, theirs)) in cases.iter().enumerate() {
        for (transport, flags) in [("raw", ""), ("udp", " --transport udp"), ("raw", " --interface ring0")] {
            let is_host = |address: &str| address.ends_with(".10");
            if transport == "udp" && (is_host(ours) || is_host(theirs)) {
                continue;
            }
            let dir = hosts.dir().join(format!("{number}{flags}"));
            let plan = Node::on(&hosts, 0, NODE).args(format!("-n 1 -i 0 -a {ours}{flags}").split(' '));
            let _node = plan.args(["--dir".into(), dir.into_os_string()]).start().expect("a node starts");
            let args = |address: &str, timeout| {
                format!("-a {address} --transport {transport} --wait --timeout {timeout} Request 0 one")
            };
            let right = run(&hosts, Host::Node(0), "upaxos-send", &args(ours, "20s"), "");
            assert_eq!(right.status.code(), Some(0), "{ours}{flags}: {}", said(&right));
            let wrong = run(&hosts, Host::Node(0), "upaxos-send", &args(theirs, "400ms"), "");
            assert_eq!(wrong.status.code(), Some(3), "{theirs} for {ours}{flags}: {}", said(&wrong));
        }
    }
}

#[test]
fn a_node_speaks_and_listens_on_its_interface_only() {
    let Some(hosts) = hosts() else { return };
    ip(&hosts, Host::Node(0), "link add other0 type bridge");
    ip(&hosts, Host::Node(0), "link set other0 up");
    ip(&hosts, Host::Node(0), "addr add 10.78.0.10/24 brd + dev other0");
    for (number, place) in BY_INTERFACE.iter().enumerate() {
        let dir = hosts.dir().join(number.to_string());
        let plan = Node::on(&hosts, 0, NODE).args(place.split(' ')).args(["-n", "1", "-i", "0"]);
        let _node = plan.args(["--dir".into(), dir.into_os_string()]).start().expect("a node starts");
        let args = |place: &str, timeout| format!("{place} --wait --timeout {timeout} Request 0 one");
        let right = run(&hosts, Host::Node(0), "upaxos-send", &args(place, "20s"), "");
        assert_eq!(right.status.code(), Some(0), "{place}: {}", said(&right));
        let wrong = args(&place.replace("ring0", "other0"), "400ms");
        let wrong = run(&hosts, Host::Node(0), "upaxos-send", &wrong, "");
        assert_eq!(wrong.status.code(), Some(3), "{place}: {}", said(&wrong));
    }
}

#[test]
fn a_client_says_what_its_network_refuses() {
    for place in [BY_INTERFACE[0], BY_INTERFACE[3], BY_ROUTE[0]] {
        for (program, flags, count) in [("upaxos-send", " --wait", 1), ("upaxos-repl", "", 2)] {
            let Some(hosts) = hosts() else { return };
            let args = format!("{place} --timeout 5s{flags}");
            let mut asker = start(&hosts, Host::Client, program, &args, "Request 0 one\n");
            drop(asker.stdin.take());
            eventually("it has its sockets", || sockets(&asker, place) == count);
            ip(&hosts, Host::Client, "link set ring0 down");
            let output = asker.wait_with_output().expect("it ends");
            let said = said(&output);
            assert_eq!(output.status.code(), Some(3), "{place}: {said}");
            assert!(
                said.contains("cannot ") && !said.contains("no node was heard"),
                "{program} {place}: {said}"
            );
        }
    }
}

#[test]
fn a_node_that_may_not_send_says_so_once_and_once_that_it_may_again() {
    for place in [BY_INTERFACE[0], BY_INTERFACE[3]] {
        let Some(hosts) = hosts() else { return };
        // The injected error acts as a firewall does, for some seconds of beats.
        let plan = node(&hosts, 0, 1, place).inject("sendmmsg:error=EPERM:when=20..60");
        let node = plan.start().expect("a node starts");
        node.wait_for_line("has the network: ", PATIENCE).expect("it may send again");
        let log = node.log();
        let lost: Vec<_> = log.lines().filter(|line| line.contains("has lost the network")).collect();
        assert_eq!(lost.len(), 1, "{log}");
        assert!(
            lost[0].contains("cannot send to ") && lost[0].contains("Operation not permitted"),
            "{}",
            lost[0]
        );
        assert_eq!(log.matches("has the network").count(), 1, "{log}");
    }
}

#[test]
fn where_no_route_leads_every_program_says_so_at_its_start() {
    let Some(hosts) = hosts() else { return };
    ip(&hosts, Host::Client, "link del ring0");
    for address in ["239.253.7.1", "10.77.0.255", "255.255.255.255"] {
        for transport in ["raw", "udp"] {
            let place = format!("-a {address} --transport {transport}");
            let dir = hosts.dir().join("nowhere");
            let daemon = format!("{place} -n 1 -i 0 --dir {}", dir.display());
            let send = format!("{place} --wait Request 0 one");
            let prompt = format!("{place} -e status");
            for (program, args) in [("client", daemon), ("upaxos-send", send), ("upaxos-repl", prompt)] {
                let output = run(&hosts, Host::Client, program, &args, "");
                let said = said(&output);
                assert_eq!(output.status.code(), Some(1), "{program} {args}: {said}");
                assert!(said.contains(&format!("cannot reach {address}: ")), "{program} {args}: {said}");
                assert_eq!(said.matches("unreachable").count(), 1, "{program} {args}: {said}");
                assert_eq!(said.trim().lines().count(), 1, "{said}");
            }
        }
    }
}

#[test]
fn a_node_is_refused_the_address_of_another_host_and_may_have_its_own() {
    let Some(hosts) = hosts() else { return };
    let dir = |name: &str| hosts.dir().join(name).display().to_string();
    let elsewhere = format!("-a 10.77.0.11 -n 1 -i 0 --dir {}", dir("elsewhere"));
    let refused = run(&hosts, Host::Node(0), "client", &elsewhere, "");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("cannot use address 10.77.0.11: a node could not receive"),
        "{}",
        said(&refused)
    );

    let here = format!("-a 10.77.0.10 -n 1 -i 0 --dir {}", dir("here"));
    let _node = Node::on(&hosts, 0, NODE).args(here.split(' ')).start().expect("a node starts");
    let asked =
        run(&hosts, Host::Node(0), "upaxos-send", "-a 10.77.0.10 --wait --timeout 20s Request 0 one", "");
    assert_eq!(asked.status.code(), Some(0), "{}", said(&asked));
}
