//! Datagrams that are longer than a packet: they are cut into parts of one packet each, reassembled, and missing
//! parts are requested again.
//!
//! If IP fragments a datagram, the loss of any fragment loses the datagram. While the received fragments wait for
//! the others, they fill a memory of the kernel that all datagrams share: after a little loss, nothing larger than
//! a packet gets through for half a minute (ip-sysctl, `ipfrag_time`). So this module does the cutting itself,
//! because a lost part can then be requested alone. It owns the datagrams that were cut lately, in order to
//! retransmit parts of them, and those that are not complete yet. It never reads a clock: time is an argument. It
//! sits between the packing of lines and the socket, for nodes and clients, real and simulated ones alike. It
//! passes on whole datagrams, as if one packet had carried each. Every part has a checksum. The checksum of the whole
//! datagram travels as the last bytes of its text, and whoever reads the datagram verifies it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smallvec::{SmallVec, smallvec};

use crate::types::{MAX_NUMBER, Micros, NodeId};
use crate::wire::part::{MAX_ASKED, MAX_PARTS, Missing, PART_HEAD, Part, Piece};
use crate::wire::{self, Dialect, Head, MAX_DATAGRAM, SUM_LINE};

/// The time that missing parts have to arrive unrequested, after the last part that arrived.
const PATIENCE: Micros = Micros::from_millis(5);
/// The time that an answer has before missing parts are requested again, at first and at most.
const ASK_AGAIN: Micros = Micros::from_millis(20);
const ASK_AGAIN_MAX: Micros = Micros::from_millis(160);
/// The number of requests without any new part after which the datagram is given up.
const TRIES: u32 = 8;
/// How long a requested part that arrived shows that the rest is on its way, too.
pub const MENDING: Micros = Micros::from_millis(200);
/// A part is not retransmitted again within this time: several nodes may have requested it.
const SAID_LATELY: Micros = Micros::from_millis(4);
/// The memory for cut datagrams, and for incomplete ones, in bytes each. The oldest are dropped first.
const KEPT_BYTES: usize = 8 << 20;
/// The maximum memory that is reserved for an incomplete datagram when its first part arrives, in bytes. A forged
/// part may name any number of parts.
const RESERVED: usize = 16 << 10;
/// The maximum number of incomplete datagrams.
const OPEN: usize = 1_024;
/// The number of completed datagrams that are remembered. Further parts of them are ignored.
const DONE: usize = 4_096;
/// The maximum number of parts queued for retransmission: a request is short, and its answer must not crowd out
/// other traffic.
const AGAIN: usize = 256;
/// How long a round of requests takes, and the bounds of the number of parts requested in it. The number halves when
/// less than half of those requested arrived: the way to here carries no more. Otherwise it doubles.
const ROUND: Micros = Micros::from_millis(20);
const ASKED_LEAST: usize = 2;
const ASKED_MOST: usize = 256;

/// Large datagrams, in both directions.
#[derive(Debug)]
pub struct Parts {
    /// The number of the next datagram that is cut.
    next: u64,
    /// The maximum length of a datagram that is not cut, in bytes.
    limit: usize,
    /// The head of the last datagram sent from here, and its printed form.
    own: (Head, Vec<u8>),
    /// The datagrams that were cut lately, by number.
    sent: BTreeMap<u64, Sent>,
    sent_bytes: usize,
    open: BTreeMap<u64, Open>,
    /// The numbers of incomplete datagrams in order of their first part. Some of them may be closed already.
    begun: VecDeque<u64>,
    open_bytes: usize,
    /// The numbers of the datagrams that were completed lately.
    done: BTreeSet<u64>,
    done_order: VecDeque<u64>,
    /// The earliest time of the next request for missing parts.
    ask_at: Option<Micros>,
    round: Round,
    /// When a part of a datagram whose parts were requested arrived last.
    mended_at: Option<Micros>,
    /// The parts to retransmit.
    again: Vec<Vec<u8>>,
    lost: Lost,
}

/// The requests for missing parts in the present round: a receiver requests no more than the way to it carries.
#[derive(Debug)]
struct Round {
    began: Micros,
    /// How many parts may be requested in it.
    most: usize,
    asked: usize,
    /// How many new parts arrived in it.
    came: usize,
}

impl Round {
    /// Starts another round if this one is over. Returns how many parts may still be requested.
    fn room(&mut self, now: Micros) -> usize {
        if now.since(self.began) >= ROUND {
            // A round without requests says nothing.
            let most = match self.came * 2 >= self.asked {
                _ if self.asked == 0 => self.most,
                true => self.most * 2,
                false => self.most / 2,
            };
            *self = Round { began: now, most: most.clamp(ASKED_LEAST, ASKED_MOST), asked: 0, came: 0 };
        }
        self.most.saturating_sub(self.asked)
    }
}

