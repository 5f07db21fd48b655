//! Schedules that random search does not find within a sensible budget. Each is a claim, true while it holds.

#![allow(dead_code, reason = "each test file uses a part")]

use std::rc::Rc;

use upaxos_core::digest_write::Names;
use upaxos_core::driver::{Action, Driver};
use upaxos_core::entry::Entry;
use upaxos_core::replica::{Config, Event, Limits, Outbox, Recovery, Replica};
use upaxos_core::types::{GroupId, Instance, Micros, NodeId, Tag, Tagged};
use upaxos_core::wire::{self, Dialect, Head, Message};
use upaxos_sim::double::Double;

use super::lone::{Life, Lone};

/// A write of another group's leader, or of a leader that lost its disk, is not accepted, although ids and ballots
/// coincide.
pub fn a_write_of_another_life_is_not_accepted() -> bool {
    Life::ALL.into_iter().all(|life| {
        let mut lone = Lone::member(3, 0);
        lone.take();
        lone.hear_from(life, "1 Write 1 65537 x");
        lone.hear("1 Write 1 65537 y");
        lone.take() == ["0 Accepts 1 1 65537"] && {
            lone.hear("2 Accepts 1 1 65537");
            lone.learned() == ["y"]
        }
    })
}

/// Votes of another group, or of a node that lost its disk, choose nothing and promise nothing.
pub fn a_vote_of_another_life_counts_for_nothing() -> bool {
    Life::ALL.into_iter().all(|life| {
        let mut lone = Lone::member(5, 0);
        lone.hear("1 Write 1 65537 x");
        lone.hear("1 Accepts 1 1 65537");
        lone.hear_from(life, "2 Accepts 1 1 65537\n3 Accepts 1 1 65537");
        let chooses = !lone.learned().is_empty();
        let mut lone = Lone::member(3, 0);
        let ballot = lone.run();
        lone.hear_from(life, &format!("1 PromiseNone 1 * {ballot} 0\n2 PromiseNone 1 * {ballot} 0"));
        !chooses && !lone.node.is_leading()
    })
}

/// A mark of another group, or of a node that lost its disk, answers no read.
pub fn a_mark_of_another_life_answers_nothing() -> bool {
    Life::ALL.into_iter().all(|life| {
        let mut lone = Lone::member(3, 0);
        lone.hear("1 Written 1 one");
        lone.hear("FastRead 7 1 1");
        let asked = lone.take().into_iter().find_map(|line| Some(line.split_once(" AskMark ")?.1.to_owned()));
        let round = asked.expect("it asks for marks");
        lone.hear_from(life, &format!("1 Mark {round} 1\n2 Mark {round} 1"));
        let is_answered = lone.has_said(" Value 1 1 7 1 one");
        lone.hear(&format!("1 Mark {round} 1"));
        !is_answered && lone.has_said(" Value 1 1 7 1 one")
    })
}

/// A `Chosen` of another group's leader, for a ballot of the same number, does not choose the value that was
/// written here.
pub fn chosen_of_another_life_is_not_believed() -> bool {
    Life::ALL.into_iter().all(|life| {
        let mut lone = Lone::member(3, 0);
        lone.hear("1 Write 1 65537 x");
        lone.hear_from(life, "1 Chosen 1 1 65537");
        let believes = !lone.learned().is_empty();
        lone.hear("1 Chosen 1 1 65537");
        !believes && lone.learned() == ["x"]
    })
}

/// One damaged number in a datagram of a member, with the head that it should have, is not believed: the checksum
/// drops the datagram.
///
/// Of a, b and c, only a is chosen: the last instance in the leader's `Chosen` is damaged.
pub fn a_damaged_datagram_is_not_read() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 Write 1 65537 a\n1 Write 2 65537 b\n1 Write 3 65537 c");
    let sent = lone.datagram("1 Chosen 1 1 65537");
    let at = sent.len() - " 65537\nSum 00000000".len() - 1;
    let mut damaged = sent.clone();
    damaged[at] = b'3';
    lone.receive(&damaged);
    let believes = !lone.learned().is_empty();
    lone.receive(&sent);
    !believes && lone.learned() == ["a"]
}

