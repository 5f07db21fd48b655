//! Scripts and the log: when the leader calls a script, how a script's state is built, and that every node computes
//! the same state.
//!
//! The scripts here are native. The script crate tests the Luau sandbox.

#[path = "support/group.rs"]
mod group;

use std::cell::RefCell;
use std::rc::Rc;

use upaxos_core::hooks::{Applied, At, Fault, Hooks, Script};
use upaxos_core::replica::Event;
use upaxos_core::script_state::{Number, Scalar, ScriptState};
use upaxos_core::types::{Instance, Tag, Value};

use group::Group;

/// A script that records its calls.
#[derive(Debug)]
struct Probe {
    scripts: Vec<Script>,
    /// The values that `request` received.
    shown: RefCell<Vec<String>>,
    /// The first instance at which it computes a wrong state. `u64::MAX` means never.
    strays_from: u64,
    reads: bool,
}

impl Probe {
    fn new(source: u64) -> Probe {
        let script = Script { name: "probe".into(), source };
        Probe { scripts: vec![script], shown: RefCell::default(), strays_from: u64::MAX, reads: true }
    }

    fn shown(&self) -> Vec<String> {
        self.shown.borrow().clone()
    }
}

impl Hooks for Probe {
    fn scripts(&self) -> &[Script] {
        &self.scripts
    }

    fn request(&self, value: &Value, _: Option<Tag>) -> Result<Option<Value>, String> {
        let words = value.to_string();
        self.shown.borrow_mut().push(words.clone());
        match words.split_once(' ') {
            Some(("louder", rest)) => Ok(Some(Value::from(format!("{rest}!").as_str()))),
            Some(("never", _)) => Err("not that".into()),
            _ => Ok(None),
        }
    }

    fn apply(&self, _: usize, state: &mut ScriptState, applied: &Applied<'_>) -> Result<(), Fault> {
        let count = state.len() as f64 + f64::from(u8::from(applied.instance.0 >= self.strays_from));
        let count = Number::new(count).map(Scalar::Number);
        state.set(applied.instance.to_string().as_bytes(), count).expect("it is small");
        match applied.value.as_bytes() {
            b"bad" => Err(Fault::Raised("bad".into())),
            b"fatal" => Err(Fault::Fatal("no memory".into())),
            _ => Ok(()),
        }
    }

    fn reader(&self) -> Option<Option<usize>> {
        self.reads.then_some(Some(0))
    }

    fn read(&self, state: &ScriptState, at: &At<'_>) -> Result<Value, String> {
        let question = at.question.map_or("-".into(), Value::to_string);
        let text = match question.as_str() {
            "what" => return Err("do not know".into()),
            question => format!("{question} {} of {}", state.len(), at.instance),
        };
        Ok(Value::from(text.as_str()))
    }
}

/// Starts three nodes, each with a probe from `make`. Waits for a leader.
fn group(make: impl Fn(u16) -> Probe) -> (Group, Vec<Rc<Probe>>) {
    let mut group = Group::new(3);
    let probes: Vec<Rc<Probe>> = (0..3).map(|id| Rc::new(make(id))).collect();
    for (id, probe) in (0..3).zip(&probes) {
        group.members[usize::from(id)].hooks = Some(Rc::clone(probe) as Rc<dyn Hooks>);
        group.start(id);
    }
    group.run_until("a leader", |group| group.leader().is_some());
    (group, probes)
}

fn same() -> (Group, Vec<Rc<Probe>>) {
    group(|_| Probe::new(7))
}

const ALL: [u16; 3] = [0, 1, 2];

fn digests(group: &Group, ids: &[u16]) -> Vec<(Instance, u64)> {
    ids.iter()
        .filter_map(|id| group.node(*id).digests().first().map(|(_, at, digest)| (*at, *digest)))
        .collect()
}

