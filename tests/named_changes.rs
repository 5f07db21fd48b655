//! Named writes while the group changes. A write that waits for its bytes is not lost, and no node votes for it
//! that may not.

#[path = "support/group.rs"]
mod group;
#[path = "support/lone.rs"]
mod lone;

use upaxos_core::digest_write::Names;
use upaxos_core::entry::Entry;
use upaxos_core::types::{Epoch, Tag, Tagged};
use upaxos_core::wire::{Dialect, Line, Message, Request};

use group::Group;
use lone::Lone;

/// Ballots of node 1: in the first epoch, and in the epoch that begins at instance 1.
const OLD: &str = "65537";
const NEW: &str = "1:65537";

/// The line with which node 1 names client 7's first write, "one", at an instance.
fn named(at: u64, ballot: &str) -> String {
    let tag = Tag { client: 7, seq: 1 };
    let value = Entry::Tagged(Tagged { tag, floor: 1 }, "one".into()).encode(Dialect::Extended);
    let digest = Names::of(&[(tag, value)]).digest;
    format!("1 WriteTags {at} {at} {ballot} {digest} 7 1 1")
}

/// The request that the line names.
const HEARD: &str = "Submit 7 1 1 one";

#[test]
fn what_an_ended_epoch_named_gets_no_vote_and_its_request_waits_for_the_next_one() {
    let mut node = Lone::member(3, 0);
    node.hear(&named(2, OLD));
    node.hear("2 Written 1 @group 0 0,1,3:77");
    node.hear(HEARD);
    node.run_for(100);
    assert!(!node.has_said("Accepts") && !node.has_said("Fetch"), "{:?}", node.take());
    node.hear(&named(2, NEW));
    assert!(node.has_said(&format!("0 Accepts 2 2 {NEW}")), "the client's request was kept");
    node.hear(&format!("1 Accepts 2 2 {NEW}"));
    assert_eq!(node.learned(), ["group 0,1,3", "one"]);
}

#[test]
fn what_is_named_below_a_change_is_voted_for_by_who_leaves_with_it() {
    let mut node = Lone::member(3, 0);
    node.hear(&named(1, OLD));
    node.hear("2 Written 2 @group 0 1,2,3:77");
    assert!(!node.has_said("Accepts"));
    node.hear(HEARD);
    assert!(node.has_said(&format!("0 Accepts 1 1 {OLD}")), "instance 1 is still undecided");
    node.hear(&format!("1 Accepts 1 1 {OLD}"));
    assert_eq!(node.learned(), ["one", "group 1,2,3"]);
}

#[test]
fn who_left_neither_votes_for_what_is_named_nor_asks_for_it_and_learns_it() {
    let mut node = Lone::member(3, 0);
    node.hear("2 Written 1 @group 0 1,2,3:77");
    node.hear(&named(2, NEW));
    node.run_for(20);
    assert!(!node.has_said("Fetch"));
    node.hear(&named(2, NEW));
    node.hear(HEARD);
    assert!(!node.has_said("Accepts"), "{:?}", node.take());
    node.hear(&format!("1 Accepts 2 2 {NEW}\n2 Accepts 2 2 {NEW}"));
    assert_eq!(node.learned(), ["group 1,2,3", "one"]);
}

#[test]
fn for_what_is_named_the_votes_of_who_left_or_of_an_ended_epoch_are_none() {
    let mut node = Lone::member(3, 0);
    node.hear(&named(2, OLD));
    node.hear(&format!("1 Accepts 2 2 {OLD}\n2 Accepts 2 2 {OLD}"));
    node.hear("1 Written 1 @group 0 0,1,3:77");
    node.hear(HEARD);
    assert_eq!(
        node.learned(),
        ["group 0,1,3"],
        "a quorum of the old group, for a write that no node may use"
    );
    node.hear(&named(2, NEW));
    node.hear(&format!("2 Accepts 2 2 {NEW}"));
    assert_eq!(node.learned(), ["group 0,1,3"], "only one of 0, 1 and 3 has voted, and 2 has left");
    node.hear(&format!("1 Accepts 2 2 {NEW}"));
    assert_eq!(node.learned(), ["group 0,1,3", "one"]);
}

#[test]
fn what_was_named_by_who_has_left_since_is_not_taken_up() {
    let mut node = Lone::member(3, 0);
    node.hear(&named(2, OLD));
    node.hear("2 Written 1 @group 0 0,2,3:77");
    node.hear(HEARD);
    node.hear(&named(2, NEW));
    node.run_for(100);
    assert!(!node.has_said("Accepts") && !node.has_said("Fetch"), "node 1 is no longer a member");
}