/// A promise that the network duplicates counts once. Of five, its sender and the leader are no quorum.
///
/// Nodes 2, 3 and 4 accepted y in node 4's ballot: y is chosen. Node 0 is a candidate and has to write b. It
/// receives the empty promise of 1 twice, before 2 reports y.
pub fn a_repeated_promise_is_one_promise() -> bool {
    let mut lone = Lone::member(5, 0);
    lone.hear("4 NACK 1 4");
    lone.hear("Request 0 b");
    let ballot = lone.run();
    lone.hear(&format!("1 PromiseNone 1 * {ballot} 0"));
    lone.hear(&format!("1 PromiseNone 1 * {ballot} 0"));
    if lone.node.is_leading() {
        return false;
    }
    lone.hear(&format!("2 Promise 1 {ballot} 4 y\n2 PromiseNone 2 * {ballot} 0"));
    lone.node.is_leading() && lone.wrote(1) == ["y"] && lone.wrote(2) == ["b"]
}

/// If promises report two values, the one of the higher ballot is written. That value may be chosen, the other is
/// not.
///
/// In replica 3's ballot, only one acceptor accepted u. Node 4's quorum had not heard of that: 3, 4 and another
/// accepted w, which is chosen. Node 0 has to write b. It hears of both values, from either sender and in either
/// order.
pub fn the_higher_of_two_ballots_that_promises_tell_of_wins() -> bool {
    let is_kept = |has_w: u16, order: [u16; 2]| {
        let mut lone = Lone::member(5, 0);
        lone.hear("4 NACK 1 4");
        lone.hear("Request 0 b");
        let ballot = lone.run();
        for from in order {
            let accepted = if from == has_w { "4 w" } else { "3 u" };
            lone.hear(&format!("{from} Promise 1 {ballot} {accepted}\n{from} PromiseNone 2 * {ballot} 0"));
        }
        lone.node.is_leading() && lone.wrote(1) == ["w"] && lone.wrote(2) == ["b"]
    };
    [[1, 2], [2, 1]].into_iter().all(|order| is_kept(1, order) && is_kept(2, order))
}

/// A lost part of a promise covers nothing. Its sender counts for no quorum until the part is sent again.
///
/// Nodes 1 and 2 accepted v at 2 in node 1's ballot: v is chosen. Node 0 has to write b. Of node 1's promise,
/// the middle line is lost, which reports v.
pub fn a_part_of_a_promise_that_was_lost_covers_nothing() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 NACK 1 2");
    lone.hear("Request 0 b");
    let ballot = lone.run();
    lone.hear(&format!("1 PromiseNone 1 1 {ballot} 0\n1 PromiseNone 3 * {ballot} 0"));
    let asked = format!("0 ProposeAll 2 {ballot}");
    if lone.node.is_leading() || !lone.run_for(300).contains(&asked) {
        return false;
    }
    lone.hear(&format!("1 Promise 2 {ballot} 1 v"));
    [lone.wrote(1), lone.wrote(2), lone.wrote(3)] == [["@noop"], ["v"], ["b"]]
}

/// Accepting is also promising: a late Write of a lower ballot does not replace a value that may be chosen.
///
/// 0 and 1 promise the first ballot, and W(0, w) is late. 0 and 2 promise the second. W(2, v) is accepted by 0 and
/// by 1, which never saw its proposal: v is chosen. Now W(0, w) reaches 1. Node 1 must refuse it. It must also
/// report v to the third leader, which hears from 1 and 2.
pub fn a_write_raises_the_promise_above_a_late_lower_write() -> bool {
    let mut lone = Lone::member(3, 1);
    lone.hear("0 ProposeAll 1 0");
    lone.hear("2 Write 1 2 v");
    lone.take();
    lone.hear("0 Write 1 0 w");
    if lone.take() != ["1 NACK 1 2"] {
        return false;
    }
    lone.hear("0 ProposeAll 1 65536");
    lone.take().contains(&"1 Promise 1 65536 2 v".into())
}

