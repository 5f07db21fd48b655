//! The machine that one node runs on: its disk, its queue, its clock, and what is wrong with it.

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

/// How many datagrams a node's queue holds while it is busy; what comes then is lost.
const QUEUE: usize = 64;

/// The most bytes of a packet, on which lines are packed, and datagrams cut.
pub const PACKET: usize = 600;

/// What a machine is doing.
#[derive(Debug)]
pub enum State {
    /// Its node does not run.
    Down,
    /// Its node waits for datagrams, or its deadline.
    Waits(Work),
    /// Its node waits for the disk.
    Syncs(Work),
    /// Its node stands still between two effects.
    Halts(Work),
}

/// A node, and how far its effects are carried out.
#[derive(Debug)]
pub struct Work {
    /// The node.
    pub node: Box<Replica>,
    /// Its effects.
    pub out: Outbox,
    /// Their order.
    pub driver: Driver,
    /// Datagrams that it is about to send.
    pub said: VecDeque<Rc<Datagram>>,
}

/// What a node is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a member of the first group.
    Member,
    /// It will join one day, perhaps.
    Spare,
    /// It joins, in the place of that one.
    Joins(Option<u16>),
    /// It has left the group, or lost its disk, and ended for good.
    Gone,
}

/// The status with which a node ends by itself, and its last words.
pub type Words = (u8, String);

/// Why a node ends in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Told,
    /// Something that it heard ends it.
    Itself(Words),
}

/// Loads the scripts of a node.
#[derive(Clone)]
pub struct Loads(pub Rc<dyn Fn() -> Rc<dyn Hooks>>);

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loads")
    }
}

/// For how long a node is down; `None`: until somebody starts it.
pub type Down = Option<Micros>;

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// What it is doing.
    pub state: State,
    /// What its node has written.
    pub disk: Disk,
    /// What its node has not read yet.
    pub queue: VecDeque<Rc<Datagram>>,
    /// What its node said, and hears, that is longer than a packet.
    pub parts: Parts,
    /// The scripts of its node, if there are any.
    pub hooks: Option<Rc<dyn Hooks>>,
    /// Scripts of somebody's own: loaded anew at every start, as a process would.
    pub own_scripts: Option<Loads>,
    /// Where they begin to compute something else than all others, if they are known to.
    pub strays_from: Option<Instance>,
    /// What its node has said of scripts that computed something else elsewhere.
    pub diverged: Option<String>,
    /// Its scripts went astray once: it computes all anew at every start.
    pub rebuilds: bool,
    /// How often its node was started.
    pub life: u64,
    /// How often its disk was lost.
    pub wipes: u64,
    /// What its node is started for.
    pub role: Role,
    /// Whether its node answers untagged reads without an instance.
    pub fast_read: bool,
    /// How many lines its node could not read.
    pub malformed: u64,
    /// Its node ends, in good order, when its turn is over.
    pub ends: Option<End>,
    /// How its last node ended, if by itself.
    pub ended: Option<Words>,
    /// Where a bit of its disk was flipped, which nobody has noticed yet.
    pub flipped: Option<Flip>,
    /// How far it had learned when it lost a value that it has not got again yet.
    pub lost_below: Option<Instance>,
    /// An earlier copy of its disk, to be put back.
    pub copy: Option<Disk>,
    /// An earlier copy of its disk was put back, and lacks something.
    pub is_rolled_back: bool,
    /// When its node runs next, unless something comes in before.
    pub wake_at: Micros,
    /// It stands still until then.
    pub paused_until: Micros,
    /// Its node stands still until somebody says otherwise.
    pub is_stopped: bool,
    /// While its node stood still, its sync was done.
    pub is_synced: bool,
    /// Its node crashes after so many more effects, for how long.
    pub crash_after: Option<(u64, Down)>,
    /// Its node stands still after so many more effects, for how long.
    pub halt_after: Option<(u64, Micros)>,
    /// The next block is torn: the node is down for so long.
    pub tears: Option<Down>,
    /// The next sync fails: the node is down for so long.
    pub sync_fails: Option<Down>,
    /// The same of a failure that the disk has been told of, and that its store may have met already.
    pub disk_fails: Option<Down>,
    /// How long each sync takes, until when.
    pub slow_sync: (Micros, Micros),
    started_at: Micros,
    seed: u64,
    /// Clock ticks per million microseconds.
    rate: u64,
}

