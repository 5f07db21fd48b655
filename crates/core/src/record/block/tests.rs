//! Tests of the framing. Sizes are small, so that headers meet sector boundaries often.

use super::*;
use proptest::prelude::*;

const SEED: u64 = 0x00c0_ffee;

/// In these lines, the value begins behind the first blank.
fn value_at(line: &[u8]) -> usize {
    line.iter().position(|byte| *byte == b' ').map_or(line.len(), |blank| blank + 1)
}

/// Lines in the form of records: any bytes but a newline and zero, never `#` first.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::collection::vec(any::<u8>(), 0..300).prop_map(|mut line| {
        line.retain(|byte| !matches!(byte, b'\n' | 0));
        line.insert(0, b'a');
        line.push(b'\n');
        line
    });
    prop::collection::vec(line, 1..5).prop_map(|lines| lines.concat())
}

fn bodies(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(body(), count)
}

/// The bytes of a log, with the offset of each block and the end of the last one.
fn log(bodies: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let (mut chain, mut bytes, mut starts) = (Chain::new(SEED), Vec::new(), vec![0]);
    for body in bodies {
        seal(&mut chain, body, value_at, &mut bytes);
        starts.push(bytes.len());
    }
    bytes.resize(bytes.len() + 2048, 0);
    (bytes, starts)
}

fn scan(bytes: &[u8]) -> (Vec<Vec<u8>>, End) {
    let mut scanner = Scanner::new(bytes, 0, Chain::new(SEED), value_at);
    let found = scanner.by_ref().map(|block| block.body.to_vec()).collect();
    (found, scanner.end())
}

fn is_damaged_at(end: End, expected: usize) -> bool {
    matches!(end, End::Damaged { at, .. } if at == expected)
}

