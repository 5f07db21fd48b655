//! Fast reads: which values they may answer, and when they need a new round.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/group.rs"]
mod group;
#[path = "support/lone.rs"]
mod lone;

use group::Group;
use lone::Lone;

/// The nonce of the last request for marks among these lines.
fn nonce(said: &[String]) -> String {
    let asked = said.iter().rev().find_map(|line| line.split_once(" AskMark 0 "));
    asked.unwrap_or_else(|| panic!("no question for marks in {said:?}")).1.to_owned()
}

fn values(said: &[String]) -> Vec<&str> {
    said.iter().filter_map(|line| line.split_once(" Value ")).map(|(_, rest)| rest).collect()
}

fn asks(said: &[String]) -> usize {
    said.iter().filter(|line| line.contains(" AskMark ")).count()
}

/// A member of three whose turn it is to answer. It has learned one value.
fn reader() -> Lone {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 Written 1 one");
    lone.take();
    lone
}

/// Sends a fast read, and returns the nonce of its round.
fn asked(lone: &mut Lone, datagram: &str) -> String {
    lone.hear(datagram);
    nonce(&lone.take())
}

#[test]
fn marks_from_a_minority_do_not_answer() {
    let mut lone = Lone::member(5, 0);
    let round = asked(&mut lone, "FastRead 7 1 1");
    let mark = |from: u16| format!("{from} Mark 0 {round} 0");
    for from in [1, 1, 0, 9, 1] {
        lone.hear(&mark(from));
    }
    assert!(values(&lone.take()).is_empty(), "itself and node 1 are no quorum of five");
    lone.hear(&mark(3));
    assert_eq!(values(&lone.take()), ["0 0 7 1 "], "nothing was written");
}

#[test]
fn a_mark_for_an_earlier_life_answers_nothing() {
    assert!(directed::a_mark_for_an_earlier_life_answers_nothing());
}

#[test]
fn marks_of_an_older_epoch_answer_no_read() {
    assert!(directed::marks_of_an_older_epoch_answer_no_read());
}

#[test]
fn one_round_serves_all_reads_that_came_before_it_and_none_that_came_after() {
    let mut lone = reader();
    lone.hear("FastRead 7 1 1\nFastRead 7 2 1\nFastRead 8 1 1\nFastRead 7 1 1");
    let said = lone.take();
    assert_eq!(asks(&said), 1, "{said:?}");
    lone.hear("FastRead 7 3 1");
    assert_eq!(asks(&lone.take()), 0, "one round at a time");
    lone.hear(&format!("1 Mark 0 {} 1", nonce(&said)));
    let second = lone.take();
    assert_eq!(values(&second), ["1 1 7 1 one", "1 1 7 2 one", "1 1 8 1 one"]);
    lone.hear(&format!("2 Mark 0 {} 1", nonce(&said)));
    assert!(values(&lone.take()).is_empty(), "a mark of the first round does not count in the second");
    lone.hear(&format!("2 Mark 0 {} 1", nonce(&second)));
    assert_eq!(values(&lone.take()), ["1 1 7 3 one"]);
}

#[test]
fn a_mark_of_another_round_life_or_epoch_counts_for_nothing() {
    let mut lone = reader();
    let first = asked(&mut lone, "FastRead 7 1 1");
    lone.restart();
    lone.take();
    lone.hear("FastRead 7 1 1");
    // By now the node campaigns, so it leaves reads to the other nodes for a while.
    let round = nonce(&lone.run_for(80));
    assert_ne!(first, round, "no nonce is reused after a restart");
    let before: u64 = round.parse::<u64>().expect("a number") - 1;
    for mark in [format!("0 {first} 1"), format!("0 {before} 1"), format!("4 {round} 1")] {
        lone.hear(&format!("1 Mark {mark}"));
        assert!(values(&lone.take()).is_empty(), "{mark}");
    }
    lone.hear(&format!("1 Mark 0 {round} 1"));
    assert_eq!(values(&lone.take()), ["1 1 7 1 one"]);
}

