//! The clients' side: what was asked, what was answered, and in which order.
//!
//! Histories are judged in linear time: a request remembers the highest instance that had been
//! acknowledged to anybody when it was first sent, and must stand above it.

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;
use crate::entry::{Entry, SAFE_READ};
use crate::types::{Instance, Tag, Value};

type Verdict = Result<(), (Rule, String)>;

/// What a client asked for.
#[derive(Debug)]
struct Call {
    /// What it writes; `None` for a safe read.
    value: Option<Value>,
    after: Instance,
    /// The highest instance that was chosen when it was first asked, answered or not.
    frontier: Instance,
    is_open: bool,
    /// Where it was chosen first.
    chosen: Option<Instance>,
    done: Option<Instance>,
}

/// What a fast read was told.
#[derive(Debug)]
struct FastRead {
    learned: Instance,
    instance: Instance,
    value: Value,
}

/// All requests of all clients, with what they were told.
#[derive(Debug, Default)]
pub struct Calls {
    tagged: BTreeMap<Tag, Call>,
    /// Untagged writes; their values differ.
    untagged: BTreeMap<Value, Instance>,
    answers: BTreeMap<Instance, Value>,
    fast_reads: Vec<FastRead>,
    acknowledged: Instance,
    asked: BTreeSet<Value>,
}

impl Calls {
    /// The highest instance that any client was told of.
    pub fn acknowledged(&self) -> Instance {
        self.acknowledged
    }

    /// A client sends a tagged request for the first time. Every value that is written differs.
    pub fn on_call(&mut self, tag: Tag, value: Option<Value>, frontier: Instance) {
        self.asked.extend(value.clone());
        let after = self.acknowledged;
        self.tagged.insert(tag, Call { value, after, frontier, is_open: true, chosen: None, done: None });
    }

    /// An entry is chosen; nobody needs to know yet.
    pub fn on_chosen(&mut self, instance: Instance, entry: &Entry) {
        if let Some(call) = entry.tagged().and_then(|tagged| self.tagged.get_mut(&tagged.tag)) {
            call.chosen.get_or_insert(instance);
        }
    }

    /// Where a tagged request was chosen first.
    pub fn chosen(&self, tag: Tag) -> Option<Instance> {
        self.tagged.get(&tag).and_then(|call| call.chosen)
    }

    /// A client sends an untagged write.
    pub fn on_write(&mut self, value: Value) {
        self.asked.insert(value.clone());
        self.untagged.insert(value, self.acknowledged);
    }

    /// A client asks no more: the outcome stays unknown.
    pub fn on_given_up(&mut self, tag: Tag) {
        if let Some(call) = self.tagged.get_mut(&tag) {
            call.is_open = false;
        }
    }

    /// A client is told where its request stands.
    ///
    /// # Errors
    /// When it was told another place before, or the place is too low.
    pub fn on_done(&mut self, tag: Tag, instance: Instance) -> Verdict {
        let Some(call) = self.tagged.get_mut(&tag) else { return Ok(()) };
        if let Some(done) = call.done.filter(|done| *done != instance) {
            return Err((Rule::ExactlyOnce, format!("{tag:?} was answered with {done} and {instance}")));
        }
        if instance <= call.after {
            let got = format!("{tag:?} stands at {instance}, asked when {} was answered", call.after);
            return Err((Rule::RealTimeOrder, got));
        }
        call.is_open = false;
        call.done = Some(instance);
        self.acknowledged = self.acknowledged.max(instance);
        Ok(())
    }

    /// A client is told the last value up to `learned`.
    ///
    /// # Errors
    /// When that is older than what was chosen, or answered, before it asked.
    pub fn on_value(&mut self, tag: Tag, learned: Instance, instance: Instance, value: &Value) -> Verdict {
        let Some(call) = self.tagged.get_mut(&tag) else { return Ok(()) };
        if learned < call.after.max(call.frontier) {
            let Call { after, frontier, .. } = call;
            let got =
                format!("{tag:?} reads as of {learned}, asked after {after} was answered, {frontier} chosen");
            return Err((Rule::ReadsAreFresh, got));
        }
        call.is_open = false;
        self.acknowledged = self.acknowledged.max(learned);
        self.fast_reads.push(FastRead { learned, instance, value: value.clone() });
        Ok(())
    }

    /// How many fast reads were answered without an instance.
    pub fn fast_reads(&self) -> usize {
        self.fast_reads.len()
    }

    /// The operator is told where a change of the group stands.
    pub fn on_change_done(&mut self, instance: Instance) {
        self.acknowledged = self.acknowledged.max(instance);
    }

