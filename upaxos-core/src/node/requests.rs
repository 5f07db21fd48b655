//! What clients want and have not got: requests nobody has chosen yet, answers nobody has given yet.
//!
//! Owns two queues, both bounded and indexed: every step is cheap however long they are. Every node keeps the requests it hears, since any of them may lead
//! next; a request that no leader takes up is passed on, by rank, and never raises a ballot. Every node
//! owes the answers it could give, and keeps silent when it overhears one. It decides nothing about
//! the log.

use std::collections::BTreeSet;

use super::Timing;
use super::limits::{Bound, Bounds, Limits, Reached};
use super::outbox::Outbox;
pub use super::owed::About;
use super::owed::Owed;
use crate::entry::Entry;
use crate::hooks;
use crate::mutant::{self, Mutant};
use crate::slots::{ByTag, Slots};
use crate::types::{Change, Instance, MAX_VALUE, Micros, Tag, Tagged, Value};
use crate::wire::{Line, Message, Request};

/// How many requests may wait, and how many bytes of values. At a leader fewer: what it takes up, the others
/// should still have when it names it, whatever else they have heard since.
pub(super) const MAX_WAITING: usize = 16_384;
pub(super) const MAX_WAITING_BYTES: usize = 32 << 20;

/// How far the room of a leader shrinks when the others do not have any more what it takes up, how often it
/// shrinks at most, and by how much it grows in every tick until that happens again.
pub(super) const LEAST_AT_LEADER: usize = 1_024;
const PAUSE: Micros = Micros::from_millis(100);
const GROWTH_AT_LEADER: usize = 2;

/// How many clients are told in one turn that there is no room: in a flood, answers would be a second one.
pub(super) const REFUSALS: usize = 64;

/// How long a request waits for a leader before it is forgotten: longer than any election, shorter
/// than anybody's patience. A write that happened minutes after it was typed would surprise.
const PATIENCE: Micros = Micros::from_millis(10_000);

/// Of how many bytes at most what waits is passed on: more would keep the leader from what it has.
const RELAYED_BYTES: usize = 1 << 20;

/// How long each rank waits for the one before it to answer.
pub const ANSWER_STEP: Micros = Micros::from_millis(20);

/// A request that ends in a value of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// `Request 0 V`.
    Write(Value),
    /// `Request 0`.
    Read,
    /// `Submit C Q F V`.
    Tagged(Tagged, Value),
    /// `Read C Q F`.
    TaggedRead(Tagged),
    /// `Query C Q F TEXT`.
    Query(Tagged, Value),
    /// What a leader had written, as it stood there, and what was not chosen: to be written elsewhere. Scripts
    /// have seen it.
    Again(Entry),
    /// `leave T`, `replace T U`, tagged or not.
    Change(Option<Tagged>, Change),
}

impl Wanted {
    /// The tag, if it has one.
    pub fn tagged(&self) -> Option<Tagged> {
        match self {
            Wanted::Tagged(tagged, _) | Wanted::TaggedRead(tagged) | Wanted::Query(tagged, _) => {
                Some(*tagged)
            }
            Wanted::Again(entry) => entry.tagged(),
            Wanted::Change(tagged, _) => *tagged,
            _ => None,
        }
    }

    /// Whether it is a safe read, which has to wait for everything before it.
    pub fn is_read(&self) -> bool {
        matches!(self, Wanted::Read | Wanted::TaggedRead(_) | Wanted::Query(..))
    }

    /// How many bytes its value has.
    pub fn len(&self) -> usize {
        match self {
            Wanted::Write(value) | Wanted::Tagged(_, value) | Wanted::Query(_, value) => {
                value.as_bytes().len()
            }
            Wanted::Again(entry) => entry.written().map_or(0, |value| value.as_bytes().len()),
            _ => 0,
        }
    }

    /// What a client wants written, before any script has seen it.
    pub fn unseen(&self) -> Option<&Value> {
        match self {
            Wanted::Write(value) | Wanted::Tagged(_, value) => Some(value),
            _ => None,
        }
    }

