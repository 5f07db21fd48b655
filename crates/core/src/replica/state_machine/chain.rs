//! The digest of the learned prefix: one number per instance, which covers every value up to there.
//!
//! This module owns the chain. Each link is a hash of the link before, the instance, and the exact bytes of the
//! value learned there. Two nodes with the same link at an instance have learned the same values everywhere below.
//! This module compares nothing; `divergence` does that.
//!
//! The last links are held in memory. Of the older ones, only marks at regular distances are kept, in checkpoints
//! too. The distance grows with the log, so that neither memory nor start-up time does. Links between marks are
//! recomputed from the history files on demand, a piece at a time. The same holds for the whole chain of a log
//! whose checkpoint has none.
//!
//! The hash is XXH3 with 128 bits, not BLAKE3. The chain detects accidents (a rolled-back disk, damaged memory); an
//! attacker who can forge a value can forge a line, too. At 16 bytes, XXH3 costs a tenth of BLAKE3.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Included};

use xxhash_rust::xxh3::xxh3_128;

use crate::past::Past;
use crate::record::Record;
use crate::types::{Instance, Value};

/// How many of the last links are held: more than a group learns between two heartbeats.
const RECENT: usize = 1 << 15;

/// The first distance between marks, and how many marks there may be before every second one is dropped.
const SPACING: u64 = 1 << 10;
const MAX_MARKS: usize = 256;

/// How many recomputed links are held.
const MAX_FOUND: usize = 256;

/// How many lookups in the history files may follow each other before other work has its turn.
const LOOKUPS: u8 = 16;

/// The links of the learned prefix, and a recomputation in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The instance before the first of `recent`, and its link.
    base: (Instance, u128),
    recent: VecDeque<u128>,
    marks: BTreeMap<Instance, u128>,
    spacing: u64,
    /// The recomputed links.
    found: BTreeMap<Instance, u128>,
    dig: Option<Dig>,
    /// How many lookups are left in this turn.
    lookups: u8,
}

/// The recomputation of a past link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Dig {
    at: Instance,
    link: u128,
    target: Instance,
}

/// The link that follows `before` when `value` is learned at `instance`.
pub fn link(before: u128, instance: Instance, value: &Value) -> u128 {
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&before.to_be_bytes());
    bytes[16..24].copy_from_slice(&instance.0.to_be_bytes());
    bytes[24..].copy_from_slice(&xxh3_128(value.as_bytes()).to_be_bytes());
    xxh3_128(&bytes)
}

impl Default for Chain {
    /// A chain without links.
    fn default() -> Chain {
        Chain {
            base: (Instance(0), 0),
            recent: VecDeque::new(),
            marks: BTreeMap::new(),
            spacing: SPACING,
            found: BTreeMap::new(),
            dig: None,
            lookups: LOOKUPS,
        }
    }
}

impl Chain {
    /// The last instance of the chain. It is the learned prefix, unless the log's checkpoint had no chain.
    pub fn through(&self) -> Instance {
        Instance(self.base.0.0 + self.recent.len() as u64)
    }

    fn last(&self) -> u128 {
        self.recent.back().copied().unwrap_or(self.base.1)
    }

