//! The steps that follow each input: instances are learned in order, and requests are proposed.
//!
//! This module owns the order of these steps, and of the others that involve several parts: candidacies, heartbeats,
//! changes of the group and fast reads, in the files beside it. The node calls it after every line and every sync.

mod candidacy;
mod changes;
mod reads;

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::replica::clients::queue::Proposal;
use crate::replica::clients::replies::Replies;
use crate::replica::outbox::{Event, EventLevel, Outbox};
use crate::replica::paxos::digest_writes::Written;
use crate::replica::state_machine::learned_log::Learned;
use crate::replica::state_machine::script_hooks;
use crate::replica::state_machine::sessions::DedupStatus;
use crate::replica::{Replica, classic::Wrote};
use crate::types::{Ballot, Instance, Micros, Tag, Value};
use crate::wire::Message;

impl Replica {
    /// Learns what can be learned, ends phase 1 if possible, answers reads, and proposes waiting requests.
    pub(in crate::replica) fn settle(&mut self, now: Micros, out: &mut Outbox) {
        self.is_deferred = false;
        let mut chosen: Vec<(Instance, Instance, Ballot)> = Vec::new();
        // A joiner learns nothing before it knows the first group. Work that scripts have no time for is left to
        // the next turn; votes do not wait for it.
        while self.n() > 0
            && !out.ends()
            && out.has_time()
            && let Some((instance, value)) = self.learner.next_learned()
        {
            // Learning the value may end the ballot, which chose it all the same.
            let ballot = self.leader.ballot();
            if self.on_learned(instance, value, now, out)
                && let Some(ballot) = ballot
            {
                // A range holds only values that this node wrote. Instances between may have been chosen in another
                // ballot.
                match chosen.last_mut() {
                    Some((_, last, same)) if last.next() == instance && *same == ballot => *last = instance,
                    _ => chosen.push((instance, instance, ballot)),
                }
            }
        }
        if out.ends() {
            return;
        }
        self.is_deferred = self.learner.has_next() && !out.has_time();
        for (first, last, ballot) in chosen {
            out.send(Message::Chosen { first, last, ballot });
        }
        let learned = self.learner.learned();
        if let Some(values) = self.leader.finish_phase_1(self.history.membership().promising(), learned) {
            out.events.extend(self.leader.ballot().map(Event::Leads));
            self.repropose(values, now, out);
        }
        if self.leader.fence().is_none() {
            let held = self.leader.take_held();
            self.repropose(held, now, out);
        }
        self.answer_reads(now, out);
        self.propose(now, out);
    }

    /// Writes the values that phase 1 found, each in its instance, except those learned since. Values above a
    /// change of the group wait until the change is learned: if it is valid, another group governs there.
    fn repropose(&mut self, values: Vec<(Instance, Value)>, now: Micros, out: &mut Outbox) {
        let mut values = values.into_iter();
        while let Some((found_at, value)) = values.next() {
            let Some(instance) = self.leader.next() else { return };
            if found_at < instance {
                continue;
            }
            assert_eq!(found_at, instance, "what phase 1 found has no holes");
            // The client of this very request now waits for this instance, so the request is not proposed twice. An
            // untagged request that this node did not see written here may be another one with the same words.
            let entry = Entry::decode(instance, &value, self.dialect);
            let is_same = !entry.is_untagged_read();
            let wanted = is_same
                .then(|| self.requests.take_done(&entry, instance))
                .flatten()
                .map(|(wanted, _)| wanted);
            self.propose_value(value, wanted, now, out);
            if let Entry::Group(tagged, _) = entry
                && !mutant::is(Mutant::FenceNotRecovered)
            {
                self.leader.set_fence(instance, tagged.map(|tagged| tagged.tag));
                return self.leader.hold(values.collect());
            }
        }
    }

    pub(in crate::replica) fn propose_value(
        &mut self,
        value: Value,
        wanted: Option<Proposal>,
        now: Micros,
        out: &mut Outbox,
    ) -> Instance {
        let instance = self.begin_write(value.clone(), wanted, now, out);
        self.broadcast_writes(&[(instance, value, None)], out);
        instance
    }

    /// Writes a value. The caller must send it to the other nodes.
    fn begin_write(
        &mut self,
        value: Value,
        wanted: Option<Proposal>,
        now: Micros,
        out: &mut Outbox,
    ) -> Instance {
        let instance = self.leader.propose(value.clone(), wanted, &mut self.acceptor, now, out);
        if let Some(ballot) = self.leader.ballot() {
            self.learner.on_write(self.history.group(), instance, ballot, &value);
        }
        instance
    }

