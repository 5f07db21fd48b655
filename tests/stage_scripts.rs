//! The simulated world of the lab with senseless scripts. Every step is carried out, or refused with a reason. The
//! seed alone decides the run.
//!
//! `UPAXOS_SEEDS=0..5000` tries more random scripts.

#[path = "support/stage.rs"]
mod stage;

use std::ops::Range;
use std::process::Command;

use upaxos_core::client::Ask;
use upaxos_core::types::{Act, Change, Instance, Micros, Value};
use upaxos_lab::{Backend, BackendError, DiskFault, Link, Party, Setup, Sim, Start, Violation};
use upaxos_sim::rng::{Rng, Stream};

use stage::{Lab, PATIENCE, id, setup};

/// In the environment of a child process: the test program only prints the hash of a trace.
const TRACES: &str = "UPAXOS_STAGE_TRACES";

#[test]
fn nothing_else_but_the_seed_decides_what_happens() {
    let run = |seed| {
        let mut lab = Lab::of(3, seed);
        let link = Link { loss: 0.2, duplicate: 0.2, jitter: Micros::from_millis(20), ..Link::default() };
        lab.link(0, 1, link);
        (0..5u64)
            .for_each(|client| _ = lab.ask(client % 2, Ask::Write(format!("v{client}").as_str().into())));
        lab.run(800);
        lab.world.crash(id(1)).expect("it runs");
        lab.start(1);
        lab.check();
        lab.world.trace()
    };
    if std::env::var_os(TRACES).is_some() {
        return println!("\ntrace {:016x}", run(1));
    }
    let child = || {
        let name = "nothing_else_but_the_seed_decides_what_happens";
        let program = std::env::current_exe().expect("this test program");
        let output = Command::new(program).args([name, "--exact", "--nocapture"]).env(TRACES, "1").output();
        let text = String::from_utf8(output.expect("a child runs").stdout).expect("text");
        text.lines().find_map(|line| line.strip_prefix("trace ").map(str::to_owned))
    };
    let here = Some(format!("{:016x}", run(1)));
    assert_eq!((&here, &here), (&child(), &child()));
    assert_ne!(run(1), run(2));
}

#[test]
fn what_makes_no_sense_is_a_misuse_and_says_why() {
    let mut lab = Lab::quiet(&setup(3, 13));
    let misused = |did: Result<(), BackendError>, word: &str| match did {
        Err(BackendError::Misuse(text)) => assert!(text.contains(word), "{text}"),
        other => panic!("{other:?}"),
    };
    let start = |lab: &mut Lab, node| lab.world.start(id(node), &Start::default());
    misused(lab.world.stop(id(0)), "does not run");
    misused(lab.world.crash(id(1)), "does not run");
    misused(lab.world.pause(id(1)), "does not run");
    misused(start(&mut lab, 3), "let it join");
    misused(start(&mut lab, 60), "there are 0 to 5");
    lab.start(0);
    misused(start(&mut lab, 0), "it runs");
    misused(lab.world.wipe(id(0)), "it runs");
    lab.world.crash(id(0)).expect("it runs");
    let join = Start { joins: Some(None), ..Start::default() };
    misused(lab.world.start(id(0), &join), "first started of the first group");
    let link = |loss| Link { loss, ..Link::default() };
    let (one, two) = (Party::Node(id(1)), Party::Node(id(2)));
    misused(lab.world.link(one, two, link(1.5)), "share");
    misused(lab.world.link(one, two, link(f64::NAN)), "share");
    misused(lab.world.link(one, Party::Node(id(6)), link(0.5)), "there are 0 to 5");
    misused(lab.world.link(one, one, link(0.5)), "itself");
    misused(lab.world.disk(id(9), None), "there are 0 to 5");
    misused(lab.world.say(b""), "0 bytes");
    misused(lab.world.say(&[b'x'; 70_000]), "70000 bytes");
    let long = Ask::Write(Value::from(vec![b'x'; 70_000]));
    misused(lab.world.ask(0, long, PATIENCE).map(drop), "limit");
    for setup in [setup(0, 1), setup(70, 1), Setup { beat: Micros(0), ..setup(3, 1) }] {
        misused(Sim::new(&setup).map(drop), "choose");
    }
}

