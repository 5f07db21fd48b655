//! The meaning of the group's address on this host, at this moment.
//!
//! This module owns the questions to the kernel: whether there is a route, through which interface, and which kind
//! of address it is. An answer is valid for a moment only: addresses, interfaces and routes change while a node
//! runs. The module opens no socket of the group and changes nothing. `raw` and `udp` decide which kinds of address
//! they can serve; `watch` asks again at regular intervals.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, SockAddr, Type};

use super::error::OpenError;
use super::interface::Interface;
use super::route::send_on;

/// No packet is ever sent to this port: connecting a UDP socket only looks up the route.
const DISCARD_PORT: u16 = 9;

/// The kind of an address, as seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A multicast group.
    Multicast,
    /// A broadcast address of an interface.
    Broadcast,
    /// An address of this host.
    Here,
    /// The address of another host, as far as this host can tell.
    Elsewhere,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Multicast => "multicast group",
            Kind::Broadcast => "broadcast address",
            Kind::Here => "address",
            Kind::Elsewhere => "neighbour",
        })
    }
}

/// The group's address, with the route to it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub destination: Ipv4Addr,
    pub kind: Kind,
    /// The interface that the options name.
    pub named: Option<Interface>,
    /// The interface of a multicast group: the named one, or that of the route.
    pub member: Option<Interface>,
    /// The source address of datagrams.
    pub source: Ipv4Addr,
}

impl Place {
    /// Asks the kernel about `destination`, through the interface called `name` or by the routing table.
    ///
    /// # Errors
    /// [`OpenError::NoInterface`], [`OpenError::BadDestination`] for an address that no transport can serve, and
    /// [`OpenError::NoRoute`].
    pub fn find(destination: Ipv4Addr, name: Option<&str>) -> Result<Place, OpenError> {
        let named = name.map(Interface::named).transpose()?;
        Place::through(destination, named)
    }

    /// Does the same through an interface that was just looked up.
    pub fn through(destination: Ipv4Addr, named: Option<Interface>) -> Result<Place, OpenError> {
        check_destination(destination, named.as_ref())?;
        let (kind, source) = probe(destination, named.as_ref())
            .map_err(|error| no_route(destination, named.as_ref(), error))?;
        let member = match (kind, &named) {
            (Kind::Multicast, None) => Interface::with(source)?,
            (Kind::Multicast, Some(named)) => Some(named.clone()),
            _ => None,
        };
        Ok(Place { destination, kind, named, member, source })
    }

    /// The index of the interface that the socket's options name, if they name one.
    pub fn index(&self) -> Option<u32> {
        self.named.as_ref().or(self.member.as_ref()).map(|interface| interface.index)
    }

    /// Whether the kernel still receives the multicast group on its interface. An interface that leaves the host
    /// for a moment (for another network namespace, say) may come back with its old number and without the group.
    pub fn is_listened_for(&self) -> bool {
        let Some(member) = &self.member else { return true };
        // If the kernel does not report memberships, this one is assumed to exist.
        fs::read_to_string("/proc/net/igmp")
            .map_or(true, |table| lists(&table, member.index, self.destination))
    }

    /// A text with the source address and the interface of datagrams, for people.
    pub fn describe(&self) -> String {
        let interface = self.named.as_ref().or(self.member.as_ref());
        let on = interface.map_or(String::new(), |interface| format!(" on {}", interface.name));
        format!("it sends from {}{on}", self.source)
    }
}

/// Refuses addresses that no transport can serve.
pub(super) fn check_destination(address: Ipv4Addr, interface: Option<&Interface>) -> Result<(), OpenError> {
    let off_loopback = interface.is_some_and(|interface| !interface.is_loopback);
    let why = if address.is_unspecified() {
        "it names no host and no group; use a host, a broadcast address or a multicast group"
    } else if address.is_loopback() && off_loopback {
        "loopback does not reach the named interface; drop --interface"
    } else {
        return Ok(());
    };
    Err(OpenError::BadDestination { address, why })
}

/// Finds the kind of an address, and the source address of datagrams to it.
fn probe(destination: Ipv4Addr, interface: Option<&Interface>) -> io::Result<(Kind, Ipv4Addr)> {
    let new = || socket2::Socket::new(Domain::IPV4, Type::DGRAM, None);
    let to = SockAddr::from(SocketAddrV4::new(destination, DISCARD_PORT));
    let socket = new()?;
    send_on(&socket, destination, interface)?;
    // The kernel refuses a broadcast address to a socket without SO_BROADCAST (ip(7)).
    let is_broadcast = match socket.connect(&to) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            socket.set_broadcast(true)?;
            socket.connect(&to)?;
            true
        }
        other => other.map(|()| false)?,
    };
    let source = socket.local_addr()?.as_socket_ipv4().map_or(Ipv4Addr::UNSPECIFIED, |local| *local.ip());
    // A socket can be bound only to an address of this host.
    let is_here = || new().and_then(|socket| socket.bind(&SocketAddrV4::new(destination, 0).into())).is_ok();
    let kind = match () {
        () if destination.is_multicast() => Kind::Multicast,
        () if is_broadcast => Kind::Broadcast,
        () if is_here() => Kind::Here,
        () => Kind::Elsewhere,
    };
    Ok((kind, source))
}

fn no_route(address: Ipv4Addr, named: Option<&Interface>, said: io::Error) -> OpenError {
    let remedy = match named {
        Some(_) => "bring the interface up and give it an address of that network (see `ip addr`)",
        None if address.is_broadcast() => "name an interface with --interface",
        None if address.is_multicast() => {
            "name an interface with --interface, or add a route for multicast groups"
        }
        None => {
            "no interface of this host is in that network: see `ip addr`, bring the interface up, or use another \
             address"
        }
    };
    let through = named.map_or(String::new(), |named| format!(" through {}", named.name));
    OpenError::NoRoute { address, through, said, remedy }
}

/// Whether the kernel's table of multicast groups (`/proc/net/igmp`) has this group at this interface. The table
/// has a line for each interface, which begins with its index, and an indented line for each group there. That line
/// has the address as a hexadecimal number, in the byte order of memory.
fn lists(table: &str, index: u32, group: Ipv4Addr) -> bool {
    let group = format!("{:08X}", u32::from_ne_bytes(group.octets()));
    let mut at = None;
    for line in table.lines().skip(1) {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !line.starts_with(char::is_whitespace) {
            at = first.parse().ok();
        } else if at == Some(index) && first == group {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_counts_at_its_own_interface_only() {
        let group = Ipv4Addr::new(239, 253, 7, 1);
        let hex = format!("{:08X}", u32::from_ne_bytes(group.octets()));
        let table = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
             7\teth0      :     2      V3\n\t\t\t\t{hex}     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
        );
        assert!(lists(&table, 7, group));
        assert!(!lists(&table, 1, group));
        assert!(!lists(&table, 7, Ipv4Addr::new(239, 253, 7, 2)));
    }

    #[test]
    fn loopback_has_an_address_of_this_host_and_a_broadcast_address() {
        let kind = |address| Place::find(address, None).expect("a route").kind;
        assert_eq!(kind(Ipv4Addr::LOCALHOST), Kind::Here);
        assert_eq!(kind(Ipv4Addr::new(127, 3, 2, 1)), Kind::Here);
        assert_eq!(kind(Ipv4Addr::new(127, 255, 255, 255)), Kind::Broadcast);
    }
}
