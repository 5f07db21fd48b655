//! The behaviour of a whole group on a virtual clock.

#[path = "support/group.rs"]
mod group;

use upaxos_core::replica::Event;
use upaxos_core::types::{Ballot, Epoch, NodeId};
use upaxos_core::wire::{Line, Message};

use group::Group;

#[test]
fn three_nodes_agree_on_one_two_three_and_read_the_second() {
    let mut group = Group::ready(3);
    for value in ["one", "two", "three"] {
        group.say(&format!("Request 0 {value}"));
        group.run_for(50);
    }
    for id in 0..3 {
        assert_eq!(group.reads(id), ["one", "two", "three"]);
    }
    assert_eq!(group.said("OK "), ["0 OK 1 one", "0 OK 2 two", "0 OK 3 three"], "one node answers");
    group.say("Request 2");
    group.run_for(200);
    assert_eq!(
        group.said("OK 2 two").len(),
        2,
        "one more answer; the other nodes receive it, too, and do not answer"
    );
}

#[test]
fn a_group_of_one_needs_nobody() {
    let mut group = Group::ready(1);
    group.say("Request 0 alone");
    group.run_for(50);
    assert_eq!(group.reads(0), ["alone"]);
}

#[test]
fn a_leader_is_elected_in_groups_of_every_small_size() {
    for n in 1..=7 {
        let mut group = Group::ready(n);
        group.say("Request 0 x");
        group.run_until("x everywhere", |group| (0..n).all(|id| group.reads(id) == ["x"]));
    }
}

#[test]
fn the_group_survives_its_leader_and_takes_it_back() {
    let mut group = Group::ready(3);
    group.say("Request 0 one");
    group.run_for(50);
    let old = group.leader().unwrap();
    group.crash(old);
    let died = group.now;
    group.say("Request 0 two");
    group.run_until("a new leader", |group| group.leader().is_some_and(|leader| leader != old));
    assert!(group.now.since(died).0 < 4 * 400_000, "within four election timeouts");
    group.run_for(100);
    let new = group.leader().unwrap();
    assert_eq!(group.reads(new), ["one", "two"]);
    let ballot = group.node(new).ballot();
    group.start(old);
    group.run_until("the old one catches up", |group| group.reads(old) == ["one", "two"]);
    group.run_for(3_000);
    assert_eq!(group.leader(), Some(new), "a returning node does not depose a healthy leader");
    assert_eq!(group.node(new).ballot(), ballot);
}

#[test]
fn everything_acknowledged_survives_a_power_cut_of_all() {
    let mut group = Group::ready(3);
    for value in 1..=20 {
        group.say(&format!("Request 0 v{value}"));
        group.run_for(3);
    }
    group.run_until("20 answers", |group| group.said(" OK ").len() == 20);
    (0..3).for_each(|id| group.crash(id));
    (0..3).for_each(|id| group.start(id));
    group.run_until("all learned again", |group| (0..3).all(|id| group.reads(id).len() == 20));
    group.assert_agreement();
}

#[test]
fn a_minority_never_learns() {
    let mut group = Group::ready(5);
    let leader = group.leader().unwrap();
    let friend = (leader + 1) % 5;
    let is_minority = move |id: u16| id == leader || id == friend;
    group.filter = Box::new(move |from, to, _| from.is_none_or(|from| is_minority(from) == is_minority(to)));
    group.say("Request 0 x");
    group.run_for(5_000);
    assert!(group.reads(leader).is_empty());
    assert!(group.reads(friend).is_empty());
    let majority = (leader + 2) % 5;
    assert_eq!(group.reads(majority), ["x"], "the majority elects its own leader and continues");
    group.filter = Box::new(|_, _, _| true);
    group.run_until("all agree", |group| (0..5).all(|id| group.reads(id) == ["x"]));
}

#[test]
fn a_tagged_request_is_done_once_however_often_it_is_sent() {
    let mut group = Group::ready(3);
    for _ in 0..3 {
        group.say("Submit 7 1 1 one\nSubmit 7 2 1 two");
        group.run_for(30);
    }
    assert_eq!(group.reads(1), ["one", "two"]);
    let old = group.leader().unwrap();
    group.crash(old);
    group.say("Submit 7 2 1 two");
    group.run_until("a new leader", |group| group.leader().is_some_and(|leader| leader != old));
    let answers = group.said("Done 2 2 7 2").len();
    group.say("Submit 7 2 1 two\nSubmit 7 3 3 three");
    group.run_for(200);
    assert_eq!(group.reads(group.leader().unwrap()), ["one", "two", "three"]);
    assert!(group.said("Done 2 2 7 2").len() > answers, "a retry is answered with the first instance");
    (0..3).for_each(|id| group.crash(id));
    (0..3).for_each(|id| group.start(id));
    group.run_until("a leader", |group| group.leader().is_some());
    group.say("Submit 7 3 3 three\nSubmit 7 1 1 one");
    group.run_for(200);
    assert_eq!(group.reads(0), ["one", "two", "three"], "the table of tags is rebuilt after a restart");
    assert!(!group.said("Unknown 7 1").is_empty(), "below the floor: not remembered, never executed again");
    assert!(group.said("Refused 7 1").is_empty(), "it was executed");
}

