//! Changes of the group: directed scenarios of real nodes on a virtual clock.

#[path = "support/group.rs"]
mod support;

use upaxos_core::replica::Event;
use upaxos_core::types::Instance;
use upaxos_core::wire::{Line, Message};

use support::Group;

fn has_left(group: &Group, id: u16) -> bool {
    group.members[usize::from(id)].events.iter().any(|event| matches!(event, Event::Left { .. }))
}

fn lone() -> Group {
    let mut group = Group::ready(1);
    group.write("one", &[0]);
    group
}

#[test]
fn a_group_of_one_grows_to_three_and_to_five_and_every_joiner_has_the_whole_history() {
    let mut group = lone();
    for (id, size) in (1..5).zip(2..) {
        assert_eq!(group.join(None), id);
        let all: Vec<u16> = (0..size).collect();
        group.wait_for_members(&all, &all);
        group.write(&format!("by {size}"), &all);
    }
    let first = group.reads(0);
    assert!((1..5).all(|id| group.reads(id) == first), "{}", group.view());
    assert!(first.contains(&"group 0,1,2,3,4".to_string()));
}

#[test]
fn after_it_grew_a_group_survives_the_loss_of_its_first_member() {
    let mut group = lone();
    group.join(None);
    group.wait_for_members(&[0, 1], &[0, 1]);
    group.join(None);
    group.wait_for_members(&[0, 1, 2], &[0, 1, 2]);
    group.crash(0);
    group.write("without 0", &[1, 2]);
}

#[test]
fn a_member_leaves_on_demand_and_says_so_when_the_others_have_it() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    let leaver = group.leader().expect("one leads");
    let others: Vec<u16> = (0..3).filter(|id| *id != leaver).collect();
    group.say(&format!("leave {leaver}"));
    group.wait_for_members(&[0, 1, 2], &others);
    group.run_until("the leaver says that it left", |group| has_left(group, leaver));
    group.write("two", &[others[0], others[1]]);
    assert!(group.said("Write").len() > 1);
}

#[test]
fn a_dead_member_is_replaced_in_one_change_and_harmless_when_it_comes_back_with_its_disk() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    group.crash(1);
    assert_eq!(group.join(Some(1)), 3);
    group.wait_for_members(&[0, 2, 3], &[0, 2, 3]);
    group.write("two", &[0, 2, 3]);
    let leader = group.leader();
    group.start(1);
    group.run_until("the old member knows that it is out", |group| has_left(group, 1));
    group.write("three", &[0, 2, 3]);
    assert_eq!(group.leader(), leader, "the old member did not cause an election");
}

fn refusals(group: &Group, id: u16) -> Vec<String> {
    let events = group.members[usize::from(id)].events.iter();
    events.filter(|event| matches!(event, Event::MayNotVote(_))).map(Event::to_string).collect()
}

#[test]
fn whoever_was_replaced_while_dead_and_comes_back_with_its_disk_learns_that_it_is_out_and_is_not_refused() {
    // Tests a member of the first group and a joined member, after one change and after several.
    for changes in [1, 3] {
        let mut group = Group::ready(3);
        group.write("one", &[0, 1, 2]);
        let joined = group.join(Some(1));
        group.wait_for_members(&[0, 2, joined], &[0, 2, joined]);
        group.run_until("it votes", |group| group.node(joined).is_voter());
        group.crash(1);
        group.write("two", &[0, 2, joined]);
        for dead in [2, joined] {
            group.crash(dead);
            let mut last = dead;
            for _ in 0..changes {
                let new = group.join(Some(last));
                group.run_until("the change", |group| group.members_of(0).contains(&new));
                if last != dead {
                    group.run_until("it has left", |group| has_left(group, last));
                    group.crash(last);
                }
                last = new;
            }
            group.members[usize::from(dead)].events.clear();
            group.start(dead);
            group.run_until("the old member knows that it is out", |group| has_left(group, dead));
            assert_eq!(refusals(&group, dead), [""; 0]);
            group.crash(dead);
        }
        group.write("three", &[0]);
    }
}

