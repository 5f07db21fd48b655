//! Bad histories made by hand: each must be rejected, and for the right reason. Good histories must be accepted.

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::record::Record;
use upaxos_core::replica::Event;
use upaxos_core::types::{Act, Change, NodeId, Tag, Tagged};
use upaxos_core::wire::{self, Boot, Dialect, Line};

use super::*;

/// The checkers of three nodes. Client 7 and an untagged client have sent their requests.
struct Court(Checkers);

fn court() -> Court {
    let mut checkers = Checkers::new(3, 2, Dialect::Extended, Limits::USUAL);
    for value in ["a", "b", "c"] {
        checkers.calls().on_write(value.into());
    }
    Court(checkers)
}

impl Court {
    fn disk(mut self, id: u16, record: &str) -> Court {
        let record = Record::parse(record.as_bytes()).expect("a record");
        self.0.on_record(id, &record);
        self.0.on_durable(id, &record);
        self
    }

    fn says(self, line: &str) -> Court {
        self.says_in_life(1, line)
    }

    fn says_in_life(mut self, life: u64, line: &str) -> Court {
        let line = wire::parse_line(line.as_bytes(), Dialect::Extended).expect("a line of the wire");
        let Line::Node(from, _) = &line else { panic!("a node's line") };
        self.0.on_sent(from.0, life, &line);
        self
    }

    /// Nodes 0 and 1 accept a value in ballot 0, which node 0 owns.
    fn chosen(self, instance: u64, value: &str) -> Court {
        let accept = format!("accept {instance} 0 {value}");
        self.disk(0, &accept).disk(1, &accept)
    }

    fn reads(mut self, instance: u64, value: &str) -> Court {
        self.0.on_reads(0, Instance(instance), &value.into());
        self
    }

    /// The entries chosen from instance 1 on, and the value that each reads.
    fn log(self, entries: &[(&str, &str)]) -> Court {
        let entry = |court: Court, (at, (entry, reads)): (u64, &(&str, &str))| {
            court.chosen(at, entry).reads(at, reads)
        };
        (1..).zip(entries).fold(self, entry)
    }

    fn calls(mut self, seq: u64, value: Option<&str>) -> Court {
        self.0.on_call(Tag { client: 7, seq }, value.map(Value::from));
        self
    }

    fn told(mut self, seq: u64, instance: u64) -> Court {
        if let Err((rule, got)) = self.0.calls().on_done(Tag { client: 7, seq }, Instance(instance)) {
            self.0.fail(rule, got);
        }
        self
    }

    fn shown(mut self, instance: u64, value: &str) -> Court {
        if let Err((rule, got)) = self.0.calls().on_reads(Instance(instance), value.into()) {
            self.0.fail(rule, got);
        }
        self
    }

    fn told_value(mut self, seq: u64, learned: u64, instance: u64, value: &str) -> Court {
        let (learned, instance) = (Instance(learned), Instance(instance));
        let tag = Tag { client: 7, seq };
        if let Err((rule, got)) = self.0.calls().on_value(tag, learned, instance, &value.into()) {
            self.0.fail(rule, got);
        }
        self
    }

    fn ends(mut self, learned: [u64; 3]) -> Court {
        let learned: Vec<_> = (0..).zip(learned.map(Instance)).collect();
        self.0.finish(&learned);
        self
    }

    #[track_caller]
    fn breaks(self, rule: Rule) {
        assert_eq!(
            self.0.violation().map(|violation| violation.rule),
            Some(rule),
            "{:?}",
            self.0.violation()
        );
    }

    #[track_caller]
    fn breaks_nothing(self) {
        assert_eq!(self.0.violation(), None);
    }
}

