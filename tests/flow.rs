//! How many writes a leader has in flight, and how nodes treat requests beyond that.

#[path = "support/lone.rs"]
mod lone;

use upaxos_core::digest_write::Digest;
use upaxos_core::types::Value;

use lone::Lone;

/// Requests of client 7, from number `first` on, one per line.
fn requests(first: u64, count: u64) -> String {
    let lines: Vec<String> = (first..first + count).map(|seq| format!("Submit 7 {seq} 1 v{seq}")).collect();
    lines.join("\n")
}

/// The line in which node `by` names `count` requests of client 7 as writes.
fn named(by: u16, ballot: u64, first: u64, seq: u64, count: u64) -> String {
    let entries = (seq..seq + count).map(|seq| Value::from(format!("@tag 7 {seq} 1 v{seq}").as_str()));
    let digest = Digest::of(entries.collect::<Vec<_>>().iter());
    format!("{by} WriteTags {first} {} {ballot} {digest} 7 {seq} {count}", first + count - 1)
}

/// The highest instance that the leader has written so far.
fn written(said: &[String]) -> u64 {
    let field = |line: &str, at: usize| line.split(' ').nth(at).and_then(|text| text.parse().ok());
    let last = |line: &String| match line.split(' ').nth(1) {
        Some("Write") => field(line, 2),
        Some("WriteTags") => field(line, 3),
        _ => None,
    };
    said.iter().filter_map(last).max().unwrap_or(0)
}

#[test]
fn a_leader_has_so_much_under_way_and_goes_on_when_that_is_learned() {
    let mut node = Lone::member(3, 0);
    let ballot = node.lead();
    node.take();
    node.hear(&requests(1, 3000));
    assert_eq!(written(&node.take()), 1024);
    node.hear(&format!("1 Accepts 1 1024 {ballot}"));
    // After a round without losses the window grows by a quarter.
    assert_eq!(written(&node.take()), 1024 + 1280);
}

#[test]
fn less_is_under_way_after_a_loss() {
    let mut node = Lone::member(3, 0);
    let ballot = node.lead();
    node.hear(&requests(1, 3000));
    // No node answers. The leader writes again, and once more.
    assert!(node.run_for(40).iter().any(|line| line.starts_with("0 Write 1 ")));
    node.hear(&format!("1 Accepts 1 1024 {ballot}"));
    let more = written(&node.take()) - 1024;
    assert!((64..=512).contains(&more), "{more}");
}

#[test]
fn clients_of_a_full_leader_are_told_to_ask_again_but_not_all_of_them() {
    let mut node = Lone::member(3, 0);
    node.lead();
    for part in 0..20 {
        node.hear(&requests(1 + part * 1000, 1000));
    }
    assert!(node.node.is_full());
    let count = node.take().iter().filter(|line| line.starts_with("0 Busy 7 ")).count();
    assert!((1..=20 * 64).contains(&count), "{count}");
}

#[test]
fn who_does_not_lead_keeps_what_came_last_for_its_leader_may_name_it_and_floods_nobody() {
    let mut node = Lone::member(3, 1);
    node.hear("0 Beat 3 1000 1 500 65536 0 leads 1,2");
    for part in 0..20 {
        node.hear(&requests(1 + part * 1000, 1000));
    }
    assert!(!node.node.is_full());
    node.hear(&named(0, 65_536, 1, 19_000, 500));
    assert!(node.take().iter().any(|line| line == "1 Accepts 1 500 65536"));
    let said = node.run_for(3_000);
    assert!(
        !said
            .iter()
            .any(|line| line.contains("Busy") || line.contains("Refused") || line.starts_with("Submit")),
        "{:?}",
        &said[..9]
    );
}

#[test]
fn a_leader_takes_up_less_where_others_lack_what_it_names_and_more_again_later() {
    let mut node = Lone::member(3, 0);
    let ballot = node.lead();
    node.hear(&requests(1, 12_000));
    assert!(!node.node.is_full());
    node.hear(&format!("1 Fetch 1 100 {ballot}"));
    assert!(node.node.is_full());
    node.hear(&format!("1 Accepts 1 1024 {ballot}"));
    (0..2_000).for_each(|_| drop(node.run_for(1)));
    assert!(!node.node.is_full());
}

/// The node has accepted more than fits into one answer to phase 1. No node receives its own lines. So a candidate
/// with a bare quorum must also ask itself for the rest when it asks the others.
#[test]
fn a_candidate_that_has_accepted_more_than_one_answer_tells_leads_with_a_bare_quorum() {
    let mut lone = Lone::member(3, 0);
    let long = "x".repeat(60_000);
    for instance in 1..=40 {
        lone.hear(&format!("1 Write {instance} 65537 {long}"));
    }
    let ballot = lone.run();
    lone.hear(&format!("2 PromiseNone 1 * {ballot} 0"));
    assert!(!lone.node.is_leading(), "its own acceptor has reported only a part");
    lone.run_for(3_000);
    assert!(lone.node.is_leading() && lone.wrote(1) == [long.clone()] && lone.wrote(40) == [long]);
}

/// One acceptor sends a part of its promise and then falls silent. The candidate still asks the other acceptors for
/// the rest of theirs. It continues as long as they report more.
#[test]
fn an_acceptor_that_falls_silent_amid_its_promise_does_not_keep_the_others_from_telling_theirs() {
    let mut lone = Lone::member(5, 0);
    let ballot = lone.run();
    lone.hear(&format!("1 Promise 1 {ballot} 4 x"));
    lone.hear(&format!("2 Promise 1 {ballot} 4 x\n3 Promise 1 {ballot} 4 x"));
    let mut last = 1;
    for _ in 0..400 {
        let asked = lone
            .run_for(10)
            .iter()
            .filter_map(|line| {
                let first = line.strip_prefix("0 ProposeAll ")?.split(' ').next()?;
                first.parse::<u64>().ok()
            })
            .next_back();
        // Each answer reports one more instance. There are forty.
        if let Some(first) = asked.filter(|first| *first == last + 1) {
            last = first;
            for peer in [2, 3] {
                lone.hear(&match last {
                    40 => format!("{peer} PromiseNone 40 * {ballot} 0"),
                    _ => format!("{peer} Promise {last} {ballot} 4 x"),
                });
            }
        }
        if last == 40 {
            break;
        }
    }
    assert!(lone.node.is_leading(), "it has asked up to {last}");
}
