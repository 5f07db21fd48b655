//! The sockets. An open socket broadcasts datagrams to the group and receives the datagrams of the group.
//!
//! This module owns all network access of the crate. It never looks inside a payload (that is up to the wire, and
//! to [`Parts`](upaxos_core::parts::Parts), which it asks about each). It never decides: it counts datagrams that could
//! not be sent, and leaves their loss to the protocol, which expects it. The daemon's loop and the clients call it;
//! the simulator does not.
//!
//! A socket serves one thread: the headers that it keeps for `recvmmsg` hold raw pointers, so it is not [`Send`].
//! Open it in the thread that uses it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

#[cfg(feature = "cli")]
mod args;
mod error;
mod interface;
mod mmsg;
mod options;
mod pieces;
mod place;
mod raw;
mod route;
mod setup;
mod udp;
mod watch;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use upaxos_core::parts::Lost;
use upaxos_core::wire::MAX_DATAGRAM;

#[cfg(feature = "cli")]
pub use args::{Args, NoNameInClassic};
pub use error::OpenError;
pub use mmsg::BATCH;
use mmsg::{Inbox, Outgoing};
pub use options::{Options, Transport, UnknownTransport};
pub use pieces::Pieces;
use setup::Opened;
pub use udp::{DEFAULT_GROUP, PORT_BASE};
pub use watch::News;
use watch::{Step, Watch};

/// The maximum size of the headers in an IP packet around a datagram, in bytes.
pub const HEADERS: usize = setup::IP_HEADER + setup::UDP_HEADER;

/// An open socket of a group. See the [module](self) for its limits.
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
    /// The drops of the sockets that this one has replaced.
    drops_before: u64,
    /// The number of drops at the last look at the network.
    drops: u64,
    max_payload: usize,
    is_local: bool,
}

impl Socket {
    /// Opens the socket of a group and starts to queue the datagrams of the group.
    ///
    /// # Errors
    /// [`OpenError`]: no privilege, an address or a protocol that cannot serve, an interface that does not exist,
    /// or a system call that failed.
    pub fn open(options: &Options) -> Result<Socket, OpenError> {
        let opened = open(options)?;
        Ok(Socket {
            socket: opened.socket,
            options: options.clone(),
            watch: Watch::new(opened.place),
            drops_before: 0,
            drops: 0,
            destination: opened.destination,
            inbox: Inbox::new(),
            outgoing: Outgoing::new(opened.destination),
            pieces: None,
            send_errors: 0,
            max_payload: options.datagram.map_or(opened.max_payload, |most| most.min(MAX_DATAGRAM)),
            is_local: opened.is_local,
        })
    }

    /// Cuts datagrams that are longer than a packet into pieces of one packet each from now on, and reassembles
    /// those of other processes. With `None`, datagrams are sent and received as they are.
    #[must_use]
    pub fn with_pieces(self, pieces: Option<Pieces>) -> Socket {
        if let Some(pieces) = &pieces {
            pieces.limit(self.max_payload);
        }
        Socket { pieces, ..self }
    }

    /// The time until [`receive`](Socket::receive) has work of its own, for callers that wait elsewhere.
    pub fn deadline(&self) -> Option<Duration> {
        self.pieces.as_ref().and_then(|pieces| pieces.shorten(None))
    }

    /// Sends every datagram to the group, in order, in as few system calls as possible.
    ///
    /// If the network refuses a datagram (too large, no buffer, no route, filtered), the datagram is dropped and
    /// counted in [`send_errors`](Self::send_errors); the rest is still sent. The call waits up to 100 ms for room
    /// in the send queue.
    ///
    /// # Errors
    /// When the socket itself is unusable.
    pub fn send(&mut self, datagrams: &[Vec<u8>]) -> io::Result<()> {
        self.look_around(Instant::now());
        let pieces = self.pieces.as_ref().and_then(|pieces| pieces.cut(datagrams));
        self.offer(pieces.as_deref().unwrap_or(datagrams))
    }

    fn offer(&mut self, datagrams: &[Vec<u8>]) -> io::Result<()> {
        let refused = self.outgoing.send(&self.socket, datagrams)?;
        self.send_errors += refused.count;
        self.watch.note(datagrams.len(), refused);
        Ok(())
    }

