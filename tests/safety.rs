//! The rules of the README's section "What is promised", by their numbers.
//!
//! One real node at a time receives the lines of a group. Each test fails when its rule is broken.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/lone.rs"]
mod lone;

use upaxos_core::record::Record;
use upaxos_core::types::Instance;

use lone::Lone;

// Ballots of nodes 0, 1 and 2, in rounds 0 to 3.
const B: [[u64; 3]; 4] =
    [[0, 1, 2], [65_536, 65_537, 65_538], [131_072, 131_073, 131_074], [196_608, 196_609, 196_610]];

// Rule 1: a vote counts once per sender, only from a member, and only for its instance and ballot.

#[test]
fn rule_1_a_repeated_promise_is_one_promise() {
    assert!(directed::a_repeated_promise_is_one_promise());
}

#[test]
fn rule_1_a_promise_of_a_stranger_is_none() {
    let mut node = Lone::member(5, 0);
    let ballot = node.run();
    node.hear(&format!("1 PromiseNone 1 * {ballot} 0"));
    assert!(!node.node.is_leading(), "two of five members");
    node.hear(&format!("9 PromiseNone 1 * {ballot} 0"));
    assert!(!node.node.is_leading(), "node 9 is no member");
    node.hear(&format!("2 PromiseNone 1 * {ballot} 0"));
    assert!(node.node.is_leading());
}

#[test]
fn rule_1_a_repeated_accept_is_one_accept() {
    let mut node = Lone::member(5, 0);
    node.hear(&format!("1 Write 1 {} x", B[0][1]));
    for _ in 0..4 {
        node.hear(&format!("1 Accepts 1 1 {}", B[0][1]));
    }
    node.hear(&format!("9 Accepts 1 1 {}", B[0][1]));
    assert_eq!(node.learned(), [""; 0], "0 and 1 of five");
    node.hear(&format!("4 Accepts 1 1 {}", B[0][1]));
    assert_eq!(node.learned(), ["x"]);
}

#[test]
fn rule_1_half_of_four_is_no_quorum() {
    let mut node = Lone::member(4, 0);
    let ballot = node.run();
    node.hear(&format!("1 PromiseNone 1 * {ballot} 0"));
    assert!(!node.node.is_leading());
    node.hear(&format!("2 PromiseNone 1 * {ballot} 0"));
    assert!(node.node.is_leading());
    node.hear("Request 0 x");
    node.hear(&format!("1 Accepts 1 1 {ballot}"));
    assert_eq!(node.learned(), [""; 0]);
    node.hear(&format!("3 Accepts 1 1 {ballot}"));
    assert_eq!(node.learned(), ["x"]);
}

#[test]
fn rule_1_accepts_of_two_ballots_do_not_add_up_though_the_value_is_the_same() {
    let mut node = Lone::member(5, 0);
    node.hear(&format!("1 Write 1 {} u", B[0][1]));
    node.hear(&format!("3 Accepts 1 1 {}", B[0][1]));
    node.hear(&format!("2 Write 1 {} u", B[0][2]));
    node.hear(&format!("4 Accepts 1 1 {}", B[0][2]));
    assert_eq!(node.learned(), [""; 0]);
}

#[test]
fn rule_1_a_promise_of_an_older_ballot_is_none_for_the_new_one() {
    let mut node = Lone::member(3, 0);
    let old = node.run();
    node.hear(&format!("1 NACK 1 {}", B[1][1]));
    let new = node.run();
    assert!(new > old);
    node.hear(&format!("1 PromiseNone 1 * {old} 0"));
    assert!(!node.node.is_leading());
    node.hear(&format!("1 PromiseNone 1 * {new} 0"));
    assert!(node.node.is_leading());
}

// Rule 2: one value per ballot and instance.

#[test]
fn rule_2_a_promise_after_phase_1_changes_nothing() {
    let mut node = Lone::member(3, 0);
    let ballot = node.run();
    node.hear(&format!("1 PromiseNone 1 * {ballot} 0"));
    node.hear("Request 0 mine");
    node.hear(&format!("2 Promise 1 {ballot} {} other", B[0][1]));
    node.hear(&format!("2 PromiseNone 2 * {ballot} 0"));
    node.run_for(1_000);
    assert_eq!(node.wrote(1), ["mine"]);
}

#[test]
fn rule_2_an_acceptor_refuses_a_second_value_in_a_ballot() {
    let mut node = Lone::member(3, 0);
    node.hear(&format!("1 Write 1 {} x", B[0][1]));
    node.take();
    node.hear(&format!("1 Write 1 {} y", B[0][1]));
    assert_eq!(node.take(), [format!("0 NACK 1 {}", B[0][1])]);
}

