//! The simulated world of the lab: what a script tells it happens, and nothing else, under the judges' eyes.

use std::process::Command;

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Act, Change, Instance, Micros, NodeId, Value};
use upaxos_core::wire::Stance;
use upaxos_node::lab::{
    DiskFault, Link, NodeState, Party, Setup, Sim, Start, Ticket, View, World, WorldError,
};

const PATIENCE: Micros = Micros::from_millis(5_000);

/// A world with the words that scripts will have.
struct Lab {
    world: Sim,
    settled: Vec<(Ticket, Outcome)>,
}

fn setup(nodes: u16, seed: u64) -> Setup {
    let beat = Micros::from_millis(100);
    Setup { nodes, spares: 3, seed, beat, classic: false, records: false }
}

fn id(node: u16) -> NodeId {
    NodeId(node)
}

impl Lab {
    /// A group, all of whose nodes run.
    fn of(nodes: u16, seed: u64) -> Lab {
        let mut lab = Lab::quiet(&setup(nodes, seed));
        (0..nodes).for_each(|node| lab.start(node));
        lab
    }

    fn quiet(setup: &Setup) -> Lab {
        Lab { world: Sim::new(setup).expect("a group"), settled: Vec::new() }
    }

    fn start(&mut self, node: u16) {
        self.world.start(id(node), &Start::default()).expect("it is down");
    }

    fn join(&mut self, node: u16, replaces: Option<u16>) {
        let how = Start { joins: Some(replaces.map(NodeId)), ..Start::default() };
        self.world.start(id(node), &how).expect("it is down");
    }

    /// Lets time pass until `done`, or fails after a while.
    #[track_caller]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Lab) -> bool) {
        let end = self.world.now() + Micros::from_millis(20_000);
        while !done(self) {
            assert!(self.world.now() < end, "no {what} in time:\n{}", self.world.describe());
            self.step(end);
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.world.now() + Micros::from_millis(ms);
        while self.world.now() < end {
            self.step(end);
        }
    }

    #[track_caller]
    fn step(&mut self, end: Micros) {
        if let Err(error) = self.world.step(end) {
            panic!("{error}\n{}", self.world.describe());
        }
        let settled = self.world.settled();
        self.settled.extend(settled.into_iter().map(|settled| (settled.ticket, settled.outcome)));
    }

    fn ask(&mut self, client: u64, ask: Ask) -> Ticket {
        self.world.ask(client, ask, PATIENCE).expect("a question")
    }

    #[track_caller]
    fn outcome(&mut self, ticket: Ticket) -> Outcome {
        self.until("answer", |lab| lab.settled.iter().any(|(settled, _)| *settled == ticket));
        let found = self.settled.iter().find(|(settled, _)| *settled == ticket);
        found.map(|(_, outcome)| outcome.clone()).expect("it was awaited")
    }

    fn asked(&mut self, client: u64, ask: Ask) -> Outcome {
        let ticket = self.ask(client, ask);
        self.outcome(ticket)
    }

    #[track_caller]
    fn write(&mut self, client: u64, value: &str) -> Instance {
        match self.asked(client, Ask::Write(value.into())) {
            Outcome::Chosen { instance, .. } => instance,
            other => panic!("{other:?}\n{}", self.world.describe()),
        }
    }

    fn view(&self, node: u16) -> View {
        self.world.view(id(node))
    }

    fn leader(&self) -> Option<u16> {
        (0..6).find(|node| self.view(*node).stance == Some(Stance::Leads))
    }

    #[track_caller]
    fn await_leader(&mut self) -> u16 {
        self.until("leader", |lab| lab.leader().is_some());
        self.leader().expect("it was awaited")
    }

    #[track_caller]
    fn check(&mut self) {
        let violations = self.world.check(Micros::from_millis(20_000)).expect("a world that works");
        assert_eq!(violations, [], "{}", self.world.describe());
    }

    fn cut(&mut self, from: u16, to: u16) {
        let link = Link { is_cut: true, ..Link::default() };
        self.link(from, to, link);
    }

    fn link(&mut self, from: u16, to: u16, link: Link) {
        self.world.link(Party::Node(id(from)), Party::Node(id(to)), link).expect("two nodes");
    }
}