    /// Proposes waiting requests as far as there is room, and announces all of them together.
    fn propose(&mut self, now: Micros, out: &mut Outbox) {
        let mut written = Vec::new();
        self.propose_all(&mut written, now, out);
        self.broadcast_writes(&written, out);
    }

    /// Sends the writes of this node's ballot to the other nodes.
    fn broadcast_writes(&self, written: &[Written], out: &mut Outbox) {
        if let Some(ballot) = self.leader.ballot() {
            self.naming.broadcast(written, ballot, out);
        }
    }

    fn propose_all(&mut self, written: &mut Vec<Written>, now: Micros, out: &mut Outbox) {
        while let Some(wanted) = self.requests.first().filter(|_| self.leader.is_leading()) {
            let learned = self.learner.learned();
            let Some(instance) = self.leader.free_instance(learned, wanted.len()) else { return };
            // A safe read returns the last value below its instance, so everything below must be learned.
            if wanted.is_read() && learned.next() != instance {
                return;
            }
            if !out.has_time() {
                self.is_deferred = true;
                return;
            }
            let is_kept = self.requests.others_have_first(now);
            let Some(wanted) = self.requests.pop() else { return };
            let is_retry = wanted.tagged().is_some() && self.leader.is_under_way(&wanted);
            let replies = Replies::new(self.context(now), &self.history);
            if self.requests.answer_instead(&wanted, instance, is_retry, replies, out) {
                continue;
            }
            let found = match wanted {
                Proposal::Change(_, change) => {
                    match self.changes.group_after(change, &self.group_view(now), &self.bounds) {
                        Ok(new) => {
                            self.propose_group(Some(wanted), new, now, out);
                            continue;
                        }
                        Err(reason) => Err(reason),
                    }
                }
                _ => self.entry_of(&wanted, instance, out),
            };
            let entry = match found {
                Ok(entry) => Some(entry),
                Err(reason) => self.refusal_of(&wanted, &reason, now, out),
            };
            if let Some(entry) = entry {
                // Only a value that stands in the client's own words can be named by its tag.
                let is_unchanged = wanted.unseen().is_some() && entry.written() == wanted.unseen();
                let tag = wanted.tagged().filter(|_| is_unchanged && is_kept).map(|tagged| tagged.tag);
                let value = entry.encode(self.dialect);
                self.begin_write(value.clone(), Some(wanted), now, out);
                written.push((instance, value, tag));
            }
        }
    }

    /// The entry to write at `instance` for a request. The scripts see a write, and compose the result of a read.
    fn entry_of(&self, wanted: &Proposal, instance: Instance, out: &Outbox) -> Result<Entry, String> {
        let hooks = out.hooks.as_deref();
        if wanted.is_read() {
            let value = script_hooks::safe_read(&self.history, wanted.question(), hooks)?;
            return Ok(wanted.entry(instance, || value));
        }
        let entry = wanted.entry(instance, || self.history.safe_read());
        match wanted.unseen() {
            Some(unseen) => script_hooks::on_request(entry, unseen, hooks),
            None => Ok(entry),
        }
    }

    /// The entry to write for a request that cannot be carried out. A refusal that is not logged is answered now,
    /// and nothing is written.
    fn refusal_of(
        &mut self,
        wanted: &Proposal,
        reason: &str,
        now: Micros,
        out: &mut Outbox,
    ) -> Option<Entry> {
        if matches!(wanted, Proposal::Change(..)) && !self.election.has_quorum(self.history.group(), now) {
            // Another node may lead by now, and decide differently.
            return None;
        }
        let logged = wanted.logged_refusal(reason);
        if logged.is_none() {
            self.reject(wanted, reason, now, out);
        }
        logged
    }

    /// Refuses the request, and tells the nodes that would pass it on.
    pub(in crate::replica) fn reject(
        &mut self,
        wanted: &Proposal,
        reason: &str,
        now: Micros,
        out: &mut Outbox,
    ) {
        if let Some(notice) = wanted.drop_notice() {
            out.send(notice);
        }
        self.refuse(Some(wanted), reason, now, out);
    }

