//! The simulated world of the lab. The script's steps happen, and nothing else, and the checkers watch.

#[path = "support/stage.rs"]
mod stage;

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Act, Change, Instance, Micros};
use upaxos_lab::{Backend, DiskFault, Link, NodeState, Ticket};

use stage::{Lab, id, links};

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
    assert!(third > second, "a script may continue after a check");
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
        assert_eq!(lab.view(old).stance, None, "a node that is down has no stance");
        lab.write(0, "two");
        let new = lab.await_leader();
        assert_ne!(new, old);
        lab.check();
        assert_eq!(lab.view(old).state, NodeState::Runs, "the check starts the node that is down");
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
            // Sends one more write, and crashes the node at once. That value may be in the log, or not.
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
    assert_eq!((now.stance, now.learned), (before.stance, before.learned), "it still believes that it leads");
    lab.world.resume(id(paused)).expect("it is paused");
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
    assert_eq!(lab.view(0).state, NodeState::Paused, "a paused node does not stop cleanly");
    lab.world.resume(id(0)).expect("it is paused");
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
    assert_eq!(places.len(), 4, "four requests, four instances");
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
    assert!(matches!(lab.view(1).state, NodeState::Ended(0, _)), "a node that left stays down");
    assert_eq!(lab.view(2).state, NodeState::Down, "so does a wiped node");
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
        let word = if fault == DiskFault::Full { "No space left" } else { "Input/output error" };
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
fn a_killed_node_was_killed_whatever_ended_it_on_the_way() {
    let mut killed = 0;
    for seed in 0..100 {
        let mut lab = Lab::of(1, seed);
        lab.write(0, "one");
        lab.world.disk(id(0), Some(DiskFault::Full)).expect("a disk");
        lab.ask(0, Ask::Write("two".into()));
        // The request is in flight, or in the socket. The disk refuses the node's next write.
        lab.step(lab.world.now() + Micros(seed * 10));
        if lab.view(0).state == NodeState::Runs {
            lab.world.crash(id(0)).expect("it runs");
            assert_eq!(lab.view(0).state, NodeState::Down, "seed {seed}");
            killed += 1;
        }
    }
    assert!(killed > 20, "{killed} were killed");
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
    links(3).for_each(|(from, to)| lab.link(from, to, link.clone()));
    lab.run(3_000);
    let text = lab.world.describe();
    let nodes: Vec<&str> = text.lines().filter(|line| line.contains(", life 1, ")).collect();
    assert_eq!(nodes.len(), 3, "{text}");
    assert!(nodes.iter().all(|line| !line.contains(" 0 malformed lines")), "{text}");
    lab.check();
}
