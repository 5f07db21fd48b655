//! What every world can be told, and asked: the seam between choreography and worlds.
//!
//! Owns no behaviour. Time is a [`Micros`] since the world began, virtual or real. Nothing here blocks but
//! [`World::step`]: everything else takes effect at once, or begins.

use std::path::{Path, PathBuf};

use upaxos_core::client::Ask;
pub use upaxos_core::sim::play::{Settled, Ticket};
use upaxos_core::types::{Ballot, Instance, Micros, NodeId};
use upaxos_core::wire::{Dialect, Stance};

/// A group, its network, its disks, its clients, and everything that can be done to them.
///
/// Made for a first group of so many nodes, none of which runs yet. Dropping it ends all that it began.
pub trait World {
    /// The name that `--on` gives it: `sim`, `raw` or `udp`.
    fn name(&self) -> &'static str;

    /// What it is made of, for people.
    fn about(&self) -> String {
        self.name().to_owned()
    }

    /// Why this world has no such fault, if it has not. Asked before the fault is; a fault of which this
    /// says `None` works.
    fn lacks(&self, fault: Fault) -> Option<Lacks>;

    /// What its clock shows.
    fn now(&self) -> Micros;

    /// Lets time pass: until something has happened that a waiting script may want to know (an answer, a
    /// node that ended, a change in any [`View`]), and at the latest until its clock shows `until`.
    ///
    /// # Errors
    /// When the world broke, or a judge that watches all the time has objected.
    fn step(&mut self, until: Micros) -> Result<(), WorldError>;

    /// Starts a node, for the first time or again: on the disk that it has, with a new one if it has none.
    ///
    /// # Errors
    /// When it runs already, or cannot be started at all. A node that starts and then refuses to go on is no
    /// error: its [`View`] says how it ended.
    fn start(&mut self, node: NodeId, how: &Start) -> Result<(), WorldError>;

    /// Asks the node to end in good order (SIGTERM).
    ///
    /// # Errors
    /// When it does not run.
    fn stop(&mut self, node: NodeId) -> Result<(), WorldError>;

    /// Ends the node between two instructions (kill -9): what it had not synced may be lost.
    ///
    /// # Errors
    /// When it does not run.
    fn crash(&mut self, node: NodeId) -> Result<(), WorldError>;

    /// The node stands still (SIGSTOP): alive, silent, and unaware of it.
    ///
    /// # Errors
    /// When it does not run.
    fn pause(&mut self, node: NodeId) -> Result<(), WorldError>;

    /// The end of a pause.
    ///
    /// # Errors
    /// When it does not run.
    fn resume(&mut self, node: NodeId) -> Result<(), WorldError>;

    /// Takes the disk of a node away, which must be down: it will start with an empty one.
    ///
    /// # Errors
    /// When it runs.
    fn wipe(&mut self, node: NodeId) -> Result<(), WorldError>;

    /// From now on the disk of a node misbehaves; `None` ends that.
    ///
    /// # Errors
    /// See [`World::lacks`].
    fn disk(&mut self, node: NodeId, fault: Option<DiskFault>) -> Result<(), WorldError>;

    /// Sets how the link from one party to another behaves, in that direction only, replacing what was set.
    ///
    /// # Errors
    /// See [`World::lacks`].
    fn link(&mut self, from: Party, to: Party, link: Link) -> Result<(), WorldError>;

