//! The checkers of a run that is not simulated: of its recorded wire, and of its logs at the end.
//!
//! Two things cannot be seen in such a run and are not checked: when a record became durable, and in which life a
//! line was sent. What a log reads follows here from the definition, not from the node's code.

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::entry::Entry;
use upaxos_core::types::{Epoch, Instance, NodeId, Tag, Value};
use upaxos_core::wire::{Dialect, Line, Message};

use super::{Checkers, Rule};

impl Checkers {
    /// A recorded line of node `id`, in the order of sending.
    pub fn on_overheard(&mut self, id: u16, line: &Line) {
        let Line::Node(from, message) = line else { return };
        if from.0 != id {
            return self.fail(Rule::OwnBallot, format!("{id} speaks for {from}: {line}"));
        }
        let asks = match message {
            Message::Write { instance, ballot, value } => {
                self.on_value(*instance, *ballot, value);
                Some(*ballot)
            }
            Message::Propose { ballot, .. } | Message::ProposeAll { ballot, .. } => Some(*ballot),
            _ => None,
        };
        if asks.is_some_and(|ballot| self.numbering.owner(ballot) != NodeId(id)) {
            self.fail(Rule::OwnBallot, format!("{id} says {line}"));
        }
        match message {
            Message::Promise { instance, ballot, accepted } => {
                if let Some((at, value)) = accepted {
                    self.on_value(*instance, *at, value);
                }
                self.must_not_regress(id, *instance, *ballot, line);
            }
            Message::Accept { instance, ballot, value } => {
                self.on_value(*instance, *ballot, value);
                self.must_not_regress(id, *instance, *ballot, line);
            }
            Message::PromiseNone { first, ballot, .. } | Message::Accepts { first, ballot, .. } => {
                self.must_not_regress(id, *first, *ballot, line);
            }
            _ => {}
        }
    }

    /// The values that node `id` has learned, as its final log has them, without a gap from instance 1 on. Each
    /// instance must read the same at every node.
    pub fn on_log(&mut self, id: u16, log: &BTreeMap<Instance, Value>) {
        let last = log.last_key_value().map_or(0, |(instance, _)| instance.0);
        if last != log.len() as u64 {
            let hole = (1..).map(Instance).find(|instance| !log.contains_key(instance)).unwrap_or_default();
            let got = format!("{id} has learned up to {last}, and its log lacks instance {hole}");
            self.fail(Rule::RecoversWhole, got);
        }
        let first = self.groups.first();
        for (instance, reads) in reads(log, &first, self.dialect) {
            self.on_reads(id, instance, &reads);
        }
        for (instance, value) in log {
            match self.chosen.get(instance) {
                Some(known) if known == value => {}
                Some(known) => {
                    let got = format!("instance {instance} is {value:?} at {id}, and {known:?} elsewhere");
                    self.fail(Rule::Agreement, got);
                }
                None => {
                    self.chosen.insert(*instance, value.clone());
                    self.calls.on_chosen(*instance, Entry::decode(*instance, value, self.dialect));
                    if *instance == self.groups.next
                        && let Err((rule, got)) = self.groups.decide(value, self.dialect)
                    {
                        self.fail(rule, got);
                    }
                }
            }
        }
    }

    /// Called once all logs and all clients' requests are known: each entry of a log was requested.
    pub fn judge_wishes(&mut self) {
        let unwanted = self.chosen.iter().find(|(instance, value)| {
            let entry = Entry::decode(**instance, value, self.dialect);
            !self.is_wanted(&entry)
        });
        if let Some((instance, value)) = unwanted {
            self.fail(Rule::Validity, format!("no client requested {value:?}, chosen at {instance}"));
        }
    }
}

/// The value that each instance of a log reads. A request has no effect if it was chosen before, or if it was made
/// for another instance or another epoch.
fn reads(
    log: &BTreeMap<Instance, Value>,
    first: &BTreeSet<NodeId>,
    dialect: Dialect,
) -> BTreeMap<Instance, Value> {
    let mut done: BTreeMap<Tag, Instance> = BTreeMap::new();
    let mut floors: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut epoch, mut members, mut ever) = (Epoch(0), first.clone(), first.clone());
    let mut read = |(instance, value): (&Instance, &Value)| {
        let entry = Entry::decode(*instance, value, dialect);
        let void = || Value::from("void");
        if matches!(&entry, Entry::Read { instance: made_for, .. } if made_for != instance) {
            return void();
        }
        if let Some(tagged) = entry.tagged() {
            let floor = floors.entry(tagged.tag.client).or_default();
            let is_settled = tagged.tag.seq < *floor;
            *floor = tagged.floor.max(*floor);
            if is_settled {
                return void();
            }
            if let Some(original) = done.get(&tagged.tag) {
                return Value::from(format!("duplicate of {original}").as_str());
            }
            done.insert(tagged.tag, *instance);
        }
        if let Entry::Group(_, new) = &entry {
            let mut comes = new.members.keys().filter(|id| !members.contains(id));
            if new.base != epoch || comes.any(|id| ever.contains(id)) {
                return void();
            }
            (epoch, members) = (Epoch(instance.0), new.members.keys().copied().collect());
            ever.extend(&members);
        }
        entry.reads()
    };
    log.iter().map(|entry| (*entry.0, read(entry))).collect()
}

