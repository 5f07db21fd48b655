//! The clients' side: requests, answers, and their order.
//!
//! Histories are checked in linear time: each request stores the highest instance that was acknowledged to any
//! client when the request was first sent. The request must stand above that instance.

use std::collections::{BTreeMap, BTreeSet};

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::entry::{Entry, SAFE_READ};
use upaxos_core::types::{Instance, Tag, Value};

use super::Rule;

type Verdict = Result<(), (Rule, String)>;

/// A client's request under one tag.
#[derive(Debug)]
struct Call {
    /// The values that it writes: one, unless lines that were written by hand used the tag for several.
    values: Vec<Value>,
    /// Whether it reads.
    reads: bool,
    after: Instance,
    /// The highest instance that was chosen when it was first sent, answered or not.
    frontier: Instance,
    is_open: bool,
    /// The first instance at which it was chosen.
    chosen: Option<Instance>,
    done: Option<Instance>,
    /// The reason for which a node refused it.
    refused: Option<Value>,
}

impl Call {
    /// Whether it is a write and no read. (A read may be refused, and read again.)
    fn has_effect(&self) -> bool {
        !self.values.is_empty() && !self.reads
    }
}

fn done_though_refused(tag: Tag, at: Instance, reason: &Value) -> (Rule, String) {
    (Rule::RefusedIsFinal, format!("{tag:?} stands at {at}, and was reported as refused: {reason}"))
}

/// The answer to a fast read.
#[derive(Debug)]
struct FastRead {
    learned: Instance,
    instance: Instance,
    value: Value,
}

/// All requests of all clients, with their answers.
#[derive(Debug, Default)]
pub struct Calls {
    tagged: BTreeMap<Tag, Call>,
    /// Untagged writes, each with the highest acknowledged instance when it was first sent.
    untagged: BTreeMap<Value, Instance>,
    answers: BTreeMap<Instance, Value>,
    fast_reads: Vec<FastRead>,
    acknowledged: Instance,
    /// The decoded entry of each chosen instance.
    entries: BTreeMap<Instance, Entry>,
    /// The outcomes that clients derived from their answers.
    outcomes: Vec<(Option<Tag>, Ask, Outcome)>,
    may_refuse: bool,
    rewrites: bool,
    /// How many untagged writes of each value were answered, each to a client that had requested it.
    told: BTreeMap<Value, usize>,
    /// The requests that were reported to clients as refused, changes of the group included. `used_up` has the tags
    /// that the log marks as refused or as a change of the group.
    refused: BTreeMap<Tag, Value>,
    used_up: BTreeSet<Tag>,
}

/// The instances at which each tagged write took effect.
type Places = BTreeMap<Tag, Vec<Instance>>;

impl Calls {
    /// The highest instance that was acknowledged to any client.
    pub fn acknowledged(&self) -> Instance {
        self.acknowledged
    }

    /// From now on the group may refuse requests: clients may send any request.
    pub fn may_be_refused(&mut self) {
        self.may_refuse = true;
    }

    /// From now on scripts may rewrite values. A write is then matched to its request by tag alone, and the text of
    /// a read is not checked.
    pub fn may_be_rewritten(&mut self) {
        self.rewrites = true;
    }

    /// A client sends a tagged request, for the first time or again. The tag distinguishes requests of equal
    /// values.
    pub fn on_call(&mut self, tag: Tag, value: Option<Value>, frontier: Instance) {
        let after = self.acknowledged;
        let call = self.tagged.entry(tag).or_insert_with(|| {
            let (values, reads, chosen, done) = (Vec::new(), false, None, None);
            Call { values, reads, after, frontier, is_open: true, chosen, done, refused: None }
        });
        call.reads |= value.is_none();
        call.values.extend(value.filter(|value| !call.values.contains(value)));
    }

    /// An entry is chosen, whether or not any node knows that.
    pub fn on_chosen(&mut self, instance: Instance, entry: Entry) {
        if let Some(call) = entry.tagged().and_then(|tagged| self.tagged.get_mut(&tagged.tag)) {
            call.chosen.get_or_insert(instance);
        }
        if let Entry::Refused(tagged, _) | Entry::Group(Some(tagged), _) = &entry {
            self.used_up.insert(tagged.tag);
        }
        self.entries.insert(instance, entry);
    }

    /// The first instance at which a tagged request was chosen.
    pub fn chosen(&self, tag: Tag) -> Option<Instance> {
        self.tagged.get(&tag).and_then(|call| call.chosen)
    }

