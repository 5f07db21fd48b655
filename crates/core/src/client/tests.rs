//! Tests of the client with messages and a clock that the tests control.

use super::*;
use crate::types::{Act, Ballot, Epoch, NodeId};
use crate::wire::{Beat, Boot, Pace, Stance, complete};

const PATIENCE: Micros = Micros::from_millis(2_000);

fn at(ms: u64) -> Micros {
    Micros::from_millis(ms)
}

fn write(value: &str) -> Ask {
    Ask::Write(value.into())
}

fn ask(client: &mut Client, what: Ask, now: Micros, patience: Micros) -> RequestId {
    client.ask(what, now, patience).expect("can be asked")
}

fn sent(client: &mut Client, ms: u64) -> Vec<String> {
    client.tick(at(ms)).send.iter().map(Line::to_string).collect()
}

fn done(first: u64, last: u64, client: u64, seq: u64) -> Message {
    Message::Done { first: Instance(first), last: Instance(last), client, seq }
}

fn chosen(instance: u64, value: &str) -> Outcome {
    Outcome::Chosen { instance: Instance(instance), value: value.into() }
}

#[test]
fn a_write_is_sent_again_under_the_same_tag_with_growing_waits_until_answered() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, write("one"), at(0), Micros::from_millis(60_000));
    let times: Vec<u64> = (0..6_000).filter(|ms| !sent(&mut client, *ms).is_empty()).collect();
    assert_eq!(times, [0, 100, 300, 700, 1_500, 3_100, 4_700], "doubled up to the cap");
    assert_eq!(client.next_deadline(at(0)), Some(at(6_300)));
    let settled = client.on_message(NodeId(0), &done(5, 5, 7, 1), at(6_000));
    assert_eq!(settled[0].outcome, chosen(5, "one"));
    assert_eq!(settled[0].took, at(6_000));
    assert!(client.is_idle());
    assert_eq!(client.next_deadline(at(0)), None);
}

#[test]
fn tags_count_up_and_the_floor_is_the_lowest_still_open() {
    let mut client = Client::new(7, Dialect::Extended);
    for value in ["a", "b", "c"] {
        ask(&mut client, write(value), at(0), PATIENCE);
    }
    assert_eq!(sent(&mut client, 0), ["Submit 7 1 1 a", "Submit 7 2 1 b", "Submit 7 3 1 c"]);
    client.on_message(NodeId(0), &done(4, 4, 7, 2), at(1));
    ask(&mut client, Ask::Read, at(1), PATIENCE);
    assert_eq!(sent(&mut client, 1), ["Read 7 4 1"], "1 is still open");
    client.on_message(NodeId(0), &done(3, 3, 7, 1), at(2));
    assert_eq!(sent(&mut client, 150), ["Submit 7 3 3 c", "Read 7 4 3"]);
    client.on_message(NodeId(0), &done(5, 5, 7, 3), at(160));
    client.on_message(
        NodeId(0),
        &Message::Answer { instance: Instance(6), client: 7, seq: 4, value: "safe read c".into() },
        at(160),
    );
    ask(&mut client, write("d"), at(161), PATIENCE);
    assert_eq!(sent(&mut client, 161), ["Submit 7 5 5 d"]);
}

#[test]
fn one_answer_settles_a_whole_range_of_requests() {
    let mut client = Client::new(7, Dialect::Extended);
    for value in ["a", "b", "c"] {
        ask(&mut client, write(value), at(0), PATIENCE);
    }
    let settled = client.on_message(NodeId(0), &done(11, 12, 7, 2), at(1));
    let outcomes: Vec<Outcome> = settled.into_iter().map(|settled| settled.outcome).collect();
    assert_eq!(outcomes, [chosen(11, "b"), chosen(12, "c")]);
    assert!(!client.is_idle(), "a is still open");
}

#[test]
fn answers_to_other_clients_and_other_kinds_of_requests_settle_nothing() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, write("a"), at(0), PATIENCE);
    ask(&mut client, Ask::Read, at(0), PATIENCE);
    ask(&mut client, Ask::History(Instance(9)), at(0), PATIENCE);
    let answer = |client, seq| Message::Answer { instance: Instance(1), client, seq, value: "x".into() };
    let refused = |client, seq| Message::Refused { client, seq, reason: "x".into() };
    for message in [
        done(1, 1, 8, 1),
        done(1, 1, 7, 2),
        done(u64::MAX, u64::MAX, 7, 0),
        answer(8, 2),
        answer(7, 1),
        refused(8, 1),
        refused(7, 3),
        Message::Ok { instance: Instance(8), value: "x".into() },
        Message::NotYet { instance: Instance(8), learned: Instance(4) },
    ] {
        assert_eq!(client.on_message(NodeId(0), &message, at(1)), [], "{message:?}");
    }
}

