//! Tests with real sockets on loopback. Tests that need privilege report when they are skipped.

use std::time::Instant;

use super::interface::Interface;
use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A number that no other test on this host uses: the port of a socket that stays open.
fn number() -> u16 {
    let claim = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = claim.local_addr().expect("bound").port();
    std::mem::forget(claim);
    port
}

/// A meeting place that no other test on this host uses.
fn place(transport: Transport) -> Options {
    let [high, low] = number().to_be_bytes();
    let (address, protocol) = match transport {
        Transport::Udp => (Ipv4Addr::LOCALHOST, u16::from_be_bytes([high, low])),
        Transport::Raw => (Ipv4Addr::new(127, high.max(1), low, 1), 253),
    };
    Options { transport, address, protocol, ..Options::default() }
}

/// The meeting places to test: one for each transport that this process may open.
fn places() -> Vec<Options> {
    let mut places = vec![place(Transport::Udp)];
    places.extend(may_open_raw().then(|| place(Transport::Raw)));
    places
}

fn may_open_raw() -> bool {
    let denied = matches!(Socket::open(&Options::default()), Err(OpenError::NoPrivilege { .. }));
    if denied {
        let required = std::env::var("UPAXOS_REQUIRE").is_ok_and(|what| what.contains("raw"));
        assert!(!required, "UPAXOS_REQUIRE=raw, but CAP_NET_RAW is missing");
        eprintln!("skipped: no CAP_NET_RAW");
    }
    !denied
}

fn open(options: &Options) -> Socket {
    Socket::open(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Receives datagrams until there are `count` of them or the time is up.
fn hear(socket: &mut Socket, count: usize, patience: Duration) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    let deadline = Instant::now() + patience;
    while heard.len() < count && Instant::now() < deadline {
        let wait = deadline.saturating_duration_since(Instant::now());
        socket.receive(Some(wait), &mut |payload, _| heard.push(payload.to_vec())).expect("receive");
    }
    heard
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("Request 0 {i}").into_bytes()).collect()
}

#[test]
fn what_one_says_all_hear_and_so_does_the_sender() {
    for place in places() {
        let (mut a, mut b, mut c) = (open(&place), open(&place), open(&place));
        a.send(&[b"Request 0 \xff\x00 any bytes".to_vec()]).expect("send");
        for socket in [&mut a, &mut b, &mut c] {
            assert_eq!(hear(socket, 1, PATIENCE), [b"Request 0 \xff\x00 any bytes"]);
        }
    }
}

#[test]
fn more_than_one_system_call_takes_arrives_whole_and_in_order() {
    for place in places() {
        let (mut a, mut b) = (open(&place), open(&place));
        a.send(&numbered(1_000)).expect("send");
        assert_eq!(hear(&mut b, 1_000, PATIENCE), numbered(1_000));
    }
}

#[test]
fn a_value_of_60_000_bytes_arrives_whole() {
    for place in places() {
        let (mut a, mut b) = (open(&place), open(&place));
        assert_eq!(a.max_payload(), MAX_DATAGRAM, "loopback carries the largest payload");
        let large: Vec<u8> = (0..60_000).map(|i| i as u8).collect();
        a.send(std::slice::from_ref(&large)).expect("send");
        assert_eq!(hear(&mut b, 1, PATIENCE), [large]);
    }
}

#[test]
fn a_datagram_too_large_to_send_is_counted_and_the_rest_still_goes() {
    for place in places() {
        let (mut a, mut b) = (open(&place), open(&place));
        let [one, two] = [b"one".to_vec(), b"two".to_vec()];
        let huge = vec![b'x'; 70_000];
        a.send(&[huge.clone(), one.clone(), huge.clone(), two.clone(), huge]).expect("send");
        assert_eq!(a.send_errors(), 3);
        assert_eq!(hear(&mut b, 2, PATIENCE), [one, two]);
    }
}

#[test]
fn every_datagram_is_received_or_counted_as_dropped() {
    for place in places() {
        let mut a = open(&place);
        let mut b = open(&Options { receive_buffer: 4_096, ..place });
        a.send(&vec![vec![b'x'; 1_000]; 200]).expect("send");
        // Longer than the second between two counts.
        let heard = hear(&mut b, 200, Duration::from_millis(1_200)).len() as u64;
        assert!(b.drops() > 0, "a queue of {} bytes held 200 datagrams", b.receive_buffer());
        assert_eq!(heard + b.drops(), 200);
    }
}

#[test]
fn groups_at_different_places_do_not_hear_each_other() {
    for place_a in places() {
        let place_b = place(place_a.transport);
        let (mut a, mut b) = (open(&place_a), open(&place_b));
        a.send(&[b"for a".to_vec()]).expect("send");
        b.send(&[b"for b".to_vec()]).expect("send");
        assert_eq!(hear(&mut a, 1, PATIENCE), [b"for a"]);
        assert_eq!(hear(&mut b, 2, Duration::from_millis(50)), [b"for b"]);
    }
}

