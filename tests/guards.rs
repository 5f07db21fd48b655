//! Guards of group changes against a node that comes back without its disk, with an old disk, late, or from another
//! group. Also: single votes and claims do not outlive their epoch.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/lone.rs"]
mod lone;
#[path = "support/group.rs"]
mod support;

use upaxos_core::replica::{Event, Outbox};
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::{self, Line, Message, SUM_LINE};

use lone::Lone;
use support::Group;

/// A group that began with `from` members, wrote "one", and grew to `to` members.
fn grown(from: u16, to: u16) -> Group {
    let mut group = Group::ready(from);
    group.write("one", &(0..from).collect::<Vec<_>>());
    for size in from + 1..=to {
        group.join(None);
        let all: Vec<u16> = (0..size).collect();
        group.wait_for_members(&all, &all);
    }
    group
}

/// How many votes a node has sent since position `since` of the sent lines.
fn votes(group: &Group, id: u16, since: usize) -> usize {
    let is_vote = |message: &Message| {
        matches!(message, Message::PromiseNone { .. } | Message::Promise { .. } | Message::Accepts { .. })
    };
    let said = group.sent[since..].iter().filter(|(from, _)| *from == Some(id));
    said.filter(|(_, line)| matches!(line, Line::Node(_, message) if is_vote(message))).count()
}

fn events(group: &Group, id: u16) -> Vec<String> {
    group.members[usize::from(id)].events.iter().map(Event::to_string).collect()
}

/// Lets node 2 start a campaign, whatever its clock says. Returns its ballot.
fn run(lone: &mut Lone) -> String {
    let mut out = Outbox::new(NodeId(2));
    lone.node.campaign_unasked(Micros(0), &mut out);
    lone.finish(out);
    lone.node.ballot().expect("it runs").to_string()
}

#[test]
fn what_is_told_outweighs_votes_of_an_older_epoch() {
    assert!(directed::what_is_told_outweighs_votes_of_an_older_epoch());
}

/// This change is void after [`leads_behind_a_void_change`], because it is below its client's floor.
const VOID: &str = "@tgroup 7 1 1 0 0,1,2,3:77";

/// A leader whose phase 1 found a void change at instance 2, and values at 3 and 4.
fn leads_behind_a_void_change() -> Lone {
    let mut lone = Lone::member(3, 2);
    lone.hear("0 Written 1 @tag 7 2 2 v");
    let ballot = run(&mut lone);
    lone.hear(&format!("0 Promise 2 {ballot} 1 {VOID}"));
    lone.hear(&format!("0 Promise 3 {ballot} 1 c3"));
    lone.hear(&format!("0 Promise 4 {ballot} 1 c4"));
    lone.hear(&format!("0 PromiseNone 5 * {ballot} 0"));
    assert!(lone.node.is_leading());
    assert_eq!(lone.wrote(2), [VOID]);
    assert!(
        lone.wrote(3).is_empty() && lone.wrote(4).is_empty(),
        "the leader does not know yet that the change is void"
    );
    lone
}

#[test]
fn what_waits_behind_a_void_change_is_written_where_it_was_found() {
    let mut lone = leads_behind_a_void_change();
    lone.hear(&format!("1 Written 2 {VOID}"));
    assert!(lone.node.is_leading(), "the change was void");
    assert_eq!([lone.wrote(3), lone.wrote(4)], [["c3"], ["c4"]]);
}

#[test]
fn what_was_learned_meanwhile_behind_a_void_change_is_not_written_again() {
    let mut lone = leads_behind_a_void_change();
    lone.hear("1 Written 3 c3");
    assert!(lone.wrote(4).is_empty(), "a learned instance above the change does not lift the fence");
    lone.hear(&format!("1 Written 2 {VOID}"));
    assert!(lone.node.is_leading(), "the change was void");
    assert!(lone.wrote(3).is_empty());
    assert_eq!(lone.wrote(4), ["c4"]);
}