/// Request 2 waits, and the answer to request 1 is damaged so that it reads as the answer to both.
#[test]
fn one_damaged_bit_of_an_answer_deceives_no_client() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, write("one"), at(0), PATIENCE);
    ask(&mut client, write("two"), at(0), PATIENCE);
    sent(&mut client, 0);
    let mut view = View::new(Dialect::Extended);
    for answer in
        ["1 Done 1 1 7 1", "1 Answer 1 7 1 x", "1 OK 1 one", "1 Refused 7 1 no", "1 Forgotten 7 1 1"]
    {
        let mut datagram = format!("1 From 9 00000000000000ff\n{answer}").into_bytes();
        complete(&mut datagram);
        for bit in 0..8 * datagram.len() {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let settled = client.on_datagram(&damaged, &mut view, at(1));
            assert!(settled.is_empty(), "{:?}", String::from_utf8_lossy(&damaged));
        }
    }
    let mut datagram = b"1 From 9 00000000000000ff\n1 Done 1 1 7 1".to_vec();
    complete(&mut datagram);
    assert_eq!(client.on_datagram(&datagram, &mut view, at(1)).len(), 1);
}

#[test]
fn an_answer_that_comes_twice_settles_once() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, write("a"), at(0), PATIENCE);
    assert_eq!(client.on_message(NodeId(0), &done(1, 1, 7, 1), at(1)).len(), 1);
    assert_eq!(client.on_message(NodeId(0), &done(1, 1, 7, 1), at(1)).len(), 0);
}

#[test]
fn patience_ends_with_the_outcome_unknown_and_the_tag_is_never_sent_again() {
    let mut client = Client::new(7, Dialect::Extended);
    let ticket = ask(&mut client, write("a"), at(0), at(250));
    assert_eq!(sent(&mut client, 100).len(), 1);
    assert_eq!(client.next_deadline(at(0)), Some(at(200)));
    sent(&mut client, 200);
    assert_eq!(client.next_deadline(at(0)), Some(at(250)), "giving up comes before sending again");
    let turn = client.tick(at(250));
    let tag = Some(Tag { client: 7, seq: 1 });
    assert_eq!(turn.settled, [Settled { ticket, tag, outcome: Outcome::Unknown, took: at(250) }]);
    assert!(turn.send.is_empty() && client.is_idle());
    ask(&mut client, write("b"), at(300), PATIENCE);
    assert_eq!(sent(&mut client, 300), ["Submit 7 2 2 b"]);
}

#[test]
fn history_is_answered_by_any_learner_and_not_yet_is_an_answer() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, Ask::History(Instance(2)), at(0), PATIENCE);
    ask(&mut client, Ask::History(Instance(9)), at(0), PATIENCE);
    assert_eq!(sent(&mut client, 0), ["Request 2", "Request 9"]);
    let ok = Message::Ok { instance: Instance(2), value: "two".into() };
    assert_eq!(client.on_message(NodeId(0), &ok, at(1))[0].outcome, chosen(2, "two"));
    let (instance, learned) = (Instance(9), Instance(4));
    let settled = client.on_message(NodeId(0), &Message::NotYet { instance, learned }, at(1));
    assert_eq!(settled[0].outcome, Outcome::NotYet { instance, learned });
    let view = View::new(Dialect::Extended);
    assert_eq!(Status::after(&settled[0].outcome, &view, at(1)), Status::Unknown);
}

#[test]
fn a_fast_read_is_answered_without_an_instance_or_as_the_safe_read_that_it_became() {
    let mut client = Client::new(7, Dialect::Extended);
    for _ in 0..2 {
        ask(&mut client, Ask::Read.fast(), at(0), PATIENCE);
    }
    ask(&mut client, Ask::Read, at(0), PATIENCE);
    assert_eq!(
        sent(&mut client, 0),
        [
            format!("FastRead 7 {FIRST_FAST} 1"),
            format!("FastRead 7 {} 1", FIRST_FAST + 1),
            "Read 7 1 1".into()
        ]
    );
    let (instance, learned, client_id) = (Instance(5), Instance(9), 7);
    let value = |seq| Message::Value { instance, learned, client: client_id, seq, value: "a".into() };
    let settled = client.on_message(NodeId(0), &value(FIRST_FAST), at(1));
    assert_eq!(settled[0].outcome, Outcome::Read { instance, learned, value: "a".into() });
    assert_eq!(settled[0].outcome.to_line(), b"Value 5 9 a");
    assert_eq!(client.on_message(NodeId(0), &value(1), at(1)), [], "no answer to a safe read");
    let answer =
        |seq| Message::Answer { instance: Instance(10), client: 7, seq, value: "safe read a".into() };
    assert_eq!(
        client.on_message(NodeId(0), &answer(FIRST_FAST + 1), at(1))[0].outcome,
        chosen(10, "safe read a")
    );
}