    /// A client sends an untagged write. Its value may be equal to an earlier one.
    pub fn on_write(&mut self, value: Value) {
        self.untagged.entry(value).or_insert(self.acknowledged);
    }

    /// A client without tags sent a request when `after` was acknowledged, and takes `instance` for the answer.
    /// `wrote` is the value that it wrote, or `None` for a read.
    ///
    /// # Errors
    /// When that instance was acknowledged before the client sent the request.
    pub fn on_untagged_done(
        &mut self,
        after: Instance,
        instance: Instance,
        wrote: Option<&Value>,
    ) -> Verdict {
        if instance <= after {
            let rule = if wrote.is_some() { Rule::RealTimeOrder } else { Rule::ReadsAreFresh };
            let what = wrote.map_or("a read".into(), |value| format!("a write of {value:?}"));
            return Err((
                rule,
                format!("{what} was answered with {instance}, but sent after {after} was answered"),
            ));
        }
        if let Some(value) = wrote {
            *self.told.entry(value.clone()).or_default() += 1;
        }
        self.acknowledged = self.acknowledged.max(instance);
        Ok(())
    }

    /// A client stops asking: the outcome of its request stays unknown.
    pub fn on_given_up(&mut self, tag: Tag) {
        if let Some(call) = self.tagged.get_mut(&tag) {
            call.is_open = false;
        }
    }

    /// A client receives the instance of its request.
    ///
    /// # Errors
    /// When an earlier answer gave another instance, the instance is too low, or the request was refused.
    pub fn on_done(&mut self, tag: Tag, instance: Instance) -> Verdict {
        let Some(call) = self.tagged.get_mut(&tag) else { return Ok(()) };
        if let Some(done) = call.done.filter(|done| *done != instance) {
            return Err((Rule::ExactlyOnce, format!("{tag:?} was answered with {done} and {instance}")));
        }
        if instance <= call.after {
            let got = format!("{tag:?} stands at {instance}, but was sent after {} was answered", call.after);
            return Err((Rule::RealTimeOrder, got));
        }
        if let Some(reason) = call.refused.as_ref().filter(|_| call.has_effect()) {
            return Err(done_though_refused(tag, instance, reason));
        }
        call.is_open = false;
        call.done = Some(instance);
        self.acknowledged = self.acknowledged.max(instance);
        Ok(())
    }

    /// A client receives the last value up to `learned`.
    ///
    /// # Errors
    /// When that is older than an instance that was chosen, or acknowledged, before the client sent the request.
    pub fn on_value(&mut self, tag: Tag, learned: Instance, instance: Instance, value: &Value) -> Verdict {
        let Some(call) = self.tagged.get_mut(&tag) else { return Ok(()) };
        if learned < call.after.max(call.frontier) {
            let Call { after, frontier, .. } = call;
            let got = format!(
                "{tag:?} reads up to {learned}, but was sent after {after} was answered, {frontier} chosen"
            );
            return Err((Rule::ReadsAreFresh, got));
        }
        call.is_open = false;
        self.acknowledged = self.acknowledged.max(learned);
        self.fast_reads.push(FastRead { learned, instance, value: value.clone() });
        Ok(())
    }

    /// A client regards its request as settled.
    ///
    /// # Errors
    /// When the instance of the request is no higher than one that was acknowledged before.
    pub fn on_outcome(&mut self, tag: Option<Tag>, ask: Ask, outcome: Outcome, after: Instance) -> Verdict {
        match (&ask, &outcome) {
            (_, Outcome::Unknown | Outcome::Forgotten) => {
                tag.into_iter().for_each(|tag| self.on_given_up(tag));
            }
            (Ask::Write(_) | Ask::Read | Ask::FastRead, Outcome::Chosen { instance, .. })
                if tag.is_none() =>
            {
                let wrote = if let Ask::Write(value) = &ask { Some(value) } else { None };
                self.on_untagged_done(after, *instance, wrote)?;
            }
            (Ask::Write(_) | Ask::Read | Ask::FastRead, Outcome::Chosen { instance, .. })
                if *instance <= after =>
            {
                let got = format!("{ask:?} was settled by {instance}, but sent after {after} was answered");
                return Err((Rule::RealTimeOrder, got));
            }
            _ => {}
        }
        self.outcomes.push((tag, ask, outcome));
        Ok(())
    }