#[test]
fn what_waits_behind_a_valid_change_is_written_by_the_new_group_alone() {
    let change = "@group 0 0,2,3:77";
    let mut lone = Lone::member(3, 2);
    let ballot = run(&mut lone);
    lone.hear(&format!("0 Promise 1 {ballot} 1 {change}"));
    lone.hear(&format!("0 Promise 2 {ballot} 1 @tag 7 1 1 c2"));
    lone.hear(&format!("0 Promise 3 {ballot} 1 @noop"));
    lone.hear(&format!("0 PromiseNone 4 * {ballot} 0"));
    assert!(lone.node.is_leading());
    lone.hear(&format!("1 Written 1 {change}"));
    let ballot = lone.node.ballot().expect("it leads on in the new epoch");
    assert!(!lone.node.is_leading() && ballot.epoch.0 == 1, "{ballot}");
    assert!(lone.wrote(2).is_empty(), "the old group has no votes above the change");
    lone.hear(&format!("0 PromiseNone 2 * {ballot} 1"));
    assert!(lone.node.is_leading());
    assert_eq!(lone.wrote(2), ["@tag 7 1 1 c2"], "its client still waits for it");
    assert!(lone.wrote(3).is_empty(), "no client waits for a mark");
    assert!(lone.has_said(&format!(" Write 2 {ballot} ")));
}

#[test]
fn nothing_is_written_above_a_change_that_phase_1_found() {
    assert!(directed::nothing_is_written_above_a_change_that_phase_1_found());
}

#[test]
fn who_leaves_goes_on_until_a_quorum_has_the_change() {
    assert!(directed::who_leaves_goes_on_until_a_quorum_has_the_change());
}

#[test]
fn a_vote_for_what_is_named_is_for_all_of_it() {
    assert!(directed::a_vote_for_what_is_named_is_for_all_of_it());
}

#[test]
fn what_waits_behind_a_void_change_waits_for_that_change_alone() {
    let mut lone = Lone::member(3, 2);
    lone.hear("0 Written 1 @tag 7 2 2 v");
    let ballot = run(&mut lone);
    lone.hear(&format!("0 Promise 2 {ballot} 1 @tgroup 7 1 1 0 0,1,2,3:77"));
    lone.hear(&format!("0 Promise 3 {ballot} 1 c3"));
    lone.hear(&format!("0 PromiseNone 4 * {ballot} 0"));
    assert!(lone.wrote(3).is_empty());
    lone.hear("1 Written 2 @tgroup 7 1 1 0 0,1,2,3:77");
    assert_eq!(lone.wrote(3), ["c3"]);
}

#[test]
fn what_waits_behind_a_valid_change_is_written_in_the_new_epoch_alone() {
    let mut lone = Lone::member(3, 2);
    lone.hear("0 Written 1 @tag 7 2 2 v");
    let ballot = run(&mut lone);
    lone.hear(&format!("0 Promise 2 {ballot} 1 @tgroup 8 1 1 0 0,1,2,3:77"));
    lone.hear(&format!("0 Promise 3 {ballot} 1 @tag 9 1 1 held"));
    lone.hear(&format!("0 PromiseNone 4 * {ballot} 0"));
    assert!(lone.node.is_leading());
    lone.hear("1 Written 1 @tag 7 2 2 v");
    assert!(lone.wrote(3).is_empty(), "the change is not learned, and holds back the instances above it");
    lone.hear("1 Written 2 @tgroup 8 1 1 0 0,1,2,3:77");
    assert!(!lone.node.is_leading(), "another group governs");
    assert!(lone.wrote(3).is_empty(), "nothing above it is written in the old ballot");
    let ballot = lone.node.ballot().expect("it leads on").to_string();
    assert!(ballot.starts_with("2:"), "{ballot}");
    lone.hear(&format!("0 PromiseNone 3 * {ballot} 2\n1 PromiseNone 3 * {ballot} 2"));
    assert!(lone.node.is_leading());
    assert_eq!(lone.wrote(3), ["@tag 9 1 1 held"]);
}

#[test]
fn a_refusal_that_names_the_ballot_in_the_way_does_not_depose_its_leader() {
    let mut lone = Lone::member(3, 2);
    let ballot = run(&mut lone);
    lone.hear(&format!("0 PromiseNone 1 * {ballot} 0"));
    assert!(lone.node.is_leading());
    lone.hear(&format!("0 NACK 7 {ballot}"));
    assert!(lone.node.is_leading());
}

#[test]
fn a_value_that_is_refused_in_its_own_ballot_and_gets_nowhere_ends_the_ballot() {
    let mut lone = Lone::member(3, 2);
    let ballot = run(&mut lone);
    lone.hear(&format!("0 PromiseNone 1 * {ballot} 0"));
    lone.hear("Request 0 v");
    lone.hear(&format!("0 NACK 1 {ballot}"));
    assert!(lone.node.is_leading(), "the refusal may answer the write of another node");
    lone.run_for(400);
    lone.hear(&format!("0 NACK 1 {ballot}"));
    assert!(!lone.node.is_leading());
}