#[test]
fn a_client_id_fits_the_wire() {
    let mut client = Client::new(u64::MAX, Dialect::Extended);
    ask(&mut client, Ask::Read, at(0), PATIENCE);
    let line = client.tick(at(0)).send.remove(0).to_bytes(Dialect::Extended);
    assert!(wire::parse_line(&line, Dialect::Extended).is_ok());
}

/// Delivers a line of a node, in the classic grammar.
fn says(client: &mut Client, line: &str) -> Vec<Settled> {
    client.on_datagram(line.as_bytes(), &mut View::new(Dialect::Classic), at(3))
}

/// Delivers a whole round, from its beginning on.
fn chosen_anew(client: &mut Client, instance: u64, value: &str) -> Vec<Settled> {
    let round = ["2 Propose I 2", "0 Promise I 2", "2 Promise I 2", &format!("2 Write I 2 {value}")];
    for line in round.map(|line| line.replacen('I', &instance.to_string(), 1)) {
        assert_eq!(says(client, &line), []);
    }
    says(client, &format!("2 OK {instance} {value}"))
}

#[test]
fn a_classic_answer_given_late_or_to_another_client_is_none() {
    let mut client = Client::new(7, Dialect::Classic);
    assert_eq!(chosen_anew(&mut client, 1, "deposit 5"), []);
    assert_eq!(chosen_anew(&mut client, 2, "safe read v1"), []);
    ask(&mut client, write("deposit 5"), at(0), PATIENCE);
    ask(&mut client, Ask::Read, at(0), PATIENCE);
    sent(&mut client, 0);
    assert_eq!(says(&mut client, "0 OK 1 deposit 5"), [], "the answer to the first one");
    assert_eq!(says(&mut client, "0 OK 2 safe read v1"), []);
    for line in
        ["1 Propose 1 4", "2 Promise 1 4 2 deposit 5", "1 Write 1 4 deposit 5", "1 Accept 1 4 deposit 5"]
    {
        assert_eq!(says(&mut client, line), []);
    }
    assert_eq!(says(&mut client, "0 OK 1 deposit 5"), [], "a node that catches up writes it again");
    assert_eq!(says(&mut client, "0 OK 9 deposit 5"), [], "no node was seen to propose it");
    assert_eq!(chosen_anew(&mut client, 3, "deposit 5")[0].outcome, chosen(3, "deposit 5"));
    assert_eq!(says(&mut client, "1 OK 3 deposit 5"), []);
    assert_eq!(chosen_anew(&mut client, 4, "safe read deposit 5").len(), 1);
}

#[test]
fn a_classic_instance_answers_one_write_of_its_words() {
    let mut client = Client::new(7, Dialect::Classic);
    ask(&mut client, write("deposit 5"), at(0), PATIENCE);
    ask(&mut client, write("deposit 5"), at(0), PATIENCE);
    sent(&mut client, 0);
    assert_eq!(chosen_anew(&mut client, 1, "deposit 5").len(), 1);
    assert_eq!(says(&mut client, "0 OK 1 deposit 5"), []);
    assert_eq!(chosen_anew(&mut client, 2, "deposit 5").len(), 1);
}

#[test]
fn a_classic_client_knows_its_words_as_classic_nodes_write_them() {
    for (asked, answered) in [("a\\b\\n\\", "a\\b\\n\\"), ("a   b", "a b"), (" a\tb\r", "a b"), ("@x", "@x")]
    {
        let mut client = Client::new(7, Dialect::Classic);
        ask(&mut client, write(asked), at(0), PATIENCE);
        assert_eq!(sent(&mut client, 0), [format!("Request 0 {answered}")]);
        let settled = chosen_anew(&mut client, 1, answered);
        assert_eq!(settled[0].outcome, chosen(1, answered), "{asked:?}");
    }
    let mut client = Client::new(7, Dialect::Classic);
    ask(&mut client, Ask::Read, at(0), PATIENCE);
    sent(&mut client, 0);
    assert_eq!(chosen_anew(&mut client, 1, "safe read").len(), 1, "nothing was written yet");
    assert_eq!(client.ask(write(" \t "), at(5), PATIENCE), Err(AskError::BlankInClassic));
}

