//! Datagrams of other groups, and of other lives under a member's id. Their ids and ballots coincide with the
//! member's, and none of them counts.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/group.rs"]
mod group;
#[path = "support/lone.rs"]
mod lone;

use std::cell::RefCell;
use std::rc::Rc;

use upaxos_core::replica::Event;

use group::Group;
use lone::{Life, Lone};

#[test]
fn a_write_of_another_life_is_not_accepted() {
    assert!(directed::a_write_of_another_life_is_not_accepted());
}

#[test]
fn a_vote_of_another_life_counts_for_nothing() {
    assert!(directed::a_vote_of_another_life_counts_for_nothing());
}

#[test]
fn a_mark_of_another_life_answers_nothing() {
    assert!(directed::a_mark_of_another_life_answers_nothing());
}

#[test]
fn chosen_of_another_life_is_not_believed() {
    assert!(directed::chosen_of_another_life_is_not_believed());
}

#[test]
fn what_another_life_tells_of_the_past_is_not_learned() {
    for life in Life::ALL {
        let mut lone = Lone::member(3, 0);
        lone.hear_from(life, "1 Written 1 x");
        assert_eq!(lone.learned(), [""; 0], "{life:?}");
        lone.hear("1 Written 1 y");
        assert_eq!(lone.learned(), ["y"], "{life:?}");
    }
}

#[test]
fn a_request_that_a_node_of_no_group_passes_on_is_not_taken() {
    let mut group = Group::ready(1);
    group.hear(0, b"7 From 9 -\nRequest 0 x");
    group.run_for(100);
    assert_eq!(group.reads(0), [""; 0]);
    group.hear(0, b"Request 0 y");
    group.run_until("the other one", |group| group.reads(0) == ["y"]);
}

#[test]
fn a_request_behind_a_damaged_head_is_not_taken() {
    let mut group = Group::ready(1);
    for head in ["jor 00000000000000ff", "For 000000000000z0ff", "7 Fro\u{7f} 9 -"] {
        group.hear(0, format!("{head}\nRequest 0 x").as_bytes());
    }
    group.run_for(100);
    assert_eq!(group.reads(0), [""; 0]);
    group.hear(0, b"Request 0 y\nnothing that parses");
    group.run_until("the other one", |group| group.reads(0) == ["y"]);
}

#[test]
fn another_group_is_named_once_in_the_log_with_the_way_out() {
    let mut group = Group::ready(3);
    for _ in 0..10 {
        group.hear(0, b"1 From 9 00000000000000ff\n1 Write 1 65537 x");
    }
    let told: Vec<_> =
        warnings(&group, 0).into_iter().filter(|text| text.contains("another group")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("00000000000000ff") && told[0].contains("--group"), "{told:?}");
    assert_eq!(group.node(0).dropped().other_groups, 10);
}

fn warnings(group: &Group, id: u16) -> Vec<String> {
    let events = group.members[usize::from(id)].events.iter();
    events.filter(|event| matches!(event, Event::Warning(_))).map(ToString::to_string).collect()
}

/// Two groups. The datagrams that each group sends are recorded, so that the other can receive them.
struct Joined {
    groups: [Group; 2],
    said: [Rc<RefCell<Vec<Vec<u8>>>>; 2],
    are_joined: bool,
}

impl Joined {
    /// Two groups of three on separate networks.
    fn apart() -> Joined {
        Joined::of(3)
    }

    fn of(n: u16) -> Joined {
        let said: [Rc<RefCell<Vec<Vec<u8>>>>; 2] = Default::default();
        let groups = [0, 1].map(|which: usize| {
            let mut group = Group::new(n);
            for member in &mut group.members {
                member.incarnation += 10_000 * which as u64;
            }
            group.boots = 10_000 * which as u64;
            let caught = Rc::clone(&said[which]);
            group.tap = Box::new(move |datagram| caught.borrow_mut().push(datagram.to_vec()));
            group
        });
        Joined { groups, said, are_joined: false }
    }

