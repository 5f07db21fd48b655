//! Writes that name their values by digest. A vote is for exactly the written bytes, and its sender has them.

#[path = "support/group.rs"]
mod group;
#[path = "support/lone.rs"]
mod lone;

use upaxos_core::digest_write::Names;
use upaxos_core::entry::Entry;
use upaxos_core::record::Record;
use upaxos_core::types::{Ballot, Epoch, Instance, Tag, Tagged, Value};
use upaxos_core::wire::{Dialect, Line, Message, Request};

use group::Group;
use lone::Lone;

/// The ballot of node 1 in which the other nodes of these tests write.
const BALLOT: u64 = 65_537;

/// The tag and the stored form of client 7's write `seq`.
fn stored(seq: u64, floor: u64, text: &str) -> (Tag, Value) {
    let tag = Tag { client: 7, seq };
    (tag, Entry::Tagged(Tagged { tag, floor }, text.into()).encode(Dialect::Extended))
}

/// The line with which node 1 names these writes, from instance `first` on.
fn named(first: u64, writes: &[(Tag, Value)]) -> String {
    named_in(BALLOT, first, writes)
}

/// The same line in another of node 1's ballots.
fn named_in(ballot: u64, first: u64, writes: &[(Tag, Value)]) -> String {
    let Names { runs, digest } = Names::of(writes);
    let runs = runs.iter().map(|run| format!(" {} {} {}", run.first.client, run.first.seq, run.count));
    let last = first + writes.len() as u64 - 1;
    format!("1 WriteTags {first} {last} {ballot} {digest}{}", runs.collect::<String>())
}

fn written(at: u64, (_, value): &(Tag, Value)) -> String {
    format!("1 Write {at} {BALLOT} {value}")
}

#[test]
fn what_is_named_and_was_heard_is_accepted_and_logged_in_full() {
    let mut node = Lone::member(3, 0);
    node.hear("Submit 7 1 1 one\nSubmit 7 2 1 two");
    node.hear(&named(1, &[stored(1, 1, "one"), stored(2, 1, "two")]));
    assert!(node.has_said(&format!("0 Accepts 1 2 {BALLOT}")));
    node.restart();
    node.hear("1 ProposeAll 1 131073");
    let said = node.take();
    let promised = format!("0 Promise 1 131073 {BALLOT} @tag 7 1 1 one");
    assert!(said.contains(&promised), "a promise carries the bytes: {said:?}");
    assert!(node.has_said(&format!("0 Promise 2 131073 {BALLOT} @tag 7 2 1 two")));
}

#[test]
fn nobody_votes_without_the_bytes_and_who_lacks_some_asks_for_them() {
    let mut node = Lone::member(3, 0);
    let writes = [stored(1, 1, "one"), stored(2, 1, "two")];
    node.hear("Submit 7 1 1 one");
    node.hear(&named(1, &writes));
    let said = node.run_for(20);
    assert!(said.contains(&format!("0 Fetch 1 2 {BALLOT}")), "{said:?}");
    assert!(!node.has_said("Accepts"));
    node.hear(&format!("{}\n{}", written(1, &writes[0]), written(2, &writes[1])));
    assert!(node.has_said(&format!("0 Accepts 1 2 {BALLOT}")));
}

#[test]
fn a_named_write_waits_for_a_request_that_is_on_its_way() {
    let mut node = Lone::member(3, 0);
    node.hear(&named(1, &[stored(1, 1, "one")]));
    assert!(!node.has_said("Accepts"));
    node.hear("Submit 7 1 1 one");
    assert!(node.has_said(&format!("0 Accepts 1 1 {BALLOT}")));
    assert!(!node.has_said("Fetch"));
}

#[test]
fn other_words_under_the_same_tag_are_not_what_is_named() {
    for other in ["Submit 7 1 1 two", "Submit 7 1 0 one"] {
        let mut node = Lone::member(3, 0);
        node.hear(other);
        let write = stored(1, 1, "one");
        node.hear(&named(1, std::slice::from_ref(&write)));
        assert!(!node.has_said("Accepts"), "{other}");
        assert!(node.has_said(&format!("0 Fetch 1 1 {BALLOT}")), "{other}");
        node.hear(&written(1, &write));
        assert!(node.has_said(&format!("0 Accepts 1 1 {BALLOT}")), "{other}");
        node.hear("1 ProposeAll 1 131073");
        assert!(node.has_said(&format!("0 Promise 1 131073 {BALLOT} @tag 7 1 1 one")), "{other}");
    }
}