#[test]
fn what_another_group_on_the_wire_has_chosen_is_not_learned() {
    let mut lone = Lone::member(3, 2);
    lone.hear("4 Beat 5 77 1 9 - 3 follows 0,1,2");
    lone.hear("4 Written 1 foreign");
    assert_eq!(lone.node.learned(), Instance(0));
}

#[test]
fn the_first_member_of_one_that_lost_its_disk_never_votes_once_others_have_joined() {
    let mut group = grown(1, 3);
    group.wipe(0);
    group.run_for(2_000);
    let before = group.sent.len();
    group.start(0);
    group.say("Request 0 after");
    group.run_for(3_000);
    assert_eq!(votes(&group, 0, before), 0);
    group.assert_agreement();
}

#[test]
fn first_members_that_lost_their_disks_do_not_register_each_other_once_others_have_joined() {
    let mut group = grown(2, 5);
    group.wipe(0);
    group.wipe(1);
    group.run_for(2_000);
    let before = group.sent.len();
    group.start(0);
    group.start(1);
    group.say("Request 0 after");
    group.run_for(3_000);
    assert_eq!((votes(&group, 0, before), votes(&group, 1, before)), (0, 0));
    group.assert_agreement();
}

#[test]
fn a_forged_epoch_costs_few_questions() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    group.tell(1, "0 Propose 1 999999999:0");
    group.run_for(20_000);
    let gaps = group.said_by(1).iter().filter(|line| line.contains("Gap")).count();
    assert!(gaps < 9, "{gaps} gaps");
}

#[test]
fn a_beat_of_another_group_does_not_keep_a_joiner_out() {
    let mut group = grown(1, 1);
    group.filter = Box::new(|_, to, _| to != 1);
    let id = group.join(None);
    group.tell(id, "9 Beat 7 77 1 9 - 3 follows 0,2");
    group.filter = Box::new(|_, _, _| true);
    group.wait_for_members(&[0, id], &[0, id]);
}

#[test]
fn a_joiner_whose_disk_is_older_than_what_its_peers_remember_does_not_vote() {
    let mut group = grown(1, 3);
    // The joiner asks to join. It does not receive the decision that lists it.
    group.filter = Box::new(move |from, to, _| to != 3 || from.is_none());
    let id = group.join(None);
    let old = group.members[usize::from(id)].durable.clone();
    group.filter = Box::new(|_, _, _| true);
    let all = [0, 1, 2, id];
    group.wait_for_members(&all, &all);
    group.write("two", &all);
    for _ in 0..3 {
        group.crash(id);
        group.start(id);
        group.run_for(2_000);
    }
    group.crash(id);
    group.members[usize::from(id)].durable = old;
    let before = group.sent.len();
    group.start(id);
    group.run_for(1_000);
    group.write("three", &[0, 1, 2]);
    group.run_for(2_000);
    assert_eq!(votes(&group, id, before), 0, "{:?}", events(&group, id));
}

#[test]
fn a_blank_node_that_was_started_under_a_members_id_does_not_lock_the_member_out() {
    let mut group = Group::ready(3);
    group.write("one", &[0, 1, 2]);
    let victim = (group.leader().expect("one leads") + 2) % 3;
    for (old, new) in (0..3).filter(|id| *id != victim).zip(3..) {
        group.join(Some(old));
        group.run_until("the change", |group| group.members_of(victim).contains(&new));
        group.run_for(3_000);
        group.crash(old);
    }
    group.crash(victim);
    let (disk, incarnation) = {
        let member = &group.members[usize::from(victim)];
        (member.durable.clone(), member.incarnation)
    };
    group.wipe(victim);
    group.start(victim);
    group.run_for(2_000);
    group.crash(victim);
    let member = &mut group.members[usize::from(victim)];
    (member.durable, member.incarnation) = (disk, incarnation);
    member.events.clear();
    group.start(victim);
    group.run_for(5_000);
    assert!(events(&group, victim).iter().any(|event| event.contains("may vote:")), "{}", group.view());
}

