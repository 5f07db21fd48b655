//! The common steps of opening raw and UDP sockets.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, sockopt_impl};
use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, Type};
use upaxos_core::wire::MAX_DATAGRAM;

use super::error::OpenError;
use super::interface::Interface;
use super::place::Place;
use super::route::send_on;

/// A socket that is ready to send and receive.
#[derive(Debug)]
pub(super) struct Opened {
    pub socket: socket2::Socket,
    pub place: Place,
    pub destination: SocketAddrV4,
    pub max_payload: usize,
    pub is_local: bool,
}

/// The length of an IPv4 header without options, in bytes.
pub(super) const IP_HEADER: usize = 20;
/// The length of a UDP header, in bytes.
pub(super) const UDP_HEADER: usize = 8;

/// The longest wait of a send for room in the queue. It is long enough for any burst that drains, and short against
/// an election timeout.
const SEND_PATIENCE: Duration = Duration::from_millis(100);

/// Sets the options that every socket of a group has: broadcast allowed, deep queues, bounded sends.
pub(super) fn prepare(socket: &socket2::Socket, buffer: usize) -> Result<(), OpenError> {
    socket
        .set_broadcast(true)
        .and_then(|()| socket.set_write_timeout(Some(SEND_PATIENCE)))
        .map_err(OpenError::io("set SO_BROADCAST and SO_SNDTIMEO"))?;
    // The forced variants exceed the host's limits but need CAP_NET_ADMIN.
    setsockopt(socket, sockopt::RcvBufForce, &buffer)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &buffer))
        .map_err(OpenError::io(format!("set SO_RCVBUF to {buffer} bytes")))?;
    setsockopt(socket, sockopt::SndBufForce, &buffer)
        .or_else(|_| setsockopt(socket, sockopt::SndBuf, &buffer))
        .map_err(OpenError::io(format!("set SO_SNDBUF to {buffer} bytes")))
}

/// Whether datagrams to `destination` certainly stay on this host.
pub(super) fn is_local(destination: Ipv4Addr, interface: Option<&Interface>) -> bool {
    destination.is_loopback() || interface.is_some_and(|interface| interface.is_loopback)
}

/// Binds the socket to one interface, for sending and receiving.
pub(super) fn bind_device(socket: &socket2::Socket, interface: &Interface) -> Result<(), OpenError> {
    let act = format!("bind the socket to interface {}", interface.name);
    socket.bind_device(Some(interface.name.as_bytes())).map_err(OpenError::io(act))
}

/// Binds the socket to a local address, which several processes may share.
pub(super) fn bind(socket: &socket2::Socket, local: SocketAddrV4) -> Result<(), OpenError> {
    socket
        .set_reuse_address(true)
        .and_then(|()| socket.bind(&SockAddr::from(local)))
        .map_err(OpenError::io(format!("bind the socket to {local}")))
}

/// Sets the interfaces of this place on the socket, by number, in place of the one with the index `before`: the
/// interface where it receives a multicast group, and the one where it sends. None of this needs privilege, so a
/// socket can always follow its interface.
pub(super) fn settle(socket: &socket2::Socket, place: &Place, before: Option<u32>) -> Result<(), OpenError> {
    if place.destination.is_multicast() {
        join(socket, place.destination, place.member.as_ref(), before)?;
    }
    let act = "name the interface to send on (IP_MULTICAST_IF, IP_UNICAST_IF)";
    send_on(socket, place.destination, place.named.as_ref()).map_err(OpenError::io(act))
}

/// Joins a multicast group, so that the socket receives this group and no group that only another process has
/// joined.
fn join(
    socket: &socket2::Socket,
    group: Ipv4Addr,
    interface: Option<&Interface>,
    before: Option<u32>,
) -> Result<(), OpenError> {
    let place = interface.map_or("the default interface", |interface| &interface.name);
    let remedy = if interface.is_none() { " (name one with --interface)" } else { "" };
    let act = format!("join multicast group {group} on {place}{remedy}");
    let index = InterfaceIndexOrAddress::Index(interface.map_or(0, |interface| interface.index));
    for left in before.map(InterfaceIndexOrAddress::Index).iter().chain([&index]) {
        // Usually there is nothing to leave. If the kernel dropped a membership with its interface, the socket's
        // list still has it.
        let _ = socket.leave_multicast_v4_n(&group, left);
    }
    let join = || {
        // Otherwise the socket also receives every group that any process of this host has joined.
        socket.set_multicast_all_v4(false)?;
        socket.join_multicast_v4_n(&group, &index)
    };
    join().map_err(OpenError::io(act))
}

/// The largest payload for `destination` that travels unfragmented beside `headers` bytes of headers. Off loopback,
/// packets are never longer than Ethernet's 1,500 bytes, whatever the interface could carry: a port on the way with
/// a smaller MTU drops longer packets silently. A connected UDP socket is the way to ask the kernel for the MTU of
/// a route (IP_MTU in ip(7)). If the kernel does not report it, Ethernet's 1,500 is assumed.
pub(super) fn max_payload(destination: SocketAddrV4, interface: Option<&Interface>, headers: usize) -> usize {
    const ETHERNET: usize = 1_500;
    const LARGEST_PACKET: usize = 65_535;
    let mtu = route_mtu(*destination.ip(), interface).unwrap_or(ETHERNET);
    let most = if is_local(*destination.ip(), interface) { LARGEST_PACKET } else { ETHERNET };
    mtu.min(most).saturating_sub(headers).min(MAX_DATAGRAM)
}

fn route_mtu(destination: Ipv4Addr, interface: Option<&Interface>) -> Option<usize> {
    const DISCARD_PORT: u16 = 9;
    let probe = socket2::Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    probe.set_broadcast(true).ok()?;
    send_on(&probe, destination, interface).ok()?;
    probe.connect(&SockAddr::from(SocketAddrV4::new(destination, DISCARD_PORT))).ok()?;
    usize::try_from(getsockopt(&probe, sockopt::IpMtu).ok()?).ok()
}

/// SO_MEMINFO: nine counters. The last one is the number of dropped datagrams (SK_MEMINFO_DROPS in
/// linux/sock_diag.h).
type MemoryCounters = [u32; 9];
sockopt_impl!(MemInfo, GetOnly, libc::SOL_SOCKET, libc::SO_MEMINFO, MemoryCounters);

/// The number of datagrams that the kernel dropped at this socket. It is queried on demand and not attached to each
/// datagram (SO_RXQ_OVFL): nix's reusable headers lose the room for control messages after their first use, and a
/// query also shows drops that no later datagram reports.
pub(super) fn drops(socket: &socket2::Socket) -> u64 {
    getsockopt(socket, MemInfo).map_or(0, |counters| u64::from(counters[8]))
}
