//! Small bounds of nodes: a short run then reaches states that take a busy or attacked group hours.
//!
//! It owns the odds. A drawn set keeps those proportions of the usual bounds that a group needs to progress at all:
//! one value always fits in flight, and what a leader has in flight fits acceptors.

use upaxos_core::replica::Limits;

use crate::rng::Rng;

/// Draws a set of bounds. About half of them are small.
pub fn draw(chance: &mut Rng) -> Limits {
    let usual = Limits::USUAL;
    let mut small = |usual: u64, low: u64, high: u64| {
        let drawn = chance.between(low, high);
        if chance.hits(500_000) { drawn } else { usual }
    };
    let mut size = |usual: usize, low: u64, high: u64| small(usual as u64, low, high) as usize;
    let least = size(usual.flights.0, 1, 4);
    let first = if least < usual.flights.0 { least * 2 } else { usual.flights.1 };
    let most = if least < usual.flights.0 { least * 4 } else { usual.flights.2 };
    let waiting = size(usual.waiting, 8, 24);
    let flight_bytes = size(usual.flight_bytes, 200, 4_000);
    let open_bytes = if flight_bytes < usual.flight_bytes { 16 * flight_bytes } else { usual.open_bytes };
    let tags_of_one = size(usual.tags_of_one, 4, 16);
    Limits {
        ballots: size(usual.ballots, 2, 4),
        open_bytes,
        promise_bytes: size(usual.promise_bytes, 50, 2_000),
        flights: (least, first, most),
        flight_bytes,
        retransmit: size(usual.retransmit, 1, 4),
        sessions: size(usual.sessions, 2, 4),
        tags: size(usual.tags, 8, 40),
        tags_of_one,
        waiting,
        waiting_bytes: size(usual.waiting_bytes, 2_000, 8_000),
        least_at_leader: usual.least_at_leader.min(waiting / 4).max(1),
        refusals: size(usual.refusals, 1, 3),
        owed: size(usual.owed, 2, 12),
        reads: size(usual.reads, 1, 4),
        lookups: size(usual.lookups, 1, 3),
        lookup_bytes: size(usual.lookup_bytes, 200, 3_000),
        repair_bytes: size(usual.repair_bytes, 200, 3_000),
        repair_owed: size(usual.repair_owed, 1, 3),
        named: size(usual.named, 1, 6),
        named_bytes: size(usual.named_bytes, 600, 2_000),
        naming: size(usual.naming, 1, 2),
        // More than may join: a node that knows only an old group must hear of the new one.
        strangers: size(usual.strangers, 5, 7),
        candidates: size(usual.candidates, 1, 2),
        repair_instances: small(usual.repair_instances, 2, 16),
        window: small(usual.window, 8, 64),
    }
}
