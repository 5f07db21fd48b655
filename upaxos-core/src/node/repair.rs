//! Gaps: asking for what is chosen and not known here, and telling those who ask.
//!
//! Owns the pace of both. Asking waits for the answer to come by itself, by rank, and is silent when
//! the same question is overheard; answering comes from the leader first, and never repeats an
//! instance within one timeout. It decides nothing about the log.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::history::History;
use super::limits::{Bound, Bounds, Limits, Reached};
use super::outbox::{Outbox, Why};
use crate::store::Past;
use crate::types::{Instance, Micros};
use crate::wire::Message;

/// How long a gap may close by itself, and each rank's wait after that.
const PATIENCE: Micros = Micros::from_millis(15);
const RANK_STEP: Micros = Micros::from_millis(2);
/// How soon to ask on after an answer that helped.
const ASK_ON: Micros = Micros::from_millis(4);
const RETRY_MIN: Micros = Micros::from_millis(50);
const RETRY_MAX: Micros = Micros::from_millis(400);
/// About how many instances is asked at most after a question in vain; after each further one, about a quarter.
const AFTER_VAIN: u64 = 16;
/// How long each rank waits for the one before it to answer.
const ANSWER_STEP: Micros = Micros::from_millis(10);
/// One timeout: an instance is not told twice within it.
const TOLD_LATELY: Micros = Micros::from_millis(40);

/// What this node asks for, and what it has been asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repair {
    bounds: Bounds,
    ask_at: Option<Micros>,
    retry_after: Micros,
    learned: Instance,
    has_asked: bool,
    /// About how many instances it asks.
    window: u64,
    /// What it had learned when it asked last.
    asked_at: Instance,
    owed: BTreeMap<Instance, (Micros, Instance)>,
    told: BTreeMap<Instance, Micros>,
}

