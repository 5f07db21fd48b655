//! Datagrams directly over IP, with a protocol of their own: raw(7).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use nix::libc;
use socket2::{Domain, Protocol, SockFilter, Type};

use super::error::OpenError;
use super::options::Options;
use super::place::{Kind, Place};
use super::setup::{self, IP_HEADER, Opened};

/// Opens the raw socket of a group.
pub(super) fn open(options: &Options) -> Result<Opened, OpenError> {
    let protocol = usable_protocol(options.protocol)?;
    let place = place(options)?;
    let destination = SocketAddrV4::new(place.destination, 0);

    let socket = socket2::Socket::new(Domain::IPV4, Type::RAW, Some(protocol))
        .map_err(|error| explain(error, options.protocol))?;
    settle(&socket, &place, None)?;
    setup::prepare(&socket, options.receive_buffer)?;
    setup::bind(&socket, local_address(options.address))?;
    Ok(Opened {
        socket,
        destination,
        max_payload: setup::max_payload(destination, place.named.as_ref(), IP_HEADER),
        is_local: setup::is_local(place.destination, place.named.as_ref()),
        place,
    })
}

/// The current meaning of the group's address on this host.
pub(super) fn place(options: &Options) -> Result<Place, OpenError> {
    let place = Place::find(options.address, options.interface.as_deref())?;
    if options.is_node && place.kind == Kind::Elsewhere {
        return Err(OpenError::BadDestination {
            address: options.address,
            why: "a node could not receive datagrams for it: it is no address of this host, no broadcast address of \
                  its interfaces, and no multicast group; use the broadcast address of a network that all nodes are in \
                  (see `ip addr`), or a multicast group such as 239.253.0.1",
        });
    }
    Ok(place)
}

/// Sets the interface on the socket, for sending and receiving; see [`setup::settle`].
pub(super) fn settle(socket: &socket2::Socket, place: &Place, before: Option<u32>) -> Result<(), OpenError> {
    let index = place.named.as_ref().map(|interface| interface.index);
    let act = "attach a filter for the group's address to the socket";
    socket.attach_filter(&filter(place.destination, index, place.kind)).map_err(OpenError::io(act))?;
    setup::settle(socket, place, before)
}

/// A program that makes the kernel drop packets that were sent to another address, or that arrived elsewhere than
/// on the interface with this index (socket(7), SO_ATTACH_FILTER). Unlike SO_BINDTODEVICE, it can be replaced
/// without privilege when the interface was created anew.
fn filter(destination: Ipv4Addr, index: Option<u32>, kind: Kind) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const DESTINATION: u32 = 16; // in the IP header, with which a raw socket's packet begins
    const ARRIVED_ON: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32;
    const LOOPBACK: u32 = 1; // the same in every network namespace
    const ALL: u32 = u32::MAX;
    let to = u32::from(destination);
    let Some(index) = index else {
        return vec![
            SockFilter::new(LOAD_WORD, 0, 0, DESTINATION),
            SockFilter::new(IF_EQUAL, 0, 1, to),
            SockFilter::new(RETURN, 0, 0, ALL),
            SockFilter::new(RETURN, 0, 0, 0),
        ];
    };
    // Datagrams from this host to its own address arrive on loopback; its broadcasts arrive on the interface.
    let or = if matches!(kind, Kind::Multicast | Kind::Broadcast) { index } else { LOOPBACK };
    vec![
        SockFilter::new(LOAD_WORD, 0, 0, DESTINATION),
        SockFilter::new(IF_EQUAL, 0, 4, to),
        SockFilter::new(LOAD_WORD, 0, 0, ARRIVED_ON),
        SockFilter::new(IF_EQUAL, 1, 0, index),
        SockFilter::new(IF_EQUAL, 0, 1, or),
        SockFilter::new(RETURN, 0, 0, ALL),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// The local address to bind to. The destination can be bound only if it is a shared address: else it may be
/// another host or a broadcast address, which cannot be bound.
fn local_address(destination: Ipv4Addr) -> SocketAddrV4 {
    let is_shared = destination.is_loopback() || destination.is_multicast();
    SocketAddrV4::new(if is_shared { destination } else { Ipv4Addr::UNSPECIFIED }, 0)
}

fn usable_protocol(protocol: u16) -> Result<Protocol, OpenError> {
    let why = match protocol {
        0 => "0 is reserved; choose 253 or 254, which RFC 3692 keeps for experiments",
        255 => "255 is raw IP itself, which sends and never receives; choose 253 or 254",
        1..=254 => return Ok(Protocol::from(i32::from(protocol))),
        _ => "an IP protocol is 1 to 254; for a port, add --transport udp",
    };
    Err(OpenError::BadProtocol { protocol, why })
}

fn explain(error: io::Error, protocol: u16) -> OpenError {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return OpenError::io(format!("open a raw IP socket for protocol {protocol}"))(error);
    }
    let binary = std::env::current_exe().unwrap_or_else(|_| "PATH-OF-THIS-BINARY".into());
    OpenError::NoPrivilege { protocol, binary }
}