fn seeds() -> Range<u64> {
    let text = std::env::var("UPAXOS_SEEDS").unwrap_or_else(|_| "0..20".into());
    let (first, end) = text.split_once("..").expect("UPAXOS_SEEDS is FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

/// Takes one random step of a script, sensible or not.
fn do_anything(lab: &mut Lab, chance: &mut Rng) {
    let node = id(chance.below(13) as u16);
    let ms = |chance: &mut Rng, most| Micros::from_millis(chance.below(most));
    let share = |chance: &mut Rng| [0.0, 0.1, 0.5, 1.0][chance.below(4) as usize];
    let link = Link {
        is_cut: chance.hits(200_000),
        loss: share(chance),
        duplicate: share(chance),
        corrupt: share(chance),
        delay: if chance.hits(30_000) { Micros(u64::MAX) } else { ms(chance, 50) },
        jitter: if chance.hits(30_000) { Micros(u64::MAX) } else { ms(chance, 50) },
    };
    let party = |chance: &mut Rng| match chance.below(14) {
        13 => Party::Clients,
        node => Party::Node(id(node as u16)),
    };
    let fault = match chance.below(5) {
        0 => Some(DiskFault::Full),
        1 => Some(DiskFault::SyncFails),
        2 => Some(DiskFault::Slow(ms(chance, 900))),
        3 if chance.hits(100_000) => Some(DiskFault::Slow(Micros(u64::MAX))),
        _ => None,
    };
    let said = [
        "quit",
        "Request 0 x",
        "leave 1",
        "2 ProposeAll 1 2",
        "1 NACK 1 9223372036854775807",
        "\n& \n",
        "\u{fffd}",
    ];
    let world = &mut lab.world;
    let done = match chance.below(16) {
        0 => world.stop(node),
        1 => world.crash(node),
        2 => world.pause(node),
        3 => world.resume(node),
        4 if chance.hits(200_000) => world.wipe(node),
        5 => world.disk(node, fault),
        6 | 7 => world.link(party(chance), party(chance), link),
        8 => world.say(said[chance.below(said.len() as u64) as usize].as_bytes()),
        9 => {
            let joins = Some(chance.hits(500_000).then_some(id(chance.below(13) as u16)));
            world.start(node, &Start { joins, ..Start::default() })
        }
        10..13 => world.start(node, &Start::default()),
        _ => {
            let change = Change { act: Act::Replace(node, id(9)), is_forced: chance.hits(500_000) };
            let ask = match chance.below(8) {
                0 => Ask::Read,
                1 => Ask::FastRead,
                2 => Ask::History(Instance(chance.below(5))),
                3 => Ask::Change(change),
                4 => Ask::Members,
                _ => Ask::Write("v".into()),
            };
            let patience = [Micros(0), Micros::from_millis(300), Micros(u64::MAX)][chance.below(3) as usize];
            world.ask(chance.below(3) * (u64::MAX / 2), ask, patience).map(drop)
        }
    };
    assert!(matches!(done, Ok(()) | Err(BackendError::Misuse(_))), "{done:?}");
}

#[test]
fn any_script_at_all_is_carried_out_or_refused_and_never_panics() {
    for seed in seeds() {
        let mut chance = Rng::new(seed, Stream::Workload);
        let nodes = 1 + seed as u16 % 9;
        let mut lab =
            Lab::quiet(&Setup { records: seed % 5 == 0, classic: seed % 7 == 6, ..setup(nodes, seed) });
        for _ in 0..120 {
            do_anything(&mut lab, &mut chance);
            let end = lab.world.now() + Micros::from_millis(chance.below(60));
            while lab.world.now() < end {
                lab.step(end);
            }
        }
        let violations = lab.world.check(Micros::from_millis(5_000)).expect("a world that works");
        // After such scripts the group may have no quorum, or members that never start.
        let is_grave = |violation: &Violation| !violation.expected.starts_with("a healed group answers");
        assert!(!violations.iter().any(is_grave), "seed {seed}: {violations:?}\n{}", lab.world.describe());
    }
}