    fn start(&mut self, which: usize) {
        self.groups[which].ids().for_each(|id| self.groups[which].start(id));
    }

    fn run_for(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            for which in [0, 1] {
                self.groups[which].run_for(5);
                let said: Vec<Vec<u8>> = self.said[which].borrow_mut().drain(..).collect();
                if !self.are_joined {
                    continue;
                }
                for (id, datagram) in self.groups[1 - which]
                    .ids()
                    .flat_map(|id| said.iter().map(move |datagram| (id, datagram)))
                {
                    if self.groups[1 - which].members[usize::from(id)].node.is_some() {
                        self.groups[1 - which].hear(id, datagram);
                    }
                }
            }
        }
    }
}

#[test]
fn two_groups_whose_wires_are_joined_stay_one_log_each_and_go_on_answering() {
    let mut joined = Joined::apart();
    [0, 1].into_iter().for_each(|which| joined.start(which));
    joined.run_for(1_500);
    joined.are_joined = true;
    for round in 0..40 {
        for which in [0, 1] {
            joined.groups[which].say(&format!("Request 0 g{which}-{round}"));
        }
        joined.run_for(50);
        if round == 15 {
            let leader = joined.groups[0].leader().expect("it has one");
            joined.groups[0].crash(leader);
            joined.run_for(1_000);
            joined.groups[0].start(leader);
        }
        joined.are_joined = round < 30;
    }
    joined.run_for(2_000);
    for which in [0, 1] {
        let group = &joined.groups[which];
        group.assert_agreement();
        for id in 0..3 {
            let reads = group.reads(id);
            assert!(reads.iter().all(|read| read.starts_with(&format!("g{which}-"))), "{reads:?}");
            for round in 0..40 {
                let count = reads.iter().filter(|read| **read == format!("g{which}-{round}")).count();
                assert!(count > 0, "group {which} lacks {round} at {id}: {}", group.view());
            }
        }
    }
}

#[test]
fn a_group_that_begins_on_the_wire_of_another_one_does_not_vote_and_says_why() {
    let mut joined = Joined::apart();
    joined.start(0);
    joined.run_for(1_500);
    joined.are_joined = true;
    joined.start(1);
    joined.groups[1].say("Request 0 lost");
    joined.groups[0].say("Request 0 kept");
    joined.run_for(3_000);
    assert_eq!(joined.groups[0].reads(0), ["kept"]);
    for id in 0..3 {
        assert!(joined.groups[1].reads(id).iter().all(|read| read == "kept"), "{}", joined.groups[1].view());
        assert!(!joined.groups[1].node(id).is_voter());
        let events = joined.groups[1].members[usize::from(id)].events.iter().map(ToString::to_string);
        let refusals: Vec<_> = events.filter(|event| event.contains("refuses to vote")).collect();
        assert!(
            refusals.iter().any(|text| text.contains("--group")),
            "node {id}: {refusals:?}\n{}",
            joined.groups[1].view()
        );
    }
}

#[test]
fn the_only_member_of_a_first_group_votes_in_no_group_that_another_disk_founded() {
    let mut joined = Joined::of(1);
    joined.start(0);
    joined.run_for(1_500);
    joined.are_joined = true;
    joined.start(1);
    joined.groups[0].say("Request 0 kept");
    joined.run_for(3_000);
    assert!(!joined.groups[1].node(0).is_voter(), "{}", joined.groups[1].view());
    assert_eq!(joined.groups[0].reads(0), ["kept"]);
}

#[test]
fn the_only_member_of_a_first_group_that_has_heard_one_datagram_waits_for_another_one() {
    for hears_more in [true, false] {
        let mut group = Group::new(1);
        group.start(0);
        group.hear(0, OF_NO_GROUP);
        group.run_for(1_000);
        assert!(!group.node(0).is_voter(), "its group may have grown, and its disk be lost");
        if hears_more {
            group.hear(0, OF_NO_GROUP);
        }
        group.run_for(5_000);
        assert_eq!(group.node(0).is_voter(), !hears_more);
    }
}

