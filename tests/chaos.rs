//! Groups of real nodes under everything that may happen to them, by chance and from a seed.
//!
//! `UPAXOS_SEEDS=0..5000 cargo test --release -p upaxos-core --test chaos` looks at more.

#[path = "support/judges.rs"]
mod judges;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::{Line, Message};
use world::{Faults, Rng, World};

const CHAOS_MS: u64 = 4_000;
const PATIENCE_MS: u64 = 20_000;

/// One tagged request of a client.
struct Call {
    is_read: bool,
    text: String,
    /// The highest instance that had been acknowledged to anybody when this was first sent.
    after: Instance,
    retry_at: Micros,
}

/// Clients that retry until they are answered, and remember what they were told.
#[derive(Default)]
struct Clients {
    calls: BTreeMap<(u64, u64), Call>,
    done: BTreeMap<(u64, u64), Instance>,
    texts: BTreeMap<(u64, u64), String>,
    answers: BTreeMap<Instance, String>,
    acknowledged: Instance,
    count: u64,
}

impl Clients {
    fn step(&mut self, world: &mut World, load: u64) {
        for client in [7, 8, 9] {
            let open = self.calls.keys().filter(|(owner, _)| *owner == client).count();
            if open < 4 && world.rng.chance(load) {
                self.call(client, world);
            }
        }
        if world.rng.chance(load / 10) {
            self.count += 1;
            let read = world.rng.chance(300_000);
            let line = if read { "Request 0".into() } else { format!("Request 0 u{}", self.count) };
            world.send(None, line.into_bytes());
        }
        let floors: BTreeMap<u64, u64> = self.calls.keys().rev().copied().collect();
        let now = world.now;
        for ((client, seq), call) in self.calls.iter_mut().filter(|(_, call)| call.retry_at <= now) {
            call.retry_at = world.now + Micros::from_millis(100 + world.rng.below(400));
            let floor = floors[client];
            let line = match call.is_read {
                true => format!("Read {client} {seq} {floor}"),
                false => format!("Submit {client} {seq} {floor} {}", call.text),
            };
            world.send(None, line.into_bytes());
        }
        for line in std::mem::take(&mut world.heard) {
            self.on_line(line);
        }
    }

    fn call(&mut self, client: u64, world: &mut World) {
        self.count += 1;
        let (seq, text) = (self.count, format!("w{}", self.count));
        let (is_read, after) = (world.rng.chance(200_000), self.acknowledged);
        if !is_read {
            self.texts.insert((client, seq), text.clone());
        }
        self.calls.insert((client, seq), Call { is_read, text, after, retry_at: world.now });
    }

    fn on_line(&mut self, line: Line) {
        match line {
            Line::Node(_, Message::Done { first, last, client, seq }) => {
                (first.0..=last.0).zip(seq..).for_each(|(i, seq)| self.on_done((client, seq), Instance(i)));
            }
            Line::Node(_, Message::Answer { instance, client, seq, value }) => {
                self.answers.insert(instance, value.to_string());
                self.on_done((client, seq), instance);
            }
            Line::Node(from, Message::Refused { client, seq, reason }) => {
                let is_open = self.calls.contains_key(&(client, seq));
                assert!(!is_open, "{from} refuses {client} {seq}: {reason}");
            }
            _ => {}
        }
    }

    fn on_done(&mut self, tag: (u64, u64), instance: Instance) {
        let known = *self.done.entry(tag).or_insert(instance);
        assert_eq!(known, instance, "request {tag:?} was answered with two instances");
        if let Some(call) = self.calls.remove(&tag) {
            assert!(
                instance > call.after,
                "{tag:?} stands at {instance}, asked after {} was known",
                call.after
            );
            self.acknowledged = self.acknowledged.max(instance);
        }
    }

    /// Everything acknowledged is there, once, and every read saw what was before it.
    fn check(&self, world: &World) {
        let mut times: BTreeMap<String, Vec<Instance>> = BTreeMap::new();
        for (instance, reads) in &world.judges.reads {
            times.entry(reads.to_string()).or_default().push(*instance);
            if let Some(read) = reads.to_string().strip_prefix("safe read ") {
                assert_eq!(read, world.judges.last_user_value(*instance), "safe read at {instance}");
            }
        }
        for (tag, text) in &self.texts {
            let at = times.get(text).cloned().unwrap_or_default();
            assert!(at.len() <= 1, "{tag:?} took effect at {at:?}");
            if let Some(done) = self.done.get(tag) {
                assert_eq!(at, [*done], "{tag:?} was acknowledged");
            }
        }
        for (instance, answer) in &self.answers {
            assert_eq!(Some(answer), world.judges.reads.get(instance).map(ToString::to_string).as_ref());
        }
    }
}