    /// What it asks the scripts, if it does.
    pub fn question(&self) -> Option<&Value> {
        if let Wanted::Query(_, question) = self { Some(question) } else { None }
    }

    /// Why it cannot be carried out at all, if so.
    pub fn refusal(&self) -> Option<&'static str> {
        match self.tagged() {
            _ if self.len() > MAX_VALUE => Some("the value is over the limit of 60000 bytes"),
            Some(tagged) if tagged.floor > tagged.tag.seq => Some("its floor is above its own number"),
            _ => None,
        }
    }

    /// The entry that carries it out at `instance`; `safe_read` is what a safe read reads there.
    ///
    /// # Panics
    /// Of a change of the group, which only a leader can put into words.
    pub fn entry(&self, instance: Instance, safe_read: impl FnOnce() -> Value) -> Entry {
        match self {
            Wanted::Write(value) => Entry::Write(value.clone()),
            Wanted::Tagged(tagged, value) => Entry::Tagged(*tagged, value.clone()),
            Wanted::Read => Entry::Read { instance, tagged: None, value: safe_read() },
            Wanted::TaggedRead(tagged) | Wanted::Query(tagged, _) => {
                Entry::Read { instance, tagged: Some(*tagged), value: safe_read() }
            }
            Wanted::Again(entry) => entry.clone(),
            Wanted::Change(..) => panic!("a change of the group is put into words by its leader"),
        }
    }

    /// The request that an entry carries out, if somebody may still want it elsewhere: a value, but no safe
    /// read, which is void elsewhere, and no change of the group, which would be stale.
    pub fn of_lost(entry: Entry) -> Option<Wanted> {
        match entry {
            Entry::Write(_) | Entry::Changed(..) | Entry::Tagged(..) => Some(Wanted::Again(entry)),
            Entry::Noop | Entry::Read { .. } | Entry::Group(..) | Entry::Refused(..) => None,
        }
    }
}

/// A place in the queue; lower is earlier.
type Place = u64;

/// The place of the first request that ever waits: there is room for as many before it as after.
const MIDDLE: Place = 1 << 62;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    wanted: Wanted,
    since: Micros,
    relay_at: Micros,
    /// Its answer was overheard before it was learned here.
    is_answered: bool,
    /// How many requests had been heard before.
    heard: u64,
    /// Where it was seen to be written since: of requests without tags, that alone tells which one an instance
    /// carries out.
    at: Option<Instance>,
}

/// What a request without a tag is found by: its words, or their fingerprint where a script has changed them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Write(Value),
    Words(u64),
    Read,
    Change(Change),
}

impl Key {
    /// Of a request without a tag.
    pub fn of(wanted: &Wanted) -> Key {
        match wanted {
            Wanted::Write(value) | Wanted::Again(Entry::Write(value)) => Key::Write(value.clone()),
            Wanted::Again(Entry::Changed(words, _)) => Key::Words(*words),
            Wanted::Change(_, change) => Key::Change(*change),
            _ => Key::Read,
        }
    }

    /// Of the request that an entry carries out.
    fn of_entry(entry: &Entry) -> Option<Key> {
        match entry {
            Entry::Write(value) => Some(Key::Write(value.clone())),
            Entry::Changed(words, _) => Some(Key::Words(*words)),
            Entry::Read { .. } => Some(Key::Read),
            _ => None,
        }
    }
}

/// The queues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requests {
    timing: Timing,
    bounds: Bounds,
    waiting: Slots<Waiting>,
    /// Where the tagged ones wait.
    tagged: ByTag<Place>,
    /// Where the others do.
    untagged: BTreeSet<(Key, Place)>,
    bytes: usize,
    /// How many may wait while this node leads, and when that was halved.
    room: usize,
    halved_at: Option<Micros>,
    /// How many requests were heard so far, each once at least: those that found no room, too.
    heard: u64,
    /// How many clients may be told until the next tick that there is no room.
    refusals: usize,
    /// Whether this node leads, as of the last tick.
    leads: bool,
    /// This node's place among those who pass requests on, as of the last tick.
    rank: usize,
    /// How many requests were forgotten since somebody asked, and one of them.
    expired: Option<(u64, Wanted)>,
    /// No request is to be passed on before.
    relay_at: Option<Micros>,
    owed: Owed,
}