    /// Learns the next instance of the prefix. True when this node wrote its value in the ballot that it runs.
    fn on_learned(&mut self, instance: Instance, value: Value, now: Micros, out: &mut Outbox) -> bool {
        if instance == Instance(1) && self.joins.is_some() {
            out.persist(Record::Genesis { n: self.n() });
        }
        out.persist(match self.acceptor.accepted(instance) {
            Some((ballot, accepted)) if *accepted == value => {
                Record::Chosen { first: instance, last: instance, ballot: *ballot }
            }
            _ => Record::Learn { instance, value: value.clone() },
        });
        let flight = self.leader.on_learned(instance, now);
        let is_own = flight.as_ref().is_some_and(|flight| flight.value == value);
        if let Some(tagged) = flight.as_ref().and_then(|flight| flight.wanted.as_ref()?.tagged())
            && !is_own
            && mutant::is(Mutant::OkForAnother)
        {
            let Tag { client, seq } = tagged.tag;
            out.send(Message::Done { first: instance, last: instance, client, seq });
        }
        let carries = flight.as_ref().is_some_and(|flight| is_own && flight.wanted.is_some());
        let words = self.classic.as_ref().map(|_| value.clone());
        let hooks = out.hooks.clone();
        let Learned { entry, verdict, failed } = self.history.learn(instance, value, hooks.as_deref());
        if script_hooks::report_failed(instance, failed, out) {
            return false;
        }
        if out.tells(EventLevel::Learned)
            && let Some(reads) = self.history.value_at(instance)
        {
            out.event(Event::Learned { instance, reads });
        }
        if let Some(wanted) = flight.and_then(|flight| flight.wanted)
            && (!is_own || verdict == DedupStatus::Misplaced)
        {
            // The instance went to another value, so the request still has to be carried out.
            self.requests.requeue(vec![(None, wanted)], now);
        }
        if let Some(value) = words {
            self.on_classic_learned(instance, (value, entry), now, out);
            return false;
        }
        // An untagged read that this node did not start may be older than the read that waits here, and so may its
        // result.
        let may_be_stale = entry.is_untagged_read() && !carries;
        let leads = self.leader.is_leading();
        if verdict != DedupStatus::Misplaced {
            // The same words may wait a second time. One instance carries out only one request.
            let is_kept = carries || (may_be_stale && leads);
            let waited = if is_kept { None } else { self.requests.take_done(&entry, instance) };
            if waited.is_none() && !carries && !leads {
                // The leader of that time has the request of this instance, if it waits here. Another request with
                // the same words has a leader of its own.
                self.requests.drop_same(&entry);
            }
            if is_own {
                self.replies(now).send_for(&entry, instance, verdict, out);
            } else if let Some((_, false)) = waited.filter(|_| !may_be_stale) {
                let replies = Replies::new(self.context(now), &self.history);
                self.requests.schedule_reply_for(&entry, instance, verdict, replies, out);
            }
        }
        if matches!(entry, Entry::Group(..)) && verdict == DedupStatus::New {
            self.on_new_group(instance, now, out);
        }
        is_own
    }

    /// Learns an instance of a classic group, where only the words tell which request it carries out. That request
    /// was heard before the round started in which the value was proposed. An older request was answered by another
    /// node, and to answer it again would be false. A node that only found the value answers no client.
    fn on_classic_learned(
        &mut self,
        instance: Instance,
        (value, entry): (Value, Entry),
        now: Micros,
        out: &mut Outbox,
    ) {
        let Some(classic) = &mut self.classic else { return };
        let since = match mutant::is(Mutant::AnswerWhatWasFound) {
            true => u64::MAX,
            false => classic.rounds.since(instance, &value),
        };
        classic.rounds.forget_through(instance);
        let wrote = classic.on_learned(instance, &value);
        if wrote.is_some() {
            out.send(Message::Written { instance, value: value.clone() });
        }
        let waited = self.requests.take_done_of(since, &entry);
        // Without marks, a client's value can look like a safe read.
        let waited = waited.or_else(|| self.requests.take_done_of(since, &Entry::Write(value)));
        match waited {
            Some(_) if wrote == Some(Wrote::Own) => {
                self.replies(now).send_for(&entry, instance, DedupStatus::New, out);
            }
            Some((_, false)) => {
                let replies = Replies::new(self.context(now), &self.history);
                self.requests.schedule_reply_for(&entry, instance, DedupStatus::New, replies, out);
            }
            _ => {}
        }
    }
}