#[test]
fn a_safe_read_takes_an_instance_and_says_the_last_value_before_it() {
    let mut group = Group::ready(3);
    group.say("Request 0");
    group.say("Request 0 one\nRequest 0 two\nRequest 0\nRequest 0\nRequest 0 three\nRead 9 1 1");
    group.run_for(200);
    let expected = ["safe read ", "one", "two", "safe read two", "safe read two", "three", "safe read three"];
    for id in 0..3 {
        assert_eq!(group.reads(id), expected);
    }
    assert_eq!(group.said("Answer 7 9 1 safe read three").len(), 1);
}

#[test]
fn identical_untagged_requests_are_two_requests() {
    let mut group = Group::ready(3);
    group.say("Request 0 same\nRequest 0 same");
    group.run_for(100);
    assert_eq!(group.reads(2), ["same", "same"]);
}

#[test]
fn a_value_for_a_chosen_instance_is_refused_and_never_proposed() {
    let mut group = Group::ready(3);
    group.say("Request 3 x");
    group.run_for(200);
    assert!(group.reads(0).is_empty());
    assert_eq!(group.said("Error ").len(), 1, "one node says why");
}

#[test]
fn history_that_is_not_there_yet_is_said_as_such() {
    let mut group = Group::ready(3);
    group.say("Request 5");
    group.run_for(200);
    assert_eq!(group.said("NotYet"), ["0 NotYet 5 0"]);
}

#[test]
fn a_request_that_only_a_follower_heard_is_passed_on_to_the_leader() {
    let mut group = Group::ready(3);
    let leader = group.leader().unwrap();
    let ballot = group.node(leader).ballot();
    group.filter = Box::new(move |from, to, _| from.is_some() || to != leader);
    group.say("Request 0 quiet\nSubmit 4 1 1 tagged\nRequest 0");
    group.run_until("all three", |group| (0..3).all(|id| group.reads(id).len() == 3));
    assert_eq!(group.node(leader).ballot(), ballot, "no new ballot");
}

#[test]
fn lost_lines_are_sent_again_and_gaps_are_repaired() {
    let mut group = Group::ready(3);
    let mut count = 0u32;
    group.filter = Box::new(move |from, _, _| {
        count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        from.is_none() || (count >> 16) % 100 >= 30
    });
    for i in 1..=200 {
        group.say(&format!("Submit 7 {i} 1 v{i}"));
        group.run_for(5);
    }
    group.run_until("all 200 everywhere", |group| {
        (0..3).all(|id| group.reads(id).iter().filter(|v| v.starts_with('v')).count() >= 200)
    });
    group.assert_agreement();
}

#[test]
fn a_node_without_its_disk_refuses_to_vote_and_says_how_to_return() {
    let mut group = Group::ready(3);
    group.say("Request 0 one");
    group.run_for(300);
    group.wipe(2);
    group.sent.clear();
    group.start(2);
    group.run_for(3_000);
    let reasons: Vec<_> = group.members[2].events.iter().map(ToString::to_string).collect();
    assert!(
        reasons.iter().any(|text| text.contains("refuses to vote") && text.contains("--join")),
        "{reasons:?}"
    );
    group.say("Request 0 two");
    group.run_for(300);
    let is_vote = |line: &str| ["Accept", "Promise", "Propose"].iter().any(|verb| line.contains(verb));
    assert!(!group.said_by(2).iter().any(|line| is_vote(line)), "{:?}", group.said_by(2));
    assert_eq!(group.reads(2), ["one", "two"], "it still learns");
}

