//! What is longer than a packet: cut into parts of one packet each, put together again, asked for where parts are lost.
//!
//! A datagram that IP has to cut is lost with any of its fragments, and while those that arrived wait for the others
//! they fill a memory of the kernel that all datagrams share: after a little loss nothing larger than a packet gets
//! through for half a minute (ip-sysctl, `ipfrag_time`). So the cutting is done here, where a lost part can be asked
//! for by itself. Owns the datagrams that were cut lately, to say parts of them again, and those that are not whole
//! yet. It never reads a clock: time is an argument. It sits between the packing of lines and the socket, of nodes and
//! clients, real and simulated ones alike: what it hands on are whole datagrams, as if a packet had carried them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::types::{MAX_NUMBER, Micros, NodeId};
use crate::wire::part::{MAX_ASKED, MAX_PARTS, Missing, PART_HEAD, Part, Piece};
use crate::wire::{self, Dialect, Head, MAX_DATAGRAM};

/// How long missing parts may take to come by themselves, after the last one that came.
const PATIENCE: Micros = Micros::from_millis(5);
/// How long an answer may take before they are asked for again, at first and at most.
const ASK_AGAIN: Micros = Micros::from_millis(20);
const ASK_AGAIN_MAX: Micros = Micros::from_millis(160);
/// How often they are asked for without any of them coming before the datagram is given up.
const TRIES: u32 = 8;
/// A part is not said again within this: several may have asked for it.
const SAID_LATELY: Micros = Micros::from_millis(4);
/// How many bytes of datagrams are kept that were cut, or are not whole; what is oldest goes first.
const KEPT_BYTES: usize = 8 << 20;
/// How many datagrams may be under way to here that are not whole.
const OPEN: usize = 1_024;
/// How many that became whole are remembered: what comes of them later is not looked at.
const DONE: usize = 4_096;
/// How many parts are said again at once, at most: a question is short, and its answer must not crowd out all else.
const AGAIN: usize = 256;
/// How many datagrams are asked about at once.
const ASKS_AT_ONCE: usize = 64;

/// Large datagrams, in both directions.
#[derive(Debug)]
pub struct Parts {
    /// The number of the next datagram that is cut.
    next: u64,
    /// The most bytes of a datagram that is not cut.
    limit: usize,
    /// The head that was said last from here, and how it is printed.
    own: (Head, Vec<u8>),
    /// Those that were cut lately, by number.
    sent: BTreeMap<u64, Sent>,
    sent_bytes: usize,
    open: BTreeMap<u64, Open>,
    /// Their numbers, in the order in which they began; of some that were closed, too.
    begun: VecDeque<u64>,
    open_bytes: usize,
    /// Those that became whole lately.
    done: BTreeSet<u64>,
    done_order: VecDeque<u64>,
    /// Nobody has to be asked before.
    ask_at: Option<Micros>,
    /// Parts that are to be said again.
    again: Vec<Vec<u8>>,
    lost: Lost,
}

/// What did not come, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Datagrams that were given up.
    pub given_up: u64,
    /// Those of them of which nothing but the last part ever came, however often the others were asked for: it is
    /// shorter than they, and some link may carry no packets of their length.
    pub too_long: u64,
}

#[derive(Debug)]
struct Sent {
    number: u64,
    /// As it was: head and line.
    datagram: Vec<u8>,
    from: Option<NodeId>,
    /// How long its head is, and each part of the rest.
    head: usize,
    chunk: usize,
    /// When each part was said last.
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
    head: Vec<u8>,
    /// The texts that came, by place from 0.
    texts: Vec<Option<Vec<u8>>>,
    missing: usize,
    bytes: usize,
    ask_at: Micros,
    wait: Micros,
    tries: u32,
}

impl Open {
    fn new(head: &[u8], count: u16, now: Micros) -> Open {
        let texts = vec![None; usize::from(count)];
        let (missing, bytes) = (texts.len(), head.len());
        Open { head: head.into(), texts, missing, bytes, ask_at: now, wait: ASK_AGAIN, tries: 0 }
    }

