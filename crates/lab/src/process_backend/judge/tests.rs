//! The judges of a real run, tested with invented runs.

use upaxos_core::entry::Entry;

use super::*;

const TAG: Tag = Tag { client: 7, seq: 1 };

fn entry(tag: Tag, value: &str) -> Value {
    Entry::Tagged(Tagged { tag, floor: 1 }, value.into()).encode(Dialect::Extended)
}

fn log(values: &[Value]) -> BTreeMap<Instance, Value> {
    (1..).map(Instance).zip(values.iter().cloned()).collect()
}

/// Two writes, one after the other, chosen at 1 and 2, and read by all.
fn good() -> Evidence {
    let next = Tag { seq: 2, ..TAG };
    let values = [entry(TAG, "one"), entry(next, "two"), Value::from("@read 3 safe read two")];
    let ended = |asked, tag, instance, value: &str| {
        let outcome = Outcome::Chosen { instance: Instance(instance), value: value.into() };
        Happening::Ended { asked, tag, outcome }
    };
    let asked = |value: &str| Happening::Asked { ask: Ask::Write(value.into()) };
    Evidence {
        nodes: 3,
        spares: 0,
        dialect: Dialect::Extended,
        history: vec![
            asked("one"),
            ended(0, Some(TAG), 1, "one"),
            asked("two"),
            ended(2, Some(next), 2, "two"),
            Happening::Asked { ask: Ask::History(Instance(1)) },
            ended(4, None, 1, "one"),
        ],
        joiners: Vec::new(),
        has_scripts: false,
        lost: Vec::new(),
        logs: (0..3).map(|id| (NodeId(id), log(&values))).collect(),
        wire: vec![(Micros(5), NodeId(2), b"2 Write 1 2 one\n2 Write 2 2 two".to_vec())],
    }
}

/// The rules that the judges find broken in a changed run.
fn objections(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
    let mut evidence = good();
    change(&mut evidence);
    judge(&evidence).into_iter().map(|violation| violation.expected).collect()
}

fn of(rule: Rule) -> Vec<String> {
    vec![rule.text().to_owned()]
}

#[test]
fn a_good_run_is_found_good() {
    assert_eq!(objections(|_| {}), Vec::<String>::new());
}

#[test]
fn a_log_that_differs_is_found() {
    let change = |run: &mut Evidence| drop(run.logs[1].1.insert(Instance(2), entry(TAG, "three")));
    assert_eq!(objections(change), of(Rule::Agreement));
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    let change = |run: &mut Evidence| run.logs.iter_mut().for_each(|(_, log)| *log = self::log(&[]));
    assert_eq!(objections(change), of(Rule::Durability));
    let change = |run: &mut Evidence| {
        run.logs.iter_mut().for_each(|(_, log)| drop(log.insert(Instance(2), Value::from("@noop"))));
    };
    assert_ne!(objections(change), Vec::<String>::new());
}

#[test]
fn a_value_that_nobody_asked_for_is_found() {
    let change = |run: &mut Evidence| {
        run.logs.iter_mut().for_each(|(_, log)| drop(log.insert(Instance(4), "stray".into())));
    };
    assert_eq!(objections(change), of(Rule::Validity));
}

#[test]
fn an_answer_that_stands_below_an_earlier_one_is_found() {
    let change = |run: &mut Evidence| {
        // The second write starts after the first answer, but log and answers have the opposite order.
        for at in [1, 3] {
            if let Happening::Ended { outcome: Outcome::Chosen { instance, .. }, .. } = &mut run.history[at] {
                *instance = Instance(if at == 1 { 2 } else { 1 });
            }
        }
    };
    assert_eq!(objections(change), of(Rule::RealTimeOrder));
}

#[test]
fn two_values_in_one_ballot_and_votes_without_a_disk_are_found() {
    let say = |from, text: &str| (Micros(9), NodeId(from), text.as_bytes().to_vec());
    let change = |run: &mut Evidence| run.wire.push(say(1, "1 Accept 1 2 other"));
    assert_eq!(objections(change), of(Rule::OneValuePerBallot));
    let change = |run: &mut Evidence| {
        run.wire.push((Micros(6), NodeId(1), b"1 Accept 1 2 one".to_vec()));
        run.lost.push((NodeId(1), Micros(7)));
        run.wire.push(say(1, "1 Accept 1 2 one"));
    };
    assert_eq!(objections(change), of(Rule::LostDiskNeverVotes));
}
