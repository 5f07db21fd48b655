//! The simulated machine that one node runs on. Owns its disk, its receive queue, its clock, and its pending
//! faults.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use upaxos_core::driver::Driver;
use upaxos_core::hooks::Hooks;
use upaxos_core::parts::Parts;
use upaxos_core::replica::{Limits, Outbox, Replica};
use upaxos_core::types::{Instance, Micros, NodeId};

use super::disk::{Disk, Flip};
use super::network::Datagram;

/// How many datagrams the queue of a busy node holds. Further datagrams are lost.
const QUEUE: usize = 64;

/// The maximum bytes of a packet. Lines are packed up to this size, and longer datagrams are cut into parts.
pub const PACKET: usize = 600;

/// The state of a machine.
#[derive(Debug)]
pub enum State {
    /// The node does not run.
    Down,
    /// The node waits for a datagram or for its deadline.
    Waits(Work),
    /// The node waits for a sync of the disk.
    Syncs(Work),
    /// The node is halted between two effects.
    Halts(Work),
}

/// A running node, and the progress of its effects.
#[derive(Debug)]
pub struct Work {
    /// The real node under test, as the daemon would run it.
    pub node: Box<Replica>,
    /// The effects of the current step, not all carried out yet.
    pub out: Outbox,
    /// The drive loop. It decides which effect is next.
    pub driver: Driver,
    /// Datagrams that the node is about to send. It may crash between any two of them.
    pub said: VecDeque<Rc<Datagram>>,
}

/// The purpose of a node's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of the first group.
    Member,
    /// A machine that may join later.
    Spare,
    /// A joiner, in place of the given node if there is one.
    Joins(Option<u16>),
    /// The node left the group, or lost its disk. It never starts again.
    Gone,
}

/// The exit status and the last log line of a node that ends by itself.
pub type Words = (u8, String);

/// The reason for an orderly end of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The simulator asked it to end.
    Told,
    /// A message that the node received makes it end.
    Itself(Words),
}

/// A function that loads the scripts of a node.
#[derive(Clone)]
pub struct Loads(pub Rc<dyn Fn() -> Rc<dyn Hooks>>);

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loads")
    }
}

/// How long a node stays down. `None`: until it is started explicitly.
pub type Down = Option<Micros>;

/// One machine of the cluster. It stays for the whole run; its node may start and end many times.
#[derive(Debug)]
pub struct Machine {
    /// The state of the node: down, waiting, syncing or halted.
    pub state: State,
    /// The disk, with everything that the node wrote.
    pub disk: Disk,
    /// Received datagrams that the node has not read yet.
    pub queue: VecDeque<Rc<Datagram>>,
    /// Datagrams longer than a packet: the parts that the node sent, and those that it is collecting.
    pub parts: Parts,
    /// The scripts of the node, if any.
    pub hooks: Option<Rc<dyn Hooks>>,
    /// Scripts that the caller of the simulator supplies. They are loaded at every start, as in a process.
    pub own_scripts: Option<Loads>,
    /// The instance from which the scripts compute something different from all others, if known.
    pub strays_from: Option<Instance>,
    /// The node's report that its scripts diverged from those of a peer.
    pub diverged: Option<String>,
    /// The scripts diverged once. The node computes their states from the beginning at every start.
    pub rebuilds: bool,
    /// How often the node was started.
    pub life: u64,
    /// How often the disk was lost.
    pub wipes: u64,
    /// The purpose of the node's next start.
    pub role: Role,
    /// Whether the node answers untagged reads as fast reads, without an instance.
    pub fast_read: bool,
    /// How many received lines the node could not parse.
    pub malformed: u64,
    /// Set when the node ends, in good order, after its current turn.
    pub ends: Option<End>,
    /// How the last life of the node ended, if the node ended by itself.
    pub ended: Option<Words>,
    /// The place of a flipped bit that the node has not noticed yet.
    pub flipped: Option<Flip>,
    /// How far the node had learned when it lost a value that it has not fetched again yet.
    pub lost_below: Option<Instance>,
    /// An earlier copy of the disk, for a later rollback.
    pub copy: Option<Disk>,
    /// Whether the disk was replaced by an earlier copy that lacks some records.
    pub is_rolled_back: bool,
    /// When the node runs next, if no datagram arrives before.
    pub wake_at: Micros,
    /// The node is paused until this time.
    pub paused_until: Micros,
    /// The node is paused until it is resumed explicitly.
    pub is_stopped: bool,
    /// A sync ended while the node was stopped.
    pub is_synced: bool,
    /// The node crashes after this many further effects, and stays down for this long.
    pub crash_after: Option<(u64, Down)>,
    /// The node halts after this many further effects, for this long.
    pub halt_after: Option<(u64, Micros)>,
    /// The next block is torn in a crash. The node stays down for this long.
    pub tears: Option<Down>,
    /// The next sync fails. The node stays down for this long.
    pub sync_fails: Option<Down>,
    /// The same, for a failure that is already set on the disk. The node's store may have met it already.
    pub disk_fails: Option<Down>,
    /// The extra time of each sync, and when that ends.
    pub slow_sync: (Micros, Micros),
    started_at: Micros,
    seed: u64,
    /// Clock ticks per million microseconds.
    rate: u64,
}

