//! The framing of the log: blocks of record lines, each with a checksum chained to the one before.
//!
//! A log is a sequence of blocks. One sync makes one block durable: a header line and a body of record lines.
//!
//! ```text
//! # b35bc59c b475ebc0 58e2d661 00000016 0000000000000001
//! promise 1 65538
//! ```
//!
//! The fields have fixed widths, so every header is [`HEADER_BYTES`] long:
//!
//! | field | form | content |
//! | --- | --- | --- |
//! | skeleton | 8 lower-case hex digits | CRC-32C of the rest of the header, and of the body without the bytes of values |
//! | checksum | 8 lower-case hex digits | CRC-32C of everything behind it: the rest of the header, and the body |
//! | previous | 8 lower-case hex digits | the checksum of the block before, or of the seed |
//! | length | 8 decimal digits | bytes of the body, 1 to [`MAX_BODY_BYTES`] |
//! | sequence | 16 decimal digits | one more than the block before, from 1 |
//!
//! # Torn writes and damage
//!
//! *One block, one write, one sync, before the next block is begun.* This rule distinguishes a torn write from
//! damage: a power cut can damage only the last block, in whatever order its sectors landed. If a valid block
//! follows bytes that are no valid block, those bytes were once whole and synced. To cut them would take back
//! messages that this node has sent. A valid block in the wrong place (its checksum holds, its previous or sequence
//! does not) is a write that was lost, repeated or misdirected. That is damage, too. The device must provide what
//! SQLite calls powersafe overwrite: a torn write leaves the bytes outside its own range alone.
//!
//! For the last block, its own bytes decide. Blocks are written over zeros, and hold no zero byte (records escape
//! those). A device writes a sector of 512 bytes whole or not at all. A process that is killed during its write
//! leaves a beginning of it. So a torn block lacks a part: all of its bytes in some sector are zero, or its last
//! one is. A block that lacks no such part was written whole. If it does not verify, it is damaged: its sync may
//! have returned, and other nodes may rely on its records. A flipped bit cannot make one case look like the other.
//! The first byte of a block is `#` and its last a newline, and no single bit turns these into zero; a sector that
//! holds only one byte of a block holds one of these two. A flipped bit in the *length* moves the end that is
//! examined. There the checksum decides, with each bit of the length flipped back in turn. A torn write never
//! leaves bytes behind the last block, nor a block that cites another block than the one before.
//!
//! Two cases cannot be distinguished by their bytes: the last block lost whole, and a whole sector of it that
//! became zeros after the sync. Both count as torn writes and are cut. The alternative, to keep a possibly torn
//! block as lost values, would be safe. But when the power of a whole group fails, the same request is torn on
//! every node, and a value that all nodes have lost can never be chosen again. And if more than values is damaged,
//! there is nothing to keep. The same holds for a block that an older version wrote, with zero bytes in its values,
//! if it is the last.
//!
//! # Blocks that are corrupt inside values
//!
//! A block whose checksum fails while its skeleton holds is corrupt inside values, and nowhere else. Everything
//! else in its records is as it was written: the lengths of the values, too, and the checksum that the next block
//! cites. The block can be read without its values ([`Scanner::skip_hurt`]) when a whole block follows or when it
//! was written whole. The owner of the lines says where in a line a value begins ([`ValueAt`]). A value that lost
//! its newline, or got one, breaks the skeleton.
//!
//! Record lines never contain a raw newline and never begin with `#`, so no body can hold text that passes for a
//! header. This module is pure. The disk of `upaxos-node` and the simulated disk both write through it, and neither
//! knows the form of a header.

use std::io::Write;

/// The length of every header, its newline included.
pub const HEADER_BYTES: usize = 55;

/// The longest body that the header's length field can express.
pub const MAX_BODY_BYTES: usize = 99_999_999;

/// The offset in a block of the first byte that the skeleton's sum covers.
const SKELETON_FROM: usize = 11;

/// The offset in a block of the first byte that the checksum covers.
const COVERED_FROM: usize = 20;

/// The offset of the length field in a header.
const LENGTH_FROM: usize = 29;

/// Returns the offset of the value in a line, which is passed without its newline. A value ends with its line. The
/// result is the length of the line if it has no value.
pub type ValueAt = fn(&[u8]) -> usize;

