//! Tags when the tables overflow. No request is carried out twice. No client gets `Refused` for a request that was
//! carried out.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/lone.rs"]
mod lone;

use upaxos_core::client::{Ask, Client, Outcome};
use upaxos_core::types::{Micros, NodeId};
use upaxos_core::wire::{self, Dialect, Line, Message};

use lone::Lone;

/// More clients than a node remembers, each with one write.
const MANY: u64 = 16_400;

fn alone() -> Lone {
    let mut lone = Lone::member(1, 0);
    lone.run_for(2_000);
    assert!(lone.node.is_leading());
    lone
}

/// `count` clients write, from client `first` on. The answers are discarded.
fn storm(lone: &mut Lone, first: u64, count: u64) {
    lone.hear_of_clients(first, first + count - 1);
    lone.take();
}

/// How many instances of the log have this value.
fn count(lone: &Lone, value: &str) -> usize {
    lone.learned().iter().filter(|learned| *learned == value).count()
}

#[test]
fn nothing_of_a_forgotten_client_is_carried_out_again_whatever_floor_it_names() {
    assert!(directed::nothing_below_a_session_made_anew_is_done_again());
}

#[test]
fn whoever_is_told_that_it_is_refused_is_not_served_by_a_copy_later() {
    assert!(directed::what_is_refused_for_want_of_room_is_never_done());
}

#[test]
fn what_a_leader_refuses_is_told_when_it_stands_in_the_log() {
    assert!(directed::what_the_log_does_not_refuse_is_not_told_as_refused());
}

#[test]
fn a_refusal_is_the_same_from_every_node_in_every_life_and_for_every_copy() {
    let mut lone = alone();
    lone.hear("Change 7 1 1 leave 0");
    let refusal =
        lone.take().into_iter().find(|said| said.contains(" Refused ")).expect("it is the only member");
    assert!(refusal.starts_with("0 Refused 7 1 cannot leave 0: node 0 is the only member"), "{refusal}");
    // The same tag again: as a copy, and for a request that could be carried out.
    for again in ["Change 7 1 1 leave 0", "Submit 7 1 1 v"] {
        lone.hear(again);
        assert_eq!(lone.take(), [refusal.as_str()], "{again}");
    }
    lone.restart();
    lone.run_for(2_000);
    lone.take();
    lone.hear("Submit 7 1 1 v");
    assert_eq!(lone.take(), [refusal.as_str()], "after a restart");
    assert_eq!(lone.learned().len(), 1, "the tag is used up: no other value was written");
    // A node that only learns the refusal gives the same answer.
    let mut other = Lone::member(3, 1);
    other.hear("0 Written 1 @refused 7 1 1 no");
    other.take();
    other.hear("Submit 7 1 1 v");
    assert!(other.run_for(100).iter().any(|said| said == "1 Refused 7 1 no"));
}

#[test]
fn what_no_node_takes_up_is_an_error_and_no_refusal_of_its_tag() {
    let mut lone = alone();
    lone.hear("Submit 7 1 9 v");
    assert_eq!(lone.take(), ["0 Error request 7 1: its floor is above its own number"]);
    lone.hear(&format!("Submit 7 1 1 {}", "x".repeat(60_001)));
    assert_eq!(lone.take(), ["0 Error request 7 1: the value is over the limit of 60000 bytes"]);
    lone.hear("Submit 7 1 1 v");
    assert!(lone.has_said("Done 1 1 7 1"), "a valid request with the same tag may be carried out");
}

#[test]
fn what_was_carried_out_long_ago_is_told_as_unknown_and_never_as_refused() {
    let mut lone = alone();
    let lines: Vec<_> = (2..=4_200).map(|seq| format!("Submit 9 {seq} 1 v{seq}")).collect();
    lone.hear(&lines.join("\n"));
    lone.take();
    lone.hear("Submit 9 2 1 v2");
    assert_eq!(lone.take(), ["0 Unknown 9 2"], "it was carried out");
    lone.hear("Submit 9 1 1 v1");
    assert_eq!(lone.take(), ["0 Unknown 9 1"], "it was not carried out, but no node remembers that");
    lone.hear("Submit 9 4200 1 v4200");
    assert_eq!(lone.take(), ["0 Done 4199 4199 9 4200"], "this one is remembered");
    assert_eq!((count(&lone, "v1"), count(&lone, "v2")), (0, 1));
    assert!(!lone.has_said("Refused"));
}