#[test]
fn one_wrong_value_of_a_range_and_nothing_of_the_range_is_accepted() {
    for heard in ["Submit 7 1 1 one\nSubmit 7 2 1 other", "Submit 7 1 1 two\nSubmit 7 2 1 one"] {
        let mut node = Lone::member(3, 0);
        node.hear(heard);
        let writes = [stored(1, 1, "one"), stored(2, 1, "two")];
        node.hear(&named(1, &writes));
        assert!(!node.has_said("Accepts"), "{heard}");
        assert!(node.has_said(&format!("0 Fetch 1 2 {BALLOT}")), "{heard}");
        node.hear(&format!("{}\n{}", written(1, &writes[0]), written(2, &writes[1])));
        node.hear(&format!("1 Chosen 1 2 {BALLOT}"));
        assert_eq!(
            node.learned(),
            ["one", "two"],
            "the node learned values that it heard, not the written ones"
        );
    }
}

#[test]
fn only_its_leader_answers_for_what_it_named() {
    let mut node = Lone::member(3, 0);
    let (named_one, other) = (stored(1, 1, "one"), stored(1, 1, "other").1);
    node.hear(&named(1, std::slice::from_ref(&named_one)));
    assert!(node.run_for(20).contains(&format!("0 Fetch 1 1 {BALLOT}")));
    // Node 2 claims another value in three ways: as a write, as an accepted value in a promise, and as a client's
    // request.
    node.hear(&format!("2 Write 1 {BALLOT} {other}"));
    node.hear(&format!("2 Promise 1 131073 {BALLOT} {other}"));
    node.hear("Submit 7 1 1 other");
    node.hear(&format!("2 Accepts 1 1 {BALLOT}\n1 Accepts 1 1 {BALLOT}"));
    assert!(!node.has_said("Accepts"), "{:?}", node.take());
    assert!(node.learned().is_empty(), "the node does not have the value that a quorum voted for");
    node.hear(&written(1, &named_one));
    assert_eq!(node.learned(), ["one"]);
}

#[test]
fn what_is_named_is_in_the_log_before_its_vote_leaves() {
    let mut node = Lone::member(3, 0);
    let write = stored(1, 1, "one");
    let line = named(1, std::slice::from_ref(&write));
    let accepts = format!("0 Accepts 1 1 {BALLOT}");
    node.hear("Submit 7 1 1 one");
    let out = node.step_without_sync(&[&line]);
    let accepted = Record::Accept {
        instance: Instance(1),
        ballot: Ballot { epoch: Epoch(0), number: BALLOT },
        value: write.1.clone(),
    };
    assert!(out.records.contains(&accepted), "the bytes, not their name: {:?}", out.records);
    assert!(out.early.iter().all(|line| !line.to_string().contains("Accept")), "{:?}", out.early);
    assert!(out.after_sync.iter().any(|line| line.to_string() == accepts), "{:?}", out.after_sync);
    // The power fails before the sync. Neither the vote nor the client's request is left.
    node.restart();
    node.hear(&line);
    node.run_for(20);
    assert!(!node.has_said("Accepts"));
    assert!(node.has_said(&format!("0 Fetch 1 1 {BALLOT}")));
    node.hear("1 ProposeAll 1 131073");
    assert!(node.has_said("0 PromiseNone 1 * 131073 0"), "it had accepted nothing");
}

#[test]
fn a_name_that_comes_again_while_it_waits_or_later_is_one_vote_for_one_value() {
    let mut node = Lone::member(3, 0);
    let line = named(1, &[stored(1, 1, "one")]);
    node.hear(&format!("{line}\n{line}"));
    node.take();
    node.hear("Submit 7 1 1 one");
    node.hear(&line);
    let accepts = format!("0 Accepts 1 1 {BALLOT}");
    assert_eq!(node.take(), [accepts], "one vote for three copies");
    node.hear(&format!("1 Chosen 1 1 {BALLOT}"));
    node.take();
    node.hear(&line);
    assert_eq!(node.take(), ["0 Written 1 @tag 7 1 1 one"], "its leader has not heard that it is chosen");
}

