//! The cost of lines: reading and printing datagrams, and records of the log.
//!
//! Run it with `cargo bench -p upaxos-core --bench wire`. It asserts nothing: results of one machine can be
//! compared only with others of the same minutes. Every figure is for a whole datagram, or a block of the log; the
//! throughput beside it counts lines.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use upaxos_core::record::Record;
use upaxos_core::record::block::{self, Chain};
use upaxos_core::types::{Ballot, Instance, NodeId, Tag, Tagged, Value};
use upaxos_core::wire::{self, Dialect, Line, Message, Packer, Request};

/// The sizes of values, in bytes.
const SIZES: [usize; 3] = [16, 256, 1_400];
/// The maximum length of a datagram in bytes, which fits one Ethernet packet.
const LIMIT: usize = 1_480;
/// The number of lines in a batch.
const LINES: u64 = 64;

fn main() {
    divan::main();
}

fn value(size: usize) -> Value {
    Value::from(vec![b'v'; size])
}

fn submits(size: usize) -> Vec<Line> {
    let submit = |seq| {
        let tagged = Tagged { tag: Tag { client: 0x1234_5678_9abc_def0, seq }, floor: 1 };
        Line::Client(Request::Submit(tagged, value(size)))
    };
    (1..=LINES).map(submit).collect()
}

fn writes(size: usize) -> Vec<Line> {
    let write = |instance| {
        let (instance, ballot) = (Instance(instance), Ballot::first_epoch(65_538));
        Line::Node(NodeId(2), Message::Write { instance, ballot, value: value(size) })
    };
    (1..=LINES).map(write).collect()
}

fn answers() -> Vec<Line> {
    let done = |at: u64| Message::Done {
        first: Instance(at * 40),
        last: Instance(at * 40 + 9),
        client: 0x1234_5678_9abc_def0,
        seq: at * 50,
    };
    (1..=LINES).map(|at| Line::Node(NodeId(2), done(at))).collect()
}

fn packed(lines: &[Line]) -> Vec<Vec<u8>> {
    let mut packer = Packer::new(Dialect::Extended, LIMIT);
    lines.iter().for_each(|line| packer.push(line));
    packer.finish()
}

fn parse(bencher: Bencher<'_, '_>, lines: &[Line]) {
    let datagrams = packed(lines);
    bencher.counter(ItemsCount::new(lines.len())).bench_local(|| {
        for datagram in &datagrams {
            wire::lines(black_box(datagram), Dialect::Extended).for_each(|line| drop(black_box(line)));
        }
    });
}

fn print(bencher: Bencher<'_, '_>, lines: &[Line]) {
    bencher.counter(ItemsCount::new(lines.len())).bench_local(|| packed(black_box(lines)));
}

#[divan::bench(args = SIZES)]
fn parse_submits(bencher: Bencher<'_, '_>, size: usize) {
    parse(bencher, &submits(size));
}

#[divan::bench(args = SIZES)]
fn parse_writes(bencher: Bencher<'_, '_>, size: usize) {
    parse(bencher, &writes(size));
}

#[divan::bench]
fn parse_answers(bencher: Bencher<'_, '_>) {
    parse(bencher, &answers());
}

#[divan::bench(args = SIZES)]
fn print_submits(bencher: Bencher<'_, '_>, size: usize) {
    print(bencher, &submits(size));
}

#[divan::bench(args = SIZES)]
fn print_writes(bencher: Bencher<'_, '_>, size: usize) {
    print(bencher, &writes(size));
}

#[divan::bench]
fn print_answers(bencher: Bencher<'_, '_>) {
    print(bencher, &answers());
}

fn accepts(size: usize) -> Vec<Record> {
    let accept = |instance| Record::Accept {
        instance: Instance(instance),
        ballot: Ballot::first_epoch(65_538),
        value: value(size),
    };
    (1..=LINES).map(accept).collect()
}

/// Prints records into a block with its checksums, as every commit does.
#[divan::bench(args = SIZES)]
fn record_block(bencher: Bencher<'_, '_>, size: usize) {
    let (records, mut body, mut out) = (accepts(size), Vec::new(), Vec::new());
    let mut chain = Chain::new(7);
    bencher.counter(ItemsCount::new(records.len())).bench_local(|| {
        body.clear();
        out.clear();
        for record in black_box(&records) {
            record.encode(&mut body);
            body.push(b'\n');
        }
        block::seal(&mut chain, &body, upaxos_core::record::value_at, &mut out);
        black_box(out.len())
    });
}

/// Parses the lines of a block into records, as every start does.
#[divan::bench(args = SIZES)]
fn parse_records(bencher: Bencher<'_, '_>, size: usize) {
    let mut body = Vec::new();
    for record in accepts(size) {
        record.encode(&mut body);
        body.push(b'\n');
    }
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        for line in black_box(&body).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            drop(black_box(Record::parse(line)));
        }
    });
}
