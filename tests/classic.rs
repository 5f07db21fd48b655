//! A node with `--classic` in a group whose other nodes have the classic grammar only.

#[path = "support/group.rs"]
mod group;
#[path = "support/puppet.rs"]
mod puppet;

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::digest_write::Names;
use upaxos_core::entry::Entry;
use upaxos_core::record::Record;
use upaxos_core::replica::{Config, Outbox, Recovery};
use upaxos_core::types::{Micros, NodeId, Tag, Tagged};
use upaxos_core::wire::{self, Dialect, Head, Line, Message};

use group::{Group, Guest};
use puppet::{Puppet, assert_classic};

/// A classic group of three. The nodes `ours` run the code under test, and each of their datagrams is checked. The
/// test plays the other nodes.
fn group_with(ours: &[u16]) -> Group {
    let mut group = Group::with(3, true);
    group.tap = Box::new(assert_classic);
    ours.iter().for_each(|id| group.start(*id));
    group
}

/// Delivers the lines to node `id`, one datagram each.
fn hear(group: &mut Group, id: u16, lines: &[&str]) {
    lines.iter().for_each(|line| group.hear(id, line.as_bytes()));
}

/// Delivers the lines to node `id`, and returns the lines that it sends in answer.
fn answers(group: &mut Group, id: u16, lines: &[&str]) -> Vec<String> {
    let before = group.said_by(id).len();
    hear(group, id, lines);
    group.said_by(id).split_off(before)
}

/// The node's durable records, without its `Start` records.
fn records(group: &Group, id: u16) -> Vec<String> {
    let records = group.members[usize::from(id)].durable.iter();
    records.filter(|record| !matches!(record, Record::Start { .. })).map(Record::to_string).collect()
}

/// A sequence of pseudo-random numbers (xorshift).
fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    }
}

#[test]
fn a_real_exchange_works_with_ours_as_the_first_node() {
    let mut group = group_with(&[0]);
    assert_eq!(answers(&mut group, 0, &["Request 0 one"]), ["0 Propose 1 0", "0 Promise 1 0"]);
    assert_eq!(answers(&mut group, 0, &["2 Propose 1 2 one", "2 Promise 1 2"]), ["0 Promise 1 2"]);
    assert_eq!(answers(&mut group, 0, &["1 Propose 1 1 one", "1 NACK 1 2"]), ["0 NACK 1 2"]);
    assert_eq!(answers(&mut group, 0, &["1 Promise 1 2", "2 Write 1 2 one"]), ["0 Accept 1 2 one"]);
    hear(&mut group, 0, &["1 Accept 1 2 one", "2 Accept 1 2 one", "OK", "Request 2"]);
    assert_eq!(group.reads(0), ["one"]);
    group.run_for(200);
    let log = ["promise 1 0", "promise 1 2", "accept 1 2 one", "chosen 1 1 2"];
    assert_eq!(records(&group, 0), log);
}

#[test]
fn a_real_exchange_works_with_ours_as_the_second_node() {
    let mut group = group_with(&[1]);
    let race = ["Request 0 one", "2 Propose 1 2 one", "0 Propose 1 0 one", "2 Promise 1 2", "0 NACK 1 2"];
    assert_eq!(answers(&mut group, 1, &race), ["1 Promise 1 2", "1 NACK 1 2"]);
    assert_eq!(answers(&mut group, 1, &["0 Promise 1 2", "2 Write 1 2 one"]), ["1 Accept 1 2 one"]);
    hear(&mut group, 1, &["0 Accept 1 2 one", "2 Accept 1 2 one", "OK"]);
    assert_eq!(group.reads(1), ["one"]);
    hear(&mut group, 1, &["2 Write 2 2 two", "0 Accept 2 2 two", "Request 2"]);
    group.run_for(200);
    assert_eq!(group.said("OK 2 two"), ["1 OK 2 two"]);
}

#[test]
fn a_real_exchange_works_with_ours_as_the_winner() {
    let mut group = group_with(&[2]);
    hear(&mut group, 2, &["Request 0 one"]);
    group.run_until("a proposal", |group| !group.said("Propose").is_empty());
    assert_eq!(group.said_by(2), ["2 Propose 1 2", "2 Promise 1 2"]);
    let race = ["0 Propose 1 0 one", "1 Propose 1 1 one"];
    assert_eq!(answers(&mut group, 2, &race), ["2 NACK 1 2", "2 NACK 1 2"]);
    let promises = ["0 NACK 1 2", "1 NACK 1 2", "0 Promise 1 2", "1 Promise 1 2"];
    assert_eq!(answers(&mut group, 2, &promises), ["2 Write 1 2 one", "2 Accept 1 2 one"]);
    assert_eq!(
        answers(&mut group, 2, &["0 Accept 1 2 one", "1 Accept 1 2 one"]),
        ["2 Written 1 one", "2 OK 1 one"]
    );
    assert_eq!(group.reads(2), ["one"]);
}

#[test]
fn our_node_gets_values_chosen_with_two_classic_nodes() {
    for ours in 0..3 {
        let mut group = group_with(&[ours]);
        let puppets = [1, 2].map(|step| Puppet::join_lazy(&mut group, (ours + step) % 3));
        for (value, count) in ["one", "two", "three"].into_iter().zip(1..) {
            group.say(&format!("Request 0 {value}"));
            group.run_until(value, |group| group.reads(ours).len() == count);
        }
        group.run_for(2_000);
        assert_eq!(group.reads(ours), ["one", "two", "three"]);
        let answers = ["1 one", "2 two", "3 three"].map(|answer| format!("{ours} OK {answer}"));
        assert_eq!(group.said("OK"), answers);
        puppets.iter().for_each(|puppet| assert_eq!(puppet.borrow().values(), ["one", "two", "three"]));
    }
}

