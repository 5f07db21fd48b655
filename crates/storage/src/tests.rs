//! Tests of the store on the simulated directory: a power cut at any point loses nothing that a peer relied on, and
//! old values are found at any age.

mod failures;

use upaxos_core::types::{Ballot, Value};
use upaxos_sim::rng::{Rng, Stream};

use super::*;
use crate::model::Files as Model;

const SMALL: Options = Options { segment_bytes: 4096 };
const INCARNATION: u64 = 7;

/// A node that learns each value as soon as it accepts it.
#[derive(Debug, Default)]
struct Learner {
    learned: Instance,
    forgotten: Instance,
    values: BTreeMap<Instance, Value>,
}

impl Learner {
    fn take(&mut self, record: &Record) {
        match record {
            Record::Checkpoint { learned, .. } => (self.learned, self.forgotten) = (*learned, *learned),
            Record::Learn { instance, value } => {
                assert_eq!(*instance, self.learned.next(), "in order");
                self.learned = *instance;
                self.values.insert(*instance, value.clone());
            }
            _ => {}
        }
    }

    fn forget(&mut self, through: Instance) {
        self.forgotten = self.forgotten.max(through);
        self.values = self.values.split_off(&through.next());
    }
}

impl Source for Learner {
    fn checkpoint(&self) -> (Instance, Vec<Record>) {
        let promise = Record::PromiseAll { ballot: Ballot::first_epoch(self.learned.0) };
        (self.learned, vec![promise; 30])
    }

    fn learned(&self) -> Instance {
        self.learned
    }

    fn past(&self, first: Instance, last: Instance) -> Vec<Past> {
        assert!(first > self.forgotten && last <= self.learned, "{first} to {last} is held");
        let past = |(instance, value): (&Instance, &Value)| Past {
            instance: *instance,
            value: value.clone(),
            void: void(*instance),
        };
        self.values.range(first..=last).map(past).collect()
    }
}

fn void(instance: Instance) -> Option<Option<Instance>> {
    match instance.0 % 7 {
        0 => Some(None),
        1 => Some(Some(Instance(1))),
        _ => None,
    }
}

fn value(instance: Instance) -> Value {
    Value::from(format!("{instance} # {}\n", "v".repeat(instance.0 as usize % 90)).as_str())
}

fn open(files: &Model) -> (Store<Model>, Learner) {
    let mut learner = Learner::default();
    let opened = Store::open(files.clone(), INCARNATION, &SMALL, &mut |found| {
        learner.take(&found.record().map_err(|error| error.to_string())?);
        Ok(())
    });
    let store = opened.expect("no crash leaves damage").store;
    learner.forget(store.compacted());
    (store, learner)
}

fn learn(store: &mut Store<Model>, learner: &mut Learner) {
    let instance = learner.learned.next();
    let record = Record::Learn { instance, value: value(instance) };
    learner.take(&record);
    store.append_with(|batch| record.encode(batch));
    store.commit(learner).expect("commits");
}

/// Learns up to `last`, and runs every task at once.
fn fill(files: &Model, last: u64) -> (Store<Model>, Learner) {
    let (mut store, mut learner) = open(files);
    while learner.learned.0 < last {
        learn(&mut store, &mut learner);
        while let Some(task) = store.task(&learner) {
            store.finish(task.run(files).expect("runs"));
            learner.forget(store.compacted());
        }
    }
    (store, learner)
}

fn fresh() -> Model {
    let files = Model::default();
    create(&files, INCARNATION, &SMALL).expect("creates");
    files
}

fn check(store: &Store<Model>, learner: &Learner) {
    let compacted = store.compacted();
    let past = store.past(Instance(1), compacted, usize::MAX).expect("the history is whole");
    assert_eq!(past.len() as u64, compacted.0);
    for past in &past {
        assert_eq!((&past.value, past.void), (&value(past.instance), void(past.instance)));
    }
    let held: Vec<Instance> = learner.values.keys().copied().collect();
    assert_eq!(held, (compacted.0 + 1..=learner.learned.0).map(Instance).collect::<Vec<_>>());
    assert!(learner.values.iter().all(|(instance, held)| *held == value(*instance)));
}

#[test]
fn a_power_cut_between_any_two_operations_loses_nothing_relied_on() {
    for seed in 0..60 {
        let (files, mut chance) = (fresh(), Rng::new(seed, Stream::Disk));
        let mut relied = Instance(0);
        for _ in 0..12 {
            let (mut store, mut learner) = open(&files);
            assert!(learner.learned >= relied, "{} of {relied}", learner.learned);
            check(&store, &learner);
            let mut tasks = Vec::new();
            for _ in 0..chance.below(150) {
                files.rely();
                relied = learner.learned;
                while store.is_blocked() {
                    let task: Task<Model> = tasks.pop().expect("waits for a task");
                    store.finish(task.run(&files).expect("runs"));
                }
                learn(&mut store, &mut learner);
                tasks.extend(store.task(&learner));
                for _ in 0..chance.below(4) {
                    let at = chance.below(tasks.len() as u64) as usize;
                    if tasks.get_mut(at).is_some_and(|task| task.step(&files).expect("steps")) {
                        store.finish(tasks.swap_remove(at));
                        learner.forget(store.compacted());
                    }
                }
            }
            drop(store);
            files.cut_power(&mut |end| chance.below(end));
        }
        assert!(relied.0 > 100, "{relied}");
    }
}