/// Found by the simulator. With ⌊(n-1)/2⌋+1 registrations, nodes 0 to 3 could remember node 4. After 0, 3 and 4
/// have lost their disks, 0, 3, 5 and 6 could remember it. None of those remembers its first life.
#[test]
fn a_lost_disk_does_not_vote_though_a_minority_of_seven_lost_theirs() {
    let mut group = Group::new(7);
    group.filter = Box::new(|from, to, _| !(from == Some(4) && to > 4));
    (0..7).for_each(|id| group.start(id));
    group.run_for(3_000);
    let votes = |group: &Group| group.said_by(4).iter().filter(|line| line.contains("Promise")).count();
    assert_eq!(votes(&group), 0, "four registrations are not enough");
    group.filter = Box::new(|from, to, _| !(from == Some(4) && to == 6));
    group.run_for(1_000);
    group.say("Request 0 one");
    group.run_for(1_000);
    for id in [0, 3, 4] {
        group.wipe(id);
    }
    group.sent.clear();
    group.filter = Box::new(|from, to, _| !(to == 4 && from.is_some_and(|from| [1, 2].contains(&from))));
    [0, 3, 4].into_iter().for_each(|id| group.start(id));
    group.run_for(3_000);
    let is_vote = |line: &str| line.contains("Accepts") || line.contains("Promise");
    assert!(!group.said_by(4).iter().any(|line| is_vote(line)), "{}", group.view());
}

#[test]
fn a_node_whose_disk_went_back_in_time_refuses_to_vote() {
    let mut group = Group::ready(3);
    group.run_for(300);
    let old_image = group.members[2].durable.clone();
    group.crash(2);
    group.start(2);
    group.run_for(500);
    group.crash(2);
    group.members[2].durable = old_image;
    group.start(2);
    group.run_for(1_000);
    let refuses = |event: &Event| event.to_string().contains("its disk is ");
    assert!(group.members[2].events.iter().any(refuses), "{}", group.view());
}

#[test]
fn a_first_start_waits_for_the_whole_group_of_three_and_says_for_whom() {
    let mut group = Group::new(3);
    group.start(0);
    group.start(1);
    group.run_for(5_000);
    assert_eq!(group.leader(), None);
    let said = group.members[0].events.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said.contains("waiting for node 2"), "{said}");
    group.start(2);
    group.run_until("a leader", |group| group.leader().is_some());
}

#[test]
fn nodes_of_another_group_size_are_ignored() {
    let mut group = Group::ready(3);
    let leader = group.leader().unwrap();
    let victim = (leader + 1) % 3;
    group.tell(leader, &format!("{victim} Beat 5 1 1 1 - 0 waits -"));
    let said = group.members[usize::from(leader)].events.iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("first group of 5"), "{said}");
    assert!(group.node(leader).dropped().foreign > 0);
}

#[test]
fn hostile_numbers_wedge_nothing() {
    let mut group = Group::ready(3);
    let huge = 1u64 << 62;
    for id in 0..3u16 {
        for line in [
            format!("1 Beat 3 1001 1 2 {huge} {huge} leads 0,1,2"),
            format!("1 PromiseNone 1 * 65536 {huge}"),
            format!("2 NACK 1 {huge}"),
            format!("1 Write {huge} 65537 x"),
            format!("1 Accepts 1 {huge} 65537"),
            format!("1 Chosen 1 {huge} 65537"),
            format!("1 Gap 1 {huge}"),
            format!("1 ProposeAll {huge} 65537"),
            format!("Submit {huge} {huge} {huge} x"),
            "9 Write 1 9 x".to_string(),
            "1 Write 1 65536 not-mine".to_string(),
        ] {
            group.tell(id, &line);
        }
    }
    group.say("Request 0 after");
    group.run_until("after", |group| (0..3).all(|id| group.reads(id).contains(&"after".to_string())));
    group.assert_agreement();
}

#[test]
fn a_second_node_with_the_same_id_is_named() {
    let mut group = Group::ready(3);
    group.tell(1, "1 Beat 3 5 1 77 - 0 waits -");
    let said = group.members[1].events.iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("another node goes by id 1"), "{said}");
}

#[test]
fn every_take_over_under_load_keeps_every_acknowledged_value() {
    let mut group = Group::ready(3);
    let mut acknowledged = Vec::new();
    for round in 0..12u64 {
        for i in 0..5 {
            let seq = round * 5 + i + 1;
            group.say(&format!("Submit 7 {seq} 1 v{seq}"));
            group.run_for(1);
        }
        if let Some(leader) = group.leader() {
            group.crash(leader);
            group.run_for(700);
            group.start(leader);
        }
        group.run_for(900);
    }
    for (_, line) in &group.sent {
        if let Line::Node(NodeId(_), Message::Done { first, last, seq, .. }) = line {
            acknowledged.extend((first.0..=last.0).zip(*seq..));
        }
    }
    group.run_for(2_000);
    assert!(acknowledged.len() >= 30, "{}", acknowledged.len());
    for (instance, seq) in acknowledged {
        for id in 0..3 {
            assert_eq!(group.reads(id)[instance as usize - 1], format!("v{seq}"));
        }
    }
    group.assert_agreement();
}