/// Votes of an older epoch choose nothing above the change that ended it.
///
/// Both peers of node 2 accepted y at 2 in epoch 0, before any node knew the value of 1. Then a change of the group
/// turns out to be chosen at 1. So the old group's votes at 2 do not count.
pub fn votes_of_an_older_epoch_choose_nothing() -> bool {
    let mut lone = Lone::member(3, 2);
    lone.hear("1 Write 2 65537 y");
    lone.hear("0 Accepts 2 2 65537");
    lone.hear("1 Accepts 2 2 65537");
    lone.hear("0 Written 1 @group 0 0,2,3:77");
    lone.node.learned() == Instance(1)
}

/// A node that has learned all lower instances reports the value of an instance. Votes of an older epoch do not
/// override it, even if they were counted first.
pub fn what_is_told_outweighs_votes_of_an_older_epoch() -> bool {
    let mut lone = Lone::member(3, 2);
    lone.hear("1 Write 2 65537 y");
    lone.hear("0 Accepts 2 2 65537");
    lone.hear("1 Accepts 2 2 65537");
    lone.hear("0 Written 2 z");
    lone.hear("0 Written 1 @group 0 0,2,3:77");
    lone.node.value_at(Instance(2)).is_some_and(|reads| reads == "z".into())
}

/// A mark that answered an older round covers no later write.
pub fn a_mark_of_an_older_round_answers_nothing() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 Written 1 one");
    lone.hear("FastRead 7 1 1");
    let asked = lone.take().into_iter().find_map(|line| Some(line.split_once(" AskMark ")?.1.to_owned()));
    let mark = format!("1 Mark {} 1", asked.expect("it asks for marks"));
    lone.hear(&mark);
    assert!(lone.has_said(" Value 1 1 7 1 one"), "the round is answered");
    lone.hear("FastRead 7 2 2");
    lone.hear(&mark);
    !lone.has_said(" Value 1 1 7 2 one")
}

/// A classic node that finds an old chosen value after an absence answers no client with it.
///
/// The first `deposit 5` was chosen and answered long ago. Node 0 has missed it, hears the second, and finds the
/// first. It must not answer `OK 1 deposit 5` to the second, which is still pending.
pub fn a_classic_node_answers_nobody_with_what_it_found() -> bool {
    // The last line only lets time pass, in which an answer would be sent.
    let lines = ["Request 0 deposit 5", "1 Promise 1 0 2 deposit 5", "1 Accept 1 0 deposit 5", "quit"];
    finds_what_is_old(&[0, 1, 2, 900_000], &lines, "0 Write 1 0 deposit 5")
}

/// The same, when a duplicate of the first `deposit 5`'s proposal arrives after the second request. The duplicate
/// alone does not make the found value new.
pub fn a_proposal_that_comes_again_makes_nothing_new() -> bool {
    let lines = [
        "Request 0 deposit 5",
        "2 Propose 1 2",
        "quit",
        "1 Promise 1 3 2 deposit 5",
        "1 Accept 1 3 deposit 5",
        "quit",
    ];
    finds_what_is_old(&[0, 1, 500_000, 500_001, 500_002, 1_500_000], &lines, "0 Write 1 3 deposit 5")
}

/// An unheard promise may have reported an old value to the proposer. Node 1 asks for promises after `deposit 5`
/// was heard, and writes it. Node 0 hears neither its promise nor that of node 2, and so does not answer. It
/// answers only when it has heard that a quorum knew of no value.
pub fn what_a_promise_that_was_not_heard_may_have_told_is_no_answer() -> bool {
    let answers = |promises: &[&str]| {
        let before = ["Request 0 deposit 5", "1 Propose 1 4"];
        let after = ["1 Write 1 4 deposit 5", "1 Accept 1 4 deposit 5", "quit"];
        let lines: Vec<&str> = before.iter().chain(promises).chain(&after).copied().collect();
        let times: Vec<u64> = (0..lines.len() as u64 - 1).chain([900_000]).collect();
        let (node, said) = hears_classic(&times, &lines);
        assert_eq!(node.learned(), Instance(1), "it has learned the first");
        said.iter().any(|line| line == "0 OK 1 deposit 5")
    };
    !answers(&[]) && answers(&["2 Promise 1 4"])
}