#[test]
fn our_node_races_two_classic_nodes_and_all_agree() {
    for ours in 0..3 {
        let mut group = group_with(&[ours]);
        let puppets = [1, 2].map(|step| Puppet::join(&mut group, (ours + step) % 3));
        for value in ["one", "two", "three"] {
            group.say(&format!("Request 0 {value}"));
            group.run_for(3_000);
            puppets.iter().for_each(|puppet| puppet.borrow_mut().sends_left = 50);
        }
        group.run_for(15_000);
        let reads = group.reads(ours);
        for value in ["one", "two", "three"] {
            assert!(reads.iter().any(|read| read == value), "{ours}: {reads:?}");
        }
        puppets.iter().for_each(|puppet| assert_eq!(puppet.borrow().values(), reads));
    }
}

#[test]
fn our_node_learns_what_classic_nodes_choose_without_it() {
    let mut group = group_with(&[1]);
    let _lazy = Puppet::join_lazy(&mut group, 0);
    let _proposer = Puppet::join(&mut group, 2);
    group.filter = Box::new(|from, to, _| from.is_some() || to == 2);
    for (value, count) in ["one", "two"].into_iter().zip(1..) {
        group.say(&format!("Request 0 {value}"));
        group.run_until(value, |group| group.reads(1).len() == count);
    }
    assert_eq!(group.reads(1), ["one", "two"]);
    assert!(group.said("Propose").is_empty(), "a node without requests and without gaps does not propose");
}

#[test]
fn who_has_led_does_not_compete_with_the_next_leader() {
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["Request 0 one", "1 Promise 1 0", "1 Accept 1 0 one"]);
    assert_eq!(group.reads(0), ["one"]);
    hear(&mut group, 0, &["1 Propose 2 1", "1 Write 2 1 two"]);
    group.run_for(300);
    hear(&mut group, 0, &["1 Accept 2 1 two"]);
    assert_eq!(group.reads(0), ["one", "two"]);
    assert_eq!(group.said("Propose"), ["0 Propose 1 0"]);
}

#[test]
fn a_classic_group_of_one_needs_nobody() {
    let mut group = Group::with(1, true);
    group.tap = Box::new(assert_classic);
    group.start(0);
    hear(&mut group, 0, &["Request 0 one", "Request 0"]);
    group.run_for(500);
    assert_eq!(group.reads(0), ["one", "safe read one"]);
}

#[test]
fn every_line_twice_changes_nothing() {
    let mut group = group_with(&[0]);
    let twice = |lines: &[&'static str]| lines.iter().flat_map(|line| [*line; 3]).collect::<Vec<_>>();
    hear(&mut group, 0, &["Request 0 mine"]);
    hear(&mut group, 0, &twice(&["1 NACK 1 4"]));
    group.run_until("another proposal", |group| !group.said("0 Propose 1 6").is_empty());
    // In a group of three, two copies of one peer's vote must not make a quorum without the node's own vote. So a
    // higher promise first keeps the node's own acceptor from voting.
    hear(&mut group, 0, &twice(&["1 Propose 1 7"]));
    hear(&mut group, 0, &twice(&["2 Promise 1 6", "2 Promise 1 0"]));
    assert!(group.said("Write").is_empty(), "{:?}", group.said_by(0));
    hear(&mut group, 0, &twice(&["2 Accept 1 2 a", "1 Accept 1 1 a"]));
    assert!(group.reads(0).is_empty());
    hear(&mut group, 0, &twice(&["1 Write 1 7 b", "1 Accept 1 7 b"]));
    assert_eq!(group.reads(0), ["b"]);
    let accepts = records(&group, 0).iter().filter(|record| record.starts_with("accept")).count();
    assert_eq!(accepts, 1);
}

#[test]
fn a_group_in_which_everything_arrives_twice_agrees() {
    let mut group = group_with(&[0, 1]);
    let puppet = Puppet::join_lazy(&mut group, 2);
    group.copies = 2;
    for value in ["one", "two"] {
        group.say(&format!("Request 0 {value}"));
        group.run_for(2_000);
    }
    let requested = |id: u16| group.reads(id).iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(requested(0), "one one two two", "an untagged request that arrives twice is two requests");
    group.assert_agreement();
    assert_eq!(puppet.borrow().values(), group.reads(0));
}

#[test]
fn a_node_that_falls_silent_does_not_stop_the_others() {
    let mut group = group_with(&[0, 1]);
    let puppet = Puppet::join(&mut group, 2);
    for value in 0..40 {
        group.say(&format!("Request 0 v{value}"));
        group.run_for(1_500);
    }
    group.run_for(12_000);
    assert_eq!(puppet.borrow().sends_left, 0, "it has stopped sending meanwhile");
    let reads: BTreeSet<String> = group.reads(0).into_iter().collect();
    assert!((0..40).all(|value| reads.contains(&format!("v{value}"))), "{reads:?}");
    group.assert_agreement();
    assert_eq!(group.reads(0), group.reads(1));
}

#[test]
fn one_of_ours_and_one_live_classic_node_go_on_without_the_third() {
    let mut group = group_with(&[1]);
    let crashed = Puppet::join(&mut group, 0);
    let live = Puppet::join(&mut group, 2);
    live.borrow_mut().sends_left = 1_000;
    crashed.borrow_mut().may_crash = true;
    crashed.borrow_mut().hear(b"1 NACK 1");
    assert!(crashed.borrow().is_crashed);
    for value in ["one", "two", "three"] {
        group.say(&format!("Request 0 {value}"));
        group.run_until(value, |group| group.reads(1).iter().any(|read| read == value));
    }
    group.run_for(1_000);
    assert_eq!(live.borrow().values(), group.reads(1));
}

#[test]
fn our_node_sends_again_until_its_value_is_chosen() {
    let mut group = group_with(&[0]);
    let _puppets = [1, 2].map(|id| {
        let puppet = Puppet::join_lazy(&mut group, id);
        puppet.borrow_mut().sends_left = 1_000;
        puppet
    });
    let mut lose = chance(7);
    // The client reaches our node alone. Of the lines between nodes, seven in ten are lost.
    group.filter = Box::new(move |from, to, _| from.map_or(to == 0, |from| from == to || lose(10) >= 7));
    for value in ["one", "two", "three"] {
        group.say(&format!("Request 0 {value}"));
        group.run_for(9_000);
    }
    assert_eq!(group.reads(0), ["one", "two", "three"]);
}

#[test]
fn a_restart_keeps_promises_and_never_uses_a_ballot_again() {
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["Request 0 mine", "1 Propose 1 1", "1 Write 1 1 a"]);
    assert_eq!(group.said_by(0), ["0 Propose 1 0", "0 Promise 1 0", "0 Promise 1 1", "0 Accept 1 1 a"]);
    group.crash(0);
    group.start(0);
    assert_eq!(answers(&mut group, 0, &["1 Propose 1 1"]), ["0 Promise 1 1 1 a"]);
    assert_eq!(answers(&mut group, 0, &["2 Propose 1 2"]), ["0 Promise 1 2 1 a"]);
    group.crash(0);
    group.start(0);
    assert_eq!(answers(&mut group, 0, &["1 Write 1 1 a"]), ["0 NACK 1 2"]);
    let again = answers(&mut group, 0, &["Request 0 other"]);
    group.run_until("a proposal", |group| !group.said("0 Propose 1 3").is_empty());
    assert!(again.iter().all(|line| line != "0 Propose 1 0"));
    group.crash(0);
    group.start(0);
    hear(&mut group, 0, &["Request 0 other"]);
    group.run_until("a higher proposal", |group| !group.said("0 Propose 1 6").is_empty());
    hear(&mut group, 0, &["2 Promise 1 6"]);
    assert_eq!(
        group.said("Write"),
        ["0 Write 1 6 a"],
        "a value that was accepted before the restarts counts"
    );
}