#[test]
fn a_classic_group_is_asked_once_and_answers_in_words() {
    let mut client = Client::new(7, Dialect::Classic);
    let first = ask(&mut client, write("a"), at(0), PATIENCE);
    let second = ask(&mut client, write("a"), at(0), PATIENCE);
    ask(&mut client, Ask::Read, at(0), PATIENCE);
    assert_eq!(sent(&mut client, 0), ["Request 0 a", "Request 0 a", "Request 0"]);
    assert_eq!(sent(&mut client, 1_999), [""; 0], "what is sent again would happen again");
    let settled = [(1, "a"), (2, "a")].map(|(i, value)| chosen_anew(&mut client, i, value).remove(0).ticket);
    assert_eq!(settled, [first, second], "each answer settles one question");
    assert_eq!(chosen_anew(&mut client, 3, "safe read a").len(), 1);
    assert!(client.is_idle());
    assert_eq!(client.ask(write("a\nquit"), at(5), PATIENCE), Err(AskError::NotClassic));
}

#[test]
fn a_bare_ok_to_a_classic_write_is_no_answer() {
    let mut client = Client::new(7, Dialect::Classic);
    ask(&mut client, write("a"), at(0), PATIENCE);
    sent(&mut client, 0);
    for line in ["2 Propose 1 2", "2 Promise 1 2", "2 Write 1 2 a", "OK", "2 OK", "2 OK 1", "OK 1 a"] {
        assert_eq!(says(&mut client, line), [], "{line}: it does not say who answers what");
    }
    assert_eq!(says(&mut client, "2 OK 1 a")[0].outcome, chosen(1, "a"));
}

#[test]
fn a_proposal_with_text_behind_its_ballot_begins_a_round_for_a_client_too() {
    let mut client = Client::new(7, Dialect::Classic);
    ask(&mut client, write("a"), at(0), PATIENCE);
    sent(&mut client, 0);
    for line in ["2 Propose 1 2 another value", "0 Promise 1 2", "2 Promise 1 2", "2 Write 1 2 a"] {
        assert_eq!(says(&mut client, line), []);
    }
    assert_eq!(says(&mut client, "2 OK 1 a")[0].outcome, chosen(1, "a"));
}

#[test]
fn only_requests_can_be_asked() {
    assert_eq!(Ask::parse(b"Request 0 a\n\xff\\"), Ok(Ask::Write(b"a\n\xff\\"[..].into())));
    assert_eq!(Ask::parse(b"Request 0"), Ok(Ask::Read));
    assert_eq!(Ask::parse(b"Request 12"), Ok(Ask::History(Instance(12))));
    assert_eq!(Ask::parse(b"Request 3 x"), Err(AskError::Misplaced(Instance(3))));
    for line in ["quit", "Submit 7 1 1 x", "Request", "Request -1", "0 NACK 1 2", "request 0 a", ""] {
        assert!(matches!(Ask::parse(line.as_bytes()), Err(AskError::NotARequest(_))), "{line}");
    }
    let huge = [b"Request 0 ", vec![b'x'; 60_001].as_slice()].concat();
    assert!(matches!(Ask::parse(&huge), Err(AskError::TooLarge(_))));
}

#[test]
fn outcomes_print_as_one_line_that_keeps_every_byte() {
    let value = b"a\nb\\\xff"[..].into();
    let outcome = Outcome::Chosen { instance: Instance(3), value };
    assert_eq!(outcome.to_line(), b"OK 3 a\\nb\\\\\xff");
    let hostile = Outcome::Chosen { instance: Instance(3), value: "\u{1b}[2J".into() };
    assert!(!hostile.to_string().contains('\u{1b}'), "what people see cannot drive their terminal");
}

#[test]
fn the_worst_status_decides() {
    let worst = [Status::Done, Status::NoQuorum, Status::Refused, Status::Unknown].into_iter().max();
    assert_eq!(worst.map(Status::code), Some(5));
}

fn beat(stance: Stance, ballot: u64) -> Beat {
    let boot = Boot { incarnation: 1, start: 1, boot: 1 };
    let ballot = Some(Ballot::first_epoch(ballot));
    Beat { n: 3, boot, ballot, learned: Instance(0), stance, heard: vec![] }
}

#[test]
fn the_leader_is_the_highest_that_says_so_and_silent_nodes_are_forgotten() {
    let mut view = View::new(Dialect::Extended);
    assert_eq!(view.has_quorum(at(0)), None);
    view.on_message(NodeId(0), &Message::Beat(beat(Stance::Leads, 65_536)), at(0));
    view.on_message(NodeId(1), &Message::Beat(beat(Stance::Leads, 131_073)), at(500));
    view.on_message(NodeId(2), &Message::Beat(beat(Stance::Waits, 131_073)), at(600));
    assert_eq!(view.leader(at(700)), Some(NodeId(1)));
    assert_eq!(view.has_quorum(at(700)), Some(true));
    assert_eq!(view.has_quorum(at(1_550)), Some(false), "only node 2 is left, and it waits");
    assert!(view.explain_silence(at(1_550)).contains("node 2"));
    assert_eq!(Status::after(&Outcome::Unknown, &view, at(1_550)), Status::NoQuorum);
    assert_eq!(Status::after(&Outcome::Unknown, &view, at(700)), Status::Unknown);
    assert_eq!(view.has_quorum(at(2_000)), None);
}