/// Counts of lost datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The number of datagrams that were given up.
    pub given_up: u64,
    /// Among these, the number of datagrams of which only the last part ever arrived, although the others were
    /// requested again and again. The last part is shorter than the others, so some link may carry no packets of
    /// their length.
    pub too_long: u64,
}

#[derive(Debug)]
struct Sent {
    number: u64,
    /// The whole datagram: head, line and checksum.
    datagram: Vec<u8>,
    from: Option<NodeId>,
    /// The length of its head, and of each part of the rest, in bytes.
    head: usize,
    chunk: usize,
    /// The time when each part was sent last.
    said: Vec<Micros>,
}

impl Sent {
    fn part(&self, place: u16) -> Option<Vec<u8>> {
        let (head, rest) = self.datagram.split_at(self.head);
        let text = rest.chunks(self.chunk).nth(usize::from(place).checked_sub(1)?)?;
        let part = Part { number: self.number, place, count: self.said.len() as u16, text };
        Some(part.print(self.from, head))
    }
}

#[derive(Debug)]
struct Open {
    /// The head, then the text as far as it reaches; zeros stand for parts that are missing between.
    whole: Vec<u8>,
    head: usize,
    count: u16,
    /// The length of every part but the last; 0 until one of these arrives.
    chunk: usize,
    /// The last part, if it arrived while `chunk` was not known.
    tail: Vec<u8>,
    /// The positions that arrived, from 0, as bits.
    arrived: SmallVec<[u64; 2]>,
    missing: u16,
    ask_at: Micros,
    wait: Micros,
    tries: u32,
    /// Whether parts of it were requested.
    is_asked_for: bool,
}

impl Open {
    fn new(head: &[u8], part: &Part<'_>, now: Micros) -> Open {
        let count = part.count;
        let text = usize::from(count) * part.text.len();
        let mut whole = Vec::with_capacity(head.len() + text.min(RESERVED));
        whole.extend_from_slice(head);
        Open {
            whole,
            head: head.len(),
            count,
            chunk: 0,
            tail: Vec::new(),
            arrived: smallvec![0; usize::from(count).div_ceil(64)],
            missing: count,
            ask_at: now,
            wait: ASK_AGAIN,
            tries: 0,
            is_asked_for: false,
        }
    }

    fn has(&self, place: u16) -> bool {
        let at = usize::from(place - 1);
        self.arrived[at / 64] & (1 << (at % 64)) != 0
    }

    /// Takes a part if it belongs to this datagram and is new. Returns whether it did.
    fn take(&mut self, head: &[u8], part: &Part<'_>, now: Micros) -> bool {
        let is_of_this = self.count == part.count && self.whole[..self.head] == *head;
        let is_taken = is_of_this && !self.has(part.place) && self.put(part);
        if is_taken {
            let at = usize::from(part.place - 1);
            self.arrived[at / 64] |= 1 << (at % 64);
            self.missing -= 1;
            self.ask_at = now + PATIENCE;
            (self.wait, self.tries) = (ASK_AGAIN, 0);
        }
        is_taken
    }

    /// Puts the text of a part in its place. False if its length does not fit those of the others.
    fn put(&mut self, part: &Part<'_>) -> bool {
        let is_last = part.place == self.count;
        if is_last && self.chunk == 0 {
            self.tail = part.text.into();
            return true;
        }
        let chunk = if self.chunk == 0 { part.text.len() } else { self.chunk };
        let at = self.head + usize::from(part.place - 1) * chunk;
        let end = at + part.text.len();
        let is_fit = if is_last { part.text.len() <= chunk } else { part.text.len() == chunk };
        // The shortest datagram with this many parts of this length.
        let least = self.head + usize::from(self.count - 1) * chunk + 1;
        if !is_fit || self.tail.len() > chunk || end.max(least) > MAX_DATAGRAM {
            return false;
        }
        self.chunk = chunk;
        if at == self.whole.len() {
            self.whole.extend_from_slice(part.text);
        } else {
            self.whole.resize(self.whole.len().max(end), 0);
            self.whole[at..end].copy_from_slice(part.text);
        }
        true
    }

    /// The approximate memory that it takes, in bytes; never 0.
    fn size(&self) -> usize {
        size_of::<Open>() + self.whole.capacity() + self.tail.len() + 8 * self.arrived.len()
    }

    /// The first `most` missing parts, as ranges of positions; at most [`MAX_ASKED`] ranges.
    fn places(&self, most: usize) -> Vec<(u16, u16)> {
        let mut places: Vec<(u16, u16)> = Vec::new();
        for place in (1..=self.count).filter(|place| !self.has(*place)).take(most) {
            match places.last_mut() {
                Some((_, last)) if *last + 1 == place => *last = place,
                _ => places.push((place, place)),
            }
        }
        places.truncate(MAX_ASKED);
        places
    }