#[test]
fn a_node_that_restarts_finds_out_whether_what_it_accepted_was_chosen() {
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["1 Propose 1 1", "1 Write 1 1 a"]);
    group.crash(0);
    group.start(0);
    let _puppets = [1, 2].map(|id| Puppet::join_lazy(&mut group, id));
    group.run_until("it learns", |group| group.reads(0) == ["a"]);
}

#[test]
fn schedule_one_a_ballot_never_gets_two_values() {
    let mut group = group_with(&[2]);
    hear(&mut group, 2, &["Request 0 b"]);
    group.run_until("a proposal", |group| !group.said("2 Propose 1 2").is_empty());
    hear(&mut group, 2, &["0 Promise 1 2"]);
    assert_eq!(group.said("Write"), ["2 Write 1 2 b"]);
    hear(&mut group, 2, &["1 Promise 1 2 1 a", "1 Promise 1 2 1 a"]);
    group.run_for(500);
    assert!(group.said("Write").iter().all(|line| line == "2 Write 1 2 b"));

    let mut group = group_with(&[0]);
    let writes = ["2 Propose 1 2", "2 Write 1 2 b", "2 Write 1 2 a"];
    let said = answers(&mut group, 0, &writes);
    assert_eq!(
        said,
        ["0 Promise 1 2", "0 Accept 1 2 b", "0 NACK 1 2"],
        "an acceptor refuses the second value"
    );
}

#[test]
fn schedule_two_accepting_raises_the_promise() {
    let mut group = group_with(&[1]);
    let lines = ["1 Propose 1 1", "0 Write 1 3 v", "2 Write 1 2 w", "2 Propose 1 2"];
    assert_eq!(answers(&mut group, 1, &lines), ["1 Accept 1 3 v", "1 NACK 1 3", "1 NACK 1 3"]);
    let other = ["0 Propose 2 0", "2 Propose 2 2", "2 Write 2 2 v", "0 Write 2 0 w", "0 Propose 2 3"];
    assert_eq!(
        answers(&mut group, 1, &other),
        ["1 Promise 2 0", "1 Promise 2 2", "1 Accept 2 2 v", "1 NACK 2 2", "1 Promise 2 3 2 v"],
        "each instance has a promise of its own"
    );
}

#[test]
fn schedule_three_votes_of_two_ballots_do_not_add_up() {
    let mut group = group_with(&[2]);
    hear(&mut group, 2, &["0 Accept 1 1 u", "2 Accept 1 2 w", "1 Accept 1 3 u"]);
    assert!(group.reads(2).is_empty(), "u has two acceptors, in two ballots");
    hear(&mut group, 2, &["1 Write 1 4 w", "0 Accept 1 4 w"]);
    assert_eq!(group.reads(2), ["w"]);

    let mut group = group_with(&[1]);
    hear(&mut group, 1, &["Request 0 mine", "2 Propose 1 2"]);
    group.run_until("a proposal", |group| !group.said("1 Propose 1 4").is_empty());
    hear(&mut group, 1, &["2 Promise 1 4 2 w", "0 Promise 1 4 1 u"]);
    assert_eq!(group.said("Write"), ["1 Write 1 4 w"], "the value that was accepted in the highest ballot");
}

