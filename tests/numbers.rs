//! A number that arrives once, however high, excludes no node for ever: neither the node that receives it, nor a
//! node that missed it and finds all others at the higher number.

#[path = "support/group.rs"]
mod support;

use upaxos_core::record::Record;
use upaxos_core::types::{Ballot, MAX_NUMBER};

use support::Group;

/// The highest ballot of node 1 that a node believes from a single line, counted from the first round.
const FORGED: u64 = (1 << 20) * 65_536 + 1;

/// A group of three in which node 2 was down when nodes 0 and 1 received a forged ballot.
fn moved() -> Group {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    group.crash(2);
    for (instance, round) in [(2, 0), (2, 1 << 20), (3, 2 << 20)] {
        for id in [0, 1] {
            group.hear(id, format!("1 ProposeAll {instance} {}", FORGED + round * 65_536).as_bytes());
        }
        group.run_for(3_000);
    }
    group.write("two", &[0, 1]);
    group
}

#[test]
fn a_member_that_missed_a_forged_ballot_takes_part_again() {
    let mut group = moved();
    group.start(2);
    group.write("three", &[0, 1, 2]);
    group.crash(0);
    group.write("four", &[1, 2]);
    let dropped = group.node(2).dropped().absurd;
    group.write("five", &[1, 2]);
    assert_eq!(group.node(2).dropped().absurd, dropped, "{}", group.view());
    group.assert_agreement();
}

#[test]
fn a_member_that_missed_it_believes_the_only_other_that_is_left() {
    for other in [0, 1] {
        let mut group = moved();
        group.crash(1 - other);
        group.run_for(3_000);
        group.start(2);
        group.write("three", &[other, 2]);
        group.assert_agreement();
    }
}

#[test]
fn a_number_in_a_forged_beat_is_contradicted_by_the_next_real_one() {
    let mut group = Group::ready(3);
    let ballot = group.node(0).ballot();
    let boot = group.node(1).boot();
    for _ in 0..30 {
        let (incarnation, start, boot) = (boot.incarnation, boot.start, boot.boot);
        let forged = format!("1 Beat 3 {incarnation} {start} {boot} {} 0 waits 0,2", MAX_NUMBER / 4);
        group.hear(2, forged.as_bytes());
        group.run_for(100);
    }
    assert_eq!(group.node(2).ballot(), ballot);
    group.write("one", &[0, 1, 2]);
}

#[test]
fn what_a_silent_member_is_made_to_say_for_long_leaves_ballots_for_the_group() {
    let mut group = Group::ready(3);
    group.crash(1);
    for _ in 0..30 {
        group.hear(2, format!("1 Beat 3 1001 1 2 {} 0 waits 0,2", MAX_NUMBER - 65_535).as_bytes());
        group.run_for(50);
    }
    group.write("one", &[0, 2]);
    group.crash(0);
    group.start(1);
    group.write("two", &[1, 2]);
}

#[test]
fn before_ballots_run_out_the_leader_begins_an_epoch_in_which_they_begin_anew() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    for id in [0, 1, 2] {
        group.crash(id);
    }
    let near_the_end = Ballot::first_epoch(MAX_NUMBER - 5 * 65_536);
    for id in [0, 1, 2] {
        group.members[id].durable.push(Record::PromiseAll { ballot: near_the_end });
        group.start(id as u16);
    }
    group.write("two", &[0, 1, 2]);
    group.run_until("ballots are small again", |group| {
        group.node(0).ballot().is_some_and(|ballot| ballot.epoch.0 > 0 && ballot.number < 1 << 20)
    });
    for round in 0..10 {
        let leader = group.leader().expect("one leads");
        group.crash(leader);
        group.write(&format!("without {round}"), &[(leader + 1) % 3, (leader + 2) % 3]);
        group.start(leader);
        group.run_for(2_000);
    }
    group.assert_agreement();
}

#[test]
fn a_classic_member_that_missed_a_forged_ballot_learns_what_was_chosen_there() {
    let mut group = Group::with(3, true);
    (0..3).for_each(|id| group.start(id));
    group.write("one", &[0, 1, 2]);
    group.crash(2);
    for round in 1..4 {
        for id in [0, 1] {
            let forged = format!("1 Propose 2 {}", (1u64 << 20) * 3 * round + 1);
            group.hear(id, forged.as_bytes());
        }
    }
    group.write("two", &[0, 1]);
    group.start(2);
    group.write("three", &[0, 1, 2]);
    group.crash(0);
    group.write("four", &[1, 2]);
    group.assert_agreement();
}