    /// A client asks, exactly once where the question has an effect, and again until it is answered or its
    /// `patience` has ended. Clients are numbered from 0 by the script; each is a session of its own.
    ///
    /// # Errors
    /// When the question cannot be asked at all.
    fn ask(&mut self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket, WorldError>;

    /// Somebody sends these bytes to all nodes as one datagram, and waits for nothing.
    ///
    /// # Errors
    /// When the world broke.
    fn say(&mut self, datagram: &[u8]) -> Result<(), WorldError>;

    /// The questions that have ended since this was asked last, in the order of their ends.
    fn settled(&mut self) -> Vec<Settled>;

    /// What is known of a node now.
    fn view(&self, node: NodeId) -> View;

    /// What everybody knows, for a message of failure: many lines, the ends of logs among them.
    fn describe(&self) -> String;

    /// Judges everything that has happened so far. Ends every fault first, starts who is down (who was wiped
    /// or has left stays down), waits until the group has answered everything and learned alike; then the power
    /// of all fails and all come back, where the world has power to cut; then every log is read. A script may
    /// go on afterwards.
    ///
    /// # Errors
    /// When the world broke. What a judge objects to is no error but in the result.
    fn check(&mut self, patience: Micros) -> Result<Vec<Violation>, WorldError>;

    /// Writes what has happened into a directory, as files for people and programs: the wire with times, the
    /// nodes' logs.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&self, dir: &Path) -> Result<(), WorldError>;
}

/// What a world is made for: every world has a constructor that takes this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The size of the first group; its ids are 0 to `nodes` - 1.
    pub nodes: u16,
    /// How many more may join; their ids follow. None of all runs yet.
    pub spares: u16,
    /// Where all chance comes from.
    pub seed: u64,
    /// The interval between two beats of a node.
    pub beat: Micros,
    /// Whether the group speaks the classic grammar, its clients too.
    pub classic: bool,
    /// Whether the wire is recorded for [`World::save`], which else has little to write.
    pub records: bool,
}

impl Setup {
    /// The grammar of the group, and of its clients.
    pub fn dialect(&self) -> Dialect {
        if self.classic { Dialect::Classic } else { Dialect::Extended }
    }
}

/// How a node is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Whether it joins a group that runs, and in whose place; else it is one of the first group.
    pub joins: Option<Option<NodeId>>,
    /// Hook scripts, in order.
    pub scripts: Vec<PathBuf>,
    /// Whether its untagged reads are fast ones.
    pub fast_read: bool,
}

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A node.
    Node(NodeId),
    /// All clients.
    Clients,
}

/// How a link behaves in one direction. The default is a good one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Nothing passes.
    pub is_cut: bool,
    /// The share of datagrams that are lost, 0 to 1.
    pub loss: f64,
    /// The share that arrive twice.
    pub duplicate: f64,
    /// The share of which bytes are damaged.
    pub corrupt: f64,
    /// Added to the way of every datagram.
    pub delay: Micros,
    /// At most so much more, drawn evenly for each: what reorders.
    pub jitter: Micros,
}

/// A kind of fault, for [`World::lacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Stopping, crashing, pausing, wiping nodes.
    Processes,
    /// Cuts, loss, duplicates and delays on links.
    Links,
    /// Damage to bytes on links.
    Corruption,
    /// This fault of a disk.
    Disk(DiskFault),
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Every sync takes so much longer.
    Slow(Micros),
    /// The next sync fails, as with EIO.
    SyncFails,
    /// The next write fails, as on a full disk.
    Full,
}

/// Why a world lacks a fault, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacks(pub String);

/// What a node does, seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeState {
    /// It was never started, or ended as it was told to.
    #[default]
    Down,
    /// It runs.
    Runs,
    /// It stands still.
    Paused,
    /// It ended by itself: with which exit status, and its last words.
    Ended(u8, String),
}

/// What is known of a node: of its protocol state, what its last beat said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What it does.
    pub state: NodeState,
    /// Its stance, while it runs and speaks.
    pub stance: Option<Stance>,
    /// Its ballot.
    pub ballot: Option<Ballot>,
    /// Its durably learned prefix.
    pub learned: Instance,
    /// Whom it hears.
    pub heard: Vec<NodeId>,
    /// What it has reported of states that differ: the instance, in its words.
    pub diverged: Option<String>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What must hold.
    pub expected: String,
    /// What was found.
    pub got: String,
}

/// Why a world could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// It was asked for what makes no sense now, such as starting a node that runs.
    #[error("{0}")]
    Misuse(String),
    /// It has no such fault.
    #[error("not in this world: {}", .0.0)]
    Lacks(Lacks),
    /// A judge has objected while things went on.
    #[error("expected {}; got {}", .0.expected, .0.got)]
    Violated(Violation),
    /// It broke.
    #[error(transparent)]
    Broken(#[from] anyhow::Error),
}