#[test]
fn what_an_epoch_names_before_its_change_is_learned_waits_for_nobody() {
    let mut node = Lone::member(3, 0);
    node.hear(HEARD);
    node.hear(&named(2, NEW));
    node.run_for(20);
    assert!(!node.has_said("Accepts"), "the node has not learned the change that began the epoch");
    node.hear("2 Written 1 @group 0 0,1,3:77");
    node.hear(&named(2, NEW));
    assert!(node.has_said(&format!("0 Accepts 2 2 {NEW}")));
}

/// Twenty long writes of client 7, from number `first` on.
fn texts(first: u64) -> Vec<String> {
    (first..first + 20).map(|seq| format!("{seq} {}", "x".repeat(200))).collect()
}

fn submit(group: &mut Group, first: u64) {
    let lines: Vec<String> =
        texts(first).iter().zip(first..).map(|(text, seq)| format!("Submit 7 {seq} 1 {text}")).collect();
    group.say(&lines.join("\n"));
}

/// Writes while a change is in progress and for a while after it, when `spare` has crashed and every vote is
/// needed. `deaf` receives no requests, so it lacks the bytes of all named writes. Each write is carried out once.
fn written_through(
    group: &mut Group,
    (deaf, spare): (u16, u16),
    change: impl FnOnce(&mut Group),
    is_over: fn(&Group) -> bool,
) {
    group.filter =
        Box::new(move |_, to, line| to != deaf || !matches!(line, Line::Client(Request::Submit(..))));
    change(group);
    let (mut rounds, mut after) = (0, 0);
    while after < 3 {
        submit(group, 1 + 20 * rounds);
        group.run_for(30);
        rounds += 1;
        if after > 0 || is_over(group) {
            group.crash(spare);
            after += 1;
        }
        assert!(rounds < 200, "the change is not made\n{}", group.view());
    }
    let all: Vec<String> = (0..rounds).flat_map(|round| texts(1 + 20 * round)).collect();
    let readers: Vec<u16> = group.ids().filter(|id| *id != spare).collect();
    group.run_until("all is written", |group| {
        readers.iter().all(|id| {
            let reads = group.reads(*id);
            all.iter().all(|text| reads.contains(text))
        })
    });
    group.assert_agreement();
    let reads = group.reads(deaf);
    assert!(all.iter().all(|text| reads.iter().filter(|read| *read == text).count() == 1));
    assert!(!group.said(" WriteTags ").is_empty() && !group.said(" Fetch ").is_empty(), "{}", group.view());
}

/// The epochs in which a node voted for values.
fn epochs_of_votes(group: &Group, id: u16) -> Vec<Epoch> {
    let votes = group.sent.iter().filter_map(|(from, line)| match line {
        Line::Node(_, Message::Accepts { ballot, .. }) if *from == Some(id) => Some(ballot.epoch),
        _ => None,
    });
    let mut epochs: Vec<Epoch> = votes.collect();
    epochs.dedup();
    epochs
}

#[test]
fn who_joins_while_writes_are_named_votes_for_none_of_the_epoch_before() {
    let mut group = Group::ready(3);
    let spare = (group.leader().expect("one leads") + 1) % 3;
    let join = |group: &mut Group| _ = group.join(None);
    written_through(&mut group, (3, spare), join, |group| {
        group.ids().all(|id| group.members_of(id).len() == 4)
    });
    let epochs = epochs_of_votes(&group, 3);
    assert!(!epochs.is_empty() && epochs.iter().all(|epoch| *epoch > Epoch(0)), "{epochs:?}");
}

#[test]
fn who_leaves_while_writes_are_named_votes_for_none_of_the_epoch_after() {
    for of_leader in [true, false] {
        let mut group = Group::ready(4);
        let leader = group.leader().expect("one leads");
        let leaver = if of_leader { leader } else { (leader + 1) % 4 };
        let (deaf, spare) = ((leader + 2) % 4, (leader + 3) % 4);
        let leave = |group: &mut Group| group.say(&format!("leave {leaver}"));
        let is_over = |group: &Group| group.ids().all(|id| group.members_of(id).len() == 3);
        written_through(&mut group, (deaf, spare), leave, is_over);
        // A leader does not send its own votes.
        let told: &[Epoch] = if of_leader { &[] } else { &[Epoch(0)] };
        assert_eq!(epochs_of_votes(&group, leaver), told, "the leader left: {of_leader}");
        assert!(epochs_of_votes(&group, deaf).last() > Some(&Epoch(0)), "the leader left: {of_leader}");
    }
}
