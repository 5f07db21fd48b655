//! Recovery: builds a node from the records of its earlier runs.
//!
//! This module owns the order in which the log is replayed. The roles know what each record means to them. The
//! driver of a node calls it at every start; a reader of a log calls [`Recovery::tell`].
//!
//! When the log says that a value was learned, but the value is lost, the learned prefix ends before it. Everything
//! learned above it is forgotten, groups included. The node learns that anew, like any gap. It is then like a node
//! that has not yet heard some values: its promises, and the values that it accepted above the prefix, are all
//! still there. (They are forgotten only up to a learned prefix that a checkpoint holds, and the loss is above the
//! first checkpoint.) So every quorum that was formed with this node still has its word. Values that a later run
//! learns anew stand in the log a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::hooks::{Fault, Hooks};
use crate::mutant::{self, Mutant};
use crate::past::Past;
use crate::record::Record;
use crate::replica::Replica;
use crate::replica::classic::Classic;
use crate::replica::clients::fast_reads::FastReads;
use crate::replica::clients::queue::RequestQueue;
use crate::replica::config::Config;
use crate::replica::drop_counters::DropCounters;
use crate::replica::election::candidacy::Candidacy;
use crate::replica::election::jumps::Jumps;
use crate::replica::election::links::Election;
use crate::replica::paxos::acceptor::Acceptor;
use crate::replica::paxos::catch_up::CatchUp;
use crate::replica::paxos::digest_writes::DigestWrites;
use crate::replica::paxos::learner::Learner;
use crate::replica::paxos::proposer::Proposer;
use crate::replica::reconfig::changes::Changes;
use crate::replica::reconfig::registration::Registration;
use crate::replica::senders::Others;
use crate::replica::state_machine::divergence::Divergence;
use crate::replica::state_machine::learned_log::LearnedLog;
use crate::replica::state_machine::script_states::Failed;
use crate::replica::twin::OwnLines;
use crate::types::{Instance, MAX_NUMBER, Micros, Numbering, Value};
use crate::wire::{Boot, Dialect};

/// Why a log cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// A record refers to an instance that the records before it do not lead up to.
    #[error("record {record:?} does not follow from the records before it (learned up to {learned})")]
    OutOfOrder {
        /// The text of the record.
        record: String,
        /// The prefix that the records before it had learned.
        learned: Instance,
    },
    /// The log has instances, but does not name the first group.
    #[error(
        "the log does not state the size of the first group: it belongs to a first member; start it with -n"
    )]
    NoGenesis,
    /// A value is lost, and a classic node can trust no other node about it.
    #[error(
        "the value accepted or learned at {instance} is lost, and in a classic group no other node can prove \
         what it was"
    )]
    Lost {
        /// The instance of the lost value.
        instance: Instance,
    },
    /// The digest of a script's state in the checkpoint does not match the state.
    #[error("the state of script {script} in the checkpoint does not match the digest there")]
    State {
        /// The name of the script.
        script: String,
    },
    /// A script cannot apply a chosen value.
    #[error("script {script}, instance {instance}: {reason}")]
    Script {
        /// The name of the script.
        script: String,
        /// The instance of the value.
        instance: Instance,
        /// The cause, and advice for the operator.
        reason: String,
    },
}

impl RecoverError {
    /// The error of a script that cannot go on at an instance.
    pub(in crate::replica) fn of_script(failed: &Failed, instance: Instance) -> RecoverError {
        let (Fault::Fatal(reason) | Fault::Raised(reason)) = &failed.fault;
        RecoverError::Script { script: failed.script.name.to_string(), instance, reason: reason.clone() }
    }
}

/// A node under construction. It takes the records of its log in the order in which they were written.
#[derive(Debug)]
pub struct Recovery {
    config: Config,
    acceptor: Acceptor,
    history: LearnedLog,
    learned: Instance,
    /// Whether the log says that the next instance was learned while its value is lost.
    is_cut: bool,
    identity: Registration,
    starts: u64,
    hooks: Option<Rc<dyn Hooks>>,
}

impl Recovery {
    /// Starts with an empty log and no scripts.
    pub fn new(config: Config) -> Recovery {
        let classic = config.classic;
        let dialect = if classic { Dialect::Classic } else { Dialect::Extended };
        Recovery {
            acceptor: Acceptor::new(classic, config.limits),
            history: LearnedLog::new(dialect, config.n, config.limits),
            learned: Instance(0),
            is_cut: false,
            identity: Registration::new(config.id, config.n, config.timing, !classic),
            starts: 0,
            hooks: None,
            config,
        }
    }

    /// Starts with an empty log and these scripts. A script applies the instances that the checkpoint's state lacks
    /// while the log is read, or when the node catches up ([`Replica::catch_up`]).
    pub fn with_hooks(config: Config, hooks: Rc<dyn Hooks>) -> Recovery {
        let mut recovery = Recovery::new(config);
        recovery.history = recovery.history.with_scripts(hooks.scripts());
        recovery.hooks = Some(hooks);
        recovery
    }

