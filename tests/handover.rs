//! Rolling restarts. The leader changes as rarely as possible.

#[path = "support/group.rs"]
mod support;

use std::collections::BTreeSet;

use upaxos_core::wire::{Line, Message};

use support::Group;

/// Restarts these nodes one after the other, each when the last one votes again. Returns how many ballots that
/// took.
fn rolling_restart(group: &mut Group, order: &[u16]) -> usize {
    let since = group.sent.len();
    for &id in order {
        group.crash(id);
        group.run_for(1_500);
        group.start(id);
        group.run_until("it votes again", |group| group.node(id).is_voter() && group.leader().is_some());
        group.run_for(1_000);
    }
    let ballot = |line: &Line| match line {
        Line::Node(_, Message::ProposeAll { ballot, .. }) => Some(*ballot),
        _ => None,
    };
    let raised: BTreeSet<_> = group.sent[since..].iter().filter_map(|(_, line)| ballot(line)).collect();
    raised.len()
}

/// All orders of these ids.
fn orders(ids: &[u16]) -> Vec<Vec<u16>> {
    if ids.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |first: u16| {
        let rest: Vec<u16> = ids.iter().copied().filter(|id| *id != first).collect();
        orders(&rest).into_iter().map(move |order| [vec![first], order].concat())
    };
    ids.iter().flat_map(|first| with_first(*first)).collect()
}

#[test]
fn a_rolling_restart_in_any_order_changes_the_leader_twice_at_most() {
    for order in orders(&[0, 1, 2]) {
        let mut group = Group::ready(3);
        for round in 0..3 {
            let changes = rolling_restart(&mut group, &order);
            assert!(changes <= 2, "{order:?}, round {round}: {changes}\n{}", group.view());
        }
        group.write("all the same", &[0, 1, 2]);
        group.assert_agreement();
    }
}

#[test]
fn a_rolling_restart_of_five_changes_the_leader_twice_at_most() {
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 2, 4, 1, 3], [1, 0, 3, 2, 4]] {
        let mut group = Group::ready(5);
        for round in 0..2 {
            group.write(&format!("round {round}"), &[0, 1, 2, 3, 4]);
            let changes = rolling_restart(&mut group, &order);
            assert!(changes <= 2, "{order:?}, round {round}: {changes}\n{}", group.view());
        }
    }
}

#[test]
fn a_leader_that_comes_back_takes_nothing_back() {
    let mut group = Group::ready(3);
    let first = group.leader().expect("one leads");
    group.crash(first);
    group.run_until("another leads", |group| group.leader().is_some());
    let second = group.leader();
    group.start(first);
    group.run_for(5_000);
    assert_eq!(group.leader(), second);
}

#[test]
fn a_member_that_restarts_again_and_again_holds_nobody_up_when_the_leader_dies() {
    let mut group = Group::ready(3);
    for round in 0..3 {
        let leader = group.leader().expect("one leads");
        let [flaky, other] = [(leader + 1) % 3, (leader + 2) % 3];
        group.crash(flaky);
        group.run_for(1_000);
        group.start(flaky);
        group.run_until("it votes", |group| group.node(flaky).is_voter());
        group.crash(leader);
        let began = group.now;
        group.write(&format!("v{round}"), &[flaky, other]);
        assert!(group.now.since(began).0 <= 1_600_000, "{:?}", group.now.since(began));
        group.start(leader);
        group.run_for(1_500);
    }
}
