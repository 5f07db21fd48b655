//! The checkers of what members send: each line, when it is sent, against the sender's durable state.

use upaxos_core::digest_write::{Digest, NamedWrite, Names};
use upaxos_core::entry::Entry;
use upaxos_core::types::{Ballot, Epoch, Instance, NodeId, Value};
use upaxos_core::wire::{Beat, Line, Message};

use super::{Checkers, Rule};

impl Checkers {
    /// A member sends a line in its `life`.
    pub fn on_sent(&mut self, id: u16, life: u64, line: &Line) {
        let Line::Node(from, message) = line else { return };
        if from.0 != id {
            return self.fail(Rule::OwnBallot, format!("{id} speaks for {from}: {line}"));
        }
        match message {
            Message::ProposeAll { ballot, .. } => self.on_propose(id, life, Instance(0), *ballot, line),
            Message::Propose { instance, ballot } => self.on_propose(id, life, *instance, *ballot, line),
            Message::Write { instance, ballot, value } => {
                self.must_own_durably(id, *instance, *ballot, line);
                self.must_belong(id, *ballot, line);
                self.must_be_promised(*instance, *ballot, line);
                self.must_not_pass(id, *instance, *ballot, value);
                self.on_value(*instance, *ballot, value);
            }
            Message::WriteTags(NamedWrite { first, last, ballot, names }) => {
                self.must_own_durably(id, *first, *ballot, line);
                self.must_belong(id, *ballot, line);
                self.must_be_promised(*first, *ballot, line);
                self.on_names((*first, *last), *ballot, names, line);
            }
            Message::Promise { instance, ballot, accepted } => {
                self.on_promise(id, *instance, *ballot, accepted.as_ref(), line);
            }
            Message::PromiseNone { first, last, ballot, learned } => {
                self.on_promise_none(id, (*first, *last), *ballot, *learned, line);
            }
            Message::Accept { instance, ballot, value } => {
                self.on_value(*instance, *ballot, value);
                self.on_accepts(id, (*instance, *instance), *ballot, line);
            }
            Message::Accepts { first, last, ballot } => self.on_accepts(id, (*first, *last), *ballot, line),
            Message::Beat(Beat { ballot, learned, .. }) => {
                self.must_have_learned(id, *learned, line);
                ballot.inspect(|ballot| self.must_not_show_early(id, Instance(0), *ballot, line));
            }
            Message::Nack { instance, ballot } => self.must_not_show_early(id, *instance, *ballot, line),
            Message::Chosen { first, last, ballot } => self.must_be_chosen_in(id, *first, *last, *ballot),
            Message::Written { instance, value } => self.must_be_chosen(id, *instance, Some(value.clone())),
            Message::Ok { instance, value } | Message::Answer { instance, value, .. } => {
                self.must_be_chosen(id, *instance, None);
                if self.reads.get(instance) != Some(value) {
                    let reads = self.reads.get(instance);
                    self.fail(Rule::Agreement, format!("{id} says {line}, which reads {reads:?}"));
                }
            }
            Message::Mark { epoch, mark, .. } => self.on_mark(id, *epoch, *mark, line),
            Message::Value { instance, learned, value, .. } => {
                self.on_last_value(id, *instance, *learned, value, line);
            }
            Message::Done { first, last, .. } => {
                (first.0..=last.0).for_each(|i| self.must_be_chosen(id, Instance(i), None));
            }
            _ => {}
        }
    }

    /// The digests must name exactly the values that the leader itself accepted there, in the same step.
    fn on_names(&mut self, (first, last): (Instance, Instance), ballot: Ballot, names: &Names, line: &Line) {
        let written = (first.0..=last.0).map(|i| self.values.get(&(Instance(i), ballot)).cloned());
        let Some(written) = written.collect::<Option<Vec<Value>>>() else {
            return self
                .fail(Rule::OneValuePerBallot, format!("{line} names a value that was never written"));
        };
        let tags = written.iter().map(|value| Entry::decode(first, value, self.dialect).tagged());
        let is_named = tags.map(|tagged| tagged.map(|tagged| tagged.tag)).eq(names.tags().map(Some));
        if !is_named || Digest::of(written.iter()) != names.digest {
            self.fail(Rule::OneValuePerBallot, format!("{line} names other values than {written:?}"));
        }
        for (instance, value) in (first.0..).map(Instance).zip(&written) {
            self.must_not_pass(self.numbering.owner(ballot).0, instance, ballot, value);
        }
    }

    /// The owner of a ballot proposes it in one life only.
    fn on_propose(&mut self, id: u16, life: u64, instance: Instance, ballot: Ballot, line: &Line) {
        self.must_own_durably(id, instance, ballot, line);
        self.must_belong(id, ballot, line);
        let first = *self.proposed.entry((instance, ballot)).or_insert(life);
        if first != life {
            self.fail(Rule::OwnBallot, format!("{id} says {line} in life {life}, first in {first}"));
        }
    }

    fn on_promise(
        &mut self,
        id: u16,
        instance: Instance,
        ballot: Ballot,
        accepted: Option<&(Ballot, Value)>,
        line: &Line,
    ) {
        let last = self.disks[usize::from(id)].accepted_below(ballot, (instance, instance)).next_back();
        let last = last.map(|(_, accepted)| accepted);
        // A late proposal may be answered with a value that was written in its own ballot in the meantime.
        let is_own = accepted.is_some_and(|(at, _)| *at == ballot);
        if !is_own && last != accepted.map(|(at, value)| (*at, value)) {
            let got = format!("{id} says {line}, having accepted last {last:?}");
            self.fail(Rule::PromiseTellsAll, got);
        }
        self.on_vote(id, instance, ballot, line);
    }