impl Requests {
    /// Nothing wanted, nothing owed.
    pub fn new(timing: Timing, limits: Limits) -> Requests {
        Requests {
            timing,
            bounds: limits.into(),
            waiting: Slots::default(),
            tagged: ByTag::default(),
            untagged: BTreeSet::new(),
            bytes: 0,
            room: limits.waiting_at_leader(),
            halved_at: None,
            heard: 0,
            refusals: limits.refusals,
            leads: false,
            rank: 0,
            expired: None,
            relay_at: None,
            owed: Owed::new(limits),
        }
    }

    /// Which of its bounds were reached.
    pub fn reached(&self) -> Reached {
        self.bounds.reached() | self.owed.reached()
    }

    /// This node's place in the queue of those who answer, as of the last tick.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Adds a request at the end, unless the same tagged one waits already (a retry). A leader that has no room
    /// hands it back. Who does not lead forgets what has waited longest instead: that, its leader has not taken up,
    /// and what it takes up now, it may name.
    pub fn add(&mut self, wanted: Wanted, now: Micros) -> Result<(), Wanted> {
        if wanted.tagged().is_some() && self.is_waiting(&wanted) {
            return Ok(());
        }
        self.heard += 1;
        while self.is_over(self.waiting.len() + 1, self.bytes + wanted.len()) {
            let Some(first) = self.waiting.first().map(|(first, _)| first).filter(|_| !self.leads) else {
                return Err(wanted);
            };
            self.remove(first);
        }
        let place = self.waiting.last().map_or(MIDDLE, |(last, _)| last + 1);
        let relay_at = now + self.timing.timeout() + self.timing.beat * self.rank as u64;
        self.insert(place, wanted, now, relay_at);
        Ok(())
    }

    /// Whether this node leads and takes up no more.
    pub fn is_full(&self) -> bool {
        self.leads && self.is_over(self.waiting.len() + 1, self.bytes + 1)
    }

    fn is_over(&self, count: usize, bytes: usize) -> bool {
        let room = if self.leads { self.room } else { self.bounds.waiting };
        self.bounds.is_over(Bound::Waiting, count > room)
            || self.bounds.is_over(Bound::WaitingBytes, bytes > self.bounds.waiting_bytes)
    }

    /// So many more requests came, and nobody looked at them.
    pub fn pass_over(&mut self, count: u64) {
        self.heard += count;
    }

    /// Whether the others still have the request that waits longest, if they heard it. If they have not, more comes
    /// in than they can keep until it is written: then less is to wait here.
    pub fn others_have_first(&mut self, now: Micros) -> bool {
        let Some((_, first)) = self.waiting.first() else { return false };
        let is_kept = self.heard - first.heard <= self.bounds.waiting_at_leader() as u64;
        if !is_kept {
            self.on_lacking(now);
        }
        is_kept
    }

    /// Somebody does not have what this leader takes up. Where little waits, it was not flooded out.
    pub fn on_lacking(&mut self, now: Micros) {
        if self.waiting.len() >= self.bounds.least_at_leader
            && self.halved_at.is_none_or(|at| now.since(at) >= PAUSE)
        {
            self.halved_at = Some(now);
            self.room = (self.room / 2).max(self.bounds.least_at_leader);
        }
    }

    /// Whether one more client may be told so in this turn.
    pub fn may_say_that_it_is_full(&mut self) -> bool {
        let may = !self.bounds.is_over(Bound::Refusals, self.refusals == 0);
        self.refusals = self.refusals.saturating_sub(1);
        may
    }

