//! `upaxos-node switch`: joins the hosts of a lab, and makes their network fail.
//!
//! The switch is a process in a network namespace whose interfaces `p0`, `p1`, … are its ports. It receives every
//! frame on each port and passes it to the others: late, damaged, twice or not at all, as each [link](order)
//! requires. Only IPv4 suffers faults. Everything else (ARP) passes untouched. All chance starts from one seed,
//! with one stream for each link and direction. So the fate of the k-th datagram of a link depends on the seed
//! alone. The switch owns nothing of the protocol. It reads datagrams only to record them, and to drop damage that
//! would read as another line.
//!
//! It is a process and not a thread, because a program with many threads may not enter a user namespace. It carries
//! out the lines of its standard input (see [`order`]) and ends with that input, so it never outlives its parent.
//! [`Hosts`](crate::hosts::Hosts) alone calls it.

mod damage;
mod frame;
mod link_model;
pub mod order;
mod ports;
mod record;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use upaxos_core::types::Micros;

use frame::{Assembly, Frame, Packet};
use link_model::{LinkModel, Links};
use order::Order;
use ports::Ports;
use record::Recorder;

/// The arguments of the switch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of ports: p0, p1, …
    #[arg(long, value_name = "N")]
    ports: usize,

    /// Seed of all random choices
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,

    /// File for every datagram with its fate, one JSON object per line
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// The maximum number of batches of frames taken in before an order is carried out: more than the queue holds, but
/// bounded while hosts keep sending.
const MOST_BEFORE_ORDER: usize = 1_000;

/// Passes frames until standard input ends.
///
/// # Errors
/// A missing port, no privilege for packet sockets, a line of input that is not an order, or a record that cannot
/// be written.
pub fn run(args: &Args) -> Result<()> {
    let recorder = args.record.as_deref().map(|path| Recorder::create(path, args.ports)).transpose()?;
    let mut switch = Switch {
        ports: Ports::open(args.ports)?,
        links: Links::new(args.ports, args.seed),
        assembly: Assembly::default(),
        recorder,
        origin: Instant::now(),
        pending: BinaryHeap::new(),
        count: 0,
        stations: BTreeMap::new(),
    };
    answer("ready")?;
    switch.run()
}

fn answer(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot answer on standard output")
}

struct Switch {
    ports: Ports,
    links: Links,
    assembly: Assembly,
    recorder: Option<Recorder>,
    /// The instant at which the clock showed 0.
    origin: Instant,
    /// The frames in flight, earliest first.
    pending: BinaryHeap<Reverse<Pending>>,
    /// How many were ever put in flight. Frames that are due at the same time leave in this order.
    count: u64,
    /// The port where an Ethernet address was last seen as a source.
    stations: BTreeMap<[u8; 6], usize>,
}

/// Frames on their way to a port. Ordered by the first fields: due time, then number.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    due: Micros,
    number: u64,
    to: usize,
    frames: Rc<Vec<Vec<u8>>>,
}

impl Switch {
    fn run(&mut self) -> Result<()> {
        let mut input = Vec::new();
        loop {
            self.deliver()?;
            let (has_order, has_frame) = self.wait()?;
            // Frames that arrived before an order are not subject to it, however busy the switch was.
            let batches = if has_order { MOST_BEFORE_ORDER } else { usize::from(has_frame) };
            for _ in 0..batches {
                if self.hear()? == 0 {
                    break;
                }
            }
            if has_order {
                self.deliver()?;
                if !self.obey(&mut input)? {
                    return self.recorder.iter_mut().try_for_each(Recorder::flush);
                }
            }
        }
    }

    fn now(&self) -> Micros {
        self.origin.elapsed().into()
    }

    /// Sends all frames that are due.
    fn deliver(&mut self) -> Result<()> {
        let now = self.now();
        let is_due = |pending: &Reverse<Pending>| pending.0.due <= now;
        let mut batch = Vec::new();
        while self.pending.peek().is_some_and(is_due) {
            batch.extend(self.pending.pop().map(|Reverse(pending)| (pending.to, pending.frames)));
        }
        self.ports.send(&batch).context("cannot send frames")
    }