impl Machine {
    /// A machine with an empty disk, that nobody uses.
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

    /// Its clock is off by so much per million, from before its first life on.
    pub fn skew(&mut self, skew: i64) {
        self.rate = 1_000_000_u64.saturating_add_signed(skew);
    }

    /// A new life begins: its clock begins at zero.
    pub fn begin_life(&mut self, now: Micros) {
        self.life += 1;
        // A daemon draws a number at random.
        self.parts = Parts::new((self.seed << 32) + (self.life << 20), PACKET);
        self.started_at = now;
        (self.ends, self.ended) = (None, None);
    }

    /// Its node is gone, with what it had not read yet.
    pub fn end_life(&mut self) {
        // One failure, and one life that it ends.
        if self.disk_fails.take().is_some() {
            self.disk.fail(None);
        }
        self.state = State::Down;
        self.queue.clear();
        (self.crash_after, self.halt_after) = (None, None);
        (self.is_stopped, self.is_synced) = (false, false);
        self.wake_at = Micros(u64::MAX);
    }

    /// Whether its disk was lost, or rolled back, or is corrupt.
    pub fn is_lost(&self) -> bool {
        self.wipes > 0 || self.is_rolled_back || self.flipped.is_some()
    }

    /// Whether what it had learned when a flipped bit took a value is learned again.
    pub fn has_fetched(&self) -> bool {
        self.lost_below.is_some_and(|below| self.node().is_some_and(|node| node.learned() >= below))
    }

    /// Takes note when that is durable. Says so once.
    pub fn is_whole_again(&mut self) -> bool {
        let is_whole = self.has_fetched() && self.node().is_some_and(|node| !node.has_lost_values());
        self.lost_below.take_if(|_| is_whole);
        is_whole
    }

    /// What its clock shows.
    pub fn clock(&self, now: Micros) -> Micros {
        Micros(now.since(self.started_at).0 * self.rate / 1_000_000)
    }

    /// When its clock will show `clock`.
    pub fn when(&self, clock: Micros) -> Micros {
        self.started_at + Micros((clock.0.min(u64::MAX / 2_000_000) * 1_000_000).div_ceil(self.rate))
    }

    /// Whether its scripts are somebody's own: what they compute is no judge's affair.
    pub fn is_directed(&self) -> bool {
        self.own_scripts.is_some()
    }

    /// An outbox for a life of its node.
    pub fn outbox(&self, id: u16, limits: Limits) -> Outbox {
        let mut out = match &self.hooks {
            Some(hooks) => Outbox::with_hooks(NodeId(id), Rc::clone(hooks)),
            None => Outbox::new(NodeId(id)),
        };
        out.limit(limits);
        out
    }

    /// The node, if it runs.
    pub fn node(&self) -> Option<&Replica> {
        match &self.state {
            State::Down => None,
            State::Waits(work) | State::Syncs(work) | State::Halts(work) => Some(&work.node),
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
        (self.crash_after, self.halt_after, self.tears, self.sync_fails) = (None, None, None, None);
        self.paused_until = Micros(0);
        self.heal_disk();
    }

    /// Everything that was to go wrong with its disk does not.
    pub fn heal_disk(&mut self) {
        self.slow_sync = (Micros(0), Micros(0));
        self.disk.fail(None);
    }

    /// One more effect; when it is the last, how long the node is down then.
    pub fn crashes_now(&mut self) -> Option<Down> {
        let (after, down) = self.crash_after?;
        self.crash_after = Some((after.saturating_sub(1), down));
        (after == 0).then_some(down)
    }

    /// One more effect; when the node stands still after it, for how long.
    pub fn halts_now(&mut self) -> Option<Micros> {
        let (after, length) = self.halt_after?;
        self.halt_after = after.checked_sub(1).map(|after| (after, length));
        (after == 0).then_some(length)
    }

    /// What its node was doing, if it stands still between two effects.
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
