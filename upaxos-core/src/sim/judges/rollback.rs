//! The judge of rolled back disks: what they may break, and what must be found then.
//!
//! A disk that was rolled back has forgotten what its node promised. Where a peer remembers a later life of it, it may
//! not vote. Where it voted all the same, the log may split: two values in one place, each chosen by a quorum. Nobody
//! can prevent that; but of two members that have learned different values, one must say so, and who disagrees with
//! a quorum must end. (What only the rolled back disk had learned, nobody knows any more: no two logs differ.)

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::disks::Disk;
use super::{Judges, Rule, Violation};
use crate::node::Event;
use crate::types::{Instance, NodeId};
use crate::wire::Boot;

/// What a vote against a forgotten promise can break.
const BREAKABLE: [Rule; 16] = [
    Rule::Agreement,
    Rule::OneValuePerBallot,
    Rule::OwnBallot,
    Rule::WritesWhatIsPromised,
    Rule::PromisesNeverRegress,
    Rule::Integrity,
    Rule::EpochIsLearned,
    Rule::NothingAboveChange,
    Rule::LeavesInOrder,
    Rule::RealTimeOrder,
    Rule::ReadsSeeWrites,
    Rule::ReadsAreFresh,
    Rule::Durability,
    Rule::ExactlyOnce,
    Rule::RefusedIsFinal,
    Rule::SameState,
];

/// What holds in every run.
const NEVER_EXCUSED: [Rule; 3] = [Rule::NoPanic, Rule::RollbackIsFound, Rule::Progress];

/// What is known of rolled back disks.
#[derive(Debug, Default)]
pub(super) struct Rollback {
    /// What each member had durably said when its disk was copied.
    pub copies: BTreeMap<u16, Disk>,
    /// Whose disks lack what they had.
    ids: BTreeSet<u16>,
    /// What that broke first.
    pub broken: Option<Violation>,
    /// Which two members part, as one of them said.
    told: BTreeSet<(u16, u16)>,
}

impl Rollback {
    /// Whether breaking a rule is not held against the nodes. What follows from the first is all one.
    pub fn excuses(&self, rule: Rule) -> bool {
        match self.broken {
            Some(_) => !NEVER_EXCUSED.contains(&rule),
            None => !self.ids.is_empty() && BREAKABLE.contains(&rule),
        }
    }
}

impl Judges {
    /// The disk of a member was copied.
    pub fn on_copied(&mut self, id: u16) {
        self.rollback.copies.insert(id, self.disks[usize::from(id)].clone());
    }

    /// The copy was put back. Whether it lacks anything.
    pub fn on_rolled_back(&mut self, id: u16) -> bool {
        let Some(copy) = self.rollback.copies.remove(&id) else { return false };
        let disk = &mut self.disks[usize::from(id)];
        let lacks = copy.records < disk.records;
        let promised = copy.promised.values().max().copied();
        // It cannot know which ballots it has used since.
        let numbering = self.numbering;
        self.proposed
            .retain(|(_, ballot), _| numbering.owner(*ballot) != NodeId(id) || Some(*ballot) <= promised);
        *disk = copy;
        self.rollback.ids.extend(lacks.then_some(id));
        lacks
    }

    /// Whether a disk has been rolled back, and lacks something.
    pub fn has_rolled_back(&self) -> bool {
        !self.rollback.ids.is_empty()
    }

    /// Whether the disk of a member was rolled back, and lacks something.
    pub(super) fn is_rolled_back(&self, id: u16) -> bool {
        self.rollback.ids.contains(&id)
    }

    /// Whether a rolled back disk has broken anything.
    pub fn is_split(&self) -> bool {
        self.rollback.broken.is_some()
    }

    /// Whether any member has said that logs differ.
    pub fn is_told(&self) -> bool {
        !self.rollback.told.is_empty()
    }

    /// A member says that the log of a peer differs from its own.
    pub fn on_log_diverged(&mut self, id: u16, peer: u16, said: &Event) {
        if !self.is_split() {
            return self.fail(Rule::RollbackIsFound, format!("{id} says, of equal logs: {said}"));
        }
        self.rollback.told.extend([(id, peer), (peer, id)]);
    }

    /// Whether a member remembers a life of another one that this life cannot follow.
    pub fn knows_better(&self, id: u16, of: u16, boot: Boot) -> bool {
        let known = self.disks[usize::from(id)].registered.get(&NodeId(of));
        let lives = &self.disks[usize::from(of)].lives;
        known.filter(|known| known.incarnation == boot.incarnation).is_some_and(|known| {
            match known.start.cmp(&boot.start) {
                Ordering::Greater => true,
                Ordering::Equal => known.boot != boot.boot,
                Ordering::Less => lives.get(&known.start).is_some_and(|boot| *boot != known.boot),
            }
        })
    }

    /// The first instance at which two members have durably learned different values.
    fn part(&self, a: u16, b: u16) -> Option<Instance> {
        let (a, b) = (&self.disks[usize::from(a)], &self.disks[usize::from(b)]);
        let both = a.learned.min(b.learned);
        let mut known = a.log.range(..=both).filter_map(|(at, value)| Some((at, value, b.log.get(at)?)));
        known.find(|(_, one, other)| one != other).map(|(at, ..)| *at)
    }

    /// What these members, all that run, have not told, or drawn their consequences from.
    pub fn not_told(&self, running: &[u16]) -> Option<String> {
        for (at, a) in running.iter().enumerate() {
            for b in &running[at + 1..] {
                if let Some(first) = self.part(*a, *b).filter(|_| !self.rollback.told.contains(&(*a, *b))) {
                    return Some(format!("{a} and {b} part at {first}, and neither says so"));
                }
            }
        }
        let quorum = self.members().1.len() / 2 + 1;
        for id in running {
            let others: Vec<u16> =
                running.iter().copied().filter(|other| self.part(*id, *other).is_some()).collect();
            let agree = |a: &u16| others.iter().all(|b| self.part(*a, *b).is_none());
            if others.len() >= quorum && others.iter().all(agree) {
                return Some(format!("{id} goes on, though {others:?} have another log"));
            }
        }
        None
    }
}