    /// Every outcome that a client derived agrees with the log, and belongs to the client's own request.
    fn check_outcomes(&self, log: &BTreeMap<Instance, Value>) -> Verdict {
        for (tag, ask, outcome) in &self.outcomes {
            let (
                Ask::Write(_) | Ask::Read | Ask::FastRead | Ask::History(_),
                Outcome::Chosen { instance, value },
            ) = (ask, outcome)
            else {
                continue;
            };
            let stands = log.get(instance);
            if stands != Some(value) {
                let got = format!("{ask:?} was settled by {value:?} at {instance}, which reads {stands:?}");
                return Err((Rule::Durability, got));
            }
            let entry = self.entries.get(instance);
            let whose = entry.and_then(Entry::tagged).map(|tagged| tagged.tag);
            if tag.is_some() && !matches!(ask, Ask::History(_)) && whose != *tag {
                let got = format!("{ask:?} of {tag:?} was settled by {instance}, which is {whose:?}'s");
                return Err((Rule::ExactlyOnce, got));
            }
        }
        Ok(())
    }

    /// How many fast reads were answered without an instance.
    pub fn fast_reads(&self) -> usize {
        self.fast_reads.len()
    }

    /// The operator receives the instance of a change of the group.
    pub fn on_change_done(&mut self, instance: Instance) {
        self.acknowledged = self.acknowledged.max(instance);
    }

    /// A client receives the value of an instance.
    ///
    /// # Errors
    /// When it is the client's own write and its instance is too low, or when two answers differ.
    pub fn on_reads(&mut self, instance: Instance, reads: Value) -> Verdict {
        let before = self.answers.entry(instance).or_insert_with(|| reads.clone());
        if *before != reads {
            return Err((Rule::Agreement, format!("{instance} was answered as {before:?} and {reads:?}")));
        }
        let is_untagged = matches!(self.entries.get(&instance), Some(Entry::Write(_)));
        if let Some(after) = self.untagged.get(&reads).filter(|after| is_untagged && instance <= **after) {
            let got = format!("{reads:?} stands at {instance}, but was sent after {after} was answered");
            return Err((Rule::RealTimeOrder, got));
        }
        self.acknowledged = self.acknowledged.max(instance);
        Ok(())
    }

    /// A client is told that its request is refused for ever.
    ///
    /// # Errors
    /// When the client still waits for it and no request may be refused, or when the request was acknowledged
    /// before.
    pub fn on_refused(&mut self, tag: Tag, reason: &Value) -> Verdict {
        let Some(call) = self.tagged.get_mut(&tag) else { return Ok(()) };
        if call.is_open && !self.may_refuse {
            return Err((Rule::NothingRefused, format!("{tag:?} is refused: {reason}")));
        }
        call.refused.get_or_insert_with(|| reason.clone());
        match call.done.filter(|_| call.has_effect()) {
            Some(done) => Err(done_though_refused(tag, done, reason)),
            None => Ok(()),
        }
    }

    /// A refusal reaches the clients. The log must have it, too: only a refusal in the log is final.
    pub fn on_refused_in_log(&mut self, tag: Tag, reason: &Value) {
        self.refused.entry(tag).or_insert_with(|| reason.clone());
    }

    /// Every refused request is in the log as refused, or as a change of the group. Reads are exempt: they have no
    /// effect.
    fn check_refused(&self) -> Verdict {
        let reads = |tag: &Tag| self.tagged.get(tag).is_some_and(|call| !call.has_effect());
        let mut open = self.refused.iter().filter(|(tag, _)| !self.used_up.contains(tag) && !reads(tag));
        open.next().map_or(Ok(()), |(tag, reason)| {
            let got = format!("{tag:?} was reported as refused, but not in the log: {reason}");
            Err((Rule::RefusedIsFinal, got))
        })
    }

