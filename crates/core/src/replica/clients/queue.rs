//! The requests and answers in progress: requests that are not chosen yet, answers that are not sent yet.
//!
//! This module owns two queues. Both are bounded and indexed, so every step is cheap however long they are. Every
//! node keeps the requests that it hears, since any node may lead next. If no leader takes a request up, the nodes
//! pass it on, in order of rank; that never raises a ballot. Every node owes the answers that it could give, and
//! drops one when it overhears another node's. This module decides nothing about the log.

use std::collections::BTreeSet;

use crate::entry::Entry;
use crate::hooks;
use crate::mutant::{self, Mutant};
use crate::paged_map::{ByTag, PagedMap};
use crate::replica::clients::pending_replies::{About, PendingReplies};
use crate::replica::config::Timing;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::replica::outbox::Outbox;
use crate::types::{Change, Instance, MAX_VALUE, Micros, Tag, Tagged, Value};
use crate::wire::{Line, Message, Request};

/// The pace of a leader's room. The room halves when the followers no longer have the requests that the leader
/// takes up, at most once per `PAUSE` and to no less than [`Limits::least_at_leader`]. It grows by
/// `GROWTH_AT_LEADER` in every tick.
const PAUSE: Micros = Micros::from_millis(100);
const GROWTH_AT_LEADER: usize = 2;

/// How long a request waits for a leader before it is forgotten: longer than any election, shorter than any client
/// waits. A write that takes effect minutes after it was typed would surprise.
const PATIENCE: Micros = Micros::from_millis(10_000);

/// How many bytes of waiting requests may be passed on. More would keep the leader from its own work.
const RELAYED_BYTES: usize = 1 << 20;

/// How long each rank waits for the one before it to answer.
pub const ANSWER_STEP: Micros = Micros::from_millis(20);

/// A request that ends in a value of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proposal {
    /// `Request 0 V`: an untagged write.
    Write(Value),
    /// `Request 0`: an untagged read.
    Read,
    /// `Submit C Q F V`: a tagged write.
    Tagged(Tagged, Value),
    /// `Read C Q F`: a tagged read.
    TaggedRead(Tagged),
    /// `Query C Q F TEXT`: a tagged question to the scripts.
    Query(Tagged, Value),
    /// An entry that a leader had written and that was not chosen there, as it stood. It is to be written
    /// elsewhere. Scripts have seen it already.
    Again(Entry),
    /// `leave T`, `replace T U`, tagged or not: a change of the group.
    Change(Option<Tagged>, Change),
}

impl Proposal {
    /// The tag of the request; `None` for an untagged one.
    pub fn tagged(&self) -> Option<Tagged> {
        match self {
            Proposal::Tagged(tagged, _) | Proposal::TaggedRead(tagged) | Proposal::Query(tagged, _) => {
                Some(*tagged)
            }
            Proposal::Again(entry) => entry.tagged(),
            Proposal::Change(tagged, _) => *tagged,
            _ => None,
        }
    }

    /// Whether it is a safe read, which has to wait for everything before it.
    pub fn is_read(&self) -> bool {
        matches!(self, Proposal::Read | Proposal::TaggedRead(_) | Proposal::Query(..))
    }

    /// The size of the value in bytes; 0 for a request without one.
    pub fn len(&self) -> usize {
        match self {
            Proposal::Write(value) | Proposal::Tagged(_, value) | Proposal::Query(_, value) => {
                value.as_bytes().len()
            }
            Proposal::Again(entry) => entry.written().map_or(0, |value| value.as_bytes().len()),
            _ => 0,
        }
    }

    /// The value of a client's write, before any script has seen it.
    pub fn unseen(&self) -> Option<&Value> {
        match self {
            Proposal::Write(value) | Proposal::Tagged(_, value) => Some(value),
            _ => None,
        }
    }

    /// The text of a question to the scripts; `None` for other requests.
    pub fn question(&self) -> Option<&Value> {
        if let Proposal::Query(_, question) = self { Some(question) } else { None }
    }