/// A [`ValueAt`] for logs whose values are not treated differently from the rest.
pub const NO_VALUES: ValueAt = |line| line.len();

/// The unit that a device writes whole or not at all. A header may begin at the start of a sector, whatever stands
/// before it: one damaged sector ends where the next begins.
const SECTOR_BYTES: usize = 512;

/// The end of a log as the next block must cite it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    previous: u32,
    sequence: u64,
}

impl Chain {
    /// The chain of a log without blocks. `seed` is the log's own random number: a block of a log with another seed
    /// does not fit, not even as the first.
    pub fn new(seed: u64) -> Chain {
        Chain { previous: crc32c::crc32c(&seed.to_be_bytes()), sequence: 0 }
    }

    /// The chain that the block at the start of `bytes` cites, without any check of that chain. It serves for the
    /// first block of a log whose beginning is gone. `None` when there is no valid block.
    pub fn cited_by(bytes: &[u8], value_at: ValueAt) -> Option<Chain> {
        let (header, _) = Header::check(bytes, 0, value_at)?;
        Some(Chain { previous: header.previous, sequence: header.sequence.checked_sub(1)? })
    }

    /// The number of blocks in the log so far.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn is_followed_by(&self, header: &Header) -> bool {
        header.previous == self.previous && header.sequence == self.sequence + 1
    }
}

/// Appends to `out` the block that carries `body`, and advances the chain.
///
/// # Panics
///
/// When `body` is empty, longer than [`MAX_BODY_BYTES`], or not made of whole lines.
pub fn seal(chain: &mut Chain, body: &[u8], value_at: ValueAt, out: &mut Vec<u8>) {
    assert!(body.ends_with(b"\n"), "a body is made of whole lines");
    assert!(body.len() <= MAX_BODY_BYTES, "a body fits its length field");
    let start = out.len();
    let (previous, sequence) = (chain.previous, chain.sequence + 1);
    writeln!(out, "# 00000000 00000000 {previous:08x} {:08} {sequence:016}", body.len())
        .expect("a Vec takes every write");
    out.extend_from_slice(body);
    let checksum = crc32c::crc32c(&out[start + COVERED_FROM..]);
    write!(&mut out[start + 11..start + 19], "{checksum:08x}").expect("eight digits fit eight");
    let skeleton = skeleton(&out[start..], value_at);
    write!(&mut out[start + 2..start + 10], "{skeleton:08x}").expect("eight digits fit eight");
    *chain = Chain { previous: checksum, sequence };
}

/// The sum of a block without the bytes of its values: their lengths stand for them.
fn skeleton(block: &[u8], value_at: ValueAt) -> u32 {
    let (header, body) = block.split_at(HEADER_BYTES);
    // One sum over a few bytes of each line together is far cheaper than one sum per line.
    let mut bones = Vec::with_capacity(body.len().min(64 * 1024));
    bones.extend_from_slice(&header[SKELETON_FROM..]);
    let mut rest = body;
    while !rest.is_empty() {
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, behind) = (&rest[..length], rest.get(length + 1..).unwrap_or_default());
        let at = value_at(line).min(line.len());
        bones.extend_from_slice(&line[..at]);
        bones.extend_from_slice(&(line.len() as u32).to_be_bytes());
        rest = behind;
    }
    crc32c::crc32c(&bones)
}

/// One valid block found by a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The offset of its header, in bytes from the start of the scanned bytes.
    pub at: usize,
    /// Its record lines, each with its newline.
    pub body: &'a [u8],
}

impl Block<'_> {
    /// The offset of the body.
    pub fn body_at(&self) -> usize {
        self.at + HEADER_BYTES
    }

    /// The offset of the next block.
    pub fn end(&self) -> usize {
        self.body_at() + self.body.len()
    }
}

/// The state of a segment behind its valid blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Only zeros follow from `at` on. The next block belongs there.
    Clean {
        /// The end of the valid blocks, in bytes.
        at: usize,
    },
    /// A part of a block follows, and no block after it: a crash cut a write short.
    Torn {
        /// The end of the valid blocks, in bytes.
        at: usize,
        /// The number of bytes to zero, from `at` on.
        bytes: usize,
    },
    /// The bytes at `at` were synced, or may have been, and are corrupt or lost.
    Damaged {
        /// The end of the valid blocks, in bytes.
        at: usize,
        /// The offset of the first valid block after `at`; equal to `at` if that block is whole but belongs
        /// elsewhere. `None` if there is none: the corrupt block is the last one, and was written whole.
        next_valid_at: Option<usize>,
    },
}

