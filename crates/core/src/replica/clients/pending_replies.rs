//! The answers that this node owes, and when it sends them, unless it overhears another node's answer first.
//!
//! This module owns their bounded number and their order. Nearly all of them are about tagged writes, and are
//! dropped a moment later because the leader answers. These cost neither a message nor a search.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::types::{Instance, Micros, Tag, Value};
use crate::wire::Message;

/// The subject of an answer. It identifies an overheard answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// An instance: `OK`, `NotYet`.
    Instance(Instance),
    /// The members of the group: `Members`.
    Members,
    /// A tagged request: `Done`, `Answer`, `Refused`.
    Tag(Tag),
    /// An untagged request that was refused, by the reason.
    Error(Value),
}

/// Tagged writes of one client that were chosen one after another, and are answered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Done {
    at: Micros,
    first: Instance,
    count: u64,
}

/// An answer that is due at some time. Another node may have answered since.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    DoneFor(u64),
    Other(About),
}

/// The owed answers, by subject and by due time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingReplies {
    bounds: Bounds,
    /// By client, and by the number of the first request.
    done: BTreeMap<u64, BTreeMap<u64, Done>>,
    others: BTreeMap<About, (Micros, Message)>,
    len: usize,
    due: BTreeMap<Micros, Vec<Due>>,
}

/// Hashes the owed answers only: leftover due times have no effect.
impl Hash for PendingReplies {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (&self.done, &self.others).hash(to);
    }
}

impl PendingReplies {
    /// No answers owed.
    pub fn new(limits: Limits) -> PendingReplies {
        PendingReplies { bounds: limits.into(), ..PendingReplies::default() }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Owes an answer, due at `at`, unless one about the same subject is owed already or there is no room.
    pub fn schedule_reply(&mut self, about: About, answer: Message, at: Micros) {
        if self.bounds.is_over(Bound::Owed, self.len >= self.bounds.owed) || self.contains(&about) {
            return;
        }
        self.len += 1;
        match (about, answer) {
            (About::Tag(tag), Message::Done { first, last, client, seq })
                if first == last && (Tag { client, seq }) == tag =>
            {
                self.owe_done(tag, first, at);
            }
            (about, answer) => {
                self.due.entry(at).or_default().push(Due::Other(about.clone()));
                self.others.insert(about, (at, answer));
            }
        }
    }

    fn owe_done(&mut self, tag: Tag, instance: Instance, at: Micros) {
        let of_client = self.done.entry(tag.client).or_default();
        if let Some((seq, done)) = of_client.range_mut(..tag.seq).next_back()
            && done.at == at
            && seq + done.count == tag.seq
            && done.first.0 + done.count == instance.0
        {
            done.count += 1;
            return;
        }
        of_client.insert(tag.seq, Done { at, first: instance, count: 1 });
        self.due.entry(at).or_default().push(Due::DoneFor(tag.client));
    }

    /// Whether an answer about this subject is owed.
    pub fn contains(&self, about: &About) -> bool {
        matches!(about, About::Tag(tag) if self.owes_done(*tag)) || self.others.contains_key(about)
    }

    fn owes_done(&self, tag: Tag) -> bool {
        let done = self.done.get(&tag.client).and_then(|done| done.range(..=tag.seq).next_back());
        done.is_some_and(|(seq, done)| tag.seq < seq + done.count)
    }

    /// Drops an answer that another node has given. True when it was owed.
    pub fn forget(&mut self, about: &About) -> bool {
        if let About::Tag(tag) = about
            && self.owes_done(*tag)
        {
            self.forget_done(*tag, 1);
            return true;
        }
        let is_owed = self.others.remove(about).is_some();
        self.len -= usize::from(is_owed);
        is_owed
    }

    /// Drops the answers to `count` requests of a client that another node has answered, from this one on.
    pub fn forget_done(&mut self, Tag { client, seq }: Tag, count: u64) {
        let end = seq.saturating_add(count);
        let tags = About::Tag(Tag { client, seq })..About::Tag(Tag { client, seq: end });
        while let Some((about, _)) = self.others.range(tags.clone()).next() {
            let about = about.clone();
            self.others.remove(&about);
            self.len -= 1;
        }
        let Some(of_client) = self.done.get_mut(&client) else { return };
        while let Some((first, done)) =
            of_client.range(..end).next_back().map(|(first, done)| (*first, *done))
            && first + done.count > seq
        {
            of_client.remove(&first);
            // The unanswered part of the run stays.
            if first < seq {
                of_client.insert(first, Done { count: seq - first, ..done });
            }
            if first + done.count > end {
                let count = first + done.count - end;
                of_client.insert(end, Done { first: Instance(done.first.0 + end - first), count, ..done });
            }
            self.len -= (end.min(first + done.count) - first.max(seq)) as usize;
        }
        if of_client.is_empty() {
            self.done.remove(&client);
        }
    }

    /// Removes and returns the answers that are due.
    pub fn due(&mut self, now: Micros) -> Vec<Message> {
        let mut answers = Vec::new();
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= now) {
            for due in first.remove() {
                match due {
                    Due::DoneFor(client) => self.take_done(client, now, &mut answers),
                    // It may have been answered since, and then be owed again.
                    Due::Other(about) if self.others.get(&about).is_some_and(|(at, _)| *at <= now) => {
                        self.len -= 1;
                        answers.extend(self.others.remove(&about).map(|(_, answer)| answer));
                    }
                    Due::Other(_) => {}
                }
            }
        }
        answers
    }