    /// The reason for refusing the request outright, if there is one.
    pub fn refusal(&self) -> Option<&'static str> {
        match self.tagged() {
            _ if self.len() > MAX_VALUE => Some("the value is over the limit of 60000 bytes"),
            Some(tagged) if tagged.floor > tagged.tag.seq => Some("its floor is above its own number"),
            _ => None,
        }
    }

    /// The entry that carries it out at `instance`. `safe_read` returns the result of a safe read there.
    ///
    /// # Panics
    /// When the request is a change of the group: only a leader can compose its entry.
    pub fn entry(&self, instance: Instance, safe_read: impl FnOnce() -> Value) -> Entry {
        match self {
            Proposal::Write(value) => Entry::Write(value.clone()),
            Proposal::Tagged(tagged, value) => Entry::Tagged(*tagged, value.clone()),
            Proposal::Read => Entry::Read { instance, tagged: None, value: safe_read() },
            Proposal::TaggedRead(tagged) | Proposal::Query(tagged, _) => {
                Entry::Read { instance, tagged: Some(*tagged), value: safe_read() }
            }
            Proposal::Again(entry) => entry.clone(),
            Proposal::Change(..) => panic!("only a leader composes the entry of a change"),
        }
    }

    /// The entry to write for a request that cannot be carried out. If the request has a tag and would have an
    /// effect, the log records the refusal. Otherwise the next leader, or this one on a copy of the request, might
    /// decide differently. A logged refusal is answered when it is learned.
    pub fn logged_refusal(&self, reason: &str) -> Option<Entry> {
        let tagged = self.tagged().filter(|_| !self.is_read() && !mutant::is(Mutant::RefusedByWord))?;
        Some(Entry::refused(tagged, reason))
    }

    /// The line to the nodes that would pass the request on after its refusal, if there are such nodes.
    pub fn drop_notice(&self) -> Option<Message> {
        let Proposal::Write(value) = self else { return None };
        Some(Message::Dropped { words: hooks::fingerprint(value.as_bytes()) })
    }

    /// The request that a lost entry carries out, if its client may still want it elsewhere. That is any write. It
    /// is no safe read, which is void elsewhere, and no change of the group, which would be stale.
    pub fn of_lost(entry: Entry) -> Option<Proposal> {
        match entry {
            Entry::Write(_) | Entry::Changed(..) | Entry::Tagged(..) => Some(Proposal::Again(entry)),
            Entry::Noop | Entry::Read { .. } | Entry::Group(..) | Entry::Refused(..) => None,
        }
    }
}

/// A place in the queue; lower is earlier.
type Place = u64;

/// The place of the first request ever queued. There is as much room before it as after.
const MIDDLE: Place = 1 << 62;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct QueuedRequest {
    wanted: Proposal,
    since: Micros,
    relay_at: Micros,
    /// Whether another node's answer was overheard before the request was learned here.
    is_answered: bool,
    /// How many requests had been heard before this one.
    heard: u64,
    /// The instance in which it was seen to be written since. For untagged requests, only this tells which request
    /// an instance carries out.
    at: Option<Instance>,
}

/// The search key of an untagged request: its words, or their fingerprint if a script has changed them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Write(Value),
    Words(u64),
    Read,
    Change(Change),
}

impl Key {
    /// The key of an untagged request.
    pub fn of(wanted: &Proposal) -> Key {
        match wanted {
            Proposal::Write(value) | Proposal::Again(Entry::Write(value)) => Key::Write(value.clone()),
            Proposal::Again(Entry::Changed(words, _)) => Key::Words(*words),
            Proposal::Change(_, change) => Key::Change(*change),
            _ => Key::Read,
        }
    }

    /// The key of the request that an entry carries out; `None` where no untagged request can match.
    fn of_entry(entry: &Entry) -> Option<Key> {
        match entry {
            Entry::Write(value) => Some(Key::Write(value.clone())),
            Entry::Changed(words, _) => Some(Key::Words(*words)),
            Entry::Read { .. } => Some(Key::Read),
            _ => None,
        }
    }
}