    fn on_promise_none(
        &mut self,
        id: u16,
        (first, last): (Instance, Option<Instance>),
        ballot: Ballot,
        learned: Instance,
        line: &Line,
    ) {
        let last = last.unwrap_or(Instance(u64::MAX - 1));
        let hidden = self.disks[usize::from(id)].accepted_below(ballot, (first, last)).next();
        if let Some(hidden) = hidden {
            let got = format!("{id} says {line}, hiding {hidden:?}");
            self.fail(Rule::PromiseTellsAll, got);
        }
        self.must_have_learned(id, learned, line);
        self.on_vote(id, first, ballot, line);
    }

    fn on_accepts(&mut self, id: u16, (first, last): (Instance, Instance), ballot: Ballot, line: &Line) {
        for instance in (first.0..=last.0).map(Instance) {
            let voters = self.accepts.get(&(instance, ballot));
            if !voters.is_some_and(|voters| voters.contains(&id)) {
                self.fail(Rule::DurableBeforeSaid, format!("{id} says {line}, not durable at {instance}"));
            }
        }
        self.on_vote(id, first, ballot, line);
    }

    /// A read by a mark misses every vote above the mark: the mark must cover all that its sender accepted or
    /// learned.
    fn on_mark(&mut self, id: u16, epoch: Epoch, mark: Instance, line: &Line) {
        let disk = &self.disks[usize::from(id)];
        let accepted = disk.accepted.keys().rev().find(|(_, ballot)| ballot.epoch == epoch);
        let accepted = accepted.map(|(instance, _)| *instance).unwrap_or_default();
        if disk.is_lost {
            self.fail(Rule::LostDiskNeverVotes, format!("{id} says {line}"));
        } else if mark < accepted.max(disk.learned) {
            let got = format!("{id} says {line}, accepted {accepted}, learned {}", disk.learned);
            self.fail(Rule::MarkTellsAll, got);
        }
    }

    /// All up to `learned` is chosen, and the value is there. Whether it is the last one is checked at the end.
    fn on_last_value(&mut self, id: u16, instance: Instance, learned: Instance, value: &Value, line: &Line) {
        if learned > Instance(0) {
            self.must_be_chosen(id, learned, None);
        }
        let reads = self.reads.get(&instance);
        let nothing = (instance, value) == (Instance(0), &Value::from(""));
        if instance > learned || (reads != Some(value) && !nothing) {
            self.fail(Rule::Agreement, format!("{id} says {line}, where the log reads {reads:?}"));
        }
    }

    fn on_vote(&mut self, id: u16, instance: Instance, ballot: Ballot, line: &Line) {
        self.must_belong(id, ballot, line);
        let promised = self.disks[usize::from(id)].promised.get(&self.slot(instance)).copied();
        if promised < Some(ballot) && !self.is_lost(id) {
            self.fail(Rule::DurableBeforeSaid, format!("{id} says {line}, durably promised {promised:?}"));
        }
        self.must_not_regress(id, instance, ballot, line);
    }

    /// A vote, as far as the wire alone shows it.
    pub(super) fn must_not_regress(&mut self, id: u16, instance: Instance, ballot: Ballot, line: &Line) {
        let slot = self.slot(instance);
        let disk = &mut self.disks[usize::from(id)];
        let voted = disk.voted.get(&slot).copied();
        disk.voted.insert(slot, voted.map_or(ballot, |voted| voted.max(ballot)));
        if disk.is_lost {
            self.fail(Rule::LostDiskNeverVotes, format!("{id} says {line}"));
        } else if voted > Some(ballot) {
            self.fail(Rule::PromisesNeverRegress, format!("{id} says {line} after it voted in {voted:?}"));
        }
    }

    /// A ballot must be durable at its owner before any node shows it. A node that has lost its disk, or got an old
    /// copy of it back, may learn of a ballot of its own from its peers, as of any ballot. A forged ballot may be
    /// shown by any node.
    fn must_not_show_early(&mut self, id: u16, instance: Instance, ballot: Ballot, line: &Line) {
        let is_own = self.numbering.owner(ballot) == NodeId(id) && !self.forged.contains(&ballot);
        if is_own && !self.is_lost(id) && !self.is_rolled_back(id) {
            self.must_own_durably(id, instance, ballot, line);
        }
    }

    fn must_own_durably(&mut self, id: u16, instance: Instance, ballot: Ballot, line: &Line) {
        let promised = self.disks[usize::from(id)].promised.get(&self.slot(instance)).copied();
        if self.numbering.owner(ballot) != NodeId(id) || promised < Some(ballot) {
            self.fail(Rule::OwnBallot, format!("{id} says {line}, durably promised {promised:?}"));
        }
    }

    fn must_have_learned(&mut self, id: u16, learned: Instance, line: &Line) {
        let durable = self.disks[usize::from(id)].learned;
        if learned > durable {
            self.fail(Rule::DurableBeforeSaid, format!("{id} says {line}, durably learned {durable}"));
        }
    }
}
