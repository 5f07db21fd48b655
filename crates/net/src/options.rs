//! The meeting place of a group: transport, address, and the parameters of the socket.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The way datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Directly over IP, with an IP protocol of their own. Needs `CAP_NET_RAW`.
    Raw,
    /// UDP multicast or broadcast. Needs no privilege.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Raw => "raw",
            Transport::Udp => "udp",
        })
    }
}

/// A text that is no [`Transport`]: neither `raw` nor `udp`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown transport {0:?}; known are raw and udp")]
pub struct UnknownTransport(pub String);

impl FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(text: &str) -> Result<Self, UnknownTransport> {
        match text {
            "raw" => Ok(Transport::Raw),
            "udp" => Ok(Transport::Udp),
            _ => Err(UnknownTransport(text.to_owned())),
        }
    }
}

/// The meeting place of a group, and the parameters of its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Raw IP or UDP; the same for all nodes and clients of the group.
    pub transport: Transport,
    /// The destination of every datagram: a host, a broadcast address or a multicast group; over UDP a broadcast
    /// address or a multicast group, where `127.0.0.1` stands for [`DEFAULT_GROUP`](crate::DEFAULT_GROUP) on the loopback interface.
    pub address: Ipv4Addr,
    /// Raw: the IP protocol, 1 to 254. UDP: the port, where 0 to 255 stand for [`PORT_BASE`](crate::PORT_BASE) + protocol (so 253 is
    /// port 25253).
    pub protocol: u16,
    /// The interface for sending and receiving. If there is none, the routing table chooses.
    pub interface: Option<String>,
    /// The maximum length of a packed datagram in bytes, at most [`MAX_DATAGRAM`](upaxos_core::wire::MAX_DATAGRAM). If there is none, the length
    /// that fits into one IP packet.
    pub datagram: Option<usize>,
    /// Whether a node opens the socket. A node must be able to receive datagrams for the address. A client may ask
    /// one host from another.
    pub is_node: bool,
    /// The requested size of the kernel's receive queue, in bytes. The kernel may grant less (see
    /// [`Socket::receive_buffer`](crate::Socket::receive_buffer)). The same is requested for the send queue.
    pub receive_buffer: usize,
}

impl Default for Options {
    /// Protocol 253 on loopback, over raw IP, with queues of 32 MiB.
    fn default() -> Self {
        Options {
            transport: Transport::Raw,
            address: Ipv4Addr::LOCALHOST,
            protocol: 253,
            interface: None,
            datagram: None,
            is_node: false,
            receive_buffer: 32 << 20,
        }
    }
}