/// An untagged write, and the same text found in phase 1. The found text may belong to another client, which was
/// already answered. It carries out the request only if the node saw it written after it received the request.
pub fn the_same_words_found_in_phase_1_carry_out_no_request_that_came_later() -> bool {
    let wrote = |before: &str| {
        let mut lone = Lone::member(3, 0);
        lone.hear("2 NACK 1 2");
        lone.hear(before);
        let ballot = lone.run();
        lone.hear(&format!("1 Promise 1 {ballot} 2 b\n1 PromiseNone 2 * {ballot} 0"));
        assert!(lone.node.is_leading() && lone.wrote(1) == ["b"]);
        lone.wrote(2)
    };
    wrote("Request 0 b") == ["b"] && wrote("Request 0 b\n2 Write 1 2 b") == [""; 0]
}

/// Classic node 0 hears these lines at these times, writes the value that it finds, and learns instance 1. Returns
/// whether it then answers no client and still proposes the pending request.
fn finds_what_is_old(times: &[u64], lines: &[&str], writes: &str) -> bool {
    let (node, said) = hears_classic(times, lines);
    assert!(said.iter().any(|line| line == writes), "it goes on with what it found: {said:?}");
    assert_eq!(node.learned(), Instance(1), "it has learned the first");
    !said.iter().any(|line| line.contains(" OK ")) && said.contains(&"0 Propose 2 0".to_owned())
}

/// Classic node 0 of three hears these lines at these times. Returns the node and the lines that it sent.
fn hears_classic(times: &[u64], lines: &[&str]) -> (Replica, Vec<String>) {
    let config = Config { classic: true, ..Config::member(NodeId(0), 3) };
    let mut node = Recovery::new(config).finish(1000, 1);
    let mut out = Outbox::new(NodeId(0));
    let mut said = Vec::new();
    for (text, now) in lines.iter().zip(times) {
        let line = wire::parse_line(text.as_bytes(), Dialect::Classic).expect("a line of the wire");
        let speaker = node.hear(&Head::default(), Micros(*now), &mut out);
        node.handle(Micros(*now), speaker, line, &mut out);
        node.tick(Micros(*now), &mut out);
        let mut driver = Driver::new();
        loop {
            match driver.next(&mut node, Micros(*now), &mut out) {
                Action::Broadcast(lines) => said.extend(lines.all().iter().map(ToString::to_string)),
                Action::Idle(_) => break,
                _ => {}
            }
        }
    }
    (node, said)
}

/// If the last accepted value is lost, an earlier accepted one does not take its place. It was replaced, and to
/// report it would hide a value that may be chosen.
pub fn a_lost_value_leaves_nothing_older_in_its_place() -> bool {
    let mut lone = Lone::member(3, 2);
    lone.hear("0 Write 2 65536 x");
    lone.hear("1 Write 2 65537 y");
    lone.damage_last_values_at(2, 1);
    lone.restart();
    lone.take();
    lone.hear("0 ProposeAll 1 131072");
    lone.take() == ["2 PromiseNone 1 1 131072 0", "2 PromiseNone 3 * 131072 0"]
}

/// Only a copy from the lost ballot is the lost value. A write in a higher ballot gets a vote as usual. The vote is
/// a promise: a lower write does not replace the value.
pub fn a_vote_where_a_value_was_lost_raises_the_promise() -> bool {
    let mut lone = lone_without_its_value();
    lone.hear("0 Write 2 131072 z");
    let has_voted = lone.take() == ["2 Accepts 2 2 131072"];
    lone.hear("1 Write 2 65537 y");
    has_voted && lone.take() == ["2 NACK 2 131072"]
}

