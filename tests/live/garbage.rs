//! Datagrams that no correct sender would send, from a seed.

use upaxos_core::wire::{self, Dialect, Line, Request};

/// Valid lines of every kind. Garbage is made from them.
const LINES: [&str; 28] = [
    "Request 0 one",
    "Request 0",
    "Request 2",
    "Submit 7 1 1 one",
    "Read 7 2 2",
    "2 Propose 1 65538",
    "2 ProposeAll 1 65538",
    "1 Promise 1 65538 2 one",
    "1 PromiseNone 2 * 65538 0",
    "2 Write 1 65538 one",
    "0 Accept 1 65538 one",
    "0 Accepts 1 9 65538",
    "0 NACK 1 65538",
    "2 Written 1 one",
    "2 Chosen 1 9 65538",
    "1 Gap 4 9",
    "3 Join 0",
    "0 OK 2 two",
    "2 Done 5 6 7 1",
    "0 NotYet 9 4",
    "1 Relay one",
    "1 Beat 3 77 2 9 65538 4 follows 0,2",
    "1 Pace 100 65537",
    "1 Register 3 77 2 9",
    "0 Barred 1 9 77 5",
    "0 AskChain 4",
    "1 Chain 4 0123456789abcdef0123456789abcdef",
    "1 Differs 3 0",
];

const NUMBERS: [&str; 9] = [
    "-1",
    "0",
    "65535",
    "65536",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
];

/// The next pseudo-random number. The same seed gives the same numbers.
pub fn splitmix64(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A stream of garbage. The same seed gives the same stream (splitmix64).
pub struct Garbage(pub u64);

impl Garbage {
    fn chance(&mut self) -> u64 {
        splitmix64(&mut self.0)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.chance() % bound as u64) as usize
    }

    /// Returns the next datagram. It is never a perfect forgery.
    pub fn datagram(&mut self) -> Vec<u8> {
        loop {
            let candidate = match self.below(6) {
                0 => self.noise(),
                1 => self.truncated(),
                2 => self.mutated(),
                3 => self.with_a_number(),
                4 => self.of_a_stranger(),
                _ => self.several(),
            };
            if !is_perfect_forgery(&candidate) {
                return candidate;
            }
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = self.below(200);
        (0..length).map(|_| self.chance() as u8).collect()
    }

    fn line(&mut self) -> Vec<u8> {
        LINES[self.below(LINES.len())].as_bytes().to_vec()
    }

    fn truncated(&mut self) -> Vec<u8> {
        let mut line = self.line();
        line.truncate(self.below(line.len()));
        line
    }

    fn mutated(&mut self) -> Vec<u8> {
        let mut line = self.line();
        for _ in 0..1 + self.below(3) {
            let at = self.below(line.len());
            line[at] = self.chance() as u8;
        }
        line
    }

    fn with_a_number(&mut self) -> Vec<u8> {
        let line = String::from_utf8_lossy(&self.line()).into_owned();
        let mut fields: Vec<&str> = line.split(' ').collect();
        let at = self.below(fields.len());
        fields[at] = NUMBERS[self.below(NUMBERS.len())];
        fields.join(" ").into_bytes()
    }

    fn of_a_stranger(&mut self) -> Vec<u8> {
        let line = String::from_utf8_lossy(&self.line()).into_owned();
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest).to_owned();
        format!("{} {rest}", 3 + self.below(70_000)).into_bytes()
    }

    fn several(&mut self) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = (0..1 + self.below(20)).map(|_| self.truncated()).collect();
        parts.join(&b'\n')
    }
}

/// In plain mode no node can tell a member's line from a perfect forgery of one. So such a line is no garbage, and
/// this test does not send it. A member's line with an absurd number in it is garbage all the same.
fn is_perfect_forgery(datagram: &[u8]) -> bool {
    let lines = wire::lines(datagram, Dialect::Extended).flatten();
    let is_plausible = |line: Line| match line {
        // A client may send this. It only makes the log longer.
        Line::Client(request) => !matches!(request, Request::Quit | Request::History(_)),
        Line::Node(from, _) => from.0 < 3 && !has_absurd_number(&line.to_string()),
    };
    lines.into_iter().any(is_plausible)
}

fn has_absurd_number(line: &str) -> bool {
    let numbers = line.split(' ').filter_map(|field| field.parse::<u64>().ok());
    numbers.into_iter().any(|number| number > 1 << 31)
}