#[test]
fn a_name_of_a_lower_ballot_gets_no_vote_however_late_it_comes_or_its_request() {
    for waits in [true, false] {
        let mut node = Lone::member(3, 0);
        let old = named(1, &[stored(1, 1, "one"), stored(2, 1, "two")]);
        if waits {
            node.hear(&old);
        }
        node.hear("Submit 7 2 1 two");
        node.hear(&named_in(131_073, 1, &[stored(2, 1, "two")]));
        assert_eq!(node.take().last().map(String::as_str), Some("0 Accepts 1 1 131073"));
        node.hear("Submit 7 1 1 one");
        if !waits {
            node.hear(&old);
        }
        let refused = ["0 NACK 1 131073", "0 NACK 2 131073"];
        assert_eq!(node.take(), refused, "the older one waited: {waits}");
        node.hear("2 ProposeAll 1 196610");
        assert_eq!(node.take(), ["0 Promise 1 196610 131073 @tag 7 2 1 two", "0 PromiseNone 2 * 196610 0"]);
    }
}

#[test]
fn a_value_that_was_written_in_full_is_not_replaced_by_another_that_is_named() {
    let mut node = Lone::member(3, 0);
    node.hear("Submit 7 1 1 one\nSubmit 7 2 1 two");
    node.hear(&written(2, &stored(1, 1, "one")));
    node.hear(&named(1, &[stored(1, 1, "one"), stored(2, 1, "two")]));
    assert!(node.has_said(&format!("0 NACK 2 {BALLOT}")), "two values in one ballot: {:?}", node.take());
    node.hear("1 ProposeAll 1 131073");
    assert!(node.has_said(&format!("0 Promise 2 131073 {BALLOT} @tag 7 1 1 one")));
}

#[test]
fn a_named_write_below_the_promise_is_refused() {
    let mut node = Lone::member(3, 0);
    node.hear("2 ProposeAll 1 131074");
    node.hear("Submit 7 1 1 one");
    node.hear(&named(1, &[stored(1, 1, "one")]));
    assert!(node.has_said("0 NACK 1 131074"));
    assert!(!node.has_said("Accepts"));
}

#[test]
fn what_is_named_is_not_refused_with_a_ballot_that_is_not_durable() {
    let mut node = Lone::member(3, 0);
    // This node does not receive its leader's beats, so it starts a campaign. In the same step a named write waits
    // for its request.
    let out = node
        .run_without_sync_hearing(|at| vec![named(at, &[stored(at, 1, "v")]), format!("Submit 7 {at} 1 v")]);
    let own = node.node.ballot().expect("it runs").to_string();
    let shows = |line: &String| line.split(' ').any(|word| word == own);
    assert!(!out.early.iter().map(ToString::to_string).any(|line| shows(&line)), "{:?}", out.early);
}

#[test]
fn a_tag_that_is_named_twice_is_carried_out_once() {
    let mut node = Lone::member(3, 0);
    node.hear("Submit 7 1 1 one");
    let write = stored(1, 1, "one");
    node.hear(&named(1, &[write.clone(), write]));
    node.hear(&format!("1 Accepts 1 2 {BALLOT}"));
    assert_eq!(node.learned(), ["one", "duplicate of 1"]);
}

#[test]
fn only_the_owner_of_a_ballot_names_writes_in_it() {
    let mut node = Lone::member(3, 0);
    node.hear("Submit 7 1 1 one");
    node.hear(&named(1, &[stored(1, 1, "one")]).replacen('1', "2", 1));
    assert!(!node.has_said("Accepts"));
}

#[test]
fn a_leader_names_long_values_and_writes_them_in_full_for_who_asks_once() {
    let mut node = Lone::member(3, 0);
    let ballot = node.lead();
    let (long, short) = ("x".repeat(600), "y");
    node.hear(&format!("Submit 7 1 1 {long}"));
    assert!(node.has_said(&format!("0 WriteTags 1 1 {ballot}")));
    assert!(!node.has_said("0 Write 1 "), "the value crosses the wire once");
    node.hear(&format!("Submit 7 2 1 {short}"));
    assert!(
        node.has_said(&format!("0 Write 2 {ballot} @tag 7 2 1 {short}")),
        "a short value is sent in full"
    );
    node.take();
    node.hear(&format!("1 Fetch 1 1 {ballot}"));
    node.hear(&format!("2 Fetch 1 1 {ballot}"));
    let full = format!("0 Write 1 {ballot} @tag 7 1 1 {long}");
    let said = node.take();
    assert_eq!(
        said.iter().filter(|line| **line == full).count(),
        1,
        "both followers receive one copy: {said:?}"
    );
}