/// A node that votes for a write by digest holds all of its values. That the first named value was written here in
/// full proves nothing about the others.
pub fn a_vote_for_what_is_named_is_for_all_of_it() -> bool {
    let stored = |seq, text: &str| {
        let tag = Tag { client: 7, seq };
        (tag, Entry::Tagged(Tagged { tag, floor: 1 }, text.into()).encode(Dialect::Extended))
    };
    let writes = [stored(1, "one"), stored(2, "two")];
    let digest = Names::of(&writes).digest;
    let mut lone = Lone::member(3, 0);
    lone.hear(&format!("1 Write 1 65537 {}", writes[0].1));
    lone.hear(&format!("1 WriteTags 1 2 65537 {digest} 7 1 2"));
    assert!(lone.has_said("0 Accepts 1 1 65537"), "it holds the first");
    !lone.has_said("0 Accepts 1 2 65537") && !lone.has_said("0 Accepts 2 2 65537")
}

/// Of three, both peers must remember a member before its first vote. If one were enough, a lost disk and its
/// replacement might each find one peer.
pub fn a_founder_votes_first_when_enough_peers_remember_it() -> bool {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    lone.hear("1 Registered 0 1");
    lone.wait_for_objections();
    if lone.node.is_voter() {
        return false;
    }
    lone.hear("2 Registered 0 1");
    lone.wait_for_objections();
    lone.node.is_voter()
}

/// A member's id with another directory is not registered by a peer that remembers the first directory.
pub fn a_second_incarnation_is_not_registered() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.take();
    lone.hear("1 Beat 3 8001 1 9 - 0 waits 0\n1 Register 3 8001 1 9");
    assert!(lone.has_said(" Barred 1 9 1001 ") || lone.has_said(" Registered 1 9"), "it is answered");
    !lone.has_said(" Registered 1 9")
}

/// A mark that answered a round of an earlier life covers no later write.
pub fn a_mark_for_an_earlier_life_answers_nothing() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 Written 1 one");
    lone.hear("FastRead 7 1 1");
    let asked = lone.take().into_iter().find_map(|line| Some(line.split_once(" AskMark ")?.1.to_owned()));
    let mark = format!("1 Mark {} 1", asked.expect("it asks for marks"));
    lone.restart();
    lone.forget_wire();
    lone.hear("FastRead 7 2 2");
    // It is a candidate by now, and so leaves reads to the others for a while.
    lone.run_for(80);
    assert!(lone.has_said(" AskMark "), "it asks anew");
    lone.hear(&mark);
    !lone.has_said(" Value ")
}

/// Marks of a quorum of the old group are void if the group changes before the read is answered. That quorum may
/// not know the new group's writes.
///
/// A quorum of the first group has marked up to 2. The node lacks 1 and 2. It then learns that 1 is a change of the
/// group, and that the old group's accepted value at 2 is chosen nowhere.
pub fn marks_of_an_older_epoch_answer_no_read() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.hear("FastRead 7 1 1");
    let asked = lone.take().into_iter().find_map(|line| Some(line.split_once(" AskMark ")?.1.to_owned()));
    lone.hear(&format!("1 Mark {} 2", asked.expect("it asks for marks")));
    lone.forget_wire();
    lone.hear("1 Written 1 @group 0 0:1000,3:1003,4:1004");
    lone.hear("1 Written 2 new");
    !lone.has_said(" Value ") && lone.has_said(" AskMark 1 ")
}

/// A beat shows no ballot before the ballot is durable. No node may see a ballot that the sender would use again
/// after a crash.
pub fn a_beat_shows_no_ballot_before_it_is_durable() -> bool {
    let mut lone = Lone::member(3, 0);
    let out = lone.run_without_sync();
    let early: Vec<String> = out.early.iter().map(ToString::to_string).collect();
    let ballot = lone.node.ballot().expect("it runs").number.to_string();
    assert!(out.needs_sync(), "its ballot is not durable");
    let shows = |line: &String| line.contains(" Beat ") && line.split(' ').nth(6) == Some(ballot.as_str());
    !early.iter().any(shows)
}

/// A candidate learns the instances that promises report as learned before it writes. Acceptors need no longer
/// report their accepted values there.
pub fn a_candidate_learns_what_promises_tell_of_before_it_writes() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 NACK 1 1");
    lone.hear("Request 0 b");
    let ballot = lone.run();
    lone.hear(&format!("1 PromiseNone 3 * {ballot} 2"));
    if lone.node.is_leading() || !lone.wrote(1).is_empty() {
        return false;
    }
    lone.hear("1 Written 1 x\n1 Written 2 y");
    lone.wrote(1).is_empty() && lone.wrote(2).is_empty() && lone.wrote(3) == ["b"]
}