    fn whole(mut self) -> Vec<u8> {
        self.whole.extend_from_slice(&self.tail);
        self.whole
    }
}

/// The result of a received datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The datagram is no part: the caller reads it as it arrived.
    AsItIs,
    /// The datagram was the last missing part: the caller reads this whole datagram instead.
    Whole(Vec<u8>),
    /// The caller has nothing to read.
    Nothing,
}

impl Parts {
    /// The parts of one process. It numbers the datagrams that it cuts from `first` on, which must be random, so
    /// that no two processes use the same numbers. Every datagram longer than `limit` bytes is cut.
    pub fn new(first: u64, limit: usize) -> Parts {
        Parts {
            next: first & MAX_NUMBER,
            limit,
            own: Default::default(),
            sent: BTreeMap::new(),
            sent_bytes: 0,
            open: BTreeMap::new(),
            begun: VecDeque::new(),
            open_bytes: 0,
            done: BTreeSet::new(),
            done_order: VecDeque::new(),
            ask_at: None,
            round: Round { began: Micros(0), most: ASKED_MOST, asked: 0, came: 0 },
            mended_at: None,
            again: Vec::new(),
            lost: Lost::default(),
        }
    }

    /// Cuts every datagram longer than `bytes` from now on.
    pub fn limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// Returns the datagrams to send in the place of these; `None` if these can be sent unchanged.
    pub fn cut(&mut self, datagrams: &[Vec<u8>], now: Micros) -> Option<Vec<Vec<u8>>> {
        self.note_own(datagrams.last()?);
        if !datagrams.iter().any(|datagram| datagram.len() > self.limit) {
            return None;
        }
        let mut cut = Vec::new();
        for datagram in datagrams {
            match self.cut_one(datagram, now) {
                Some(parts) => cut.extend(parts),
                None => cut.push(datagram.clone()),
            }
        }
        Some(cut)
    }

    /// Cuts a datagram of one line that is too long for a packet. Other datagrams yield `None`.
    fn cut_one(&mut self, datagram: &[u8], now: Micros) -> Option<Vec<Vec<u8>>> {
        if datagram.len() <= self.limit {
            return None;
        }
        self.note_own(datagram);
        let (head, from) = (self.own.1.len(), self.own.0.from.map(|(id, _)| id));
        let line = wire::without_sum(datagram).unwrap_or(datagram).get(head..)?;
        if memchr::memchr(b'\n', line).is_some() {
            return None;
        }
        let chunk = self.limit.checked_sub(head + PART_HEAD + SUM_LINE).filter(|chunk| *chunk > 0)?;
        let count = (datagram.len() - head).div_ceil(chunk);
        if !(2..=usize::from(MAX_PARTS)).contains(&count) {
            return None;
        }
        let number = self.next;
        self.next = (number + 1) & MAX_NUMBER;
        let sent = Sent { number, datagram: datagram.to_vec(), from, head, chunk, said: vec![now; count] };
        let parts = (1..=count as u16).filter_map(|place| sent.part(place)).collect();
        self.sent_bytes += datagram.len();
        self.sent.insert(number, sent);
        while self.sent_bytes > KEPT_BYTES {
            self.sent_bytes -= self.sent.pop_first().map_or(0, |(_, sent)| sent.datagram.len());
        }
        Some(parts)
    }

    /// Takes a datagram as it arrived from the network.
    pub fn take(&mut self, datagram: &[u8], now: Micros) -> Taken {
        match Piece::parse(datagram) {
            None => return Taken::AsItIs,
            Some(Piece::Missing(missing)) => self.on_missing(&missing, now),
            Some(Piece::Part(head, said, part)) if self.is_for_us(&said) => {
                return self.on_part(head, &part, now).map_or(Taken::Nothing, Taken::Whole);
            }
            Some(Piece::Part(..)) => {}
        }
        Taken::Nothing
    }

    /// Returns the datagrams to send at `now`: requested parts, and requests for missing parts.
    pub fn tick(&mut self, now: Micros) -> Vec<Vec<u8>> {
        let mut due = std::mem::take(&mut self.again);
        if self.ask_at.is_none_or(|at| now < at) {
            return due;
        }
        // The oldest first: what is complete soonest helps most.
        let is_late = |number: &&u64| self.open.get(number).is_some_and(|open| now >= open.ask_at);
        for number in self.begun.iter().filter(is_late).copied().collect::<Vec<_>>() {
            let room = self.round.room(now);
            let Some(open) = self.open.get_mut(&number).filter(|open| now >= open.ask_at) else { continue };
            if room == 0 {
                open.ask_at = self.round.began + ROUND;
                continue;
            }
            if open.tries == TRIES {
                self.give_up(number);
                continue;
            }
            let places = open.places(room);
            self.round.asked +=
                places.iter().map(|(first, last)| usize::from(last - first + 1)).sum::<usize>();
            due.push(Missing { number, places }.print());
            open.tries += 1;
            open.is_asked_for = true;
            open.ask_at = now + open.wait;
            open.wait = (open.wait * 2).min(ASK_AGAIN_MAX);
        }
        self.ask_at = self.open.values().map(|open| open.ask_at).min();
        due
    }

