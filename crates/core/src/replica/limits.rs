//! The bounds of everything that a node keeps or sends at once. No number on the wire may cost unbounded memory.
//!
//! This module owns the numbers, and a record of the bounds that were ever reached. Each role holds its own copy,
//! so that a bound is a plain field where it is checked. The code at each check decides what happens at the bound.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bounds of a node. All nodes of a group must have the same bounds of the session table, which decides by the
/// log what is a duplicate, and the same window. In practice all nodes have the usual bounds, [`Limits::default`];
/// small ones are for simulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far above the learned prefix this node keeps any state. Instances further ahead are learned by repair.
    pub window: u64,
    /// How many ballots one instance may have tallies for: more than a group produces even in turmoil.
    pub ballots: usize,
    /// How many bytes of values may be accepted and not yet learned: well over what correct leaders have in flight.
    /// A write beyond that is ignored, as if lost.
    pub open_bytes: usize,
    /// How many bytes of promises answer one proposal. A candidate that needs more asks again from the first
    /// instance that is not covered.
    pub promise_bytes: usize,
    /// How many instances a leader has in flight: the least, the first, and the most.
    pub flights: (usize, usize, usize),
    /// How many bytes of values a leader has in flight.
    pub flight_bytes: usize,
    /// How many writes one tick retransmits.
    pub retransmit: usize,
    /// How many clients the session table remembers. With this bound and the next two, the table takes a few MiB.
    pub sessions: usize,
    /// How many carried-out requests of all clients together are remembered.
    pub tags: usize,
    /// How many carried-out requests of one client are remembered. Beyond it, the client's floor is raised.
    pub tags_of_one: usize,
    /// How many requests may wait. At a leader fewer may wait ([`Limits::waiting_at_leader`]).
    pub waiting: usize,
    /// How many bytes of values the waiting requests may have.
    pub waiting_bytes: usize,
    /// The least room of a leader, when the followers no longer have the requests that it takes up.
    pub least_at_leader: usize,
    /// How many clients are told in one turn that there is no room. In a flood, the answers would be a second flood.
    pub refusals: usize,
    /// How many answers a node may owe.
    pub owed: usize,
    /// How many fast reads may wait.
    pub reads: usize,
    /// How many lookups into the history files one step may ask for. Beyond it, the reader asks again.
    pub lookups: usize,
    /// How many bytes of values a driver should read for one lookup.
    pub lookup_bytes: usize,
    /// How many instances one question about a gap asks for.
    pub repair_instances: u64,
    /// How many bytes of values one answer to gaps sends at once.
    pub repair_bytes: usize,
    /// How many questions about gaps may wait.
    pub repair_owed: usize,
    /// How many values one named write stands for.
    pub named: usize,
    /// How many bytes of these values, about.
    pub named_bytes: usize,
    /// How many named writes may wait for requests.
    pub naming: usize,
    /// How many non-members a node listens to.
    pub strangers: usize,
    /// How many joiners a node keeps.
    pub candidates: usize,
}

/// What an entry takes up beside its value, about: many small ones must not cost more than few large ones.
pub(in crate::replica) const ENTRY_BYTES: usize = 64;

impl Limits {
    /// The bounds of every node outside of simulations.
    pub const USUAL: Limits = Limits {
        window: 1 << 14,
        ballots: 16,
        open_bytes: 64 << 20,
        promise_bytes: 1 << 20,
        flights: (64, 1024, 4096),
        flight_bytes: 4 << 20,
        retransmit: 256,
        sessions: 16_384,
        tags: 65_536,
        tags_of_one: 4_096,
        waiting: 16_384,
        waiting_bytes: 32 << 20,
        least_at_leader: 1_024,
        refusals: 64,
        owed: 16_384,
        reads: 16_384,
        lookups: 64,
        lookup_bytes: 256 << 10,
        repair_instances: 4096,
        repair_bytes: 256 << 10,
        repair_owed: 64,
        named: 512,
        named_bytes: 48 << 10,
        naming: 64,
        strangers: 64,
        candidates: 64,
    };

    /// How many requests may wait at a leader: when the leader names a request, the followers should still have it,
    /// whatever else they have heard since.
    pub fn waiting_at_leader(&self) -> usize {
        self.waiting / 4 * 3
    }

