//! The same datagrams over UDP multicast or broadcast, for processes that may not open raw sockets.

use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, Protocol, Type};

use super::error::OpenError;
use super::interface::Interface;
use super::options::Options;
use super::place::{self, Kind, Place};
use super::setup::{self, IP_HEADER, Opened, UDP_HEADER};

/// The multicast group that `127.0.0.1` stands for, on the loopback interface. (A UDP datagram to a host reaches
/// one of the sockets there, not all, so a host's address cannot serve.)
pub const DEFAULT_GROUP: Ipv4Addr = Ipv4Addr::new(239, 253, 0, 1);

/// The offset from protocols 0 to 255 to ports: protocol 253 uses port 25253.
pub const PORT_BASE: u16 = 25_000;

/// Opens the UDP socket of a group.
pub(super) fn open(options: &Options) -> Result<Opened, OpenError> {
    let place = place(options)?;
    let destination = SocketAddrV4::new(place.destination, port(options.protocol));

    let socket = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
        .map_err(OpenError::io("open a UDP socket"))?;
    setup::prepare(&socket, options.receive_buffer)?;
    setup::settle(&socket, &place, None)?;
    if let Some(interface) = tied_to(&place) {
        setup::bind_device(&socket, interface)?;
    }
    // The bind comes last, so that no datagram for another group on this port is ever queued. It also keeps out
    // datagrams for other addresses.
    setup::bind(&socket, destination)?;
    let headers = IP_HEADER + UDP_HEADER;
    Ok(Opened {
        socket,
        destination,
        max_payload: setup::max_payload(destination, place.named.as_ref(), headers),
        is_local: setup::is_local(place.destination, place.named.as_ref()),
        place,
    })
}

/// The interface that the socket must be bound to. A multicast membership names its interface already, and binding
/// to one needs privilege before Linux 5.7.
pub(super) fn tied_to(place: &Place) -> Option<&Interface> {
    place.named.as_ref().filter(|_| place.kind != Kind::Multicast)
}

fn port(protocol: u16) -> u16 {
    if protocol <= 255 { PORT_BASE + protocol } else { protocol }
}

/// The current meaning of the group's address on this host.
pub(super) fn place(options: &Options) -> Result<Place, OpenError> {
    let place = match options.address {
        Ipv4Addr::LOCALHOST => {
            let named = options.interface.as_deref().map(Interface::named);
            let interface = named.unwrap_or_else(Interface::loopback)?;
            place::check_destination(options.address, Some(&interface))?;
            Place::through(DEFAULT_GROUP, Some(interface))?
        }
        address => Place::find(address, options.interface.as_deref())?,
    };
    let address = place.destination;
    if matches!(place.kind, Kind::Multicast | Kind::Broadcast) {
        return Ok(place);
    }
    Err(OpenError::BadDestination {
        address,
        why: "over UDP only a multicast group (such as 239.253.0.1) or the broadcast address \
              of an interface reaches all nodes; use one of these, or --transport raw",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_numbers_map_to_ports_of_their_own_and_ports_stay() {
        assert_eq!(port(0), 25_000);
        assert_eq!(port(253), 25_253);
        assert_eq!(port(255), 25_255);
        assert_eq!(port(256), 256);
        assert_eq!(port(40_000), 40_000);
    }
}