#[test]
fn two_groups_that_begin_at_once_on_one_wire_never_mix() {
    let mut joined = Joined::apart();
    joined.are_joined = true;
    [0, 1].into_iter().for_each(|which| joined.start(which));
    for round in 0..20 {
        for which in [0, 1] {
            joined.groups[which].say(&format!("Request 0 g{which}-{round}"));
        }
        joined.run_for(100);
    }
    // Whatever the outcome, nodes with the same group identity have the same log.
    let mut logs: Vec<(Option<_>, Vec<String>)> = Vec::new();
    for group in &joined.groups {
        for id in 0..3 {
            logs.push((group.node(id).head().group, group.reads(id)));
        }
    }
    for (at, (identity, log)) in logs.iter().enumerate() {
        for (other, same) in &logs[..at] {
            let common = log.len().min(same.len());
            assert!(
                identity != other || log[..common] == same[..common],
                "{logs:?}\n{}\n{}",
                joined.groups[0].view(),
                joined.groups[1].view()
            );
        }
    }
}

#[test]
fn the_name_of_a_group_is_confirmed_by_another_of_its_nodes_that_is_heard_under_it() {
    let mut group = Group::ready(3);
    assert!(group.ids().all(|id| group.node(id).has_company()));
    (0..3).for_each(|id| group.crash(id));
    group.start(2);
    group.run_for(3_000);
    assert!(!group.node(2).has_company(), "it receives only its own datagrams");
    let its = group.head_of(2).group.expect("it belongs to a group");
    group.hear(2, format!("0 From 1000 {its} another-name\n0 Members 0 0 0,1,2").as_bytes());
    group.hear(2, b"0 From 1000 00000000000000ff\n0 Members 0 0 0,1,2");
    group.hear(2, b"1 From 1001 -\n1 Members 0 0 0,1,2");
    assert!(
        !group.node(2).has_company(),
        "one of its group under another name, one of another group, one of none"
    );
    group.start(1);
    group.run_for(1_000);
    assert!(group.node(2).has_company());
}

#[test]
fn the_name_of_a_group_of_one_is_confirmed_when_its_node_votes() {
    let mut group = Group::new(1);
    group.start(0);
    group.run_until("it votes", |group| group.node(0).is_voter());
    assert!(group.node(0).has_company());
}

/// Delivers two datagrams of this peer. Their heads name another group.
fn hear_twice_of_another_group(lone: &mut Lone, peer: u16) {
    for _ in 0..2 {
        lone.hear_from(Life::AnotherGroup, &format!("{peer} Pace 100 -"));
    }
}

#[test]
fn a_founder_that_has_remembered_a_peer_never_leaves_its_group() {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    let group = lone.node.head().group;
    for _ in 0..2 {
        hear_twice_of_another_group(&mut lone, 1);
        assert_eq!(lone.node.head().group, group, "node 1 may vote because of its answer");
        lone.restart_unremembered();
    }
    lone.register();
    assert!(lone.node.is_voter());
}

/// The node and one peer began with empty directories. They met before they received datagrams of the existing
/// group.
#[test]
fn a_founder_whose_word_serves_nobody_leaves_its_group_at_last() {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    let group = lone.node.head().group;
    for _ in 0..100 {
        hear_twice_of_another_group(&mut lone, 1);
        lone.run_for(100);
        lone.hear("2 Beat 3 1002 1 502 - 0 learns 0");
    }
    assert_ne!(lone.node.head().group, group);
    let mut lone = Lone::new(3, 0);
    lone.meet();
    for _ in 0..100 {
        hear_twice_of_another_group(&mut lone, 1);
        lone.run_for(100);
        lone.hear("2 Beat 3 1002 1 502 - 0 waits 0");
    }
    assert_eq!(lone.node.head().group, group, "node 2 votes because of its answer");
}

