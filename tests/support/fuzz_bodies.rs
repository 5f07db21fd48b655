//! The bodies of the fuzz targets. The targets call them, and so does `cargo test`.
//!
//! `datagram` covers the grammar of the wire. `log` covers the framing and the records on disk. `session` feeds a
//! node and has a file of its own. Each body panics when its claim does not hold.

use upaxos_core::record::block::{Chain, End, HEADER_BYTES, Scanner, seal};
use upaxos_core::record::{self, Record};
use upaxos_core::wire::{self, Dialect, Line, Packer};

/// The longest error text for a line, in bytes, whatever the input is.
const MAX_ERROR: usize = 400;

/// Parse, print, parse. A line that can be read prints, and then reads the same again: alone, and packed with
/// others.
pub fn datagram(data: &[u8]) {
    for dialect in [Dialect::Extended, Dialect::Classic] {
        let mut read = Vec::new();
        for line in wire::lines(data, dialect) {
            match line {
                Ok(line) => read.push(line),
                Err(error) => assert!(error.to_string().len() < MAX_ERROR, "{error}"),
            }
        }
        for line in &read {
            let printed = line.to_bytes(dialect);
            assert!(!printed.contains(&b'\n'), "{line:?} prints as more than a line");
            assert_eq!(wire::parse_line(&printed, dialect).as_ref(), Ok(line));
        }
        packed(&read, dialect, 40 + data.len() / 2);
    }
}

fn packed(lines: &[Line], dialect: Dialect, limit: usize) {
    let mut packer = Packer::new(dialect, limit);
    lines.iter().for_each(|line| packer.push(line));
    let datagrams = packer.finish();
    let read: Result<Vec<_>, _> = datagrams.iter().flat_map(|bytes| wire::lines(bytes, dialect)).collect();
    assert_eq!(read.as_deref(), Ok(lines));
    for datagram in datagrams.iter().filter(|datagram| datagram.len() > limit) {
        assert_eq!(wire::lines(datagram, dialect).count(), 1, "only a line alone may be over the limit");
    }
}

/// The first bytes say how many blocks the log has and how they are damaged. The rest is the content of the blocks.
pub fn log(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<6>() else { return };
    let place = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let extent = usize::from(u16::from_be_bytes([head[4], head[5]]));
    for line in rest.split(|byte| *byte == b'\n') {
        if let Ok(record) = Record::parse(line) {
            let mut text = Vec::new();
            record.encode(&mut text);
            assert_eq!(Record::parse(&text), Ok(record));
        }
    }
    let log = Log::new(usize::from(head[1] % 6) + 1, rest, extent);
    match head[0] % 8 {
        0 => arbitrary(rest, place),
        1 => log.must_be_clean(),
        2 => log.cut_in_last_block(place),
        3 => log.flip(place, extent),
        4 => log.lose_sectors_of_last_block(place),
        5 => log.zero_a_sector(place),
        6 => log.lose_a_block(place),
        _ => log.repeat_a_block(place, extent),
    }
}

/// Scans arbitrary bytes. The blocks that the scan finds are in order and within the bytes.
fn arbitrary(bytes: &[u8], seed: usize) {
    let mut scanner = Scanner::new(bytes, 0, Chain::new(seed as u64), record::value_at);
    let mut at = 0;
    for block in scanner.by_ref() {
        assert_eq!(block.at, at);
        assert!(block.body.ends_with(b"\n"));
        at = block.end();
    }
    let end = scanner.end();
    assert_eq!(end.at(), at);
    match end {
        End::Clean { at } => assert!(bytes[at..].iter().all(|byte| *byte == 0)),
        End::Torn { at, bytes: torn } => {
            assert!(torn > 0 && bytes[at + torn..].iter().all(|byte| *byte == 0));
        }
        End::Damaged { at, next_valid_at } => {
            assert!(next_valid_at.is_none_or(|next| next >= at && next + HEADER_BYTES < bytes.len()));
        }
    }
}

const SEED: u64 = 0x00c0_ffee;
const SECTOR: usize = 512;

/// A valid log: its bytes, the body of each block, and the offsets at which the blocks begin and the last one ends.
struct Log {
    bytes: Vec<u8>,
    bodies: Vec<Vec<u8>>,
    starts: Vec<usize>,
}

impl Log {
    /// Builds a log of `count` blocks with `text` as their content, followed by zeros.
    fn new(count: usize, text: &[u8], zeros: usize) -> Log {
        let share = text.len().div_ceil(count).max(1);
        let mut chunks = text.chunks(share);
        let bodies: Vec<_> = (0..count).map(|_| body(chunks.next().unwrap_or_default())).collect();
        let (mut chain, mut bytes, mut starts) = (Chain::new(SEED), Vec::new(), vec![0]);
        for body in &bodies {
            seal(&mut chain, body, record::value_at, &mut bytes);
            starts.push(bytes.len());
        }
        bytes.resize(bytes.len() + zeros % 2048, 0);
        Log { bytes, bodies, starts }
    }

    fn last(&self) -> usize {
        self.bodies.len() - 1
    }