impl End {
    /// The end of the valid blocks, in bytes.
    pub fn at(&self) -> usize {
        match *self {
            End::Clean { at } | End::Torn { at, .. } | End::Damaged { at, .. } => at,
        }
    }
}

/// Reads the blocks of one segment that follow a chain. It stops at the first block that does not.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    chain: Chain,
    value_at: ValueAt,
}

impl<'a> Scanner<'a> {
    /// Scans `bytes` from `at`, where the block after `chain` is expected.
    pub fn new(bytes: &'a [u8], at: usize, chain: Chain, value_at: ValueAt) -> Scanner<'a> {
        Scanner { bytes, at, chain, value_at }
    }

    /// Returns the next block and moves past it, if it is corrupt inside values only. `None` when the next block is
    /// of another kind, or when it may be torn: it lacks a part, and no whole block follows.
    pub fn skip_hurt(&mut self) -> Option<Block<'a>> {
        let (block, chain) = self.corrupt(self.at, self.chain)?;
        let is_followed = self.next_valid_at().is_some_and(|at| at >= block.end());
        if !is_followed && self.lacks_a_part(block.at, block.end()) {
            return None;
        }
        (self.at, self.chain) = (block.end(), chain);
        Some(block)
    }

    /// The block at `at`, if it follows `chain` and its skeleton holds; and the chain after it.
    fn corrupt(&self, at: usize, chain: Chain) -> Option<(Block<'a>, Chain)> {
        let (header, block) = Header::find(self.bytes, at)?;
        let body = &block[HEADER_BYTES..];
        let holds = chain.is_followed_by(&header) && body.ends_with(b"\n");
        let is_corrupt = holds && skeleton(block, self.value_at) == header.skeleton;
        let chain = Chain { previous: header.checksum, sequence: header.sequence };
        is_corrupt.then_some((Block { at, body }, chain))
    }

    /// The offset where the next block would begin, and the chain up to there.
    pub fn reached(&self) -> (usize, Chain) {
        (self.at, self.chain)
    }

    /// The state behind the last valid block; scans to there first if necessary. Takes time linear in the length of
    /// the segment: only bytes in the form of a header are ever summed.
    pub fn end(mut self) -> End {
        self.by_ref().for_each(drop);
        let (at, rest) = (self.at, &self.bytes[self.at..]);
        let Some(last) = rest.iter().rposition(|byte| *byte != 0) else {
            return End::Clean { at };
        };
        let next_valid_at = self.next_valid_at();
        match next_valid_at.is_some() || self.is_written_whole(at + last + 1) {
            true => End::Damaged { at, next_valid_at },
            false => End::Torn { at, bytes: last + 1 },
        }
    }

    /// Whether the bytes at `self.at`, which are no valid block, are more than a torn write leaves. Only zeros
    /// follow behind `end`.
    fn is_written_whole(&self, end: usize) -> bool {
        let (bytes, at) = (self.bytes, self.at);
        let body_at = at + HEADER_BYTES;
        if body_at <= bytes.len() && self.lacks_a_part(at, body_at) {
            return false;
        }
        // The whole header was written.
        let Some((header, block)) = Header::find(bytes, at) else { return true };
        let said_end = at + block.len();
        if !self.chain.is_followed_by(&header) || end > said_end || !self.lacks_a_part(at, said_end) {
            return true;
        }
        self.is_hurt_in_length(&header, end)
    }

