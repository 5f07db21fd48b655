//! The bounds of all that a node keeps, or says at once: so that no number on the wire costs memory without end.
//!
//! Owns the numbers, and a note of which of them were ever reached. A role holds a copy of its own, so that a
//! bound is a plain field where it is looked at. What happens at a bound is decided where it is looked at.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use super::requests::{LEAST_AT_LEADER, MAX_WAITING, MAX_WAITING_BYTES, REFUSALS};
use super::sessions::{MAX_SESSIONS, MAX_TAGS, MAX_TAGS_OF_ONE};

/// The bounds of a node. All nodes of a group must have the same table of sessions, which decides by the log
/// what is a duplicate; and the same window. In practice all have the usual ones, [`Limits::default`]; small ones
/// are for simulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far above the learned prefix this node keeps anything. What is further ahead is learned by repair.
    pub window: u64,
    /// How many ballots one instance may have tallies for; more than a group in turmoil makes.
    pub ballots: usize,
    /// How many bytes of values may be accepted and not yet learned: well over what honest leaders have under
    /// way. What is written beyond that is ignored, as if lost.
    pub open_bytes: usize,
    /// How many bytes of promises one proposal is answered with; who needs more asks again from the first
    /// instance that is not covered.
    pub promise_bytes: usize,
    /// How many instances a leader has under way: at least, at first, and at most.
    pub flights: (usize, usize, usize),
    /// How many bytes of values.
    pub flight_bytes: usize,
    /// How many writes one tick sends again.
    pub retransmit: usize,
    /// How many clients are remembered.
    pub sessions: usize,
    /// How many requests of all clients together are remembered to have been carried out.
    pub tags: usize,
    /// How many requests of one client. Beyond it, a client's floor is raised for it.
    pub tags_of_one: usize,
    /// How many requests may wait; at a leader three quarters of it.
    pub waiting: usize,
    /// How many bytes of values they may have.
    pub waiting_bytes: usize,
    /// How far the room of a leader shrinks when the others do not have any more what it takes up.
    pub least_at_leader: usize,
    /// How many clients are told in one turn that there is no room.
    pub refusals: usize,
    /// How many answers may be owed.
    pub owed: usize,
    /// How many fast reads may wait.
    pub reads: usize,
    /// How many lookups into the history one step may ask for. Who asked for more asks again.
    pub lookups: usize,
    /// How many bytes of values a driver should read for one lookup.
    pub lookup_bytes: usize,
    /// How many instances one question about a gap asks for.
    pub repair_instances: u64,
    /// How many bytes of values are told at once.
    pub repair_bytes: usize,
    /// How many questions about gaps may wait.
    pub repair_owed: usize,
    /// How many values one name stands for.
    pub named: usize,
    /// About how many bytes of them at most.
    pub named_bytes: usize,
    /// How many named writes may wait for requests.
    pub naming: usize,
    /// How many nodes that are no members are listened to.
    pub strangers: usize,
    /// How many nodes may stand ready to join.
    pub candidates: usize,
}

/// What an entry takes up beside its value, about: many small ones must not cost more than few large ones.
pub(super) const ENTRY_BYTES: usize = 64;

impl Limits {
    /// The usual bounds.
    pub const USUAL: Limits = Limits {
        window: 1 << 14,
        ballots: 16,
        open_bytes: 64 << 20,
        promise_bytes: 1 << 20,
        flights: (64, 1024, 4096),
        flight_bytes: 4 << 20,
        retransmit: 256,
        sessions: MAX_SESSIONS,
        tags: MAX_TAGS,
        tags_of_one: MAX_TAGS_OF_ONE,
        waiting: MAX_WAITING,
        waiting_bytes: MAX_WAITING_BYTES,
        least_at_leader: LEAST_AT_LEADER,
        refusals: REFUSALS,
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

    /// How many requests may wait at a leader: what it takes up, the others should still have when it names it,
    /// whatever else they have heard since.
    pub fn waiting_at_leader(&self) -> usize {
        self.waiting / 4 * 3
    }

    /// How many bytes of values one acceptor may report: more than one can hold.
    pub fn promised_bytes(&self) -> usize {
        2 * self.open_bytes
    }

    /// How many instances one acceptor may report: more than one can hold. Far above what it has learned, each
    /// counts as [`ENTRY_BYTES`] of the bytes that may be accepted.
    pub fn promised_entries(&self) -> usize {
        2 * (self.window as usize) + self.open_bytes / ENTRY_BYTES
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::USUAL
    }
}

/// A bound that can be reached.
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
    /// A datagram of a flood, of which only the first line is read.
    Flood,
}

/// Which bounds were reached, one bit for each.
pub type Reached = u32;

impl Bound {
    /// All of them, in words.
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

    /// Its bit.
    pub fn bit(self) -> Reached {
        1 << self as u32
    }
}

/// The bounds, with a note of those that were reached. It says nothing of what a node will do: all are alike.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    limits: Limits,
    reached: AtomicU32,
}

impl Bounds {
    /// Takes note that a bound was reached. Called where one bites, which is seldom.
    #[cold]
    pub fn reach(&self, bound: Bound) {
        self.reached.fetch_or(bound.bit(), Ordering::Relaxed);
    }

    /// Whether `is_over`; then the bound was reached.
    pub fn is_over(&self, bound: Bound, is_over: bool) -> bool {
        if is_over {
            self.reach(bound);
        }
        is_over
    }

    /// Which were reached.
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
