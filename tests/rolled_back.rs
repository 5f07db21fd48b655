//! A rolled-back disk: an earlier copy of a member's directory is put back, so the member forgets its later votes.
//! Peers that remember them bar the member, early or late.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/group.rs"]
mod group;
#[path = "support/lone.rs"]
mod lone;

use upaxos_core::record::Record;
use upaxos_core::replica::Event;
use upaxos_core::types::{Instance, NodeId};

use group::Group;
use lone::Lone;

fn says(group: &Group, id: u16, part: &str) -> bool {
    group.members[usize::from(id)].events.iter().any(|event| event.to_string().contains(part))
}

fn refuses(group: &Group, id: u16) -> bool {
    let is_refusal = |event: &Event| matches!(event, Event::MayNotVote(_));
    group.members[usize::from(id)].events.iter().any(is_refusal)
}

/// Writes "first". Then node 0 has a later life, which only node 1 remembers, and writes twice with it. Then the
/// disk of node 0 is put back to its state before that life. Node 1 is down.
fn rolled_back() -> Group {
    let mut group = Group::ready(3);
    group.write("first", &[0, 1, 2]);
    group.run_for(1_000);
    group.crash(0);
    let old: Vec<Record> = group.members[0].durable.clone();
    group.crash(2);
    group.start(0);
    group.write("lost1", &[0, 1]);
    group.write("lost2", &[0, 1]);
    group.run_for(1_000);
    group.crash(0);
    group.crash(1);
    group.members[0].durable = old;
    group.start(0);
    group
}

#[test]
fn an_objection_that_comes_after_the_first_vote_stops_a_rolled_back_disk() {
    assert!(directed::a_late_objection_with_proof_ends_the_vote());
    let mut group = rolled_back();
    group.start(2);
    group.write("other1", &[0, 2]);
    assert!(!refuses(&group, 0), "no node that remembers the later life is up");
    group.start(1);
    group.run_until("0 is barred", |group| refuses(group, 0));
    assert!(
        says(&group, 0, "its disk is an older one, put back since node 1 heard of start 2"),
        "{}",
        group.view()
    );
    assert!(!group.node(0).is_voter() && !group.node(0).is_leading());
}

#[test]
fn a_disk_that_was_shown_to_be_rolled_back_never_votes_again() {
    let mut group = rolled_back();
    group.start(1);
    group.run_until("0 is barred", |group| refuses(group, 0));
    for _ in 0..3 {
        group.crash(0);
        group.members[0].events.clear();
        group.start(0);
        group.run_for(3_000);
        assert!(refuses(&group, 0) && !group.node(0).is_voter(), "{}", group.view());
    }
}

#[test]
fn an_objection_to_another_life_silences_nobody() {
    for objection in ["0 1 1000 9", "0 2 1000 1", "0 2 7 9", "0 2 0 0", "2 2 1000 9"] {
        let mut lone = Lone::member(3, 0);
        lone.restart();
        assert_eq!((lone.node.boot().start, lone.node.boot().boot), (2, 2));
        lone.hear(&format!("1 Barred {objection}"));
        assert!(lone.node.is_voter(), "{objection}");
    }
}

#[test]
fn a_disk_that_was_put_back_is_known_by_its_earlier_boots_however_often_it_was_started_since() {
    assert!(directed::an_old_disk_is_known_by_its_earlier_boots());
    let mut lone = Lone::member(3, 0);
    assert_eq!(directed::registers(&mut lone, "1001 2 602 501"), ["0 Registered 1 602"]);
    assert_eq!(directed::registers(&mut lone, "1001 3 603 602 501"), ["0 Registered 1 603"]);
    // A peer that missed more boots than a directory remembers cannot tell.
    assert_eq!(directed::registers(&mut lone, "1001 9 609 608"), ["0 Registered 1 609"]);
}

#[test]
fn a_node_that_is_shown_another_life_than_its_own_of_an_earlier_start_never_votes() {
    for (known, is_barred) in
        [("1000 2 2", false), ("1000 2 77", true), ("1000 2", false), ("1000 9 77", true)]
    {
        let mut lone = Lone::member(3, 0);
        lone.restart();
        lone.restart();
        assert_eq!((lone.node.boot().start, lone.node.boot().boot), (3, 3));
        lone.hear(&format!("1 Barred 0 3 {known}"));
        assert_eq!(!lone.node.is_voter(), is_barred, "{known}");
        lone.restart();
        assert_eq!(!lone.node.is_voter(), is_barred, "{known}: for good");
    }
}

#[test]
fn a_group_of_one_that_may_have_grown_since_its_disk_was_copied_listens_before_it_votes() {
    let mut lone = Lone::new(1, 0);
    lone.run_for(2_000);
    assert!(lone.node.is_voter());
    lone.restart_unremembered();
    lone.run_for(100);
    assert!(!lone.node.is_voter(), "its disk may be an old one, and other nodes may know a later life");
    lone.run_for(2_000);
    assert!(lone.node.is_voter());
}

