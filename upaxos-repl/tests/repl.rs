//! The program without a terminal, as scripts run it, against a fake node over UDP on loopback.

use std::io::Write;
use std::process::Output;

#[path = "../../tests/support/fake_node.rs"]
mod fake_node;

use upaxos_core::wire::Stance;

use fake_node::{FakeNode, Manners, status, stderr, stdout};

fn run(node: &FakeNode, args: &[&str], input: &str) -> Output {
    fake_node::run(env!("CARGO_BIN_EXE_upaxos-repl"), node, args, input.as_bytes())
}

const SCRIPT: &str = "# a comment\nRequest 0 one\n\nRequest 0 \"a\\nb\"\nRequest 0\nRequest 1\n";
const ANSWERS: &str = "OK 1 one\nOK 2 a\\nb\nOK 3 safe read a\\nb\nOK 1 one\n";

#[test]
fn piped_commands_are_answered_one_after_the_other() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &[], SCRIPT);
    assert_eq!(stdout(&output), ANSWERS, "{}", stderr(&output));
    assert_eq!(status(&output), 0);
}

#[test]
fn a_file_of_commands_is_carried_out() {
    let node = FakeNode::start(Manners::default());
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(SCRIPT.as_bytes()).expect("write it");
    let output = run(&node, &[file.path().to_str().expect("UTF-8")], "");
    assert_eq!((stdout(&output).as_str(), status(&output)), (ANSWERS, 0));
    assert_eq!(status(&run(&node, &["/nonexistent/commands"], "")), 1);
}

#[test]
fn a_line_without_an_end_in_sight_is_skipped_with_its_number_and_the_rest_is_carried_out() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &[], &format!("Request 0 one\n{}\nRequest 0 two\n", "x".repeat(40 << 20)));
    assert_eq!((stdout(&output).as_str(), status(&output)), ("OK 1 one\nOK 2 two\n", 2));
    assert!(stderr(&output).contains("line 2: more than 262028 bytes are no command"), "{}", stderr(&output));
}

#[test]
fn several_commands_may_be_given_and_exit_ends_them() {
    let node = FakeNode::start(Manners::default());
    let args = ["-e", "Request 0 one", "-e", "Request 0", "-e", "exit", "-e", "Request 0 two"];
    let output = run(&node, &args, "Request 0 not read");
    assert_eq!((stdout(&output).as_str(), status(&output)), ("OK 1 one\nOK 2 safe read one\n", 0));
}

#[test]
fn a_fast_read_takes_no_instance() {
    let node = FakeNode::start(Manners::default());
    let args = ["-e", "Request 0 one", "-e", "fast", "-e", "Request 0 two", "-e", "fast"];
    let output = run(&node, &args, "");
    assert_eq!(stdout(&output), "OK 1 one\nValue 1 1 one\nOK 2 two\nValue 2 2 two\n", "{}", stderr(&output));
}

#[test]
fn a_lost_request_is_sent_again_and_happens_once() {
    let node = FakeNode::start(Manners { deaf_to: 2, ..Manners::default() });
    let output = run(&node, &["--timeout", "20s", "-e", "Request 0 one", "-e", "Request 2"], "");
    assert_eq!(stdout(&output), "OK 1 one\nNotYet 2 1\n", "{}", stderr(&output));
    assert_eq!(status(&output), 3);
}

#[test]
fn exit_leaves_the_group_alone_and_quit_does_not() {
    let node = FakeNode::start(Manners::default());
    run(&node, &[], "exit\n");
    run(&node, &["-e", "bye"], "");
    assert!(node.requests().is_empty());
    assert_eq!(status(&run(&node, &["-e", "quit"], "")), 0);
    assert_eq!(node.requests(), [b"quit"]);
}

#[test]
fn a_typing_error_is_status_2_and_the_rest_is_carried_out() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &[], "reqest 0 one\nRequest 0 two\n");
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("line 1: ") && stderr(&output).contains("`Request 0 one`"));
    assert_eq!(stdout(&output), "OK 1 two\n");
}