#[test]
fn a_founder_that_nobody_has_asked_leaves_its_group_for_one_that_is_there() {
    let mut lone = Lone::new(3, 0);
    lone.hear("1 Beat 3 1001 1 501 - 0 waits 0\n2 Beat 3 1002 1 502 - 0 waits 0");
    let group = lone.node.head().group;
    assert!(group.is_some());
    hear_twice_of_another_group(&mut lone, 1);
    assert_ne!(lone.node.head().group, group);
    assert!(!lone.node.is_voter());
}

#[test]
fn who_has_learned_anything_of_its_group_never_leaves_it() {
    let mut lone = Lone::new(3, 1);
    lone.meet();
    let group = lone.node.head().group;
    lone.hear("0 Written 1 x");
    assert_eq!(lone.learned(), ["x"]);
    lone.restart_unremembered();
    hear_twice_of_another_group(&mut lone, 0);
    assert_eq!(lone.node.head().group, group, "its log is of that group");
}

#[test]
fn who_leaves_a_group_forgets_what_it_remembered_of_its_peers() {
    let lines = "2 Beat 3 2002 1 7 - 0 waits 1\n2 Beat 3 2002 1 7 - 0 waits 1\n2 Register 3 2002 1 7";
    for restarts in [false, true] {
        let mut lone = Lone::new(3, 1);
        lone.meet();
        let group = lone.node.head().group;
        hear_twice_of_another_group(&mut lone, 0);
        assert_ne!(lone.node.head().group, group, "node 0, which founded it, is of another one");
        if restarts {
            lone.restart_unremembered();
        }
        lone.hear_from(Life::AnotherGroup, lines);
        assert!(!lone.has_said(" Barred 2 "), "{restarts}");
        assert!(lone.has_said("1 Registered 2 7"), "{restarts}");
    }
}

/// The head of a node with one digit of its group damaged, followed by a beat of the node.
fn damaged(group: &Group, id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    group.head_of(id).encode(&mut bytes);
    let last = bytes.len() - 2;
    bytes[last] = if bytes[last] == b'0' { b'1' } else { b'0' };
    let boot = group.node(id).boot();
    bytes.extend(format!("{id} Beat 3 {} 1 {} - 0 waits -\n", boot.incarnation, boot.boot).bytes());
    bytes
}

/// A datagram of a node other than node 0, of a group that no longer exists.
const OF_NO_GROUP: &[u8] = b"1 From 9 00000000000000ff\n1 Beat 3 9 1 9 - 0 waits -\n1 Pace 100 -\n";

#[test]
fn one_damaged_or_old_datagram_gives_a_founder_no_group_that_does_not_exist() {
    for (victim, is_old) in [(0, false), (0, true), (1, false), (1, true), (2, true)] {
        let mut group = Group::new(3);
        group.start(victim);
        if is_old {
            group.hear(victim, OF_NO_GROUP);
        } else {
            group.filter = Box::new(move |_, to, _| to != victim);
            (0..3).filter(|id| *id != victim).for_each(|id| group.start(id));
            group.run_for(300);
            let other = if victim == 0 { 1 } else { 0 };
            let damaged = damaged(&group, other);
            group.hear(victim, &damaged);
            group.filter = Box::new(|_, _, _| true);
        }
        for id in group.ids() {
            if group.members[usize::from(id)].node.is_none() {
                group.start(id);
            }
        }
        group.write("x", &[0, 1, 2]);
        group.run_until("all vote", |group| (0..3).all(|id| group.node(id).is_voter()));
    }
}

#[test]
fn one_datagram_of_another_group_moves_no_node_out_of_its_own() {
    let mut group = Group::new(3);
    group.filter = Box::new(|from, _, line| from != Some(0) || !line.to_string().contains(" Registered "));
    (0..3).for_each(|id| group.start(id));
    group.run_until("a group", |group| (0..3).all(|id| group.node(id).head().group.is_some()));
    for victim in [1, 2] {
        let damaged = damaged(&group, 0);
        group.hear(victim, &damaged);
    }
    group.hear(0, OF_NO_GROUP);
    group.filter = Box::new(|_, _, _| true);
    group.write("x", &[0, 1, 2]);
    group.run_until("all vote", |group| (0..3).all(|id| group.node(id).is_voter()));
}

