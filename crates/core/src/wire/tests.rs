//! Tests of the grammar, with examples and with random input.

use proptest::prelude::*;

use super::*;
use crate::digest_write::{Digest, NamedWrite, Names, Run};
use crate::types::{Epoch, GroupId, MAX_NUMBER, MAX_VALUE, Tag};

fn parsed(line: &str) -> Line {
    parse_line(line.as_bytes(), Dialect::Extended).unwrap()
}

/// The third column of the table in the module's documentation.
fn examples() -> Vec<String> {
    let rows = include_str!("../wire.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.filter_map(|row| Some(row.rsplit_once("| `")?.1.rsplit_once('`')?.0.to_string())).collect()
}

#[test]
fn every_example_of_the_documentation_reads_and_prints_back() {
    let examples = examples();
    assert!(examples.len() >= 32, "the table has a line for every verb: {}", examples.len());
    for example in examples.iter().filter(|example| !example.starts_with('&')) {
        let mut datagram = example.clone().into_bytes();
        match example.split(' ').next() {
            Some("Part") => append_sum(&mut datagram),
            Some("Sum") => {
                let mut datagram = b"For 5f3a9c01d2b4e6f8\nmembers".to_vec();
                complete(&mut datagram);
                assert!(datagram.ends_with(format!("\n{example}").as_bytes()));
                continue;
            }
            _ => complete(&mut datagram),
        }
        if let Some(piece) = part::Piece::parse(&datagram) {
            let printed = match piece {
                part::Piece::Part(head, _, part) => part.print(None, head),
                part::Piece::Missing(missing) => missing.print(),
            };
            assert_eq!(printed, datagram);
            continue;
        }
        let (head, mut lines) = open(&datagram, Dialect::Extended).unwrap();
        let mut text = Vec::new();
        match lines.next() {
            Some(line) => line.unwrap().encode(Dialect::Extended, &mut text),
            None => head.encode(&mut text),
        }
        assert_eq!(String::from_utf8(text).unwrap().trim_end(), example);
    }
}

#[test]
fn the_classic_exchange_reads() {
    let ballot = Ballot::first_epoch(2);
    let instance = Instance(1);
    let from = |id, message| Line::Node(NodeId(id), message);
    assert_eq!(parsed("2 Propose 1 2 one"), from(2, Message::Propose { instance, ballot }));
    assert_eq!(parsed("0 Promise 1 2"), from(0, Message::Promise { instance, ballot, accepted: None }));
    assert_eq!(parsed("Request 0 one"), Line::Client(Request::Write("one".into())));
    assert_eq!(parsed("Request 2"), Line::Client(Request::History(Instance(2))));
    assert_eq!(parsed("bye"), Line::Client(Request::Quit));
    assert!(parse_line(b"OK", Dialect::Extended).is_err(), "a classic node's bare answer is ignored");
}

#[test]
fn classic_lines_are_read_as_classic_nodes_read_them() {
    let read = |line: &[u8]| parse_line(line, Dialect::Classic);
    let accept = |value: &[u8]| {
        let (instance, ballot) = (Instance(1), Ballot::first_epoch(2));
        Ok(Line::Node(NodeId(0), Message::Accept { instance, ballot, value: value.into() }))
    };
    assert_eq!(read("0  Accept\t1 2 \u{a0} a  \u{2003} b\r ".as_bytes()), accept(b"a b"));
    assert_eq!(read(b"0 Accept 1 2 \xff  \\n\xc3"), accept(b"\xff \\n\xc3"), "all else is literal");
    assert_eq!(read(b"Request 0   "), Ok(Line::Client(Request::Read)), "blanks are no value");
    let no_lines: [&[u8]; 5] = [
        b"0 Accept 1 2  ",
        b"0 Accept 1 0:2 a",
        b"0 Accepts 1 1 2",
        b"0 Register 3 7 1 1",
        b"0 Chosen 1 1 2",
    ];
    assert!(no_lines.iter().all(|line| read(line).is_err()));
    assert_eq!(lines(b"0 Write 1 2 a\n& b", Dialect::Classic).flatten().count(), 1, "no continuations");
}

#[test]
fn a_piped_value_means_what_it_says() {
    let line = parse_line(b"Request 0 a  b\\n \xff", Dialect::Extended).unwrap();
    assert_eq!(line, Line::Client(Request::Write(b"a  b\\n \xff"[..].into())));
    assert_eq!(parsed("Request 0 "), Line::Client(Request::Read), "nothing is not a value");
    assert_eq!(parsed("Request 3 x"), Line::Client(Request::Misplaced(Instance(3), "x".into())));
}

#[test]
fn a_malformed_line_takes_nothing_else_down() {
    let datagram = b"0 NACK 1 2\n0 NACK 1\n\n0 NACK 18446744073709551616 2\nfoo\n0 NACK 3 4\n";
    let read: Vec<_> = lines(datagram, Dialect::Extended).collect();
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, false, true]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    for line in [
        "0 NACK 0 2",
        "65536 NACK 1 2",
        "0 NACK 1 9223372036854775808",
        "0 NACK -1 2",
        "0 NACK +1 2",
        "0 NACK 1 :2",
        "0 NACK 1 2 3",
        "0 Accepts 5 4 2",
        "0 WriteTags 5 7 2 0e7f 7 1 3",
        "0 WriteTags 5 7 2 0e7fb7a0f1b9ec3ff2a4d0a4e2a1e7a2d19d3a8b6f5c4e3d2c1b0a9f8e7d6c5b 7 1 2",
        "0 WriteTags 5 7 2 0e7fb7a0f1b9ec3ff2a4d0a4e2a1e7a2d19d3a8b6f5c4e3d2c1b0a9f8e7d6c5b 7 1 4",
        "0 WriteTags 5 7 2 0e7fb7a0f1b9ec3ff2a4d0a4e2a1e7a2d19d3a8b6f5c4e3d2c1b0a9f8e7d6c5b 7 1 3 7 4 0",
        "0 Write 1 2",
        "0 Written 1 a\\x",
    ] {
        assert!(parse_line(line.as_bytes(), Dialect::Extended).is_err(), "{line}");
    }
}