    /// A client is told what an instance reads.
    ///
    /// # Errors
    /// When it is the client's own write, and stands too low; or the answers differ.
    pub fn on_reads(&mut self, instance: Instance, reads: Value) -> Verdict {
        let before = self.answers.entry(instance).or_insert_with(|| reads.clone());
        if *before != reads {
            return Err((Rule::Agreement, format!("{instance} was answered as {before:?} and {reads:?}")));
        }
        if let Some(after) = self.untagged.get(&reads).filter(|after| instance <= **after) {
            let got = format!("{reads:?} stands at {instance}, asked when {after} was answered");
            return Err((Rule::RealTimeOrder, got));
        }
        self.acknowledged = self.acknowledged.max(instance);
        Ok(())
    }

    /// A client is told that its request is not carried out.
    ///
    /// # Errors
    /// When it still waits for it: it has not said that it settled it.
    pub fn on_refused(&mut self, tag: Tag, reason: &Value) -> Verdict {
        match self.tagged.get(&tag) {
            Some(call) if call.is_open => {
                Err((Rule::NothingRefused, format!("{tag:?} is refused: {reason}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether an entry of the log is what a client asked for, or a mark of our own.
    pub fn asked_for(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Noop | Entry::Read { tagged: None, .. } => true,
            // The scripts of a simulated group change no words.
            Entry::Group(..) | Entry::Changed(..) => false,
            Entry::Write(value) => self.untagged.contains_key(value),
            Entry::Tagged(tagged, value) => {
                self.tagged.get(&tagged.tag).is_some_and(|call| call.value.as_ref() == Some(value))
            }
            Entry::Read { tagged: Some(tagged), .. } => {
                self.tagged.get(&tagged.tag).is_some_and(|call| call.value.is_none())
            }
        }
    }

    /// Judges the whole history against what the log reads.
    ///
    /// # Errors
    /// When an answer is not in the log, a write took effect twice, or a read missed one.
    pub fn check(&self, log: &BTreeMap<Instance, Value>) -> Verdict {
        let places = self.check_reads(log)?;
        self.check_fast_reads(log)?;
        let nowhere = Vec::new();
        for (tag, call) in &self.tagged {
            let found = call.value.as_ref().map(|value| places.get(value).unwrap_or(&nowhere));
            if let Some(found) = found.filter(|found| found.len() > 1) {
                return Err((Rule::ExactlyOnce, format!("{tag:?} took effect at {found:?}")));
            }
            match (call.done, found) {
                (Some(done), Some(found)) if *found != [done] => {
                    let got = format!("{tag:?} was acknowledged at {done}, stands at {found:?}");
                    return Err((Rule::Durability, got));
                }
                (Some(done), None) if !log.contains_key(&done) => {
                    return Err((
                        Rule::Durability,
                        format!("{tag:?} was answered at {done}, not in the log"),
                    ));
                }
                _ => {}
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

    /// Every fast read was told the last user value up to where it stands.
    fn check_fast_reads(&self, log: &BTreeMap<Instance, Value>) -> Verdict {
        let nothing = Value::from("");
        let written = log.iter().filter(|(_, reads)| self.asked.contains(*reads));
        let written: Vec<(&Instance, &Value)> = written.collect();
        for FastRead { learned, instance, value } in &self.fast_reads {
            let before = written.partition_point(|(at, _)| *at <= learned);
            let last = before.checked_sub(1).map_or((&Instance(0), &nothing), |last| written[last]);
            if last != (instance, value) {
                let got = format!("as of {learned} was read {value} of {instance}, written last {last:?}");
                return Err((Rule::ReadsSeeWrites, got));
            }
        }
        Ok(())
    }

    /// Walks the log once: what every safe read has to read is the last user value so far.
    fn check_reads<'a>(
        &self,
        log: &'a BTreeMap<Instance, Value>,
    ) -> Result<BTreeMap<&'a Value, Vec<Instance>>, (Rule, String)> {
        let mut places: BTreeMap<&Value, Vec<Instance>> = BTreeMap::new();
        let mut last: &[u8] = b"";
        for (instance, reads) in log {
            if let Some(read) = reads.as_bytes().strip_prefix(SAFE_READ.as_bytes()) {
                if read != last {
                    let last = Value::from(last);
                    return Err((
                        Rule::ReadsSeeWrites,
                        format!("{reads} at {instance}, written last {last}"),
                    ));
                }
            } else if self.asked.contains(reads) {
                places.entry(reads).or_default().push(*instance);
                last = reads.as_bytes();
            }
        }
        Ok(places)
    }
}