#[test]
fn a_good_history_is_accepted() {
    court()
        .disk(0, "promise 0")
        .says("0 ProposeAll 1 0")
        .says("0 PromiseNone 1 * 0 0")
        .disk(1, "promise 0")
        .says("1 PromiseNone 1 * 0 0")
        .says("0 Write 1 0 a")
        .chosen(1, "a")
        .says("0 Accepts 1 1 0")
        .says("1 Accepts 1 1 0")
        .disk(0, "chosen 1 1 0")
        .reads(1, "a")
        .says("0 OK 1 a")
        .shown(1, "a")
        .disk(1, "promise 65538")
        .says("1 Promise 1 65538 0 a")
        .calls(1, Some("d"))
        .chosen(2, "@tag 7 1 1 d")
        .reads(2, "d")
        .told(1, 2)
        .calls(2, None)
        .chosen(3, "@tread 3 7 2 2 safe read d")
        .reads(3, "safe read d")
        .told(2, 3)
        .ends([3, 3, 3])
        .breaks_nothing();
}

#[test]
fn two_chosen_values_break_agreement() {
    let one = court().disk(0, "accept 1 0 a").disk(1, "accept 1 0 a");
    one.disk(1, "accept 1 1 b").disk(2, "accept 1 1 b").breaks(Rule::Agreement);
    court().reads(1, "a").reads(1, "b").breaks(Rule::Agreement);
}

#[test]
fn accepts_in_two_ballots_are_not_chosen_and_may_not_be_claimed() {
    let split = || court().disk(0, "accept 1 0 a").disk(1, "accept 1 65536 a");
    split().disk(2, "accept 1 2 b").disk(0, "accept 1 65538 b").breaks_nothing();
    split().says("0 Written 1 a").breaks(Rule::Integrity);
    split().disk(0, "learn 1 a").breaks(Rule::Integrity);
    split().says("0 Chosen 1 1 0").breaks(Rule::Integrity);
    split().says("0 Done 1 1 7 1").breaks(Rule::Integrity);
}

#[test]
fn two_values_in_one_ballot_are_noticed_on_the_wire_already() {
    let first = court().disk(0, "promise 0").disk(1, "promise 0").says("0 Write 1 0 a");
    first.says("0 Write 1 0 b").breaks(Rule::OneValuePerBallot);
}

#[test]
fn a_ballot_is_its_owners_durable_and_of_one_life() {
    court().says("0 ProposeAll 1 0").breaks(Rule::OwnBallot);
    court().says("0 Beat 3 7 1 1 0 0 seeks 1").breaks(Rule::OwnBallot);
    court().disk(0, "promise 1").says("0 Write 1 1 a").breaks(Rule::OwnBallot);
    let proposed = court().disk(0, "promise 0").says("0 ProposeAll 1 0");
    proposed.says_in_life(2, "0 ProposeAll 1 0").breaks(Rule::OwnBallot);
}

#[test]
fn a_leader_may_write_only_what_a_quorum_has_promised_whatever_it_counts() {
    let court = || court().disk(0, "promise 0").disk(1, "promise 65538").disk(2, "accept 1 0 a");
    court().disk(1, "promise 0").says("0 Write 1 0 a").breaks_nothing();
    court().says("0 Write 1 0 a").breaks(Rule::WritesWhatIsPromised);
    court().disk(0, "promise 0").says("0 Write 1 0 a").breaks(Rule::WritesWhatIsPromised);
    court().disk(4, "promise 0").says("0 Write 1 0 a").breaks(Rule::WritesWhatIsPromised);
    let by_hand = wire::parse_line(b"1 PromiseNone 1 * 0 0", Dialect::Extended).expect("a line of the wire");
    let mut told = court();
    told.0.on_asked(&by_hand);
    told.says("0 Write 1 0 a").breaks_nothing();
}

#[test]
fn a_vote_in_a_lower_ballot_than_before_is_a_regress_across_restarts_too() {
    let promised = court().disk(0, "promise 65538").says("0 PromiseNone 1 * 65538 0");
    promised.says_in_life(2, "0 PromiseNone 1 * 1 0").breaks(Rule::PromisesNeverRegress);
    let promised = court().disk(0, "accept 1 0 a").disk(0, "promise 65538").says("0 Promise 1 65538 0 a");
    promised.says("0 Accepts 1 1 0").breaks(Rule::PromisesNeverRegress);
}