#[test]
fn a_wait_with_nothing_to_hear_ends_on_time() {
    for place in places() {
        let mut socket = open(&place);
        for wait in [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(20)] {
            let start = Instant::now();
            let heard = socket.receive(Some(wait), &mut |_, _| panic!("heard a ghost"));
            assert_eq!(heard.expect("receive"), 0);
            assert!(start.elapsed() < wait + PATIENCE);
        }
    }
}

#[test]
fn an_empty_datagram_is_heard_as_empty() {
    for place in places() {
        let mut socket = open(&place);
        socket.send(&[Vec::new(), b"after".to_vec()]).expect("send");
        assert_eq!(hear(&mut socket, 2, PATIENCE), [b"".to_vec(), b"after".to_vec()]);
    }
}

#[test]
fn the_senders_address_comes_with_the_payload() {
    for place in places() {
        let mut socket = open(&place);
        socket.send(&[b"hello".to_vec()]).expect("send");
        let mut senders = Vec::new();
        while senders.is_empty() {
            let heard = socket.receive(Some(PATIENCE), &mut |_, from| senders.push(from));
            heard.expect("receive");
        }
        assert!(senders[0].is_loopback());
    }
}

#[test]
fn localhost_over_udp_is_the_default_group_on_loopback() {
    let socket = open(&place(Transport::Udp));
    assert_eq!(socket.destination(), DEFAULT_GROUP);
    assert!(socket.is_local());
}

#[test]
fn a_broadcast_address_serves_over_udp() {
    let address = Ipv4Addr::new(127, 255, 255, 255);
    let place = Options { address, ..place(Transport::Udp) };
    let (mut a, mut b) = (open(&place), open(&place));
    a.send(&[b"to all".to_vec()]).expect("send");
    assert_eq!(hear(&mut a, 1, PATIENCE), [b"to all"]);
    assert_eq!(hear(&mut b, 1, PATIENCE), [b"to all"]);
}

#[test]
fn broadcast_and_multicast_serve_over_raw_ip() {
    if !may_open_raw() {
        return;
    }
    // Other runs of this test share the broadcast address: the number identifies our datagrams.
    let ours = number().to_string().into_bytes();
    for address in [Ipv4Addr::new(127, 255, 255, 255), Ipv4Addr::new(239, 253, 9, 9)] {
        let place = Options {
            address,
            interface: Some(loopback().name),
            protocol: 143, // unassigned
            ..Options::default()
        };
        let (mut a, mut b) = (open(&place), open(&place));
        a.send(std::slice::from_ref(&ours)).expect("send");
        for socket in [&mut a, &mut b] {
            assert!(hear(socket, usize::MAX, Duration::from_millis(100)).contains(&ours));
        }
    }
}

#[test]
fn a_hosts_address_over_udp_is_refused_with_what_would_do() {
    let address = Ipv4Addr::new(127, 0, 0, 2);
    let refused = Socket::open(&Options { address, ..place(Transport::Udp) }).expect_err("a host");
    assert!(matches!(refused, OpenError::BadDestination { .. }));
    let text = refused.to_string();
    assert!(text.contains("127.0.0.2") && text.contains("239.253.0.1"), "{text}");
}

#[test]
fn loopback_on_another_interface_is_refused_before_any_socket() {
    let interface = Interface { is_loopback: false, ..loopback() };
    let refused = place::check_destination(Ipv4Addr::LOCALHOST, Some(&interface));
    assert!(matches!(refused, Err(OpenError::BadDestination { .. })));
}

fn loopback() -> Interface {
    Interface::loopback().expect("a loopback interface")
}

#[test]
fn an_unknown_interface_is_refused_with_those_that_exist() {
    let interface = Some("nosuch0".to_owned());
    let refused = Socket::open(&Options { interface, ..place(Transport::Udp) }).expect_err("none");
    let text = refused.to_string();
    assert!(text.contains("nosuch0") && text.contains(&loopback().name), "{text}");
}

#[test]
fn transports_read_back_as_they_print() {
    for transport in [Transport::Raw, Transport::Udp] {
        assert_eq!(transport.to_string().parse(), Ok(transport));
    }
    let unknown: Result<Transport, _> = "tcp".parse();
    assert_eq!(unknown, Err(UnknownTransport("tcp".to_owned())));
}

#[test]
fn as_much_is_packed_into_a_datagram_as_was_asked_for() {
    for place in places() {
        assert_eq!(open(&Options { datagram: Some(9_000), ..place.clone() }).max_payload(), 9_000);
        let most = open(&Options { datagram: Some(1 << 20), ..place }).max_payload();
        assert_eq!(most, MAX_DATAGRAM);
    }
}
