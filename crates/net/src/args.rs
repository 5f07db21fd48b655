//! The network options of a command line: the same options in every program.
//!
//! Owns their names, their defaults and their help. It opens nothing: callers open a socket with [`Args::options`].

use std::net::Ipv4Addr;

use upaxos_core::client::Scope;
use upaxos_core::wire::{Dialect, GroupName};

use super::options::{Options, Transport};

/// The heading of these options on a help page.
const NETWORK: &str = "Network options";

/// The command line gives a name to a classic group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use --group {0} with --classic: a classic group has no name; leave out one of the two")]
pub struct NoNameInClassic(pub GroupName);

/// The options of the network. An option overrides its environment variable.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(mut_args = |arg: clap::Arg| arg.hide_env(true))]
pub struct Args {
    /// Address of the group: a broadcast address, a multicast group, or an address of this host
    #[arg(short, long, help_heading = NETWORK, value_name = "ADDR", env = "UPAXOS_ADDRESS", default_value = "127.0.0.1")]
    pub address: Ipv4Addr,

    /// IP protocol, 1 to 254; over UDP the port, where 0 to 255 mean 25000 + N
    #[arg(short, long, help_heading = NETWORK, value_name = "PROTO", env = "UPAXOS_PROTOCOL", default_value_t = 253)]
    pub protocol: u16,

    /// Transport: raw (directly over IP, needs CAP_NET_RAW) or udp (needs no privilege)
    #[arg(long, help_heading = NETWORK, value_name = "raw|udp", env = "UPAXOS_TRANSPORT", default_value_t = Transport::Raw)]
    pub transport: Transport,

    /// Network interface to send and receive on [default: the routing table's choice]
    #[arg(long, help_heading = NETWORK, value_name = "IF", env = "UPAXOS_INTERFACE")]
    pub interface: Option<String>,

    /// Name of the group: letters, digits, dots, dashes and underscores [default: no name]
    #[arg(long, help_heading = NETWORK, value_name = "NAME", env = "UPAXOS_GROUP")]
    pub group: Option<GroupName>,

    // A datagram above the path's MTU travels in IP fragments. They cost less than as many datagrams, but the loss of
    // one fragment loses the whole datagram.
    /// Maximum bytes per datagram, 256 to 65507; longer lines are sent in parts [default: path MTU]
    #[arg(long, help_heading = NETWORK, value_name = "BYTES", env = "UPAXOS_DATAGRAM", value_parser = clap::value_parser!(u16).range(256..=65_507))]
    pub datagram: Option<u16>,
}

impl Args {
    /// The options of the socket that these arguments describe.
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

    /// The group that a client of the grammar `dialect` talks to.
    ///
    /// # Errors
    /// [`NoNameInClassic`]: a classic group has no name.
    pub fn scope(&self, dialect: Dialect) -> Result<Scope, NoNameInClassic> {
        match (self.group, dialect) {
            (Some(name), Dialect::Classic) => Err(NoNameInClassic(name)),
            (name, dialect) => Ok(Scope::new(dialect, name)),
        }
    }
}