    /// Puts requests back in front, in their order: their ballot was given up, or their instance lost. With each comes
    /// where it was written, if it may be chosen there yet.
    pub fn put_back(&mut self, wanted: Vec<(Option<Instance>, Wanted)>, now: Micros) {
        // A change of the group is not asked for again: it may be stale, and its client was told perhaps.
        let wanted = wanted.into_iter().filter(|(_, wanted)| !matches!(wanted, Wanted::Change(..)));
        for (at, wanted) in wanted.rev() {
            if wanted.tagged().is_some() && self.is_waiting(&wanted) {
                continue;
            }
            let place = self.waiting.first().map_or(MIDDLE, |(first, _)| first - 1);
            let relay_at = now + self.timing.timeout();
            self.insert(place, wanted, now, relay_at);
            if let Some(waiting) = self.waiting.get_mut(place) {
                waiting.at = at;
            }
        }
    }

    /// The request that waits longest.
    pub fn first(&self) -> Option<&Wanted> {
        self.waiting.first().map(|(_, waiting)| &waiting.wanted)
    }

    /// How many requests were heard so far.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// The request that waits longest, if it was among the first so many that were heard.
    pub fn first_of(&self, heard: u64) -> Option<&Wanted> {
        self.waiting.first().filter(|(_, first)| first.heard <= heard).map(|(_, first)| &first.wanted)
    }

    /// How many requests waited in vain since this was asked last, and one of them.
    pub fn take_expired(&mut self) -> Option<(u64, Wanted)> {
        self.expired.take()
    }

    /// Takes that request.
    pub fn take_first(&mut self) -> Option<Wanted> {
        let (place, _) = self.waiting.first()?;
        self.remove(place).map(|waiting| waiting.wanted)
    }

    /// Whether the same request waits.
    pub fn is_waiting(&self, wanted: &Wanted) -> bool {
        match wanted.tagged() {
            Some(tagged) => self.tagged.contains(tagged.tag),
            None => self.find_untagged(Key::of(wanted)).is_some(),
        }
    }

    /// A leader took the request up, and wrote it there: nobody needs to pass it on for a while.
    pub fn on_taken_up(&mut self, entry: &Entry, instance: Instance, now: Micros) {
        // One that was written elsewhere before may have lost that place.
        let seen = self.find_at(entry, Some(instance));
        let place = seen.or_else(|| self.find_at(entry, None)).or_else(|| self.find(entry));
        if let Some(waiting) = place.and_then(|place| self.waiting.get_mut(place)) {
            waiting.at = Some(instance);
            waiting.relay_at = now + self.timing.timeout() * 2;
        }
    }

    /// The same, of a tagged request.
    pub fn on_tag_taken_up(&mut self, tag: Tag, now: Micros) {
        if let Some(waiting) = self.tagged.get(tag).and_then(|place| self.waiting.get_mut(*place)) {
            waiting.relay_at = now + self.timing.timeout() * 2;
        }
    }

    /// The tagged write that waits under this tag, as its client sent it.
    pub fn write_of(&self, tag: Tag) -> Option<(&Tagged, &Value)> {
        match &self.waiting.get(*self.tagged.get(tag)?)?.wanted {
            Wanted::Tagged(tagged, value) => Some((tagged, value)),
            _ => None,
        }
    }

    /// An entry is written or learned at `instance`: takes the request that it carries out, if it waits here and that
    /// is certain. With it comes whether somebody answered it already.
    pub fn take_done(&mut self, entry: &Entry, instance: Instance) -> Option<(Wanted, bool)> {
        let is_certain =
            entry.tagged().is_some() || entry.is_untagged_read() || mutant::is(Mutant::WordsAreEnough);
        let place = if is_certain { self.find(entry) } else { self.find_at(entry, Some(instance)) }?;
        self.remove(place).map(|waiting| (waiting.wanted, waiting.is_answered))
    }

    /// Forgets an untagged write of the same words that was not seen to be written anywhere.
    pub fn drop_same(&mut self, entry: &Entry) {
        if entry.tagged().is_none() && !entry.is_untagged_read() {
            self.find_at(entry, None).map(|place| self.remove(place));
        }
    }