#[cfg(test)]
mod tests {
    use upaxos_core::types::Tagged;
    use upaxos_core::wire;

    use super::*;

    fn overheard(lines: &[(u16, &str)]) -> Option<Rule> {
        let mut checkers = Checkers::new(3, 1, Dialect::Extended, upaxos_core::replica::Limits::USUAL);
        for (id, text) in lines {
            checkers.on_overheard(*id, &wire::parse_line(text.as_bytes(), Dialect::Extended).unwrap());
        }
        checkers.violation().map(|violation| violation.rule)
    }

    #[test]
    fn two_values_in_a_ballot_are_heard_on_the_wire() {
        let written = (2, "2 Write 1 2 one");
        assert_eq!(overheard(&[written, (0, "0 Accept 1 2 one")]), None);
        assert_eq!(overheard(&[written, (0, "0 Accept 1 2 two")]), Some(Rule::OneValuePerBallot));
        assert_eq!(overheard(&[written, (1, "1 Promise 1 65537 2 two")]), Some(Rule::OneValuePerBallot));
    }

    #[test]
    fn a_vote_below_one_before_is_heard_on_the_wire() {
        assert_eq!(overheard(&[(0, "0 PromiseNone 1 * 2 0"), (0, "0 Accepts 1 4 65538")]), None);
        let regress = [(0, "0 PromiseNone 1 * 65538 0"), (1, "1 Accepts 1 4 2"), (0, "0 Accepts 1 4 2")];
        assert_eq!(overheard(&regress), Some(Rule::PromisesNeverRegress));
    }

    #[test]
    fn who_speaks_for_another_is_heard_on_the_wire() {
        assert_eq!(overheard(&[(1, "2 Beat 3 77 2 9 - 4 waits -")]), Some(Rule::OwnBallot));
        assert_eq!(overheard(&[(1, "1 Write 1 2 one")]), Some(Rule::OwnBallot));
    }

    fn tagged(seq: u64, floor: u64, value: &str) -> Value {
        let tagged = Tagged { tag: Tag { client: 7, seq }, floor };
        Entry::Tagged(tagged, value.into()).encode(Dialect::Extended)
    }

    fn log(values: &[Value]) -> BTreeMap<Instance, Value> {
        (1..).map(Instance).zip(values.iter().cloned()).collect()
    }

    #[test]
    fn what_happened_before_or_elsewhere_reads_as_void() {
        let values = [
            tagged(1, 1, "a"),
            tagged(1, 1, "a"),
            Value::from("@read 9 safe read a"),
            tagged(3, 3, "c"),
            tagged(1, 1, "a"),
            Value::from("@group 0 0:70,1:71,3:73"),
            Value::from("@group 0 0:70,1:71"),
            Value::from("@group 6 0:70,1:71,2:72"),
        ];
        let first = (0..3).map(NodeId).collect();
        let reads: Vec<_> = reads(&log(&values), &first, Dialect::Extended).into_values().collect();
        let words = ["a", "duplicate of 1", "void", "c", "void", "group 0,1,3", "void", "void"];
        assert_eq!(reads, words.map(Value::from));
    }

    #[test]
    fn logs_that_differ_or_lack_something_are_found() {
        let mut checkers = Checkers::new(3, 0, Dialect::Extended, upaxos_core::replica::Limits::USUAL);
        checkers.on_log(0, &log(&["a".into(), "b".into()]));
        checkers.on_log(1, &log(&["a".into()]));
        assert_eq!(checkers.violation(), None, "one may be behind");
        checkers.on_log(2, &log(&["a".into(), "c".into()]));
        assert_eq!(checkers.violation().unwrap().rule, Rule::Agreement);
        let mut checkers = Checkers::new(3, 0, Dialect::Extended, upaxos_core::replica::Limits::USUAL);
        checkers.on_log(0, &BTreeMap::from([(Instance(2), Value::from("b"))]));
        assert_eq!(checkers.violation().unwrap().rule, Rule::RecoversWhole);
    }
}