/// The node's objections since the last call.
fn objections(lone: &mut Lone) -> Vec<String> {
    lone.take().into_iter().filter(|line| line.contains(" Barred ")).collect()
}

#[test]
fn a_beat_of_a_life_before_the_one_remembered_is_answered_with_an_objection_to_that_life() {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 Beat 3 1001 2 77 - 0 waits 0\n1 Register 3 1001 2 77");
    objections(&mut lone);
    lone.hear("1 Beat 3 1001 2 77 - 0 waits 0");
    assert!(objections(&mut lone).is_empty(), "the present life is the remembered one");
    lone.hear("1 Beat 3 1001 1 501 - 0 waits 0");
    assert_eq!(
        objections(&mut lone),
        ["0 Barred 1 501 1001 2 77"],
        "an earlier life, or a late datagram of it"
    );
    lone.hear("1 Beat 3 1001 2 78 - 0 waits 0");
    assert_eq!(objections(&mut lone), ["0 Barred 1 78 1001 2 77"], "another life with the same start");
    lone.hear("1 Beat 3 1001 2 78 - 0 waits 0");
    assert!(objections(&mut lone).is_empty(), "repeated only now and then");
    lone.hear("1 Beat 3 1001 3 79 - 0 waits 0");
    assert!(objections(&mut lone).is_empty(), "a later life may speak before it is registered");
}

#[test]
fn a_split_log_is_found_and_the_first_instance_that_differs_is_named() {
    assert!(directed::a_log_that_a_quorum_disagrees_with_ends_its_node());
    let mut group = rolled_back();
    group.start(2);
    for value in ["other1", "other2", "other3"] {
        group.write(value, &[0, 2]);
    }
    group.run_for(1_000);
    group.start(1);
    group.run_until("1 ends", |group| group.members[1].node.is_none());
    assert!(says(
        &group,
        1,
        "cannot go on: the log holds another value here than at nodes 0,2, from instance 2 on"
    ));
    for (id, peer) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
        let found = format!("the LOG DIVERGES: node {peer} holds another value at instance 2");
        assert!(says(&group, id, &found), "{id}: {}", group.view());
    }
    assert_eq!(group.node(2).log_differs_from(), Some((NodeId(1), Instance(2))));
    group.run_for(1_000);
    assert!(group.said_by(2).contains(&"2 Differs 2 1".into()), "clients and nodes are told");
}

#[test]
fn a_split_long_ago_is_found_across_checkpoints_and_restarts() {
    let mut group = rolled_back();
    group.start(2);
    (0..300).for_each(|number| group.say(&format!("Request 0 other {number}")));
    group.run_until("all is written", |group| group.node(2).learned().0 >= 300);
    group.run_for(1_000);
    for id in [0, 2] {
        group.checkpoint(id);
        group.crash(id);
        group.start(id);
    }
    group.run_until("a leader", |group| group.leader().is_some());
    group.write("later", &[0, 2]);
    group.start(1);
    group.run_until("1 ends", |group| group.members[1].node.is_none());
    assert!(says(&group, 1, "from instance 2 on"), "{}", group.view());
    assert!(says(&group, 0, "node 1 holds another value at instance 2"), "{}", group.view());
}

#[test]
fn whoever_joins_compares_what_it_fetched() {
    let mut group = Group::ready(3);
    (0..100).for_each(|number| group.write(&format!("value {number}"), &[0, 1, 2]));
    group.checkpoint(0);
    let id = group.join(None);
    group.wait_for_members(&[0, 1, 2, id], &[0, 1, 2, id]);
    group.run_for(3_000);
    let digests: Vec<_> = group
        .ids()
        .map(|id| group.node(id).log_digest_at(group.node(0).learned()).expect("learned"))
        .collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(
        !group.said(" Chain ").is_empty()
            && group.said(" AskChain ").is_empty()
            && group.said(" Differs ").is_empty()
    );
}

/// The rolled-back disk knows an old group, whose other members are gone. It starts together with one of them that
/// was away all the time. The objecting nodes are members of a later group that it has not heard of.
#[test]
fn members_of_a_later_group_stop_a_rolled_back_disk_that_has_not_heard_of_them() {
    let mut group = Group::ready(3);
    group.write("first", &[0, 1, 2]);
    group.run_for(1_000);
    let old: Vec<Record> = group.members[0].durable.clone();
    group.crash(1);
    assert_eq!(group.join(Some(1)), 3);
    group.wait_for_members(&[0, 2, 3], &[0, 2, 3]);
    group.run_for(1_000);
    assert_eq!(group.join(Some(2)), 4);
    group.wait_for_members(&[0, 3, 4], &[0, 3, 4]);
    group.run_for(1_000);
    group.crash(2);
    group.crash(0);
    group.start(0);
    group.run_for(2_000);
    [0, 3, 4].into_iter().for_each(|id| group.crash(id));
    group.members[0].durable = old;
    group.members[0].events.clear();
    group.start(1);
    group.start(0);
    group.write("early", &[0, 1]);
    group.start(3);
    group.start(4);
    group.run_until("0 is barred", |group| refuses(group, 0));
    assert!(!group.node(0).is_voter());
}