#[test]
fn a_safe_read_takes_an_instance_in_a_classic_group() {
    let mut group = group_with(&[0]);
    let puppets = [1, 2].map(|id| Puppet::join_lazy(&mut group, id));
    for line in ["Request 0", "Request 0 one", "Request 0", "Request 0", "Request 0 two", "Request 0"] {
        group.say(line);
        group.run_for(500);
    }
    let values = ["safe read", "one", "safe read one", "safe read one", "two", "safe read two"];
    assert_eq!(group.reads(0), values, "reads do not nest, the empty one included");
    puppets.iter().for_each(|puppet| assert_eq!(puppet.borrow().values(), values));
    assert_eq!(group.said("OK 6"), ["0 OK 6 safe read two"]);
}

#[test]
fn a_written_value_that_looks_like_a_safe_read_is_chosen_once() {
    let mut group = group_with(&[0, 1, 2]);
    group.say("Request 0 safe read me");
    group.run_for(3_000);
    assert_eq!(group.reads(0), ["safe read me"]);
}

#[test]
fn history_is_answered_and_what_is_not_there_is_met_with_silence() {
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["1 Write 1 1 one", "2 Accept 1 1 one"]);
    hear(&mut group, 0, &["Request 1", "Request 2", "Request 99999999999"]);
    group.run_for(300);
    assert_eq!(group.said("OK"), ["0 OK 1 one"]);
}

#[test]
fn a_value_for_a_given_instance_is_refused_and_never_proposed() {
    let mut group = group_with(&[0, 1, 2]);
    group.say("Request 3 x");
    group.run_for(3_000);
    assert!(group.sent.is_empty(), "{:?}", group.sent);
    let warned =
        |id: usize| group.members[id].events.iter().any(|event| event.to_string().contains("refused"));
    assert!((0..3).all(warned));
}

#[test]
fn nothing_but_promises_and_votes_is_believed() {
    let mut group = group_with(&[0]);
    let lies = [
        "1 Written 1 lie",
        "1 OK 1 lie",
        "OK",
        "1 Chosen 1 9 1",
        "1 Accepts 1 9 1",
        "2 Accepts 1 9 1",
        "1 PromiseNone 1 * 1 0",
        "1 Beat 7 77 2 9 65538 4 leads 0,2",
        "1 Register 3 77 2 9",
        "1 Gap 1 9",
        "1 Join 0",
        "7 Accept 1 1 lie",
        "1 Accept 1 1:1 lie",
        "Submit 7 1 1 lie",
        "Read 7 2 2",
    ];
    hear(&mut group, 0, &["1 Write 1 1 truth"]);
    let before = group.said_by(0);
    hear(&mut group, 0, &lies);
    group.run_for(200);
    assert!(group.reads(0).is_empty());
    assert_eq!(group.said_by(0), before, "a classic node sends nothing outside of the classic grammar");
    hear(&mut group, 0, &["1 Accept 1 1 truth"]);
    assert_eq!(group.reads(0), ["truth"], "the false lines do not exclude their sender");
}

#[test]
fn an_answer_that_is_not_true_does_not_keep_ours_back() {
    let mut group = group_with(&[1]);
    hear(&mut group, 1, &["Request 0 one", "2 OK 1 one", "2 OK 7 one"]);
    hear(&mut group, 1, &["2 Propose 1 2", "2 Write 1 2 other", "0 Accept 1 2 other"]);
    hear(
        &mut group,
        1,
        &["2 Propose 2 2", "2 Promise 2 2", "2 Write 2 2 one", "0 Accept 2 2 one", "2 OK 2 other"],
    );
    group.run_for(300);
    assert_eq!(group.said("OK 2"), ["1 OK 2 one"]);
    hear(&mut group, 1, &["Request 1", "2 OK 1 lie"]);
    group.run_for(300);
    assert_eq!(group.said("OK 1"), ["1 OK 1 other"]);
    hear(&mut group, 1, &["Request 1", "2 OK 1 other"]);
    group.run_for(300);
    assert_eq!(group.said("OK 1").len(), 1, "a correct answer is not repeated");
}

#[test]
fn a_vote_for_another_value_in_the_same_ballot_does_not_count() {
    let mut group = group_with(&[0]);
    // The leader wrote two values in one ballot, and an acceptor accepted the second.
    hear(&mut group, 0, &["1 Propose 1 1", "1 Write 1 1 a", "2 Accept 1 1 b"]);
    assert!(group.reads(0).is_empty(), "a has one vote, and so has b");
    hear(&mut group, 0, &["1 Accept 1 1 a"]);
    assert_eq!(group.reads(0), ["a"]);
}

#[test]
fn votes_for_two_values_in_one_ballot_do_not_add_up() {
    let mut group = Group::with(5, true);
    group.start(0);
    hear(&mut group, 0, &["1 Accept 1 1 a", "2 Accept 1 1 b", "3 Accept 1 1 a", "4 Accept 1 1 b"]);
    assert!(group.reads(0).is_empty(), "two of five each");
    hear(&mut group, 0, &["2 Accept 1 1 a"]);
    assert_eq!(group.reads(0), ["a"]);
}

