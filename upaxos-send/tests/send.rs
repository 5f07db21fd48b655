//! The program as its users run it, against a fake node over UDP on loopback.

use std::process::Output;
use std::time::{Duration, Instant};

#[path = "../../tests/support/fake_node.rs"]
mod fake_node;

use upaxos_core::wire::Stance;

use fake_node::{FakeNode, Manners, status, stderr, stdout};

fn run(node: &FakeNode, args: &[&str], input: &[u8]) -> Output {
    fake_node::run(env!("CARGO_BIN_EXE_upaxos-send"), node, args, input)
}

#[test]
fn every_line_is_one_datagram_byte_for_byte() {
    let node = FakeNode::start(Manners::default());
    let input = b"Request 0 one\n\nhello  \xff\x00 \r\nlast without newline";
    let output = run(&node, &[], input);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let expected: [&[u8]; 3] = [b"Request 0 one", b"hello  \xff\x00 \r", b"last without newline"];
    assert_eq!(node.requests(), expected);
}

#[test]
fn a_message_is_one_datagram_with_its_newlines() {
    let node = FakeNode::start(Manners::default());
    assert_eq!(status(&run(&node, &["Request", "0", "a\nb"], b"ignored")), 0);
    assert_eq!(node.requests(), [b"Request 0 a\nb"]);
}

#[test]
fn ten_thousand_piped_lines_all_arrive_in_order() {
    let node = FakeNode::start(Manners { answers: false, ..Manners::default() });
    let lines: Vec<String> = (0..10_000).map(|i| format!("Request 0 value {i}")).collect();
    let output = run(&node, &[], lines.join("\n").as_bytes());
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let received = node.requests();
    assert_eq!(received.len(), lines.len());
    assert!(received.iter().zip(&lines).all(|(got, sent)| got == sent.as_bytes()));
}

#[test]
fn a_line_that_is_too_large_is_refused_with_its_number_and_the_rest_is_sent() {
    let node = FakeNode::start(Manners::default());
    let value = "x".repeat(60_001);
    let line = "y".repeat(65_508);
    let output = run(&node, &[], format!("one\nRequest 0 {value}\ntwo\n{line}\n").as_bytes());
    assert_eq!(status(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("line 2: a value of 60001 bytes"), "{said}");
    assert!(said.contains("line 4: 65508 bytes"), "{said}");
    assert_eq!(node.requests(), [b"one", b"two"]);
}

#[test]
fn a_line_without_an_end_in_sight_is_skipped_with_its_number_and_the_rest_is_sent() {
    let input = [b"Request 0 one\n".as_slice(), &vec![0; 40 << 20], b"\nRequest 0 two\n"].concat();
    for args in [&[][..], &["--wait"], &["--wait", "--json"]] {
        let node = FakeNode::start(Manners::default());
        let output = run(&node, args, &input);
        assert_eq!(status(&output), 1);
        let said = stderr(&output);
        let why = "more than 1048576 bytes do not fit a datagram; not sent";
        assert!(said.contains(why) && said.contains("line") && said.contains('2'), "{said}");
        let requests = node.requests();
        assert!(requests.len() == 2 && requests[1].ends_with(b"two"), "{requests:?}");
    }
}

#[test]
fn the_largest_legal_value_is_sent() {
    let node = FakeNode::start(Manners::default());
    let line = format!("Request 0 {}", "x".repeat(60_000));
    assert_eq!(status(&run(&node, &[], line.as_bytes())), 0);
    assert_eq!(node.requests(), [line.into_bytes()]);
}

#[test]
fn waiting_prints_the_answer_to_each_line_in_order() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["--wait"], b"Request 0 one\nRequest 0\nRequest 1\n");
    assert_eq!(stdout(&output), "OK 1 one\nOK 2 safe read one\nOK 1 one\n", "{}", stderr(&output));
    assert_eq!(status(&output), 0);
}

#[test]
fn a_fast_read_says_where_the_value_stands_and_how_far_was_learned() {
    let node = FakeNode::start(Manners::default());
    let output =
        run(&node, &["--wait", "--fast"], b"Request 0\nRequest 0 one\nRequest 0 two\nRequest 0\nRequest 1\n");
    assert_eq!(
        stdout(&output),
        "Value 0 0 \nOK 1 one\nOK 2 two\nValue 2 2 two\nOK 1 one\n",
        "{}",
        stderr(&output)
    );
    assert_eq!(status(&output), 0);
    assert_eq!(status(&run(&node, &["--fast", "Request", "0"], b"")), 2, "there is nothing to wait for");
}

