//! Tests of parts: a cut datagram arrives whole, whatever is lost, and forged parts never cost more than a bound.

use super::*;
use crate::types::GroupId;

const LIMIT: usize = 300;
const NOW: Micros = Micros(1_000_000);

fn head(id: u16, group: u64) -> Vec<u8> {
    let mut text = Vec::new();
    Head { from: Some((NodeId(id), 77)), group: Some(GroupId(group)), name: None }.encode(&mut text);
    text
}

fn said(head: &[u8], length: usize) -> Vec<u8> {
    let text = (0..length).map(|at| b'a' + (at % 26) as u8);
    let mut datagram: Vec<u8> = head.iter().copied().chain(*b"2 Written 1 ").chain(text).collect();
    wire::complete(&mut datagram);
    datagram
}

/// A sender and a receiver of the same group.
fn pair() -> (Parts, Parts) {
    let mut to = Parts::new(9_000, LIMIT);
    assert_eq!(to.cut(&[said(&head(1, 5), 10)], NOW), None);
    (Parts::new(1_000, LIMIT), to)
}

fn hear(to: &mut Parts, datagrams: &[Vec<u8>], now: Micros) -> Vec<Vec<u8>> {
    let whole = datagrams.iter().filter_map(|datagram| match to.take(datagram, now) {
        Taken::AsItIs => Some(datagram.clone()),
        Taken::Whole(whole) => Some(whole),
        Taken::Nothing => None,
    });
    whole.collect()
}

#[test]
fn what_fits_a_packet_goes_as_it_is() {
    let (mut from, mut to) = pair();
    let short = said(&head(2, 5), 100);
    assert_eq!(from.cut(std::slice::from_ref(&short), NOW), None);
    assert_eq!(to.take(&short, NOW), Taken::AsItIs);
}

#[test]
fn a_large_datagram_arrives_whole_in_whatever_order_its_parts_come() {
    let (mut from, mut to) = pair();
    let (short, large) = (said(&head(2, 5), 100), said(&head(2, 5), 60_000));
    let parts = from.cut(&[short.clone(), large.clone()], NOW).expect("one is too long");
    assert!(parts.iter().all(|part| part.len() <= LIMIT));
    assert_eq!(parts[0], short);
    let mut mixed: Vec<_> = parts.into_iter().rev().collect();
    mixed.extend(mixed.clone());
    assert_eq!(hear(&mut to, &mixed, NOW), [large, short.clone(), short], "once");
    assert_eq!((to.open.len(), to.open_bytes, to.deadline()), (0, 0, None));
}

#[test]
fn what_is_lost_is_asked_for_and_said_again_singly() {
    let (mut from, mut to) = pair();
    let large = said(&head(2, 5), 3_000);
    let parts = from.cut(std::slice::from_ref(&large), NOW).expect("it is too long");
    let lost = |at: &usize| [1, 4, 5].contains(at);
    let arrive: Vec<_> = (0..parts.len()).filter(|at| !lost(at)).map(|at| parts[at].clone()).collect();
    assert_eq!(hear(&mut to, &arrive, NOW), Vec::<Vec<u8>>::new());
    assert_eq!(to.tick(NOW), Vec::<Vec<u8>>::new(), "they may still come");
    let later = to.deadline().expect("something is missing");
    let asked = to.tick(later);
    assert_eq!(asked, [b"Missing 1000 2,5-6".to_vec()]);
    assert_eq!(hear(&mut from, &asked, later), Vec::<Vec<u8>>::new());
    assert_eq!(from.deadline(), Some(Micros(0)));
    let again = from.tick(later);
    assert_eq!(again, [1, 4, 5].map(|at| parts[at].clone()));
    assert_eq!(hear(&mut to, &again, later), [large]);
    assert_eq!((to.deadline(), to.lost()), (None, Lost::default()));
}