    fn take_done(&mut self, client: u64, now: Micros, answers: &mut Vec<Message>) {
        let Some(of_client) = self.done.get_mut(&client) else { return };
        of_client.retain(|seq, Done { at, first, count }| {
            let is_due = *at <= now;
            if is_due {
                let (first, last) = (*first, Instance(first.0 + *count - 1));
                answers.push(Message::Done { first, last, client, seq: *seq });
                self.len -= *count as usize;
            }
            !is_due
        });
        if of_client.is_empty() {
            self.done.remove(&client);
        }
    }

    /// The time at which the next answer may be due.
    pub fn deadline(&self) -> Option<Micros> {
        self.due.first_key_value().map(|(at, _)| *at).filter(|_| self.len > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule_reply(owed: &mut PendingReplies, seq: u64, instance: u64, at: u64) {
        let (tag, instance) = (Tag { client: 7, seq }, Instance(instance));
        let done = Message::Done { first: instance, last: instance, client: 7, seq };
        owed.schedule_reply(About::Tag(tag), done, Micros(at));
    }

    fn done(first: u64, last: u64, seq: u64) -> Message {
        Message::Done { first: Instance(first), last: Instance(last), client: 7, seq }
    }

    #[test]
    fn what_was_chosen_together_is_answered_together_but_for_what_was_answered() {
        let mut owed = PendingReplies::default();
        (1..=9).for_each(|seq| schedule_reply(&mut owed, seq, seq + 10, 5));
        owed.forget_done(Tag { client: 7, seq: 4 }, 2);
        assert!(owed.forget(&About::Tag(Tag { client: 7, seq: 9 })));
        assert!(!owed.contains(&About::Tag(Tag { client: 7, seq: 5 })));
        assert_eq!(owed.due(Micros(4)), []);
        assert_eq!(owed.due(Micros(5)), [done(11, 13, 1), done(16, 18, 6)]);
        assert_eq!((owed.len, owed.deadline()), (0, None));
    }

    #[test]
    fn an_overheard_answer_ends_all_that_it_is_about() {
        let mut owed = PendingReplies::default();
        [1, 2, 3, 7, 8].iter().for_each(|seq| schedule_reply(&mut owed, *seq, seq + 10, 5));
        owed.forget_done(Tag { client: 8, seq: 1 }, 100);
        owed.forget_done(Tag { client: 7, seq: 2 }, 6);
        assert_eq!(owed.len, 2);
        assert_eq!(owed.due(Micros(9)), [done(11, 11, 1), done(18, 18, 8)]);
    }

    #[test]
    fn only_so_many_answers_are_owed() {
        let mut owed = PendingReplies::default();
        (1..=Limits::USUAL.owed as u64 + 5).for_each(|seq| schedule_reply(&mut owed, seq, 2 * seq, 5));
        assert_eq!(owed.due(Micros(5)).len(), Limits::USUAL.owed);
    }
}