/// The events of all nodes about a lost quorum, and about one that is back.
fn told_of_quorums(group: &Group) -> Vec<String> {
    let events = group.members.iter().flat_map(|member| &member.events).map(Event::to_string);
    events.filter(|text| text.starts_with("hears no quorum") || text.starts_with("hears a quorum")).collect()
}

#[test]
fn a_node_says_once_that_it_hears_no_quorum_any_more_and_once_that_it_does_again() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    assert_eq!(told_of_quorums(&group), [""; 0]);
    group.crash(2);
    group.run_for(3_000);
    assert_eq!(told_of_quorums(&group), [""; 0], "two of three are a quorum");
    group.crash(1);
    group.run_for(3_000);
    let lost = "hears no quorum any more: of the members 0,1,2, no other votes and has a two-way link with this node; \
                nothing is decided until more of them are back";
    assert_eq!(told_of_quorums(&group), [lost]);
    group.start(1);
    group.write("two", &[0, 1]);
    group.run_for(3_000);
    let back = "hears a quorum again";
    assert_eq!(told_of_quorums(&group), [lost, back]);
    group.crash(1);
    group.run_for(3_000);
    assert_eq!(told_of_quorums(&group), [lost, back, lost], "a second loss is logged again");
}

#[test]
fn a_quorum_that_waits_for_a_new_member_to_begin_to_vote_is_not_told_as_lost() {
    let mut group = Group::ready(3);
    group.crash(2);
    group.run_for(3_000);
    group.join(None);
    group.wait_for_members(&[0, 1, 3], &[0, 1, 2, 3]);
    group.write("one", &[0, 1, 3]);
    group.run_for(3_000);
    assert_eq!(told_of_quorums(&group), [""; 0], "the new member is needed, and soon votes");
}

#[test]
fn of_a_quorum_that_is_missed_the_two_way_links_are_told() {
    let mut group = Group::ready(5);
    group.crash(4);
    group.crash(3);
    group.run_for(3_000);
    group.filter = Box::new(|from, to, _| (from, to) != (Some(0), 2));
    group.run_for(3_000);
    let lost =
        |linked: &str| format!("hears no quorum any more: of the members 0,1,2,3,4, only {linked} link");
    let told = |id: usize| {
        let events =
            group.members[id].events.iter().map(|event| event.to_string().replace(" with this node", ""));
        events.filter(|text| text.starts_with("hears no quorum")).collect::<Vec<_>>()
    };
    for id in [0, 2] {
        assert_eq!(told(id).len(), 1, "{:?}", told(id));
        assert!(told(id)[0].starts_with(&lost("1 votes and has a two-way")), "{:?}", told(id));
    }
    assert_eq!(told(1), [""; 0]);
}

#[test]
fn who_gives_its_ballot_up_names_another_only_if_it_gives_way_to_one() {
    let [own, higher] = [7, 8].map(|number| Ballot { epoch: Epoch(1), number });
    let told = |to| Event::SteppedDown { ballot: own, to }.to_string();
    assert_eq!(told(higher), "steps down from ballot 1:7 for 1:8");
    assert_eq!(told(own), "steps down from ballot 1:7");
}

/// Client A gets its answer. The leader's other messages about that write are lost, except for one node's copy. The
/// leader crashes. Client B writes the same words. The copy of A's request that the new leader finds is not B's
/// request.
#[test]
fn an_untagged_write_is_not_carried_out_by_an_older_one_of_the_same_words() {
    let mut group = Group::ready(3);
    let old = group.leader().expect("one leads");
    let mute = (0..3).rev().find(|id| *id != old).expect("there are three");
    group.filter = Box::new(move |from, to, line| {
        let is_write = matches!(line, Line::Node(_, Message::Write { .. }));
        let is_vote_question = is_write || matches!(line, Line::Node(_, Message::Accepts { .. }));
        match from {
            None => to == old,
            Some(from) if from == old && to != old => is_vote_question && !(is_write && to == mute),
            Some(_) => true,
        }
    });
    group.say("Request 0 a");
    group.run_until("A is answered", |group| !group.said("OK 1 a").is_empty());
    group.crash(old);
    group.run_for(100);
    group.filter = Box::new(|_, _, _| true);
    group.say("Request 0 a");
    group.run_until("B is answered", |group| !group.said("OK 2 a").is_empty());
    let alive = (0..3).find(|id| *id != old).expect("there are three");
    group.run_until("both are in the log", |group| group.reads(alive) == ["a", "a"]);
}
