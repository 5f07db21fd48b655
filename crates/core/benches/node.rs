//! The cost of a node without disk and network: a write through a leader and its acceptors, a fast read, and the
//! recovery of a log.
//!
//! Run it with `cargo bench -p upaxos-core --bench node`. Three real nodes exchange datagrams, printed and parsed,
//! and a sync takes no time: the result is the cost of all computations in a group of three. The throughput counts
//! requests (for a recovery: instances).

use std::collections::VecDeque;
use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use upaxos_core::driver::{Action, Driver};
use upaxos_core::record::Record;
use upaxos_core::record::block::{self, Chain, Scanner};
use upaxos_core::replica::{Config, Outbox, Recovery, Replica};
use upaxos_core::types::{Ballot, Instance, Micros, NodeId, Tag, Tagged, Value};
use upaxos_core::wire::{Dialect, Head, Line, Packer, Request};

/// The maximum length of a datagram, in bytes.
const LIMIT: usize = 1_480;
/// The client's id.
const CLIENT: u64 = 0x1234_5678_9abc_def0;

fn main() {
    divan::main();
}

/// Three nodes on a network without loss, with disks that take no time.
struct Trio {
    nodes: Vec<(Replica, Driver, Outbox)>,
    now: Micros,
    wire: VecDeque<Vec<u8>>,
    packer: Packer,
    log: Vec<u8>,
    seq: u64,
}

impl Trio {
    /// Three nodes with an elected leader.
    fn new() -> Trio {
        let node = |id| {
            let mut node = Recovery::new(Config::member(NodeId(id), 3)).finish(u64::from(id) + 10, 1);
            let mut out = Outbox::new(NodeId(id));
            node.start(Micros(0), &mut out);
            let mut driver = Driver::new();
            while !matches!(driver.next(&mut node, Micros(0), &mut out), Action::Idle(_)) {}
            (node, driver, out)
        };
        let mut trio = Trio {
            nodes: (0..3).map(node).collect(),
            now: Micros(0),
            wire: VecDeque::new(),
            packer: Packer::new(Dialect::Extended, LIMIT),
            log: Vec::new(),
            seq: 1,
        };
        for _ in 0..1_000 {
            trio.now = trio.now + Micros::from_millis(10);
            trio.turn(None);
            trio.deliver();
            if trio.nodes.iter().any(|(node, ..)| node.is_leading()) {
                return trio;
            }
        }
        panic!("no node leads within ten seconds");
    }

    /// The datagrams of a client that sends `count` requests.
    fn requests(&mut self, count: u64, request: impl Fn(Tagged) -> Request) {
        let floor = self.seq;
        self.packer.set_head(Head::default());
        for seq in floor..floor + count {
            let tagged = Tagged { tag: Tag { client: CLIENT, seq }, floor };
            self.packer.push(&Line::Client(request(tagged)));
        }
        self.seq += count;
        self.wire.extend(self.packer.finish());
    }

    /// Delivers every datagram to every node.
    fn deliver(&mut self) {
        while let Some(datagram) = self.wire.pop_front() {
            self.turn(Some(&datagram));
        }
        for (node, ..) in &mut self.nodes {
            // Act as a disk that compacts at once, so that the memory stays constant.
            node.on_compacted(node.learned());
        }
    }

    /// One turn of each node.
    fn turn(&mut self, datagram: Option<&[u8]>) {
        let Trio { nodes, now, wire, packer, log, .. } = self;
        for (node, driver, out) in nodes {
            if let Some(datagram) = datagram {
                node.receive(*now, datagram, &mut |_| (), out);
            }
            driver.begin(node, *now, out);
            loop {
                match driver.next(node, *now, out) {
                    Action::LookUp(_) | Action::Report(_) | Action::Sync => {}
                    Action::End(event) => panic!("{event}"),
                    Action::Broadcast(lines) => {
                        packer.set_head(node.head());
                        lines.sent().for_each(|line| packer.push(line));
                        wire.extend(packer.finish());
                    }
                    Action::Append(records) => {
                        log.clear();
                        records.iter().for_each(|record| record.encode(log));
                        black_box(&log);
                    }
                    Action::Idle(_) => break,
                }
            }
        }
    }
}

/// The sizes of values in bytes, each with the number of writes that a client sends at once.
const BATCHES: [(usize, u64); 4] = [(16, 1), (16, 64), (256, 1), (256, 64)];

#[divan::bench(args = BATCHES)]
fn write_through_three_nodes(bencher: Bencher<'_, '_>, (size, count): (usize, u64)) {
    let mut trio = Trio::new();
    let value = Value::from(vec![b'v'; size]);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        trio.now = trio.now + Micros(100);
        let before = trio.nodes[0].0.learned();
        trio.requests(count, |tagged| Request::Submit(tagged, value.clone()));
        trio.deliver();
        assert!(trio.nodes[0].0.learned().0 >= before.0 + count, "every write is learned");
    });
}

#[divan::bench(args = [1, 64])]
fn fast_read_through_three_nodes(bencher: Bencher<'_, '_>, count: u64) {
    let mut trio = Trio::new();
    trio.requests(1, |tagged| Request::Submit(tagged, Value::from("value")));
    trio.deliver();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        trio.now = trio.now + Micros(100);
        trio.requests(count, Request::FastRead);
        trio.deliver();
    });
}

/// A log of this many instances, with values of 16 bytes, in blocks of 100.
fn log_of(instances: u64) -> Vec<u8> {
    const RUN: u64 = 100;
    let ballot = Ballot::first_epoch(65_538);
    let (mut chain, mut log, mut body) = (Chain::new(7), Vec::new(), Vec::new());
    for first in (1..=instances).step_by(RUN as usize) {
        body.clear();
        let mut put = |record: &Record| {
            record.encode(&mut body);
            body.push(b'\n');
        };
        for instance in (first..first + RUN).map(Instance) {
            let value = format!("@tag {CLIENT} {instance} {first} sixteen bytes ok");
            put(&Record::Accept { instance, ballot, value: value.as_str().into() });
        }
        put(&Record::Chosen { first: Instance(first), last: Instance(first + RUN - 1), ballot });
        block::seal(&mut chain, &body, upaxos_core::record::value_at, &mut log);
    }
    log
}

#[divan::bench(args = [10_000, 100_000], sample_count = 10, sample_size = 1)]
fn recover(bencher: Bencher<'_, '_>, instances: u64) {
    let log = log_of(instances);
    bencher.counter(ItemsCount::new(instances)).bench_local(|| {
        let mut recovery = Recovery::new(Config::member(NodeId(0), 3));
        for block in Scanner::new(&log, 0, Chain::new(7), upaxos_core::record::value_at) {
            for line in block.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let record = Record::parse(line).expect("a record");
                recovery.take(&record).expect("records follow from each other");
            }
        }
        let node = recovery.finish(1, 1);
        assert_eq!(node.learned(), Instance(instances));
        node
    });
}