/// A change of the group found in phase 1 is a fence, like any change. Values found above it are not written before
/// it is learned: if the change is valid, another group governs there.
pub fn nothing_is_written_above_a_change_that_phase_1_found() -> bool {
    let mut lone = Lone::member(3, 2);
    let ballot = lone.run();
    lone.hear(&format!("0 Promise 1 {ballot} 1 @group 0 0,1,2,3:77\n0 Promise 2 {ballot} 1 c2"));
    lone.hear(&format!("0 PromiseNone 3 * {ballot} 0"));
    assert!(lone.node.is_leading() && lone.wrote(1).len() == 1, "the change is written again");
    lone.hear("Request 0 b");
    lone.wrote(2).is_empty() && lone.wrote(3).is_empty()
}

/// A leaving member continues until a quorum of the others has durably learned the change. Until then, they may
/// need its vote and its values.
pub fn who_leaves_goes_on_until_a_quorum_has_the_change() -> bool {
    let mut lone = Lone::member(3, 2);
    lone.hear("0 Written 1 @group 0 0,1");
    let beats = |learned: u64| {
        let beat = |id: u16| format!("{id} Beat 3 {} 1 {} 1:0 {learned} waits 0,1,2", 1000 + id, 500 + id);
        format!("{}\n{}", beat(0), beat(1))
    };
    lone.hear(&beats(0));
    lone.run_for(50);
    if lone.has_left() {
        return false;
    }
    lone.hear(&beats(1));
    lone.run_for(50);
    lone.has_left()
}

/// A forgotten client is remembered as forgotten. None of its requests is carried out a second time.
pub fn what_a_forgotten_client_had_done_is_never_done_again() -> bool {
    let mut lone = Lone::member(3, 0);
    let clients = Limits::USUAL.sessions as u64 + 1;
    for client in 1..=clients {
        lone.hear(&format!("1 Written {client} @tag {client} 1 1 v"));
    }
    let again = clients + 1;
    lone.hear(&format!("1 Written {again} @tag 1 1 1 v"));
    assert_eq!(lone.node.learned(), Instance(again), "all of it is learned");
    lone.node.value_at(Instance(again)) != Some("v".into())
}

/// The second instance with a tag is void. It leaves the states of scripts unchanged.
pub fn a_duplicate_is_not_applied() -> bool {
    let hooks = Rc::new(Double::new(None));
    let mut node = Recovery::with_hooks(Config::member(NodeId(2), 3), hooks.clone()).finish(1000, 1);
    let mut out = Outbox::with_hooks(NodeId(2), hooks);
    let mut states = Vec::new();
    let head = Head { from: Some((NodeId(1), 1001)), group: Some(GroupId(1000)), name: None };
    let introduction = "1 Beat 3 1001 1 501 - 0 waits 2";
    node.hear(&head, Micros(0), &mut out);
    for line in [introduction, "1 Written 1 @tag 7 1 1 one", "1 Written 2 @tag 7 1 1 one"] {
        let line = wire::parse_line(line.as_bytes(), Dialect::Extended).expect("a line of the wire");
        let speaker = node.hear(&head, Micros(0), &mut out);
        node.handle(Micros(0), speaker, line, &mut out);
        node.tick(Micros(0), &mut out);
        states.push(node.state(0).expect("it has a script").clone());
    }
    assert_eq!(node.learned(), Instance(2), "both are learned");
    assert!(!states[1].is_empty(), "the first has an effect");
    states[1] == states[2]
}

/// An accepted value that can no longer be read is not "nothing". No promise covers its instance, so its node
/// counts towards no quorum there, until a peer shows the value that was written in that very ballot.
pub fn a_lost_value_is_never_promised_as_nothing() -> bool {
    let mut lone = lone_without_its_value();
    lone.hear("1 ProposeAll 1 131073");
    let said = lone.take();
    let expected = ["2 PromiseNone 1 1 131073 0", "2 PromiseNone 3 * 131073 0"];
    if said != expected {
        return false;
    }
    // Node 0 promises, too, and reports the value that it accepted in that ballot.
    lone.hear("0 Promise 2 131073 65537 y");
    lone.take();
    lone.hear("1 ProposeAll 1 131073");
    let said = lone.take();
    said.contains(&"2 Promise 2 131073 65537 y".to_string())
}

