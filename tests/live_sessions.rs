//! Claims about the answers of real nodes to many clients at once: in a flood, and with more clients than a group
//! remembers.

mod live;

use upaxos_testbed::client::hex;
use upaxos_testbed::hosts::Client;

use live::any_hosts;
use live::group::{Group, PATIENCE};

/// How many clients a group remembers.
const REMEMBERED: u64 = 16_384;

/// Sends requests of other clients, many lines per datagram, and waits until they are sent.
fn flood(client: &mut Client, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    for datagram in lines.chunks(50) {
        let order = format!("say {}", hex(datagram.join("\n").as_bytes()));
        assert_eq!(client.call(&order, PATIENCE).expect("it is sent").text, "said");
    }
}

/// `count` new sessions write one value each. Returns the values and their outcomes.
fn sessions(client: &mut Client, first: usize, count: usize) -> Vec<(String, String)> {
    let value = |nth: usize| format!("session-{nth}");
    let mut asked = std::collections::BTreeMap::new();
    for nth in first..first + count {
        let question = hex(format!("Request 0 {}", value(nth)).as_bytes());
        let number = client.ask(&format!("as {nth} 20000000 {question}")).expect("the client runs");
        asked.insert(number, value(nth));
    }
    let mut ended = Vec::new();
    while !asked.is_empty() {
        let answer = client.next(PATIENCE).expect("an answer");
        let value = asked.remove(&answer.number).expect("an answer to a pending request");
        ended.push((value, answer.text));
    }
    ended
}

#[test]
fn in_a_flood_no_client_is_told_refused_and_what_was_acknowledged_is_there() {
    let Some(hosts) = any_hosts() else { return };
    let group = Group::start(hosts);
    let (mut client, mut other) = (group.client(), group.client());
    group.leader(&mut client);
    flood(&mut other, (1..=40_000).map(|seq| format!("Submit 77 {seq} 1 flood")));
    let ended = sessions(&mut client, 1, 60);
    assert!(ended.iter().all(|(_, text)| !text.contains("Refused")), "{ended:?}\n{}", group.logs());
    assert!(ended.iter().any(|(_, text)| text.contains(" OK ")), "{ended:?}\n{}", group.logs());
    let instance = |text: &str| text.split_once(" OK ")?.1.split(' ').next()?.parse().ok();
    let highest = ended.iter().filter_map(|(_, text)| instance(text)).max();
    group.learned(&mut client, 3, highest.expect("some were answered"));
    let logged: Vec<String> = group.history(0).into_values().map(|entry| entry.reads().to_string()).collect();
    for (value, text) in &ended {
        let times = logged.iter().filter(|logged| *logged == value).count();
        assert!(times == 1 || !text.contains(" OK "), "{value}, {text}: {times} times in the log");
    }
}

#[test]
fn when_more_clients_came_than_are_remembered_new_ones_begin_at_once() {
    let Some(hosts) = any_hosts() else { return };
    let group = Group::start(hosts);
    let mut client = group.client();
    group.leader(&mut client);
    for part in 0..17 {
        let first = 1_000_000 + part * 1_000;
        flood(&mut client, (first..first + 1_000).map(|name| format!("Submit {name} 1 1 other")));
        // Nodes turn away requests that arrive faster than they can be written. Once they had to forget a client,
        // they turn away new clients, too.
        group.learned(&mut client, 3, ((part + 1) * 990).min(REMEMBERED));
    }
    for round in 0..2 {
        let ended = sessions(&mut client, 1 + round * 64, 64);
        assert!(ended.iter().all(|(_, text)| text.contains(" OK ")), "{ended:?}\n{}", group.logs());
    }
}