    /// The same for an untagged request, if it was among the first so many that were heard.
    pub fn take_done_of(&mut self, heard: u64, entry: &Entry) -> Option<(Wanted, bool)> {
        let place = self.find(entry)?;
        self.waiting.get(place).filter(|waiting| waiting.heard <= heard)?;
        self.remove(place).map(|waiting| (waiting.wanted, waiting.is_answered))
    }

    /// Owes an answer, to be given when the ranks before have had the time to; rank 0 owes it now.
    pub fn owe(&mut self, about: About, answer: Message, rank: usize, now: Micros) {
        self.owed.owe(about, answer, now + ANSWER_STEP * rank as u64);
    }

    /// Whether an answer about this is owed already.
    pub fn owes(&self, about: &About) -> bool {
        self.owed.contains(about)
    }

    /// Somebody else gave the answer to whatever this is about. True when this node owed it.
    pub fn on_answered(&mut self, about: &About) -> bool {
        if let About::Tag(tag) = about
            && let Some(place) = self.tagged.get(*tag)
            && let Some(waiting) = self.waiting.get_mut(*place)
        {
            waiting.is_answered = true;
        }
        self.owed.forget(about)
    }

    /// Somebody else told a client that so many of its writes are done, from this one on.
    pub fn on_done(&mut self, first: Tag, count: u64) {
        for place in self.tagged.run(first, count) {
            if let Some(waiting) = self.waiting.get_mut(*place) {
                waiting.is_answered = true;
            }
        }
        self.owed.forget_done(first, count);
    }

    /// Somebody else refused a tagged request: it is not carried out later.
    pub fn on_refused(&mut self, tag: Tag) {
        if let Some(place) = self.tagged.get(tag) {
            self.remove(*place);
        }
    }

    /// A script of the leader rejected an untagged write of these words: it is not carried out later.
    pub fn on_dropped(&mut self, words: u64) {
        while let Some(place) = self.find_untagged(Key::Words(words)) {
            self.remove(place);
        }
    }

    /// Somebody else answered an untagged write, or read, before it was learned here. True when one waits.
    pub fn on_answered_untagged(&mut self, entry: &Entry) -> bool {
        let Some(key) = Key::of_entry(entry) else { return false };
        let is_open = |place: &Place| self.waiting.get(*place).is_some_and(|waiting| !waiting.is_answered);
        let open = self.places(key).find(is_open);
        let waiting = open.and_then(|place| self.waiting.get_mut(place));
        waiting.map(|waiting| waiting.is_answered = true).is_some()
    }

    /// Passes on the requests that nobody took up (unless this node `leads`), forgets those that waited
    /// too long, and hands out the answers that are due.
    pub fn tick(&mut self, leads: bool, rank: usize, now: Micros, out: &mut Outbox) -> Vec<Message> {
        (self.leads, self.rank) = (leads, rank);
        self.refusals = self.bounds.refusals;
        self.room = (self.room + GROWTH_AT_LEADER).min(self.bounds.waiting_at_leader());
        let is_old = |waiting: &Waiting| now.since(waiting.since) >= PATIENCE;
        while let Some((place, _)) = self.waiting.first().filter(|(_, waiting)| is_old(waiting)) {
            if let Some(Waiting { wanted, .. }) = self.remove(place) {
                self.expired.get_or_insert((0, wanted)).0 += 1;
            }
        }
        if !leads && self.relay_at.is_some_and(|at| now >= at) {
            // Where so much waits, the leader has too much itself.
            let is_flood = self.waiting.len() > self.bounds.waiting / 2 || self.bytes > RELAYED_BYTES;
            for (_, waiting) in self.waiting.iter_mut().filter(|(_, waiting)| now >= waiting.relay_at) {
                waiting.relay_at = now + self.timing.timeout() * 2;
                if !is_flood {
                    relay(&waiting.wanted, out);
                }
            }
            self.relay_at = self.waiting.iter().map(|(_, waiting)| waiting.relay_at).min();
        }
        self.owed.due(now)
    }