    /// How many bytes of values one acceptor may report: more than it can hold.
    pub fn promised_bytes(&self) -> usize {
        2 * self.open_bytes
    }

    /// How many instances one acceptor may report: more than one can hold. Far above what it has learned, each
    /// counts as `ENTRY_BYTES` of the bytes that may be accepted.
    pub fn promised_entries(&self) -> usize {
        2 * (self.window as usize) + self.open_bytes / ENTRY_BYTES
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::USUAL
    }
}

/// A bound that can be reached, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of its name in Limits")]
pub enum Bound {
    Window,
    Ballots,
    OpenBytes,
    TallyBytes,
    PromiseBytes,
    Flights,
    FlightBytes,
    Retransmit,
    Sessions,
    Tags,
    TagsOfOne,
    Waiting,
    WaitingBytes,
    Refusals,
    Owed,
    Reads,
    Lookups,
    LookupBytes,
    RepairInstances,
    RepairBytes,
    RepairOwed,
    Named,
    NamedBytes,
    Naming,
    Strangers,
    Candidates,
    /// A datagram of a flood. Only its first line is read.
    Flood,
}

/// A set of reached bounds, one bit for each.
pub type Reached = u32;

impl Bound {
    /// All bounds, with their words for logs.
    pub const ALL: [(Bound, &'static str); 27] = [
        (Bound::Window, "window of instances"),
        (Bound::Ballots, "ballots of an instance"),
        (Bound::OpenBytes, "bytes accepted"),
        (Bound::TallyBytes, "bytes tallied"),
        (Bound::PromiseBytes, "bytes of a promise"),
        (Bound::Flights, "writes under way"),
        (Bound::FlightBytes, "bytes under way"),
        (Bound::Retransmit, "writes sent again"),
        (Bound::Sessions, "clients remembered"),
        (Bound::Tags, "requests remembered"),
        (Bound::TagsOfOne, "requests of one client"),
        (Bound::Waiting, "requests that wait"),
        (Bound::WaitingBytes, "bytes that wait"),
        (Bound::Refusals, "refusals in a turn"),
        (Bound::Owed, "answers owed"),
        (Bound::Reads, "fast reads"),
        (Bound::Lookups, "lookups in a step"),
        (Bound::LookupBytes, "bytes of a lookup"),
        (Bound::RepairInstances, "instances of a question"),
        (Bound::RepairBytes, "bytes of a repair"),
        (Bound::RepairOwed, "questions about gaps"),
        (Bound::Named, "values of a name"),
        (Bound::NamedBytes, "bytes of a name"),
        (Bound::Naming, "named writes that wait"),
        (Bound::Strangers, "strangers listened to"),
        (Bound::Candidates, "nodes ready to join"),
        (Bound::Flood, "flood read in part"),
    ];

    /// The bit of this bound in a `Reached`.
    pub fn bit(self) -> Reached {
        1 << self as u32
    }
}

/// The bounds of a role, with a record of those reached. The record does not affect a node, so all compare equal.
#[derive(Debug, Default)]
pub(in crate::replica) struct Bounds {
    limits: Limits,
    reached: AtomicU32,
}

impl Bounds {
    /// Records that a bound was reached. A cold path, since that is rare.
    #[cold]
    pub fn reach(&self, bound: Bound) {
        self.reached.fetch_or(bound.bit(), Ordering::Relaxed);
    }

    /// Returns `is_over`, and records the bound as reached if it holds.
    pub fn is_over(&self, bound: Bound, is_over: bool) -> bool {
        if is_over {
            self.reach(bound);
        }
        is_over
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.reached.load(Ordering::Relaxed)
    }
}

impl From<Limits> for Bounds {
    fn from(limits: Limits) -> Bounds {
        Bounds { limits, reached: AtomicU32::new(0) }
    }
}

impl Deref for Bounds {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        &self.limits
    }
}

impl Clone for Bounds {
    fn clone(&self) -> Bounds {
        Bounds { limits: self.limits, reached: AtomicU32::new(self.reached()) }
    }
}

impl PartialEq for Bounds {
    fn eq(&self, _: &Bounds) -> bool {
        true
    }
}

impl Eq for Bounds {}

impl Hash for Bounds {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
