//! Nodes with different beat intervals. The timeout of each link follows the slower of its ends.

#[path = "support/group.rs"]
mod support;

use std::collections::BTreeSet;

use upaxos_core::replica::Event;
use upaxos_core::types::{Ballot, Micros};
use upaxos_core::wire::{Line, Message};

use support::Group;

/// A group whose nodes beat at these intervals, in milliseconds. All nodes are started.
fn paced(beats: &[u64]) -> Group {
    let mut group = Group::new(beats.len() as u16);
    group.beats = (0..).zip(beats.iter().map(|ms| Micros::from_millis(*ms))).collect();
    (0..group.n).for_each(|id| group.start(id));
    group
}

/// The ballots that were raised since position `since` of the sent lines.
fn raised(group: &Group, since: usize) -> BTreeSet<Ballot> {
    let ballot = |line: &Line| match line {
        Line::Node(_, Message::ProposeAll { ballot, .. }) => Some(*ballot),
        _ => None,
    };
    group.sent[since..].iter().filter_map(|(_, line)| ballot(line)).collect()
}

/// The node's warnings about beat intervals.
fn warnings(group: &Group, id: u16) -> Vec<String> {
    let text = |event: &Event| match event {
        Event::Warning(text) if text.contains(" beats every ") => Some(text.clone()),
        _ => None,
    };
    group.members[usize::from(id)].events.iter().filter_map(text).collect()
}

#[test]
fn a_leader_stays_however_unequal_the_intervals_are() {
    for beats in
        [[500, 20, 20], [20, 500, 20], [20, 500, 500], [500, 20, 500], [100, 20, 1_000], [20, 20, 500]]
    {
        let mut group = paced(&beats);
        group.run_until("a leader", |group| group.leader().is_some());
        group.run_for(4_000);
        let since = group.sent.len();
        for round in 0..6 {
            group.write(&format!("v{round}"), &[0, 1, 2]);
            group.run_for(1_000);
        }
        assert_eq!(raised(&group, since).len(), 0, "{beats:?}\n{}", group.view());
        let all = raised(&group, 0).len();
        assert!(all <= 2, "{beats:?}: {all} ballots were raised while the links came up");
    }
}

#[test]
fn unequal_intervals_are_named_once() {
    let mut group = paced(&[20, 500, 20]);
    group.run_for(5_000);
    assert_eq!(
        warnings(&group, 0),
        [
            "node 1 beats every 500 ms, this node every 20 ms: start all with the same --beat; until then the slower of \
          two counts"
        ]
    );
    assert_eq!((warnings(&group, 1).len(), warnings(&group, 2).len()), (2, 1));
    let mut equal = paced(&[100, 100, 100]);
    equal.run_for(5_000);
    assert!((0..3).all(|id| warnings(&equal, id).is_empty()));
}

#[test]
fn a_slow_joiner_is_taken_in_by_quick_members_and_a_quick_one_by_slow_members() {
    for (members, joiner) in [(20, 500), (500, 20)] {
        let mut group = paced(&[members; 3]);
        group.run_until("a leader", |group| group.leader().is_some());
        group.write("one", &[0, 1, 2]);
        group.beats.insert(3, Micros::from_millis(joiner));
        let id = group.join(None);
        group.wait_for_members(&[0, 1, 2, id], &[0, 1, 2, id]);
        group.write("two", &[0, 1, 2, id]);
        group.run_for(4_000);
        let since = group.sent.len();
        group.run_for(6_000);
        assert_eq!(raised(&group, since).len(), 0, "{}", group.view());
    }
}

#[test]
fn a_leader_that_dies_is_replaced_within_four_timeouts_of_the_slowest() {
    for beats in [[20, 500, 20], [500, 20, 20], [20, 20, 500]] {
        let mut group = paced(&beats);
        group.run_until("a leader", |group| group.leader().is_some());
        group.write("one", &[0, 1, 2]);
        group.run_for(4_000);
        let leader = group.leader().expect("one leads");
        group.crash(leader);
        let began = group.now;
        let others: Vec<u16> = (0..3).filter(|id| *id != leader).collect();
        group.write("two", &others);
        let took = group.now.since(began);
        assert!(took <= Micros::from_millis(4 * 4 * 500), "{beats:?}: {took:?}");
    }
}

#[test]
fn one_damaged_interval_does_not_keep_a_dead_leader_alive() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    let leader = group.leader().expect("one leads");
    group.crash(leader);
    let others: Vec<u16> = (0..3).filter(|id| *id != leader).collect();
    for id in &others {
        group.tell(*id, &format!("{leader} Pace 10000 -"));
    }
    let began = group.now;
    group.write("two", &others);
    assert!(group.now.since(began) <= Micros::from_millis(1_650), "{:?}", group.now.since(began));
}

#[test]
fn who_asks_for_the_members_hears_from_every_node_at_once_however_slow_the_beats_are() {
    let mut group = paced(&[2_000; 3]);
    group.run_until("a leader", |group| group.leader().is_some());
    for wait in [0, 150, 1_000] {
        group.run_for(wait);
        let since = group.sent.len();
        (0..20).for_each(|_| group.say("members"));
        group.run_for(110);
        let beats = |line: &Line| matches!(line, Line::Node(_, Message::Beat(_)));
        let beats = group.sent[since..].iter().filter(|(_, line)| beats(line)).count();
        assert_eq!(beats, 3, "one beat of each node, however often the client asks");
    }
}