#[test]
fn a_first_member_that_starts_after_the_group_changed_is_told_to_join() {
    let mut group = Group::new(5);
    (0..4).for_each(|id| group.start(id));
    group.write("one", &[0, 1, 2, 3]);
    group.say("leave 3");
    group.wait_for_members(&[0, 1, 2], &[0, 1, 2, 4]);
    group.start(4);
    group.run_until("it is told", |group| events(group, 4).iter().any(|event| event.contains("--join")));
}

#[test]
fn who_says_that_it_votes_is_a_member_in_its_next_life_too() {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    lone.hear("1 Registered 0 1\n2 Registered 0 1");
    let out = lone.wait_without_sync();
    let said = out.early.iter().map(ToString::to_string);
    let beats: Vec<String> = said.filter(|line| line.contains(" Beat ")).collect();
    assert!(!beats.is_empty() && beats.iter().all(|beat| beat.contains(" learns")), "{beats:?}");
    assert!(out.needs_sync() && !lone.node.is_voter(), "it waits only for its disk");
    lone.finish(out);
    assert!(lone.node.is_voter());
    lone.restart();
    assert!(lone.node.is_voter(), "its disk knows that it is a member");
}

#[test]
fn a_lost_value_counts_towards_no_quorum_until_a_peer_shows_it() {
    assert!(directed::a_lost_value_is_never_promised_as_nothing());
}

#[test]
fn a_lost_value_leaves_nothing_older_in_its_place() {
    assert!(directed::a_lost_value_leaves_nothing_older_in_its_place());
}

#[test]
fn a_vote_where_a_value_was_lost_raises_the_promise() {
    assert!(directed::a_vote_where_a_value_was_lost_raises_the_promise());
}

#[test]
fn a_lost_value_stays_lost_in_the_next_life_too_and_its_ballot_stays_promised() {
    let mut lone = directed::lone_without_its_value();
    lone.restart();
    lone.take();
    lone.hear("0 Write 2 65536 x");
    assert_eq!(lone.take(), ["2 NACK 2 65537"], "an older ballot is refused as ever");
    lone.hear("0 Propose 2 131072");
    assert!(lone.take().is_empty(), "it promises neither a value nor the lack of one");
    lone.hear("0 Write 2 131072 z");
    assert_eq!(lone.take(), ["2 Accepts 2 2 131072"], "a higher ballot replaces the lost value");
    lone.hear("1 ProposeAll 1 196609");
    assert!(lone.take().contains(&"2 Promise 2 196609 131072 z".to_string()));
}

#[test]
fn a_write_of_the_lost_ballot_is_the_lost_value() {
    let mut lone = directed::lone_without_its_value();
    lone.hear("1 Write 2 65537 y");
    assert_eq!(lone.take(), ["2 Accepts 2 2 65537"]);
    lone.hear("1 Write 2 65537 other");
    assert_eq!(lone.take(), ["2 NACK 2 65537"]);
}

#[test]
fn what_was_learned_ends_before_a_lost_value_and_is_learned_anew() {
    let mut lone = Lone::member(3, 2);
    for (instance, value) in [(1, "a"), (2, "b"), (3, "c")] {
        lone.hear(&format!("1 Write {instance} 65537 {value}"));
    }
    lone.hear("1 Chosen 1 3 65537");
    assert_eq!(lone.node.learned(), Instance(3));
    lone.damage_value_at(2);
    lone.restart();
    assert_eq!(lone.node.learned(), Instance(1), "it claims only the values that it can read");
    lone.take();
    lone.hear("0 ProposeAll 1 131072");
    let promised = ["2 Promise 3 131072 65537 c", "2 PromiseNone 4 * 131072 1"];
    assert_eq!(lone.take(), promised, "it still reports the value that it accepted above");
    lone.hear("0 Written 2 b");
    lone.hear("0 Written 3 c");
    lone.restart();
    assert_eq!(lone.node.learned(), Instance(3), "its log has the values a second time");
    assert_eq!(lone.node.value_at(Instance(2)), Some("b".into()));
}