/// Node 2 of three. It accepted a value at 2 in ballot 65537, and a bit of that value was flipped while it was
/// down.
pub fn lone_without_its_value() -> Lone {
    let mut lone = Lone::member(3, 2);
    lone.hear("1 Write 2 65537 y");
    lone.damage_value_at(2);
    lone.restart();
    lone.take();
    lone
}

/// Node 2 of three. It has learned nothing, while node 1 reports 20,000 learned instances.
fn lone_far_behind() -> Lone {
    let mut lone = Lone::member(3, 2);
    lone.hear("1 Beat 3 1001 1 501 - 20000 waits -");
    lone.hear("1 Beat 3 1001 1 501 - 20000 waits -");
    lone.take();
    lone
}

/// A member that is far behind votes for a write far above. Its next life remembers the vote, since the value may
/// be chosen.
pub fn a_vote_far_above_is_remembered_across_a_restart() -> bool {
    let mut lone = lone_far_behind();
    lone.hear("1 Write 20001 65537 x");
    assert_eq!(lone.take(), ["2 Accepts 20001 20001 65537"]);
    lone.restart();
    lone.take();
    lone.hear("1 ProposeAll 1 131073");
    let expected = [
        "2 PromiseNone 1 20000 131073 0",
        "2 Promise 20001 131073 65537 x",
        "2 PromiseNone 20002 * 131073 0",
    ];
    lone.take() == expected
}

/// A member that is far behind does not vote in an epoch whose beginning it has not learned. It may not be a member
/// there, and it does not know that group.
pub fn a_vote_far_above_is_in_the_epoch_in_force_alone() -> bool {
    let mut lone = lone_far_behind();
    lone.hear("1 Write 20001 15000:65537 x");
    let votes = !lone.take().is_empty();
    lone.hear("1 Write 20001 65537 y");
    !votes && lone.take() == ["2 Accepts 20001 20001 65537"]
}

/// Peer 1 asks node 0 to remember one of its lives, with the boots of its earlier starts. Returns the answers.
pub fn registers(lone: &mut Lone, life: &str) -> Vec<String> {
    lone.take();
    let boot = life.split(' ').take(3).collect::<Vec<_>>().join(" ");
    lone.hear(&format!("1 Beat 3 {boot} - 0 waits 0\n1 Register 3 {life}"));
    let is_answer = |line: &String| line.contains(" Barred ") || line.contains(" Registered ");
    lone.take().into_iter().filter(is_answer).collect()
}

/// An old copy of a disk, started often enough unheard, has a higher start number than its peers remember. Its
/// earlier boots reveal it.
pub fn an_old_disk_is_known_by_its_earlier_boots() -> bool {
    let mut lone = Lone::member(3, 0);
    registers(&mut lone, "1001 2 602 501");
    registers(&mut lone, "1001 3 703 702 501") == ["0 Barred 1 703 1001 2 602"]
}

/// A peer that remembers a later start of this disk, or another boot of the same start, proves that the disk was
/// rolled back. That also holds after the first vote. Then the node's votes end, in this life and in later ones.
pub fn a_late_objection_with_proof_ends_the_vote() -> bool {
    [2, 1].into_iter().all(|start| {
        let mut lone = Lone::member(3, 0);
        lone.lead();
        lone.hear(&format!("1 Barred 0 1 1000 {start}"));
        let is_barred = !lone.node.is_voter() && !lone.node.is_leading();
        lone.restart();
        is_barred && !lone.node.is_voter()
    })
}

