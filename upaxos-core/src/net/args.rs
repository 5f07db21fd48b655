//! The flags for the meeting place of a group. They are the same for every program.

use std::net::Ipv4Addr;

use super::{Options, Transport};
use crate::client::Scope;
use crate::wire::{Dialect, GroupName};

/// The name given to a classic group, which has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use --group {0} with --classic: a classic group has no name; leave out one of the two")]
pub struct NoNameInClassic(pub GroupName);

/// The flags. A flag beats its environment variable.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address of the group: a broadcast address, a multicast group, or an address of this host
    #[arg(short, long, value_name = "ADDR", env = "UPAXOS_ADDRESS", default_value = "127.0.0.1")]
    pub address: Ipv4Addr,

    /// IP protocol, 1 to 254; over UDP the port, where 0 to 255 stand for 25000 + N
    #[arg(short, long, value_name = "PROTO", env = "UPAXOS_PROTOCOL", default_value_t = 253)]
    pub protocol: u16,

    /// raw: straight over IP, needs CAP_NET_RAW; udp: multicast or broadcast, needs nothing
    #[arg(long, value_name = "raw|udp", env = "UPAXOS_TRANSPORT", default_value_t = Transport::Raw)]
    pub transport: Transport,

    /// Network interface to send and receive on, instead of the choice of the routing table
    #[arg(long, value_name = "IF", env = "UPAXOS_INTERFACE")]
    pub interface: Option<String>,

    /// Name of the group, if several groups share an address: letters, digits, dots, dashes, underscores
    #[arg(long, value_name = "NAME", env = "UPAXOS_GROUP")]
    pub group: Option<GroupName>,

    /// Maximum bytes per datagram [default: path MTU, at most 1500 with headers]. Longer lines are cut into parts.
    /// More than the MTU: fragments of IP; cheaper where nothing is lost, and with one fragment all are
    #[arg(long, value_name = "BYTES", env = "UPAXOS_DATAGRAM", value_parser = clap::value_parser!(u16).range(256..=65_507))]
    pub datagram: Option<u16>,
}

impl Args {
    /// The options of the socket to open, for a client.
    pub fn options(&self) -> Options {
        Options {
            transport: self.transport,
            address: self.address,
            protocol: self.protocol,
            interface: self.interface.clone(),
            datagram: self.datagram.map(usize::from),
            ..Options::default()
        }
    }

    /// The group for a client that uses `dialect`.
    ///
    /// # Errors
    /// [`NoNameInClassic`].
    pub fn scope(&self, dialect: Dialect) -> Result<Scope, NoNameInClassic> {
        match (self.group, dialect) {
            (Some(name), Dialect::Classic) => Err(NoNameInClassic(name)),
            (name, dialect) => Ok(Scope::new(dialect, name)),
        }
    }
}
