//! The interfaces of this host, as far as a group's meeting place needs them.

use std::net::Ipv4Addr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use super::error::OpenError;

/// An interface that is up and has an IPv4 address.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub name: String,
    pub index: u32,
    /// Its first IPv4 address.
    pub address: Ipv4Addr,
    pub is_loopback: bool,
}

impl Interface {
    /// Finds the interface called `name`, and checks that it is up and has an IPv4 address.
    pub fn named(name: &str) -> Result<Interface, OpenError> {
        let all = interfaces()?;
        let refuse = |why| OpenError::NoInterface { name: name.to_owned(), why, present: names(&all) };
        let index = if_nametoindex(name).map_err(|_| refuse("there is no such interface"))?;
        let own = || all.iter().filter(|entry| entry.interface_name == name);
        if own().any(|entry| !entry.flags.contains(InterfaceFlags::IFF_UP)) {
            return Err(refuse("it is down; bring it up"));
        }
        let (flags, address) = own()
            .find_map(|entry| Some((entry.flags, ipv4(entry.address.as_ref())?)))
            .ok_or_else(|| refuse("it has no IPv4 address; bring it up and give it one"))?;
        Ok(Interface {
            name: name.to_owned(),
            index,
            address,
            is_loopback: flags.contains(InterfaceFlags::IFF_LOOPBACK),
        })
    }

    /// Finds the interface that has `address`, if exactly one has it.
    pub fn with(address: Ipv4Addr) -> Result<Option<Interface>, OpenError> {
        let all = interfaces()?;
        let mut having = all.iter().filter(|entry| ipv4(entry.address.as_ref()) == Some(address));
        let (Some(one), None) = (having.next(), having.next()) else { return Ok(None) };
        // The interface may be gone by now.
        Ok(Interface::named(&one.interface_name).ok())
    }

    /// The loopback interface, whatever its name is.
    pub fn loopback() -> Result<Interface, OpenError> {
        let all = interfaces()?;
        let is_loopback = |entry: &&InterfaceAddress| entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let name = all.iter().find(is_loopback).map(|entry| &entry.interface_name);
        Interface::named(name.map_or("lo", String::as_str))
    }
}

fn interfaces() -> Result<Vec<InterfaceAddress>, OpenError> {
    let all = getifaddrs().map_err(OpenError::io("list the network interfaces"))?;
    Ok(all.collect())
}

fn ipv4(address: Option<&SockaddrStorage>) -> Option<Ipv4Addr> {
    address?.as_sockaddr_in().map(|address| address.ip())
}

fn names(all: &[InterfaceAddress]) -> String {
    let mut names: Vec<&str> = all.iter().map(|entry| entry.interface_name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" ")
}