#[test]
fn who_asks_for_more_is_told_though_somebody_asks_for_less_from_the_same_instance() {
    for (one, other) in [(5, 2), (2, 5)] {
        let mut lone = Lone::member(3, 2);
        (1..=5).for_each(|instance| lone.hear(&format!("0 Written {instance} v{instance}")));
        // The node does not send within one timeout what it overheard from others.
        lone.run_for(100);
        lone.hear(&format!("0 Gap 1 {one}\n1 Gap 1 {other}"));
        let told = lone.run_for(100);
        let all: Vec<String> = (1..=5).map(|instance| format!("2 Written {instance} v{instance}")).collect();
        assert_eq!(told, all, "up to {one}, and up to {other}");
    }
}

#[test]
fn the_second_choice_of_a_request_leaves_the_states_of_scripts_alone() {
    assert!(directed::a_duplicate_is_not_applied());
}

#[test]
fn values_that_nobody_completes_leave_room_for_the_next_instance() {
    let mut lone = Lone::member(3, 0);
    let filler = "x".repeat(60_000);
    for instance in 2..1_200 {
        lone.hear(&format!("1 Write {instance} 65537 {filler}"));
    }
    let is_full = lone.take().len() < 1_190;
    assert!(is_full, "its room is bounded");
    for instance in 1..5 {
        // The old leader is down. Another leader writes its own values.
        lone.hear(&format!("2 Write {instance} 131074 v{instance}"));
        lone.hear(&format!("2 Accepts {instance} {instance} 131074"));
    }
    assert_eq!(lone.learned(), ["v1", "v2", "v3", "v4"]);
}

#[test]
fn a_damaged_chosen_is_not_read() {
    assert!(directed::a_damaged_datagram_is_not_read());
}

/// The datagrams of a leader and of a voter. Each would have an effect.
const OF_PEERS: [&str; 9] = [
    "1 Write 4 65537 d",
    "1 Chosen 1 1 65537",
    "1 Written 1 a\n& b",
    "2 Accepts 1 3 65537",
    "2 Promise 1 131072 65537 a\n2 PromiseNone 2 * 131072 0",
    "1 Beat 3 1001 1 501 65537 0 leads 0,2\n1 Pace 100 -",
    "1 Barred 0 9 1000 5",
    "2 JoinFor 0 1",
    "1 ProposeAll 1 131073",
];

/// No damaged bit of a member's datagram reaches the roles, whichever line it is in: value, vote, number or head.
#[test]
fn one_damaged_bit_of_a_members_datagram_says_nothing_to_a_node() {
    for lines in OF_PEERS {
        let mut lone = Lone::member(3, 0);
        lone.hear("1 Write 1 65537 a\n1 Write 2 65537 b\n1 Write 3 65537 c");
        let sent = lone.datagram(lines);
        let ballot = lone.node.ballot();
        lone.take();
        for bit in 0..8 * sent.len() {
            let mut damaged = sent.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            lone.receive(&damaged);
        }
        assert_eq!(lone.take(), [""; 0], "{lines}");
        assert_eq!(lone.learned(), [""; 0], "{lines}");
        assert_eq!(lone.node.ballot(), ballot, "{lines}");
        let dropped = lone.node.dropped();
        assert_eq!(dropped.damaged + dropped.without_sum, 8 * sent.len() as u64, "{lines}");
        assert_eq!((dropped.headless, dropped.other_lives, dropped.other_groups), (0, 0, 0), "{lines}");
    }
}

#[test]
fn a_member_without_checksums_is_named_once_and_not_heard() {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 Write 1 65537 a");
    let sent = lone.datagram("1 Chosen 1 1 65537");
    let old = &sent[..sent.len() - SUM_LINE];
    (0..5).for_each(|_| lone.receive(old));
    assert_eq!(lone.learned(), [""; 0]);
    assert_eq!(lone.node.dropped().without_sum, 5);
    let is_named =
        |event: &&Event| event.to_string().contains("a datagram of node 1 came without a checksum");
    assert_eq!(lone.events.iter().filter(is_named).count(), 1);
    lone.receive(&sent);
    assert_eq!(lone.learned(), ["a"]);
}

#[test]
fn a_person_needs_no_checksum_and_a_client_with_a_head_does() {
    let mut lone = Lone::member(3, 0);
    let ballot = lone.lead();
    lone.receive(b"Request 0 one");
    lone.receive(b"For -\nRequest 0 two");
    let mut sent = b"For -\nRequest 0 three".to_vec();
    wire::complete(&mut sent);
    lone.receive(&sent);
    lone.hear(&format!("1 Accepts 1 2 {ballot}"));
    assert_eq!(lone.learned(), ["one", "three"]);
}