proptest! {
    #[test]
    fn any_bodies_come_back_as_they_were(bodies in bodies(0..6)) {
        let (bytes, starts) = log(&bodies);
        let at = starts[bodies.len()];
        prop_assert_eq!(scan(&bytes), (bodies, End::Clean { at }));
    }

    #[test]
    fn the_last_block_cut_anywhere_is_torn(
        bodies in bodies(1..5), cut in any::<prop::sample::Index>(), zeros in 0usize..1000,
    ) {
        let (mut bytes, starts) = log(&bodies);
        let (start, end) = (starts[bodies.len() - 1], starts[bodies.len()]);
        let cut = start + cut.index(end - start);
        // The file was created with its full length.
        bytes.truncate(cut);
        bytes.resize(end + zeros, 0);
        let (found, end) = scan(&bytes);
        prop_assert_eq!(&found, &bodies[..bodies.len() - 1]);
        if cut == start {
            prop_assert_eq!(end, End::Clean { at: start });
        } else {
            let is_torn = matches!(end, End::Torn { at, bytes } if at == start && bytes <= cut - start);
            prop_assert!(is_torn, "{:?}", end);
        }
    }

    #[test]
    fn one_flipped_bit_before_the_last_block_is_damage(
        bodies in bodies(2..5), block in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(), bit in 0u8..8, in_header in any::<bool>(),
    ) {
        let (mut bytes, starts) = log(&bodies);
        let block = block.index(bodies.len() - 1);
        let length = if in_header { HEADER_BYTES } else { starts[block + 1] - starts[block] };
        bytes[starts[block] + byte.index(length)] ^= 1 << bit;
        let (found, end) = scan(&bytes);
        prop_assert_eq!(&found, &bodies[..block]);
        prop_assert_eq!(end, End::Damaged { at: starts[block], next_valid_at: Some(starts[block + 1]) });
    }

    #[test]
    fn one_flipped_bit_in_the_last_block_is_damage_and_never_torn(
        bodies in bodies(1..4), byte in any::<prop::sample::Index>(), bit in 0u8..8, in_length in any::<bool>(),
        zeros in 0usize..2000,
    ) {
        let (mut bytes, starts) = log(&bodies);
        let (start, end) = (starts[bodies.len() - 1], starts[bodies.len()]);
        bytes.resize(end + zeros, 0);
        let at = if in_length { start + 29 + byte.index(8) } else { start + byte.index(end - start) };
        bytes[at] ^= 1 << bit;
        let (found, end) = scan(&bytes);
        prop_assert_eq!(&found, &bodies[..bodies.len() - 1]);
        prop_assert_eq!(end, End::Damaged { at: start, next_valid_at: None });
    }

    #[test]
    fn a_hole_before_the_last_block_is_damage(
        bodies in bodies(2..6), sector in any::<prop::sample::Index>(),
    ) {
        let (mut bytes, starts) = log(&bodies);
        let last = starts[bodies.len() - 1];
        let from = sector.index(last) / 512 * 512;
        // The hole may include the beginning of the last block; then only the blocks before it count.
        let to = (from + 512).min(last);
        bytes[from..to].fill(0);
        let corrupt = starts.iter().rposition(|start| *start <= from).unwrap_or(0);
        let (found, end) = scan(&bytes);
        prop_assert_eq!(&found, &bodies[..corrupt]);
        prop_assert!(is_damaged_at(end, starts[corrupt]), "{:?}", end);
    }

    #[test]
    fn any_subset_of_the_last_blocks_sectors_is_torn_or_whole(
        bodies in bodies(1..5), landed in any::<u16>(),
    ) {
        let (mut bytes, starts) = log(&bodies);
        let whole = bytes.clone();
        let (start, end) = (starts[bodies.len() - 1], starts[bodies.len()]);
        for at in (start..end).filter(|at| landed >> ((at / 512) % 16) & 1 == 0) {
            bytes[at] = 0;
        }
        let (found, end_found) = scan(&bytes);
        if bytes == whole {
            prop_assert_eq!(end_found, End::Clean { at: end });
        } else {
            prop_assert_eq!(&found, &bodies[..bodies.len() - 1]);
            prop_assert!(!matches!(end_found, End::Damaged { .. }), "{:?}", end_found);
            prop_assert_eq!(end_found.at(), start);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        scan(&bytes);
    }

    #[test]
    fn header_like_bytes_never_panic(
        text in "(# [0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8} [0-9]{8} [0-9]{16}\n|# |\n|a{1,40}){0,40}",
    ) {
        scan(text.as_bytes());
    }
}

proptest! {
    #[test]
    fn a_block_is_had_without_its_values_exactly_when_nothing_else_is_hurt(
        values in prop::collection::vec("[a-z ]{0,40}", 1..6), byte in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let lines: Vec<String> = values.iter().map(|value| format!("accept {value}\n")).collect();
        let (mut bytes, starts) = log(&[b"one\n".to_vec(), lines.concat().into_bytes(), b"two\n".to_vec()]);
        let at = starts[1] + byte.index(starts[2] - starts[1]);
        let is_in_body = at >= starts[1] + HEADER_BYTES;
        let line_at = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let was_newline = bytes[at] == b'\n';
        bytes[at] ^= 1 << bit;
        let is_value = is_in_body && at >= line_at + "accept ".len() && !was_newline && bytes[at] != b'\n';
        let mut scanner = Scanner::new(&bytes, 0, Chain::new(SEED), value_at);
        prop_assert_eq!(scanner.by_ref().count(), 1);
        prop_assert_eq!(scanner.clone().end(), End::Damaged { at: starts[1], next_valid_at: Some(starts[2]) });
        prop_assert_eq!(scanner.skip_hurt().map(|block| block.end()), is_value.then_some(starts[2]));
        prop_assert_eq!(scanner.count(), usize::from(is_value));
    }
}

#[test]
fn a_last_block_hurt_in_a_value_was_written_whole_and_is_had_without_it() {
    let (mut bytes, starts) = log(&[b"one\n".to_vec(), b"accept value\n".to_vec()]);
    bytes[starts[2] - 2] ^= 1;
    bytes.resize(starts[2] + 1000, 0);
    let mut scanner = Scanner::new(&bytes, 0, Chain::new(SEED), value_at);
    scanner.next();
    assert_eq!(scanner.clone().end(), End::Damaged { at: starts[1], next_valid_at: None });
    assert_eq!(scanner.skip_hurt().map(|block| block.end()), Some(starts[2]));
    assert_eq!(scanner.end(), End::Clean { at: starts[2] });
}

#[test]
fn a_last_block_torn_inside_a_value_is_torn_though_its_skeleton_holds() {
    let value = "v".repeat(2000);
    let (mut bytes, starts) = log(&[b"one\n".to_vec(), format!("accept {value}\n").into_bytes()]);
    bytes[512..1024].fill(0);
    let mut scanner = Scanner::new(&bytes, 0, Chain::new(SEED), value_at);
    scanner.next();
    assert_eq!(scanner.skip_hurt(), None);
    assert_eq!(scanner.end(), End::Torn { at: starts[1], bytes: starts[2] - starts[1] });
}

#[test]
fn two_hurt_blocks_at_the_end_are_damage_and_both_are_had() {
    let (mut bytes, starts) = log(&[b"accept one\n".to_vec(), b"accept two\n".to_vec()]);
    bytes[starts[1] - 2] ^= 1;
    bytes[starts[2] - 2] ^= 1;
    let mut scanner = Scanner::new(&bytes, 0, Chain::new(SEED), value_at);
    assert_eq!(scanner.clone().end(), End::Damaged { at: starts[0], next_valid_at: None });
    assert!(scanner.skip_hurt().is_some() && scanner.skip_hurt().is_some());
    assert_eq!(scanner.end(), End::Clean { at: starts[2] });
}

#[test]
fn a_hurt_block_with_a_torn_one_behind_it_is_had_and_the_torn_one_is_not() {
    let (mut bytes, starts) = log(&[b"accept one\n".to_vec(), b"accept two\n".to_vec()]);
    bytes[starts[1] - 2] ^= 1;
    bytes[starts[2] - 5..].fill(0);
    let mut scanner = Scanner::new(&bytes, 0, Chain::new(SEED), value_at);
    assert!(scanner.skip_hurt().is_some());
    assert!(matches!(scanner.end(), End::Torn { at, .. } if at == starts[1]));
}

#[test]
fn a_flipped_bit_in_the_zeros_behind_the_log_stops_nothing() {
    let (whole, starts) = log(&[b"one\n".to_vec()]);
    for at in starts[1]..starts[1] + 1500 {
        let mut bytes = whole.clone();
        bytes.resize(starts[1] + 2000, 0);
        bytes[at] ^= 1 << (at % 8);
        let is_torn = matches!(scan(&bytes).1, End::Torn { at, .. } if at == starts[1]);
        assert!(is_torn, "{at}: {:?}", scan(&bytes).1);
    }
}

/// Three blocks of equal length, so that one can replace another.
fn three() -> (Vec<u8>, Vec<usize>) {
    log(&[b"one\n".to_vec(), b"two\n".to_vec(), b"six\n".to_vec()])
}

#[test]
fn a_header_reads_as_documented() {
    let mut out = Vec::new();
    let mut chain = Chain::new(7);
    seal(&mut chain, b"promise 1 65538\n", NO_VALUES, &mut out);
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text, "# b35bc59c b475ebc0 58e2d661 00000016 0000000000000001\npromise 1 65538\n");
    assert_eq!(chain.sequence(), 1);
}