    /// Receives one batch of up to 128 queued datagrams: passes the payload and the sender's address of each to
    /// `each`, and returns their number.
    ///
    /// If nothing is queued, the call waits up to `wait`, but at most one second, because it checks the network
    /// that often. `Ok(0)` means that the time is up, that a signal arrived, that missing pieces were requested, or
    /// that no datagram of the batch was for this group: raw IP also delivers datagrams for other addresses and
    /// truncated ones, which are skipped and not counted.
    ///
    /// # Errors
    /// When the socket itself is unusable.
    pub fn receive(
        &mut self,
        wait: Option<Duration>,
        each: &mut dyn FnMut(&[u8], Ipv4Addr),
    ) -> io::Result<usize> {
        let now = Instant::now();
        self.look_around(now);
        let until_look = self.watch.until_due(now);
        let Socket { inbox, socket, pieces, .. } = self;
        let wait = wait.map_or(until_look, |wait| wait.min(until_look));
        let wait = pieces.as_ref().map_or(Some(wait), |pieces| pieces.shorten(Some(wait)));
        // All datagrams of a batch were queued by the time when the first of them is looked at.
        let mut batch_at = None;
        let mut whole = |datagram: &[u8], from| match pieces {
            Some(pieces) => {
                let now = *batch_at.get_or_insert_with(|| pieces.now());
                pieces.take(datagram, now, &mut |whole| each(whole, from));
            }
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
        if let Some(due) =
            self.pieces.as_ref().map(|pieces| pieces.due(batch_at)).filter(|due| !due.is_empty())
        {
            self.offer(&due)?;
        }
        Ok(received)
    }

    /// Checks the network once a second, and follows its changes.
    ///
    /// None of this needs privilege, so it works after a daemon has dropped its own.
    fn look_around(&mut self, now: Instant) {
        if !self.watch.until_due(now).is_zero() {
            return;
        }
        self.drops = self.drops_before + setup::drops(&self.socket);
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

    /// Sets the current interface on the socket, in place of the one that had the index `before`.
    fn follow(&mut self, before: Option<u32>) -> Result<(), OpenError> {
        let place = self.watch.place();
        match self.options.transport {
            Transport::Raw => raw::settle(&self.socket, place, before),
            // A socket stays bound to its interface unless the process is privileged. But any process may bind a
            // new socket.
            Transport::Udp if udp::tied_to(place).is_some() => {
                let opened = udp::open(&self.options)?;
                self.drops_before += setup::drops(&self.socket);
                self.socket = opened.socket;
                Ok(())
            }
            Transport::Udp => setup::settle(&self.socket, place, before),
        }
    }

    /// The next unreported change of the network: the interface went away, came back or was created anew, its
    /// address changed, sending is refused, or one of these has ended. [`send`](Self::send) and
    /// [`receive`](Self::receive) notice a change within a second or two.
    pub fn news(&mut self) -> Option<News> {
        self.watch.news()
    }

    /// The reason why no datagram of this host reaches the group, as far as the host knows: act, object, and the
    /// system's message.
    pub fn trouble(&self) -> Option<String> {
        self.watch.trouble()
    }

    /// Whether requested pieces of large datagrams are arriving, while others are still missing.
    pub fn is_mending(&self) -> bool {
        self.pieces.as_ref().is_some_and(Pieces::is_mending)
    }

    /// Counts of other processes' large datagrams that were never completed.
    pub fn lost(&self) -> Lost {
        self.pieces.as_ref().map_or_else(Lost::default, Pieces::lost)
    }

    /// The number of datagrams that the network refused since the socket was opened.
    pub fn send_errors(&self) -> u64 {
        self.send_errors
    }

    /// The number of datagrams that the kernel dropped since the socket was opened, nearly always because the
    /// receive queue was full, as counted within the last second of calls. It is 0 if the kernel does not report it.
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// The size that the kernel grants the receive queue in bytes, its own bookkeeping included.
    pub fn receive_buffer(&self) -> usize {
        self.socket.recv_buffer_size().unwrap_or(0)
    }

    /// The maximum length of a packed datagram in bytes: the length that fits into one IP packet (the path MTU
    /// without headers, but off loopback at most 1,500), or the value of the [options](Options::datagram). Longer
    /// datagrams, up to [`MAX_DATAGRAM`], are sent in [pieces](Socket::with_pieces), or else in fragments.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// The destination address of every datagram.
    pub fn destination(&self) -> Ipv4Addr {
        *self.destination.ip()
    }

    /// Whether the group stays on this host: all its datagrams use the loopback interface.
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
    /// Lets a caller wait for this socket together with others. [`receive`](Socket::receive) reads the datagrams.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
