//! The example of the README, exactly as printed: three terminals, and a user with echo and a pipe.

mod live;

use std::env;
use std::process::Output;

use upaxos_testbed::hosts::{Host, Hosts, Node};

use live::group::{NODE, PATIENCE};
use live::{eventually, or_skip, programs};

/// Runs a shell on the one host that all share.
fn shell(hosts: &Hosts, script: &str) -> Output {
    let mut command = hosts.command(Host::Client, "sh");
    let path = format!("{}:{}", programs().display(), env::var("PATH").unwrap_or_default());
    command.args(["-c", script]).env("PATH", path).output().expect("a shell runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn start(hosts: &Hosts) -> [Node; 3] {
    start_with(hosts, "")
}

fn start_with(hosts: &Hosts, flags: &str) -> [Node; 3] {
    [0, 1, 2].map(|index: usize| {
        // The default directory is ./upaxos-ID. The hosts know it.
        let script = format!("cd '{}' && exec '{NODE}' -n 3 -i {index} {flags}", hosts.dir().display());
        Node::on(hosts, index, "sh").args(["-c", &script]).start().expect("a node starts")
    })
}

fn all_log(nodes: &[Node], text: &str) {
    for node in nodes {
        let found = node.wait_for_line(text, PATIENCE);
        assert!(found.is_ok(), "no line with {text:?} in\n{}", node.log());
    }
}

fn type_in(hosts: &Hosts, line: &str) {
    let output = shell(hosts, &format!("echo {line} | upaxos-send -a 127.0.0.1 -p 253"));
    assert!(output.status.success(), "{}", said(&output));
}

fn quit(hosts: &Hosts, nodes: [Node; 3]) {
    type_in(hosts, "quit");
    for mut node in nodes {
        assert!(node.wait_exit(PATIENCE).expect("it ends when asked").success(), "{}", node.log());
    }
}

#[test]
fn the_example_of_the_readme_works_as_it_stands() {
    let Some(hosts) = or_skip(Hosts::loopback()) else { return };
    let nodes = start(&hosts);
    all_log(&nodes, "may vote");
    for (value, instance) in ["one", "two", "three"].iter().zip(1..) {
        type_in(&hosts, &format!("Request 0 {value}"));
        all_log(&nodes, &format!("OK {instance} {value}"));
    }
    let answers = |node: &Node| node.log().matches("OK 2 two").count();
    let before = answers(&nodes[1]);
    type_in(&hosts, "Request 2");
    eventually("the question is answered in every log", || answers(&nodes[1]) > before);
    quit(&hosts, nodes);

    let nodes = start(&hosts);
    type_in(&hosts, "Request 2");
    all_log(&nodes, "OK 2 two");
    quit(&hosts, nodes);
}

#[test]
fn values_keep_their_bytes() {
    let Some(hosts) = or_skip(Hosts::loopback()) else { return };
    let nodes = start(&hosts);
    all_log(&nodes, "may vote");
    // Piped input is taken literally, with backslashes and bytes that are not text.
    let piped = shell(&hosts, r"printf 'Request 0  two  blanks \\n \377\n' | upaxos-send");
    assert!(piped.status.success(), "{}", said(&piped));
    // Tagged values may contain newlines, too.
    let tagged = shell(&hosts, "upaxos-send --wait \"Request 0 line\nline \\\\ end\"");
    assert_eq!(said(&tagged), "OK 2 line\\nline \\\\ end\n", "{}", nodes[0].log());
    let typed = shell(&hosts, r#"upaxos-repl -e 'Request 0 "a\nb"' -e 'Request 3'"#);
    assert!(said(&typed).contains(r"OK 3 a\nb"), "{}", said(&typed));
    quit(&hosts, nodes);

    let history = hosts.history(1).expect("the log can be read");
    let values: Vec<_> = history.values().map(|entry| entry.reads().as_bytes().to_vec()).collect();
    let expected: [&[u8]; 3] = [b" two  blanks \\n \xff", b"line\nline \\ end", b"a\nb"];
    assert_eq!(values, expected);
}

#[test]
fn reads_take_no_instance_where_nodes_or_clients_are_told_so() {
    let Some(hosts) = or_skip(Hosts::loopback()) else { return };
    let nodes = start_with(&hosts, "--fast-read");
    all_log(&nodes, "may vote");
    type_in(&hosts, "Request 0 one");
    all_log(&nodes, "OK 1 one");
    let answers = |node: &Node| node.log().matches("OK 1 one").count();
    let before = answers(&nodes[1]);
    type_in(&hosts, "Request 0");
    eventually("the read is answered in every log", || answers(&nodes[1]) > before);
    let fast =
        shell(&hosts, "upaxos-send --wait --fast Request 0; upaxos-repl -e fast; upaxos-repl --json -e fast");
    let said = said(&fast);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["Value 1 1 one", "Value 1 1 one"], "{said}");
    assert!(lines[2].contains(r#""outcome":"read","instance":1,"learned":1,"value":"one""#), "{said}");
    quit(&hosts, nodes);
    assert_eq!(hosts.history(1).expect("the log can be read").len(), 1);
}