#[test]
fn one_old_or_damaged_datagram_keeps_no_joiner_out() {
    for datagram in [OF_NO_GROUP, b"0 From 255 00000000000000ff\n0 Pace 100 -\n", b""] {
        // Before the joiner hears its own group, and after.
        for at in [0, 150] {
            let mut group = Group::ready(3);
            group.write("one", &[0, 1, 2]);
            let datagram = if datagram.is_empty() { damaged(&group, 0) } else { datagram.to_vec() };
            group.filter = Box::new(move |_, to, _| to != 3 || at > 0);
            let id = group.join(None);
            group.run_for(at);
            group.hear(id, &datagram);
            group.run_for(1_000 - at);
            group.filter = Box::new(|_, _, _| true);
            group.wait_for_members(&[0, id], &[0, 1, 2, id]);
            group.run_until("it votes", |group| group.node(id).is_voter());
        }
    }
}

#[test]
fn a_joiner_that_hears_two_groups_joins_neither() {
    let mut group = Group::ready(3);
    group.filter = Box::new(|_, to, _| to != 3);
    let id = group.join(None);
    group.filter = Box::new(|_, _, _| true);
    for _ in 0..2 {
        group.hear(id, OF_NO_GROUP);
    }
    group.run_for(3_000);
    assert_eq!(group.node(id).head().group, None);
    assert!(
        group.members[usize::from(id)].events.iter().any(|event| event.to_string().contains("two groups"))
    );
}

#[test]
fn the_groups_that_are_counted_are_few_and_the_last_ones() {
    let mut group = Group::ready(3);
    group.filter = Box::new(|_, to, _| to != 3);
    let id = group.join(None);
    for other in 0..100 {
        group.hear(id, format!("1 From 9 {other:016x}\n1 Pace 100 -").as_bytes());
    }
    group.filter = Box::new(|_, _, _| true);
    group.wait_for_members(&[0, id], &[0, 1, 2, id]);
}

#[test]
fn a_group_begins_at_most_one_beat_after_its_nodes_hear_each_other() {
    for n in [2, 3, 5] {
        let mut group = Group::new(n);
        for id in (0..n).rev() {
            group.start(id);
            group.run_for(37);
        }
        // The last node has started, and one beat interval has passed since.
        group.run_for(70);
        for id in 0..n {
            assert!(group.node(id).head().group.is_some(), "{n}: {id}");
        }
    }
}

#[test]
fn one_damaged_size_of_the_first_group_is_not_what_a_joiner_takes() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    group.filter = Box::new(|_, to, line| to != 3 || !line.to_string().contains(" Beat "));
    let id = group.join(None);
    group.run_for(1_000);
    let boot = group.node(0).boot();
    group.tell(id, &format!("0 Beat 7 {} 1 {} 0 0 leads 1,2,3", boot.incarnation, boot.boot));
    group.filter = Box::new(|_, _, _| true);
    group.wait_for_members(&[0, id], &[0, 1, 2, id]);
    group.run_until("it votes", |group| group.node(id).is_voter());
}

#[test]
fn the_names_of_the_other_groups_that_were_heard_are_known() {
    let mut group = Group::ready(1);
    let its = group.head_of(0).group.expect("it belongs to a group");
    for head in ["1 From 9 00000000000000ff kitchen", "2 From 9 - kitchen", "1 From 9 00000000000000aa"] {
        group.hear(0, format!("{head}\n1 Members 0 0 0,1,2").as_bytes());
    }
    group.hear(0, format!("1 From 9 {its} cellar\n1 Members 0 0 0,1,2").as_bytes());
    let names: Vec<_> =
        group.node(0).other_names().into_iter().flatten().map(|name| name.to_string()).collect();
    assert_eq!(names, ["cellar", "kitchen"]);
}