#[test]
fn a_dropped_line_ends_the_run_that_continuations_go_on_from() {
    let read: Vec<_> = lines(b"& x\n0 Write 1 2 a\n& b\n0 Write\n& c", Dialect::Extended).collect();
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true, false, false]);
}

#[test]
fn a_single_value_may_be_larger_than_a_datagram_of_the_path_and_travels_alone() {
    let mut packer = Packer::new(Dialect::Extended, 100);
    let write = |instance, len: usize| {
        let ballot = Ballot::first_epoch(1);
        Line::Node(
            NodeId(1),
            Message::Write { instance: Instance(instance), ballot, value: vec![b'x'; len].into() },
        )
    };
    [write(1, 10), write(2, 10), write(3, 500), write(4, 10)].iter().for_each(|line| packer.push(line));
    let datagrams = packer.finish();
    assert_eq!(datagrams.iter().map(Vec::len).collect::<Vec<_>>(), [22 + 2 + 11, 12 + 500, 22]);
}

#[test]
fn the_largest_value_fits_a_datagram_with_the_longest_head() {
    let ballot = Ballot { epoch: Epoch(MAX_NUMBER), number: MAX_NUMBER };
    let accepted = Some((ballot, Value::from(vec![b'x'; MAX_DATAGRAM - MAX_HEAD])));
    let instance = Instance(MAX_NUMBER);
    let line = Line::Node(NodeId(u16::MAX), Message::Promise { instance, ballot, accepted });
    let marks = 100; // what `entry` puts before a tagged value
    assert!(line.to_bytes(Dialect::Extended).len() + marks <= MAX_DATAGRAM);
    assert!(value_refusal(&[b'x'; MAX_VALUE]).is_none());
    assert!(value_refusal(&[b'\n'; MAX_VALUE]).unwrap().contains("120000"));
}

