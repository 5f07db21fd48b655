//! Members that are far behind when the leader crashes. They do not delay the group, and they still vote.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/lone.rs"]
mod lone;
#[path = "support/group.rs"]
mod support;

use upaxos_core::record::Record;
use upaxos_core::types::{Instance, Micros, Value};
use upaxos_core::wire::{Line, Message};

use lone::Lone;
use support::Group;

const TIMEOUT_MS: u64 = 400;

/// A group in which node 1 leads, and the members `behind` lack nearly all of a long history.
fn with_behind(n: u16, behind: &[u16]) -> Group {
    let mut group = Group::ready(n);
    let all: Vec<u16> = (0..n).collect();
    group.write("one", &all);
    group.run_for(1_000);
    all.iter().for_each(|id| group.crash(*id));
    for id in all.iter().filter(|id| !behind.contains(id)) {
        let history = (2..=17_000).map(|instance| Record::Learn {
            instance: Instance(instance),
            value: Value::from(format!("v{instance}").as_str()),
        });
        group.members[usize::from(*id)].durable.extend(history);
    }
    let learned: Vec<u64> =
        behind.iter().map(|id| group.members[usize::from(*id)].durable.len() as u64).collect();
    assert!(learned.iter().all(|records| *records < 100));
    all.iter().filter(|id| **id != 0).for_each(|id| group.start(*id));
    group
}

/// These members receive no decided values, so they never catch up.
fn hear_no_history(group: &mut Group, behind: &'static [u16]) {
    group.filter = Box::new(move |_, to, line| {
        !(behind.contains(&to) && matches!(line, Line::Node(_, Message::Written { .. })))
    });
}

/// Crashes the leader. A value is chosen within four election timeouts, and the members `behind` raise no ballot.
fn assert_takes_over(group: &mut Group, behind: &[u16]) {
    group.run_until("1 leads", |group| group.leader() == Some(1));
    group.start(0);
    group.run_for(1_000);
    let before = group.sent.len();
    group.crash(1);
    group.say("Request 0 after");
    let began = group.now;
    group.run_until("an answer", |group| {
        group.sent[before..].iter().any(|(_, line)| matches!(line, Line::Node(_, Message::Ok { .. })))
    });
    let took = group.now.since(began);
    assert!(took <= Micros::from_millis(4 * TIMEOUT_MS), "{took:?}\n{}", group.view());
    let raised = group.sent[before..].iter().filter(|(from, line)| {
        from.is_some_and(|from| behind.contains(&from))
            && matches!(line, Line::Node(_, Message::ProposeAll { .. }))
    });
    assert_eq!(raised.count(), 0, "{}", group.view());
}

#[test]
fn a_candidate_far_behind_does_not_hold_up_the_group_and_its_vote_counts() {
    let mut group = with_behind(3, &[2]);
    hear_no_history(&mut group, &[2]);
    assert_takes_over(&mut group, &[2]);
    // In the end it has the whole log.
    group.filter = Box::new(|_, _, _| true);
    group.write("all", &[0, 2]);
    group.start(1);
    group.write("again", &[0, 1, 2]);
    group.assert_agreement();
}

#[test]
fn two_of_five_far_behind_do_not_hold_up_the_group() {
    let mut group = with_behind(5, &[2, 3]);
    hear_no_history(&mut group, &[2, 3]);
    assert_takes_over(&mut group, &[2, 3]);
    group.filter = Box::new(|_, _, _| true);
    group.write("all", &[0, 2, 3, 4]);
    group.assert_agreement();
}

#[test]
fn where_only_members_far_behind_make_a_quorum_they_lead_when_they_have_caught_up() {
    let mut group = with_behind(5, &[2, 3, 4]);
    hear_no_history(&mut group, &[2, 3, 4]);
    group.start(0);
    group.run_until("one leads", |group| group.leader().is_some());
    group.crash(1);
    // Node 0 has the whole log, and reaches only node 3.
    group.filter = Box::new(|from, to, _| match from {
        Some(0) => to == 3,
        Some(_) => to != 0 || from == Some(3),
        None => true,
    });
    group.write("after", &[2, 3, 4]);
    assert_ne!(group.leader(), Some(0));
    group.assert_agreement();
}

#[test]
fn what_a_member_far_behind_has_accepted_survives_its_restart() {
    let mut group = with_behind(3, &[2]);
    hear_no_history(&mut group, &[2]);
    assert_takes_over(&mut group, &[2]);
    assert!(group.node(2).learned() < Instance(100));
    // Only the disks of node 2 and of node 1, which missed the value, are left. The acknowledged value is there.
    group.crash(0);
    group.crash(2);
    group.start(1);
    group.start(2);
    group.filter = Box::new(|_, _, _| true);
    group.write("next", &[1, 2]);
    assert!(group.reads(1).iter().any(|read| read == "after"), "{}", group.view());
}

#[test]
fn a_vote_far_above_what_is_learned_is_like_any_other() {
    assert!(directed::a_vote_far_above_is_remembered_across_a_restart());
    assert!(directed::a_vote_far_above_is_in_the_epoch_in_force_alone());
}

/// A leader that is far behind completes more instances than it keeps vote counts for. An instance beyond that
/// range gets the leader's own vote when it comes into range, as it gets those of the peers.
#[test]
fn a_leader_completes_what_was_accepted_farther_than_it_counts_votes() {
    let mut lone = Lone::member(3, 0);
    let last = lone.node.limits().window + 1;
    let ballot = lone.run();
    let accepted = (1..=last).map(|instance| format!("1 Promise {instance} {ballot} 65537 v{instance}"));
    let promises: Vec<_> = accepted.chain([format!("1 PromiseNone {} * {ballot} 0", last + 1)]).collect();
    lone.hear(&promises.join("\n"));
    assert!(lone.node.is_leading());
    lone.hear(&format!("1 Accepts 1 {} {ballot}", last - 1));
    assert_eq!(lone.node.learned().0, last - 1);
    lone.run_for(1_000);
    lone.hear(&format!("1 Accepts {last} {last} {ballot}"));
    assert_eq!(lone.node.learned().0, last);
}