    /// The time when [`tick`](Parts::tick) has something to do next, if nothing arrives before.
    pub fn deadline(&self) -> Option<Micros> {
        if self.again.is_empty() { self.ask_at } else { Some(Micros(0)) }
    }

    /// Whether requested parts are arriving, while others are still missing. To ask for the same values in another
    /// way would only crowd them out.
    pub fn is_mending(&self, now: Micros) -> bool {
        !self.open.is_empty() && self.mended_at.is_some_and(|at| now.since(at) < MENDING)
    }

    /// The counts of lost datagrams so far.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Notes the head of this process. Datagrams of other groups are not reassembled.
    fn note_own(&mut self, datagram: &[u8]) {
        let end = memchr::memchr(b'\n', datagram).map_or(0, |end| end + 1);
        if datagram[..end] != self.own.1 {
            let head = wire::open(datagram, Dialect::Extended).map_or(Head::default(), |(head, _)| head);
            let text = if head == Head::default() { &[] } else { &datagram[..end] };
            self.own = (head, text.into());
        }
    }

    fn is_for_us(&self, head: &Head) -> bool {
        let own = &self.own.0;
        let is_own = head.from == own.from;
        let is_of_group = head.group.is_none() || own.group.is_none() || head.group == own.group;
        !is_own && is_of_group && (own.name == head.name || *own == Head::default())
    }

    fn on_part(&mut self, head: &[u8], part: &Part<'_>, now: Micros) -> Option<Vec<u8>> {
        let number = part.number;
        if part.text.is_empty() || self.done.contains(&number) {
            return None;
        }
        let before = self.open.get(&number).map_or(0, Open::size);
        if before == 0 {
            self.begun.push_back(number);
        }
        let open = self.open.entry(number).or_insert_with(|| Open::new(head, part, now));
        if open.take(head, part, now) {
            self.round.came += 1;
            if open.is_asked_for {
                self.mended_at = Some(now);
            }
        }
        self.open_bytes = self.open_bytes + open.size() - before;
        // The last part may have moved its own deadline beyond this one. Nothing is due then, and `tick` finds the
        // new minimum.
        self.ask_at = Some(self.ask_at.map_or(open.ask_at, |at| at.min(open.ask_at)));
        if open.missing > 0 {
            self.make_room();
            return None;
        }
        let open = self.close(number)?;
        self.done.insert(number);
        self.done_order.push_back(number);
        if self.done_order.len() > DONE {
            self.done_order.pop_front().map(|oldest| self.done.remove(&oldest));
        }
        Some(open.whole())
    }

    fn on_missing(&mut self, missing: &Missing, now: Micros) {
        if let Some(open) = self.open.get_mut(&missing.number) {
            // Another node requests the same parts, and this node receives the answer, too.
            let is_covered = open
                .places(usize::MAX)
                .iter()
                .all(|(first, last)| missing.places.iter().any(|(from, to)| from <= first && last <= to));
            if is_covered {
                open.ask_at = open.ask_at.max(now + ASK_AGAIN);
            }
        }
        let Some(sent) = self.sent.get_mut(&missing.number) else { return };
        for place in missing.places.iter().flat_map(|(first, last)| *first..=*last) {
            let Some(said) = sent.said.get_mut(usize::from(place) - 1) else { break };
            if now.since(*said) >= SAID_LATELY && self.again.len() < AGAIN {
                *said = now;
                self.again.extend(sent.part(place));
            }
        }
    }

    /// Drops the oldest incomplete datagrams while there are too many, or they are too long.
    fn make_room(&mut self) {
        while (self.open_bytes > KEPT_BYTES || self.open.len() > OPEN)
            && let Some(oldest) = self.begun.pop_front()
        {
            self.give_up(oldest);
        }
        while self.begun.front().is_some_and(|number| !self.open.contains_key(number)) {
            self.begun.pop_front();
        }
    }

    fn give_up(&mut self, number: u64) {
        let Some(open) = self.close(number) else { return };
        self.lost.given_up += 1;
        let has_last_only = open.missing + 1 == open.count && open.has(open.count);
        self.lost.too_long += u64::from(has_last_only && open.tries == TRIES);
    }

    fn close(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.open_bytes -= open.size();
        if self.open.is_empty() {
            self.ask_at = None;
        }
        Some(open)
    }
}

#[cfg(test)]
mod tests;