#[test]
fn a_lost_mark_is_asked_for_again_in_the_same_round() {
    let mut lone = reader();
    let round = asked(&mut lone, "FastRead 7 1 1");
    let said = lone.run_for(100);
    assert!((2..=8).contains(&asks(&said)), "{said:?}");
    assert_eq!(nonce(&said), round);
    lone.hear(&format!("2 Mark 0 {round} 1"));
    assert_eq!(values(&lone.take()), ["1 1 7 1 one"]);
    assert_eq!(asks(&lone.run_for(1_000)), 0, "without a read there is no round");
}

#[test]
fn a_read_waits_until_everything_up_to_the_highest_mark_is_learned() {
    let mut lone = reader();
    let round = asked(&mut lone, "FastRead 7 1 1");
    lone.hear(&format!("2 Mark 0 {round} 3"));
    let said = lone.run_for(30);
    assert!(values(&said).is_empty());
    assert!(said.contains(&"0 Gap 2 3".to_owned()), "it asks for the missing instances: {said:?}");
    lone.hear("1 Written 2 two");
    assert!(values(&lone.take()).is_empty());
    lone.hear("1 Written 3 three");
    assert_eq!(values(&lone.take()), ["3 3 7 1 three"]);
}

#[test]
fn a_paused_reader_answers_nothing_stale() {
    let mut lone = reader();
    let round = asked(&mut lone, "FastRead 7 1 1");
    // The reader is paused while another node's write of `two` is acknowledged. Then it reads these queued
    // datagrams from its socket.
    lone.hear(&format!("1 Mark 0 {round} 1\n2 Mark 0 {round} 1\nFastRead 7 2 2"));
    let said = lone.take();
    assert_eq!(values(&said), ["1 1 7 1 one"], "asked before two was written");
    let round = nonce(&said);
    lone.hear(&format!("1 Mark 0 {round} 2"));
    assert!(values(&lone.take()).is_empty(), "asked after two was written");
    lone.hear("1 Written 2 two");
    assert_eq!(values(&lone.take()), ["2 2 7 2 two"]);
}

#[test]
fn a_mark_tells_of_what_was_accepted_and_is_not_learned_also_after_a_restart() {
    let mut lone = Lone::member(3, 1);
    lone.hear("0 Write 1 65536 one\n0 Write 3 65536 three");
    for _ in 0..2 {
        lone.take();
        lone.hear("2 AskMark 0 5\n2 AskMark 4 6");
        assert_eq!(lone.take(), ["1 Mark 0 5 3"], "no mark for an epoch that it does not know");
        lone.restart();
    }
    lone.hear("0 Written 1 one\n0 Written 2 two\n0 Written 3 three\n0 Written 4 four");
    lone.take();
    lone.hear("2 AskMark 0 7");
    assert_eq!(lone.take(), ["1 Mark 0 7 4"]);
}

#[test]
fn who_may_not_vote_gives_no_mark_and_may_read_by_the_marks_of_others() {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    lone.hear("1 AskMark 0 5\n1 Written 1 one");
    assert!(lone.take().iter().all(|line| !line.contains(" Mark ")));
    lone.hear("FastRead 7 1 1");
    let round = nonce(&lone.run_for(100));
    lone.hear(&format!("1 Mark 0 {round} 1"));
    assert!(values(&lone.take()).is_empty(), "its own mark does not count");
    lone.hear(&format!("2 Mark 0 {round} 1"));
    assert_eq!(values(&lone.take()), ["1 1 7 1 one"]);
}

#[test]
fn a_read_asked_in_an_old_group_is_asked_again_in_the_new_one() {
    let mut lone = reader();
    let round = asked(&mut lone, "FastRead 7 1 1");
    lone.hear(&format!("1 Mark 0 {round} 2"));
    // Node 1 had accepted a change of the group. The old quorum does not decide the instances after the change.
    lone.hear("1 Written 2 @group 0 0:1000,3:1003,4:1004");
    let said = lone.take();
    assert!(values(&said).is_empty(), "{said:?}");
    let again = said.iter().find_map(|line| line.strip_prefix("0 AskMark 2 "));
    let again = again.unwrap_or_else(|| panic!("asked in epoch 2: {said:?}"));
    assert_ne!(again, round);
    lone.hear(&format!("1 Mark 2 {again} 2\n3 Mark 0 {again} 2"));
    assert!(
        values(&lone.take()).is_empty(),
        "node 1 is no member any more, and node 3 speaks of the old epoch"
    );
    lone.hear(&format!("3 Mark 2 {again} 2"));
    assert_eq!(values(&lone.take()), ["1 2 7 1 one"]);
}