#[test]
fn a_classic_promise_is_kept_instance_by_instance() {
    let court = || {
        Court(Checkers::new(3, 0, Dialect::Classic, Limits::USUAL))
            .disk(0, "promise 1 5")
            .says("0 Promise 1 5")
    };
    court().disk(0, "promise 2 3").says("0 Promise 2 3").breaks_nothing();
    court().says("0 Promise 2 3").breaks(Rule::DurableBeforeSaid);
    court().says_in_life(2, "0 Promise 1 4").breaks(Rule::PromisesNeverRegress);
    court().says("0 Propose 1 3").says_in_life(2, "0 Propose 1 3").breaks(Rule::OwnBallot);
    court().says("0 Propose 1 4").breaks(Rule::OwnBallot);
    court().says("0 Accept 1 5 a").breaks(Rule::DurableBeforeSaid);
}

#[test]
fn what_is_said_before_it_is_durable_is_a_lie() {
    court().says("0 PromiseNone 1 * 1 0").breaks(Rule::DurableBeforeSaid);
    court().says("0 Accepts 1 1 0").breaks(Rule::DurableBeforeSaid);
    court().disk(0, "accept 1 0 a").says("1 Accepts 1 1 0").breaks(Rule::DurableBeforeSaid);
    court().says("0 Beat 3 7 1 1 - 1 waits 1").breaks(Rule::DurableBeforeSaid);
    court().disk(0, "promise 1").says("0 PromiseNone 2 * 1 1").breaks(Rule::DurableBeforeSaid);
}

#[test]
fn a_promise_may_not_hide_nor_change_what_was_accepted() {
    let accepted = || court().disk(0, "accept 1 0 a").disk(0, "accept 1 1 b").disk(0, "promise 65538");
    accepted().says("0 Promise 1 65538 1 b").breaks_nothing();
    accepted().says("0 Promise 1 65538 0 a").breaks(Rule::PromiseTellsAll);
    accepted().says("0 Promise 1 65538").breaks(Rule::PromiseTellsAll);
    accepted().says("0 PromiseNone 1 * 65538 0").breaks(Rule::PromiseTellsAll);
}

#[test]
fn what_nobody_asked_for_is_not_valid() {
    court().chosen(1, "z").breaks(Rule::Validity);
    court().chosen(1, "@tag 7 1 1 a").breaks(Rule::Validity);
    court().calls(1, Some("d")).chosen(1, "@tag 7 1 1 a").breaks(Rule::Validity);
    court().chosen(1, "@noop").breaks_nothing();
}

#[test]
fn a_lost_disk_silences_its_node_for_ever() {
    let mut wiped = court().disk(0, "promise 1").says("0 PromiseNone 1 * 1 0");
    wiped.0.on_wiped(0);
    wiped.disk(0, "promise 65537").says("0 PromiseNone 1 * 65537 0").breaks(Rule::LostDiskNeverVotes);
}

#[test]
fn what_was_asked_later_may_not_stand_earlier() {
    let told = || court().calls(1, Some("d")).told(1, 5);
    told().calls(2, Some("e")).told(2, 4).breaks(Rule::RealTimeOrder);
    told().calls(2, None).told(2, 5).breaks(Rule::RealTimeOrder);
    let mut told = told().log(&[("a", "a"), ("b", "b")]);
    told.0.calls().on_write("u".into());
    told.chosen(3, "u").shown(3, "u").breaks(Rule::RealTimeOrder);
}

#[test]
fn equal_values_are_told_apart_by_tag_and_by_when_the_first_was_asked() {
    let same = || court().calls(1, Some("d")).calls(2, Some("d"));
    let log = [("@tag 7 1 1 d", "d"), ("@tag 7 2 1 d", "d"), ("a", "a"), ("a", "a")];
    let told = |court: Court| court.log(&log).told(1, 1).told(2, 2);
    told(same()).ends([4, 4, 4]).breaks_nothing();
    same().log(&log).told(1, 1).told(2, 1).ends([4, 4, 4]).breaks(Rule::Durability);
    let mut again = told(same()).shown(3, "a");
    again.0.calls().on_write("a".into());
    again.0.calls().on_write("d".into());
    again.shown(4, "a").shown(1, "d").ends([4, 4, 4]).breaks_nothing();
}