#[test]
fn an_old_value_is_found_alone_and_in_ranges_at_any_age() {
    let files = fresh();
    let (store, learner) = fill(&files, 2_000);
    assert!(store.compacted().0 > 1_900 && store.segment() - store.first < 2);
    check(&store, &learner);
    for first in (1..1_900).map(Instance) {
        let one = store.past(first, first, 1).expect("reads");
        assert_eq!(one.iter().map(|past| past.instance).collect::<Vec<_>>(), [first]);
        assert_eq!(one[0].value, value(first));
    }
    let some = store.past(Instance(100), Instance(1_800), 3_000).expect("reads");
    assert!(some.len() > 10 && some.len() < 200, "as far as the bytes go: {}", some.len());
    assert_eq!(some[0].instance, Instance(100));
}

#[test]
fn a_log_and_its_history_read_the_same_beside_the_node() {
    let files = fresh();
    let (_store, learner) = fill(&files, 500);
    let mut seen = Vec::new();
    let seen_too = std::cell::RefCell::new(&mut seen);
    let on_past = &mut |past: Past| {
        seen_too.borrow_mut().push((past.instance, past.value));
        Ok(())
    };
    read(&files, INCARNATION, on_past, &mut |found| {
        if let Ok(Record::Learn { instance, value }) = Record::parse(found.line) {
            seen_too.borrow_mut().push((instance, value));
        }
        Ok(())
    })
    .expect("reads");
    let all = (1..=learner.learned.0).map(Instance).map(|instance| (instance, value(instance)));
    assert!(seen.iter().cloned().eq(all));
}

#[test]
fn a_reader_of_a_damaged_history_is_told_all_before_the_damage_and_the_log_and_then_the_error() {
    let damage: [fn(&Model, &str); 2] = [
        |files, name| files.damage(name, |bytes| bytes[1_000] ^= 1),
        |files, name| files.remove(name).expect("removes"),
    ];
    for corrupt in damage {
        let files = fresh();
        let (store, learner) = fill(&files, 3_000);
        let (first, range, base) =
            (store.history[0], store.history[1], store.history.last().expect("some").last);
        files.rely();
        corrupt(&files, &range.name());
        let (mut past, mut learned) = (Vec::new(), Vec::new());
        let on_past = &mut |found: Past| {
            past.push(found.instance.0);
            Ok(())
        };
        let error = read(&files, INCARNATION, on_past, &mut |found| {
            if let Ok(Record::Learn { instance, .. }) = Record::parse(found.line) {
                learned.push(instance.0);
            }
            Ok(())
        })
        .expect_err("it is damaged");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let last = *past.last().expect("some are there");
        assert!(past.iter().copied().eq(1..=last) && (first.last.0..range.last.0).contains(&last), "{last}");
        assert_eq!((learned[0] <= base.0 + 1, learned.last()), (true, Some(&learner.learned.0)));
    }
}

#[test]
fn a_flipped_bit_in_the_history_is_named_at_the_lookup_and_never_read() {
    let files = fresh();
    let (store, _) = fill(&files, 300);
    files.rely();
    let name = store.history[1].name();
    let whole = files.bytes(&name);
    for at in 0..whole.len() {
        files.damage(&name, |bytes| bytes[at] ^= 1 << (at % 8));
        let Range { first, last } = store.history[1];
        match store.past(first, last, usize::MAX) {
            Err(error @ StoreError::Damaged { .. }) => assert!(error.to_string().contains(&name)),
            other => panic!("byte {at}: {other:?}"),
        }
        files.damage(&name, |bytes| bytes[at] ^= 1 << (at % 8));
    }
}

#[test]
fn a_log_without_the_history_below_its_checkpoint_does_not_open() {
    let files = fresh();
    let (store, _) = fill(&files, 300);
    let last = store.history.last().expect("compacted").name();
    drop(store);
    files.remove(&last).expect("removes");
    let refusal = Store::open(files.clone(), INCARNATION, &SMALL, &mut |_| Ok(())).expect_err("refused");
    assert!(refusal.to_string().contains("no other file holds"), "{refusal}");
}

/// Found by the simulator (seed 805252). The second segment began before anything was learned, so its checkpoint
/// made none of the segments before it redundant. A power cut between the removals of the first and the second
/// segment left the second as the first.
#[test]
fn a_power_cut_amid_a_removal_leaves_a_log_that_opens() {
    let files = fresh();
    let (mut store, mut learner) = open(&files);
    while store.segment() == 1 {
        let record = Record::PromiseAll { ballot: Ballot::first_epoch(1) };
        store.append_with(|batch| record.encode(batch));
        store.commit(&learner).expect("commits");
    }
    while store.segment() == 2 {
        learn(&mut store, &mut learner);
    }
    let is_there = |number: u64| segment::numbers(&files).expect("lists").contains(&number);
    while let Some(mut task) = store.task(&learner) {
        while is_there(1) && !task.step(&files).expect("goes on") {}
        if is_there(1) {
            store.finish(task);
        }
    }
    assert!(!is_there(1) && is_there(2), "it was amid the removal");
    drop(store);
    Files::sync_dir(&files).expect("syncs");
    files.rely();
    let (store, again) = open(&files);
    assert_eq!(again.learned, learner.learned);
    check(&store, &again);
}
