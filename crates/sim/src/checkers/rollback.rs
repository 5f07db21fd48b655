//! The checker of rolled back disks: which rules they may violate, and what the nodes must detect then.
//!
//! A rolled back disk has lost promises of its node. The node may not vote where a peer remembers a later life of
//! it. If it votes all the same, the log may split: two values at one instance, each chosen by a quorum. The
//! protocol cannot prevent that. But of two members that have learned different values, one must report it, and a
//! member that disagrees with a quorum must end. (A value that only the rolled back disk had learned is lost
//! without trace: no two logs differ.)

use std::cmp::Ordering;

use upaxos_core::replica::Event;
use upaxos_core::types::{Instance, NodeId};
use upaxos_core::wire::Boot;

use super::Checkers;
use super::rule::Rule;

impl Checkers {
    /// The disk of a member was copied.
    pub fn on_copied(&mut self, id: u16) {
        self.rollback.copies.insert(id, self.disks[usize::from(id)].clone());
    }

    /// The copy was put back. Returns whether the disk lacks records now.
    pub fn on_rolled_back(&mut self, id: u16) -> bool {
        let Some(copy) = self.rollback.copies.remove(&id) else { return false };
        let disk = &mut self.disks[usize::from(id)];
        let lacks = copy.records < disk.records;
        let promised = copy.promised.values().max().copied();
        // The node cannot know which ballots it has used since.
        let numbering = self.numbering;
        self.proposed
            .retain(|(_, ballot), _| numbering.owner(*ballot) != NodeId(id) || Some(*ballot) <= promised);
        *disk = copy;
        self.rollback.ids.extend(lacks.then_some(id));
        lacks
    }

    /// Whether a disk has been rolled back, and lacks records.
    pub fn has_rolled_back(&self) -> bool {
        !self.rollback.ids.is_empty()
    }

    /// Whether the disk of this member was rolled back, and lacks records.
    pub(super) fn is_rolled_back(&self, id: u16) -> bool {
        self.rollback.ids.contains(&id)
    }

    /// Whether a rolled back disk has caused a violation.
    pub fn is_split(&self) -> bool {
        self.rollback.broken.is_some()
    }

    /// Whether any member has reported that logs differ.
    pub fn is_told(&self) -> bool {
        !self.rollback.told.is_empty()
    }

    /// A member reports that the log of a peer differs from its own.
    pub fn on_log_diverged(&mut self, id: u16, peer: u16, said: &Event) {
        if !self.is_split() {
            return self.fail(Rule::RollbackIsFound, format!("{id} reports, of equal logs: {said}"));
        }
        self.rollback.told.extend([(id, peer), (peer, id)]);
    }

    /// Whether member `id` remembers a life of `of` that its life `boot` cannot follow.
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

    /// What the running members have failed to report, or to act upon. `running` must list all of them.
    pub fn not_told(&self, running: &[u16]) -> Option<String> {
        for (at, a) in running.iter().enumerate() {
            for b in &running[at + 1..] {
                if let Some(first) = self.part(*a, *b).filter(|_| !self.rollback.told.contains(&(*a, *b))) {
                    return Some(format!(
                        "the logs of {a} and {b} differ at {first}, and neither node reports it"
                    ));
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
