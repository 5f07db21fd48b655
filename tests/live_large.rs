//! Claims about values that are longer than a packet, on networks that lose packets, or carry only shorter ones
//! than expected.

mod live;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use upaxos_testbed::hosts::{Host, Hosts, Node};

use live::group::{NODE, PATIENCE};
use live::or_skip;

const SEED: u64 = 9_007;

/// The hosts' broadcast address as the group's address, over both transports.
const PLACES: [&str; 2] = ["-a 10.253.0.255", "-a 10.253.0.255 --transport udp"];

fn three(hosts: &Hosts, place: &str) -> Vec<Node> {
    let node = |index: usize| {
        let id = index.to_string();
        let plan = Node::on(hosts, index, NODE).args(place.split(' ')).args(["-n", "3", "-i", &id]);
        let plan = plan.args(["--dir".into(), hosts.node_dir(index).into_os_string()]);
        plan.start().expect("a node starts")
    };
    (0..3).map(node).collect()
}

/// Sends these lines, `window` at once. Returns the answers in the order of their arrival.
fn ask(hosts: &Hosts, place: &str, window: &str, lines: &[String]) -> Vec<String> {
    let mut command = hosts.command(Host::Client, NODE);
    command.arg("client").args(place.split(' ')).args(["--timeout", "25s", "--window", window]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a client starts");
    let mut input = client.stdin.take().expect("piped");
    let text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
    let write = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = client.wait_with_output().expect("the client ends");
    write.join().expect("it writes").expect("the client reads");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().map(|line| line.splitn(3, ' ').last().unwrap_or_default().to_owned()).collect()
}

fn logs(nodes: &[Node]) -> String {
    nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n---\n")
}

fn value(number: usize, size: usize) -> String {
    format!("{number}-{}", "x".repeat(size))
}

fn writes(numbers: std::ops::Range<usize>, size: usize) -> Vec<String> {
    numbers.map(|number| format!("Request 0 {}", value(number, size))).collect()
}

/// Checks that each value is chosen exactly once.
fn check(answers: &[String], numbers: std::ops::Range<usize>, nodes: &[Node]) {
    for number in numbers.clone() {
        let begin = format!(" {number}-x");
        let mut chosen = answers.iter().filter(|answer| answer.starts_with("OK ") && answer.contains(&begin));
        assert!(chosen.next().is_some() && chosen.next().is_none(), "{number}\n{}", logs(nodes));
    }
    assert_eq!(answers.len(), numbers.len());
}

#[test]
fn values_of_many_packets_are_chosen_while_every_link_loses() {
    for place in PLACES {
        let Some(hosts) = or_skip(Hosts::switched(3, SEED)) else { return };
        let nodes = three(&hosts, place);
        hosts.loss(10).expect("packets can be lost here");
        check(&ask(&hosts, place, "4", &writes(0..40, 20_000)), 0..40, &nodes);
        check(&ask(&hosts, place, "2", &writes(40..50, 59_000)), 40..50, &nodes);
        hosts.loss(0).expect("losses can be ended");
        // A node fetches the values that it missed.
        let answers = ask(&hosts, place, "1", &["learned 3 50".into(), "Request 50".into()]);
        assert!(answers[0].starts_with("learned"), "{answers:?}\n{}", logs(&nodes));
        assert!(answers[1].len() > 59_000, "{}", logs(&nodes));
    }
}

#[test]
fn a_history_of_large_values_is_fetched_while_every_link_loses() {
    let (place, Some(hosts)) = (PLACES[0], or_skip(Hosts::switched(3, SEED))) else { return };
    let mut nodes = three(&hosts, place);
    check(&ask(&hosts, place, "1", &writes(0..1, 100)), 0..1, &nodes);
    nodes[2].kill9();
    check(&ask(&hosts, place, "8", &writes(1..60, 20_000)), 1..60, &nodes);
    hosts.loss(10).expect("packets can be lost here");
    nodes[2].start().expect("it starts again");
    let answers = ask(&hosts, place, "1", &["learned 3 60".into()]);
    assert!(answers[0].starts_with("learned"), "{answers:?}\n{}", logs(&nodes));
}

fn set_mtu(hosts: &Hosts, host: Host, mtu: u16) {
    let words = format!("link set eth0 mtu {mtu}");
    let done = hosts.command(host, "ip").args(words.split(' ')).output().expect("ip runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn hosts_with_longer_packets_than_the_network_carries_take_part() {
    for place in PLACES {
        let Some(hosts) = or_skip(Hosts::raw_only(3)) else { return };
        [Host::Node(0), Host::Node(1), Host::Client]
            .into_iter()
            .for_each(|host| set_mtu(&hosts, host, 9_000));
        let nodes = three(&hosts, place);
        check(&ask(&hosts, place, "4", &writes(0..20, 20_000)), 0..20, &nodes);
        let answers = ask(&hosts, place, "1", &["learned 3 20".into()]);
        assert!(answers[0].starts_with("learned"), "{answers:?}\n{}", logs(&nodes));
    }
}

#[test]
fn a_node_says_that_long_packets_do_not_reach_it() {
    let (place, Some(hosts)) = (PLACES[0], or_skip(Hosts::raw_only(3))) else { return };
    let nodes = three(&hosts, place);
    check(&ask(&hosts, place, "1", &writes(0..1, 100)), 0..1, &nodes);
    // The node can still send and receive short packets.
    set_mtu(&hosts, Host::Node(2), 1_000);
    check(&ask(&hosts, place, "1", &writes(1..4, 2_000)), 1..4, &nodes);
    let told = nodes[2].wait_for_line("long packets do not reach this node", PATIENCE);
    told.unwrap_or_else(|error| panic!("{error}\n{}", logs(&nodes)));
}

/// How long a joiner may take after losses during its first three seconds.
const SOON: Duration = Duration::from_secs(20);

#[test]
#[ignore = "writes 30 MB, which is slow in a debug build; run it with --release -- --ignored"]
fn a_joiner_fetches_a_long_history_of_large_values_soon_after_losses_have_ended() {
    let (place, Some(hosts)) = (PLACES[0], or_skip(Hosts::switched(6, SEED))) else { return };
    let node = |index: usize, flags: &str| {
        let id = index.to_string();
        let plan = Node::on(&hosts, index, NODE).args(place.split(' ')).args(flags.split(' '));
        let plan = plan.args(["-i".into(), id]).ignore(": OK ");
        plan.args(["--dir".into(), hosts.node_dir(index).into_os_string()]).start().expect("a node starts")
    };
    let mut nodes: Vec<Node> = (0..5).map(|index| node(index, "-n 5")).collect();
    check(&ask(&hosts, place, "8", &writes(0..1_500, 19_000)), 0..1_500, &nodes);
    hosts.loss(10).expect("packets can be lost here");
    nodes.push(node(5, "--join"));
    std::thread::sleep(Duration::from_secs(3));
    hosts.loss(0).expect("losses can be ended");
    let joined = nodes[5].wait_for_line("is a full member", SOON);
    joined.unwrap_or_else(|error| panic!("{error}\n{}", logs(&nodes)));
}