#[test]
fn a_replaced_member_that_comes_back_without_its_disk_never_votes() {
    let mut group = Group::ready(3);
    group.crash(1);
    group.join(Some(1));
    group.wait_for_members(&[0, 2, 3], &[0, 2, 3]);
    group.wipe(1);
    let before = group.sent.len();
    group.start(1);
    group.run_for(3_000);
    let votes = group.sent[before..].iter().filter(|(from, line)| {
        let is_vote = |message: &Message| {
            matches!(message, Message::PromiseNone { .. } | Message::Promise { .. } | Message::Accepts { .. })
        };
        *from == Some(1) && matches!(line, Line::Node(_, message) if is_vote(message))
    });
    assert_eq!(votes.count(), 0);
}

#[test]
fn an_id_that_was_a_member_is_refused_when_it_asks_to_join_again() {
    let mut group = lone();
    group.join(None);
    group.wait_for_members(&[0, 1], &[0, 1]);
    group.run_until("a leader", |group| group.leader().is_some());
    group.say("leave 1");
    group.wait_for_members(&[0], &[0]);
    group.wipe(1);
    group.start(1);
    group.run_until("node 1 is told", |group| {
        let told = |event: &Event| matches!(event, Event::MayNotVote(_));
        group.members[1].events.iter().any(told)
    });
    group.run_for(2_000);
    assert_eq!(group.members_of(0), [0]);
}

#[test]
fn a_change_that_would_leave_no_live_quorum_is_refused_unless_forced() {
    let mut group = Group::ready(3);
    let leader = group.leader().expect("one leads");
    let dead = (leader + 1) % 3;
    let alive = (leader + 2) % 3;
    group.crash(dead);
    group.run_for(1_000);
    group.say(&format!("Change 7 1 1 leave {alive}"));
    group.run_until("a refusal", |group| group.said("Refused 7 1").iter().any(|line| line.contains("force")));
    assert_eq!(group.members_of(leader).len(), 3);
    // A forced change waits for the dead node, as the refusal announced.
    group.say(&format!("Change 7 2 2 leave {alive} force"));
    group.run_until("the change is made", |group| group.members_of(leader).len() == 2);
}

/// A change that was refused because one of three members is down. Returns the group, the leader, the dead member,
/// the third member, and the request.
fn refused() -> (Group, u16, u16, u16, String) {
    let mut group = Group::ready(3);
    let leader = group.leader().expect("one leads");
    let (dead, alive) = ((leader + 1) % 3, (leader + 2) % 3);
    group.crash(dead);
    group.run_for(1_000);
    let change = format!("Change 7 1 1 leave {alive}");
    group.say(&change);
    group.run_until("a refusal", |group| !group.said("Refused 7 1").is_empty());
    (group, leader, dead, alive, change)
}

#[test]
fn a_refused_change_is_not_made_later_by_another_leader() {
    let (mut group, leader, dead, alive, _) = refused();
    // The change would be possible now. Now another node leads, which received the request, too.
    group.start(dead);
    group.run_for(3_000);
    group.crash(leader);
    group.run_until("another leads", |group| group.leader().is_some_and(|id| id != leader));
    group.write("one", &[dead, alive]);
    assert_eq!(group.members_of(alive).len(), 3);
}

#[test]
fn a_refused_change_is_not_made_later_nor_when_a_copy_of_it_comes_late() {
    let (mut group, leader, dead, _, change) = refused();
    group.start(dead);
    group.run_for(9_000);
    group.say(&change);
    group.run_for(2_000);
    assert_eq!(group.members_of(leader).len(), 3, "a late copy of it changes nothing either");
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let mut group = lone();
    for ((change, why), seq) in [
        ("leave 0", "only member"),
        ("leave 7", "no member"),
        ("replace 0 9", "does not ask to join"),
        ("replace 5 9", "no member"),
        ("replace 0 0", "node 0 cannot take its own place"),
    ]
    .into_iter()
    .zip(1..)
    {
        group.say(&format!("Change 7 {seq} {seq} {change}"));
        let refusal = format!("Refused 7 {seq} ");
        group.run_until(change, |group| group.said(&refusal).iter().any(|line| line.contains(why)));
    }
    group.say("members");
    group.run_until("an answer", |group| !group.said("Members 0 ").is_empty());
}

