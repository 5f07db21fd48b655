//! Frames as they cross the switch, and the IPv4 datagrams in them.
//!
//! Owns the reading and writing of headers. The switch reassembles a fragmented datagram before it decides the
//! datagram's fate. So a loss of one in ten loses one datagram in ten, whatever its size. The datagram leaves as
//! the frames in which it arrived.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::rc::Rc;

/// The length of an Ethernet header, in bytes.
const ETHERNET: usize = 14;
/// The maximum number of incomplete datagrams. The one that has waited longest for its next fragment is dropped.
const OPEN: usize = 64;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;

/// The source address of a frame; zeros if the frame is too short.
pub fn source(frame: &[u8]) -> [u8; 6] {
    address(frame, 6)
}

/// The destination address of a frame; zeros if the frame is too short.
pub fn destination(frame: &[u8]) -> [u8; 6] {
    address(frame, 0)
}

fn address(frame: &[u8], at: usize) -> [u8; 6] {
    frame.get(at..at + 6).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}

/// A frame or a datagram that has arrived.
#[derive(Debug)]
pub enum Frame {
    /// A frame that does not carry IPv4; it passes untouched.
    Other(Vec<u8>),
    /// An IPv4 datagram, with its last fragment.
    Packet(Packet),
}

/// An IPv4 datagram: its frames in order, and the bytes that it carries.
#[derive(Clone, Debug)]
pub struct Packet {
    frames: Rc<Vec<Vec<u8>>>,
    carried: Vec<u8>,
    is_udp: bool,
}

impl Packet {
    /// The first frame, with all headers.
    pub fn first(&self) -> &[u8] {
        &self.frames[0]
    }

    /// All frames, in the order in which they arrived.
    pub fn frames(&self) -> Rc<Vec<Vec<u8>>> {
        Rc::clone(&self.frames)
    }

    /// All frames, without a copy when the packet is not shared.
    pub fn into_frames(self) -> Vec<Vec<u8>> {
        Rc::unwrap_or_clone(self.frames)
    }

    /// The payload that the programs at both ends see.
    pub fn payload(&self) -> &[u8] {
        let head = if self.is_udp { UDP_HEADER } else { 0 };
        self.carried.get(head..).unwrap_or_default()
    }

    /// Whether it arrived in one frame.
    pub fn is_whole(&self) -> bool {
        self.frames.len() == 1
    }

    /// The same datagram with another payload and corrected headers. A datagram that arrived in fragments keeps its
    /// length.
    pub fn with_payload(&self, payload: &[u8]) -> Packet {
        let mut carried = self.carried.clone();
        carried.truncate(self.carried.len() - self.payload().len());
        carried.extend_from_slice(payload);
        if self.is_udp && self.is_whole() {
            let length = u16::try_from(carried.len()).unwrap_or(u16::MAX);
            carried[4..6].copy_from_slice(&length.to_be_bytes());
        }
        let mut rest = &carried[..];
        let mut frames = Vec::new();
        for frame in &*self.frames {
            let header = Header::read(frame).expect("only IPv4 becomes a packet");
            let length = if self.is_whole() { rest.len() } else { header.carried.len().min(rest.len()) };
            let (part, behind) = rest.split_at(length);
            rest = behind;
            let mut frame = frame[..header.carried.start].to_vec();
            frame.extend_from_slice(part);
            fit(&mut frame);
            frames.push(frame);
        }
        Packet { frames: Rc::new(frames), carried, is_udp: self.is_udp }
    }
}

/// Sets the length in the IPv4 header to that of the frame, and recomputes the checksum.
fn fit(frame: &mut [u8]) {
    let length = u16::try_from(frame.len() - ETHERNET).unwrap_or(u16::MAX);
    let end = ETHERNET + 4 * usize::from(frame[ETHERNET] & 0x0f);
    frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length.to_be_bytes());
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let words = frame[ETHERNET..end].chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).expect("folded twice, it fits");
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// The fields of an IPv4 header (RFC 791, 3.1) that matter here.
struct Header {
    id: u16,
    /// Where in the datagram the fragment starts, in bytes.
    offset: usize,
    has_more: bool,
    protocol: u8,
    from: Ipv4Addr,
    /// Where in the frame the carried bytes are. Any bytes after them are padding.
    carried: Range<usize>,
}

impl Header {
    fn read(frame: &[u8]) -> Option<Header> {
        let packet = frame.get(ETHERNET..).filter(|_| frame[12..14] == [8, 0])?;
        let (header, _) = packet.split_at_checked(20).filter(|(header, _)| header[0] >> 4 == 4)?;
        let pair = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let start = ETHERNET + 4 * usize::from(header[0] & 0x0f);
        let end = (ETHERNET + usize::from(pair(2))).min(frame.len());
        Some(Header {
            id: pair(4),
            offset: usize::from(pair(6) & 0x1fff) * 8,
            has_more: pair(6) & 0x2000 != 0,
            protocol: header[9],
            from: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
            carried: (start <= end).then_some(start..end)?,
        })
    }
}

/// The common data of the fragments of a datagram: the port, and from the header (RFC 791, 3.2) the source, the
/// protocol and the id.
type Key = (usize, Ipv4Addr, u8, u16);

/// Incomplete datagrams, the one that waits longest first.
#[derive(Debug, Default)]
pub struct Assembly {
    open: VecDeque<(Key, Packet)>,
}

