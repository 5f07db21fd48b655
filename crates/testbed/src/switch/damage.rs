//! Damages datagrams in flight.
//!
//! As in the simulator: any bytes change, the end is missing, or random bytes follow, and the checksum has to drop the
//! datagram. Where no checksum can do that, a datagram that then reads as another line is dropped, as a link's checksum
//! would drop it. A sender that can forge lines can break a group without a key, and no lab changes that.

use upaxos_core::wire::{self, Dialect, Line};
use upaxos_sim::damage::{self, Protection};
use upaxos_sim::rng::Rng;

use super::frame::Packet;

/// The packet with its payload damaged at random. `None` if no checksum protects the payload and the result contains a
/// line that was not sent.
pub fn damaged(packet: &Packet, mut chance: Rng) -> Option<Packet> {
    let sent = packet.payload();
    let (bytes, protection) = damage::damaged(sent, packet.is_whole(), &mut chance);
    let is_forged = || {
        [Dialect::Extended, Dialect::Classic].into_iter().any(|dialect| {
            let before: Vec<Line> = wire::lines(sent, dialect).flatten().collect();
            wire::lines(&bytes, dialect).flatten().any(|line| !before.contains(&line))
        })
    };
    (protection == Protection::Sum || !is_forged()).then(|| packet.with_payload(&bytes))
}