#[test]
fn rule_2_only_its_owner_uses_a_ballot() {
    let mut node = Lone::member(3, 0);
    let b = B[0][1];
    node.take();
    node.hear(&format!("2 ProposeAll 1 {b}\n2 Write 1 {b} x\n2 Chosen 1 1 {b}"));
    assert_eq!(node.take(), [""; 0]);
    assert_eq!(node.node.dropped().not_owner, 3);
}

// Rule 3: phase 2 takes the value of the highest ballot among the promises that cover the instance.

#[test]
fn rule_3_phase_2_takes_the_value_of_the_highest_ballot() {
    assert!(directed::the_higher_of_two_ballots_that_promises_tell_of_wins());
}

#[test]
fn rule_3_a_part_of_a_promise_that_was_lost_covers_nothing() {
    assert!(directed::a_part_of_a_promise_that_was_lost_covers_nothing());
}

#[test]
fn rule_3_a_candidate_first_learns_what_a_promise_says_is_learned() {
    let mut node = Lone::member(3, 0);
    let ballot = node.run();
    node.hear("Request 0 mine");
    node.hear(&format!("1 PromiseNone 3 * {ballot} 2"));
    assert!(!node.node.is_leading());
    assert!(node.run_for(100).contains(&"0 Gap 1 2".into()), "it asks for them");
    node.hear("1 Written 1 a");
    assert!(!node.node.is_leading());
    node.hear("1 Written 2 b");
    assert_eq!(node.wrote(3), ["mine"]);
    assert_eq!(node.learned(), ["a", "b"]);
}

#[test]
fn rule_3_a_promise_tells_what_was_accepted_and_how_far_it_has_learned() {
    let mut node = Lone::member(3, 0);
    node.hear("1 Written 1 one");
    node.hear(&format!("1 Write 3 {} three", B[0][1]));
    node.take();
    node.hear(&format!("2 ProposeAll 1 {}", B[0][2]));
    let b = B[0][2];
    let told = [
        format!("0 PromiseNone 2 2 {b} 1"),
        format!("0 Promise 3 {b} {} three", B[0][1]),
        format!("0 PromiseNone 4 * {b} 1"),
    ];
    assert_eq!(node.take(), told);
    node.restart();
    node.take();
    node.hear(&format!("2 ProposeAll 1 {b}"));
    assert_eq!(node.take(), told, "also after a restart");
}

// Rule 4: accepting is also promising, and a promise is kept.

#[test]
fn rule_4_a_lower_write_is_refused_after_a_promise() {
    let mut node = Lone::member(3, 0);
    node.hear(&format!("2 ProposeAll 1 {}", B[1][2]));
    node.take();
    node.hear(&format!("1 Write 1 {} w", B[1][1]));
    assert_eq!(node.take(), [format!("0 NACK 1 {}", B[1][2])]);
}

#[test]
fn rule_4_a_lower_write_or_proposal_is_refused_after_a_higher_write() {
    let mut node = Lone::member(3, 0);
    for lives in 0..2 {
        node.hear(&format!("2 Write 1 {} v", B[1][2]));
        node.take();
        node.hear(&format!("1 Write 1 {} w", B[1][1]));
        node.hear(&format!("1 Write 2 {} w", B[1][1]));
        node.hear(&format!("1 ProposeAll 1 {}", B[1][1]));
        let refused = [1, 2, 1].map(|instance| format!("0 NACK {instance} {}", B[1][2]));
        assert_eq!(node.take(), refused, "life {lives}");
        node.restart();
    }
}

// Rule 5: nothing that a vote claims is sent before it is durable.

#[test]
fn rule_5_votes_wait_for_the_sync_and_count_here_only_then() {
    let mut node = Lone::member(3, 0);
    let ballot = B[0][1];
    let out = node.step_without_sync(&[
        &format!("1 ProposeAll 1 {ballot}"),
        &format!("1 Write 1 {ballot} x"),
        &format!("1 Accepts 1 1 {ballot}"),
    ]);
    let is_vote = |line: &String| line.contains("Promise") || line.contains("Accept");
    assert!(!out.early.iter().map(ToString::to_string).any(|line| is_vote(&line)), "{:?}", out.early);
    assert_eq!(out.after_sync.len(), 2);
    assert!(
        matches!(out.records[..], [Record::PromiseAll { .. }, Record::Accept { .. }]),
        "{:?}",
        out.records
    );
    assert_eq!(node.node.learned().0, 0, "its own vote does not count yet");
    node.finish(out);
    assert_eq!(node.learned(), ["x"]);
}