fn any_write_tags() -> impl Strategy<Value = Message> {
    let run = (0..MAX_NUMBER / 2, 0..MAX_NUMBER / 2, 1..50u64);
    let run = run.prop_map(|(client, seq, count)| Run { first: Tag { client, seq }, count });
    let runs = prop::collection::vec(run, 1..5);
    (1..MAX_NUMBER / 2, any_ballot(), any::<[u8; 32]>(), runs).prop_map(|(first, ballot, digest, runs)| {
        let count: u64 = runs.iter().map(|run| run.count).sum();
        let (first, last) = (Instance(first), Instance(first + count - 1));
        let names = Names { runs, digest: Digest(digest) };
        Message::WriteTags(NamedWrite { first, last, ballot, names })
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\\'), Just(b' '), any::<u8>()], 0..40)
        .prop_map(Value::from)
}

fn any_ballot() -> impl Strategy<Value = Ballot> {
    (0..3u64, 0..=MAX_NUMBER).prop_map(|(epoch, number)| Ballot { epoch: Epoch(epoch), number })
}

fn any_instance() -> impl Strategy<Value = Instance> {
    prop_oneof![1..100u64, 1..=MAX_NUMBER].prop_map(Instance)
}

fn any_range() -> impl Strategy<Value = (Instance, Instance)> {
    (any_instance(), any_instance()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn any_boot() -> impl Strategy<Value = Boot> {
    let number = || 0..=MAX_NUMBER;
    (number(), number(), number()).prop_map(|(incarnation, start, boot)| Boot { incarnation, start, boot })
}

fn any_tagged() -> impl Strategy<Value = Tagged> {
    (0..=MAX_NUMBER, 0..9u64, 0..9u64)
        .prop_map(|(client, seq, floor)| Tagged { tag: Tag { client, seq }, floor })
}

fn any_beat() -> impl Strategy<Value = Beat> {
    let stances = prop::sample::select(Stance::ALL.map(|(stance, _)| stance).to_vec());
    let heard = prop::collection::vec(any::<u16>().prop_map(NodeId), 0..5);
    (any::<u16>(), any_boot(), prop::option::of(any_ballot()), any_instance(), stances, heard).prop_map(
        |(n, boot, ballot, learned, stance, heard)| Beat { n, boot, ballot, learned, stance, heard },
    )
}

fn any_paxos_message() -> impl Strategy<Value = Message> {
    use Message as M;
    let at = || (any_instance(), any_ballot());
    prop_oneof![
        at().prop_map(|(instance, ballot)| M::Propose { instance, ballot }),
        at().prop_map(|(first, ballot)| M::ProposeAll { first, ballot }),
        (at(), prop::option::of((any_ballot(), any_value())))
            .prop_map(|((instance, ballot), accepted)| M::Promise { instance, ballot, accepted }),
        (any_range(), any::<bool>(), any_ballot(), any_instance()).prop_map(
            |((first, last), open, ballot, learned)| {
                M::PromiseNone { first, last: (!open).then_some(last), ballot, learned }
            }
        ),
        (at(), any_value()).prop_map(|((instance, ballot), value)| M::Write { instance, ballot, value }),
        (at(), any_value()).prop_map(|((instance, ballot), value)| M::Accept { instance, ballot, value }),
        (any_range(), any_ballot()).prop_map(|((first, last), ballot)| M::Accepts { first, last, ballot }),
        (any_range(), any_ballot()).prop_map(|((first, last), ballot)| M::Fetch { first, last, ballot }),
        any_write_tags(),
        at().prop_map(|(instance, ballot)| M::Nack { instance, ballot }),
        (any_instance(), any_value()).prop_map(|(instance, value)| M::Written { instance, value }),
        (any_range(), any_ballot()).prop_map(|((first, last), ballot)| M::Chosen { first, last, ballot }),
        any_range().prop_map(|(first, last)| M::Gap { first, last }),
        any_instance().prop_map(|learned| M::Join { learned }),
        (0..=MAX_NUMBER, 0..=MAX_NUMBER).prop_map(|(epoch, nonce)| M::AskMark { epoch: Epoch(epoch), nonce }),
        (0..9u64, 0..=MAX_NUMBER, 0..=MAX_NUMBER).prop_map(|(epoch, nonce, mark)| M::Mark {
            epoch: Epoch(epoch),
            nonce,
            mark: Instance(mark)
        }),
        (any_instance(), any::<u16>()).prop_map(|(learned, id)| M::JoinFor { learned, replaces: NodeId(id) }),
        (any_instance(), any_instance(), prop::collection::vec(any::<u16>().prop_map(NodeId), 0..5))
            .prop_map(|(epoch, learned, members)| M::Members { epoch: Epoch(epoch.0), learned, members }),
    ]
}

fn any_answer() -> impl Strategy<Value = Message> {
    use Message as M;
    let tag = || (0..=MAX_NUMBER, 0..=MAX_NUMBER);
    let id = || any::<u16>().prop_map(NodeId);
    prop_oneof![
        (any_instance(), any_value()).prop_map(|(instance, value)| M::Ok { instance, value }),
        (any_range(), tag()).prop_map(|((first, last), (client, seq))| M::Done { first, last, client, seq }),
        (any_instance(), tag(), any_value()).prop_map(|(instance, (client, seq), value)| M::Answer {
            instance,
            client,
            seq,
            value
        }),
        (any_range(), tag(), any_value()).prop_map(|((instance, learned), (client, seq), value)| M::Value {
            instance,
            learned,
            client,
            seq,
            value
        }),
        any_range().prop_map(|(learned, instance)| M::NotYet { instance, learned }),
        (tag(), any_value()).prop_map(|((client, seq), reason)| M::Refused { client, seq, reason }),
        (tag(), 0..=MAX_NUMBER).prop_map(|((client, seq), pause)| M::Busy { client, seq, pause }),
        tag().prop_map(|(client, seq)| M::Unknown { client, seq }),
        (tag(), 0..=MAX_NUMBER).prop_map(|((client, seq), begin)| M::Forgotten { client, seq, begin }),
        any_value().prop_map(|reason| M::Error { reason }),
        prop::option::of(any_value()).prop_map(|value| M::Relay { value }),
        any_beat().prop_map(M::Beat),
        (0..=MAX_PACE_MS, prop::option::of(any_ballot()))
            .prop_map(|(every_ms, since)| M::Pace(Pace { every_ms, since })),
        any_instance().prop_map(|instance| M::AskChain { instance }),
        (any_instance(), any::<u128>()).prop_map(|(instance, digest)| M::Chain { instance, digest }),
        (any_instance(), id()).prop_map(|(instance, node)| M::Differs { instance, node }),
        (any::<u16>(), any_boot(), prop::collection::vec(0..=MAX_NUMBER, 0..4))
            .prop_map(|(n, boot, earlier)| M::Register { n, boot, earlier }),
        (id(), 0..=MAX_NUMBER).prop_map(|(node, boot)| M::Registered { node, boot }),
        (id(), 0..=MAX_NUMBER, any_boot()).prop_map(|(node, boot, known)| M::Barred { node, boot, known }),
    ]
}

fn any_line() -> impl Strategy<Value = Line> {
    prop_oneof![
        4 => (any::<u16>(), prop_oneof![any_paxos_message(), any_answer()])
            .prop_map(|(id, message)| Line::Node(NodeId(id), message)),
        1 => (any_tagged(), any_value()).prop_map(|(tagged, value)| Line::Client(Request::Submit(tagged, value))),
        1 => any_tagged().prop_map(|tagged| Line::Client(Request::TaggedRead(tagged))),
        1 => any_tagged().prop_map(|tagged| Line::Client(Request::FastRead(tagged))),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(line in any_line()) {
        prop_assert_eq!(parse_line(&line.to_bytes(Dialect::Extended), Dialect::Extended), Ok(line));
    }

    #[test]
    fn packing_loses_nothing_and_keeps_the_order(lines_in in prop::collection::vec(any_line(), 0..30), limit in 40..400usize) {
        let mut packer = Packer::new(Dialect::Extended, limit);
        lines_in.iter().for_each(|line| packer.push(line));
        let datagrams = packer.finish();
        let out: Result<Vec<_>, _> = datagrams.iter().flat_map(|d| lines(d, Dialect::Extended)).collect();
        prop_assert_eq!(out, Ok(lines_in));
    }

    #[test]
    fn runs_are_continued(values in prop::collection::vec(any_value(), 1..30), limit in 60..400usize) {
        let lines_in: Vec<_> = values.into_iter().zip(1..).map(|(value, i)| {
            Line::Node(NodeId(1), Message::Write { instance: Instance(i), ballot: Ballot::first_epoch(1), value })
        }).collect();
        let mut packer = Packer::new(Dialect::Extended, limit);
        lines_in.iter().for_each(|line| packer.push(line));
        let datagrams = packer.finish();
        let out: Result<Vec<_>, _> = datagrams.iter().flat_map(|d| lines(d, Dialect::Extended)).collect();
        prop_assert_eq!(out, Ok(lines_in));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for dialect in [Dialect::Extended, Dialect::Classic] {
            lines(&bytes, dialect).for_each(drop);
        }
    }

    #[test]
    fn damaged_lines_are_dropped_or_read_as_some_other_line(line in any_line(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = line.to_bytes(Dialect::Extended);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        for read in lines(&bytes, Dialect::Extended).flatten() {
            let again = read.to_bytes(Dialect::Extended);
            prop_assert_eq!(parse_line(&again, Dialect::Extended), Ok(read));
        }
    }

    #[test]
    fn classic_values_are_literal(value in "[!-~]{1,9}( [!-~]{1,9}){0,3}") {
        let line = Line::Node(NodeId(0), Message::Accept { instance: Instance(1), ballot: Ballot::first_epoch(2), value: value.as_str().into() });
        let bytes = line.to_bytes(Dialect::Classic);
        prop_assert_eq!(bytes.strip_prefix(b"0 Accept 1 2 "), Some(value.as_bytes()));
        prop_assert_eq!(parse_line(&bytes, Dialect::Classic), Ok(line));
    }
}

/// Opens a datagram made by hand, with the checksum that it needs.
fn opened(datagram: &str) -> Result<(Head, usize), ParseError> {
    let mut datagram = datagram.as_bytes().to_vec();
    complete(&mut datagram);
    open(&datagram, Dialect::Extended).map(|(head, lines)| (head, lines.flatten().count()))
}

#[test]
fn a_head_ties_the_lines_after_it_to_a_life_and_a_group() {
    let group = Some(GroupId(0x5f3a_9c01_d2b4_e6f8));
    let name = Some("lab-1".parse().unwrap());
    let node = Head { from: Some((NodeId(2), 77)), group, name: None };
    assert_eq!(opened("2 From 77 5f3a9c01d2b4e6f8\n2 NACK 1 2\n2 NACK 2 2"), Ok((node, 2)));
    assert_eq!(opened("2 From 77 5f3a9c01d2b4e6f8 lab-1"), Ok((Head { name, ..node }, 0)));
    assert_eq!(opened("For - lab-1\nRequest 0 one"), Ok((Head { name, ..Head::default() }, 1)));
    assert_eq!(opened("Request 0 For - lab-1"), Ok((Head::default(), 1)), "a value is a value");
    assert_eq!(opened("2 NACK 1 2\n2 From 77 5f3a9c01d2b4e6f8\n2 NACK 1 3"), Ok((Head::default(), 2)));
}

#[test]
fn a_classic_node_takes_nothing_from_a_datagram_with_a_head() {
    for head in
        ["2 From 77 5f3a9c01d2b4e6f8", "2 From 77 - other", "For - lab", "2 From x y", "99999999 From 1 -"]
    {
        let datagram = format!("{head}\n2 Write 1 2 one");
        let opened = open(datagram.as_bytes(), Dialect::Classic).map(|(_, lines)| lines.count());
        assert_eq!(opened, Err(ParseError::HeadInClassic), "{head}");
    }
    let plain = open(b"2 Write 1 2 2 From 77 -", Dialect::Classic);
    assert_eq!(plain.map(|(_, lines)| lines.flatten().count()), Ok(1), "a value is a value");
}

#[test]
fn a_head_that_does_not_parse_makes_its_datagram_void() {
    for head in [
        "2 From 77",
        "2 From x -",
        "2 From 77 5f3a",
        "2 From 77 5F3A9C01D2B4E6F8",
        "2 From 77 - a b",
        "2 From 77 - ",
        "For ",
        "For -  ",
        "For - a_name_that_is_longer_than_it_may_be",
        "For - a\u{e9}",
        "70000 From 77 -",
    ] {
        assert!(opened(&format!("{head}\n2 NACK 1 2\nRequest 0 one")).is_err(), "{head}");
    }
}

#[test]
fn the_longest_head_and_the_longest_line_leave_room_for_a_value() {
    let max = MAX_NUMBER;
    let (ballot, value) = (Ballot { epoch: Epoch(max), number: max }, Value::from(vec![b'v'; 100]));
    let marked = format!("@tag {max} {max} {max} {value}");
    let accepted = Some((ballot, marked.as_str().into()));
    let line = Line::Node(NodeId(u16::MAX), Message::Promise { instance: Instance(max), ballot, accepted });
    let name = Some("x".repeat(MAX_GROUP_NAME).parse().unwrap());
    let mut text = Vec::new();
    Head { from: Some((NodeId(u16::MAX), max)), group: Some(GroupId(u64::MAX)), name }.encode(&mut text);
    line.encode(Dialect::Extended, &mut text);
    append_sum(&mut text);
    assert!(text.len() - value.as_bytes().len() <= MAX_HEAD, "{}", text.len() - value.as_bytes().len());
}

#[test]
fn every_datagram_of_a_packer_begins_with_its_head() {
    let head = Head { from: Some((NodeId(2), 77)), group: Some(GroupId(9)), name: None };
    let mut packer = Packer::new(Dialect::Extended, 120);
    packer.set_head(head);
    let lines: Vec<Line> = (1..20).map(|i| parsed(&format!("2 Written {i} {}", "v".repeat(20)))).collect();
    lines.iter().for_each(|line| packer.push(line));
    let datagrams = packer.finish();
    assert!(datagrams.len() > 3 && datagrams.iter().all(|datagram| datagram.len() <= 120));
    let mut read = Vec::new();
    for datagram in &datagrams {
        let (found, lines) = open(datagram, Dialect::Extended).unwrap();
        assert_eq!(found, head);
        read.extend(lines.map(Result::unwrap));
    }
    assert_eq!(read, lines);
}

/// Datagrams as members and clients send them, of one line or several.
const SAMPLES: [&str; 10] = [
    "1 From 9 00000000000000ff\n1 Chosen 3 3 65537",
    "1 From 9 00000000000000ff kitchen\n1 Written 30 V\n& W\n& X",
    "1 From 9 00000000000000ff\n1 Done 1 1 7 1",
    "1 From 9 00000000000000ff\n1 Beat 3 9 1 9 65537 4 follows 0,2\n1 Pace 100 -",
    "1 From 9 00000000000000ff\n1 Accepts 1 9 65537",
    "1 From 9 00000000000000ff\n1 Promise 3 65538 65537 some value\n1 PromiseNone 4 * 65538 2",
    "1 From 9 -\n1 Barred 2 9 77 5\n1 JoinFor 41 2",
    "1 From 9 00000000000000ff\n1 Write 7 65537 a value\n& another",
    "For 00000000000000ff\nSubmit 7 1 1 some value\n& another",
    "For - kitchen\nRequest 0 some value",
];

fn sample(text: &str) -> Vec<u8> {
    let mut datagram = text.as_bytes().to_vec();
    complete(&mut datagram);
    datagram
}

#[test]
fn one_damaged_bit_anywhere_in_a_datagram_drops_it() {
    for text in SAMPLES {
        let datagram = sample(text);
        assert!(open(&datagram, Dialect::Extended).is_ok(), "{text}");
        for (at, bit) in (0..datagram.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = datagram.clone();
            damaged[at] ^= 1 << bit;
            let read = open(&damaged, Dialect::Extended);
            assert!(read.is_err(), "{:?}: {read:?}", String::from_utf8_lossy(&damaged));
        }
    }
}

proptest! {
    #[test]
    fn of_a_datagram_with_a_few_damaged_bytes_no_line_is_read(which in 0..SAMPLES.len(), damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..5)) {
        let datagram = sample(SAMPLES[which]);
        let mut damaged = datagram.clone();
        for (at, mask) in damage {
            let at = at.index(damaged.len());
            damaged[at] ^= mask;
        }
        let lines = open(&damaged, Dialect::Extended).map_or(0, |(_, lines)| lines.flatten().count());
        prop_assert!(lines == 0 || damaged == datagram, "{:?}", String::from_utf8_lossy(&damaged));
    }

    #[test]
    fn a_datagram_that_lost_its_end_says_nothing(which in 0..SAMPLES.len(), end in any::<prop::sample::Index>()) {
        let datagram = sample(SAMPLES[which]);
        let rest = &datagram[..end.index(datagram.len())];
        let lines = open(rest, Dialect::Extended).map_or(0, |(_, lines)| lines.flatten().count());
        prop_assert_eq!(lines, 0);
    }

    #[test]
    fn a_packed_datagram_keeps_its_limit_with_its_checksum(lines_in in prop::collection::vec(any_line(), 1..30), limit in 200..600usize) {
        let mut packer = Packer::new(Dialect::Extended, limit);
        let head = Head { from: Some((NodeId(2), 77)), group: Some(GroupId(9)), name: None };
        packer.set_head(head);
        lines_in.iter().for_each(|line| packer.push(line));
        let mut out = Vec::new();
        for datagram in packer.finish() {
            let (found, lines) = open(&datagram, Dialect::Extended).unwrap();
            let lines: Vec<_> = lines.map(Result::unwrap).collect();
            prop_assert_eq!(found, head);
            prop_assert!(datagram.len() <= limit || lines.len() == 1);
            out.extend(lines);
        }
        prop_assert_eq!(out, lines_in);
    }
}

#[test]
fn a_head_needs_a_checksum_and_a_line_of_a_person_needs_none() {
    let open =
        |text: &str| open(text.as_bytes(), Dialect::Extended).map(|(_, lines)| lines.flatten().count());
    assert_eq!(open("2 From 77 -\n2 NACK 1 2"), Err(ParseError::NoSum(Some(NodeId(2)))));
    assert_eq!(open("2 From 77 -\n2 NACK 1 2\nSum 00000000"), Err(ParseError::WrongSum));
    assert_eq!(open("For -\nmembers"), Err(ParseError::NoSum(None)));
    assert_eq!(open("members"), Ok(1));
    assert_eq!(open("Request 0 one\nRequest 0 two"), Ok(2));
    assert_eq!(open("Request 0 one\nSum 00000000"), Err(ParseError::WrongSum), "its head may be damaged");
    assert_eq!(open("Sum 00000000"), Ok(0), "there is nothing before it");
}

#[test]
fn a_datagram_of_a_classic_group_has_no_checksum() {
    let (head, lines) = open(b"0 Write 1 2 one\nSum 00000000", Dialect::Classic).unwrap();
    assert_eq!((head, lines.flatten().count()), (Head::default(), 1));
    let mut packer = Packer::new(Dialect::Classic, 100);
    packer.set_head(Head { from: Some((NodeId(2), 77)), group: None, name: None });
    packer.push(&parsed("2 NACK 1 2"));
    assert_eq!(packer.finish(), [b"2 NACK 1 2".to_vec()]);
}
