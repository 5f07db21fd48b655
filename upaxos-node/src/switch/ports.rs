//! The ports of the switch: one packet socket that hears and speaks on all of them, in batches.
//!
//! The namespace has nothing in it but ports (and a loopback that is down), so one socket that is bound to
//! none of them hears them all, and one wait is enough; each frame names its port.

use std::array;
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, getsockopt, recvmmsg,
    sendmmsg, setsockopt, socket, sockopt,
};
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};

use super::order::Losses;

/// Frames per system call, at most.
const BATCH: usize = 64;
/// Room per frame: what a host hands over in one piece is never larger.
const ROOM: usize = 66_000;
/// Bytes that may wait for us, asked for; without privilege on the whole machine it is less.
const QUEUE: usize = 32 << 20;
/// The kernel's number for `PACKET_IGNORE_OUTGOING` (packet(7)), which libc does not name.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

sockopt_impl!(
    /// What the switch itself sends does not come back to it.
    IgnoreOutgoing, SetOnly, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, bool
);

/// The kernel's number for `PACKET_STATISTICS` (packet(7)), which libc does not name either.
const PACKET_STATISTICS: libc::c_int = 6;

sockopt_impl!(
    /// How many frames came since this was asked last, and how many of them found the queue full.
    Statistics, GetOnly, libc::SOL_PACKET, PACKET_STATISTICS, [libc::c_uint; 2]
);

/// All ports.
pub struct Ports {
    socket: OwnedFd,
    /// By the number of the port.
    addresses: Vec<LinkAddr>,
    /// The number of the port, by that of its interface.
    numbers: BTreeMap<usize, usize>,
    incoming: MultiHeaders<LinkAddr>,
    outgoing: MultiHeaders<LinkAddr>,
    room: Vec<u8>,
    losses: Losses,
}

impl Ports {
    /// Opens the interfaces p0 to p`count - 1`.
    ///
    /// # Errors
    /// When one of them is missing, or packet sockets are not allowed.
    pub fn open(count: usize) -> Result<Ports> {
        let addresses = (0..count).map(address).collect::<Result<Vec<LinkAddr>>>()?;
        let numbers = addresses.iter().enumerate().map(|(port, address)| (address.ifindex(), port));
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
            .context("cannot open a packet socket (it needs CAP_NET_RAW in its network namespace)")?;
        setsockopt(&socket, IgnoreOutgoing, &true).context("cannot set PACKET_IGNORE_OUTGOING")?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &QUEUE))
            .context("cannot set SO_RCVBUF")?;
        Ok(Ports {
            socket,
            numbers: numbers.collect(),
            addresses,
            incoming: MultiHeaders::preallocate(BATCH, None),
            outgoing: MultiHeaders::preallocate(BATCH, None),
            room: vec![0; BATCH * ROOM],
            losses: Losses::default(),
        })
    }

    /// What to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands out what has come in, up to a batch: each frame with its port.
    ///
    /// # Errors
    /// When the socket cannot be used any more.
    pub fn receive(&mut self, each: &mut dyn FnMut(usize, &[u8])) -> io::Result<()> {
        let mut rooms = self.room.chunks_exact_mut(ROOM);
        let mut slices: [_; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().expect("room holds BATCH frames"))]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let received = match recvmmsg(fd, &mut self.incoming, &mut slices, flags, None) {
            Ok(received) => received,
            // A port that goes down says so once.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for message in received {
            let port = message.address.and_then(|address| self.numbers.get(&address.ifindex()));
            if let (Some(port), Some(frame)) = (port, message.iovs().next()) {
                each(*port, frame);
            }
        }
        Ok(())
    }

    /// The frames that were lost here so far, which no link was told to lose.
    ///
    /// # Errors
    /// When the socket cannot be asked.
    pub fn losses(&mut self) -> io::Result<Losses> {
        let [_, overflowed] = getsockopt(&self.socket, Statistics)?;
        self.losses.unheard += u64::from(overflowed);
        Ok(self.losses)
    }

    /// Sends frames, each to its port, in order. What a port does not take is lost, as on any network, and counted.
    ///
    /// # Errors
    /// When the socket cannot be used any more.
    pub fn send(&mut self, batch: &[(usize, Rc<Vec<Vec<u8>>>)]) -> io::Result<()> {
        let frames = batch.iter().flat_map(|(to, frames)| frames.iter().map(|frame| (*to, frame)));
        let frames: Vec<(usize, &Vec<u8>)> = frames.collect();
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(BATCH)];
            let slices: Vec<[IoSlice<'_>; 1]> = some.iter().map(|(_, frame)| [IoSlice::new(frame)]).collect();
            let to: Vec<_> = some.iter().map(|(to, _)| Some(self.addresses[*to])).collect();
            let fd = self.socket.as_raw_fd();
            match sendmmsg(fd, &mut self.outgoing, &slices, to, [], MsgFlags::empty()) {
                Ok(sent) => rest = &rest[sent.count()..],
                Err(Errno::EINTR) => {}
                // The error speaks of the first frame only (sendmmsg(2)): go on behind it.
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENETDOWN | Errno::EMSGSIZE | Errno::ENXIO) => {
                    self.losses.unsent += 1;
                    rest = &rest[1..];
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

fn address(port: usize) -> Result<LinkAddr> {
    let name = format!("p{port}");
    let all = getifaddrs().context("cannot list the interfaces")?;
    let mut found = all.filter(|entry| entry.interface_name == name).filter_map(|entry| entry.address);
    let found = found.find_map(|address| address.as_link_addr().copied());
    found.with_context(|| format!("cannot find interface {name}: the switch runs among its ports only"))
}