#[test]
fn a_write_against_what_is_chosen_gets_no_vote() {
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["1 Write 1 1 a", "1 Accept 1 1 a"]);
    assert_eq!(group.reads(0), ["a"]);
    assert!(answers(&mut group, 0, &["2 Write 1 2 b"]).is_empty(), "its leader counted copies as promises");
    assert_eq!(group.node(0).dropped().conflicts, 1);
    assert_eq!(answers(&mut group, 0, &["2 Write 1 5 a"]), ["0 Accept 1 5 a"]);
}

#[test]
fn lines_that_classic_nodes_could_not_read_are_never_said() {
    let mut group = group_with(&[0, 1]);
    let puppet = Puppet::join_lazy(&mut group, 2);
    let garbage: [&[u8]; 14] = [
        b"",
        b"\xff\xfe 1 2",
        b"1",
        b"1 Write",
        b"1 Write 1 1",
        b"1 Write 1 1 ",
        b"1 Write 1 1    ",
        b"2 Accept 1 2 ",
        b"2 Promise 1 x",
        b"2 Promise 1 2 1 ",
        b"2 NACK 1 2 3",
        b"2 NACK 99999999999999999999 2",
        b"2 Propose 1 -2",
        b"2 Write 1 2 a\n& b",
    ];
    for datagram in garbage {
        group.hear(0, datagram);
        group.hear(1, datagram);
    }
    group.say("Request 0    ");
    group.say("Request 0 a\\nb\\");
    group.run_for(2_000);
    assert_eq!(puppet.borrow().values(), group.reads(0));
    assert!(
        group.reads(0).contains(&"a\\nb\\".to_string()),
        "backslashes mean themselves: {:?}",
        group.reads(0)
    );
    group.assert_agreement();
}

#[test]
fn a_classic_node_names_nothing_and_takes_nothing_by_its_name() {
    let mut group = group_with(&[0, 1, 2]);
    let long = "x".repeat(2_000);
    group.say(&format!("Request 0 {long}"));
    // A classic node ignores a tagged write.
    group.say(&format!("Submit 7 1 1 {long}"));
    group.run_for(2_000);
    assert!((0..3).all(|id| group.reads(id) == [long.as_str()]), "{}", group.view());
    let write = Entry::Tagged(Tagged { tag: Tag { client: 7, seq: 1 }, floor: 1 }, "one".into());
    let tag = Tag { client: 7, seq: 1 };
    let digest = Names::of(&[(tag, write.encode(Dialect::Extended))]).digest;
    let lines = [format!("1 WriteTags 2 2 4 {digest} 7 1 1"), "1 Fetch 1 1 1".into(), "1 Fetch 2 2 4".into()];
    let before = records(&group, 0);
    assert!(answers(&mut group, 0, &lines.each_ref().map(String::as_str)).is_empty());
    // The node also ignores such a line when a caller passes it directly, past the classic grammar.
    let mut node = Recovery::new(Config { classic: true, ..Config::member(NodeId(0), 3) }).finish(1, 1);
    for text in ["Submit 7 1 1 one", &lines[0], &lines[1], &lines[2]] {
        let line = wire::parse_line(text.as_bytes(), Dialect::Extended).expect("a line of the wire");
        let mut out = Outbox::new(NodeId(0));
        let speaker = node.hear(&Head::default(), Micros(0), &mut out);
        node.handle(Micros(0), speaker, line, &mut out);
        assert!(!out.needs_sync() && out.early.is_empty(), "{text}: {out:?}");
    }
    assert_eq!(records(&group, 0), before);
    assert!(group.said(" WriteTags ").is_empty() && group.said(" Fetch ").is_empty());
}

/// The ids and the ballots are the same as in the group itself. Only the head tells the groups apart.
#[test]
fn a_classic_node_takes_nothing_of_another_group() {
    let mut group = group_with(&[0]);
    let before = records(&group, 0);
    for datagram in [
        "2 From 77 5f3a9c01d2b4e6f8\n2 Write 9 2 stranger",
        "2 From 77 5f3a9c01d2b4e6f8 other\n2 Write 10 2 named stranger",
        "2 From x y\n2 Write 12 2 damaged head",
        "2 From 77 5f3a9c01d2b4e6f8\n2 Propose 13 200",
        "For 5f3a9c01d2b4e6f8\nRequest 0 for others",
    ] {
        assert!(answers(&mut group, 0, &[datagram]).is_empty(), "{datagram}");
    }
    assert_eq!(records(&group, 0), before);
}

#[test]
fn runs_of_blanks_in_a_value_are_one_blank_for_all() {
    let mut group = group_with(&[0, 1]);
    let puppet = Puppet::join_lazy(&mut group, 2);
    // Node 1 first receives the value from the puppet, which has joined the words with single blanks.
    group.filter = Box::new(|from, to, line| {
        !(from == Some(0) && to == 1 && matches!(line, Line::Node(_, Message::Write { .. })))
    });
    for value in ["a  b", "  c \t d ", "\u{a0}e\u{2003}f"] {
        group.say(&format!("Request 0 {value}"));
        group.run_for(2_000);
    }
    assert_eq!(group.reads(0), ["a b", "c d", "e f"], "a value that arrives in two forms is chosen twice");
    assert_eq!(group.reads(1), group.reads(0));
    assert_eq!(puppet.borrow().values(), group.reads(0));
    assert_eq!(group.said("OK 1"), ["0 OK 1 a b"]);
}