/// The payload of a received IP packet. `None` if the packet is truncated or was sent to another address, and so
/// not to the group. Neither binding nor the filter suffices: the kernel queues packets for a raw socket from the
/// moment it exists, so earlier packets may be for any address.
pub(super) fn payload_for(destination: Ipv4Addr, packet: &[u8]) -> Option<&[u8]> {
    let (header, payload) = split(packet)?;
    let to = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    (to == destination).then_some(payload)
}

/// Splits a packet into header and payload. The header's own length field states its length (RFC 791, 3.1).
fn split(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let words = usize::from(packet.first()? & 0x0f);
    packet.split_at_checked((words * 4).max(IP_HEADER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(words: u8, to: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; usize::from(words) * 4];
        packet[0] = 0x40 | words;
        packet[16..20].copy_from_slice(&to);
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn the_header_is_stripped_by_its_length_field() {
        let plain = packet(5, [127, 0, 0, 1], b"quit");
        let with_options = packet(15, [127, 0, 0, 1], b"quit");
        assert_eq!(payload_for(Ipv4Addr::LOCALHOST, &plain), Some(&b"quit"[..]));
        assert_eq!(payload_for(Ipv4Addr::LOCALHOST, &with_options), Some(&b"quit"[..]));
    }

    #[test]
    fn a_packet_shorter_than_its_header_is_ignored() {
        let whole = packet(15, [127, 0, 0, 1], b"");
        for length in 0..whole.len() {
            assert_eq!(payload_for(Ipv4Addr::LOCALHOST, &whole[..length]), None);
        }
        assert_eq!(payload_for(Ipv4Addr::LOCALHOST, &whole), Some(&b""[..]));
    }

    #[test]
    fn what_is_sent_to_another_address_is_not_the_groups() {
        let ours = [[10, 0, 0, 255], [10, 0, 0, 7], [239, 253, 0, 1], [127, 0, 0, 1]];
        let others = [[10, 1, 0, 255], [10, 0, 0, 8], [255; 4], [239, 253, 0, 2], [127, 0, 0, 2]];
        for own in ours {
            for to in ours.into_iter().chain(others) {
                let heard = payload_for(own.into(), &packet(5, to, b"Request 0 one")).is_some();
                assert_eq!(heard, own == to, "{to:?} at {own:?}");
            }
        }
    }

    #[test]
    fn what_was_queued_before_the_socket_was_bound_is_ignored() {
        let other = packet(5, [127, 0, 0, 2], b"1 Accept 1 65537 one");
        assert_eq!(payload_for(Ipv4Addr::LOCALHOST, &other), None);
        assert_eq!(payload_for(Ipv4Addr::new(239, 253, 0, 1), &other), None);
    }

    #[test]
    fn protocols_that_cannot_carry_a_group_are_refused() {
        for protocol in [0, 255, 256, 9999] {
            assert!(matches!(usable_protocol(protocol), Err(OpenError::BadProtocol { .. })));
        }
        assert!(usable_protocol(253).is_ok());
    }

    #[test]
    fn without_privilege_the_error_names_every_remedy() {
        let text = explain(io::Error::from_raw_os_error(1), 253).to_string();
        for part in ["raw IP socket", "protocol 253", "as root", "cap_net_raw+ep /", "--transport udp"] {
            assert!(text.contains(part), "{part:?} is missing in {text:?}");
        }
    }
}
