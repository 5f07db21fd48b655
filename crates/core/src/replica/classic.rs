//! The proposer of a classic group: it runs both phases for every request, one instance at a time.
//!
//! This module owns this node's current round, if there is one. Its peers may never retransmit, may fall silent,
//! and may count wrongly. So it retransmits by itself, and believes nothing but promises and votes. It shares the
//! acceptor and the learner with the leader of the other mode.

use crate::replica::config::Timing;
use crate::replica::outbox::{Event, Outbox};
use crate::replica::paxos::acceptor::Acceptor;
use crate::replica::twin::OwnLines;
use crate::rounds::Rounds;
use crate::types::{Ballot, Epoch, Group, Instance, Micros, NodeId, Numbering, Value, Votes};
use crate::wire::Message;

const RETRY_MIN: Micros = Micros::from_millis(60);
const RETRY_MAX: Micros = Micros::from_millis(1_000);
/// How long each rank waits for the one before it.
const RANK_STEP: Micros = Micros::from_millis(30);

/// The proposer, with its current round and its reasons to start one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Classic {
    me: NodeId,
    group: Group,
    numbering: Numbering,
    timing: Timing,
    round: Option<Round>,
    /// The learned prefix. This node proposes only in the instance after it.
    learned: Instance,
    /// The highest ballot heard in that instance.
    highest: Option<Ballot>,
    start_at: Option<Micros>,
    failures: u64,
    /// Instances up to here are known to be used by other nodes.
    used: Instance,
    /// Whether this node had to find out the last learned value, and knows of more instances that it missed.
    is_catching_up: bool,
    /// The rounds that were heard above the learned prefix.
    pub rounds: Rounds,
    /// The lines that this run has sent.
    pub own: OwnLines,
    /// Whether the log has reported a node with another `-n`.
    pub warned_of_n: bool,
}

/// The source of the value that a node wrote in its own round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrote {
    /// The value of a request that this node had heard.
    Own,
    /// The value that a promise reported.
    Found,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    instance: Instance,
    ballot: Ballot,
    /// How many requests had been heard when the round started. It carries out none that came later.
    since: u64,
    promises: Votes,
    highest_accepted: Option<(Ballot, Value)>,
    /// The value of phase 2; fixed when phase 1 ends.
    value: Option<Value>,
    wrote: Wrote,
    retry_at: Micros,
    retry_after: Micros,
}

impl Classic {
    /// A proposer without a round. `used` is the last instance known to be used.
    pub fn new(
        me: NodeId,
        group: Group,
        numbering: Numbering,
        timing: Timing,
        learned: Instance,
        used: Instance,
        own: OwnLines,
    ) -> Classic {
        let rounds = Rounds::new(Some(group.members.len()));
        Classic {
            me,
            group,
            numbering,
            timing,
            round: None,
            learned,
            highest: None,
            start_at: None,
            failures: 0,
            used,
            is_catching_up: false,
            rounds,
            own,
            warned_of_n: false,
        }
    }

    /// Records that a node used this ballot in this instance.
    pub fn observe(
        &mut self,
        from: NodeId,
        instance: Instance,
        ballot: Ballot,
        now: Micros,
        out: &mut Outbox,
    ) {
        if instance == self.learned.next() {
            self.highest = self.highest.max(Some(ballot));
        }
        let overtaken = |round: &Round| {
            round.instance == instance && round.ballot < ballot && round.value.is_none() && from != self.me
        };
        if self.round.as_ref().is_some_and(overtaken) {
            self.give_way(ballot, now, out);
        }
    }

    /// Records that a node wrote or accepted a value at `instance`. So there is something to learn up to there.
    pub fn on_used(&mut self, instance: Instance) {
        self.used = self.used.max(instance);
    }

    /// `Promise`: counts one promise for the current round. When a quorum has promised, returns the value to write:
    /// the one accepted in the highest ballot or, if there is none, the one that `own` returns. `own` chooses among
    /// the requests heard before the round started.
    pub fn on_promise(
        &mut self,
        from: NodeId,
        (instance, ballot): (Instance, Ballot),
        accepted: Option<(Ballot, Value)>,
        own: impl FnOnce(u64) -> Option<Value>,
        now: Micros,
    ) -> Option<Value> {
        let is_asked = |round: &&mut Round| {
            round.instance == instance && round.ballot == ballot && round.value.is_none()
        };
        let round = self.round.as_mut().filter(is_asked)?;
        round.promises.insert(from);
        if accepted.as_ref().map(|(b, _)| b) > round.highest_accepted.as_ref().map(|(b, _)| b) {
            round.highest_accepted = accepted;
        }
        if !round.promises.is_quorum(&self.group) {
            return None;
        }
        let found = round.highest_accepted.take().map(|(_, value)| value);
        round.wrote = if found.is_some() { Wrote::Found } else { Wrote::Own };
        let Some(value) = found.or_else(|| own(round.since)) else {
            // Nothing was ever accepted here, and no request waits, so there is nothing to learn either.
            self.round = None;
            self.used = self.used.min(Instance(instance.0 - 1));
            return None;
        };
        round.value = Some(value.clone());
        round.retry_after = RETRY_MIN;
        round.retry_at = now + RETRY_MIN;
        Some(value)
    }