#[test]
fn bytes_that_are_not_text_are_kept() {
    let mut group = group_with(&[0]);
    group.hear(0, b"1 Write 1 1 \xff \xfe\\");
    let sent = group.sent.last().map(|(_, line)| line.to_bytes(group.dialect()));
    assert_eq!(sent.as_deref(), Some(&b"0 Accept 1 1 \xff \xfe\\"[..]));
}

#[test]
fn an_instance_far_ahead_does_not_hide_the_ballots_of_this_one() {
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["2 Propose 9000000000 2", "2 NACK 9000000000 2", "2 Accept 9000000000 2 x"]);
    hear(&mut group, 0, &["Request 0 mine", "2 NACK 1 3000002"]);
    group.run_until("a ballot above it", |group| !group.said("0 Propose 1 3000003").is_empty());
    let proposals = group.said("Propose").len();
    assert_eq!(proposals, 2, "one refusal is enough: {:?}", group.said("Propose"));
}

#[test]
fn who_writes_in_a_ballot_that_was_overtaken_is_told_so_after_the_instance_is_learned() {
    let mut group = group_with(&[1]);
    hear(&mut group, 1, &["2 Propose 1 2", "2 Write 1 2 a", "0 Accept 1 2 a", "2 Accept 1 2 a"]);
    assert_eq!(group.reads(1), ["a"]);
    assert_eq!(answers(&mut group, 1, &["0 Write 1 0 b"]), ["1 NACK 1 2"]);
    assert_eq!(answers(&mut group, 1, &["2 Write 1 5 b"]), [""; 0], "it never accepts that");
}

#[test]
fn a_node_that_missed_much_catches_up_soon() {
    let mut group = group_with(&[0, 1]);
    let puppet = Puppet::join_lazy(&mut group, 2);
    puppet.borrow_mut().sends_left = 10_000;
    group.filter = Box::new(|_, to, _| to != 1);
    for value in 0..100 {
        group.say(&format!("Request 0 v{value}"));
        group.run_for(20);
    }
    group.run_until("a hundred", |group| group.reads(0).len() == 100);
    // Node 1 has no requests of its own. It only sees that the log is longer than its own.
    group.filter = Box::new(|from, to, _| from.is_some() || to != 1);
    group.say("Request 0 last");
    group.run_for(3_000);
    assert_eq!(group.reads(1).len(), 101);
    assert_eq!(group.reads(1), group.reads(0));
}

#[test]
fn a_proposal_further_on_says_that_something_was_missed() {
    let mut group = group_with(&[0]);
    let proposals = |group: &Group| group.said("Propose").len();
    hear(&mut group, 0, &["2 Propose 1 2"]);
    group.run_for(600);
    assert_eq!(proposals(&group), 0, "nothing can be missing before the first instance");
    hear(&mut group, 0, &["2 Propose 2 2"]);
    group.run_until("it asks what was chosen first", |group| proposals(group) > 0);
    assert_eq!(group.said("Propose")[0], "0 Propose 1 3");
}

#[test]
fn two_of_ours_and_a_classic_node_agree_whatever_is_lost() {
    for seed in 0..200 {
        let mut group = group_with(&[0, 1]);
        let puppet = Puppet::join(&mut group, 2);
        puppet.borrow_mut().sends_left = 200;
        let mut roll = chance(seed);
        let loss = roll(5) * 10;
        let mut lose = chance(seed + 1_000);
        group.filter = Box::new(move |from, to, _| from == Some(to) || lose(100) >= loss);
        group.copies = 1 + roll(2) as usize;
        // A node that counts copies of one promise as several may write against a chosen value. Our nodes cannot
        // prevent that.
        puppet.borrow_mut().races = group.copies == 1;
        let mut shuffle = chance(seed + 2_000);
        group.next = Box::new(move |len| shuffle(len.min(8) as u64) as usize);
        for value in 0..6 {
            group.say(&format!("Request 0 v{value}"));
            group.run_for(roll(200));
            if roll(4) == 0 {
                let id = roll(2) as u16;
                group.crash(id);
                group.run_for(roll(300));
                group.start(id);
            }
        }
        group.filter = Box::new(|_, _, _| true);
        group.say("Request 0 end");
        let is_done = |group: &Group| {
            let [a, b] = [0, 1].map(|id| group.reads(id));
            a == b && a.iter().any(|read| read == "end")
        };
        group.assert_agreement();
        group.run_until(&format!("seed {seed}: the end"), is_done);
        group.assert_agreement();
        assert_one_value_per_ballot(&group, seed);
    }
}

/// Our nodes never write two values in one ballot, and never use another node's ballot.
fn assert_one_value_per_ballot(group: &Group, seed: u64) {
    let mut written = BTreeMap::new();
    for (from, line) in &group.sent {
        if let Line::Node(NodeId(id), Message::Write { instance, ballot, value }) = line {
            assert_eq!((*from, ballot.number % 3), (Some(*id), u64::from(*id)), "seed {seed}");
            let first = written.entry((*instance, *ballot)).or_insert_with(|| value.clone());
            assert_eq!(first, value, "seed {seed}: {line}");
        }
    }
}

/// The lines of a node's log.
fn log_of(group: &Group, id: u16) -> Vec<String> {
    group.members[usize::from(id)].events.iter().map(ToString::to_string).collect()
}

fn warnings(group: &Group, id: u16, about: &str) -> usize {
    log_of(group, id).iter().filter(|line| line.contains(about)).count()
}