fn assert_same_digests(group: &mut Group, ids: &[u16]) {
    group.run_until("all have learned alike", |group| {
        ids.windows(2).all(|pair| group.node(pair[0]).learned() == group.node(pair[1]).learned())
    });
    let digests = digests(group, ids);
    assert_eq!(digests.len(), ids.len(), "each has a script");
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

fn events(group: &Group, id: u16) -> Vec<String> {
    group.members[usize::from(id)].events.iter().map(Event::to_string).collect()
}

fn says(group: &Group, id: u16, part: &str) -> bool {
    events(group, id).iter().any(|event| event.contains(part))
}

#[test]
fn the_leader_alone_asks_its_script_once_for_each_write() {
    let (mut group, probes) = same();
    let leader = group.leader().unwrap();
    group.write("one", &ALL);
    group.say("Submit 7 1 1 two");
    group.say("Submit 7 1 1 two");
    group.say("Request 0");
    group.say("Request 1");
    group.run_until("all is written", |group| group.reads(0).len() == 3);
    group.run_for(3_000);
    assert_eq!(probes[usize::from(leader)].shown(), ["one", "two"], "no read, no retry");
    for other in ALL.into_iter().filter(|id| *id != leader) {
        assert!(probes[usize::from(other)].shown().is_empty(), "{other} does not propose");
    }
}

#[test]
fn what_a_script_makes_of_a_write_is_what_is_written_and_once() {
    let (mut group, probes) = same();
    let leader = group.leader().unwrap();
    group.say("Request 0 louder one");
    group.say("Submit 7 1 1 louder two");
    group.run_until("both are written", |group| ALL.iter().all(|id| group.reads(*id).len() == 2));
    // Longer than a node waits before it passes on a request that no leader has taken up.
    group.run_for(12_000);
    assert_eq!(group.reads(0), ["one!", "two!"]);
    assert_eq!(probes[usize::from(leader)].shown(), ["louder one", "louder two"]);
    assert!(group.said(" OK 1 one!").len() == 1 && !group.said(" Done 2 2 7 1").is_empty());
    assert_same_digests(&mut group, &ALL);
}

#[test]
fn what_a_script_rejects_is_never_written_and_its_client_is_told_why() {
    let (mut group, probes) = same();
    let leader = group.leader().unwrap();
    group.say("Request 0 never this");
    group.say("Submit 7 1 1 never that");
    group.run_for(12_000);
    assert_eq!(group.reads(0), ["refused: not that"], "the tag is used up; nothing else was written");
    assert_eq!(group.said(" Error not that").len(), 1);
    assert_eq!(group.said(" Refused 7 1 not that").len(), 1);
    assert_eq!(probes[usize::from(leader)].shown().len(), 2, "no node passes on a rejected request");
}

#[test]
fn a_value_found_in_phase_1_is_not_shown_to_the_next_leaders_script() {
    let (mut group, probes) = same();
    let leader = group.leader().unwrap();
    let heir = (leader + 1) % 3;
    // The write reaches one other node. That node's vote is lost.
    group.filter = Box::new(move |from, to, line| {
        let text = line.to_string();
        !(text.contains(" Accept") || from == Some(leader) && text.contains(" Write ") && to != heir)
            && (from.is_some() || to == leader)
    });
    group.say("Submit 7 1 1 louder one");
    group.run_for(50);
    assert_eq!(probes[usize::from(leader)].shown(), ["louder one"]);
    group.filter = Box::new(|_, _, _| true);
    group.crash(leader);
    let rest: Vec<u16> = ALL.into_iter().filter(|id| *id != leader).collect();
    group.run_until("it is chosen", |group| rest.iter().all(|id| group.reads(*id) == ["one!"]));
    assert!(
        rest.iter().all(|id| probes[usize::from(*id)].shown().is_empty()),
        "the value has passed a script already"
    );
}

#[test]
fn only_what_users_write_and_only_once_is_applied() {
    let (mut group, _) = same();
    group.write("one", &ALL);
    group.say("Request 0");
    group.say("Submit 7 1 1 two");
    group.run_until("three instances", |group| group.reads(0).len() == 3);
    // Another leader's copy of the same request. Its instance is void.
    group.tell(0, "1 Written 4 @tag 7 1 1 two");
    group.tell(1, "0 Written 4 @tag 7 1 1 two");
    group.tell(2, "0 Written 4 @tag 7 1 1 two");
    group.run_for(100);
    assert_eq!(group.reads(0)[3], "duplicate of 3");
    for id in ALL {
        assert_eq!(group.node(id).state(0).unwrap().len(), 2, "a read and a duplicate have no effect");
    }
    assert_same_digests(&mut group, &ALL);
}

#[test]
fn a_failed_apply_is_undone_reported_and_part_of_the_digest() {
    let (mut group, _) = same();
    group.write("one", &ALL);
    let before = group.node(0).state(0).unwrap().clone();
    let digest = group.node(0).digest_at(0, Instance(1)).unwrap();
    group.write("bad", &ALL);
    assert_eq!(group.node(0).state(0), Some(&before));
    assert_ne!(group.node(0).digest_at(0, Instance(2)), Some(digest), "the failure is part of the digest");
    assert!(ALL.iter().all(|id| says(
        &group,
        *id,
        "script probe, instance 2: apply failed, and was undone: bad"
    )));
    assert_same_digests(&mut group, &ALL);
}

#[test]
fn an_apply_that_may_have_worked_elsewhere_ends_the_node_before_it_says_anything() {
    let (mut group, _) = same();
    group.write("one", &ALL);
    group.say("Request 0 fatal");
    group.run_for(5_000);
    for id in ALL {
        assert!(group.members[usize::from(id)].node.is_none(), "{id} has ended");
        assert!(
            says(&group, id, "cannot go on: script probe, instance 2: no memory"),
            "{:?}",
            events(&group, id)
        );
    }
}

#[test]
fn a_state_is_carried_on_from_the_checkpoint_without_the_log_before_it() {
    let (mut group, _) = same();
    for value in ["one", "bad", "three"] {
        group.write(value, &ALL);
    }
    let state = group.node(2).state(0).unwrap().clone();
    group.checkpoint(2);
    group.write("four", &ALL);
    group.crash(2);
    group.start(2);
    assert!(group.node(2).digest_at(0, Instance(2)).is_none(), "it begins with the checkpoint");
    assert!(group.node(2).state(0).unwrap().len() >= state.len());
    assert_same_digests(&mut group, &ALL);
    group.write("five", &ALL);
    assert_same_digests(&mut group, &ALL);
}

#[test]
fn a_script_that_was_added_or_changed_computes_what_was_chosen_before_it() {
    let mut group = Group::ready(3);
    for value in ["one", "bad", "three"] {
        group.write(value, &ALL);
    }
    for id in ALL {
        group.checkpoint(id);
        group.crash(id);
        group.members[usize::from(id)].hooks = Some(Rc::new(Probe::new(7)));
        group.start(id);
        assert_eq!(group.node(id).state(0).unwrap().len(), 2, "added");
    }
    group.run_until("a leader", |group| group.leader().is_some());
    group.write("four", &ALL);
    assert_same_digests(&mut group, &ALL);
    for id in ALL {
        group.checkpoint(id);
        group.crash(id);
        group.members[usize::from(id)].hooks = Some(Rc::new(Probe { strays_from: 1, ..Probe::new(8) }));
        group.start(id);
        let first = group.node(id).state(0).unwrap().get(b"1").cloned();
        assert_eq!(first, Number::new(1.0).map(Scalar::Number), "no state of the old script is left");
    }
    group.run_until("a leader", |group| group.leader().is_some());
    group.write("five", &ALL);
    assert_same_digests(&mut group, &ALL);
}

#[test]
fn a_joiner_computes_the_same_from_the_history_that_it_learns() {
    let (mut group, _) = same();
    for count in 0..30 {
        group.write(&format!("value {count}"), &ALL);
    }
    ALL.iter().for_each(|id| group.checkpoint(*id));
    let id = group.members.len() as u16;
    group.join(None);
    group.crash(id);
    group.members[usize::from(id)].hooks = Some(Rc::new(Probe::new(7)));
    group.start(id);
    group.wait_for_members(&[0, 1, 2, 3], &[0, 1, 2, 3]);
    group.write("one more", &[0, 1, 2, 3]);
    assert_same_digests(&mut group, &[0, 1, 2, 3]);
}

#[test]
fn where_scripts_part_is_found_named_and_the_one_that_is_alone_ends() {
    let strays = |id| Probe { strays_from: if id == 1 { 23 } else { u64::MAX }, ..Probe::new(7) };
    let (mut group, _) = group(strays);
    for count in 0..40 {
        group.write(&format!("value {count}"), &[0, 2]);
    }
    group.run_until("it ends", |group| group.members[1].node.is_none());
    assert!(says(&group, 1, "script probe DIVERGES: node 0 has computed something else at instance 23"));
    assert!(says(&group, 1, "from instance 23 on: what this node reads is wrong"));
    group.run_until("the others say so", |group| {
        [0, 2]
            .iter()
            .all(|id| says(group, *id, "DIVERGES: node 1 has computed something else at instance 23"))
    });
    group.write("on without it", &[0, 2]);
    assert!(![0, 2].iter().any(|id| says(&group, *id, "cannot go on")));
}

/// While the node asked its peers, no quorum answered. Either its peers were up one at a time, or only one was up.
/// In the second case that peer restarts from a checkpoint, so it no longer has the digest of the first instance
/// that differs.
#[test]
fn the_one_that_is_alone_ends_once_a_quorum_is_there_that_was_not_while_it_was_asked() {
    for forgets in [false, true] {
        let strays = |id| Probe { strays_from: if id == 1 { 23 } else { u64::MAX }, ..Probe::new(7) };
        let (mut group, _) = group(strays);
        let gave_up = |group: &Group, id: u16| {
            events(group, id)
                .iter()
                .filter(|event| event.contains("no node can tell which one is wrong"))
                .count()
        };
        group.filter = Box::new(|from, to, _| from != Some(2) && to != 2);
        for count in 0..40 {
            group.write(&format!("value {count}"), &[0]);
        }
        group.run_until("both give up", |group| [0, 1].iter().all(|id| gave_up(group, *id) == 1));
        if forgets {
            group.checkpoint(0);
            group.crash(0);
            group.start(0);
            assert!(group.node(0).digest_at(0, Instance(23)).is_none(), "it begins with the checkpoint");
        } else {
            group.filter = Box::new(|from, to, _| from != Some(0) && to != 0);
            group.run_until("the other gives up, too", |group| gave_up(group, 2) == 1);
        }
        group.filter = Box::new(|_, _, _| true);
        group.run_until("it ends", |group| group.members[1].node.is_none());
        assert!(says(&group, 1, "what this node reads is wrong"));
        group.write("on without it", &[0, 2]);
        group.run_for(5_000);
        assert!(![0, 2].iter().any(|id| says(&group, *id, "cannot go on")));
        assert!(ALL.iter().all(|id| gave_up(&group, *id) <= 2), "it is logged once per peer");
    }
}

#[test]
fn another_version_of_a_script_is_named_as_that_and_not_as_a_divergence() {
    let (mut group, _) = group(|id| Probe { strays_from: 3, ..Probe::new(if id == 1 { 8 } else { 7 }) });
    group.members[2].hooks = None;
    group.crash(2);
    group.start(2);
    for count in 0..9 {
        group.write(&format!("value {count}"), &ALL);
    }
    group.run_for(3_000);
    assert!(says(&group, 0, "node 1 runs another version of script probe"));
    assert!(says(&group, 1, "node 0 runs another version of script probe"));
    assert!(says(&group, 2, "node 0 runs script probe") && says(&group, 2, "and this node does not"));
    assert!(ALL.iter().all(|id| !says(&group, *id, "DIVERGES") && !says(&group, *id, "cannot go on")));
    let count = events(&group, 0).iter().filter(|event| event.contains("another version")).count();
    assert_eq!(count, 1, "once is enough");
}

#[test]
fn queries_and_reads_are_worded_by_the_script_from_what_is_below_them() {
    let (mut group, _) = same();
    group.write("one", &ALL);
    group.say("Query 7 1 1 how many");
    group.run_until("an answer", |group| !group.said(" Answer 2 7 1 safe read how many 1 of 1").is_empty());
    group.say("FastQuery 7 2 2 how many");
    group.run_until("an answer", |group| !group.said(" Reply 2 7 2 how many 1 of 2").is_empty());
    group.say("Read 7 3 3");
    group.run_until("an answer", |group| !group.said(" Answer 3 7 3 safe read - 1 of 2").is_empty());
    group.say("Query 7 4 4 what");
    group.say("FastQuery 7 5 4 what");
    group.run_until("a reason", |group| {
        !group.said(" Refused 7 4 do not know").is_empty()
            && !group.said(" Refused 7 5 do not know").is_empty()
    });
    assert_eq!(group.reads(0).len(), 3, "a refused query takes no instance");
}

#[test]
fn without_a_script_that_reads_a_query_is_refused_with_the_reason() {
    let mut group = Group::ready(3);
    group.say("Query 7 1 1 how many");
    group.say("FastQuery 7 2 1 how many");
    group.run_until("a reason", |group| {
        !group.said(" Refused 7 1 no script here").is_empty()
            && !group.said(" Refused 7 2 no script here").is_empty()
    });
    assert!(group.reads(0).is_empty());
}