    /// `NACK`: an acceptor has promised a higher ballot. A refusal that names this very ballot is meant for a node
    /// that proposed a lower one.
    pub fn on_nack(&mut self, instance: Instance, ballot: Ballot, now: Micros, out: &mut Outbox) {
        let refused = |round: &Round| round.instance == instance && round.ballot < ballot;
        if self.round.as_ref().is_some_and(refused) {
            self.give_way(ballot, now, out);
        }
    }

    /// Records that an instance was learned. If this node wrote the learned value there, returns the value's
    /// source.
    pub fn on_learned(&mut self, instance: Instance, value: &Value) -> Option<Wrote> {
        self.learned = instance;
        self.highest = None;
        self.failures = 0;
        self.start_at = None;
        let round = self.round.take_if(|round| round.instance <= instance);
        let wrote = round.filter(|round| round.value.is_some());
        // Where one value was found, there may be more.
        if wrote.as_ref().is_some_and(|round| round.wrote == Wrote::Found) {
            self.used = self.used.max(instance.next());
        }
        self.is_catching_up = wrote.is_some() && instance < self.used;
        wrote.filter(|round| round.value.as_ref() == Some(value)).map(|round| round.wrote)
    }

    /// Starts a round when there is something to propose or to find out, and retransmits unanswered lines.
    pub fn tick(
        &mut self,
        (wants, heard): (bool, u64),
        acceptor: &mut Acceptor,
        now: Micros,
        out: &mut Outbox,
    ) {
        if let Some(round) = &mut self.round {
            if now >= round.retry_at {
                round.retry_after = (round.retry_after * 2).min(RETRY_MAX);
                round.retry_at = now + round.retry_after;
                let Round { instance, ballot, .. } = *round;
                out.send(match round.value.clone() {
                    Some(value) => Message::Write { instance, ballot, value },
                    None => Message::Propose { instance, ballot },
                });
            }
            return;
        }
        if !wants && self.learned >= self.used {
            self.start_at = None;
            return;
        }
        let by_rank = RANK_STEP * self.rank();
        let patience = match wants {
            _ if self.is_catching_up => Micros(0),
            true => by_rank,
            false => self.timing.timeout() + by_rank,
        };
        // After a refusal the start time stays as set. Otherwise the shorter wait counts, which a later request may
        // bring.
        let start_at = match self.start_at {
            Some(at) if self.failures > 0 => at,
            at => at.unwrap_or(Micros(u64::MAX)).min(now + patience),
        };
        self.start_at = Some(start_at);
        if now >= start_at {
            self.start((self.learned.next(), heard), acceptor, now, out);
        }
    }

    /// The time of the next retransmission or round.
    pub fn deadline(&self) -> Option<Micros> {
        self.round.as_ref().map(|round| round.retry_at).or(self.start_at)
    }

    fn start(
        &mut self,
        (instance, since): (Instance, u64),
        acceptor: &mut Acceptor,
        now: Micros,
        out: &mut Outbox,
    ) {
        // The log holds every promise, own ballots included, so no ballot is ever used twice.
        let above = acceptor.promised_in(instance).max(self.highest);
        let Some(ballot) = self.numbering.next_owned_by(self.me, Epoch(0), above) else { return };
        self.start_at = None;
        self.round = Some(Round {
            instance,
            ballot,
            since,
            promises: Votes::default(),
            highest_accepted: None,
            value: None,
            wrote: Wrote::Own,
            retry_at: now + RETRY_MIN,
            retry_after: RETRY_MIN,
        });
        let propose = Message::Propose { instance, ballot };
        self.rounds.observe(self.me, &propose, since);
        out.after_sync(propose);
        acceptor.on_propose(instance, ballot, out);
    }

    fn give_way(&mut self, to: Ballot, now: Micros, out: &mut Outbox) {
        if let Some(Round { instance, ballot, .. }) = self.round.take() {
            out.event(Event::GivesWay { instance, ballot, to });
        }
        self.failures = (self.failures + 1).min(6);
        self.start_at = Some(now + RANK_STEP * (self.rank() + 1) * (1 << self.failures));
    }

    fn rank(&self) -> u64 {
        self.group.rank_after(self.me, None) as u64
    }
}