impl Assembly {
    /// Takes in a frame from `port`. Returns the datagram that it completes. A host sends fragments in order, so a
    /// fragment that does not follow the earlier ones belongs to a lost datagram.
    pub fn take(&mut self, port: usize, mut frame: Vec<u8>) -> Option<Frame> {
        let Some(header) = Header::read(&frame) else { return Some(Frame::Other(frame)) };
        let is_udp = header.protocol == UDP;
        if is_udp && header.offset == 0 && header.carried.len() >= UDP_HEADER {
            // The kernel may leave the checksum to a device, so it is not computed yet. 0 means no checksum (RFC
            // 768).
            frame[header.carried.start + 6..header.carried.start + 8].fill(0);
        }
        let key = (port, header.from, header.protocol, header.id);
        let known = self.open.iter().position(|(known, _)| *known == key);
        let mut packet = match known.and_then(|at| self.open.remove(at)) {
            Some((_, packet)) if header.offset > 0 => packet,
            _ => Packet { frames: Rc::default(), carried: Vec::new(), is_udp },
        };
        if header.offset != packet.carried.len() {
            return None;
        }
        packet.carried.extend_from_slice(&frame[header.carried]);
        Rc::make_mut(&mut packet.frames).push(frame);
        if !header.has_more {
            return Some(Frame::Packet(packet));
        }
        if self.open.len() >= OPEN {
            self.open.pop_front();
        }
        self.open.push_back((key, packet));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of protocol 253 from 10.253.0.10 with a good header.
    fn frame(id: u8, offset: usize, has_more: bool, carried: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 8, 0]);
        let offset = u16::try_from(offset / 8).unwrap() | if has_more { 0x2000 } else { 0 };
        frame.extend([0x45, 0, 0, 0, 0, id]);
        frame.extend(offset.to_be_bytes());
        frame.extend([64, 253, 0, 0, 10, 253, 0, 10, 10, 253, 0, 255]);
        frame.extend_from_slice(carried);
        fit(&mut frame);
        frame
    }

    fn packet(frame: Option<Frame>) -> Packet {
        match frame {
            Some(Frame::Packet(packet)) => packet,
            other => panic!("no packet: {other:?}"),
        }
    }

    fn checks(frame: &[u8]) -> bool {
        let words = frame[ETHERNET..ETHERNET + 20].chunks_exact(2);
        let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    #[test]
    fn fragments_of_two_datagrams_are_put_together_apart() {
        let mut assembly = Assembly::default();
        assert!(assembly.take(0, frame(1, 0, true, b"one-one-")).is_none());
        assert!(assembly.take(0, frame(2, 0, true, b"two-two-")).is_none());
        let one = packet(assembly.take(0, frame(1, 8, false, b"end")));
        let two = packet(assembly.take(0, frame(2, 8, false, b"END")));
        assert_eq!((one.payload(), one.frames().len()), (&b"one-one-end"[..], 2));
        assert_eq!(two.payload(), b"two-two-END");
    }

    #[test]
    fn a_datagram_that_lacks_a_fragment_never_comes_and_takes_no_other_along() {
        let mut assembly = Assembly::default();
        assert!(assembly.take(0, frame(1, 0, true, b"one-one-")).is_none());
        assert!(assembly.take(0, frame(1, 16, false, b"end")).is_none());
        assert_eq!(packet(assembly.take(0, frame(1, 0, false, b"another"))).payload(), b"another");
        for id in 0..=255 {
            assembly.take(0, frame(id, 0, true, b"one-one-"));
        }
        assert_eq!(assembly.open.len(), OPEN);
    }

    #[test]
    fn what_is_missing_for_good_gives_way_to_what_comes_now() {
        let mut assembly = Assembly::default();
        for id in 100..200 {
            assembly.take(1, frame(id, 0, true, b"one-one-"));
        }
        assert!(assembly.take(0, frame(1, 0, true, b"one-one-")).is_none());
        assert!(assembly.take(0, frame(2, 0, true, b"two-two-")).is_none());
        assert_eq!(packet(assembly.take(0, frame(1, 8, false, b"end"))).payload(), b"one-one-end");
    }

    #[test]
    fn another_payload_has_a_good_header() {
        let mut assembly = Assembly::default();
        let whole = packet(assembly.take(0, frame(1, 0, false, b"0 OK 1 one")));
        let changed = whole.with_payload(b"0 OK");
        assert_eq!(changed.payload(), b"0 OK");
        assert!(checks(changed.first()) && changed.first().len() == ETHERNET + 20 + 4);
        assembly.take(0, frame(1, 0, true, b"one-one-"));
        let parts = packet(assembly.take(0, frame(1, 8, false, b"end"))).with_payload(b"ONE-ONE-END");
        assert!(parts.frames().iter().all(|frame| checks(frame)));
        let again: Vec<_> = parts.into_frames().into_iter().map(|frame| assembly.take(1, frame)).collect();
        assert_eq!(packet(again.into_iter().flatten().next()).payload(), b"ONE-ONE-END");
    }

    #[test]
    fn what_is_no_ipv4_stays_what_it_is() {
        let mut assembly = Assembly::default();
        let arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6], &[0; 28]].concat();
        assert!(matches!(assembly.take(0, arp.clone()), Some(Frame::Other(same)) if same == arp));
        assert!(matches!(assembly.take(0, vec![1, 2, 3]), Some(Frame::Other(_))));
    }
}