#[test]
fn two_who_lack_the_same_ask_once_and_are_told_once() {
    let (mut from, mut to) = pair();
    let parts = from.cut(&[said(&head(2, 5), 3_000)], NOW).expect("it is too long");
    let (_, mut other) = pair();
    hear(&mut to, &parts[1..], NOW);
    hear(&mut other, &parts[1..], NOW);
    let later = to.deadline().expect("something is missing");
    let asked = to.tick(later);
    hear(&mut other, &asked, later);
    assert_eq!(other.tick(later), Vec::<Vec<u8>>::new());
    hear(&mut from, &asked, later);
    hear(&mut from, &asked, later);
    assert_eq!(from.tick(later), [parts[0].clone()]);
    // A request for parts other than those that this node lacks does not delay its own request.
    let (_, mut third) = pair();
    hear(&mut third, &parts[..2], NOW);
    hear(&mut third, &asked, later);
    assert_eq!(third.tick(later).len(), 1);
}

#[test]
fn what_never_comes_is_given_up() {
    let (mut from, mut to) = pair();
    let parts = from.cut(&[said(&head(2, 5), 3_000)], NOW).expect("it is too long");
    hear(&mut to, &parts[parts.len() - 1..], NOW);
    let mut asked = 0;
    while let Some(at) = to.deadline() {
        asked += to.tick(at).len();
    }
    assert_eq!(asked, TRIES as usize);
    assert_eq!(to.lost(), Lost { given_up: 1, too_long: 1 });
    assert_eq!((to.open.len(), to.open_bytes), (0, 0));
}

#[test]
fn over_a_slow_way_no_more_parts_are_requested_than_it_carries() {
    let (mut from, mut to) = pair();
    let large: Vec<_> = (0..10).map(|_| said(&head(2, 5), 12_000)).collect();
    let parts = from.cut(&large, NOW).expect("they are too long");
    let first: Vec<_> = parts.iter().step_by(parts.len() / large.len()).cloned().collect();
    hear(&mut to, &first, NOW);
    let (needed, mut sent, mut done, mut now) = (parts.len(), parts.len(), 0, NOW);
    // From now on the way carries a part in 5 ms, and drops the rest.
    while done < large.len() {
        now = now + Micros::from_millis(5);
        let asked = to.tick(now);
        hear(&mut from, &asked, now);
        let mut offered = from.tick(now);
        sent += offered.len();
        offered.truncate(1);
        done += hear(&mut to, &offered, now).len();
        assert!(now < NOW + Micros::from_millis(60_000), "{done} arrived");
    }
    assert!(sent < 5 * needed, "{sent} parts sent for {needed}");
    assert_eq!(to.lost(), Lost::default());
}

#[test]
fn parts_whose_lengths_do_not_fit_together_are_left_out() {
    let (mut from, mut to) = pair();
    let large = said(&head(2, 5), 3_000);
    let parts = from.cut(std::slice::from_ref(&large), NOW).expect("it is too long");
    let count = parts.len() as u16;
    let forged = |place: u16, length: usize| {
        let part = Part { number: 1_000, place, count, text: &vec![b'x'; length] };
        part.print(Some(NodeId(2)), &head(2, 5))
    };
    // The last part comes first, so the length of the others is not known yet; then it is.
    hear(&mut to, &parts[parts.len() - 1..], NOW);
    hear(&mut to, &parts[3..4], NOW);
    hear(&mut to, &[forged(1, 5), forged(2, 70_000), forged(count, 1)], NOW);
    assert_eq!(hear(&mut to, &parts, NOW), [large]);
}

#[test]
fn parts_of_another_group_of_a_client_and_ones_own_are_not_put_together() {
    let (mut from, _) = pair();
    let parts = from.cut(&[said(&head(2, 5), 3_000)], NOW).expect("it is too long");
    let of = |own: &[u8]| {
        let mut to = Parts::new(1, LIMIT);
        to.cut(&[said(own, 1)], NOW);
        hear(&mut to, &parts, NOW).len()
    };
    assert_eq!(of(&head(2, 5)), 0, "its own come back");
    assert_eq!(of(&head(1, 6)), 0);
    assert_eq!(of(&head(1, 5)), 1);
    assert_eq!(of(b"For 0000000000000005\n"), 1, "a client hears nodes");
    assert_eq!(of(b"For 0000000000000005 lab\n"), 0);
    let asked =
        from.cut(&[[b"Submit 7 1 1 ".as_slice(), &[b'x'; 900]].concat()], NOW).expect("it is too long");
    let mut client = Parts::new(1, LIMIT);
    let mut request = b"For 0000000000000005\nmembers".to_vec();
    wire::complete(&mut request);
    client.cut(&[request], NOW);
    assert_eq!(hear(&mut client, &asked, NOW).len(), 0);
    let (_, mut node) = pair();
    assert_eq!(hear(&mut node, &asked, NOW).len(), 1);
}