/// The queue of waiting requests, the answers owed, and the leader's adaptive room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestQueue {
    timing: Timing,
    bounds: Bounds,
    waiting: PagedMap<QueuedRequest>,
    /// The places of the tagged requests.
    tagged: ByTag<Place>,
    /// The places of the untagged requests.
    untagged: BTreeSet<(Key, Place)>,
    bytes: usize,
    /// How many requests may wait while this node leads, and when that number was last halved.
    room: usize,
    halved_at: Option<Micros>,
    /// How many requests were heard so far, each counted at least once, including those that found no room.
    heard: u64,
    /// How many clients may still be told before the next tick that there is no room.
    refusals: usize,
    /// Whether this node leads, as of the last tick.
    leads: bool,
    /// This node's rank among the nodes that pass requests on, as of the last tick.
    rank: usize,
    /// How many requests were forgotten since the last call of `take_expired`, and one of them.
    expired: Option<(u64, Proposal)>,
    /// The earliest time at which a request is to be passed on.
    relay_at: Option<Micros>,
    owed: PendingReplies,
}

impl RequestQueue {
    /// Empty queues, with the full room of a leader.
    pub fn new(timing: Timing, limits: Limits) -> RequestQueue {
        RequestQueue {
            timing,
            bounds: limits.into(),
            waiting: PagedMap::default(),
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
            owed: PendingReplies::new(limits),
        }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached() | self.owed.reached()
    }