// Rule 6: a leader's ballot is durable before any other node sees it, and it is never used again.

#[test]
fn rule_6_nobody_sees_a_ballot_before_it_is_durable() {
    let mut node = Lone::member(3, 0);
    let out = node.run_without_sync();
    let ballot = node.node.ballot().expect("it runs").to_string();
    let shows = |line: &String| line.split(' ').skip(1).any(|word| word == ballot);
    assert!(!out.early.iter().map(ToString::to_string).any(|line| shows(&line)), "{:?}", out.early);
    assert!(out.after_sync.iter().map(ToString::to_string).any(|line| line.contains("ProposeAll")));
}

#[test]
fn rule_6_who_leads_on_after_a_change_refuses_nobody_with_a_ballot_that_is_not_durable() {
    let mut node = Lone::member(3, 2);
    let ballot = node.lead();
    node.hear("Change 7 1 1 leave 0");
    // Both lines arrive in one batch. The first chooses the change. In the second, node 1 asks for votes in the new
    // epoch.
    let out = node.step_without_sync(&[&format!("1 Accepts 1 1 {ballot}"), "1 ProposeAll 2 1:1"]);
    let own = node.node.ballot().expect("it leads on").to_string();
    assert!(out.after_sync.iter().any(|line| line.to_string() == format!("2 ProposeAll 2 {own}")));
    let shows = |line: &String| line.split(' ').any(|word| word == own);
    assert!(!out.early.iter().map(ToString::to_string).any(|line| shows(&line)), "{:?}", out.early);
}

#[test]
fn rule_6_a_later_life_starts_above_its_own_old_ballots() {
    let mut node = Lone::member(3, 0);
    let old = node.run();
    node.restart();
    let new = node.run();
    assert!(new > old, "{new} {old}");
}

// Rule 7: promises never regress, across any crash.

#[test]
fn rule_7_a_promise_outlives_a_crash() {
    let mut node = Lone::member(3, 0);
    node.hear(&format!("2 ProposeAll 1 {}", B[1][2]));
    node.restart();
    node.take();
    node.hear(&format!("1 ProposeAll 1 {}", B[1][1]));
    assert_eq!(node.take(), [format!("0 NACK 1 {}", B[1][2])]);
}

#[test]
fn rule_7_an_accept_is_kept_until_the_learned_value_is_durable() {
    let mut node = Lone::member(3, 0);
    node.hear(&format!("1 Write 1 {} x", B[0][1]));
    // The node learns the value and is asked to promise before the record of learning is synced.
    let accepts = format!("1 Accepts 1 1 {}", B[0][1]);
    let out = node.step_without_sync(&[&accepts, &format!("2 ProposeAll 1 {}", B[0][2])]);
    assert_eq!(node.node.learned().0, 1);
    let said: Vec<String> = out.after_sync.iter().map(ToString::to_string).collect();
    assert_eq!(said[0], format!("0 Promise 1 {} {} x", B[0][2], B[0][1]));
    assert_eq!(
        said[1],
        format!("0 PromiseNone 2 * {} 0", B[0][2]),
        "a learned instance counts when it is durable"
    );
}

// Rule 8: a node that lost its disk never votes again under the same identity.

#[test]
fn rule_8_a_peer_registers_one_incarnation_and_no_earlier_life() {
    let mut node = Lone::member(3, 0);
    node.take();
    for (line, answer) in [
        ("1 Register 3 777 1 9", "0 Barred 1 9 1001 1 501"),
        ("1 Register 3 1001 1 8", "0 Barred 1 8 1001 1 501"),
        ("1 Beat 3 1001 2 7 - 0 waits -\n1 Register 3 1001 2 7", "0 Registered 1 7"),
        ("1 Register 3 1001 1 501", "0 Barred 1 501 1001 2 7"),
    ] {
        node.hear(line);
        assert_eq!(node.take(), [answer], "{line}");
    }
    node.restart();
    node.take();
    node.hear("1 Register 3 777 5 9");
    assert_eq!(node.take(), ["0 Barred 1 9 1001 2 7"], "also after a restart");
}