/// Which faults a seed has: each class or not, then how much of it.
fn faults(rng: &mut Rng) -> Faults {
    let mut some = |most: u64| if rng.chance(500_000) { rng.below(most) } else { 0 };
    Faults {
        loss: some(400_000),
        duplicates: some(300_000),
        replays: some(300_000),
        crash: some(1_500),
        delay: 500 + some(200_000),
        ..Faults::default()
    }
}

/// Partitions and pauses come and go.
fn disturb(world: &mut World, partitions: u64, pauses: u64) {
    let n = u64::from(world.n);
    let pairs: Vec<(u16, u16)> = (0..world.n).flat_map(|a| (0..world.n).map(move |b| (a, b))).collect();
    if world.rng.chance(partitions) {
        let (kind, side) = (world.rng.below(4), world.rng.below(1 << n));
        let is_cut = |rng: &mut Rng, (a, b): (u16, u16)| match kind {
            0 => false,
            1 => (side >> a) & 1 != (side >> b) & 1,
            2 => (side >> a) & 1 > (side >> b) & 1,
            _ => a != b && rng.chance(300_000),
        };
        world.faults.cuts = pairs.into_iter().filter(|pair| is_cut(&mut world.rng, *pair)).collect();
    }
    if world.rng.chance(pauses) {
        let id = world.rng.below(n) as usize;
        world.members[id].paused_until = world.now + Micros::from_millis(world.rng.below(2_000));
    }
}

fn settle(world: &mut World, clients: &mut Clients, what: &str) {
    for _ in 0..PATIENCE_MS / 10 {
        world.run_for(10);
        clients.step(world, 0);
        let learned: Vec<_> = world.members.iter().map(|m| m.node.as_ref().map(|n| n.learned())).collect();
        if clients.calls.is_empty() && learned.iter().all(|l| l.is_some() && *l == learned[0]) {
            return;
        }
    }
    panic!("{what}: no progress, {} calls are open\n{}", clients.calls.len(), world.view());
}

fn run(seed: u64) {
    let mut rng = Rng(seed ^ 0x5eed);
    let mut world = World::new(if rng.chance(600_000) { 3 } else { 5 }, seed);
    let mut clients = Clients::default();
    let mut some = |most: u64| if rng.chance(500_000) { rng.below(most) } else { 0 };
    let (partitions, pauses, peace) = (some(20_000), some(10_000), some(1_500));
    let load = 20_000 + rng.below(150_000);
    world.run_for(peace);
    world.faults = faults(&mut rng);
    for _ in 0..CHAOS_MS / 5 {
        disturb(&mut world, partitions, pauses);
        world.run_for(5);
        clients.step(&mut world, load);
    }
    world.faults = Faults { delay: 500, ..Faults::default() };
    world.members.iter_mut().for_each(|member| member.paused_until = Micros(0));
    settle(&mut world, &mut clients, "after healing");
    clients.check(&world);
    (0..world.n).for_each(|id| world.crash(id, 0));
    clients.call(7, &mut world);
    settle(&mut world, &mut clients, "after a power cut of all");
    clients.check(&world);
}

#[test]
fn no_seed_breaks_agreement_durability_exactly_once_or_progress() {
    let seeds = std::env::var("UPAXOS_SEEDS").unwrap_or_else(|_| "0..120".into());
    let (first, end) = seeds.split_once("..").expect("UPAXOS_SEEDS is FIRST..END");
    let range: std::ops::Range<u64> = first.parse().expect("a number")..end.parse().expect("a number");
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let failed = |part: u64| {
        let seeds = range.clone().filter(move |seed| seed % threads == part);
        seeds.filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err()).collect::<Vec<_>>()
    };
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|part| scope.spawn(move || failed(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("it catches panics")).collect()
    });
    assert!(failed.is_empty(), "{} of {seeds}: seeds {failed:?}", failed.len());
}
