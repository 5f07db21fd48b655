//! Answers that nobody has given yet, and when this node gives them, unless it overhears one.
//!
//! Owns their bounded number and their order. Nearly all of them are about tagged writes, and forgotten a moment
//! later because the leader answers: these cost neither a message nor a search.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::slots::ByTag;
use crate::types::{Instance, Micros, Tag, Value};
use crate::wire::Message;

/// How many answers may be owed.
const MAX_OWED: usize = 16_384;

/// Which answer is owed: what an overheard one is recognised by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// An instance: `OK`, `NotYet`.
    Instance(Instance),
    /// Who governs: `Members`.
    Members,
    /// A tagged request: `Done`, `Answer`, `Refused`.
    Tag(Tag),
    /// An untagged request that was refused.
    Error(Value),
}

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Where the tagged writes are chosen whose `Done` is owed, and when that is due.
    done: ByTag<(Micros, Instance)>,
    others: BTreeMap<About, (Micros, Message)>,
    len: usize,
    /// What was owed at each time; some of it was answered since.
    due: BTreeMap<Micros, Vec<About>>,
}

/// Of what is owed: what is left of what was, says nothing.
impl Hash for Owed {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (&self.done, &self.others).hash(to);
    }
}

impl Owed {
    /// Owes an answer, to be given at `at`, unless one about the same is owed already or there is no room.
    pub fn owe(&mut self, about: About, answer: Message, at: Micros) {
        if self.len >= MAX_OWED || self.contains(&about) {
            return;
        }
        self.len += 1;
        self.due.entry(at).or_default().push(about.clone());
        match (&about, answer) {
            (About::Tag(tag), Message::Done { first, last, client, seq })
                if first == last && (Tag { client, seq }) == *tag =>
            {
                self.done.insert(*tag, (at, first));
            }
            (_, answer) => drop(self.others.insert(about, (at, answer))),
        }
    }

    /// Whether an answer about this is owed.
    pub fn contains(&self, about: &About) -> bool {
        matches!(about, About::Tag(tag) if self.done.contains(*tag)) || self.others.contains_key(about)
    }

    /// Somebody gave it. True when it was owed.
    pub fn forget(&mut self, about: &About) -> bool {
        self.take(about).is_some()
    }

    /// Takes the answers that are due.
    pub fn due(&mut self, now: Micros) -> Vec<Message> {
        let mut answers = Vec::new();
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= now) {
            let (at, abouts) = first.remove_entry();
            for about in abouts {
                // It may have been answered, and be owed anew since.
                if self.at(&about) == Some(at) {
                    answers.extend(self.take(&about));
                }
            }
        }
        answers
    }

    /// When the next answer may be due.
    pub fn deadline(&self) -> Option<Micros> {
        self.due.first_key_value().map(|(at, _)| *at).filter(|_| self.len > 0)
    }

    fn at(&self, about: &About) -> Option<Micros> {
        let done = match about {
            About::Tag(tag) => self.done.get(*tag).map(|(at, _)| *at),
            _ => None,
        };
        done.or_else(|| self.others.get(about).map(|(at, _)| *at))
    }

    fn take(&mut self, about: &About) -> Option<Message> {
        let done = match about {
            About::Tag(tag) => self.done.remove(*tag).map(|(_, at)| {
                let Tag { client, seq } = *tag;
                Message::Done { first: at, last: at, client, seq }
            }),
            _ => None,
        };
        let answer = done.or_else(|| self.others.remove(about).map(|(_, answer)| answer))?;
        self.len -= 1;
        Some(answer)
    }
}