#[test]
fn a_node_is_there_for_four_of_its_beats_however_slow_they_are() {
    let mut view = view();
    let pace = |every_ms| Message::Pace(Pace { every_ms, since: None });
    let is_there = |view: &View, ms| view.nodes(at(ms)).count() == 1;
    view.on_message(NodeId(0), &pace(2_000), at(0));
    view.on_message(NodeId(0), &Message::Beat(beat(Stance::Leads, 65_536)), at(0));
    assert!(!is_there(&view, 1_000), "a pace before the first beat belongs to no node");
    view.on_message(NodeId(0), &pace(2_000), at(0));
    view.on_message(NodeId(0), &Message::Differs { instance: Instance(7), node: NodeId(1) }, at(0));
    assert!(is_there(&view, 7_999) && view.differs(at(7_999)).count() == 1);
    assert!(!is_there(&view, 8_000) && view.differs(at(8_000)).count() == 0);
    view.on_message(NodeId(0), &Message::Beat(beat(Stance::Leads, 65_536)), at(2_000));
    assert!(is_there(&view, 9_999), "it keeps its pace from beat to beat");
    view.on_message(NodeId(0), &pace(u64::MAX), at(2_000));
    assert!(is_there(&view, 41_999) && !is_there(&view, 42_000), "no node beats more slowly than every 10 s");
}

#[test]
fn a_node_is_barred_that_says_so_of_its_own_life() {
    let mut view = view();
    let known = Boot { incarnation: 1, start: 1, boot: 1 };
    let barred = |node, boot| Message::Barred { node: NodeId(node), boot, known };
    let learns = beat(Stance::Learns, 65_536);
    view.on_message(NodeId(0), &Message::Beat(learns.clone()), at(0));
    view.on_message(NodeId(1), &barred(0, 1), at(0));
    view.on_message(NodeId(0), &barred(1, 1), at(0));
    view.on_message(NodeId(0), &barred(0, 9), at(0));
    assert_eq!(view.does(NodeId(0), &learns), "learns", "of others it is an objection, or of another life");
    view.on_message(NodeId(0), &barred(0, 1), at(0));
    view.on_message(NodeId(0), &Message::Beat(learns.clone()), at(100));
    assert_eq!(view.does(NodeId(0), &learns), "barred");
    let boot = Boot { incarnation: 1, start: 2, boot: 2 };
    view.on_message(NodeId(0), &Message::Beat(Beat { boot, ..learns.clone() }), at(200));
    assert_eq!(view.does(NodeId(0), &learns), "learns", "its next life has to be told first");
}

#[test]
fn a_second_process_under_an_id_is_told_and_hides_nothing_of_the_first() {
    let mut view = view();
    let follows = beat(Stance::Follows, 65_536);
    let twin = Beat { boot: Boot { incarnation: 5, start: 1, boot: 5 }, ..beat(Stance::Learns, 65_536) };
    let known = Boot { incarnation: 1, start: 1, boot: 1 };
    for ms in [0, 100, 200] {
        view.on_message(NodeId(0), &Message::Beat(follows.clone()), at(ms));
        assert_eq!(view.twins(at(ms)).count(), usize::from(ms > 0));
        view.on_message(NodeId(0), &Message::Beat(twin.clone()), at(ms + 50));
        view.on_message(NodeId(0), &Message::Barred { node: NodeId(0), boot: 5, known }, at(ms + 50));
        let (_, shown) = view.nodes(at(ms + 50)).next().expect("it is there");
        assert_eq!((shown, view.does(NodeId(0), shown)), (&follows, "follows"));
    }
    assert_eq!(view.twins(at(1_300)).count(), 0, "one of them was stopped");
}

#[test]
fn a_node_that_is_started_again_is_no_twin() {
    let mut view = view();
    view.on_message(NodeId(0), &Message::Beat(beat(Stance::Follows, 65_536)), at(0));
    for (ms, stance) in
        [(300, Stance::Learns), (400, Stance::Learns), (700, Stance::Follows), (800, Stance::Leads)]
    {
        let boot = Boot { incarnation: 1, start: 2, boot: 2 };
        view.on_message(NodeId(0), &Message::Beat(Beat { boot, ..beat(stance, 65_536) }), at(ms));
        assert_eq!(view.twins(at(ms)).count(), 0);
    }
    assert_eq!(view.leader(at(800)), Some(NodeId(0)));
}