    /// Takes a part that belongs here and is new.
    fn take(&mut self, head: &[u8], part: &Part<'_>, now: Micros) {
        let is_of_this = self.head == head && self.texts.len() == usize::from(part.count);
        if !is_of_this || self.bytes + part.text.len() > MAX_DATAGRAM {
            return;
        }
        let text = &mut self.texts[usize::from(part.place) - 1];
        if text.is_some() {
            return;
        }
        *text = Some(part.text.into());
        self.bytes += part.text.len();
        self.missing -= 1;
        self.ask_at = now + PATIENCE;
        (self.wait, self.tries) = (ASK_AGAIN, 0);
    }

    /// About what it takes in memory, in bytes; never 0.
    fn size(&self) -> usize {
        self.bytes + self.texts.len() * size_of::<Option<Vec<u8>>>()
    }

    /// Which parts are missing, as ranges of places.
    fn places(&self) -> Vec<(u16, u16)> {
        let mut places: Vec<(u16, u16)> = Vec::new();
        for (place, _) in (1..).zip(&self.texts).filter(|(_, text)| text.is_none()) {
            match places.last_mut() {
                Some((_, last)) if *last + 1 == place => *last = place,
                _ => places.push((place, place)),
            }
        }
        places.truncate(MAX_ASKED);
        places
    }

    fn whole(self) -> Vec<u8> {
        let mut whole = self.head;
        whole.reserve(self.bytes - whole.len());
        self.texts.into_iter().flatten().for_each(|text| whole.extend(text));
        whole
    }
}

/// What comes of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is to be read as it came.
    AsItIs,
    /// It was the last part that was missing: this is to be read.
    Whole(Vec<u8>),
    /// There is nothing to read.
    Nothing,
}

impl Parts {
    /// Of one process, which numbers what it cuts from `first` on: a random number, so that no two use the same.
    /// Whatever is longer than `limit` bytes is cut.
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
            again: Vec::new(),
            lost: Lost::default(),
        }
    }

    /// From now on what is longer than that is cut.
    pub fn limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// What to send in the place of these datagrams; `None` where they can go as they are.
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

    /// A datagram of one line that is too long for a packet, as parts. Others stay as they are.
    fn cut_one(&mut self, datagram: &[u8], now: Micros) -> Option<Vec<Vec<u8>>> {
        if datagram.len() <= self.limit {
            return None;
        }
        self.note_own(datagram);
        let (head, from) = (self.own.1.len(), self.own.0.from.map(|(id, _)| id));
        let line = datagram.get(head..).filter(|line| memchr::memchr(b'\n', line).is_none())?;
        let chunk = self.limit.checked_sub(head + PART_HEAD).filter(|chunk| *chunk > 0)?;
        let count = line.len().div_ceil(chunk);
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

    /// Takes a datagram as it came from the network.
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

    /// What is to be sent at `now`: parts again that were asked for, and questions for those that are missing.
    pub fn tick(&mut self, now: Micros) -> Vec<Vec<u8>> {
        let mut due = std::mem::take(&mut self.again);
        if self.ask_at.is_none_or(|at| now < at) {
            return due;
        }
        let late = self.open.iter().filter(|(_, open)| now >= open.ask_at).map(|(number, _)| *number);
        for number in late.take(ASKS_AT_ONCE).collect::<Vec<_>>() {
            let open = self.open.get_mut(&number).expect("it was found there");
            if open.tries == TRIES {
                self.give_up(number);
                continue;
            }
            due.push(Missing { number, places: open.places() }.print());
            open.tries += 1;
            open.ask_at = now + open.wait;
            open.wait = (open.wait * 2).min(ASK_AGAIN_MAX);
        }
        self.ask_at = self.open.values().map(|open| open.ask_at).min();
        due
    }

    /// When [`tick`](Parts::tick) has something to do next, if nothing comes in before.
    pub fn deadline(&self) -> Option<Micros> {
        if self.again.is_empty() { self.ask_at } else { Some(Micros(0)) }
    }

    /// What did not come.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Whose lines are said from here: what comes of other groups is not put together.
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
        let open = self.open.entry(number).or_insert_with(|| Open::new(head, part.count, now));
        open.take(head, part, now);
        self.open_bytes = self.open_bytes + open.size() - before;
        // What came last may be asked for later than this says: then nothing is due yet, and it is looked up anew.
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
            // Another one asks for the same: what is said to it is heard here, too.
            let is_covered = open
                .places()
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

    /// What began first has to go where there are too many, or too long ones.
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
        let has_last_only =
            open.missing + 1 == open.texts.len() && open.texts.last().is_some_and(Option::is_some);
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
