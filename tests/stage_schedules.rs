//! The three schedules that make a naive node choose two values, forced upon real nodes in the simulated world. The
//! test cuts and delays links, and sends lines in the name of leaders.
//!
//! Three nodes, instance 1. `W(b, v)` is a Write of v in ballot b. `tests/schedules.rs` has the same schedules for
//! one node.

#[path = "support/stage.rs"]
mod stage;

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Instance, Micros};
use upaxos_lab::{Backend, Link, Party};

use stage::{Lab, id, links};

/// Three voters, cut off from each other. Node 0 led in ballot 0, and nothing is written.
fn apart(seed: u64) -> Lab {
    let mut lab = Lab::of(3, seed);
    lab.until("ballot of 0", |lab| lab.leader() == Some(0));
    links(3).for_each(|(from, to)| lab.cut(from, to));
    lab.run(20);
    lab
}

/// Sends a line that reaches only these nodes.
fn say_to(lab: &mut Lab, nodes: &[u16], line: &str) {
    for node in 0..3 {
        let link = Link { is_cut: !nodes.contains(&node), ..Link::default() };
        lab.world.link(Party::Clients, Party::Node(id(node)), link).expect("a link");
    }
    lab.world.say(line.as_bytes()).expect("a datagram");
    lab.run(20);
}

/// Links two nodes again, in both directions.
fn join(lab: &mut Lab, one: u16, other: u16) {
    lab.link(one, other, Link::default());
    lab.link(other, one, Link::default());
}

/// The learned value of instance 1. Only these nodes receive the request.
fn learned(lab: &mut Lab, nodes: &[u16]) -> Outcome {
    for node in 0..3 {
        let link = Link { is_cut: !nodes.contains(&node), ..Link::default() };
        lab.world.link(Party::Clients, Party::Node(id(node)), link).expect("a link");
    }
    lab.until("learned instance", |lab| nodes.iter().any(|node| lab.view(*node).learned >= Instance(1)));
    lab.asked(9, Ask::History(Instance(1)))
}

fn chosen(value: &str) -> Outcome {
    Outcome::Chosen { instance: Instance(1), value: value.into() }
}

#[test]
fn one_ballot_never_carries_two_values() {
    for seed in 0..10 {
        let mut lab = apart(seed);
        // Only node 2 accepts W(1, a).
        say_to(&mut lab, &[2], "1 Write 1 1 a");
        // Nodes 0 and 1 are a quorum without a value. The promise of node 2 arrives late.
        join(&mut lab, 0, 1);
        for node in [0, 1] {
            lab.link(node, 2, Link::default());
            lab.link(2, node, Link { delay: Micros::from_millis(3_000), ..Link::default() });
        }
        say_to(&mut lab, &[0, 1], "Request 0 b");
        assert_eq!(learned(&mut lab, &[0, 1]), chosen("b"), "seed {seed}");
        lab.run(4_000);
        assert_eq!(learned(&mut lab, &[2]), chosen("b"), "seed {seed}");
        lab.check();
    }
}

#[test]
fn a_write_raises_the_promise_above_a_late_lower_write() {
    for seed in 0..10 {
        let mut lab = apart(seed);
        // Nodes 0 and 1 accept W(2, v), so v is chosen. Node 1 never saw its proposal. Then W(0, w) reaches node 1.
        say_to(&mut lab, &[0, 1], "2 Write 1 2 v");
        say_to(&mut lab, &[1], "0 Write 1 0 w");
        lab.world.pause(id(0)).expect("it runs");
        join(&mut lab, 1, 2);
        say_to(&mut lab, &[1, 2], "Request 0 x");
        assert_eq!(learned(&mut lab, &[1, 2]), chosen("v"), "seed {seed}");
        lab.check();
    }
}

#[test]
fn accepts_in_two_ballots_are_no_quorum_and_the_highest_ballot_heard_wins() {
    for seed in 0..10 {
        let mut lab = apart(seed);
        say_to(&mut lab, &[0], "1 Write 1 1 u");
        say_to(&mut lab, &[2], "1 Write 1 65537 w");
        say_to(&mut lab, &[1], "0 Write 1 262144 u");
        // The next ballot gets promises of nodes 0 and 2.
        lab.world.pause(id(1)).expect("it runs");
        join(&mut lab, 0, 2);
        say_to(&mut lab, &[0, 2], "Request 0 x");
        assert_eq!(learned(&mut lab, &[0, 2]), chosen("w"), "seed {seed}");
        lab.world.resume(id(1)).expect("it is paused");
        lab.check();
    }
}

#[test]
fn what_is_saved_tells_every_datagram_with_its_fate_and_every_log() {
    let mut lab = Lab::quiet(&upaxos_lab::Setup { records: true, ..stage::setup(3, 20) });
    (0..3).for_each(|node| lab.start(node));
    lab.write(0, "one");
    lab.link(0, 1, Link { loss: 0.3, duplicate: 0.3, corrupt: 0.3, ..Link::default() });
    lab.cut(0, 2);
    lab.run(2_000);
    let dir = tempfile::tempdir().expect("a directory");
    lab.world.save(dir.path()).expect("files");
    let wire = std::fs::read_to_string(dir.path().join("wire.jsonl")).expect("the wire");
    let lines: Vec<serde_json::Value> =
        wire.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    for fate in ["delivered", "duplicate", "lost", "damaged", "cut"] {
        assert!(lines.iter().any(|line| line["fate"] == fate), "nothing was {fate}");
    }
    assert!(lines.iter().any(|line| line["from"] == "clients" && line["text"] == "Submit 1 1 1 one"));
    let is_late = |line: &serde_json::Value| line["arrives"].as_u64() > line["us"].as_u64();
    assert!(lines.iter().all(|line| is_late(line) != line["arrives"].is_null()));
    for node in 0..3 {
        let log = std::fs::read_to_string(dir.path().join(format!("node-{node}.log"))).expect("a log");
        assert!(log.contains(&format!("{node}: learn 1 one")), "{log}");
    }
}
