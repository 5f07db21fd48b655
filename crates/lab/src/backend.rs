//! The commands and queries of every world: the interface between choreography and worlds.
//!
//! Owns no behaviour. Time is a [`Micros`] since the world began, virtual or real. Only [`Backend::step`] blocks.
//! Every other call takes effect at once, or starts something.

use std::path::{Path, PathBuf};

use upaxos_core::client::Ask;
use upaxos_core::types::{Ballot, Instance, Micros, NodeId};
use upaxos_core::wire::{Dialect, Stance};
pub use upaxos_sim::scripted::{Settled, Ticket};
use upaxos_testbed::link::Link;

/// A group, its network, its disks and its clients, with every operation on them.
///
/// A world is made for a first group of a given size, none of whose nodes runs yet. Dropping it ends everything
/// that it started.
pub trait Backend {
    /// The name that `--on` gives it: `sim`, `raw` or `udp`.
    fn name(&self) -> &'static str;

    /// A description of the world for the report.
    fn about(&self) -> String {
        self.name().to_owned()
    }

    /// Why this world does not support the fault. Called before the fault is used. `None`: the fault works.
    fn lacks(&self, fault: Fault) -> Option<Unsupported>;

    /// The current time on the world's clock.
    fn now(&self) -> Micros;

    /// Lets time pass until an event that a waiting script may want to know (an answer, a node that ended, a change
    /// in any [`View`]), and at the latest until its clock shows `until`.
    ///
    /// # Errors
    /// When the world broke, or a judge that watches all the time found a violation.
    fn step(&mut self, until: Micros) -> Result<(), BackendError>;

    /// Starts a node, for the first time or again. It starts on its disk, or on a new one if it has none.
    ///
    /// # Errors
    /// When it already runs, or cannot be started at all. A node that starts and then ends by itself is no error:
    /// its [`View`] reports how it ended.
    fn start(&mut self, node: NodeId, how: &Start) -> Result<(), BackendError>;

    /// Asks the node to shut down cleanly (SIGTERM).
    ///
    /// # Errors
    /// When it does not run.
    fn stop(&mut self, node: NodeId) -> Result<(), BackendError>;

    /// Ends the node between two instructions (kill -9). Writes that it had not synced may be lost.
    ///
    /// # Errors
    /// When it does not run.
    fn crash(&mut self, node: NodeId) -> Result<(), BackendError>;

    /// Pauses the node (SIGSTOP): it is alive and silent, and does not notice the pause.
    ///
    /// # Errors
    /// When it does not run.
    fn pause(&mut self, node: NodeId) -> Result<(), BackendError>;

    /// Resumes a paused node (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    fn resume(&mut self, node: NodeId) -> Result<(), BackendError>;

    /// Removes the disk of a node that is down. The node will start with an empty disk.
    ///
    /// # Errors
    /// When it runs.
    fn wipe(&mut self, node: NodeId) -> Result<(), BackendError>;

    /// Sets the fault of a node's disk from now on. `None` ends it.
    ///
    /// # Errors
    /// See [`Backend::lacks`].
    fn disk(&mut self, node: NodeId, fault: Option<DiskFault>) -> Result<(), BackendError>;

    /// Sets how the link from one party to another behaves, in that direction only, replacing what was set.
    ///
    /// # Errors
    /// See [`Backend::lacks`].
    fn link(&mut self, from: Party, to: Party, link: Link) -> Result<(), BackendError>;

