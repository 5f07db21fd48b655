//! Claims about fast reads of groups of real processes.

mod live;

use upaxos_testbed::hosts::{Answer, Client, Host, Hosts};

use live::group::{Group, PATIENCE};
use live::{any_hosts, or_skip};

/// The value that a read returned, and whether the read took no instance.
fn read(answer: &Answer) -> Option<(&str, bool)> {
    match answer.text.strip_prefix("Value ") {
        Some(rest) => Some((rest.splitn(3, ' ').nth(2)?, true)),
        None => Some((answer.chosen()?.1.strip_prefix("safe read ")?, false)),
    }
}

/// Writes one more value, and returns it.
fn write(client: &mut Client, count: &mut usize) -> String {
    *count += 1;
    let value = format!("value-{count}");
    let answer = client.call(&format!("Request 0 {value}"), PATIENCE).expect("an answer");
    assert!(answer.chosen().is_some(), "{answer:?}");
    value
}

#[test]
fn a_fast_read_sees_every_write_done_before_it_and_takes_no_instance() {
    let Some(hosts) = any_hosts() else { return };
    let group = Group::start(hosts);
    let (mut client, mut count) = (group.client(), 0);
    group.leader(&mut client);
    let mut fast = 0;
    for _ in 0..100 {
        let value = write(&mut client, &mut count);
        let answer = client.call("fast", PATIENCE).expect("an answer");
        let (found, is_fast) = read(&answer).unwrap_or_else(|| panic!("{answer:?}\n{}", group.logs()));
        assert_eq!(found, value, "{}", group.logs());
        fast += usize::from(is_fast);
    }
    // A busy machine may delay a mark beyond the timeout of a read.
    assert!(fast > 90, "only {fast} of 100 took no instance\n{}", group.logs());
    for _ in 0..300 {
        client.ask("fast").expect("the client runs");
    }
    for _ in 0..300 {
        let answer = client.next(PATIENCE).expect("an answer");
        assert_eq!(read(&answer).map(|(found, _)| found), Some("value-100"), "{answer:?}");
    }
}

#[test]
fn a_reader_that_was_stopped_misses_no_write_that_was_done_meanwhile() {
    let Some(group) = or_skip(Hosts::switched(3, 0)).map(Group::start) else { return };
    let (mut client, mut count) = (group.client(), 0);
    group.leader(&mut client);
    for round in 0..6 {
        write(&mut client, &mut count);
        let leader = group.leader(&mut client);
        // The first reader is the leader, so that one reader comes back in the belief that it leads.
        let reader = (leader + round) % 3;
        let others = (0..3).filter(|id| *id != reader);
        group.nodes[reader].pause();
        let value = write(&mut client, &mut count);
        // From here on only the reader receives from the client. It reads the request after all datagrams that it
        // missed.
        for other in others {
            group.hosts.cut(Host::Client, other).expect("links can be cut here");
        }
        client.ask("fast").expect("the client runs");
        group.nodes[reader].resume();
        let answer = client.next(PATIENCE).expect("an answer");
        assert_eq!(read(&answer).map(|(found, _)| found), Some(value.as_str()), "{}", group.logs());
        group.hosts.heal().expect("links can be healed");
    }
}