#[test]
fn waiting_keeps_every_byte_of_a_value() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["--wait", "Request 0 a\nb\\n c  "], b"");
    assert_eq!(stdout(&output), "OK 1 a\\nb\\\\n c  \n");
}

#[test]
fn a_request_that_is_lost_is_sent_again_under_the_same_tag() {
    let node = FakeNode::start(Manners { deaf_to: 2, ..Manners::default() });
    let output = run(&node, &["--wait", "--timeout", "20s", "Request 0 one"], b"");
    assert_eq!((status(&output), stdout(&output).as_str()), (0, "OK 1 one\n"), "{}", stderr(&output));
    let sent = node.requests();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|datagram| *datagram == sent[0] && datagram.starts_with(b"Submit ")));
}

#[test]
fn no_answer_in_time_is_status_3_or_5_and_says_whether_anybody_was_there() {
    let deaf = Manners { answers: false, stance: Some(Stance::Waits), ..Manners::default() };
    let node = FakeNode::start(deaf);
    let start = Instant::now();
    let output = run(&node, &["--wait", "--timeout", "300ms", "Request 0 one"], b"");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(status(&output), 5);
    assert!(stderr(&output).contains("unknown: no quorum: heard only of node 0"), "{}", stderr(&output));

    let silent = FakeNode::start(Manners { answers: false, stance: None, ..Manners::default() });
    let output = run(&silent, &["--wait", "--timeout", "100ms", "Request 0 one"], b"");
    assert_eq!(status(&output), 3);
    assert!(stderr(&output).contains("no node was heard"), "{}", stderr(&output));
}

#[test]
fn a_refusal_is_status_4_with_the_nodes_reason() {
    let node = FakeNode::start(Manners { refuses: Some("too busy"), ..Manners::default() });
    let output = run(&node, &["--wait", "Request 0 one"], b"");
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("refused: too busy"), "{}", stderr(&output));
}

#[test]
fn changes_of_the_group_can_be_waited_for_and_who_governs() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["--wait"], b"leave 2\nmembers\n");
    assert_eq!(stdout(&output), "OK 1 leave 2\nMembers 0 1 0,1,2\n", "{}", stderr(&output));

    let node = FakeNode::start(Manners { refuses: Some("say `force`"), ..Manners::default() });
    let output = run(&node, &["--wait", "replace", "2", "7"], b"");
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("refused: say `force`"), "{}", stderr(&output));
}

#[test]
fn only_requests_can_be_waited_for() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["--wait"], b"quit\nRequest 3 x\nRequest 0 one\n");
    assert_eq!(status(&output), 2);
    let said = stderr(&output);
    assert!(
        said.contains("line 1: expected `Request 0 VALUE`") && said.contains("line 2: a write cannot choose"),
        "{said}"
    );
    assert_eq!(stdout(&output), "OK 1 one\n", "the rest is still asked");
}

#[test]
fn a_classic_group_is_asked_without_tags() {
    let node = FakeNode::start(Manners { is_classic: true, ..Manners::default() });
    let output = run(&node, &["--wait", "--classic"], b"Request 0 one\nRequest 1\n");
    assert_eq!(stdout(&output), "OK 1 one\nOK 1 one\n", "{}", stderr(&output));
    assert_eq!(node.requests(), [b"Request 0 one".to_vec(), b"Request 1".to_vec()]);
}

#[test]
fn json_is_one_object_per_line() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["--wait", "--json"], b"Request 0 \xff\nRequest 9\n");
    let text = stdout(&output);
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(objects[0]["outcome"], "chosen");
    assert_eq!(objects[0]["value_hex"], "ff");
    assert_eq!(objects[1]["outcome"], "not-yet");
    assert_eq!(objects[1]["learned"], 1);
    assert_eq!(status(&output), 3, "9 is not chosen yet");
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_sent() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["-a", "127.0.0.2", "x"], b"");
    assert_eq!(status(&output), 1);
    assert!(
        stderr(&output).starts_with("upaxos-send: cannot use address 127.0.0.2: "),
        "{}",
        stderr(&output)
    );
    assert_eq!(status(&run(&node, &["--timeout", "1s", "x"], b"")), 2, "a timeout needs --wait");
    let output = run(&node, &["--wait", "--timeout", "5", "members"], b"");
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("a number with a unit, such as 500ms"), "{}", stderr(&output));
    assert!(node.requests().is_empty());
}

#[test]
fn a_classic_group_has_no_name() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["--wait", "--classic", "--group", "kitchen", "Request", "0", "one"], b"");
    assert_eq!(status(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("a classic group has no name; leave out one"), "{}", stderr(&output));
    assert!(node.requests().is_empty());
}