#[test]
fn what_scripts_rewrite_is_known_by_its_tag_alone() {
    let mut scripted = court().calls(1, Some("d"));
    scripted.0.calls().may_be_rewritten();
    let log = [("@tag 7 1 1 D", "D"), ("Q", "Q"), ("@read 3 safe read d, nicely", "safe read d, nicely")];
    scripted.log(&log).told(1, 1).ends([3, 3, 3]).breaks_nothing();
    let mut scripted = court();
    scripted.0.calls().may_be_rewritten();
    scripted.chosen(1, "@tag 7 1 1 D").breaks(Rule::Validity);
}

#[test]
fn what_somebody_says_by_hand_counts_as_asked_for() {
    let said = |line: &str| {
        let mut court = court();
        court.0.on_asked(&wire::parse_line(line.as_bytes(), Dialect::Extended).expect("a line of the wire"));
        court
    };
    said("Request 0 x").chosen(1, "x").breaks_nothing();
    said("Submit 9 1 1 x").chosen(1, "@tag 9 1 1 x").breaks_nothing();
    said("Submit 9 1 1 x").chosen(1, "x").breaks(Rule::Validity);
    said("2 Write 1 2 x").chosen(1, "x").breaks_nothing();
    said("2 Write 1 2 x").chosen(1, "y").breaks(Rule::Validity);
    said("leave 2").chosen(1, "@group 0 0,1").breaks_nothing();
    said("leave 2").chosen(1, "@group 0 1,2").breaks(Rule::Validity);
}

#[test]
fn a_read_that_misses_a_write_is_noticed() {
    let stale = court().log(&[("a", "a"), ("b", "b"), ("@read 3 safe read a", "safe read a")]);
    stale.ends([3, 3, 3]).breaks(Rule::ReadsSeeWrites);
}

#[test]
fn a_fast_read_is_no_older_than_what_was_chosen_before_and_reads_the_last_value() {
    let asked = || court().calls(1, Some("d")).told(1, 5).calls(2, None);
    asked().told_value(2, 4, 4, "d").breaks(Rule::ReadsAreFresh);
    let told = || asked().told_value(2, 7, 5, "d");
    told().calls(3, None).told_value(3, 6, 5, "d").breaks(Rule::ReadsAreFresh);
    told().calls(3, Some("e")).told(3, 7).breaks(Rule::RealTimeOrder);
    court().chosen(1, "a").calls(2, None).told_value(2, 0, 0, "").breaks(Rule::ReadsAreFresh);
    let log = || court().calls(2, None).log(&[("a", "a"), ("@read 2 safe read a", "safe read a")]);
    log().told_value(2, 2, 1, "a").ends([2, 2, 2]).breaks_nothing();
    let before = || court().calls(2, None).told_value(2, 0, 0, "");
    before().log(&[("a", "a"), ("b", "b")]).ends([2, 2, 2]).breaks_nothing();
    log().told_value(2, 2, 0, "").ends([2, 2, 2]).breaks(Rule::ReadsSeeWrites);
    log().chosen(3, "b").reads(3, "b").told_value(2, 3, 1, "a").ends([3, 3, 3]).breaks(Rule::ReadsSeeWrites);
}

#[test]
fn a_mark_that_hides_a_vote_is_noticed() {
    let voted = || court().disk(0, "accept 3 0 a");
    voted().says("0 Mark 0 9 3").breaks_nothing();
    voted().says("0 Mark 0 9 2").breaks(Rule::MarkTellsAll);
    let learned = court().chosen(1, "a").disk(2, "learn 1 a");
    learned.says("2 Mark 0 9 0").breaks(Rule::MarkTellsAll);
    let mut wiped = voted();
    wiped.0.on_wiped(0);
    wiped.says("0 Mark 0 9 3").breaks(Rule::LostDiskNeverVotes);
}