    /// Waits for an order, a frame, or a due frame in flight. Returns whether there is an order, and whether there
    /// is a frame.
    fn wait(&self) -> Result<(bool, bool)> {
        let now = self.now();
        let wait = self.pending.peek().map(|pending| Duration::from_micros(pending.0.due.since(now).0));
        let stdin = io::stdin();
        let mut fds =
            [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(self.ports.fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, wait.map(TimeSpec::from_duration), None) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok((false, false)),
            Err(error) => return Err(error).context("cannot wait for frames"),
        }
        let [order, frame] = fds.map(|fd| fd.any() == Some(true));
        Ok((order, frame))
    }

    /// Carries out the orders that have arrived. Returns whether more may follow.
    fn obey(&mut self, input: &mut Vec<u8>) -> Result<bool> {
        let mut room = [0; 4096];
        // Unbuffered: a line held in a buffer would not wake the poll.
        let length = nix::unistd::read(io::stdin().as_fd(), &mut room).context("cannot read orders")?;
        input.extend_from_slice(&room[..length]);
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            let order = String::from_utf8_lossy(&line).parse::<Order>()?;
            match order {
                Order::Clock(now) => self.origin = Instant::now() - Duration::from_micros(now.0),
                Order::Link { from, to, link } => self.links.set(from, to, &link)?,
                Order::Flush => self.recorder.iter_mut().try_for_each(Recorder::flush)?,
                Order::Losses => {
                    let losses = self.ports.losses().context("cannot count what was lost")?;
                    answer(&losses.to_string())?;
                    continue;
                }
            }
            answer("done")?;
        }
        Ok(length > 0)
    }

    /// Takes a batch of frames in and decides their fates. Returns how many there were.
    fn hear(&mut self) -> Result<usize> {
        let now = self.now();
        let mut heard = Vec::new();
        self.ports
            .receive(&mut |port, bytes| heard.push((port, bytes.to_vec())))
            .context("cannot receive frames")?;
        let count = heard.len();
        for (port, bytes) in heard {
            self.stations.insert(frame::source(&bytes), port);
            match self.assembly.take(port, bytes) {
                Some(Frame::Other(bytes)) => {
                    let frames = Rc::new(vec![bytes]);
                    for to in self.receivers(port, &frames[0]) {
                        self.post(to, now, Rc::clone(&frames));
                    }
                }
                Some(Frame::Packet(packet)) => self.pass(port, packet, now)?,
                None => {}
            }
        }
        Ok(count)
    }

    /// The ports that a frame is for: the receiver's port where it is known, else all others.
    fn receivers(&self, from: usize, frame: &[u8]) -> Vec<usize> {
        match self.stations.get(&frame::destination(frame)) {
            Some(port) => vec![*port].into_iter().filter(|port| *port != from).collect(),
            None => (0..self.links.ports()).filter(|port| *port != from).collect(),
        }
    }

    fn pass(&mut self, from: usize, packet: Packet, now: Micros) -> Result<()> {
        let receivers = self.receivers(from, packet.first());
        let packet = Rc::new(packet);
        for to in receivers {
            let mut fate = self.links.decide(from, to);
            if let LinkModel::Damaged { delay, chance } = &fate {
                match damage::damaged(&packet, chance.clone()) {
                    Some(damaged) => self.post(to, now + *delay, Rc::new(damaged.into_frames())),
                    // It would read as another line: a link's checksum stops exactly that.
                    None => fate = LinkModel::Lost,
                }
            }
            for delay in fate.whole() {
                self.post(to, now + delay, packet.frames());
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.note(now, (from, to), &fate, packet.payload())?;
            }
        }
        Ok(())
    }

    fn post(&mut self, to: usize, due: Micros, frames: Rc<Vec<Vec<u8>>>) {
        self.count += 1;
        self.pending.push(Reverse(Pending { due, number: self.count, to, frames }));
    }
}