    /// Appends the value of an instance, if it is the next one.
    pub fn learn(&mut self, instance: Instance, value: &Value) {
        if instance != self.through().next() {
            return;
        }
        let link = link(self.last(), instance, value);
        if self.recent.len() == RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.base = (self.base.0.next(), oldest);
        }
        self.recent.push_back(link);
        if instance.0.is_multiple_of(self.spacing) {
            self.mark(instance, link);
        }
    }

    fn mark(&mut self, instance: Instance, link: u128) {
        self.marks.insert(instance, link);
        while self.marks.len() > MAX_MARKS {
            self.spacing *= 2;
            let spacing = self.spacing;
            self.marks.retain(|at, _| at.0.is_multiple_of(spacing));
        }
    }

    /// The link at an instance, if it is in memory.
    pub fn digest_at(&self, instance: Instance) -> Option<u128> {
        let (base, link) = self.base;
        if instance > base {
            return self.recent.get((instance.0 - base.0 - 1) as usize).copied();
        }
        if instance == base {
            return Some(link);
        }
        self.known_at_or_below(instance).filter(|(at, _)| *at == instance).map(|(_, link)| link)
    }

    /// The last known link at or before an instance.
    fn known_at_or_below(&self, instance: Instance) -> Option<(Instance, u128)> {
        let last = |links: &BTreeMap<Instance, u128>| {
            links.range(..=instance).next_back().map(|(at, link)| (*at, *link))
        };
        let base = Some(self.base).filter(|(at, _)| *at <= instance);
        [Some((Instance(0), 0)), last(&self.marks), last(&self.found), base].into_iter().flatten().max()
    }

    /// Starts to recompute a past link, unless another recomputation is in progress.
    pub fn dig(&mut self, target: Instance) {
        if self.dig.is_none()
            && target <= self.through()
            && let Some((at, link)) = self.known_at_or_below(target).filter(|(at, _)| *at < target)
        {
            self.dig = Some(Dig { at, link, target });
        }
    }

    /// Whether a link is being recomputed.
    pub fn digs(&self) -> bool {
        self.dig.is_some()
    }

    /// Starts another turn, which again allows a number of lookups in a row.
    pub fn begin_turn(&mut self) {
        self.lookups = LOOKUPS;
    }

    /// The range of values that this chain needs next, of those learned up to `learned`.
    pub fn needs(&mut self, learned: Instance) -> Option<(Instance, Instance)> {
        let needed = match &self.dig {
            Some(dig) => (dig.at.next(), dig.target),
            None => (self.through().next(), learned),
        };
        self.lookups = self.lookups.checked_sub(u8::from(needed.0 <= needed.1))?;
        Some(needed).filter(|(first, last)| first <= last)
    }

    /// Takes past values, in order.
    pub fn take(&mut self, past: &[Past]) {
        for Past { instance, value, .. } in past {
            match &mut self.dig {
                Some(dig) if *instance == dig.at.next() => {
                    (dig.link, dig.at) = (link(dig.link, *instance, value), *instance);
                    if dig.at == dig.target {
                        let (at, link) = (dig.at, dig.link);
                        self.dig = None;
                        if self.found.len() >= MAX_FOUND {
                            self.found.clear();
                        }
                        self.found.insert(at, link);
                    }
                }
                _ => self.learn(*instance, value),
            }
        }
    }

    /// The records that rebuild this chain: the marks, and the last link. An incomplete chain has none.
    pub fn checkpoint(&self, learned: Instance) -> impl Iterator<Item = Record> + use<'_> {
        let record = |(instance, digest): (Instance, u128)| Record::Chain { instance, digest };
        let is_whole = self.through() == learned && learned.0 > 0;
        let last = is_whole.then(|| (learned, self.last()));
        let marks =
            self.marks.range((Excluded(Instance(0)), Included(learned))).map(|(at, link)| (*at, *link));
        marks.filter(move |(at, _)| is_whole && *at < learned).chain(last).map(record)
    }

    /// Restores one record of a checkpoint with prefix `learned`.
    pub fn recover(&mut self, record: &Record, learned: Instance) {
        let Record::Chain { instance, digest } = record else { return };
        if *instance == learned {
            self.base = (learned, *digest);
        }
        self.mark(*instance, *digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(instance: u64) -> Value {
        Value::from(format!("value {instance}").as_str())
    }

    fn learned(last: u64) -> Chain {
        let mut chain = Chain::default();
        (1..=last).for_each(|at| chain.learn(Instance(at), &value(at)));
        chain
    }

    /// Supplies the values that the chain needs, as a node does.
    fn supply(chain: &mut Chain, through: u64) {
        for _ in 0..100 {
            chain.begin_turn();
            while let Some((first, last)) = chain.needs(Instance(through)) {
                let past = (first.0..=last.0.min(first.0 + 999)).map(|at| Past {
                    instance: Instance(at),
                    value: value(at),
                    void: None,
                });
                chain.take(&past.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_link_tells_of_the_value_the_instance_and_all_before() {
        let (a, b) = (Value::from("a"), Value::from("b"));
        let one = link(0, Instance(1), &a);
        assert_ne!(one, link(0, Instance(1), &b));
        assert_ne!(one, link(0, Instance(2), &a));
        assert_ne!(one, link(1, Instance(1), &a));
    }

    #[test]
    fn any_link_of_the_past_can_be_had_again_also_after_a_restart_and_the_marks_are_bounded() {
        let last = 3 * SPACING * MAX_MARKS as u64 + 17;
        let whole = learned(last);
        assert!(whole.marks.len() <= MAX_MARKS);
        let records: Vec<Record> = whole.checkpoint(Instance(last)).collect();
        let mut again = Chain::default();
        records.iter().for_each(|record| again.recover(record, Instance(last)));
        assert_eq!(again.digest_at(Instance(last)), whole.digest_at(Instance(last)));
        for at in [1, 2, SPACING - 1, SPACING, last / 3, last / 3 + 1, last - 1] {
            again.dig(Instance(at));
            supply(&mut again, last);
            assert_eq!(again.digest_at(Instance(at)), learned(at).digest_at(Instance(at)), "{at}");
        }
        assert!(again.digest_at(Instance(last + 1)).is_none());
    }

    #[test]
    fn a_log_whose_checkpoint_says_nothing_of_the_chain_computes_it_from_its_history() {
        let mut chain = Chain::default();
        chain.learn(Instance(5_001), &value(5_001));
        assert!(chain.digest_at(Instance(5_001)).is_none(), "what was before is not known yet");
        supply(&mut chain, 5_001);
        assert_eq!(chain.digest_at(Instance(5_001)), learned(5_001).digest_at(Instance(5_001)));
    }
}