#[test]
fn a_member_takes_nobodys_place_and_the_way_out_is_told() {
    let mut group = Group::ready(3);
    group.say("Change 7 1 1 replace 1 2");
    group.run_until("a refusal", |group| !group.said("Refused 7 1").is_empty());
    let refusal = group.said("Refused 7 1").remove(0);
    assert!(refusal.contains("node 2 is a member already; to put node 1 out, say `leave 1`"), "{refusal}");
}

#[test]
fn an_operator_replaces_a_member_by_a_node_that_stands_by() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    group.crash(1);
    // A node that asks to replace its own id stands by.
    assert_eq!(group.join(Some(3)), 3);
    group.run_for(3_000);
    assert_eq!(group.members_of(0), [0, 1, 2], "it waits");
    group.say("Change 7 1 1 replace 1 3");
    group.wait_for_members(&[0, 2, 3], &[0, 2, 3]);
    group.write("two", &[0, 2, 3]);
}

#[test]
fn a_joiner_that_has_fallen_silent_does_not_ask_to_join_any_more() {
    let mut group = Group::ready(3);
    assert_eq!(group.join(Some(3)), 3);
    group.run_for(3_000);
    group.crash(3);
    group.run_for(2_000);
    group.say("Change 7 1 1 replace 1 3");
    group.run_until("a refusal", |group| !group.said("Refused 7 1").is_empty());
    let refusal = group.said("Refused 7 1").remove(0);
    assert!(refusal.contains("node 3 does not ask to join: start it with --join -i 3"), "{refusal}");
}

/// A standby node's line, damaged or from an earlier life, names a healthy member. No member is replaced. The
/// directory that joins is the present one.
#[test]
fn one_line_of_a_joiner_that_is_damaged_or_old_changes_nothing_of_what_it_wants() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    assert_eq!(group.join(Some(3)), 3);
    group.run_for(1_000);
    // Delivered twice, because the network may duplicate a datagram.
    (0..3).for_each(|id| group.tell(id, "3 JoinFor 1 1"));
    (0..3).for_each(|id| group.tell(id, "3 JoinFor 1 1"));
    group.run_for(1_000);
    assert_eq!(group.members_of(0), [0, 1, 2], "it waits");
    group.crash(1);
    group.run_for(1_000);
    let mut old = group.head_of(3);
    old.from = old.from.map(|(id, incarnation)| (id, incarnation + 1));
    let Some((_, incarnation)) = old.from else { unreachable!("a node's head names it") };
    let mut datagram = Vec::new();
    old.encode(&mut datagram);
    datagram.extend(format!("3 Beat 3 {incarnation} 1 99 - 1 learns 0,2\n3 JoinFor 1 3").bytes());
    [0, 2].into_iter().for_each(|id| group.hear(id, &datagram));
    group.say("Change 7 1 1 replace 1 3");
    group.wait_for_members(&[0, 2, 3], &[0, 2, 3]);
    group.write("two", &[0, 2, 3]);
}

fn wait_until_turned_away(group: &mut Group, id: u16, because: &str) {
    group.run_until("it is told", |group| {
        let told = |event: &Event| matches!(event, Event::MayNotVote(why) if why.contains(because));
        group.members[usize::from(id)].events.iter().any(told)
    });
}

#[test]
fn who_asks_for_the_place_of_a_node_that_never_was_a_member_is_told_so_and_does_not_join() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    let id = group.join(Some(9));
    wait_until_turned_away(&mut group, id, "never a member");
    group.run_for(3_000);
    assert_eq!(group.members_of(0), [0, 1, 2]);
}

#[test]
fn who_asks_for_the_place_of_a_node_that_is_gone_is_told_so_and_does_not_join() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    group.crash(1);
    assert_eq!(group.join(Some(1)), 3);
    group.wait_for_members(&[0, 2, 3], &[0, 2, 3]);
    let late = group.join(Some(1));
    wait_until_turned_away(&mut group, late, "no member of the group any more");
    group.run_for(3_000);
    assert_eq!(group.members_of(0), [0, 2, 3], "no second node replaces the same member");
}