#[test]
fn rule_8_a_member_of_five_votes_first_when_three_others_remember_it() {
    let mut node = Lone::new(5, 0);
    node.meet();
    node.take();
    for peer in 1..=3 {
        node.wait_for_objections();
        node.hear(&format!("1 ProposeAll 1 {}", B[0][1]));
        assert!(node.take().iter().all(|line| !line.contains("Promise")), "with {} others", peer - 1);
        node.hear(&format!("{peer} Registered 0 1"));
        node.hear(&format!("{peer} Registered 0 1"));
    }
    node.wait_for_objections();
    node.hear(&format!("1 ProposeAll 1 {}", B[0][1]));
    assert!(node.take().iter().any(|line| line.contains("PromiseNone")));
}

// Rule 9: a ballot belongs to an epoch and counts only there. No node uses an epoch before it has learned it.

#[test]
fn rule_9_votes_of_an_older_epoch_choose_nothing_above_the_change() {
    assert!(directed::votes_of_an_older_epoch_choose_nothing());
}

#[test]
fn rule_9_a_vote_in_an_epoch_waits_for_the_change_that_began_it() {
    let mut node = Lone::member(3, 2);
    node.hear("0 ProposeAll 2 1:0");
    assert!(!node.has_said("Promise"), "instance 1 is not learned yet");
    node.hear("0 Written 1 @group 0 0,2,3:77");
    node.hear("0 ProposeAll 2 1:0");
    assert!(node.has_said("2 PromiseNone 2 * 1:0 "));
}

#[test]
fn rule_9_a_ballot_of_an_older_epoch_gets_no_vote() {
    let mut node = Lone::member(3, 2);
    node.hear("0 Written 1 @group 0 0,2,3:77");
    node.hear(&format!("1 ProposeAll 1 {}", B[3][1]));
    node.hear(&format!("0 Write 2 {} x", B[3][0]));
    assert!(!node.has_said("Promise") && !node.has_said("Accepts"));
}

#[test]
fn rule_9_what_was_accepted_in_an_older_epoch_is_free() {
    let mut node = Lone::member(3, 2);
    node.hear("1 Write 2 65537 y");
    node.hear("0 Written 1 @group 0 0,2,3:77");
    let ballot = node.run();
    node.hear(&format!("0 PromiseNone 2 * 1:{ballot} 1"));
    assert!(node.node.is_leading());
    assert_eq!(node.wrote(2), [""; 0], "y was never chosen");
}

// Rule 10: an instance is reported only when all lower instances are learned. Beats report it only when it is
// durable.

#[test]
fn rule_10_what_is_chosen_above_a_gap_is_not_reported() {
    let mut node = Lone::member(3, 0);
    node.hear("1 Written 2 two");
    node.hear("Request 2");
    assert!(node.run_for(500).iter().all(|line| !line.contains("two")));
    node.hear("1 Written 1 one");
    assert_eq!(node.learned(), ["one", "two"]);
}

// Rule 11: an acknowledged request is in the log, and takes effect once per tag.

#[test]
fn rule_11_no_answer_on_the_leaders_own_accept() {
    let mut node = Lone::member(3, 0);
    let ballot = node.lead();
    node.hear("Submit 7 1 1 x\nRequest 0 y");
    let said = node.run_for(300);
    assert!(said.iter().all(|line| !line.contains("Done") && !line.contains("OK")), "{said:?}");
    node.hear(&format!("1 Accepts 1 2 {ballot}"));
    let said = node.take();
    assert!(said.contains(&"0 Done 1 1 7 1".into()) && said.contains(&"0 OK 2 y".into()), "{said:?}");
}

#[test]
fn rule_11_a_late_request_is_no_duplicate_of_an_earlier_higher_number() {
    let mut node = Lone::member(3, 0);
    node.hear("1 Written 1 @tag 7 5 1 five\n1 Written 2 @tag 7 3 1 three\n1 Written 3 @tag 7 5 1 five");
    for _ in 0..2 {
        assert_eq!(node.learned(), ["five", "three", "duplicate of 1"]);
        let ballot = node.lead();
        node.take();
        node.hear("Submit 7 5 1 five\nSubmit 7 4 1 four");
        assert_eq!(node.wrote(4), ["@tag 7 4 1 four"], "the table of tags is there in every life");
        assert!(node.take().contains(&"0 Done 1 1 7 5".into()), "ballot {ballot}");
        node.forget_wire();
        node.restart();
    }
}

// Rule 12: a vote without the value counts only for the value that was written in exactly that ballot.