    /// Whether an entry of the log was requested by a client, or is a mark of the protocol itself.
    pub fn asked_for(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Noop | Entry::Read { tagged: None, .. } => true,
            // The scripts of a drawn run never rewrite values; those of a scripted run may.
            Entry::Changed(..) => self.rewrites,
            Entry::Group(..) => false,
            Entry::Refused(tagged, _) => self.tagged.contains_key(&tagged.tag),
            Entry::Write(value) => self.rewrites || self.untagged.contains_key(value),
            Entry::Tagged(tagged, value) => {
                let is_asked = |call: &Call| self.rewrites || call.values.contains(value);
                self.tagged.get(&tagged.tag).is_some_and(is_asked)
            }
            Entry::Read { tagged: Some(tagged), .. } => {
                self.tagged.get(&tagged.tag).is_some_and(|call| call.reads)
            }
        }
    }

    /// Checks the whole history against the log.
    ///
    /// # Errors
    /// When an answer is not in the log, a write took effect twice, or a read missed a write.
    pub fn check(&self, log: &BTreeMap<Instance, Value>) -> Verdict {
        let places = self.check_reads(log)?;
        self.check_untagged(log)?;
        self.check_fast_reads(log)?;
        self.check_outcomes(log)?;
        self.check_refused()?;
        let nowhere = Vec::new();
        for (tag, call) in &self.tagged {
            let found = places.get(tag).unwrap_or(&nowhere);
            if found.len() > 1 {
                return Err((Rule::ExactlyOnce, format!("{tag:?} took effect at {found:?}")));
            }
            if let (Some(at), Some(reason)) = (found.first(), &call.refused) {
                return Err(done_though_refused(*tag, *at, reason));
            }
            let Some(done) = call.done else { continue };
            if call.has_effect() && *found != [done] {
                let got = format!("{tag:?} was acknowledged at {done}, stands at {found:?}");
                return Err((Rule::Durability, got));
            }
            let entry = self.entries.get(&done).filter(|_| log.contains_key(&done));
            if entry.and_then(Entry::tagged).map(|tagged| tagged.tag) != Some(*tag) {
                let got = format!("{tag:?} was answered at {done}, where the log has {entry:?}");
                return Err((Rule::Durability, got));
            }
        }
        for (instance, answer) in &self.answers {
            if log.get(instance) != Some(answer) {
                let got = format!("{instance} was answered as {answer:?}, reads {:?}", log.get(instance));
                return Err((Rule::Durability, got));
            }
        }
        Ok(())
    }

    /// Every fast read was answered with the last user value up to the prefix that it was read at.
    fn check_fast_reads(&self, log: &BTreeMap<Instance, Value>) -> Verdict {
        if self.rewrites {
            return Ok(());
        }
        let nothing = Value::from("");
        let written: Vec<(&Instance, &Value)> =
            log.iter().filter(|(instance, reads)| self.is_write(**instance, reads)).collect();
        for FastRead { learned, instance, value } in &self.fast_reads {
            let before = written.partition_point(|(at, _)| *at <= learned);
            let last = before.checked_sub(1).map_or((&Instance(0), &nothing), |last| written[last]);
            if last != (instance, value) {
                let got = format!(
                    "a read up to {learned} returned {value} of {instance}; the last write is {last:?}"
                );
                return Err((Rule::ReadsSeeWrites, got));
            }
        }
        Ok(())
    }

    /// Untagged writes have only their values to identify them: no more writes of a value were answered than the
    /// log has.
    fn check_untagged(&self, log: &BTreeMap<Instance, Value>) -> Verdict {
        let mut found: BTreeMap<&Value, usize> = BTreeMap::new();
        log.values().filter(|value| self.told.contains_key(*value)).for_each(|value| {
            *found.entry(value).or_default() += 1;
        });
        for (value, told) in &self.told {
            let found = found.get(value).copied().unwrap_or_default();
            if found < *told {
                let got = format!("{told} writes of {value:?} were answered, {found} are in the log");
                return Err((Rule::Durability, got));
            }
        }
        Ok(())
    }

    /// Whether an instance that reads `reads` is a user's write that took effect.
    fn is_write(&self, instance: Instance, reads: &Value) -> bool {
        let entry = self.entries.get(&instance);
        matches!(entry, Some(Entry::Write(value) | Entry::Tagged(_, value)) if value == reads)
    }

    /// Walks the log once. Every safe read must show the last user value before it.
    fn check_reads(&self, log: &BTreeMap<Instance, Value>) -> Result<Places, (Rule, String)> {
        let mut places = Places::new();
        let mut last: &[u8] = b"";
        for (instance, reads) in log {
            let entry = self.entries.get(instance);
            if self.is_write(*instance, reads) {
                last = reads.as_bytes();
                if let Some(tagged) = entry.and_then(Entry::tagged) {
                    places.entry(tagged.tag).or_default().push(*instance);
                }
            }
            // In a classic group, a value that a client wrote can look like a safe read.
            let is_read = matches!(entry, Some(Entry::Read { .. })) && !self.untagged.contains_key(reads);
            let read = reads.as_bytes().strip_prefix(SAFE_READ.as_bytes()).filter(|_| is_read);
            if read.is_some_and(|read| read != last) && !self.rewrites {
                let last = Value::from(last);
                return Err((
                    Rule::ReadsSeeWrites,
                    format!("{reads} at {instance}; the last write is {last}"),
                ));
            }
        }
        Ok(places)
    }
}