    /// Sends a client's request. The client retries until it has an answer or its `patience` has ended. A request
    /// with an effect is carried out exactly once. The script numbers clients from 0. Each client is a session of
    /// its own.
    ///
    /// # Errors
    /// When this request cannot be sent at all.
    fn ask(&mut self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket, BackendError>;

    /// Sends these bytes to all nodes as one datagram, and does not wait for an answer.
    ///
    /// # Errors
    /// When the world broke.
    fn say(&mut self, datagram: &[u8]) -> Result<(), BackendError>;

    /// The requests that have ended since the last call, in the order of their ends.
    fn settled(&mut self) -> Vec<Settled>;

    /// The current knowledge about a node.
    fn view(&self, node: NodeId) -> View;

    /// The knowledge about all nodes, for a failure message: many lines, the ends of logs among them.
    fn describe(&self) -> String;

    /// Judges everything that has happened so far. First ends every fault and starts the nodes that are down. A
    /// node that was wiped or has left stays down. Then waits until the group has answered every request and all
    /// nodes have learned the same. Then cuts the power of all nodes and restarts them, where the world has power
    /// to cut. Last, reads every log. A script may continue afterwards.
    ///
    /// # Errors
    /// When the world broke. A violation is not an error but part of the result.
    fn check(&mut self, patience: Micros) -> Result<Vec<Violation>, BackendError>;

    /// Writes the history of the run into a directory, as files for people and programs: the wire with times, the
    /// nodes' logs.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&self, dir: &Path) -> Result<(), BackendError>;
}

/// The parameters of a world. Every world has a constructor that takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The size of the first group; its ids are 0 to `nodes` - 1.
    pub nodes: u16,
    /// How many more nodes may join. Their ids follow the first group's. No node runs yet.
    pub spares: u16,
    /// The seed of all chance.
    pub seed: u64,
    /// The interval between two beats of a node.
    pub beat: Micros,
    /// Whether the group and its clients speak the classic grammar.
    pub classic: bool,
    /// Whether the wire is recorded for [`Backend::save`]. Without the record it saves little.
    pub records: bool,
}

impl Setup {
    /// The grammar of the group and of its clients.
    pub fn dialect(&self) -> Dialect {
        if self.classic { Dialect::Classic } else { Dialect::Extended }
    }
}

/// How to start a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// `Some` if it joins a running group; the inner value is the member that it replaces. `None` if it belongs to
    /// the first group.
    pub joins: Option<Option<NodeId>>,
    /// The paths of its hook scripts, in order.
    pub scripts: Vec<PathBuf>,
    /// Whether its untagged reads are fast reads.
    pub fast_read: bool,
}

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The host of this node.
    Node(NodeId),
    /// The host of all clients.
    Clients,
}

/// A kind of fault, for [`Backend::lacks`].
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

/// The fault of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Every sync takes this much longer.
    Slow(Micros),
    /// The next sync fails, as with EIO.
    SyncFails,
    /// The next write fails, as on a full disk.
    Full,
}

/// Why a world does not support a fault, in words for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

/// The state of a node's process, seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeState {
    /// It was never started, or ended as requested.
    #[default]
    Down,
    /// The process runs.
    Runs,
    /// The process is paused.
    Paused,
    /// It ended by itself, with this exit status and these last words.
    Ended(u8, String),
}

/// The knowledge about a node. Its protocol state comes from its last beat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The state of its process.
    pub state: NodeState,
    /// Its stance in the protocol, while it runs and its beats arrive.
    pub stance: Option<Stance>,
    /// The ballot in its last beat, if it named one.
    pub ballot: Option<Ballot>,
    /// Its durably learned prefix, as its last beat reported it.
    pub learned: Instance,
    /// The nodes that it hears.
    pub heard: Vec<NodeId>,
    /// Its report of states that differ: the instance, in its own words.
    pub diverged: Option<String>,
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule that should hold, in words.
    pub expected: String,
    /// The finding that breaks it.
    pub got: String,
}

/// Why a world could not carry out a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The call makes no sense now, such as starting a node that runs.
    #[error("{0}")]
    Misuse(String),
    /// The world does not support the fault.
    #[error("not in this world: {}", .0.0)]
    Unsupported(Unsupported),
    /// A judge found a violation while the run went on.
    #[error("expected {}; got {}", .0.expected, .0.got)]
    Violated(Violation),
    /// The world itself broke.
    #[error(transparent)]
    Broken(#[from] anyhow::Error),
}