#[test]
fn what_was_acknowledged_must_be_there_in_the_end() {
    let told = || court().calls(1, Some("d")).told(1, 1);
    let (own, other) = ([("@tag 7 1 1 d", "d")], [("a", "a")]);
    told().log(&own).ends([1, 1, 1]).breaks_nothing();
    told().log(&other).ends([1, 1, 1]).breaks(Rule::Durability);
    told().log(&own).ends([1, 0, 1]).breaks(Rule::Durability);
    court().calls(1, None).told(1, 1).log(&other).ends([1, 1, 1]).breaks(Rule::Durability);
    court().calls(1, None).told(1, 1).ends([1, 1, 1]).breaks(Rule::Durability);
    court().reads(1, "a").shown(1, "b").ends([1, 1, 1]).breaks(Rule::Durability);
}

#[test]
fn a_tag_has_one_effect_and_one_answer() {
    court().calls(1, Some("d")).told(1, 1).told(1, 2).breaks(Rule::ExactlyOnce);
    let twice = court().calls(1, Some("d")).log(&[("@tag 7 1 1 d", "d"), ("@tag 7 1 1 d", "d")]);
    twice.ends([2, 2, 2]).breaks(Rule::ExactlyOnce);
}

#[test]
fn a_request_that_is_waited_for_is_not_refused() {
    let refuse = |court: &mut Court| court.0.calls().on_refused(Tag { client: 7, seq: 1 }, &"no".into());
    let mut waits = court().calls(1, Some("d"));
    assert!(refuse(&mut waits).is_err_and(|(rule, _)| rule == Rule::NothingRefused));
    waits.0.calls().on_given_up(Tag { client: 7, seq: 1 });
    assert_eq!(refuse(&mut waits), Ok(()));
}

#[test]
fn what_was_refused_never_takes_effect() {
    let refuse = |mut court: Court| {
        court.0.calls().may_be_refused();
        court.0.on_told(&wire::Message::Refused { client: 7, seq: 1, reason: "full".into() });
        court
    };
    let refused = [("@refused 7 1 1 full", "refused: full")];
    refuse(court().calls(1, Some("d"))).log(&refused).ends([1, 1, 1]).breaks_nothing();
    let only_said = refuse(court().calls(1, Some("d"))).log(&[("a", "a")]);
    only_said.ends([1, 1, 1]).breaks(Rule::RefusedIsFinal);
    refuse(court().calls(1, Some("d"))).told(1, 1).breaks(Rule::RefusedIsFinal);
    refuse(court().calls(1, Some("d")).told(1, 1)).breaks(Rule::RefusedIsFinal);
    let stands = refuse(court().calls(1, Some("d"))).log(&[("@tag 7 1 1 d", "d")]);
    stands.ends([1, 1, 1]).breaks(Rule::RefusedIsFinal);
    court().log(&refused).breaks(Rule::Validity);
}

#[test]
fn a_change_that_was_refused_is_never_made() {
    let asked = || {
        let mut court = court();
        let tagged = Tagged { tag: Tag { client: 7, seq: 1 }, floor: 1 };
        court.0.on_change_asked(Some(tagged), Change { act: Act::Leave(NodeId(2)), is_forced: false });
        court
    };
    let refuse = |mut court: Court| {
        court.0.on_told(&wire::Message::Refused { client: 7, seq: 1, reason: "no".into() });
        court
    };
    let made = [("@tgroup 7 1 1 0 0,1", "group 0,1")];
    let refused = [("@refused 7 1 1 no", "refused: no")];
    asked().log(&made).ends([1, 1, 1]).breaks_nothing();
    refuse(asked()).log(&made).breaks(Rule::RefusedIsFinal);
    refuse(asked().log(&made)).breaks(Rule::RefusedIsFinal);
    refuse(asked()).log(&refused).ends([1, 1, 1]).breaks_nothing();
    refuse(asked()).log(&[("a", "a")]).ends([1, 1, 1]).breaks(Rule::RefusedIsFinal);
}

