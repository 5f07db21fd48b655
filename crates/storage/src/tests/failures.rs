//! Tests of failures: an error is reported and ends the store; corrupt records are refused, or read without their
//! values.

use crate::model::Refusal;

use super::*;

/// The kernel may keep the pages and treat them as clean after a failed sync (fsync(2), "errors").
#[test]
fn what_a_failed_sync_left_in_memory_is_durable_after_the_next_start() {
    let files = fresh();
    let (mut store, mut learner) = fill(&files, 5);
    files.rely();
    files.refuse(Some(Refusal::Sync));
    let record = Record::Learn { instance: Instance(6), value: value(Instance(6)) };
    learner.take(&record);
    store.append_with(|batch| record.encode(batch));
    assert!(store.commit(&learner).is_err() && store.commit(&learner).is_err(), "it never forgives");
    drop(store);
    let read_back = open(&files).1.learned;
    assert_eq!(read_back, Instance(6), "the machine went on");
    files.rely();
    let mut chance = Rng::new(1, Stream::Disk);
    files.cut_power(&mut |end| chance.below(end));
    assert_eq!(open(&files).1.learned, Instance(6));
}

#[test]
fn every_operation_of_a_task_that_fails_is_told_and_ends_it() {
    let mut failed = 0;
    for after in 0.. {
        let files = fresh();
        let (mut store, mut learner) = open(&files);
        let mut tasks = Vec::new();
        while learner.learned.0 < 200 && !store.is_blocked() {
            learn(&mut store, &mut learner);
            let begun = tasks.len();
            tasks.extend(store.task(&learner));
            // A segment is made at once; its values are compacted later.
            if tasks.len() > begun && matches!(tasks[begun].0, Kind::Prepare { .. }) {
                let task = tasks.pop().expect("it was begun just now");
                store.finish(task.run(&files).expect("runs"));
            }
        }
        let task = tasks.pop().expect("there is something to compact");
        let names = files.list().expect("lists").len();
        files.fail_after(Some(after));
        let done = task.run(&files);
        if files.fail_after(None).is_some() {
            assert!(done.is_ok());
            break;
        }
        let failure = done.expect_err("an operation has failed");
        assert!(failure.to_string().contains("error"), "{failure}");
        store.fail(&failure);
        learn_fails(&mut store, &learner);
        assert!(files.list().expect("lists").len() + 1 >= names, "nothing goes on after a failure");
        failed += 1;
        drop(store);
        let (store, again) = open(&files);
        assert_eq!(again.learned, learner.learned);
        check(&store, &again);
    }
    assert!(failed >= 6, "create, write, sync, rename, the name's sync, removals: {failed}");
}

fn learn_fails(store: &mut Store<Model>, learner: &Learner) {
    store.append_with(|batch| Record::Member.encode(batch));
    let refusal = store.commit(learner).expect_err("an earlier write failed").to_string();
    assert!(refusal.contains("any more"), "{refusal}");
}

#[test]
fn making_a_segment_ends_at_the_first_operation_that_fails() {
    for after in 0.. {
        let files = Model::default();
        files.fail_after(Some(after));
        let made = create(&files, INCARNATION, &SMALL);
        if files.fail_after(None).is_some() {
            assert!(
                made.is_ok() && after >= 6,
                "create, write, zeros, sync, rename, the name's sync: {after}"
            );
            return;
        }
        assert!(made.is_err(), "operation {after} has failed");
    }
}

#[test]
fn every_segment_before_a_checkpoint_that_is_in_the_history_is_removed() {
    let files = fresh();
    let (mut store, mut learner) = open(&files);
    let mut late = Vec::new();
    while store.segment() < 5 {
        learn(&mut store, &mut learner);
        while let Some(task) = store.task(&learner) {
            match task.0 {
                Kind::Prepare { .. } => store.finish(task.run(&files).expect("runs")),
                Kind::Compact(_) => late.push(task),
            }
        }
    }
    store.finish(late.pop().expect("a compaction waits").run(&files).expect("runs"));
    learner.forget(store.compacted());
    while let Some(task) = store.task(&learner) {
        store.finish(task.run(&files).expect("runs"));
        learner.forget(store.compacted());
    }
    let left = segment::numbers(&files).expect("lists");
    assert_eq!(left.first(), Some(&store.segment()), "several became needless at once: {left:?}");
    check(&store, &learner);
}

/// If a crash drops names of a directory in any order, one removal at a time leaves no gap.
#[test]
fn an_unfinished_checkpoint_is_removed_without_a_gap_in_whatever_order_names_go() {
    for seed in 0..40 {
        let files = fresh();
        let (mut store, mut learner) = open(&files);
        while store.segment() < 3 {
            learn(&mut store, &mut learner);
        }
        let next = Head { number: 4, bytes: SMALL.segment_bytes, incarnation: INCARNATION };
        Segment::create(&files, &next).expect("makes one ahead");
        drop(store);
        files.rely();
        files.damage(&segment::name(3), |bytes| {
            let (_, at) = Head::parse(bytes).expect("has a head");
            bytes[at + 60..].fill(0);
        });
        open(&files);
        let mut chance = Rng::new(seed, Stream::Disk);
        files.cut_power(&mut |end| chance.below(end));
        let (store, again) = open(&files);
        assert_eq!(again.learned, learner.learned, "the segment before says it all");
        check(&store, &again);
    }
}

#[test]
fn any_flipped_bit_of_a_log_is_refused_or_takes_values_and_nothing_else() {
    let (files, trials) = (fresh(), 2_000);
    let (store, learner) = fill(&files, 40);
    drop(store);
    files.rely();
    let names: Vec<String> =
        files.list().expect("lists").into_iter().filter(|n| n.ends_with(".log")).collect();
    let mut chance = Rng::new(7, Stream::Disk);
    let (mut refused, mut came_up) = (0, 0);
    for _ in 0..trials {
        let name = &names[chance.below(names.len() as u64) as usize];
        let used = files.bytes(name).iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
        let (at, bit) = (chance.below(used + 100) as usize, chance.below(8));
        files.damage(name, |bytes| bytes[at] ^= 1 << bit);
        let mut found = Learner::default();
        let (mut lost, mut learned) = (0, 0);
        let walked = scan::walk(&files, INCARNATION, &mut |record| {
            match record.record().map_err(|error| error.to_string())? {
                Record::Lost { .. } => lost += 1,
                Record::Learn { instance, value: held } => {
                    assert_eq!(held, value(instance), "a wrong value");
                    learned += 1;
                }
                other => found.take(&other),
            }
            Ok(())
        });
        match walked {
            Ok(_) => {
                assert_eq!(
                    found.learned.0 + lost + learned,
                    learner.learned.0,
                    "{name} {at}: nothing is cut"
                );
                came_up += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("--join -i NEW_ID --replace ID"), "{error}");
                refused += 1;
            }
        }
        files.damage(name, |bytes| bytes[at] ^= 1 << bit);
    }
    assert!(refused > 100 && came_up > 100, "{refused} refused, {came_up} came up");
}
