//! Where the group meets, on a command line: the same flags for every program.

use std::net::Ipv4Addr;

use super::{Options, Transport};
use crate::client::Scope;
use crate::wire::{Dialect, GroupName};

/// A classic group was given a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use --group {0} with --classic: a classic group has no name; leave out one of the two")]
pub struct NoNameInClassic(pub GroupName);

/// The flags; a flag beats its environment variable.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the group meets: a broadcast address, a multicast group, or an address of this host
    #[arg(short, long, value_name = "ADDR", env = "UPAXOS_ADDRESS", default_value = "127.0.0.1")]
    pub address: Ipv4Addr,

    /// IP protocol, 1 to 254; over UDP the port, where 0 to 255 stand for 25000 + N
    #[arg(short, long, value_name = "PROTO", env = "UPAXOS_PROTOCOL", default_value_t = 253)]
    pub protocol: u16,

    /// raw: straight over IP, needs CAP_NET_RAW; udp: multicast or broadcast, needs nothing
    #[arg(long, value_name = "raw|udp", env = "UPAXOS_TRANSPORT", default_value_t = Transport::Raw)]
    pub transport: Transport,

    /// Network interface to speak and listen on, instead of what the routing table says
    #[arg(long, value_name = "IF", env = "UPAXOS_INTERFACE")]
    pub interface: Option<String>,

    /// Name of the group, where several meet at one address: letters, digits, dots, dashes, underscores
    #[arg(long, value_name = "NAME", env = "UPAXOS_GROUP")]
    pub group: Option<GroupName>,

    /// Maximum bytes per datagram [default: path MTU, at most 1500 with headers]. Longer lines are cut into parts.
    /// More than the MTU: fragments of IP; cheaper where nothing is lost, and with one fragment all are
    #[arg(long, value_name = "BYTES", env = "UPAXOS_DATAGRAM", value_parser = clap::value_parser!(u16).range(256..=65_507))]
    pub datagram: Option<u16>,
}

impl Args {
    /// The socket to open.
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

    /// Which group a client talks to that speaks `dialect`.
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