#[test]
fn a_recovery_that_forgets_is_noticed() {
    let mut forgets = court().disk(0, "promise 1");
    forgets.0.on_recovered(0, &(Instance(0), vec![Record::Start { start: 1, boot: 1 }]), &[]);
    forgets.breaks(Rule::RecoversWhole);
}

/// Node 0 has learned 1 and 2 when it loses the value at 1. It learns 1 anew, and is killed after compaction has
/// dropped the damaged copy. Then the prefix that its earlier life had learned counts as learned again.
#[test]
fn what_an_earlier_life_learned_counts_again_when_a_lost_value_is_back() {
    let log = |start, records: &[&str]| {
        let records = records.iter().map(|record| Record::parse(record.as_bytes()).expect("a record"));
        [Record::Start { start, boot: 1 }].into_iter().chain(records).collect()
    };
    let recovers = |learned| {
        let mut court = court().chosen(1, "a").chosen(2, "b").disk(0, "promise 0").disk(0, "chosen 1 2 0");
        let lost = Record::parse(b"lost 1 0").expect("a record");
        court.0.on_recovered(0, &(Instance(0), log(1, &["promise 0", "accept 2 0 b", "lost 1 0"])), &[lost]);
        let mut court = court.disk(0, "start 1 1").disk(0, "learn 1 a");
        let open: &[&str] = if learned < 2 { &["promise 0", "accept 2 0 b"] } else { &["promise 0"] };
        court.0.on_recovered(0, &(Instance(learned), log(2, open)), &[]);
        court
    };
    recovers(1).breaks_nothing();
    recovers(2).breaks_nothing();
    recovers(3).breaks(Rule::RecoversWhole);
    recovers(0).breaks(Rule::RecoversWhole);
}

/// A value that node 0 accepted was damaged before it was synced. A checkpoint that was begun then holds a copy.
#[test]
fn a_copy_of_what_was_damaged_before_it_was_synced_counts_as_accepted() {
    let recovers = |before: &str| {
        let mut court = court().disk(0, "promise 0").disk(0, before);
        let log =
            ["promise 0", "accept 1 0 a"].map(|record| Record::parse(record.as_bytes()).expect("a record"));
        let log = [Record::Start { start: 1, boot: 1 }].into_iter().chain(log).collect();
        court.0.on_recovered(0, &(Instance(0), log), &[]);
        court
    };
    recovers("lost 1 0").breaks_nothing();
    recovers("lost 2 0").breaks(Rule::RecoversWhole);
}

#[test]
fn what_a_client_takes_for_its_answer_is_its_own_and_in_the_log() {
    let settled = |tag: Option<u64>, instance, value: &str, after| {
        let mut court = court().calls(1, Some("a")).log(&[("@tag 7 1 0 a", "a"), ("b", "b")]);
        let tag = tag.map(|seq| Tag { client: 7, seq });
        let outcome = Outcome::Chosen { instance: Instance(instance), value: value.into() };
        court.0.on_outcome(tag, Ask::Write(value.into()), outcome, Instance(after));
        court.ends([2, 2, 2])
    };
    settled(Some(1), 1, "a", 0).breaks_nothing();
    settled(Some(1), 2, "a", 0).breaks(Rule::Durability);
    settled(Some(2), 1, "a", 0).breaks(Rule::ExactlyOnce);
    settled(Some(1), 1, "a", 1).breaks(Rule::RealTimeOrder);
}