/// Node 1 was down while the read of `v1` and the write of `v2` were chosen. It is up again, and node 0 is down.
fn one_that_was_away() -> Group {
    let mut group = group_with(&[0, 1, 2]);
    group.write("v1", &[0, 1, 2]);
    group.crash(1);
    group.say("Request 0");
    group.run_until("a read", |group| group.reads(0).len() == 2);
    group.write("v2", &[0, 2]);
    group.crash(0);
    group.start(1);
    group.run_for(100);
    group
}

#[test]
fn a_node_that_catches_up_answers_nobody_with_what_it_finds() {
    let mut group = one_that_was_away();
    let before = group.said("OK").len();
    group.say("Request 0");
    group.run_until("a read", |group| group.reads(1).len() == 4);
    group.run_for(500);
    let answers = group.said("OK").split_off(before);
    assert!(group.said("1 Write 2").len() + group.said("1 Write 3").len() > 0, "it found a value");
    assert!(
        !answers.is_empty() && answers.iter().all(|line| line.ends_with("OK 4 safe read v2")),
        "{answers:?}"
    );
}

#[test]
fn a_second_request_of_the_same_words_is_not_lost_to_the_first() {
    let mut group = group_with(&[0, 1, 2]);
    group.write("deposit 5", &[0, 1, 2]);
    group.crash(1);
    group.write("other", &[0, 2]);
    group.crash(0);
    // Node 1 has lost nothing, but the other nodes chose more values. Only node 1 receives the second request.
    group.start(1);
    group.filter = Box::new(|from, to, _| from.is_some() || to == 1);
    let before = group.said("OK").len();
    group.say("Request 0 deposit 5");
    group.run_until("the second", |group| group.reads(1).len() == 3);
    assert_eq!(group.reads(1), ["deposit 5", "other", "deposit 5"]);
    assert_eq!(group.said("OK").split_off(before), ["1 OK 3 deposit 5"]);
}

#[test]
fn a_node_with_an_old_log_does_not_take_the_first_for_the_second() {
    let mut group = group_with(&[0, 2]);
    group.write("deposit 5", &[0, 2]);
    group.crash(0);
    // Node 1 starts for the first time, so the whole log is new to it. Only node 1 receives the second request.
    group.start(1);
    group.filter = Box::new(|from, to, _| from.is_some() || to == 1);
    let before = group.said("OK").len();
    group.say("Request 0 deposit 5");
    group.run_until("the second", |group| group.reads(1).len() == 2);
    group.run_for(300);
    assert_eq!(group.reads(1), ["deposit 5", "deposit 5"]);
    assert_eq!(group.said("OK").split_off(before), ["1 OK 2 deposit 5"]);
}

#[test]
fn a_round_carries_out_no_request_that_came_after_it_began() {
    let mut group = group_with(&[1]);
    // Node 1 has to find out the value of instance 1. The request arrives during that round.
    hear(&mut group, 1, &["2 Propose 2 2"]);
    group.run_until("a proposal", |group| !group.said("1 Propose 1").is_empty());
    let first = group.said("1 Propose 1")[0].clone();
    let ballot = first.rsplit(' ').next().expect("a ballot").to_owned();
    hear(&mut group, 1, &["Request 0 mine", &format!("2 Promise 1 {ballot}")]);
    assert!(
        group.said("Write").is_empty(),
        "a peer that receives the request before the proposal takes them for one"
    );
    group.run_until("a round of its own", |group| group.said("1 Propose 1").len() > 1);
}

#[test]
fn a_proposer_says_written_once_votes_have_told_it() {
    let mut group = group_with(&[2]);
    hear(&mut group, 2, &["Request 0 one"]);
    group.run_until("a proposal", |group| !group.said("Propose").is_empty());
    hear(&mut group, 2, &["0 Promise 1 2"]);
    assert!(group.said("Written").is_empty());
    hear(&mut group, 2, &["0 Accept 1 2 one"]);
    assert_eq!(group.said("Written"), ["2 Written 1 one"]);
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["2 Propose 1 2", "2 Write 1 2 one", "2 Accept 1 2 one"]);
    assert_eq!(group.reads(0), ["one"]);
    assert!(group.said("Written").is_empty(), "an acceptor leaves that to the proposer");
}

#[test]
fn the_log_of_a_classic_node_tells_every_step() {
    let mut group = group_with(&[0]);
    hear(&mut group, 0, &["Request 0 mine", "2 Propose 1 2", "1 Propose 1 1"]);
    hear(&mut group, 0, &["2 Write 1 2 a", "1 Accept 1 2 a"]);
    let log = log_of(&group, 0);
    for line in [
        "propose 1 0",
        "promise 1 0",
        "gives way in instance 1: ballot 0 to 2",
        "promise 1 2",
        "NACK 1 2 (refuses ballot 1)",
        "accept 1 2 a",
        "learn 1 a",
    ] {
        assert!(log.iter().any(|said| said == line), "{line:?} is not in {log:#?}");
    }
}

#[test]
fn a_request_that_finds_no_quorum_is_named_when_it_is_given_up() {
    let mut group = group_with(&[0]);
    group.say("Request 0 patient");
    group.run_for(9_000);
    assert_eq!(warnings(&group, 0, "gives up"), 0);
    group.run_for(2_000);
    assert_eq!(warnings(&group, 0, "no quorum was found in 10 s: Request 0 patient;"), 1);
}

