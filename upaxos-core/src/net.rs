//! The sockets: one open socket that broadcasts datagrams to the group and hears what the
//! group says.
//!
//! Owns everything that touches the network and is the only part of this crate that does.
//! It never looks inside a payload (that is the wire's business, and that of [`Parts`](crate::parts::Parts), which
//! it asks about each), and never decides: what could not be sent is counted and left to the protocol, which
//! expects datagrams to be lost. The daemon's loop and the clients call it; the simulator does not.
//!
//! A socket serves one thread: the headers that it keeps for `recvmmsg` hold raw pointers, so
//! it is not [`Send`]. Open it in the thread that uses it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;
use std::time::Duration;

#[cfg(feature = "cli")]
mod args;
mod error;
mod interface;
mod mmsg;
mod pieces;
mod place;
mod raw;
mod setup;
mod udp;
mod watch;

#[cfg(feature = "cli")]
pub use args::{Args, NoNameInClassic};
pub use error::OpenError;
pub use pieces::Pieces;
pub use udp::{DEFAULT_GROUP, PORT_BASE};
pub use watch::News;

use crate::parts::Lost;
use crate::wire::MAX_DATAGRAM;
pub use mmsg::BATCH;
use mmsg::{Inbox, Outgoing};
use setup::Opened;
use watch::{Step, Watch};

/// What an IP packet holds beside the lines of a datagram, at most, in bytes.
pub const HEADERS: usize = setup::IP_HEADER + setup::UDP_HEADER;

/// How datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Straight over IP, as their own IP protocol. Needs `CAP_NET_RAW`.
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

/// The text that is not a [`Transport`]: neither `raw` nor `udp`.
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

/// Where a group meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Raw IP or UDP.
    pub transport: Transport,
    /// Where every datagram goes: a host, a broadcast address or a multicast group; over UDP a
    /// broadcast address or a multicast group, where `127.0.0.1` stands for [`DEFAULT_GROUP`]
    /// on the loopback interface.
    pub address: Ipv4Addr,
    /// Raw: the IP protocol, 1 to 254. UDP: the port, where 0 to 255 stand for
    /// [`PORT_BASE`] + protocol (so 253 is port 25253).
    pub protocol: u16,
    /// The interface to speak and listen on; without it, the routing table chooses.
    pub interface: Option<String>,
    /// How many bytes of lines to pack into one datagram, at most
    /// [`MAX_DATAGRAM`]; without it, what one IP packet carries.
    pub datagram: Option<usize>,
    /// Whether a node opens it: then what is sent to the address has to be heard here. A client may ask one host from
    /// another.
    pub is_node: bool,
    /// Bytes the kernel may queue for us, asked for; it may grant less
    /// (see [`Socket::receive_buffer`]). The same is asked for sending.
    pub receive_buffer: usize,
}

impl Default for Options {
    /// Protocol 253 on loopback, straight over IP, with 32 MiB of queue.
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

/// An open socket of a group. See the [module](self) for what it does not do.
#[derive(Debug)]
pub struct Socket {
    socket: socket2::Socket,
    options: Options,
    destination: SocketAddrV4,
    inbox: Inbox,
    outgoing: Outgoing,
    pieces: Option<Pieces>,
    watch: Watch,
    send_errors: u64,
    /// Of sockets that this one has replaced.
    drops_before: u64,
    max_payload: usize,
    is_local: bool,
}

impl Socket {
    /// Opens the socket of a group and starts to queue what the group says.
    ///
    /// # Errors
    /// [`OpenError`]: no privilege, an address or a protocol that cannot serve, an interface
    /// that is not there, or a system call that failed.
    pub fn open(options: &Options) -> Result<Socket, OpenError> {
        let opened = open(options)?;
        Ok(Socket {
            socket: opened.socket,
            options: options.clone(),
            watch: Watch::new(opened.place),
            drops_before: 0,
            destination: opened.destination,
            inbox: Inbox::new(),
            outgoing: Outgoing::new(opened.destination),
            pieces: None,
            send_errors: 0,
            max_payload: options.datagram.map_or(opened.max_payload, |most| most.min(MAX_DATAGRAM)),
            is_local: opened.is_local,
        })
    }

    /// From now on sends what is longer than a packet in pieces of one packet each, and puts those of others together.
    /// Without them, it sends and hears datagrams as they are.
    #[must_use]
    pub fn with_pieces(self, pieces: Option<Pieces>) -> Socket {
        if let Some(pieces) = &pieces {
            pieces.limit(self.max_payload);
        }
        Socket { pieces, ..self }
    }

    /// How soon [`receive`](Socket::receive) has something to do by itself, for those who wait elsewhere.
    pub fn deadline(&self) -> Option<Duration> {
        self.pieces.as_ref().and_then(|pieces| pieces.shorten(None))
    }

    /// Sends every datagram to the group, in order, in as few system calls as possible.
    ///
    /// A datagram that the network refuses (too large, no buffer, no route, filtered) is
    /// dropped and counted in [`send_errors`](Self::send_errors); the rest still goes. Waits
    /// up to 100 ms for room in the send queue.
    ///
    /// # Errors
    /// What says that the socket itself is unusable.
    pub fn send(&mut self, datagrams: &[Vec<u8>]) -> io::Result<()> {
        self.look_around();
        let pieces = self.pieces.as_ref().and_then(|pieces| pieces.cut(datagrams));
        self.offer(pieces.as_deref().unwrap_or(datagrams))
    }