impl Machine {
    /// A machine with an empty disk, and no node on it.
    pub fn new(seed: u64) -> Machine {
        Machine {
            state: State::Down,
            disk: Disk::new(seed),
            queue: VecDeque::new(),
            parts: Parts::new(0, PACKET),
            seed,
            hooks: None,
            strays_from: None,
            own_scripts: None,
            diverged: None,
            rebuilds: false,
            life: 0,
            wipes: 0,
            role: Role::Spare,
            fast_read: false,
            malformed: 0,
            ends: None,
            ended: None,
            flipped: None,
            lost_below: None,
            copy: None,
            is_rolled_back: false,
            wake_at: Micros(u64::MAX),
            paused_until: Micros(0),
            is_stopped: false,
            is_synced: false,
            crash_after: None,
            halt_after: None,
            tears: None,
            sync_fails: None,
            disk_fails: None,
            slow_sync: (Micros(0), Micros(0)),
            started_at: Micros(0),
            rate: 1_000_000,
        }
    }

    /// Makes the clock wrong by this many parts per million. Call this before the first life.
    pub fn skew(&mut self, skew: i64) {
        self.rate = 1_000_000_u64.saturating_add_signed(skew);
    }

    /// Begins a new life. Its clock starts at zero.
    pub fn begin_life(&mut self, now: Micros) {
        self.life += 1;
        // A daemon draws this number at random.
        self.parts = Parts::new((self.seed << 32) + (self.life << 20), PACKET);
        self.started_at = now;
        (self.ends, self.ended) = (None, None);
    }

    /// Removes the node, and the datagrams that it had not read.
    pub fn end_life(&mut self) {
        // One failure ends one life only.
        if self.disk_fails.take().is_some() {
            self.disk.fail(None);
        }
        self.state = State::Down;
        self.queue.clear();
        (self.crash_after, self.halt_after) = (None, None);
        (self.is_stopped, self.is_synced) = (false, false);
        self.wake_at = Micros(u64::MAX);
    }

    /// Whether the disk was lost, was rolled back, or is corrupt.
    pub fn is_lost(&self) -> bool {
        self.wipes > 0 || self.is_rolled_back || self.flipped.is_some()
    }

    /// Whether the node has learned everything again that it knew when a flipped bit destroyed a value.
    pub fn has_fetched(&self) -> bool {
        self.lost_below.is_some_and(|below| self.node().is_some_and(|node| node.learned() >= below))
    }

    /// Checks whether that is also durable. Returns true once.
    pub fn is_whole_again(&mut self) -> bool {
        let is_whole = self.has_fetched() && self.node().is_some_and(|node| !node.has_lost_values());
        self.lost_below.take_if(|_| is_whole);
        is_whole
    }

    /// The time on the machine's clock, in its present life.
    pub fn clock(&self, now: Micros) -> Micros {
        Micros(now.since(self.started_at).0 * self.rate / 1_000_000)
    }

    /// The time of the simulation at which the machine's clock will show `clock`.
    pub fn when(&self, clock: Micros) -> Micros {
        self.started_at + Micros((clock.0.min(u64::MAX / 2_000_000) * 1_000_000).div_ceil(self.rate))
    }

    /// Whether the caller of the simulator supplies the scripts. The checkers do not judge what such scripts
    /// compute.
    pub fn is_directed(&self) -> bool {
        self.own_scripts.is_some()
    }

    /// A new outbox for the next life of the node.
    pub fn outbox(&self, id: u16, limits: Limits) -> Outbox {
        let mut out = match &self.hooks {
            Some(hooks) => Outbox::with_hooks(NodeId(id), Rc::clone(hooks)),
            None => Outbox::new(NodeId(id)),
        };
        out.limit(limits);
        out
    }

    /// The node, if it is running.
    pub fn node(&self) -> Option<&Replica> {
        match &self.state {
            State::Down => None,
            State::Waits(work) | State::Syncs(work) | State::Halts(work) => Some(&work.node),
        }
    }

    /// Queues a datagram. Returns false if the queue is full or no node is running.
    pub fn receive(&mut self, datagram: Rc<Datagram>) -> bool {
        let is_read = !matches!(self.state, State::Down) && self.queue.len() < QUEUE;
        if is_read {
            self.queue.push_back(datagram);
        }
        is_read
    }

    /// Cancels all pending faults of this machine.
    pub fn heal(&mut self) {
        (self.crash_after, self.halt_after, self.tears, self.sync_fails) = (None, None, None, None);
        self.paused_until = Micros(0);
        self.heal_disk();
    }

    /// Cancels all pending faults of the disk.
    pub fn heal_disk(&mut self) {
        self.slow_sync = (Micros(0), Micros(0));
        self.disk.fail(None);
    }

    /// Counts one effect. If the node crashes now, returns how long it stays down.
    pub fn crashes_now(&mut self) -> Option<Down> {
        let (after, down) = self.crash_after?;
        self.crash_after = Some((after.saturating_sub(1), down));
        (after == 0).then_some(down)
    }

    /// Counts one effect. If the node halts now, returns for how long.
    pub fn halts_now(&mut self) -> Option<Micros> {
        let (after, length) = self.halt_after?;
        self.halt_after = after.checked_sub(1).map(|after| (after, length));
        (after == 0).then_some(length)
    }

    /// Removes the node's work, if the node is halted between two effects.
    pub fn take_halted(&mut self) -> Option<Work> {
        match std::mem::replace(&mut self.state, State::Down) {
            State::Halts(work) => Some(work),
            other => {
                self.state = other;
                None
            }
        }
    }
}
