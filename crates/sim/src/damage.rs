//! Damages the bytes of a datagram: some change, the end is missing, or random bytes follow.
//!
//! This module owns the kinds of damage, for the simulated network and for the switch of the test bed. It never
//! decides whether the damaged datagram arrives.

use upaxos_core::wire;

use super::rng::Rng;

/// Of a million damaged datagrams with a checksum, the number whose checksum is right all the same: the sender
/// damaged them, or the checksums of two texts collide.
const UNSEEN: u64 = 250_000;

/// What protects the receiver from a damaged datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The checksum of the datagram as it was sent: no receiver may read the damaged one.
    Sum,
    /// The text alone: there was no checksum, or it is right for the damaged bytes.
    Text,
}

/// The datagram with its bytes damaged at random. If it is not `whole` but a fragment, it keeps its length.
pub fn damaged(sent: &[u8], whole: bool, chance: &mut Rng) -> (Vec<u8>, Protection) {
    let without_sum = wire::without_sum(sent).filter(|bytes| whole && !bytes.is_empty());
    let Some(bytes) = without_sum else { return (hurt(sent, whole, chance), Protection::Text) };
    if chance.hits(UNSEEN) {
        let mut bytes = hurt(bytes, whole, chance);
        wire::append_sum(&mut bytes);
        (bytes, Protection::Text)
    } else {
        (hurt(sent, whole, chance), Protection::Sum)
    }
}

fn hurt(sent: &[u8], whole: bool, chance: &mut Rng) -> Vec<u8> {
    let mut bytes = sent.to_vec();
    let length = bytes.len() as u64;
    match chance.below(if whole { 3 } else { 1 }) {
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
    bytes
}

#[cfg(test)]
mod tests {
    use upaxos_core::wire::Dialect;

    use super::*;
    use crate::rng::Stream;

    #[test]
    fn no_damage_that_the_checksum_has_to_find_is_read() {
        let mut sent = b"1 From 9 00000000000000ff\n1 Chosen 3 3 65537\n1 Written 4 one\n& two".to_vec();
        wire::complete(&mut sent);
        let mut chance = Rng::new(1, Stream::Network);
        let mut counts = [0, 0];
        for _ in 0..20_000 {
            let (bytes, protection) = damaged(&sent, true, &mut chance);
            let read = wire::open(&bytes, Dialect::Extended);
            let lines = read.map_or(0, |(_, lines)| lines.flatten().count());
            counts[usize::from(protection == Protection::Text)] += 1;
            assert!(protection == Protection::Text || lines == 0 || bytes == sent, "{bytes:?}");
        }
        assert!(counts[0] > 2 * counts[1] && counts[1] > 3_000, "{counts:?}");
    }
}
