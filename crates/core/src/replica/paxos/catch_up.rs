//! The repair of gaps: asking for chosen values that are not known here, and answering such questions.
//!
//! This module owns the pace of both. A node waits for a gap to close by itself, by rank, before it asks. It stays
//! silent when it overhears the same question. The leader answers first, and no node repeats an instance within one
//! timeout. This module decides nothing about the log.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::parts::MENDING;
use crate::past::Past;
use crate::replica::limits::{Bound, Bounds, Limits, Reached};
use crate::replica::outbox::{LookupPurpose, Outbox};
use crate::replica::state_machine::learned_log::LearnedLog;
use crate::types::{Instance, Micros};
use crate::wire::Message;

/// How long a gap may close by itself, and how long each rank waits after that.
const PATIENCE: Micros = Micros::from_millis(15);
const RANK_STEP: Micros = Micros::from_millis(2);
/// How soon to ask again after an answer that helped.
const ASK_ON: Micros = Micros::from_millis(4);
const RETRY_MIN: Micros = Micros::from_millis(50);
const RETRY_MAX: Micros = Micros::from_millis(400);
/// While parts of long answers still arrive, a question is not repeated: how long it may wait for that in all.
const MENDING_MOST: Micros = Micros::from_millis(4_000);
/// How many instances a question asks for at most after one without an answer. Each further one asks for a quarter.
const AFTER_VAIN: u64 = 16;
/// How long each rank waits for the one before it to answer.
const ANSWER_STEP: Micros = Micros::from_millis(10);
/// One timeout: no instance is sent twice within it.
const TOLD_LATELY: Micros = Micros::from_millis(40);

/// This node's open question, and the questions that it has to answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CatchUp {
    bounds: Bounds,
    ask_at: Option<Micros>,
    retry_after: Micros,
    learned: Instance,
    has_asked: bool,
    /// How many instances the next question asks for.
    window: u64,
    /// The learned prefix at the time of the last question, and that time.
    asked_at: Instance,
    last_asked: Micros,
    owed: BTreeMap<Instance, (Micros, Instance)>,
    told: BTreeMap<Instance, Micros>,
}

impl CatchUp {
    /// A repair without questions.
    pub fn new(limits: Limits) -> CatchUp {
        CatchUp {
            bounds: limits.into(),
            ask_at: None,
            retry_after: RETRY_MIN,
            learned: Instance(0),
            has_asked: false,
            window: u64::MAX,
            asked_at: Instance(0),
            last_asked: Micros(0),
            owed: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Returns the bounds that were reached so far.
    pub fn reached(&self) -> Reached {
        self.bounds.reached()
    }

    /// Asks for the chosen instances up to `target` that are not learned, when it is time.
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
        self.last_asked = now;
        // Asks for twice the number that arrived since the last question, so that the answering nodes do not repeat
        // what a lossy or slow network cannot carry. A node without progress asks for less and less, since less
        // arrives sooner.
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

    /// Parts of long datagrams are arriving late, one after the other. The answer may be among them.
    pub fn on_mending(&mut self, now: Micros) {
        if self.has_asked && now.since(self.last_asked) < MENDING_MOST {
            self.ask_at = self.ask_at.max(Some(now + MENDING));
        }
    }

    /// Records that another node asks. This node need not, if that question covers its own gap.
    pub fn on_overheard(&mut self, first: Instance, last: Instance, learned: Instance, now: Micros) {
        if first <= learned.next() && learned < last && self.ask_at.is_some() {
            self.ask_at = self.ask_at.max(Some(now + RETRY_MIN));
        }
    }

    /// Records a question. This node owes the answer once the `rank` nodes before it have had time to answer. Two
    /// questions with the same first instance share the longer answer.
    pub fn schedule_reply(&mut self, first: Instance, last: Instance, rank: usize, now: Micros) {
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

    /// Answers at once a node that has not heard that its instances are chosen, as far as they are learned here.
    pub fn owe_learned(&mut self, first: Instance, last: Instance, learned: Instance, now: Micros) {
        if first <= learned {
            self.schedule_reply(first, last.min(learned), 0, now);
        }
    }

    /// Records that a node sent the chosen value of an instance.
    pub fn on_told(&mut self, instance: Instance, now: Micros) {
        if self.told.len() < self.bounds.repair_instances as usize * 2 {
            self.told.insert(instance, now);
        }
        self.owed.remove(&instance);
    }

    /// Sends the answers that are due.
    pub fn answer(&mut self, history: &LearnedLog, now: Micros, out: &mut Outbox) {
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

    /// The time of the next question or answer.
    pub fn deadline(&self) -> Option<Micros> {
        self.owed.values().map(|(at, _)| *at).chain(self.ask_at).min()
    }

    /// Sends the values that a lookup found in the history files.
    pub fn tell_past(&mut self, past: Vec<Past>, now: Micros, out: &mut Outbox) {
        for Past { instance, value, .. } in past {
            if let Entry::Vacant(untold) = self.told.entry(instance) {
                untold.insert(now);
                out.send(Message::Written { instance, value });
            }
        }
    }

    /// Sends one answer. Returns its size in bytes, counting a lookup as a full answer.
    fn tell(
        &mut self,
        first: Instance,
        last: Instance,
        history: &LearnedLog,
        now: Micros,
        out: &mut Outbox,
    ) -> usize {
        let untold = (first.0..=last.0).map(Instance).find(|instance| !self.told.contains_key(instance));
        if let Some(first) = untold.filter(|first| history.is_forgotten(*first)) {
            out.look_up(first, last, LookupPurpose::Repair);
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
        let mut repair = CatchUp::new(Limits::USUAL);
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