#[test]
fn a_block_repeated_over_the_next_is_damage() {
    let (mut bytes, starts) = three();
    bytes.copy_within(starts[0]..starts[1], starts[1]);
    let at = starts[1];
    assert_eq!(scan(&bytes).1, End::Damaged { at, next_valid_at: Some(at) });
}

#[test]
fn an_older_block_over_the_last_is_damage() {
    let (mut bytes, starts) = three();
    bytes.copy_within(starts[0]..starts[1], starts[2]);
    assert!(is_damaged_at(scan(&bytes).1, starts[2]));
}

#[test]
fn a_block_that_vanished_between_two_is_damage() {
    let (mut bytes, starts) = three();
    bytes.drain(starts[1]..starts[2]);
    assert!(is_damaged_at(scan(&bytes).1, starts[1]));
}

#[test]
fn a_log_with_another_seed_is_damage_from_its_start() {
    let (bytes, _) = three();
    let end = Scanner::new(&bytes, 0, Chain::new(SEED + 1), value_at).end();
    assert!(is_damaged_at(end, 0));
}

#[test]
fn a_hole_between_zeros_and_a_block_is_a_lost_write() {
    let (mut bytes, starts) = three();
    bytes[starts[1]..starts[2]].fill(0);
    let (at, next_valid_at) = (starts[1], Some(starts[2]));
    assert_eq!(scan(&bytes).1, End::Damaged { at, next_valid_at });
}

#[test]
fn a_length_that_points_past_the_end_is_no_block() {
    let (mut bytes, starts) = three();
    bytes[starts[2] + 29..starts[2] + 37].copy_from_slice(b"99999999");
    assert!(is_damaged_at(scan(&bytes).1, starts[2]));
    bytes[starts[0] + 29..starts[0] + 37].copy_from_slice(b"99999999");
    assert!(is_damaged_at(scan(&bytes).1, 0));
}

#[test]
fn header_text_inside_a_value_is_no_evidence_of_a_block() {
    let mut fake = Vec::new();
    seal(&mut Chain::new(1), b"b\n", value_at, &mut fake);
    let body = [b"accept 1 ".as_slice(), &fake].concat();
    let (mut bytes, _) = log(&[body]);
    bytes[0] ^= 1;
    assert_eq!(scan(&bytes).1, End::Damaged { at: 0, next_valid_at: None });
}

#[test]
fn a_forged_header_behind_a_zero_byte_refuses_a_start_and_cuts_nothing() {
    let mut fake = Vec::new();
    seal(&mut Chain::new(1), b"b\n", value_at, &mut fake);
    let body = [b"accept 1 2 \0".as_slice(), &fake].concat();
    let (mut bytes, _) = log(&[body]);
    bytes[0] ^= 1;
    assert!(is_damaged_at(scan(&bytes).1, 0));
}

#[test]
fn a_scan_resumes_where_another_stopped() {
    let (bytes, starts) = three();
    let mut scanner = Scanner::new(&bytes, 0, Chain::new(SEED), value_at);
    scanner.next();
    let (at, chain) = scanner.reached();
    assert_eq!(at, starts[1]);
    assert_eq!(Scanner::new(&bytes, at, chain, value_at).count(), 2);
}

#[test]
#[should_panic = "whole lines"]
fn an_empty_body_is_refused() {
    seal(&mut Chain::new(SEED), b"", value_at, &mut Vec::new());
}