#[test]
fn force_makes_no_group_of_which_half_was_never_up() {
    let mut group = Group::new(5);
    (0..4).for_each(|id| group.start(id));
    group.write("one", &[0, 1, 2, 3]);
    let leader = group.leader().expect("one leads");
    let mut others = (0..4).filter(|id| *id != leader);
    for left in [4, 3] {
        let goes = others.next().expect("there are three");
        group.say(&format!("leave {goes}"));
        group.run_until("it has left", |group| group.members_of(leader).len() == left);
        group.run_for(1_000);
    }
    let last = others.next().expect("there are three");
    group.say(&format!("Change 7 1 1 leave {last} force"));
    group.run_until("a refusal", |group| {
        group.said("Refused 7 1").iter().any(|line| line.contains("never decide again"))
    });
    group.write("two", &[leader, last]);
}

#[test]
fn the_same_change_asked_for_again_while_it_is_under_way_is_not_refused() {
    let mut group = Group::ready(3);
    let leader = group.leader().expect("one leads");
    group.filter = Box::new(|_, _, line| !matches!(line, Line::Node(_, Message::Accepts { .. })));
    for _ in 0..3 {
        group.say(&format!("Change 7 1 1 leave {}", (leader + 1) % 3));
        group.run_for(20);
    }
    group.say(&format!("Change 8 1 1 leave {}", (leader + 2) % 3));
    group.run_for(20);
    assert!(group.said("Refused 7 1").is_empty());
    assert!(!group.said("Busy 8 1").is_empty(), "it may be made when the other is");
    assert!(group.said("Refused 8 1").is_empty());
    group.filter = Box::new(|_, _, _| true);
    group.run_until("it is made", |group| group.members_of(leader).len() == 2);
    assert!(group.said("Refused 7 1").is_empty());
}

#[test]
fn a_tagged_change_is_made_once_however_often_it_is_asked_for() {
    let mut group = Group::ready(3);
    for _ in 0..3 {
        group.say("Change 7 1 1 leave 2");
        group.run_for(300);
    }
    group.wait_for_members(&[0, 1], &[0, 1]);
    group.run_for(1_000);
    assert!(group.said("Done").iter().any(|line| line.ends_with(" 7 1")));
    let changes = group.reads(0).iter().filter(|read| read.starts_with("group")).count();
    assert_eq!(changes, 1, "{:?}", group.reads(0));
}

#[test]
fn nothing_is_written_above_a_change_before_it_is_learned() {
    let mut group = Group::ready(3);
    let leader = group.leader().expect("one leads");
    group.filter = Box::new(|_, _, line| !matches!(line, Line::Node(_, Message::Accepts { .. })));
    group.say(&format!("leave {}", (leader + 1) % 3));
    group.run_for(20);
    group.say("Request 0 above");
    group.run_for(300);
    assert!(!group.said("@group").is_empty());
    assert!(group.said("Write").iter().all(|line| !line.contains("above")), "{:?}", group.said("Write"));
    group.filter = Box::new(|_, _, _| true);
    group.run_until("the value", |group| group.reads(leader).iter().any(|read| read == "above"));
}

#[test]
fn a_new_epoch_begins_with_a_phase_1_of_its_own_and_a_ballot_that_names_it() {
    let mut group = Group::ready(3);
    group.say("leave 2");
    group.wait_for_members(&[0, 1], &[0, 1]);
    let epoch = group.node(0).group().epoch;
    group.run_until("a leader of the epoch", |group| {
        group.leader().is_some_and(|id| group.node(id).ballot().is_some_and(|ballot| ballot.epoch == epoch))
    });
    assert!(!group.said(&format!("ProposeAll {} {epoch}:", epoch.0 + 1)).is_empty());
}

#[test]
fn nobody_votes_in_an_epoch_whose_beginning_it_has_not_learned() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    let leader = group.leader().expect("one leads");
    let laggard = (leader + 1) % 3;
    // The laggard receives no values and no decisions, only proposals.
    group.filter = Box::new(move |_, to, line| {
        to != laggard
            || !matches!(
                line,
                Line::Node(_, Message::Write { .. } | Message::Written { .. } | Message::Chosen { .. })
            )
    });
    let gone = (leader + 2) % 3;
    group.say(&format!("leave {gone}"));
    group.run_for(3_000);
    let votes = |group: &Group| {
        let said = group.said_by(laggard);
        said.iter().filter(|line| line.contains("Promise") && line.contains(':')).count()
    };
    assert_eq!(votes(&group), 0, "{}", group.view());
    group.filter = Box::new(|_, _, _| true);
    group.run_until("it has caught up, and votes", |group| votes(group) > 0);
}