#[test]
fn what_no_client_sent_in_these_words_is_written_in_full() {
    let mut node = Lone::member(3, 0);
    let ballot = node.lead();
    let long = "x".repeat(600);
    node.hear(&format!("Request 0 {long}"));
    assert!(node.has_said(&format!("0 Write 1 {ballot} {long}")), "an untagged write has no name");
}

#[test]
fn a_later_leader_writes_in_full_what_an_earlier_one_named() {
    let mut node = Lone::member(3, 0);
    node.hear("Submit 7 1 1 one");
    node.hear(&named(1, &[stored(1, 1, "one")]));
    let ballot = node.run();
    node.hear(&format!("2 PromiseNone 1 * {ballot} 0"));
    assert_eq!(node.wrote(1).last().map(String::as_str), Some("@tag 7 1 1 one"));
}

#[test]
fn who_missed_requests_learns_them_all_the_same() {
    let mut group = Group::ready(3);
    let leader = group.leader().expect("a leader");
    let deaf = (leader + 1) % 3;
    group.filter =
        Box::new(move |_, to, line| to != deaf || !matches!(line, Line::Client(Request::Submit(..))));
    let texts: Vec<String> = (1..=20).map(|seq| format!("{seq} {}", "x".repeat(200))).collect();
    let lines: Vec<String> =
        texts.iter().zip(1..).map(|(text, seq)| format!("Submit 7 {seq} 1 {text}")).collect();
    group.say(&lines.join("\n"));
    group.run_until("all have learned", |group| (0..3).all(|id| group.reads(id) == texts));
    assert!(!group.said(" Fetch ").is_empty());
    group.assert_agreement();
}

#[test]
fn while_nothing_is_lost_nothing_is_fetched_and_no_word_is_said_twice() {
    let mut group = Group::ready(3);
    let texts: Vec<String> = (1..=200).map(|seq| format!("{seq} {}", "x".repeat(500))).collect();
    let lines: Vec<String> =
        texts.iter().zip(1..).map(|(text, seq)| format!("Submit 7 {seq} 1 {text}")).collect();
    group.say(&lines.join("\n"));
    group.run_until("all have learned", |group| (0..3).all(|id| group.reads(id) == texts));
    let said = group.sent.iter().filter(|(_, line)| {
        matches!(line, Line::Node(_, Message::Fetch { .. } | Message::Write { .. } | Message::Written { .. }))
    });
    assert_eq!(said.count(), 0);
}

#[test]
fn a_leader_that_crashes_after_naming_loses_nothing_that_was_acknowledged() {
    for crash_at in 0..12 {
        let mut group = Group::ready(3);
        let leader = group.leader().expect("a leader");
        let texts: Vec<String> = (1..=5).map(|seq| format!("{seq} {}", "x".repeat(300))).collect();
        let lines: Vec<String> =
            texts.iter().zip(1..).map(|(text, seq)| format!("Submit 7 {seq} 1 {text}")).collect();
        let mut left = crash_at;
        // After `crash_at` more lines, no line of the leader arrives.
        group.filter = Box::new(move |from, _, _| {
            if from == Some(leader) && left > 0 {
                left -= 1;
                return true;
            }
            from != Some(leader)
        });
        group.say(&lines.join("\n"));
        group.run_for(20);
        group.crash(leader);
        group.filter = Box::new(|_, _, _| true);
        let others: Vec<u16> = (0..3).filter(|id| *id != leader).collect();
        group.run_until("the others lead on", |group| {
            others.iter().all(|id| {
                let mut reads = group.reads(*id);
                reads.sort();
                reads.dedup();
                texts.iter().all(|text| reads.contains(text))
            })
        });
        group.start(leader);
        group.run_for(2_000);
        group.assert_agreement();
    }
}