fn forgotten(seq: u64, begin: u64) -> Message {
    Message::Forgotten { client: 7, seq, begin }
}

#[test]
fn a_first_request_that_meets_a_group_with_a_past_begins_above_it() {
    let mut client = Client::new(7, Dialect::Extended);
    client.ask(Ask::Write("a".into()), at(0), at(5_000)).expect("asks");
    assert_eq!(sent(&mut client, 0), ["Submit 7 1 1 a"]);
    assert_eq!(client.on_message(NodeId(0), &forgotten(1, 900), at(5)), []);
    assert_eq!(sent(&mut client, 5), ["Submit 7 1925 1925 a"]);
    assert_eq!(
        client.on_message(NodeId(0), &forgotten(1, 900), at(6)),
        [],
        "a late answer means nothing any more"
    );
}

#[test]
fn a_client_that_was_forgotten_while_it_was_idle_begins_a_new_session_by_itself() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, write("a"), at(0), PATIENCE);
    sent(&mut client, 0);
    assert_eq!(client.on_message(NodeId(0), &done(4, 4, 7, 1), at(1)).len(), 1);
    ask(&mut client, write("b"), at(10), PATIENCE);
    assert_eq!(sent(&mut client, 10), ["Submit 7 2 2 b"]);
    assert_eq!(
        client.on_message(NodeId(0), &forgotten(2, 900), at(15)),
        [],
        "it was sent once, and is answered now"
    );
    assert_eq!(sent(&mut client, 15), ["Submit 7 1925 1925 b"]);
    assert_eq!(client.on_message(NodeId(0), &done(9, 9, 7, 1_925), at(16))[0].outcome, chosen(9, "b"));
}

#[test]
fn every_request_of_a_forgotten_client_gets_a_number_of_its_own_in_the_new_session() {
    let mut client = Client::new(7, Dialect::Extended);
    for value in ["a", "b", "c"] {
        ask(&mut client, write(value), at(0), PATIENCE);
    }
    sent(&mut client, 0);
    assert_eq!(client.on_message(NodeId(0), &forgotten(2, 900), at(5)), []);
    let again = ["Submit 7 1925 1925 a", "Submit 7 1926 1925 b", "Submit 7 1927 1925 c"];
    assert_eq!(sent(&mut client, 5), again);
    ask(&mut client, write("d"), at(6), PATIENCE);
    assert_eq!(sent(&mut client, 6), ["Submit 7 1928 1925 d"]);
}

#[test]
fn what_may_have_been_done_before_it_was_forgotten_is_unknown_and_the_rest_is_asked_for_again() {
    let mut client = Client::new(7, Dialect::Extended);
    let old = ask(&mut client, write("a"), at(0), PATIENCE);
    sent(&mut client, 0);
    ask(&mut client, write("b"), at(120), PATIENCE);
    assert_eq!(sent(&mut client, 120), ["Submit 7 1 1 a", "Submit 7 2 1 b"]);
    let settled = client.on_message(NodeId(0), &forgotten(2, 900), at(125));
    let ended: Vec<_> = settled.iter().map(|settled| (settled.ticket, settled.outcome.clone())).collect();
    assert_eq!(ended, [(old, Outcome::Forgotten)]);
    assert_eq!(sent(&mut client, 125), ["Submit 7 1925 1925 b"]);
}

#[test]
fn what_nobody_remembers_is_unknown_at_once() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, write("a"), at(0), PATIENCE);
    sent(&mut client, 0);
    assert_eq!(client.on_message(NodeId(0), &Message::Unknown { client: 8, seq: 1 }, at(1)), []);
    let settled = client.on_message(NodeId(0), &Message::Unknown { client: 7, seq: 1 }, at(1));
    assert_eq!(settled[0].outcome, Outcome::Forgotten);
    assert_eq!(Status::after(&settled[0].outcome, &view(), at(1)), Status::Unknown);
}

fn busy(seq: u64, pause: u64) -> Message {
    Message::Busy { client: 7, seq, pause }
}

/// The times at which a client sends its request if every one is answered `Busy` at once.
fn sendings_while_busy(id: u64) -> Vec<u64> {
    let mut client = Client::new(id, Dialect::Extended);
    ask(&mut client, write("a"), at(0), at(20_000));
    let mut times = Vec::new();
    for ms in 0..19_000 {
        if !sent(&mut client, ms).is_empty() {
            times.push(ms);
            let busy = Message::Busy { client: id, seq: 1, pause: 100 };
            assert_eq!(client.on_message(NodeId(0), &busy, at(ms)), [], "it is no end");
            assert_eq!(client.on_message(NodeId(0), &busy, at(ms)), [], "nor when a second node says so");
        }
    }
    assert_eq!(client.tick(at(20_000)).settled[0].outcome, Outcome::Unknown);
    times
}