    /// Makes the scripts ignore the checkpoint, and compute everything anew from the first instance on.
    #[must_use]
    pub fn rebuild(mut self) -> Recovery {
        self.history.begin_anew();
        self
    }

    /// Replays the next record.
    ///
    /// # Errors
    /// When it contradicts the records before it. Checksums cannot detect that.
    pub fn take(&mut self, record: &Record) -> Result<(), RecoverError> {
        self.acceptor.recover(record);
        self.identity.recover(record);
        let whole = self.history.recover(record);
        whole.map_err(|script| RecoverError::State { script: script.to_string() })?;
        match record {
            Record::Checkpoint { learned, .. } => self.learned = *learned,
            Record::Start { start, .. } => self.starts = self.starts.max(*start),
            Record::Chosen { first, last, .. } => {
                for instance in (first.0..=last.0).map(Instance) {
                    let accepted = self.acceptor.accepted(instance).map(|(_, value)| value.clone());
                    self.learn(record, instance, accepted)?;
                }
            }
            Record::Lost { instance, .. } if self.config.classic => {
                return Err(RecoverError::Lost { instance: *instance });
            }
            Record::Lost { instance, ballot: None } => self.learn(record, *instance, None)?,
            Record::Learn { instance, value } => self.learn(record, *instance, Some(value.clone()))?,
            _ => {}
        }
        Ok(())
    }

    /// Replays the next record for a reader of a log. Returns the instances that the record says were learned, each
    /// once, with a mark on those that had no effect. An instance with a lost value is returned when it is learned
    /// anew.
    ///
    /// # Errors
    /// See [`Recovery::take`].
    pub fn tell(&mut self, record: &Record) -> Result<Vec<Past>, RecoverError> {
        let before = self.learned;
        self.take(record)?;
        Ok(self.history.past(before.next(), self.learned))
    }

    /// The instance that the log says was learned while its value is lost. No instance above it counts until it is
    /// learned anew.
    pub fn lost(&self) -> Option<Instance> {
        self.is_cut.then(|| self.learned.next())
    }

    /// Builds the node for a new run. `incarnation` is the random number made with the data directory. `boot` is a
    /// random number made for this start. Only 63 bits of each are used.
    pub fn finish(self, incarnation: u64, boot: u64) -> Replica {
        let Recovery { config, acceptor, mut history, learned, mut identity, starts, .. } = self;
        if mutant::is(Mutant::ForgetTags) {
            history.forget_tags();
        }
        let Config { id, n, classic, fast_read, timing, joins, name, limits } = config;
        let (incarnation, boot) = (incarnation & MAX_NUMBER, boot & MAX_NUMBER);
        identity.begin(Boot { incarnation, start: starts + 1, boot });
        let numbering = if classic { Numbering::Classic(n) } else { Numbering::Standard };
        // A value that an earlier run accepted may have been chosen since. No other node will report that unasked.
        let accepted = acceptor.last_accepted().unwrap_or_default();
        // A returning classic node checks once whether the others went on without it.
        let used = if starts > 0 { accepted.max(learned.next()) } else { accepted };
        let own = OwnLines::new(acceptor.last_promised().unwrap_or_default());
        let mut learner = Learner::new(limits);
        learner.recover(learned);
        Replica {
            id,
            joins,
            bounds: limits.into(),
            changes: Changes::default(),
            dialect: if classic { Dialect::Classic } else { Dialect::Extended },
            numbering,
            timing,
            classic: classic
                .then(|| Classic::new(id, history.group().clone(), numbering, timing, learned, used, own)),
            identity,
            election: Election::new(id, numbering, timing, limits),
            jumps: Jumps::default(),
            acceptor,
            learner,
            leader: Proposer::new(limits),
            history,
            requests: RequestQueue::new(timing, limits),
            digests: Divergence::default(),
            reads: FastReads::new(fast_read && !classic, timing.timeout(), boot, limits),
            repair: CatchUp::new(limits),
            naming: DigestWrites::new(limits),
            durable: learned,
            claimed: (learned, Micros(0)),
            told_older: (id, 0, Micros(0)),
            barred_by_stranger: None,
            tell_lost_at: BTreeMap::new(),
            is_deferred: false,
            foreign: BTreeSet::new(),
            name,
            others: Others::default(),
            has_heard_own: false,
            candidacy: Candidacy::default(),
            warned_of_twin: false,
            dropped: DropCounters::default(),
        }
    }

    fn learn(
        &mut self,
        record: &Record,
        instance: Instance,
        value: Option<Value>,
    ) -> Result<(), RecoverError> {
        if self.history.membership().n() == 0 {
            return Err(RecoverError::NoGenesis);
        }
        let next = self.learned.next();
        let known = self.history.value(instance);
        let contradicts = known.zip(value.as_ref()).is_some_and(|(known, value)| known != value);
        if (instance < next && !contradicts) || (instance > next && self.is_cut) {
            // It was learned anew after a loss, or will be.
            return Ok(());
        }
        let is_lost = self.acceptor.is_lost(instance) || matches!(record, Record::Lost { .. });
        match value.filter(|_| instance == next) {
            Some(value) => {
                self.is_cut = false;
                let learned = self.history.learn(instance, value, self.hooks.as_deref());
                stop_if_fatal(instance, &learned.failed)?;
                self.learned = instance;
                self.acceptor.forget_through(instance);
            }
            None if instance == next && is_lost => self.is_cut = true,
            None => {
                return Err(RecoverError::OutOfOrder { record: record.to_string(), learned: self.learned });
            }
        }
        Ok(())
    }
}

