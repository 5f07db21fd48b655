//! The leader when links fail one by one. The group makes progress wherever a node still reaches a quorum in both
//! directions, and leaders never duel.

#[path = "support/group.rs"]
mod group;

use upaxos_core::types::Micros;

use group::Group;

const TIMEOUT_MS: u64 = 400;

/// Allows only these links, each in both directions.
fn only(group: &mut Group, links: &'static [(u16, u16)]) {
    group.filter = Box::new(move |from, to, _| {
        from.is_none_or(|from| from == to || links.contains(&(from, to)) || links.contains(&(to, from)))
    });
}

/// Checks that a value is chosen within four election timeouts, and that the ballot stays the same afterwards.
fn assert_progress_without_duels(group: &mut Group, who: &[u16]) {
    let value = format!("v{}", group.now.0);
    group.say(&format!("Request 0 {value}"));
    let began = group.now;
    group.run_until("the value", |group| who.iter().all(|id| group.reads(*id).contains(&value)));
    assert!(
        group.now.since(began) <= Micros::from_millis(4 * TIMEOUT_MS + 50),
        "{:?}",
        group.now.since(began)
    );
    // The value may have been chosen before any node missed the leader.
    group.run_for(4 * TIMEOUT_MS);
    let ballot = |group: &Group| who.iter().map(|id| group.node(*id).ballot()).max();
    let settled = ballot(group);
    group.run_for(20 * TIMEOUT_MS);
    assert_eq!(ballot(group), settled, "no node raises a ballot without need\n{}", group.view());
    group.assert_agreement();
}

#[test]
fn a_hub_takes_over_from_a_leader_that_lost_its_quorum() {
    let mut group = Group::ready(5);
    assert_eq!(group.leader(), Some(0));
    only(&mut group, &[(1, 0), (1, 2), (1, 3), (1, 4)]);
    assert_progress_without_duels(&mut group, &[0, 1, 2, 3, 4]);
    assert_eq!(group.leader(), Some(1));
}

#[test]
fn a_hub_takes_over_when_the_leader_is_gone_and_nobody_else_reaches_a_quorum() {
    let mut group = Group::ready(5);
    only(&mut group, &[(3, 1), (3, 2), (3, 4)]);
    assert_progress_without_duels(&mut group, &[1, 2, 3, 4]);
    assert_eq!(group.leader(), Some(3));
}

#[test]
fn nobody_waits_for_nodes_that_say_they_hear_too_few_to_lead() {
    let mut group = Group::ready(7);
    assert_eq!(group.leader(), Some(0));
    only(&mut group, &[(6, 1), (6, 2), (6, 3), (6, 4), (6, 5)]);
    let began = group.now;
    group.run_until("the hub, last in rank, leads", |group| group.node(6).is_leading());
    let took = group.now.since(began);
    assert!(took <= Micros::from_millis(2 * TIMEOUT_MS), "{took:?}");
}

#[test]
fn a_chain_keeps_its_leader() {
    let mut group = Group::ready(3);
    let (leader, ballot) = (group.leader(), group.node(0).ballot());
    only(&mut group, &[(0, 1), (1, 2)]);
    assert_progress_without_duels(&mut group, &[0, 1, 2]);
    assert_eq!((group.leader(), group.node(0).ballot()), (leader, ballot));
}

#[test]
fn a_chain_with_the_leader_at_its_end_settles_on_who_reaches_a_quorum() {
    let mut group = Group::ready(5);
    only(&mut group, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    assert_progress_without_duels(&mut group, &[1, 2, 3]);
}

#[test]
fn a_leader_that_hears_nobody_is_replaced() {
    let mut group = Group::ready(3);
    group.filter = Box::new(|from, to, _| from.is_none() || to != 0);
    assert_progress_without_duels(&mut group, &[1, 2]);
    assert_ne!(group.leader(), Some(0));
}

#[test]
fn what_an_old_leader_goes_on_writing_does_not_depose_the_new_one() {
    let mut group = Group::ready(3);
    // Node 0 receives clients but no nodes. It writes their requests at the instances that the new leader uses.
    group.filter = Box::new(|from, to, _| from.is_none() || to != 0);
    group.run_for(4 * TIMEOUT_MS);
    let (leader, ballot) = (group.leader(), group.node(1).ballot());
    assert_eq!(leader, Some(1));
    for request in 0..20 {
        group.say(&format!("Request 0 v{request}"));
        group.run_for(100);
    }
    group.filter = Box::new(|_, _, _| true);
    group.run_for(4 * TIMEOUT_MS);
    assert_eq!((group.leader(), group.node(1).ballot()), (leader, ballot), "{}", group.view());
    assert_eq!(group.reads(0).len(), 20);
    group.assert_agreement();
}

#[test]
fn a_leader_that_nobody_hears_is_replaced() {
    let mut group = Group::ready(3);
    group.filter = Box::new(|from, _, _| from != Some(0));
    assert_progress_without_duels(&mut group, &[1, 2]);
}

#[test]
fn a_follower_that_cannot_hear_the_leader_deposes_nobody() {
    let mut group = Group::ready(3);
    let ballot = group.node(0).ballot();
    group.filter = Box::new(|from, to, _| !(from == Some(0) && to == 2));
    assert_progress_without_duels(&mut group, &[0, 1]);
    assert_eq!(group.node(0).ballot(), ballot);
}

#[test]
fn all_connected_graphs_of_four_with_a_quorum_settle() {
    const PAIRS: [(u16, u16); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    for graph in 0..1u32 << PAIRS.len() {
        let links: Vec<_> = (0..6).filter(|i| graph & (1 << i) != 0).map(|i| PAIRS[i]).collect();
        let degree = |id: u16| links.iter().filter(|(a, b)| *a == id || *b == id).count();
        if !(0..4).any(|id| degree(id) >= 2) {
            continue;
        }
        let mut group = Group::ready(4);
        only(&mut group, links.clone().leak());
        group.say("Request 0 x");
        group.run_for(4 * TIMEOUT_MS + 400);
        let learned = (0..4).filter(|id| !group.reads(*id).is_empty()).count();
        assert!(learned >= 3, "{links:?}: {learned}\n{}", group.view());
        let ballots = |group: &Group| (0..4).map(|id| group.node(id).ballot()).max();
        let settled = ballots(&group);
        group.run_for(20 * TIMEOUT_MS);
        assert_eq!(ballots(&group), settled, "{links:?}\n{}", group.view());
    }
}