    /// When the next answer or relay is due.
    pub fn deadline(&self, leads: bool) -> Option<Micros> {
        let relay_at = self.relay_at.filter(|_| !leads && !self.waiting.is_empty());
        self.owed.deadline().into_iter().chain(relay_at).min()
    }

    /// Where the request waits that an entry carries out.
    fn find(&self, entry: &Entry) -> Option<Place> {
        match entry.tagged() {
            Some(tagged) => self.tagged.get(tagged.tag).copied(),
            None => self.find_untagged(Key::of_entry(entry)?),
        }
    }

    /// The same of one that was seen to be written there, or nowhere.
    fn find_at(&self, entry: &Entry, at: Option<Instance>) -> Option<Place> {
        if entry.tagged().is_some() {
            return self.find(entry);
        }
        let mut places = self.places(Key::of_entry(entry)?);
        places.find(|place| self.waiting.get(*place).is_some_and(|waiting| waiting.at == at))
    }

    /// Where requests wait that are found by this, in order.
    fn places(&self, key: Key) -> impl Iterator<Item = Place> {
        self.untagged.range((key.clone(), Place::MIN)..=(key, Place::MAX)).map(|(_, place)| *place)
    }

    fn find_untagged(&self, key: Key) -> Option<Place> {
        self.places(key).next()
    }

    fn insert(&mut self, place: Place, wanted: Wanted, since: Micros, relay_at: Micros) {
        self.bytes += wanted.len();
        self.relay_at = Some(self.relay_at.map_or(relay_at, |at| at.min(relay_at)));
        match wanted.tagged() {
            Some(tagged) => drop(self.tagged.insert(tagged.tag, place)),
            None => {
                self.untagged.insert((Key::of(&wanted), place));
                self.untagged.extend(words(&wanted).map(|words| (words, place)));
            }
        }
        let waiting = Waiting { wanted, since, relay_at, is_answered: false, heard: self.heard, at: None };
        self.waiting.insert(place, waiting);
    }

    fn remove(&mut self, place: Place) -> Option<Waiting> {
        let waiting = self.waiting.remove(place)?;
        self.bytes -= waiting.wanted.len();
        match waiting.wanted.tagged() {
            Some(tagged) => drop(self.tagged.remove(tagged.tag)),
            None => {
                self.untagged.remove(&(Key::of(&waiting.wanted), place));
                if let Some(words) = words(&waiting.wanted) {
                    self.untagged.remove(&(words, place));
                }
            }
        }
        Some(waiting)
    }
}

/// What an untagged write is found by, too, if a script has changed its words.
fn words(wanted: &Wanted) -> Option<Key> {
    match wanted {
        Wanted::Write(value) => Some(Key::Words(hooks::fingerprint(value.as_bytes()))),
        _ => None,
    }
}

fn relay(wanted: &Wanted, out: &mut Outbox) {
    match wanted.clone() {
        // The next leader's scripts would see it a second time. Its client asks again, in its own words.
        Wanted::Again(_) if out.hooks.is_some() => {}
        Wanted::Again(Entry::Tagged(tagged, value)) => {
            out.send_line(Line::Client(Request::Submit(tagged, value)));
        }
        Wanted::Again(entry) => {
            if let Some(value) = entry.written() {
                out.send(Message::Relay { value: Some(value.clone()) });
            }
        }
        Wanted::Query(tagged, question) => out.send_line(Line::Client(Request::Query(tagged, question))),
        Wanted::Write(value) => out.send(Message::Relay { value: Some(value) }),
        Wanted::Read => out.send(Message::Relay { value: None }),
        Wanted::Tagged(tagged, value) => out.send_line(Line::Client(Request::Submit(tagged, value))),
        Wanted::TaggedRead(tagged) => out.send_line(Line::Client(Request::TaggedRead(tagged))),
        Wanted::Change(tagged, change) => out.send_line(Line::Client(Request::Change(tagged, change))),
    }
}