/// Stops at a fatal error of a script. An error that the script itself raised is a result, and no reason to stop.
pub(in crate::replica) fn stop_if_fatal(instance: Instance, failed: &[Failed]) -> Result<(), RecoverError> {
    match failed.last() {
        Some(failed @ Failed { fault: Fault::Fatal(_), .. }) => {
            Err(RecoverError::of_script(failed, instance))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::{Applied, Script};
    use crate::past::Past;
    use crate::script_state::ScriptState;
    use crate::types::{Ballot, NodeId};

    /// A script that fails fatally at `fatal`, and raises an error at `bad`.
    #[derive(Debug)]
    struct Brittle([Script; 1]);

    impl Hooks for Brittle {
        fn scripts(&self) -> &[Script] {
            &self.0
        }

        fn apply(&self, _: usize, _: &mut ScriptState, applied: &Applied<'_>) -> Result<(), Fault> {
            match applied.value.as_bytes() {
                b"fatal" => Err(Fault::Fatal("no memory".into())),
                b"bad" => Err(Fault::Raised("bad".into())),
                _ => Ok(()),
            }
        }
    }

    fn config() -> Config {
        Config::member(NodeId(0), 3)
    }

    fn learn(instance: u64, value: &str) -> Record {
        Record::Learn { instance: Instance(instance), value: value.into() }
    }

    fn take(mut recovery: Recovery, records: &[Record]) -> Result<Instance, RecoverError> {
        records.iter().try_for_each(|record| recovery.take(record))?;
        Ok(recovery.learned)
    }

    #[test]
    fn a_record_out_of_order_stops_the_start() {
        let ballot = Ballot::first_epoch(3);
        let chosen = |first, last| Record::Chosen { first: Instance(first), last: Instance(last), ballot };
        let accept = |instance| Record::Accept { instance: Instance(instance), ballot, value: "v".into() };
        let in_order = [learn(1, "a"), accept(2), accept(3), chosen(2, 3), learn(4, "b")];
        assert_eq!(take(Recovery::new(config()), &in_order).ok(), Some(Instance(4)));
        let wrong = [
            vec![learn(2, "a")],
            vec![learn(1, "a"), learn(3, "a")],
            vec![learn(1, "a"), learn(1, "b")],
            vec![accept(1), chosen(1, 2)],
            vec![chosen(1, 1)],
            vec![accept(2), chosen(2, 2)],
        ];
        for records in wrong {
            let taken = take(Recovery::new(config()), &records);
            assert!(matches!(taken, Err(RecoverError::OutOfOrder { .. })), "{records:?}: {taken:?}");
        }
    }

    #[test]
    fn a_script_that_cannot_go_on_stops_the_start_and_an_error_it_raises_does_not() {
        let recovery = || {
            let script = Script { name: "brittle".into(), source: 1 };
            Recovery::with_hooks(config(), Rc::new(Brittle([script])))
        };
        assert_eq!(take(recovery(), &[learn(1, "a"), learn(2, "bad")]).ok(), Some(Instance(2)));
        match take(recovery(), &[learn(1, "a"), learn(2, "fatal"), learn(3, "b")]) {
            Err(RecoverError::Script { script, instance, reason }) => {
                assert_eq!((&*script, instance, &*reason), ("brittle", Instance(2), "no memory"));
            }
            other => panic!("{other:?}"),
        }
    }

    /// When a value in the log is lost, the history may hold more than the learned prefix.
    #[test]
    fn scripts_that_compute_anew_end_where_the_learned_prefix_ends() {
        let script = Script { name: "brittle".into(), source: 1 };
        let hooks: Rc<dyn Hooks> = Rc::new(Brittle([script]));
        let mut recovery = Recovery::with_hooks(config(), Rc::clone(&hooks)).rebuild();
        let checkpoint = Record::Checkpoint { segment: 2, learned: Instance(2) };
        for record in [checkpoint, Record::Genesis { n: 3 }, Record::CheckpointEnd] {
            recovery.take(&record).expect("it is in order");
        }
        let mut node = recovery.finish(7, 9);
        let past = |at| Past { instance: Instance(at), value: "v".into(), void: None };
        assert_eq!(node.behind(), Some(Instance(1)));
        node.catch_up(&[past(1), past(2), past(3)], &*hooks).expect("it can go on");
        assert_eq!(node.behind(), None);
        assert!(node.digest_at(0, Instance(2)).is_some() && node.digest_at(0, Instance(3)).is_none());
    }
}