/// Connects clients to one node, in both directions, for 49 ms. Returns the outcomes of their requests.
fn serve(lone: &mut Lone, clients: &mut [Client]) -> Vec<Outcome> {
    let mut ended = Vec::new();
    for now in (1..50).map(Micros::from_millis) {
        // All clients send at once, so that an answer may be old when its client asks again.
        let asked: Vec<_> = clients.iter_mut().flat_map(|client| client.tick(now).send).collect();
        asked.iter().for_each(|line| lone.hear(&line.to_string()));
        for said in lone.take() {
            let Ok(Line::Node(_, message)) = wire::parse_line(said.as_bytes(), Dialect::Extended) else {
                continue;
            };
            let settled = clients.iter_mut().flat_map(|client| client.on_message(NodeId(0), &message, now));
            ended.extend(settled.map(|settled| settled.outcome));
        }
    }
    ended
}

#[test]
fn new_clients_of_a_full_table_begin_in_one_round_however_many_come_at_once() {
    let mut lone = alone();
    storm(&mut lone, 1, MANY);
    let told_to_begin =
        |lone: &Lone| lone.said().filter(|said| matches!(said, Message::Forgotten { .. })).count();
    let before = told_to_begin(&lone);
    let mut clients: Vec<_> = (0..256).map(|id| Client::new((1 << 40) + id, Dialect::Extended)).collect();
    for client in &mut clients {
        client.ask(Ask::Write("s".into()), Micros(0), Micros(9_000_000)).expect("asks");
    }
    let ended = serve(&mut lone, &mut clients);
    assert_eq!(ended.iter().filter(|end| matches!(end, Outcome::Chosen { .. })).count(), 256);
    assert_eq!(count(&lone, "s"), 256);
    let rounds = told_to_begin(&lone) - before;
    assert_eq!(rounds, 256, "each client is told once where to begin");
}

#[test]
fn the_next_write_of_a_client_that_was_forgotten_while_idle_is_done_once() {
    let mut lone = alone();
    let mut client = [Client::new(1 << 40, Dialect::Extended)];
    client[0].ask(Ask::Write("first".into()), Micros(0), Micros(9_000_000)).expect("asks");
    assert!(matches!(serve(&mut lone, &mut client)[..], [Outcome::Chosen { .. }]));
    storm(&mut lone, 1, MANY + 600);
    client[0].ask(Ask::Write("next".into()), Micros(0), Micros(9_000_000)).expect("asks");
    assert!(matches!(serve(&mut lone, &mut client)[..], [Outcome::Chosen { .. }]));
    assert_eq!((count(&lone, "first"), count(&lone, "next")), (1, 1));
}

#[test]
fn a_client_that_reads_fast_a_million_times_can_still_write() {
    let mut client = [Client::new(5, Dialect::Extended)];
    let mut lone = alone();
    for _ in 0..(1u64 << 20) + 50 {
        client[0].ask(Ask::FastRead, Micros(0), Micros(0)).expect("asks");
        client[0].tick(Micros(1));
    }
    client[0].ask(Ask::Write("hello".into()), Micros(0), Micros(9_000_000)).expect("asks");
    assert!(matches!(serve(&mut lone, &mut client)[..], [Outcome::Chosen { .. }]));
}

#[test]
fn a_fast_read_without_a_number_for_the_log_that_finds_no_marks_is_to_be_asked_for_as_a_safe_one() {
    let mut lone = Lone::member(3, 2);
    lone.lead();
    lone.hear("FastRead 7 1000000000000000001 1");
    let said = lone.run_for(3_000);
    assert!(said.contains(&"2 Busy 7 1000000000000000001 0".into()), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("Write")), "the read takes no instance: {said:?}");
}

#[test]
fn a_change_of_the_group_that_comes_while_another_is_under_way_is_not_told_that_it_is_refused() {
    let mut lone = Lone::member(3, 2);
    let ballot = lone.lead();
    lone.hear("Change 7 1 1 leave 0 force");
    assert!(lone.take().iter().any(|said| said.starts_with("2 Write 1 ")), "the first change is in flight");
    lone.hear("Change 8 1 1 leave 1 force");
    assert_eq!(lone.take(), ["2 Busy 8 1 100"]);
    lone.hear(&format!("1 Accepts 1 1 {ballot}"));
    assert!(lone.has_said("Done 1 1 7 1"));
    assert!(!lone.has_said("Refused"));
}