#[test]
fn no_forged_part_costs_more_than_a_bound_or_ends_the_process() {
    let (mut from, mut to) = pair();
    let parts = from.cut(&[said(&head(2, 5), 3_000)], NOW).expect("it is too long");
    hear(&mut to, &parts[..1], NOW);
    for forged in ["1000 1024 1024 x", "1000 2 3 x", "1000 1 11 y"] {
        let mut forged = [&head(2, 5), b"2 Part ".as_slice(), forged.as_bytes()].concat();
        wire::complete(&mut forged);
        assert_eq!(to.take(&forged, NOW), Taken::Nothing);
    }
    for number in 0..20_000 {
        let part = Part { number, place: 1, count: MAX_PARTS, text: &[b'x'; 1_000] };
        hear(&mut to, &[part.print(Some(NodeId(2)), &head(2, 5))], NOW + Micros(number));
    }
    assert!(to.open.len() <= OPEN && to.open_bytes <= KEPT_BYTES, "{} {}", to.open.len(), to.open_bytes);
    for place in 1..=MAX_PARTS {
        let part = Part { number: 77, place, count: MAX_PARTS, text: &[b'x'; 1_000] };
        assert_eq!(hear(&mut to, &[part.print(Some(NodeId(2)), &head(2, 5))], NOW), Vec::<Vec<u8>>::new());
    }
    let missing = Missing { number: 1_000, places: vec![(1, MAX_PARTS)] };
    hear(&mut from, &[missing.print()], NOW + SAID_LATELY);
    assert_eq!(from.tick(NOW).len(), parts.len());
}

#[test]
fn a_datagram_put_together_from_parts_has_its_own_checksum() {
    let (mut from, mut to) = pair();
    let large = said(&head(2, 5), 3_000);
    let parts = from.cut(std::slice::from_ref(&large), NOW).expect("it is too long");
    for part in &parts {
        let Some(Piece::Part(_, _, part)) = Piece::parse(part) else { panic!("it is a part") };
        assert!(part.text.len() + PART_HEAD + SUM_LINE <= LIMIT);
    }
    let whole = hear(&mut to, &parts, NOW);
    assert_eq!(whole, [large]);
    assert!(wire::open(&whole[0], Dialect::Extended).is_ok());
    // A part of another text, with the right number and a right checksum: the whole is not right.
    let (mut from, mut to) = pair();
    let count = from.cut(&[said(&head(2, 5), 3_000)], NOW).expect("it is too long").len() as u16;
    let Some(Piece::Part(_, _, first)) = Piece::parse(&parts[0]) else { panic!("it is a part") };
    let text = vec![b'x'; first.text.len()];
    let other =
        Part { number: first.number, place: 1, count, text: &text }.print(Some(NodeId(2)), &head(2, 5));
    let whole = hear(&mut to, &[&[other], &parts[1..]].concat(), NOW);
    assert_eq!(wire::open(&whole[0], Dialect::Extended).err(), Some(wire::ParseError::WrongSum));
}

#[test]
fn a_damaged_part_is_left_to_the_reader_of_datagrams_and_asked_for_again() {
    let (mut from, mut to) = pair();
    let large = said(&head(2, 5), 3_000);
    let parts = from.cut(std::slice::from_ref(&large), NOW).expect("it is too long");
    let mut damaged = parts[2].clone();
    let last = damaged.len() - SUM_LINE - 1;
    damaged[last] ^= 1;
    assert_eq!(to.take(&damaged, NOW), Taken::AsItIs);
    assert_eq!(wire::open(&damaged, Dialect::Extended).err(), Some(wire::ParseError::WrongSum));
    hear(&mut to, &[&parts[..2], &parts[3..]].concat(), NOW);
    let later = to.deadline().expect("something is missing");
    assert_eq!(to.tick(later), [b"Missing 1000 3".to_vec()]);
}
