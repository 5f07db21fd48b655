//! The ports of the switch: one packet socket that receives and sends on all of them, in batches.
//!
//! The namespace contains only ports (and a loopback interface that is down). So one socket that is bound to none
//! of them receives from all of them, and one wait is enough. Each frame names its port.

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

/// The maximum number of frames per system call.
const BATCH: usize = 64;
/// Bytes of room per frame: a host never hands over more in one piece.
const ROOM: usize = 66_000;
/// The requested size of the receive queue, in bytes. Without privilege on the whole machine the kernel grants
/// less.
const QUEUE: usize = 32 << 20;
/// The kernel's number for `PACKET_IGNORE_OUTGOING` (packet(7)), which libc does not name.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

sockopt_impl!(
    /// Frames that the switch itself sends do not return to it.
    IgnoreOutgoing, SetOnly, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, bool
);

/// The kernel's number for `PACKET_STATISTICS` (packet(7)), which libc does not name either.
const PACKET_STATISTICS: libc::c_int = 6;

sockopt_impl!(
    /// How many frames arrived since the last query, and how many of them found the queue full.
    Statistics, GetOnly, libc::SOL_PACKET, PACKET_STATISTICS, [libc::c_uint; 2]
);

/// All ports, behind one packet socket.
pub struct Ports {
    socket: OwnedFd,
    /// Indexed by the number of the port.
    addresses: Vec<LinkAddr>,
    /// The number of the port, by the number of its interface.
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

    /// The descriptor to poll for incoming frames.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands out the received frames, up to a batch, each with its port.
    ///
    /// # Errors
    /// When the socket can no longer be used.
    pub fn receive(&mut self, each: &mut dyn FnMut(usize, &[u8])) -> io::Result<()> {
        let mut rooms = self.room.chunks_exact_mut(ROOM);
        let mut slices: [_; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().expect("room holds BATCH frames"))]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let received = match recvmmsg(fd, &mut self.incoming, &mut slices, flags, None) {
            Ok(received) => received,
            // A port that goes down reports that once.
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

    /// The frames lost here so far that no link had to lose.
    ///
    /// # Errors
    /// When the socket's statistics cannot be read.
    pub fn losses(&mut self) -> io::Result<Losses> {
        let [_, overflowed] = getsockopt(&self.socket, Statistics)?;
        self.losses.unheard += u64::from(overflowed);
        Ok(self.losses)
    }

    /// Sends frames, each to its port, in order. A frame that a port does not accept is lost, as on any network,
    /// and counted.
    ///
    /// # Errors
    /// When the socket can no longer be used.
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
                // The error concerns the first frame only (sendmmsg(2)): continue behind it.
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