#[test]
fn a_busy_group_is_asked_again_later_and_later_and_the_end_is_unknown() {
    let times = sendings_while_busy(7);
    let pauses: Vec<u64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    for (nth, pause) in pauses.iter().enumerate() {
        let mean = (200 << nth.min(3)) as u64;
        assert!((mean / 2..=mean * 3 / 2).contains(pause), "{nth}: {pauses:?}");
    }
    assert!(pauses.len() < 20, "{pauses:?}");
    assert_eq!(times, sendings_while_busy(7), "the same from the same seed");
    assert_ne!(times, sendings_while_busy(9), "not all clients come back together");
}

#[test]
fn a_busy_request_keeps_its_tag_and_a_node_may_ask_for_a_longer_pause() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, write("a"), at(0), at(60_000));
    sent(&mut client, 0);
    client.on_message(NodeId(0), &busy(2, 3_000), at(1));
    client.on_message(NodeId(0), &busy(1, 3_000), at(1));
    assert_eq!(sent(&mut client, 1_500), [""; 0]);
    assert_eq!(sent(&mut client, 4_501), ["Submit 7 1 1 a"]);
    assert_eq!(client.on_message(NodeId(0), &done(4, 4, 7, 1), at(4_600))[0].outcome, chosen(4, "a"));
    ask(&mut client, write("b"), at(5_000), at(60_000));
    sent(&mut client, 5_000);
    client.on_message(NodeId(0), &busy(2, u64::MAX >> 1), at(5_000));
    assert_eq!(sent(&mut client, 13_000).len(), 1, "no number makes a client wait for ever");
}

#[test]
fn fast_reads_use_up_no_numbers_of_what_stands_in_the_log() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, Ask::FastRead, at(0), PATIENCE);
    ask(&mut client, Ask::FastQuery("q".into()), at(0), PATIENCE);
    ask(&mut client, write("a"), at(0), PATIENCE);
    let (first, second) = (FIRST_FAST, FIRST_FAST + 1);
    let fast = [format!("FastRead 7 {first} 1"), format!("FastQuery 7 {second} 1 q")];
    assert_eq!(sent(&mut client, 0), [&fast[0], &fast[1], "Submit 7 1 1 a"]);
    assert_eq!(client.on_message(NodeId(0), &done(4, 4, 7, 1), at(1)).len(), 1);
    let value = Message::Value {
        instance: Instance(4),
        learned: Instance(4),
        client: 7,
        seq: first,
        value: "a".into(),
    };
    assert_eq!(client.on_message(NodeId(0), &value, at(2)).len(), 1);
}

#[test]
fn a_fast_read_that_cannot_be_had_becomes_a_safe_read_with_a_number_of_the_log() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, Ask::FastRead, at(0), PATIENCE);
    ask(&mut client, Ask::FastQuery("q".into()), at(0), PATIENCE);
    sent(&mut client, 0);
    client.on_message(NodeId(0), &busy(FIRST_FAST, 0), at(50));
    client.on_message(NodeId(0), &busy(FIRST_FAST + 1, 0), at(50));
    assert_eq!(sent(&mut client, 50), ["Read 7 1 1", "Query 7 2 1 q"]);
    let answer = Message::Answer { instance: Instance(6), client: 7, seq: 1, value: "safe read c".into() };
    assert_eq!(client.on_message(NodeId(0), &answer, at(60))[0].outcome, chosen(6, "safe read c"));
}

#[test]
fn a_request_that_was_sent_twice_before_it_met_oblivion_is_not_sent_as_a_new_one() {
    let mut client = Client::new(7, Dialect::Extended);
    client.ask(Ask::Write("a".into()), at(0), at(5_000)).expect("asks");
    sent(&mut client, 0);
    assert_eq!(sent(&mut client, 150).len(), 1, "sent again");
    let settled = client.on_message(NodeId(0), &forgotten(1, 900), at(155));
    assert_eq!(settled[0].outcome, Outcome::Forgotten, "the first sending may have been carried out");
}

#[test]
fn a_change_of_the_group_carries_a_tag_and_is_answered_by_it() {
    let mut client = Client::new(7, Dialect::Extended);
    let change = Ask::parse(b"replace 2 7 force").expect("a change");
    ask(&mut client, change, at(0), PATIENCE);
    assert_eq!(sent(&mut client, 0), ["Change 7 1 1 replace 2 7 force"]);
    let settled = client.on_message(NodeId(0), &done(9, 9, 7, 1), at(5));
    assert_eq!(settled[0].outcome, chosen(9, "replace 2 7 force"));
    ask(&mut client, Ask::parse(b"leave 1").expect("a change"), at(5), PATIENCE);
    let refusal = Message::Refused { client: 7, seq: 2, reason: "no".into() };
    assert_eq!(
        Status::after(&client.on_message(NodeId(0), &refusal, at(6))[0].outcome, &view(), at(6)),
        Status::Refused
    );
}

