//! Many datagrams per system call: recvmmsg(2) and sendmmsg(2), with memory that is allocated once.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use nix::sys::time::TimeSpec;

/// The maximum number of datagrams per system call. If a call returns this many, more may be queued.
pub const BATCH: usize = 128;
/// The memory per datagram, in bytes: an IP packet is never longer. The kernel commits only the pages that
/// datagrams have actually touched, so a batch of small ones stays small.
const ROOM: usize = 65_536;
/// The upper bound for one wait, because `ppoll` refuses a wait that its time type cannot hold. A longer wait ends
/// early, once a day.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Receives batches of datagrams into memory of its own.
pub(super) struct Inbox {
    headers: MultiHeaders<SockaddrIn>,
    room: Vec<u8>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox { headers: MultiHeaders::preallocate(BATCH, None), room: vec![0; BATCH * ROOM] }
    }

    /// Passes on the queued datagrams, and waits for some if none are queued. Returns the number that `each` took.
    pub fn receive(
        &mut self,
        socket: &socket2::Socket,
        wait: Option<Duration>,
        each: &mut dyn FnMut(&[u8], Ipv4Addr) -> bool,
    ) -> io::Result<usize> {
        // Under load, datagrams are queued already, and asking first saves the poll.
        if let Some(taken) = self.take(socket, each)? {
            return Ok(taken);
        }
        if wait == Some(Duration::ZERO) || !wait_readable(socket, wait)? {
            return Ok(0);
        }
        Ok(self.take(socket, each)?.unwrap_or(0))
    }

    /// Makes one `recvmmsg` call; `None` when nothing is queued.
    fn take(
        &mut self,
        socket: &socket2::Socket,
        each: &mut dyn FnMut(&[u8], Ipv4Addr) -> bool,
    ) -> io::Result<Option<usize>> {
        let mut rooms = self.room.chunks_exact_mut(ROOM);
        let mut slices: [_; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().expect("room holds BATCH datagrams"))]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmmsg(socket.as_raw_fd(), &mut self.headers, &mut slices, flags, None);
        let received = match received {
            Ok(received) => received,
            Err(errno) if may_receive_later(errno) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut taken = 0;
        for message in received {
            let datagram = message.iovs().next().unwrap_or_default();
            let from = message.address.map_or(Ipv4Addr::UNSPECIFIED, |address| address.ip());
            taken += usize::from(each(datagram, from));
        }
        Ok(Some(taken))
    }
}

/// Whether a datagram arrives in time. A signal ends the wait early.
fn wait_readable(socket: &socket2::Socket, wait: Option<Duration>) -> io::Result<bool> {
    let wait = wait.map(|wait| TimeSpec::from_duration(wait.min(LONGEST_WAIT)));
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut fds, wait, None) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The datagrams of a batch that the kernel refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// The number of refused datagrams.
    pub count: u64,
    /// The error of the last one.
    pub last: Option<Errno>,
}

/// Sends batches to one destination.
#[derive(Debug)]
pub(super) struct Outgoing {
    headers: MultiHeaders<SockaddrIn>,
    destinations: [Option<SockaddrIn>; BATCH],
}

impl Outgoing {
    pub fn new(destination: SocketAddrV4) -> Outgoing {
        Outgoing {
            headers: MultiHeaders::preallocate(BATCH, None),
            destinations: [Some(destination.into()); BATCH],
        }
    }

    /// Sends all datagrams in order. Returns how many were refused on the way.
    pub fn send(&mut self, socket: &socket2::Socket, datagrams: &[Vec<u8>]) -> io::Result<Refused> {
        let mut refused = Refused::default();
        let mut rest = datagrams;
        let mut flags = MsgFlags::empty();
        while !rest.is_empty() {
            match self.offer(socket, &rest[..rest.len().min(BATCH)], flags) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::EINTR) => {}
                // The error concerns only the first datagram (sendmmsg(2)): continue behind it.
                Err(errno) if may_send_later(errno) => {
                    refused = Refused { count: refused.count + 1, last: Some(errno) };
                    rest = &rest[1..];
                    if errno == Errno::EAGAIN {
                        // The queue did not move during the whole wait. One wait per call is enough.
                        flags = MsgFlags::MSG_DONTWAIT;
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(refused)
    }

    /// Makes one `sendmmsg` call of at most [`BATCH`] datagrams. Returns how many the kernel took.
    fn offer(
        &mut self,
        socket: &socket2::Socket,
        datagrams: &[Vec<u8>],
        flags: MsgFlags,
    ) -> nix::Result<usize> {
        let slices: [_; BATCH] =
            array::from_fn(|index| [IoSlice::new(datagrams.get(index).map_or(&[], Vec::as_slice))]);
        let slices = &slices[..datagrams.len()];
        let destinations = &self.destinations;
        let fd = socket.as_raw_fd();
        let sent = sendmmsg(fd, &mut self.headers, slices, destinations, [], flags)?;
        Ok(sent.count())
    }
}

/// Whether a send may succeed another time, or with another datagram. Routes, firewalls and tunnels refuse with
/// nearly any error (a blackhole route with EINVAL), so only the errors count that say that the socket is unusable.
fn may_send_later(errno: Errno) -> bool {
    use Errno::*;
    ![EBADF, ENOTSOCK, EFAULT, EOPNOTSUPP, EAFNOSUPPORT].contains(&errno)
}

/// Whether receiving may succeed another time: the network reports an earlier refusal, or memory is short.
fn may_receive_later(errno: Errno) -> bool {
    use Errno::*;
    let refused = [EMSGSIZE, EPERM, EACCES, ECONNREFUSED, EINTR];
    let no_room = [EAGAIN, ENOBUFS, ENOMEM];
    let no_way = [ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, ENODEV, ENXIO, EADDRNOTAVAIL];
    refused.contains(&errno) || no_room.contains(&errno) || no_way.contains(&errno)
}
