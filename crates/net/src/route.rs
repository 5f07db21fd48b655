//! The interface that a socket sends through.

use std::net::Ipv4Addr;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};

use super::interface::Interface;

sockopt_impl!(MulticastIf, SetOnly, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, libc::ip_mreqn);
sockopt_impl!(UnicastIf, SetOnly, libc::IPPROTO_IP, libc::IP_UNICAST_IF, u32);

/// Makes the socket send datagrams for `destination` through this interface. The interface is set by number: if it
/// were set by address, that address would become the source address, and stay so after the interface gets another
/// one. Our own multicast datagrams loop back, so that other processes on this host receive them. They stay within
/// one hop.
pub(super) fn send_on(
    socket: &socket2::Socket,
    destination: Ipv4Addr,
    interface: Option<&Interface>,
) -> std::io::Result<()> {
    if destination.is_multicast() {
        socket.set_multicast_loop_v4(true)?;
        socket.set_multicast_ttl_v4(1)?;
    }
    let Some(interface) = interface else { return Ok(()) };
    if destination.is_multicast() {
        let any = libc::in_addr { s_addr: 0 };
        // For multicast, the kernel does not choose a loopback address by itself. Loopback addresses never change.
        let own = if interface.is_loopback { u32::from(interface.address).to_be() } else { 0 };
        let imr_address = libc::in_addr { s_addr: own };
        let imr_ifindex = i32::try_from(interface.index).expect("the kernel counts interfaces in an int");
        let named = libc::ip_mreqn { imr_multiaddr: any, imr_address, imr_ifindex };
        Ok(setsockopt(socket, MulticastIf, &named)?)
    } else {
        // In network byte order (ip(7)). Broadcasts use this interface, too.
        Ok(setsockopt(socket, UnicastIf, &interface.index.to_be())?)
    }
}