#[test]
fn a_whole_group_can_be_exchanged_member_by_member() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    for (old, new) in (0..3).zip(3..) {
        group.join(Some(old));
        let expected: Vec<u16> = (old + 1..=new).collect();
        group.wait_for_members(&expected, &expected);
        group.run_until("the old one has left", |group| has_left(group, old));
        group.crash(old);
    }
    group.write("two", &[3, 4, 5]);
    assert_eq!(group.reads(3)[0], "one");
}

#[test]
fn a_member_that_slept_through_many_changes_finds_its_way() {
    let mut group = Group::ready(5);
    group.write("one", &[0, 1, 2, 3, 4]);
    group.crash(4);
    for (old, new) in [(0, 5), (1, 6)] {
        group.join(Some(old));
        group.run_until("the change", |group| group.members_of(3).contains(&new));
        group.run_until("it has left", |group| has_left(group, old));
        group.crash(old);
    }
    group.write("two", &[2, 3, 5, 6]);
    group.start(4);
    group.wait_for_members(&[4], &[2, 3, 4, 5, 6]);
    group.crash(2);
    group.crash(3);
    group.write("three", &[4, 5, 6]);
}

#[test]
fn a_joiner_that_is_restarted_goes_on_where_it_was() {
    let mut group = lone();
    (2..=20).for_each(|count| group.write(&format!("value {count}"), &[0]));
    group.filter = Box::new(|_, to, line| {
        let is_old = |line: &Line| match line {
            Line::Node(_, Message::Written { instance, .. }) => instance.0 <= 10,
            _ => true,
        };
        to != 1 || is_old(line)
    });
    let id = group.join(None);
    group.run_until("half is there", |group| group.node(id).learned() == Instance(10));
    group.run_for(500);
    group.crash(id);
    let before = group.sent.len();
    group.start(id);
    assert_eq!(group.node(id).learned(), Instance(10), "it kept the log that it had");
    group.filter = Box::new(|_, _, _| true);
    group.wait_for_members(&[0, id], &[0, id]);
    let lacks = |(from, line): &(Option<u16>, Line)| match line {
        Line::Node(_, Message::Gap { first, .. }) if *from == Some(id) => Some(first.0),
        _ => None,
    };
    let gaps: Vec<u64> = group.sent[before..].iter().filter_map(lacks).collect();
    assert!(!gaps.is_empty() && gaps.iter().all(|first| *first > 10), "{gaps:?}");
    // The node restarts as a member. In a group of two, both must vote.
    group.crash(id);
    group.start(id);
    group.write("with both", &[0, id]);
    assert_eq!(group.reads(id), group.reads(0));
    let changes = group.reads(0).iter().filter(|read| read.starts_with("group")).count();
    assert_eq!(changes, 1, "it was admitted once: {:?}", group.reads(0));
}

/// Node 2 leads and has seen votes of node 1, which is down during the change. The change lists node 1 all the
/// same. Node 1 comes back when node 2 is gone. The joined members know node 1 from the log.
#[test]
fn a_member_that_was_down_as_the_group_changed_comes_back_among_those_who_joined() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    group.crash(0);
    group.run_until("node 2 leads", |group| group.leader().is_some_and(|leader| leader != 0));
    let leader = group.leader().expect("one leads");
    let other = 3 - leader;
    group.start(0);
    group.write("two", &[0, 1, 2]);
    group.run_for(1_000);
    assert_eq!(group.leader(), Some(leader), "the leader did not change");
    group.crash(other);
    let joined = group.join(Some(0));
    group.wait_for_members(&[leader, joined], &[1, 2, joined]);
    group.crash(leader);
    group.start(other);
    group.write("three", &[other, joined]);
}