#[test]
fn another_node_under_the_same_id_is_named_and_old_lines_are_not() {
    let mut group = group_with(&[0, 1, 2]);
    group.write("one", &[0, 1, 2]);
    group.crash(0);
    group.start(0);
    let lines = group.said_by(0);
    lines.iter().for_each(|line| group.hear(0, line.as_bytes()));
    group.write("two", &[0, 1, 2]);
    group.said_by(0).iter().for_each(|line| group.hear(0, line.as_bytes()));
    assert_eq!(warnings(&group, 0, "another node goes by id 0"), 0, "{:#?}", log_of(&group, 0));
    for proof in ["0 Propose 1 300", "0 Promise 9 1", "0 Accept 1 300 x"] {
        let mut group = group_with(&[0]);
        group.hear(0, proof.as_bytes());
        group.hear(0, proof.as_bytes());
        assert_eq!(warnings(&group, 0, "another node goes by id 0"), 1, "{proof}");
    }
}

#[test]
fn a_node_that_was_started_with_another_n_is_named() {
    for proof in ["4 Accept 1 4 x", "1 Propose 1 6", "1 Write 1 9 x"] {
        let mut group = group_with(&[0]);
        group.hear(0, proof.as_bytes());
        group.hear(0, proof.as_bytes());
        assert_eq!(warnings(&group, 0, "with the same -n"), 1, "{proof}");
    }
}

#[test]
fn a_node_that_comes_back_learns_what_was_chosen_without_it() {
    let mut group = group_with(&[0, 1, 2]);
    group.write("one", &[0, 1, 2]);
    group.crash(1);
    for value in ["two", "three"] {
        group.write(value, &[0, 2]);
    }
    group.start(1);
    group.run_until("all of it", |group| group.reads(1) == ["one", "two", "three"]);
    assert!(group.said("1 OK").iter().all(|line| line == "1 OK 1 one"), "{:?}", group.said("1 OK"));
}

#[test]
fn a_proposal_that_comes_again_makes_nothing_new_that_a_node_finds() {
    let mut group = one_that_was_away();
    let old = group.said("Propose 2 ").pop().expect("the read of v1 was proposed");
    let before = group.said("OK").len();
    group.say("Request 0");
    group.say(&old);
    group.run_until("a read", |group| group.reads(1).len() == 4);
    group.run_for(500);
    let answers = group.said("OK").split_off(before);
    assert!(!answers.is_empty(), "{old}");
    assert!(answers.iter().all(|line| line.ends_with("OK 4 safe read v2")), "{old}: {answers:?}");
}

#[test]
fn quit_ends_ours_beside_nodes_that_speak_nothing_else() {
    for word in ["quit", "exit", "bye"] {
        let mut group = group_with(&[0, 1]);
        let _puppet = Puppet::join_lazy(&mut group, 2);
        group.say("Request 0 one");
        group.run_until("one", |group| group.reads(1).len() == 1);
        for (lines, ends) in [(&["0 quit", "quit 1"][..], 0), (&[word], 1)] {
            for id in [0, 1] {
                assert_eq!(answers(&mut group, id, lines), [""; 0], "no node answers {lines:?}");
                assert_eq!(warnings(&group, id, "asked to quit"), ends, "{lines:?} at node {id}");
            }
        }
    }
}

#[test]
fn a_classic_group_takes_nobody_in() {
    let mut group = group_with(&[0, 1, 2]);
    group.write("one", &[0, 1, 2]);
    let before = group.sent.iter().filter(|(from, _)| from.is_some()).count();
    for line in ["3 Join 0", "2 Join 1", "3 JoinFor 0 2", "7 Promise 2 3", "7 Accept 2 3 x", "8 Accept 2 3 x"]
    {
        group.say(line);
    }
    group.run_for(1_000);
    let said = group.sent.iter().filter(|(from, _)| from.is_some()).count();
    assert_eq!(said, before, "no node answers, and no vote is counted: {:?}", group.said("2 3"));
    group.write("two", &[0, 1, 2]);
    for id in [0, 1, 2] {
        assert_eq!(group.reads(id), ["one", "two"]);
    }
}

/// Node 2 gets a read and a write chosen with the vote of node 1, which learns neither. Then node 2 crashes. Node 1
/// has accepted the old read. Its promise that reports the read is lost on the way to node 0.
#[test]
fn an_old_read_that_is_found_answers_no_read_that_was_asked_later() {
    let mut group = group_with(&[1, 2]);
    group.filter = Box::new(|from, to, line| {
        let is_vote_or_answer = matches!(
            line,
            Line::Node(_, Message::Accept { .. } | Message::Written { .. } | Message::Ok { .. })
        );
        !(from == Some(2) && to == 1 && is_vote_or_answer) && (from.is_some() || to == 2)
    });
    group.say("Request 0");
    group.run_until("a read of nothing", |group| !group.said("2 OK 1 safe read").is_empty());
    group.say("Request 0 x");
    group.run_until("a write", |group| !group.said("2 OK 2 x").is_empty());
    group.crash(2);
    assert_eq!(group.node(1).learned().0, 0);
    group.start(0);
    group.filter = Box::new(|from, to, line| {
        let tells = matches!(line, Line::Node(_, Message::Promise { accepted: Some(_), .. }));
        !(from == Some(1) && to == 0 && tells)
    });
    group.run_for(20);
    group.say("Request 0");
    group.run_until("a read", |group| !group.said("safe read x").is_empty());
    group.run_for(2_000);
    assert_eq!(group.said("0 OK 1"), [""; 0]);
}