#[test]
fn rule_12_a_range_of_accepts_takes_no_value_of_another_ballot() {
    let mut node = Lone::member(3, 0);
    node.hear(&format!("1 Write 1 {} old", B[0][1]));
    node.hear(&format!("1 Accepts 1 1 {}\n2 Accepts 1 1 {}", B[0][2], B[0][2]));
    assert_eq!(node.learned(), [""; 0]);
    assert!(node.run_for(300).contains(&"0 Gap 1 1".into()), "it fetches the value");
    node.hear("2 Chosen 1 1 2");
    assert_eq!(node.learned(), [""; 0]);
    node.hear(&format!("2 Write 1 {} new", B[0][2]));
    assert_eq!(node.learned(), ["new"]);
}

/// Node 3 was started with --classic by mistake, under the id of a member. It reads a run of blanks as one blank.
/// The value in its vote must not count as the written value.
#[test]
fn rule_12_a_vote_with_a_value_counts_for_nothing() {
    let mut node = Lone::new(5, 0);
    node.meet();
    node.hear(&format!("3 Accept 1 {} a b", B[0][1]));
    node.hear(&format!("1 Write 1 {} a  b", B[0][1]));
    node.hear(&format!("3 Accept 1 {} a b", B[0][1]));
    node.hear(&format!("3 Accept 1 {} a  b", B[0][1]));
    node.hear(&format!("1 Accepts 1 1 {}\n2 Accepts 1 1 {}", B[0][1], B[0][1]));
    assert_eq!(node.learned(), [""; 0], "two votes of five");
    node.hear(&format!("4 Accepts 1 1 {}", B[0][1]));
    assert_eq!(node.learned(), ["a  b"]);
    assert_eq!(node.node.dropped().classic_votes, 3);
}

/// The node of the test above votes for a value that a flipped bit has made unreadable here.
#[test]
fn rule_12_a_vote_with_a_value_mends_nothing() {
    let mut node = Lone::member(3, 2);
    node.hear(&format!("1 Write 1 {} a  b", B[1][1]));
    node.damage_value_at(1);
    node.restart();
    node.hear(&format!("0 Accept 1 {} a b", B[1][1]));
    node.take();
    node.hear(&format!("0 ProposeAll 1 {}", B[2][0]));
    let promised = format!("2 PromiseNone 2 * {} 0", B[2][0]);
    assert_eq!(
        node.take(),
        [promised],
        "it promises nothing for instance 1: the value that it accepted there is lost"
    );
}

#[test]
fn rule_12_a_leader_says_chosen_only_of_what_it_wrote() {
    let mut node = Lone::member(3, 0);
    let ballot = node.lead();
    node.hear("Request 0 a\nRequest 0 b\nRequest 0 c");
    // A later leader got another value chosen at instance 2. This node learns all three at once, when instance 1
    // arrives.
    node.hear("1 Written 3 c\n1 Written 2 other");
    node.take();
    node.hear("1 Written 1 a");
    let said: Vec<_> = node.take().into_iter().filter(|line| line.contains("Chosen")).collect();
    assert_eq!(said, [format!("0 Chosen 1 1 {ballot}"), format!("0 Chosen 3 3 {ballot}")]);
}

// Rule 13: nodes that have learned different values find that out, and name the first instance that differs.

#[test]
fn rule_13_a_log_that_a_quorum_disagrees_with_ends_its_node() {
    assert!(directed::a_log_that_a_quorum_disagrees_with_ends_its_node());
}

#[test]
fn a_read_is_never_done_by_an_older_read_that_a_new_leader_finds() {
    let mut node = Lone::member(3, 0);
    node.hear("Request 0");
    let ballot = node.run();
    node.hear(&format!("1 Promise 1 {ballot} {} @read 1 safe read older", B[0][1]));
    node.hear(&format!("1 PromiseNone 2 * {ballot} 0"));
    node.hear(&format!("1 Accepts 1 1 {ballot}"));
    assert_eq!(node.learned(), ["safe read older"]);
    node.hear(&format!("1 Accepts 2 2 {ballot}"));
    assert_eq!(
        node.learned(),
        ["safe read older", "safe read "],
        "the new read takes an instance of its own"
    );
}

#[test]
fn a_number_far_ahead_of_the_log_is_not_taken_up_until_the_log_has_grown() {
    let mut alone = Lone::member(1, 0);
    alone.run_for(2_000);
    alone.hear("Submit 7 2000000 1 x\nSubmit 8 1000000 1 y");
    let mut said = alone.take();
    said.extend(alone.run_for(100));
    assert!(said.contains(&"0 Busy 7 2000000 100".into()), "{said:?}");
    assert!(!alone.has_said("Refused 7"), "a copy of the request may be carried out later");
    assert_eq!(alone.node.value_at(Instance(1)), Some("y".into()));
}