    /// Whether the checksum holds once a bit of the length is flipped back. If so, the block was written whole.
    fn is_hurt_in_length(&self, header: &Header, end: usize) -> bool {
        let body_at = self.at + HEADER_BYTES;
        let mut covered = self.bytes[self.at + COVERED_FROM..end.max(body_at)].to_vec();
        let (digits, body_from) = (LENGTH_FROM - COVERED_FROM, HEADER_BYTES - COVERED_FROM);
        (0..8 * 8).any(|bit| {
            let (at, mask) = (digits + bit / 8, 1 << (bit % 8));
            covered[at] ^= mask;
            let length = number(&covered[digits..digits + 8], 10).unwrap_or(u64::MAX) as usize;
            let block = covered.get(..body_from.saturating_add(length));
            let holds = block.is_some_and(|block| crc32c::crc32c(block) == header.checksum);
            covered[at] ^= mask;
            holds
        })
    }

    /// Whether a part of the block in `from..to` was never written: all of its bytes in some sector, or its first or
    /// last byte.
    fn lacks_a_part(&self, from: usize, to: usize) -> bool {
        let is_zero = |at: usize| self.bytes[at] == 0;
        let sectors = (from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES)).map(|sector| sector * SECTOR_BYTES);
        let mut parts = sectors.map(|at| at.max(from)..(at + SECTOR_BYTES).min(to));
        is_zero(from) || is_zero(to - 1) || parts.any(|mut part| part.all(is_zero))
    }

    fn next_valid_at(&self) -> Option<usize> {
        // The header at `self.at` may be whole while only the end of its body is corrupt, newline included.
        let pointed =
            Header::parse(&self.bytes[self.at..]).map(|header| self.at + HEADER_BYTES + header.length);
        (self.at..self.bytes.len())
            .filter(|at| self.bytes[*at] == b'#')
            .filter(|at| Some(*at) == pointed || self.may_begin_at(*at))
            .find(|at| Header::check(self.bytes, *at, self.value_at).is_some())
    }

    /// Whether a header can begin here: behind a line, a hole, or a damaged sector. It cannot begin anywhere else,
    /// and never behind a backslash, because a client may put the text of a header into a value, and there records
    /// escape the `#`.
    fn may_begin_at(&self, at: usize) -> bool {
        let before = if at == self.at { b'\n' } else { self.bytes[at - 1] };
        matches!(before, b'\n' | 0) || (at.is_multiple_of(SECTOR_BYTES) && before != b'\\')
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        let (header, body) = Header::check(self.bytes, self.at, self.value_at)?;
        if !self.chain.is_followed_by(&header) {
            return None;
        }
        let block = Block { at: self.at, body };
        self.at = block.end();
        self.chain = Chain { previous: header.checksum, sequence: header.sequence };
        Some(block)
    }
}

struct Header {
    skeleton: u32,
    checksum: u32,
    previous: u32,
    length: usize,
    sequence: u64,
}

impl Header {
    /// The header at the start of `bytes`, if it has the form of one.
    fn parse(bytes: &[u8]) -> Option<Header> {
        let line = bytes.first_chunk::<HEADER_BYTES>()?;
        let separators = [line[0], line[1], line[10], line[19], line[28], line[37], line[54]];
        if separators != *b"#     \n" {
            return None;
        }
        Some(Header {
            skeleton: number(&line[2..10], 16)? as u32,
            checksum: number(&line[11..19], 16)? as u32,
            previous: number(&line[20..28], 16)? as u32,
            length: number(&line[29..37], 10)? as usize,
            sequence: number(&line[38..54], 10)?,
        })
    }

    /// The header at `at` and its block, header included, if the length is possible.
    fn find(bytes: &[u8], at: usize) -> Option<(Header, &[u8])> {
        let rest = bytes.get(at..)?;
        let header = Header::parse(rest)?;
        let block = rest.get(..HEADER_BYTES + header.length)?;
        Some((header, block))
    }

    /// The header at `at` and its body, if both sums hold.
    fn check(bytes: &[u8], at: usize, value_at: ValueAt) -> Option<(Header, &[u8])> {
        let (header, block) = Header::find(bytes, at)?;
        let is_valid = block.ends_with(b"\n")
            && crc32c::crc32c(&block[COVERED_FROM..]) == header.checksum
            && skeleton(block, value_at) == header.skeleton;
        is_valid.then_some((header, &block[HEADER_BYTES..]))
    }
}

/// Reads a number strictly: one spelling per number, because a flipped bit must not pass as another spelling.
fn number(digits: &[u8], radix: u64) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' if radix == 16 => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum * radix + u64::from(value))
    })
}

#[cfg(test)]
mod tests;
