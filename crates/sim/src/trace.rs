//! The results of a run: a hash of all events, and counts.

use std::ops::AddAssign;

use upaxos_core::replica::Reached;
use upaxos_core::types::Micros;

/// A hash over every event of a run. It is the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace(u64);

impl Trace {
    /// Adds an event: when, where, what. (It mixes in the checksum of the bytes, as SplitMix64 does.)
    pub fn note(&mut self, at: Micros, place: u16, what: &[u8]) {
        let event = u64::from(crc32c::crc32c(what)) << 16 | u64::from(place);
        let mut mixed = self.0.rotate_left(23) ^ event ^ at.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = mixed ^ (mixed >> 31);
    }

    /// The hash of all events so far.
    pub fn hash(self) -> u64 {
        self.0
    }
}

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Seen {
    pub events: u64,
    pub leaders: u64,
    pub crashes: u64,
    pub crashes_in_sync: u64,
    pub failed_syncs: u64,
    pub torn: u64,
    pub partitions: u64,
    pub pauses: u64,
    pub pauses_amid: u64,
    pub gaps: u64,
    /// How many parts of datagrams were requested or retransmitted.
    pub parts: u64,
    pub wipes: u64,
    pub refusals: u64,
    pub fast_reads: u64,
    pub joins: u64,
    pub leaves: u64,
    pub changes: u64,
    pub dead: u64,
    pub lookups: u64,
    pub compactions: u64,
    pub damaged: u64,
    pub fetched: u64,
    pub failed_applies: u64,
    pub diverged: u64,
    pub mended: u64,
    pub forced: u64,
    /// How often the wires of two groups were joined.
    pub joined_wires: u64,
    pub rolled_back: u64,
    /// Rolled back nodes that may not vote at the end.
    pub barred: u64,
    /// Nodes that ended because a quorum has another log.
    pub stopped: u64,
    /// Runs in which the log was split, and nodes reported it.
    pub splits: u64,
    /// Runs in which a promise that a rolled back disk lost was broken, and no two logs differ.
    pub untold: u64,
    /// How many of these messages clients received; `forgotten` counts requests that ended as forgotten.
    pub busy: u64,
    pub refused: u64,
    pub told_unknown: u64,
    pub told_forgotten: u64,
    pub forgotten: u64,
    /// The most instances that a node was behind when it came back.
    pub behind: u64,
    /// The bounds of nodes that were reached.
    pub reached: Reached,
}

impl Seen {
    /// Whether more than one ballot led before the power cut of all, which always changes the leader.
    pub fn has_leader_change(&self) -> bool {
        self.leaders > 1
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, more: Seen) {
        self.events += more.events;
        self.leaders += more.leaders;
        self.crashes += more.crashes;
        self.crashes_in_sync += more.crashes_in_sync;
        self.failed_syncs += more.failed_syncs;
        self.torn += more.torn;
        self.partitions += more.partitions;
        self.pauses += more.pauses;
        self.pauses_amid += more.pauses_amid;
        self.gaps += more.gaps;
        self.parts += more.parts;
        self.wipes += more.wipes;
        self.refusals += more.refusals;
        self.fast_reads += more.fast_reads;
        self.joins += more.joins;
        self.leaves += more.leaves;
        self.changes += more.changes;
        self.dead += more.dead;
        self.lookups += more.lookups;
        self.damaged += more.damaged;
        self.fetched += more.fetched;
        self.compactions += more.compactions;
        self.failed_applies += more.failed_applies;
        self.diverged += more.diverged;
        self.mended += more.mended;
        self.forced += more.forced;
        self.joined_wires += more.joined_wires;
        self.rolled_back += more.rolled_back;
        self.barred += more.barred;
        self.stopped += more.stopped;
        self.splits += more.splits;
        self.untold += more.untold;
        self.busy += more.busy;
        self.refused += more.refused;
        self.told_unknown += more.told_unknown;
        self.told_forgotten += more.told_forgotten;
        self.forgotten += more.forgotten;
        self.behind = self.behind.max(more.behind);
        self.reached |= more.reached;
    }
}