    /// Scans the log. The scan must return the first `blocks` blocks unchanged.
    fn must_hold(&self, blocks: usize) -> End {
        let mut scanner = Scanner::new(&self.bytes, 0, Chain::new(SEED), record::value_at);
        let found: Vec<_> = scanner.by_ref().map(|block| block.body).collect();
        assert_eq!(found, self.bodies[..blocks]);
        let end = scanner.end();
        assert_eq!(end.at(), self.starts[blocks]);
        end
    }

    fn must_be_clean(&self) {
        assert_eq!(self.must_hold(self.bodies.len()), End::Clean { at: self.starts[self.bodies.len()] });
    }

    fn must_be_torn(&self) {
        let end = self.must_hold(self.last());
        assert!(matches!(end, End::Torn { .. }) || self.is_forged(end), "a torn tail is {end:?}");
    }

    /// Whether the scan took text inside a block's values for a block. Such text passes if its checksum is right
    /// and it follows a zero byte or begins at the start of a sector. This errs on the safe side.
    fn is_forged(&self, end: End) -> bool {
        let End::Damaged { next_valid_at: Some(at), .. } = end else { return false };
        let block = self.starts.partition_point(|start| *start <= at) - 1;
        let follows = at > 0 && self.bytes[at - 1] == 0 || at % SECTOR == 0;
        follows && at >= self.starts[block] + HEADER_BYTES
    }

    fn must_be_damaged(&self, block: usize) -> End {
        let end = self.must_hold(block);
        assert!(matches!(end, End::Damaged { .. }), "damage before a valid block is {end:?}");
        end
    }

    /// The scan reports damage, and the next valid block is the one at `expected`.
    fn must_be_damaged_up_to(&self, block: usize, expected: usize) {
        let end = self.must_be_damaged(block);
        let is_next = matches!(end, End::Damaged { next_valid_at, .. } if next_valid_at == Some(expected));
        assert!(is_next || self.is_forged(end), "the block at {expected} is not found: {end:?}");
    }

    /// Cuts the last block short, as a write that ended early does.
    fn cut_in_last_block(mut self, place: usize) {
        let (start, end) = (self.starts[self.last()], self.starts[self.last() + 1]);
        let cut = place % (end - start);
        self.bytes[start + cut..].fill(0);
        match cut {
            0 => assert_eq!(self.must_hold(self.last()), End::Clean { at: start }),
            _ => self.must_be_torn(),
        }
    }

    /// Changes one byte. The scan reports damage, in the last block too. The exception: the changed byte of the
    /// last block is zero now.
    fn flip(mut self, place: usize, mask: usize) {
        let at = place % self.starts[self.bodies.len()];
        self.bytes[at] ^= (mask % 255) as u8 + 1;
        let block = self.starts.partition_point(|start| *start <= at) - 1;
        if block == self.last() {
            let end = self.must_hold(block);
            assert!(matches!(end, End::Damaged { .. }) || self.bytes[at] == 0, "a changed byte is {end:?}");
        } else {
            self.must_be_damaged_up_to(block, self.starts[block + 1]);
        }
    }

    /// Zeroes some sectors of the last block, as if they had not reached the disk.
    fn lose_sectors_of_last_block(mut self, landed: usize) {
        let whole = self.bytes.clone();
        for at in self.starts[self.last()]..self.starts[self.last() + 1] {
            if landed >> ((at / SECTOR) % 16) & 1 == 0 {
                self.bytes[at] = 0;
            }
        }
        if self.bytes == whole {
            return self.must_be_clean();
        }
        let end = self.must_hold(self.last());
        assert!(!matches!(end, End::Damaged { .. }) || self.is_forged(end), "a torn tail is {end:?}");
    }

    /// Zeroes one synced sector before the last block. The last block stays intact.
    fn zero_a_sector(mut self, place: usize) {
        let last = self.starts[self.last()];
        if last == 0 {
            return;
        }
        let from = place % last / SECTOR * SECTOR;
        self.bytes[from..(from + SECTOR).min(last)].fill(0);
        self.must_be_damaged(self.starts.partition_point(|start| *start <= from) - 1);
    }

    /// Removes a block from the middle. Later blocks move up.
    fn lose_a_block(mut self, place: usize) {
        if self.last() == 0 {
            return;
        }
        let block = place % self.last();
        self.bytes.drain(self.starts[block]..self.starts[block + 1]);
        self.must_be_damaged_up_to(block, self.starts[block]);
    }

    /// Copies a block to the place of a later one.
    fn repeat_a_block(mut self, place: usize, other: usize) {
        if self.last() == 0 {
            return;
        }
        let from = place % self.last();
        let to = from + 1 + other % (self.last() - from);
        let block = self.bytes[self.starts[from]..self.starts[from + 1]].to_vec();
        let end = (self.starts[to] + block.len()).max(self.bytes.len());
        self.bytes.resize(end, 0);
        self.bytes[self.starts[to]..][..block.len()].copy_from_slice(&block);
        self.must_be_damaged_up_to(to, self.starts[to]);
    }
}

/// Whole lines, as records are: at least one, and none that begins with `#`.
fn body(text: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        if line.first().is_none_or(|first| *first == b'#') {
            body.push(b'a');
        }
        body.extend_from_slice(line);
        body.push(b'\n');
    }
    body
}