    /// This node's rank among the nodes that answer, as of the last tick.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Adds a request at the end, unless the same tagged request waits already (a retry). A leader without room
    /// returns the request. Another node forgets the longest-waiting request instead: its leader has not taken that
    /// one up, while the leader may name the new one soon.
    pub fn add(&mut self, wanted: Proposal, now: Micros) -> Result<(), Proposal> {
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

    /// Whether this node leads and has no room for another request.
    pub fn is_full(&self) -> bool {
        self.leads && self.is_over(self.waiting.len() + 1, self.bytes + 1)
    }

    fn is_over(&self, count: usize, bytes: usize) -> bool {
        let room = if self.leads { self.room } else { self.bounds.waiting };
        self.bounds.is_over(Bound::Waiting, count > room)
            || self.bounds.is_over(Bound::WaitingBytes, bytes > self.bounds.waiting_bytes)
    }

    /// Counts requests that arrived and were dropped unread.
    pub fn pass_over(&mut self, count: u64) {
        self.heard += count;
    }

    /// Whether the followers still have the request that waits longest, if they heard it. If not, more requests
    /// arrive than they can keep until they are written: then the room shrinks.
    pub fn others_have_first(&mut self, now: Micros) -> bool {
        let Some((_, first)) = self.waiting.first() else { return false };
        let is_kept = self.heard - first.heard <= self.bounds.waiting_at_leader() as u64;
        if !is_kept {
            self.on_lacking(now);
        }
        is_kept
    }

    /// A follower lacks a request that this leader takes up. If few requests wait here, no flood was the cause, and
    /// the room stays.
    pub fn on_lacking(&mut self, now: Micros) {
        if self.waiting.len() >= self.bounds.least_at_leader
            && self.halved_at.is_none_or(|at| now.since(at) >= PAUSE)
        {
            self.halved_at = Some(now);
            self.room = (self.room / 2).max(self.bounds.least_at_leader);
        }
    }

    /// Whether one more client may be told in this turn that there is no room.
    pub fn may_say_that_it_is_full(&mut self) -> bool {
        let may = !self.bounds.is_over(Bound::Refusals, self.refusals == 0);
        self.refusals = self.refusals.saturating_sub(1);
        may
    }

    /// Puts requests back at the front, in their order, after their ballot was given up or their instance lost.
    /// Each comes with the instance in which it was written, if it may still be chosen there.
    pub fn requeue(&mut self, wanted: Vec<(Option<Instance>, Proposal)>, now: Micros) {
        // A change of the group is not asked for again. It may be stale, and its client may have an answer already.
        let wanted = wanted.into_iter().filter(|(_, wanted)| !matches!(wanted, Proposal::Change(..)));
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
    pub fn first(&self) -> Option<&Proposal> {
        self.waiting.first().map(|(_, waiting)| &waiting.wanted)
    }

    /// How many requests were heard so far.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// The request that waits longest, if it was among the first `heard` requests.
    pub fn first_of(&self, heard: u64) -> Option<&Proposal> {
        self.waiting.first().filter(|(_, first)| first.heard <= heard).map(|(_, first)| &first.wanted)
    }

    /// How far above the learned prefix this node keeps any state.
    pub fn window(&self) -> u64 {
        self.bounds.window
    }

    /// Returns how many requests expired since the last call, and one of them.
    pub fn take_expired(&mut self) -> Option<(u64, Proposal)> {
        self.expired.take()
    }

    /// Removes and returns the request that waits longest.
    pub fn pop(&mut self) -> Option<Proposal> {
        let (place, _) = self.waiting.first()?;
        self.remove(place).map(|waiting| waiting.wanted)
    }

    /// Whether the same request waits: the same tag or, without tags, the same words.
    pub fn is_waiting(&self, wanted: &Proposal) -> bool {
        match wanted.tagged() {
            Some(tagged) => self.tagged.contains(tagged.tag),
            None => self.find_untagged(Key::of(wanted)).is_some(),
        }
    }

    /// Records that a leader took the request up and wrote it at `instance`. No node needs to pass it on for a
    /// while.
    pub fn on_taken_up(&mut self, entry: &Entry, instance: Instance, now: Micros) {
        // A request that was written elsewhere before may have lost that instance.
        let seen = self.find_at(entry, Some(instance));
        let place = seen.or_else(|| self.find_at(entry, None)).or_else(|| self.find(entry));
        if let Some(waiting) = place.and_then(|place| self.waiting.get_mut(place)) {
            waiting.at = Some(instance);
            waiting.relay_at = now + self.timing.timeout() * 2;
        }
    }

    /// Does the same for a tagged request.
    pub fn on_tag_taken_up(&mut self, tag: Tag, now: Micros) {
        if let Some(waiting) = self.tagged.get(tag).and_then(|place| self.waiting.get_mut(*place)) {
            waiting.relay_at = now + self.timing.timeout() * 2;
        }
    }

    /// The tagged write that waits under this tag, as its client sent it.
    pub fn write_of(&self, tag: Tag) -> Option<(&Tagged, &Value)> {
        match &self.waiting.get(*self.tagged.get(tag)?)?.wanted {
            Proposal::Tagged(tagged, value) => Some((tagged, value)),
            _ => None,
        }
    }

    /// An entry is written or learned at `instance`. Removes and returns the request that it carries out, if that
    /// waits here and the match is certain. The flag says whether another node answered it already.
    pub fn take_done(&mut self, entry: &Entry, instance: Instance) -> Option<(Proposal, bool)> {
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

    /// Removes and returns the untagged request of an entry, if it was among the first `heard` requests.
    pub fn take_done_of(&mut self, heard: u64, entry: &Entry) -> Option<(Proposal, bool)> {
        let place = self.find(entry)?;
        self.waiting.get(place).filter(|waiting| waiting.heard <= heard)?;
        self.remove(place).map(|waiting| (waiting.wanted, waiting.is_answered))
    }

    /// Owes an answer. It is due once the ranks before have had time to answer; for rank 0, at once.
    pub fn schedule_reply(&mut self, about: About, answer: Message, rank: usize, now: Micros) {
        self.owed.schedule_reply(about, answer, now + ANSWER_STEP * rank as u64);
    }

    /// Whether an answer about this is owed already.
    pub fn owes(&self, about: &About) -> bool {
        self.owed.contains(about)
    }

    /// Records that another node answered `about`. True when this node owed that answer.
    pub fn on_answered(&mut self, about: &About) -> bool {
        if let About::Tag(tag) = about
            && let Some(place) = self.tagged.get(*tag)
            && let Some(waiting) = self.waiting.get_mut(*place)
        {
            waiting.is_answered = true;
        }
        self.owed.forget(about)
    }

    /// Records that another node reported `count` writes of a client as done, from `first` on.
    pub fn on_done(&mut self, first: Tag, count: u64) {
        for place in self.tagged.run(first, count) {
            if let Some(waiting) = self.waiting.get_mut(*place) {
                waiting.is_answered = true;
            }
        }
        self.owed.forget_done(first, count);
    }

    /// Records that another node refused a tagged request. It is not carried out later.
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

    /// Records that another node answered an untagged write or read before it was learned here. True when one
    /// waits.
    pub fn on_answered_untagged(&mut self, entry: &Entry) -> bool {
        let Some(key) = Key::of_entry(entry) else { return false };
        let is_open = |place: &Place| self.waiting.get(*place).is_some_and(|waiting| !waiting.is_answered);
        let open = self.places(key).find(is_open);
        let waiting = open.and_then(|place| self.waiting.get_mut(place));
        waiting.map(|waiting| waiting.is_answered = true).is_some()
    }

    /// Passes on the requests that no leader took up (unless this node `leads`), forgets the expired ones, and
    /// returns the answers that are due.
    pub fn tick(&mut self, leads: bool, rank: usize, now: Micros, out: &mut Outbox) -> Vec<Message> {
        (self.leads, self.rank) = (leads, rank);
        self.refusals = self.bounds.refusals;
        self.room = (self.room + GROWTH_AT_LEADER).min(self.bounds.waiting_at_leader());
        let is_old = |waiting: &QueuedRequest| now.since(waiting.since) >= PATIENCE;
        while let Some((place, _)) = self.waiting.first().filter(|(_, waiting)| is_old(waiting)) {
            if let Some(QueuedRequest { wanted, .. }) = self.remove(place) {
                self.expired.get_or_insert((0, wanted)).0 += 1;
            }
        }
        if !leads && self.relay_at.is_some_and(|at| now >= at) {
            // When so many requests wait here, the leader has too many itself.
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

    /// The place of the waiting request that an entry carries out.
    fn find(&self, entry: &Entry) -> Option<Place> {
        match entry.tagged() {
            Some(tagged) => self.tagged.get(tagged.tag).copied(),
            None => self.find_untagged(Key::of_entry(entry)?),
        }
    }

    /// Does the same, for a request that was seen to be written at `at`, or nowhere if that is `None`.
    fn find_at(&self, entry: &Entry, at: Option<Instance>) -> Option<Place> {
        if entry.tagged().is_some() {
            return self.find(entry);
        }
        let mut places = self.places(Key::of_entry(entry)?);
        places.find(|place| self.waiting.get(*place).is_some_and(|waiting| waiting.at == at))
    }

    /// The places of the waiting requests with this key, in order.
    fn places(&self, key: Key) -> impl Iterator<Item = Place> {
        self.untagged.range((key.clone(), Place::MIN)..=(key, Place::MAX)).map(|(_, place)| *place)
    }

    fn find_untagged(&self, key: Key) -> Option<Place> {
        self.places(key).next()
    }

    fn insert(&mut self, place: Place, wanted: Proposal, since: Micros, relay_at: Micros) {
        self.bytes += wanted.len();
        self.relay_at = Some(self.relay_at.map_or(relay_at, |at| at.min(relay_at)));
        match wanted.tagged() {
            Some(tagged) => drop(self.tagged.insert(tagged.tag, place)),
            None => {
                self.untagged.insert((Key::of(&wanted), place));
                self.untagged.extend(words(&wanted).map(|words| (words, place)));
            }
        }
        let waiting =
            QueuedRequest { wanted, since, relay_at, is_answered: false, heard: self.heard, at: None };
        self.waiting.insert(place, waiting);
    }

    fn remove(&mut self, place: Place) -> Option<QueuedRequest> {
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

/// The second key of an untagged write, in case a script has changed its words.
fn words(wanted: &Proposal) -> Option<Key> {
    match wanted {
        Proposal::Write(value) => Some(Key::Words(hooks::fingerprint(value.as_bytes()))),
        _ => None,
    }
}

fn relay(wanted: &Proposal, out: &mut Outbox) {
    match wanted.clone() {
        // The next leader's scripts would see it a second time. Its client asks again, in its own words.
        Proposal::Again(_) if out.hooks.is_some() => {}
        Proposal::Again(Entry::Tagged(tagged, value)) => {
            out.send_line(Line::Client(Request::Submit(tagged, value)));
        }
        Proposal::Again(entry) => {
            if let Some(value) = entry.written() {
                out.send(Message::Relay { value: Some(value.clone()) });
            }
        }
        Proposal::Query(tagged, question) => out.send_line(Line::Client(Request::Query(tagged, question))),
        Proposal::Write(value) => out.send(Message::Relay { value: Some(value) }),
        Proposal::Read => out.send(Message::Relay { value: None }),
        Proposal::Tagged(tagged, value) => out.send_line(Line::Client(Request::Submit(tagged, value))),
        Proposal::TaggedRead(tagged) => out.send_line(Line::Client(Request::TaggedRead(tagged))),
        Proposal::Change(tagged, change) => out.send_line(Line::Client(Request::Change(tagged, change))),
    }
}