    fn offer(&mut self, datagrams: &[Vec<u8>]) -> io::Result<()> {
        let refused = self.outgoing.send(&self.socket, datagrams)?;
        self.send_errors += refused.count;
        self.watch.note(datagrams.len(), refused);
        Ok(())
    }

    /// Hears one batch: hands `each` the payload and the sender's address of up to 128 queued
    /// datagrams, and says how many that were.
    ///
    /// With nothing queued it waits: up to `wait`, and a second at most, since so often it looks whether the network is
    /// still the one it was. `Ok(0)` means that the time is up, that a signal came, that pieces are missing and were
    /// asked for, or that nothing of the batch was for this group: what raw IP delivers for other addresses, or cut
    /// short, is skipped and not counted.
    ///
    /// # Errors
    /// What says that the socket itself is unusable.
    pub fn receive(
        &mut self,
        wait: Option<Duration>,
        each: &mut dyn FnMut(&[u8], Ipv4Addr),
    ) -> io::Result<usize> {
        self.look_around();
        let until_look = self.watch.until_due();
        let Socket { inbox, socket, pieces, .. } = self;
        let wait = wait.map_or(until_look, |wait| wait.min(until_look));
        let wait = pieces.as_ref().map_or(Some(wait), |pieces| pieces.shorten(Some(wait)));
        let mut whole = |datagram: &[u8], from| match pieces {
            Some(pieces) => pieces.take(datagram, &mut |whole| each(whole, from)),
            None => each(datagram, from),
        };
        let received = match self.options.transport {
            Transport::Udp => inbox.receive(socket, wait, &mut |datagram, from| {
                whole(datagram, from);
                true
            }),
            Transport::Raw => {
                let destination = *self.destination.ip();
                inbox.receive(socket, wait, &mut |packet, from| {
                    let payload = raw::payload_for(destination, packet);
                    payload.map(|payload| whole(payload, from)).is_some()
                })
            }
        }?;
        if let Some(due) = self.pieces.as_ref().map(Pieces::due).filter(|due| !due.is_empty()) {
            self.offer(&due)?;
        }
        Ok(received)
    }

    /// Once a second: finds out what the network is now, and follows it.
    ///
    /// None of it needs privilege, so it works after a daemon has dropped its own.
    fn look_around(&mut self) {
        if !self.watch.until_due().is_zero() {
            return;
        }
        let found = match self.options.transport {
            Transport::Raw => raw::place(&self.options),
            Transport::Udp => udp::place(&self.options),
        };
        if let Step::Follow(before) = self.watch.compare(found) {
            match self.follow(before) {
                Ok(()) => self.watch.has_followed(),
                Err(error) => self.watch.cannot_follow(&error),
            }
        }
    }

    /// Names the interface that there is now to the socket, in place of the one that had the index `before`.
    fn follow(&mut self, before: Option<u32>) -> Result<(), OpenError> {
        let place = self.watch.place();
        match self.options.transport {
            Transport::Raw => raw::settle(&self.socket, place, before),
            // Once bound to an interface, a socket stays so, unless privileged; another socket may be bound by anybody.
            Transport::Udp if udp::tied_to(place).is_some() => {
                let opened = udp::open(&self.options)?;
                self.drops_before = self.drops();
                self.socket = opened.socket;
                Ok(())
            }
            Transport::Udp => setup::settle(&self.socket, place, before),
        }
    }

    /// The next change of the network that was not told yet: the interface went, came back or was made anew, its
    /// address is another one, what is sent is refused, or that is over. [`send`](Self::send) and
    /// [`receive`](Self::receive) notice it, within a second or two.
    pub fn news(&mut self) -> Option<News> {
        self.watch.news()
    }

    /// Why nothing that is sent now reaches the group, as far as this host knows: act, object, and what the system said.
    pub fn trouble(&self) -> Option<String> {
        self.watch.trouble()
    }

    /// Large datagrams of others that never became whole.
    pub fn lost(&self) -> Lost {
        self.pieces.as_ref().map_or_else(Lost::default, Pieces::lost)
    }

    /// Datagrams that the network refused to take from us since the socket was opened.
    pub fn send_errors(&self) -> u64 {
        self.send_errors
    }

    /// Datagrams that the kernel dropped since the socket was opened, nearly always because
    /// the receive queue was full. 0 where the kernel does not tell.
    pub fn drops(&self) -> u64 {
        self.drops_before + setup::drops(&self.socket)
    }

    /// The bytes that the kernel grants the receive queue, its own bookkeeping included.
    pub fn receive_buffer(&self) -> usize {
        self.socket.recv_buffer_size().unwrap_or(0)
    }

    /// How many bytes of lines to pack into one datagram: as many as travel in one IP packet (the
    /// path MTU without headers, but off loopback at most 1,500), or as the
    /// [options](Options::datagram) say. Larger ones, up to [`MAX_DATAGRAM`], are sent in
    /// [pieces](Socket::with_pieces), or else in fragments.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Where every datagram goes.
    pub fn destination(&self) -> Ipv4Addr {
        *self.destination.ip()
    }

    /// Whether the group stays on this host: everything goes over the loopback interface.
    pub fn is_local(&self) -> bool {
        self.is_local
    }
}

fn open(options: &Options) -> Result<Opened, OpenError> {
    match options.transport {
        Transport::Raw => raw::open(options),
        Transport::Udp => udp::open(options),
    }
}

impl AsFd for Socket {
    /// To wait for what was sent to it together with other things; [`receive`](Socket::receive) is what reads it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