impl Repair {
    /// Nothing asked.
    pub fn new(limits: Limits) -> Repair {
        Repair {
            bounds: limits.into(),
            ask_at: None,
            retry_after: RETRY_MIN,
            learned: Instance(0),
            has_asked: false,
            window: u64::MAX,
            asked_at: Instance(0),
            owed: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Which of its bounds were reached.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Asks for what is chosen up to `target` and not learned, when it is time.
    pub fn ask(&mut self, learned: Instance, target: Instance, rank: usize, now: Micros, out: &mut Outbox) {
        if target <= learned {
            self.learned = learned;
            self.ask_at = None;
            self.retry_after = RETRY_MIN;
            self.window = u64::MAX;
            self.has_asked = false;
            return;
        }
        let patience = PATIENCE + RANK_STEP * rank as u64;
        if learned > self.learned {
            self.learned = learned;
            self.retry_after = RETRY_MIN;
            self.ask_at = Some(now + if self.has_asked { ASK_ON } else { patience });
        }
        if now < *self.ask_at.get_or_insert(now + patience) {
            return;
        }
        // Twice what came since the last question, so that those who answer do not say again and again what a lossy or
        // slow network cannot carry. Whoever gets nowhere asks for less and less: that comes the sooner.
        if self.has_asked {
            let came = learned.0 - self.asked_at.0;
            self.window = if came > 0 { came * 2 } else { (self.window / 4).clamp(1, AFTER_VAIN) };
        }
        self.asked_at = learned;
        let last = learned.0 + self.window.min(self.bounds.repair_instances);
        self.bounds.is_over(Bound::RepairInstances, target.0 > last);
        let last = Instance(target.0.min(last));
        out.send(Message::Gap { first: learned.next(), last });
        self.has_asked = true;
        self.ask_at = Some(now + self.retry_after);
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
    }

    /// Somebody else asks: this node need not, if that covers its own gap.
    pub fn on_overheard(&mut self, first: Instance, last: Instance, learned: Instance, now: Micros) {
        if first <= learned.next() && learned < last && self.ask_at.is_some() {
            self.ask_at = self.ask_at.max(Some(now + RETRY_MIN));
        }
    }

    /// Somebody asks: this node owes the answer after `rank` others have had their time. Who asks for more from the
    /// same instance on is answered with who asked for less.
    pub fn owe(&mut self, first: Instance, last: Instance, rank: usize, now: Micros) {
        let due = now + ANSWER_STEP * rank as u64;
        let has_room = self.owed.len() < self.bounds.repair_owed;
        match self.owed.entry(first) {
            Entry::Occupied(mut owed) => {
                let (at, until) = *owed.get();
                owed.insert((at.min(due), until.max(last)));
            }
            Entry::Vacant(owed) if has_room => {
                owed.insert((due, last));
            }
            Entry::Vacant(_) => self.bounds.reach(Bound::RepairOwed),
        }
    }

    /// Somebody has not heard that what it asks about is chosen, as far as it is: it is told at once.
    pub fn owe_learned(&mut self, first: Instance, last: Instance, learned: Instance, now: Micros) {
        if first <= learned {
            self.owe(first, last.min(learned), 0, now);
        }
    }

    /// Somebody tells what is chosen at an instance.
    pub fn on_told(&mut self, instance: Instance, now: Micros) {
        if self.told.len() < self.bounds.repair_instances as usize * 2 {
            self.told.insert(instance, now);
        }
        self.owed.remove(&instance);
    }

    /// Tells what it owes.
    pub fn answer(&mut self, history: &History, now: Micros, out: &mut Outbox) {
        if self.told.is_empty() && self.owed.is_empty() {
            return;
        }
        self.told.retain(|_, at| now.since(*at) < TOLD_LATELY);
        let due: Vec<_> =
            self.owed.iter().filter(|(_, (at, _))| now >= *at).map(|(f, (_, l))| (*f, *l)).collect();
        let mut bytes = 0;
        for (first, last) in due {
            if self.bounds.is_over(Bound::RepairBytes, bytes > self.bounds.repair_bytes) {
                return;
            }
            self.owed.remove(&first);
            bytes += self.tell(first, last, history, now, out);
        }
    }

    /// When the next question or answer is due.
    pub fn deadline(&self) -> Option<Micros> {
        self.owed.values().map(|(at, _)| *at).chain(self.ask_at).min()
    }

    /// Tells what was found in the history.
    pub fn tell_past(&mut self, past: Vec<Past>, now: Micros, out: &mut Outbox) {
        for Past { instance, value, .. } in past {
            if let Entry::Vacant(untold) = self.told.entry(instance) {
                untold.insert(now);
                out.send(Message::Written { instance, value });
            }
        }
    }

    /// Says how many bytes it told, or asked for.
    fn tell(
        &mut self,
        first: Instance,
        last: Instance,
        history: &History,
        now: Micros,
        out: &mut Outbox,
    ) -> usize {
        let untold = (first.0..=last.0).map(Instance).find(|instance| !self.told.contains_key(instance));
        if let Some(first) = untold.filter(|first| history.is_forgotten(*first)) {
            out.look_up(first, last, Why::Repair);
            return self.bounds.repair_bytes;
        }
        let mut bytes = 0;
        for instance in (first.0..=last.0).map(Instance) {
            if self.bounds.is_over(Bound::RepairBytes, bytes > self.bounds.repair_bytes) {
                break;
            }
            let Some(value) = history.value(instance) else { break };
            if let Entry::Vacant(untold) = self.told.entry(instance) {
                bytes += value.as_bytes().len() + 8;
                untold.insert(now);
                out.send(Message::Written { instance, value: value.clone() });
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;
    use crate::wire::Line;

    #[test]
    fn whoever_could_not_take_in_an_answer_asks_for_twice_what_came() {
        let mut repair = Repair::new(Limits::USUAL);
        let mut now = Micros(0);
        let mut ask = |learned: u64, wait: Micros| {
            let mut out = Outbox::new(NodeId(0));
            repair.ask(Instance(learned), Instance(100_000), 0, now, &mut out);
            now = now + wait;
            repair.ask(Instance(learned), Instance(100_000), 0, now, &mut out);
            let asked = out.early.iter().find_map(|line| match line {
                Line::Node(_, Message::Gap { first, last }) => Some((first.0, last.0)),
                _ => None,
            });
            asked.expect("it asks")
        };
        assert_eq!(ask(0, PATIENCE), (1, Limits::USUAL.repair_instances));
        assert_eq!(ask(3, ASK_ON), (4, 9), "three came");
        assert_eq!(ask(9, ASK_ON), (10, 21), "all came");
        assert_eq!(ask(9, RETRY_MIN), (10, 12), "nothing came");
        assert_eq!(ask(9, RETRY_MAX), (10, 10));
        assert_eq!(ask(10, ASK_ON), (11, 12));
    }
}
