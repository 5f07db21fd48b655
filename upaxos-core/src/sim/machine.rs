//! The machine that one node runs on: its disk, its queue, its clock, and what is wrong with it.

use std::collections::VecDeque;
use std::rc::Rc;

use super::disk::Disk;
use super::network::Datagram;
use crate::node::{Node, Outbox};
use crate::types::Micros;

/// How many datagrams a node's queue holds while it is busy; what comes then is lost.
const QUEUE: usize = 64;

/// What a machine is doing.
#[derive(Debug)]
pub enum State {
    /// Its node does not run.
    Down,
    /// Its node waits for datagrams, or its deadline.
    Waits(Box<Node>),
    /// Its node waits for the disk; what it wants done after that.
    Syncs(Box<Node>, Outbox),
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// What it is doing.
    pub state: State,
    /// What its node has written.
    pub disk: Disk,
    /// What its node has not read yet.
    pub queue: VecDeque<Rc<Datagram>>,
    /// How often its node was started.
    pub life: u64,
    /// How often its disk was lost.
    pub wipes: u64,
    /// A bit of its disk was flipped, which nobody has noticed yet.
    pub is_damaged: bool,
    /// When its node runs next, unless something comes in before.
    pub wake_at: Micros,
    /// It stands still until then.
    pub paused_until: Micros,
    /// Its node crashes after so many more effects, for how long.
    pub crash_after: Option<(u64, Micros)>,
    /// The next block is torn: the node is down for so long.
    pub tears: Option<Micros>,
    /// The next sync fails: the node is down for so long.
    pub sync_fails: Option<Micros>,
    /// How long each sync takes, until when.
    pub slow_sync: (Micros, Micros),
    started_at: Micros,
    /// Clock ticks per million microseconds.
    rate: u64,
}

impl Machine {
    /// A machine with an empty disk, whose clock is off by `skew` per million.
    pub fn new(seed: u64, skew: i64) -> Machine {
        Machine {
            state: State::Down,
            disk: Disk::new(seed),
            queue: VecDeque::new(),
            life: 0,
            wipes: 0,
            is_damaged: false,
            wake_at: Micros(u64::MAX),
            paused_until: Micros(0),
            crash_after: None,
            tears: None,
            sync_fails: None,
            slow_sync: (Micros(0), Micros(0)),
            started_at: Micros(0),
            rate: 1_000_000_u64.saturating_add_signed(skew),
        }
    }

    /// A new life begins: its clock begins at zero.
    pub fn begin_life(&mut self, now: Micros) {
        self.life += 1;
        self.started_at = now;
    }

    /// What its clock shows.
    pub fn clock(&self, now: Micros) -> Micros {
        Micros(now.since(self.started_at).0 * self.rate / 1_000_000)
    }

    /// When its clock will show `clock`.
    pub fn when(&self, clock: Micros) -> Micros {
        self.started_at + Micros((clock.0.min(u64::MAX / 2_000_000) * 1_000_000).div_ceil(self.rate))
    }

    /// The node, if it runs.
    pub fn node(&self) -> Option<&Node> {
        match &self.state {
            State::Down => None,
            State::Waits(node) | State::Syncs(node, _) => Some(node),
        }
    }

    /// Queues a datagram; false when there is no room, or nobody to read it.
    pub fn receive(&mut self, datagram: Rc<Datagram>) -> bool {
        let is_read = !matches!(self.state, State::Down) && self.queue.len() < QUEUE;
        if is_read {
            self.queue.push_back(datagram);
        }
        is_read
    }

    /// Everything that was to go wrong does not.
    pub fn heal(&mut self) {
        (self.crash_after, self.tears, self.sync_fails) = (None, None, None);
        self.slow_sync = (Micros(0), Micros(0));
        self.paused_until = Micros(0);
    }

    /// One more effect; when it is the last, how long the node is down then.
    pub fn crashes_now(&mut self) -> Option<Micros> {
        let (after, down) = self.crash_after?;
        self.crash_after = Some((after.saturating_sub(1), down));
        (after == 0).then_some(down)
    }
}