#[test]
fn a_group_agrees_answers_and_stands_the_check() {
    let mut lab = Lab::of(3, 1);
    let first = lab.write(0, "one");
    let second = lab.write(0, "two");
    assert!(second > first);
    let read = lab.asked(1, Ask::Read);
    assert!(matches!(&read, Outcome::Chosen { value, .. } if *value == "safe read two".into()), "{read:?}");
    let read = lab.asked(1, Ask::FastRead);
    assert!(matches!(&read, Outcome::Read { value, .. } if *value == "two".into()), "{read:?}");
    assert_eq!(lab.asked(1, Ask::History(first)), Outcome::Chosen { instance: first, value: "one".into() });
    lab.check();
    let third = lab.write(2, "three");
    assert!(third > second, "a script may go on after a check");
    lab.check();
}

#[test]
fn the_leader_crashes_and_the_others_go_on_without_it() {
    for seed in 0..20 {
        let mut lab = Lab::of(3, seed);
        lab.write(0, "one");
        let old = lab.await_leader();
        lab.world.crash(id(old)).expect("it runs");
        assert_eq!(lab.view(old).state, NodeState::Down);
        assert_eq!(lab.view(old).stance, None, "who is down says nothing");
        lab.write(0, "two");
        let new = lab.await_leader();
        assert_ne!(new, old);
        lab.check();
        assert_eq!(lab.view(old).state, NodeState::Runs, "the check starts who is down");
    }
}

#[test]
fn a_crash_loses_what_was_not_synced_and_nothing_else() {
    let mut reread = 0;
    for seed in 0..30 {
        let mut lab = Lab::of(1, seed);
        let mut told = Vec::new();
        for round in 0..5 {
            for value in 0..4 {
                told.push((lab.write(0, &format!("{round}.{value}")), format!("{round}.{value}")));
            }
            // One more, and the power fails at once: it may be there, or not.
            lab.ask(0, Ask::Write("open".into()));
            lab.run(seed % 3);
            lab.world.crash(id(0)).expect("it runs");
            lab.start(0);
            lab.await_leader();
            for (instance, value) in &told {
                let reads = lab.asked(0, Ask::History(*instance));
                assert_eq!(reads, Outcome::Chosen { instance: *instance, value: value.as_str().into() });
                reread += 1;
            }
        }
        lab.check();
    }
    assert_eq!(reread, 30 * (4 + 8 + 12 + 16 + 20));
}

#[test]
fn a_one_way_cut_is_one_way() {
    let mut lab = Lab::of(2, 3);
    lab.await_leader();
    lab.cut(0, 1);
    lab.run(1_500);
    assert_eq!(lab.view(0).heard, [id(1)], "1 still reaches 0");
    assert_eq!(lab.view(1).heard, [], "0 no longer reaches 1");
    lab.check();
}

#[test]
fn a_node_that_stood_still_is_unaware_of_it() {
    let mut lab = Lab::of(3, 4);
    lab.write(0, "one");
    let paused = lab.await_leader();
    let before = lab.view(paused);
    lab.world.pause(id(paused)).expect("it runs");
    assert_eq!(lab.view(paused).state, NodeState::Paused);
    lab.write(0, "two");
    let now = lab.view(paused);
    assert_eq!((now.stance, now.learned), (before.stance, before.learned), "it thinks that it leads");
    lab.world.resume(id(paused)).expect("it stands still");
    assert_eq!(lab.view(paused).state, NodeState::Runs);
    lab.write(0, "three");
    lab.check();
}

#[test]
fn a_paused_node_can_be_crashed_and_stopped() {
    let mut lab = Lab::of(3, 5);
    lab.write(0, "one");
    lab.world.pause(id(0)).expect("it runs");
    lab.world.crash(id(0)).expect("it is alive");
    lab.start(0);
    assert_eq!(lab.view(0).state, NodeState::Runs, "a new process does not stand still");
    lab.world.pause(id(0)).expect("it runs");
    lab.world.stop(id(0)).expect("it is alive");
    lab.run(300);
    assert_eq!(lab.view(0).state, NodeState::Paused, "who stands still does not end in good order");
    lab.world.resume(id(0)).expect("it stands still");
    lab.until("end of 0", |lab| lab.view(0).state == NodeState::Down);
    lab.check();
}

#[test]
fn two_sessions_write_the_same_value_and_no_judge_objects() {
    let mut lab = Lab::of(3, 6);
    let tickets: Vec<Ticket> = (0..4).map(|client| lab.ask(client, Ask::Write("same".into()))).collect();
    let mut places: Vec<Instance> = Vec::new();
    for ticket in tickets {
        match lab.outcome(ticket) {
            Outcome::Chosen { instance, .. } => places.push(instance),
            other => panic!("{other:?}"),
        }
    }
    for _ in 0..3 {
        lab.world.say(b"Request 0 same").expect("a datagram");
        lab.run(50);
    }
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 4, "four requests, four places");
    lab.check();
}