#[test]
fn members_is_asked_without_a_tag_and_anybody_may_answer() {
    let mut client = Client::new(7, Dialect::Extended);
    ask(&mut client, Ask::parse(b"members").expect("a question"), at(0), PATIENCE);
    assert_eq!(sent(&mut client, 0), ["members"]);
    let members = vec![NodeId(0), NodeId(7)];
    let answer = Message::Members { epoch: Epoch(5), learned: Instance(41), members };
    let outcome = client.on_message(NodeId(0), &answer, at(1)).remove(0).outcome;
    assert_eq!(outcome.to_string(), "Members 5 41 0,7");
}

#[test]
fn a_classic_group_is_not_asked_who_its_members_are_nor_to_change() {
    let mut client = Client::new(7, Dialect::Classic);
    for line in ["members", "leave 2"] {
        let asked = client.ask(Ask::parse(line.as_bytes()).expect("an ask"), at(0), PATIENCE);
        assert_eq!(asked, Err(AskError::NoGroupInClassic));
    }
}

fn view() -> View {
    View::new(Dialect::Extended)
}

#[test]
fn nodes_that_only_learn_are_no_quorum_and_the_latest_epoch_tells_who_governs() {
    let mut view = view();
    view.on_message(NodeId(7), &Message::Beat(beat(Stance::Learns, 65_536)), at(0));
    assert_eq!(view.has_quorum(at(1)), Some(false));
    assert_eq!(view.explain_silence(at(1)), "no quorum: node 7 is there and may not vote: see its log");
    view.on_message(NodeId(8), &Message::Beat(beat(Stance::Learns, 65_536)), at(0));
    let all = "no quorum: nodes 7, 8 are there and none of them may vote: see their logs";
    assert_eq!(view.explain_silence(at(1)), all);
    view.on_message(NodeId(9), &Message::Beat(beat(Stance::Waits, 65_536)), at(0));
    let some = "no quorum: heard only of nodes 7, 8, 9, of which 7, 8 may not vote: see the logs";
    assert_eq!(view.explain_silence(at(1)), some);
    let members =
        |epoch, id| Message::Members { epoch: Epoch(epoch), learned: Instance(9), members: vec![NodeId(id)] };
    view.on_message(NodeId(0), &members(5, 0), at(0));
    view.on_message(NodeId(0), &members(3, 1), at(0));
    assert_eq!(view.members(), Some((Epoch(5), [NodeId(0)].as_slice())));
}

#[test]
fn an_outcome_is_read_as_it_was_written() {
    let (instance, learned, value) = (Instance(3), Instance(5), Value::from("a\n \\b "));
    let outcomes = [
        Outcome::Chosen { instance, value: value.clone() },
        Outcome::Chosen { instance, value: "".into() },
        Outcome::Read { instance, learned, value: value.clone() },
        Outcome::NotYet { instance, learned },
        Outcome::Members { epoch: Epoch(2), learned, members: vec![NodeId(0), NodeId(4)] },
        Outcome::Refused { reason: value },
        Outcome::Unknown,
    ];
    for outcome in outcomes {
        assert_eq!(Outcome::parse(&outcome.to_line()), Some(outcome));
    }
    assert_eq!(Outcome::parse(b"Unknown no node was heard"), Some(Outcome::Unknown));
    assert_eq!(Outcome::parse(b"OK 3"), None);
}

#[test]
fn a_question_is_read_as_it_was_written() {
    let change = Change { act: Act::Replace(NodeId(1), NodeId(4)), is_forced: true };
    let asks = [write("one\ntwo "), Ask::Read, Ask::History(Instance(9)), Ask::Change(change), Ask::Members];
    for ask in asks {
        assert_eq!(Ask::parse(&ask.to_line()), Ok(ask));
    }
}

#[test]
fn a_split_log_is_known_as_long_as_a_node_says_so() {
    let mut view = View::new(Dialect::Extended);
    let differs = |node| Message::Differs { instance: Instance(7), node: NodeId(node) };
    view.on_message(NodeId(2), &differs(1), at(0));
    view.on_message(NodeId(1), &differs(2), at(500));
    let differs = |now| view.differs(at(now)).collect::<Vec<_>>();
    assert_eq!(differs(1_400), [(NodeId(1), NodeId(2), Instance(7))]);
    assert!(differs(1_600).is_empty());
}