#[test]
fn no_answer_is_status_3_and_without_a_quorum_5() {
    let silent = Manners { answers: false, ..Manners::default() };
    let node = FakeNode::start(silent.clone());
    let ask = ["--timeout", "300ms", "-e", "Request 0 one"];
    let output = run(&node, &ask, "");
    assert_eq!(status(&output), 3);
    assert!(stderr(&output).contains("no answer to `Request 0 one`"), "{}", stderr(&output));
    let node = FakeNode::start(Manners { stance: Some(Stance::Waits), ..silent });
    assert_eq!(status(&run(&node, &ask, "")), 5);
}

#[test]
fn a_refusal_is_status_4() {
    let node = FakeNode::start(Manners { refuses: Some("too busy"), ..Manners::default() });
    let output = run(&node, &["-e", "Request 0 one"], "");
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("too busy"));
}

#[test]
fn the_group_is_asked_who_its_members_are_and_changed() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["-e", "members", "-e", "leave 2", "-e", "replace 1 7 force"], "");
    assert_eq!(
        stdout(&output),
        "Members 0 0 0,1,2\nOK 1 leave 2\nOK 2 replace 1 7 force\n",
        "{}",
        stderr(&output)
    );
    let sent = node.requests();
    assert!(sent[0].starts_with(b"Change ") && sent[0].ends_with(b" 1 1 leave 2"), "{sent:?}");

    let node = FakeNode::start(Manners { refuses: Some("say `force`"), ..Manners::default() });
    let output = run(&node, &["-e", "leave 2"], "");
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("refused `leave 2`: say `force`"), "{}", stderr(&output));
}

#[test]
fn status_shows_who_leads_and_how_far_they_have_learned() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["-e", "Request 0 one", "-e", "status"], "");
    let expected = "OK 1 one\n\
                    node  member  does       ballot  learned  hears\n\
                    0     yes     leads      65536   1        1 2\n\
                    1     yes     is silent  -       -        -\n\
                    2     yes     is silent  -       -        -\n\
                    node 0 leads\n\
                    group 0000000000000001\n";
    assert_eq!((stdout(&output).as_str(), status(&output)), (expected, 0));

    let silent = FakeNode::start(Manners { stance: None, ..Manners::default() });
    let output = run(&silent, &["-e", "status"], "");
    assert_eq!(status(&output), 5);
    assert!(stdout(&output).contains("no node was heard"));
}

#[test]
fn status_asks_again_until_somebody_is_heard() {
    let node = FakeNode::start(Manners { is_slow: 2, ..Manners::default() });
    let output = run(&node, &["-e", "status"], "");
    assert!(stdout(&output).contains("node 0 leads"), "{}", stdout(&output));
    assert_eq!(status(&output), 0);
}

#[test]
fn a_classic_group_has_no_status() {
    let node = FakeNode::start(Manners { is_classic: true, stance: None, ..Manners::default() });
    let output = run(&node, &["--classic", "-e", "status", "-e", "Request 0 one"], "");
    let said = "upaxos-repl: a classic group tells nothing of its state: read it (`Request 0`), or look into the nodes' \
                logs\n";
    assert_eq!((stderr(&output).as_str(), status(&output)), (said, 2));
    assert_eq!(stdout(&output), "OK 1 one\n", "the rest is carried out");
}

#[test]
fn json_is_one_object_per_line() {
    let node = FakeNode::start(Manners { other: Some("kitchen"), ..Manners::default() });
    let output = run(&node, &["--json", "-e", "Request 0 \"\\xff\"", "-e", "status", "-e", "nonsense"], "");
    let text = stdout(&output);
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(objects[0]["value_hex"], "ff");
    assert_eq!(objects[1]["leader"], 0);
    assert_eq!(objects[1]["nodes"][0]["learned"], 1);
    assert_eq!(objects[1]["members"], serde_json::json!([0, 1, 2]));
    let others = serde_json::json!([{ "group": "0000000000000002", "name": "kitchen" }]);
    assert_eq!(objects[1]["others"], others);
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).expect("an object");
    assert!(error["error"].as_str().is_some_and(|error| error.contains("nonsense")));
    assert_eq!(status(&output), 2);
}

#[test]
fn a_classic_group_has_no_name() {
    let node = FakeNode::start(Manners::default());
    let output = run(&node, &["--classic", "--group", "kitchen", "-e", "Request 0 one"], "");
    assert_eq!(status(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("a classic group has no name; leave out one"), "{}", stderr(&output));
    assert!(node.requests().is_empty());
}