#[test]
fn what_clients_without_tags_take_for_answers_is_judged_question_by_question() {
    let settled = |ask: &Ask, instances: &[u64], after| {
        let mut court = court().chosen(1, "a").reads(1, "a").chosen(2, "a").reads(2, "a");
        for instance in instances {
            let outcome = Outcome::Chosen { instance: Instance(*instance), value: "a".into() };
            court.0.on_outcome(None, ask.clone(), outcome, Instance(after));
        }
        court.ends([2, 2, 2])
    };
    let write = Ask::Write("a".into());
    settled(&write, &[1], 0).breaks_nothing();
    settled(&write, &[1, 2], 0).breaks_nothing();
    settled(&write, &[1, 2, 2], 0).breaks(Rule::Durability);
    settled(&write, &[1], 1).breaks(Rule::RealTimeOrder);
    settled(&Ask::Read, &[1], 1).breaks(Rule::ReadsAreFresh);
}

#[test]
fn an_answer_that_contradicts_the_log_is_noticed() {
    court().chosen(1, "a").reads(1, "a").says("0 OK 1 b").breaks(Rule::Agreement);
    court().shown(1, "a").shown(1, "b").breaks(Rule::Agreement);
}

/// Node 0 has learned "a", and its disk is put back as it was before. Then it chooses "b" with node 2.
fn split() -> Court {
    let mut court = court();
    court.0.on_copied(0);
    let mut court = court.chosen(1, "a").disk(1, "learn 1 a").disk(0, "learn 1 a");
    assert!(court.0.on_rolled_back(0) && court.0.not_told(&[0, 1, 2]).is_none());
    court.disk(0, "accept 1 1 b").disk(2, "accept 1 1 b").disk(0, "learn 1 b").disk(2, "learn 1 b")
}

#[test]
fn what_a_rolled_back_disk_breaks_is_excused_and_must_be_told() {
    let mut court = split();
    assert!(court.0.violation().is_none() && court.0.is_split());
    assert_eq!(
        court.0.not_told(&[0, 1, 2]).unwrap(),
        "the logs of 0 and 1 differ at 1, and neither node reports it"
    );
    assert_eq!(court.0.not_told(&[0, 2]), None, "these two agree");
    let said = |peer| Event::LogDiverged { peer: NodeId(peer), after: Instance(0), first: Instance(1) };
    court.0.on_log_diverged(1, 0, &said(0));
    assert_eq!(
        court.0.not_told(&[0, 1, 2]).unwrap(),
        "the logs of 1 and 2 differ at 1, and neither node reports it"
    );
    court.0.on_log_diverged(2, 1, &said(1));
    assert_eq!(court.0.not_told(&[0, 1, 2]).unwrap(), "1 goes on, though [0, 2] have another log");
    assert_eq!(court.0.not_told(&[0, 2]), None, "it has ended");
    court.0.fail(Rule::NoPanic, "a panic");
    assert_eq!(court.0.violation().unwrap().rule, Rule::NoPanic, "nothing excuses that");
}

#[test]
fn nothing_is_excused_where_no_disk_was_rolled_back() {
    let court = court().chosen(1, "a").disk(0, "learn 1 a").disk(0, "accept 1 1 b").disk(2, "accept 1 1 b");
    assert_eq!(court.0.violation().unwrap().rule, Rule::Agreement);
    let mut court = self::court();
    court.0.on_copied(0);
    assert!(!court.0.on_rolled_back(0), "the copy lacks nothing");
    let said = Event::LogDiverged { peer: NodeId(1), after: Instance(0), first: Instance(1) };
    court.0.on_log_diverged(0, 1, &said);
    assert_eq!(court.0.violation().unwrap().rule, Rule::RollbackIsFound, "a false alarm");
}

#[test]
fn who_remembers_a_later_life_or_another_one_of_the_same_start_knows_better() {
    let mut court = court().disk(1, "registered 0 1000 3 77").disk(0, "start 3 77");
    let knows =
        |court: &Court, start, boot| court.0.knows_better(1, 0, Boot { incarnation: 1000, start, boot });
    assert!(knows(&court, 2, 76) && knows(&court, 3, 78));
    assert!(!knows(&court, 3, 77) && !knows(&court, 4, 79));
    court = court.disk(0, "start 3 78");
    assert!(knows(&court, 4, 79), "it has gone on from another life of that start");
}
