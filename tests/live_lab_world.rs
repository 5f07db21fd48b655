//! Claims about the lab's real worlds: processes that are hurt and come back, questions that are answered, links
//! that fail as they were told to, and judges that find what was planted.

mod live;

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::Stance;
use upaxos_node::lab::{NodeState, Real, Setup, Start, World, WorldError};

const SEED: u64 = 253;
/// Long enough for a machine that does other things at the same time.
const PATIENCE: Micros = Micros::from_millis(20_000);

fn setup() -> Setup {
    let beat = Micros::from_millis(100);
    Setup { nodes: 3, spares: 1, seed: SEED, beat, classic: false, records: true }
}

/// A raw world in which three nodes run; nothing where there are no namespaces.
fn raw() -> Option<Real> {
    let hosts = live::or_skip(upaxos_node::hosts::Hosts::raw_only(0))?;
    drop(hosts);
    let mut world = Real::raw(&setup()).expect("hosts with a switch");
    start_all(&mut world);
    Some(world)
}

fn start_all(world: &mut Real) {
    for id in 0..3 {
        world.start(NodeId(id), &Start::default()).expect("a node starts");
    }
}

/// Lets time pass until `holds`.
fn await_that(world: &mut Real, what: &str, mut holds: impl FnMut(&Real) -> bool) {
    let until = world.now() + PATIENCE;
    while !holds(world) {
        assert!(world.now() < until, "not in time: {what}\n{}", world.describe());
        world.step(until).expect("the world goes on");
    }
}

fn leader(world: &mut Real) -> NodeId {
    let leads = |world: &Real| (0..3).map(NodeId).find(|id| world.view(*id).stance == Some(Stance::Leads));
    await_that(world, "somebody leads", |world| leads(world).is_some());
    leads(world).expect("just seen")
}

/// Asks, and waits for the outcome.
fn ask(world: &mut Real, client: u64, ask: Ask) -> Outcome {
    let ticket = world.ask(client, ask, PATIENCE).expect("it can be asked");
    let until = world.now() + PATIENCE + Micros::from_millis(1_000);
    loop {
        if let Some(settled) = world.settled().into_iter().find(|settled| settled.ticket == ticket) {
            return settled.outcome;
        }
        assert!(world.now() < until, "no outcome\n{}", world.describe());
        world.step(until).expect("the world goes on");
    }
}

fn write(world: &mut Real, value: &str) -> Instance {
    match ask(world, 0, Ask::Write(value.into())) {
        Outcome::Chosen { instance, value: chosen } if chosen == value.into() => instance,
        other => panic!("{value}: {other:?}\n{}", world.describe()),
    }
}

fn assert_is_good(world: &mut Real) {
    let found = world.check(PATIENCE).expect("the world can be judged");
    assert!(found.is_empty(), "{found:#?}\n{}", world.describe());
}

#[test]
fn a_group_is_asked_crashed_paused_and_judged() {
    let Some(mut world) = raw() else { return };
    let first = write(&mut world, "one");
    assert_eq!(
        ask(&mut world, 3, Ask::History(first)),
        Outcome::Chosen { instance: first, value: "one".into() }
    );
    let old = leader(&mut world);
    world.crash(old).expect("it runs");
    assert_eq!(world.view(old).state, NodeState::Down);
    assert!(world.crash(old).is_err_and(|error| matches!(error, WorldError::Misuse(_))));
    write(&mut world, "two\nin two lines");
    assert_ne!(leader(&mut world), old);
    world.start(old, &Start::default()).expect("it starts again");
    let other = NodeId((old.0 + 1) % 3);
    world.pause(other).expect("it runs");
    write(&mut world, "three");
    assert_eq!(world.view(other).stance, None);
    world.resume(other).expect("it stands still");
    assert!(
        matches!(ask(&mut world, 1, Ask::FastRead), Outcome::Read { value, .. } if value == "three".into())
    );
    world.stop(other).expect("it runs");
    await_that(&mut world, "it ends", |world| world.view(other).state == NodeState::Down);
    assert_is_good(&mut world);
    assert_eq!(world.view(other).state, NodeState::Runs, "the check has started it again");
    write(&mut world, "and on it goes");
}