#[test]
fn a_wiped_node_never_votes_under_its_old_id() {
    let mut lab = Lab::of(3, 7);
    lab.write(0, "one");
    lab.world.crash(id(2)).expect("it runs");
    lab.world.wipe(id(2)).expect("it is down");
    lab.start(2);
    lab.until("word of the lost disk", |lab| lab.world.describe().contains("refuses to vote"));
    lab.world.crash(id(1)).expect("it runs");
    let ticket = lab.world.ask(0, Ask::Write("two".into()), Micros::from_millis(3_000)).expect("a question");
    assert_eq!(lab.outcome(ticket), Outcome::Unknown, "0 and a barred node are no quorum");
    lab.start(1);
    lab.write(0, "three");
    lab.check();
}

#[test]
fn nodes_join_leave_and_replace_others() {
    let mut lab = Lab::of(3, 8);
    lab.write(0, "one");
    lab.join(3, None);
    let members = |lab: &mut Lab| match lab.asked(9, Ask::Members) {
        Outcome::Members { members, .. } => members.iter().map(|id| id.0).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    lab.until("fourth member", |lab| members(lab) == [0, 1, 2, 3]);
    let leave = Change { act: Act::Leave(id(1)), is_forced: false };
    assert!(matches!(lab.asked(0, Ask::Change(leave)), Outcome::Chosen { .. }));
    lab.until("end of 1", |lab| matches!(lab.view(1).state, NodeState::Ended(0, _)));
    lab.world.crash(id(2)).expect("it runs");
    lab.world.wipe(id(2)).expect("it is down");
    lab.join(4, Some(2));
    lab.until("swap", |lab| members(lab) == [0, 3, 4]);
    lab.write(0, "two");
    lab.check();
    assert!(matches!(lab.view(1).state, NodeState::Ended(0, _)), "who has left stays away");
    assert_eq!(lab.view(2).state, NodeState::Down, "so does who was wiped");
}

#[test]
fn an_id_that_was_a_member_before_is_refused() {
    let mut lab = Lab::of(4, 9);
    lab.write(0, "one");
    let leave = Change { act: Act::Leave(id(1)), is_forced: false };
    assert!(matches!(lab.asked(0, Ask::Change(leave)), Outcome::Chosen { .. }));
    lab.until("end of 1", |lab| lab.view(1).state != NodeState::Runs);
    lab.world.wipe(id(1)).expect("it is down");
    lab.join(1, None);
    lab.until("refusal", |lab| matches!(lab.view(1).state, NodeState::Ended(4, _)));
    lab.check();
}

#[test]
fn a_full_disk_ends_the_node_with_its_status_and_nothing_is_answered_that_was_not_durable() {
    for fault in [DiskFault::Full, DiskFault::SyncFails] {
        let mut lab = Lab::of(1, 10);
        let first = lab.write(0, "one");
        lab.world.disk(id(0), Some(fault)).expect("a disk");
        let ticket =
            lab.world.ask(0, Ask::Write("two".into()), Micros::from_millis(2_000)).expect("a question");
        lab.until("end of 0", |lab| matches!(lab.view(0).state, NodeState::Ended(..)));
        let NodeState::Ended(status, words) = lab.view(0).state else { unreachable!("it was awaited") };
        let word = if fault == DiskFault::Full { "no space left" } else { "input/output error" };
        assert!(status == 1 && words.contains(word), "{status}: {words}");
        assert_eq!(lab.outcome(ticket), Outcome::Unknown);
        lab.start(0);
        lab.await_leader();
        let reads = lab.asked(0, Ask::History(first));
        assert_eq!(reads, Outcome::Chosen { instance: first, value: "one".into() });
        lab.check();
    }
}

#[test]
fn a_slow_disk_answers_late_and_heals() {
    let mut lab = Lab::of(1, 11);
    lab.write(0, "one");
    let slow = Micros::from_millis(700);
    lab.world.disk(id(0), Some(DiskFault::Slow(slow))).expect("a disk");
    let before = lab.world.now();
    lab.write(0, "two");
    assert!(lab.world.now().since(before) >= slow);
    lab.world.disk(id(0), None).expect("a disk");
    lab.run(1_500);
    let before = lab.world.now();
    lab.write(0, "three");
    assert!(lab.world.now().since(before) < slow);
    lab.check();
}

#[test]
fn damaged_bytes_are_dropped_and_counted() {
    let mut lab = Lab::of(3, 12);
    lab.write(0, "one");
    let link = Link { corrupt: 1.0, ..Link::default() };
    (0..3)
        .flat_map(|from| (0..3).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .for_each(|(from, to)| lab.link(from, to, link.clone()));
    lab.run(3_000);
    let text = lab.world.describe();
    let nodes: Vec<&str> = text.lines().filter(|line| line.contains(", life 1, ")).collect();
    assert_eq!(nodes.len(), 3, "{text}");
    assert!(nodes.iter().all(|line| !line.contains(" 0 malformed lines")), "{text}");
    lab.check();
}

#[test]
fn nothing_else_but_the_seed_decides_what_happens() {
    let run = |seed| {
        let mut lab = Lab::of(3, seed);
        let link = Link { loss: 0.2, duplicate: 0.2, jitter: Micros::from_millis(20), ..Link::default() };
        lab.link(0, 1, link);
        (0..5u64)
            .for_each(|client| _ = lab.ask(client % 2, Ask::Write(format!("v{client}").as_str().into())));
        lab.run(800);
        lab.world.crash(id(1)).expect("it runs");
        lab.start(1);
        lab.check();
        lab.world.trace()
    };
    if std::env::var_os(TRACES).is_some() {
        return println!("\ntrace {:016x}", run(1));
    }
    let child = || {
        let name = "nothing_else_but_the_seed_decides_what_happens";
        let program = std::env::current_exe().expect("this test program");
        let output = Command::new(program).args([name, "--exact", "--nocapture"]).env(TRACES, "1").output();
        let text = String::from_utf8(output.expect("a child runs").stdout).expect("text");
        text.lines().find_map(|line| line.strip_prefix("trace ").map(str::to_owned))
    };
    let here = Some(format!("{:016x}", run(1)));
    assert_eq!((&here, &here), (&child(), &child()));
    assert_ne!(run(1), run(2));
}

/// A run of the test program that only prints a hash, in a process of its own.
const TRACES: &str = "UPAXOS_STAGE_TRACES";

#[test]
fn what_makes_no_sense_is_a_misuse_and_says_why() {
    let mut lab = Lab::quiet(&setup(3, 13));
    let misused = |did: Result<(), WorldError>, word: &str| match did {
        Err(WorldError::Misuse(text)) => assert!(text.contains(word), "{text}"),
        other => panic!("{other:?}"),
    };
    let start = |lab: &mut Lab, node| lab.world.start(id(node), &Start::default());
    misused(lab.world.stop(id(0)), "does not run");
    misused(lab.world.crash(id(1)), "does not run");
    misused(lab.world.pause(id(1)), "does not run");
    misused(start(&mut lab, 3), "let it join");
    misused(start(&mut lab, 60), "there are 0 to 5");
    lab.start(0);
    misused(start(&mut lab, 0), "it runs");
    misused(lab.world.wipe(id(0)), "it runs");
    lab.world.crash(id(0)).expect("it runs");
    let join = Start { joins: Some(None), ..Start::default() };
    misused(lab.world.start(id(0), &join), "first started of the first group");
    let link = |loss| Link { loss, ..Link::default() };
    let (one, two) = (Party::Node(id(1)), Party::Node(id(2)));
    misused(lab.world.link(one, two, link(1.5)), "share");
    misused(lab.world.link(one, two, link(f64::NAN)), "share");
    misused(lab.world.link(one, Party::Node(id(6)), link(0.5)), "there are 0 to 5");
    misused(lab.world.link(one, one, link(0.5)), "itself");
    misused(lab.world.disk(id(9), None), "there are 0 to 5");
    misused(lab.world.say(b""), "0 bytes");
    misused(lab.world.say(&[b'x'; 70_000]), "70000 bytes");
    let long = Ask::Write(Value::from(vec![b'x'; 70_000]));
    misused(lab.world.ask(0, long, PATIENCE).map(drop), "limit");
    for setup in [setup(0, 1), setup(70, 1), Setup { beat: Micros(0), ..setup(3, 1) }] {
        misused(Sim::new(&setup).map(drop), "choose");
    }
}
