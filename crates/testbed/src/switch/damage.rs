//! Damages datagrams in flight.
//!
//! As in the simulator: bytes change, the end is missing, or random bytes follow. A datagram that then reads as
//! another line is dropped, as a link's checksum would drop it. A sender that can forge lines can break a group
//! without a key, and no lab changes that.

use upaxos_core::wire::{self, Dialect, Line};
use upaxos_sim::rng::Rng;

use super::frame::Packet;

/// The packet with its payload damaged at random. `None` if the result contains a line that was not sent.
pub fn damaged(packet: &Packet, mut chance: Rng) -> Option<Packet> {
    let sent = packet.payload();
    let mut bytes = sent.to_vec();
    let length = bytes.len() as u64;
    // The fragments of a datagram keep their lengths.
    match chance.below(if packet.is_whole() { 3 } else { 1 }) {
        1 => bytes.truncate(chance.below(length) as usize),
        2 => bytes.extend((0..20).map(|_| chance.below(256) as u8)),
        _ => {
            for _ in 0..=chance.below(8) {
                if let Some(byte) = bytes.get_mut(chance.below(length) as usize) {
                    *byte = chance.below(256) as u8;
                }
            }
        }
    }
    let is_forged = [Dialect::Extended, Dialect::Classic].into_iter().any(|dialect| {
        let before: Vec<Line> = wire::lines(sent, dialect).flatten().collect();
        wire::lines(&bytes, dialect).flatten().any(|line| !before.contains(&line))
    });
    (!is_forged).then(|| packet.with_payload(&bytes))
}