/// A node whose log differs from the logs of a quorum of the others ends as soon as it has found the first
/// difference.
pub fn a_log_that_a_quorum_disagrees_with_ends_its_node() -> bool {
    let mut lone = Lone::member(3, 0);
    lone.hear("1 Written 1 a\n1 Written 2 b");
    let said = |from: u16, at: u16, digit: &str| format!("{from} Chain {at} {}", digit.repeat(32));
    let own = lone.node.log_digest_at(Instance(1)).expect("it is learned");
    lone.hear(&said(1, 2, "e"));
    if !lone.has_said(" AskChain 1") {
        return false;
    }
    lone.hear(&format!("1 Chain 1 {own:032x}"));
    let lines = [said(1, 2, "e"), said(2, 2, "e")];
    lone.take();
    lone.hear(&lines.join("\n"));
    let ends = |event: &Event| {
        matches!(event, Event::MustEnd(_)) && event.to_string().contains("from instance 2 on")
    };
    // The node first shows its own digests on both sides, so that the peers find the divergence as well.
    if lone.events.iter().any(ends) {
        return false;
    }
    lone.run_for(150);
    let own = lone.node.log_digest_at(Instance(2)).expect("it is learned");
    lone.has_said(&format!("0 Chain 2 {own:032x}")) && {
        lone.hear(&lines.join("\n"));
        lone.events.iter().any(ends)
    }
}

/// A forgotten client starts a new session and names a lower floor. Its earlier requests are not carried out again.
pub fn nothing_below_a_session_made_anew_is_done_again() -> bool {
    let mut lone = Lone::member(1, 0);
    lone.run_for(2_000);
    lone.hear("Submit 1 1 1 once");
    lone.hear_of_clients(2, 16_400);
    lone.take();
    lone.hear("Submit 1 1 1 once");
    assert!(lone.take().iter().any(|said| said.starts_with("0 Forgotten 1 1 ")), "it is told so");
    lone.hear("Submit 1 1000 1 again");
    lone.hear("Submit 1 1 1 once");
    let learned = lone.learned();
    assert!(learned.iter().any(|value| value == "again"), "it may go on above");
    learned.iter().filter(|value| *value == "once").count() == 1
}

/// A leader without room refuses a request. Then there is room, and the network's second copy arrives. Either
/// outcome is right, but not both.
pub fn what_is_refused_for_want_of_room_is_never_done() -> bool {
    let mut lone = Lone::member(3, 2);
    let ballot = lone.lead();
    lone.take();
    for part in 0..20 {
        let lines = (1..=1_000).map(|nth| part * 1_000 + nth).map(|seq| format!("Submit 7 {seq} 1 v{seq}"));
        lone.hear(&lines.collect::<Vec<_>>().join("\n"));
    }
    let turned_away = lone.said().find_map(|said| match said {
        Message::Busy { seq, .. } | Message::Refused { seq, .. } => Some(*seq),
        _ => None,
    });
    let seq = turned_away.expect("there is no room for so many");
    for step in 0..20 {
        let learned = lone.node.learned().0;
        lone.hear(&format!("0 Accepts {} {} {ballot}", learned + 1, learned + 4_096));
        if step == 1 {
            lone.hear(&format!("Submit 7 {seq} 1 v{seq}"));
        }
    }
    let is_done = lone.learned().contains(&format!("v{seq}"));
    assert!(is_done, "the copy is taken up");
    !lone.has_said(&format!("Refused 7 {seq} "))
}

/// A leader cannot make a change, and crashes before the log says so. Another leader sees it otherwise, and makes
/// the change. The client must not have been told before that the change is refused.
pub fn what_the_log_does_not_refuse_is_not_told_as_refused() -> bool {
    let mut lone = Lone::member(3, 2);
    let ballot = lone.lead();
    lone.take();
    lone.hear("Change 7 1 1 replace 1 9");
    lone.run_for(50);
    let wrote = lone.wrote(1);
    let is_told = lone.has_said("Refused 7 1");
    if wrote.is_empty() {
        return !is_told;
    }
    assert!(wrote[0].starts_with("@refused 7 1 1 cannot replace 1 9"), "{wrote:?}");
    lone.hear(&format!("0 Accepts 1 1 {ballot}"));
    lone.run_for(50);
    !is_told && lone.has_said("Refused 7 1 cannot replace 1 9")
}