#[test]
fn a_fast_read_takes_no_instance_and_is_answered_once() {
    let mut group = Group::ready(3);
    group.say("Submit 7 1 1 one");
    group.run_for(100);
    group.say("FastRead 7 2 2");
    group.run_for(1_000);
    assert_eq!(
        values(&group.said(" Value ")),
        ["1 1 7 2 one"],
        "a node that overhears the answer sends none"
    );
    assert_eq!(group.reads(0), ["one"]);
    assert_eq!(group.said(" AskMark ").len(), 1);
}

#[test]
fn reads_do_not_depend_on_the_leader() {
    let mut group = Group::ready(3);
    group.say("Submit 7 1 1 one");
    group.run_for(100);
    let leader = group.leader().expect("it leads");
    group.crash(leader);
    group.say("FastRead 7 2 2");
    group.run_for(100);
    assert_eq!(values(&group.said(" Value ")), ["1 1 7 2 one"], "before another node leads");
}

#[test]
fn a_deposed_leaders_fast_read_never_misses_the_new_leaders_write() {
    let mut group = Group::ready(3);
    group.say("Submit 7 1 1 one");
    group.run_for(100);
    let old = group.leader().expect("it leads");
    group.filter = Box::new(move |from, to, _| (from == Some(old)) == (to == old));
    group.run_until("another leader", |group| group.leader() != Some(old));
    group.say("Submit 7 2 2 two");
    group.run_for(200);
    assert!(group.node(old).is_leading(), "it does not know that it was deposed");
    // The read reaches only the old leader, first while it is cut off, then with all links.
    group.tell(old, "FastRead 8 1 1");
    group.run_for(200);
    assert!(group.said(" Value ").is_empty());
    group.filter = Box::new(|_, _, _| true);
    group.run_for(2_000);
    let said = group.said(" 8 1 ");
    assert!(said.iter().any(|line| line.ends_with("8 1 two") || line.ends_with("safe read two")), "{said:?}");
    assert!(said.iter().all(|line| !line.ends_with("one")), "{said:?}");
}

#[test]
fn a_read_that_gets_no_marks_becomes_a_safe_read_exactly_once() {
    let mut group = Group::ready(3);
    group.filter = Box::new(|_, _, line| !line.to_string().contains(" Mark "));
    group.say("Submit 7 1 1 one");
    group.run_for(50);
    group.say("FastRead 7 2 2");
    for _ in 0..5 {
        group.run_for(300);
        group.say("FastRead 7 2 2");
    }
    group.filter = Box::new(|_, _, _| true);
    group.run_for(1_000);
    let answers = group.said(" Answer 2 7 2 safe read one");
    assert!(!answers.is_empty(), "{}", group.view());
    assert_eq!(group.reads(0), ["one", "safe read one"], "one instance, however often it was asked for");
    group.say("FastRead 7 2 2");
    group.run_for(100);
    assert!(
        group.said(" Answer 2 7 2 ").len() > answers.len(),
        "a retry gets the answer of the first request"
    );
    assert!(group.said(" Value ").is_empty());
}

#[test]
fn an_untagged_read_is_a_fast_one_where_nodes_are_told_so() {
    let mut group = Group::new(3);
    group.fast_read = true;
    (0..3).for_each(|id| group.start(id));
    group.run_until("a leader", |group| group.leader().is_some());
    group.say("Request 0");
    group.run_until("a safe read", |group| !group.said(" OK 1 safe read ").is_empty());
    group.say("Request 0 two");
    group.run_for(100);
    group.say("Request 0\nRequest 0");
    group.run_for(3_000);
    assert_eq!(
        group.said(" OK 2 two").len(),
        3,
        "one for the write and one for each read: {:?}",
        group.said(" OK ")
    );
    assert_eq!(
        group.reads(0),
        ["safe read ", "two"],
        "only the read before the first write took an instance"
    );
}
