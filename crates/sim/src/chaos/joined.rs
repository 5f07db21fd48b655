//! Another group on the same wire, for a while: a world of its own. The datagrams of each group reach the other.
//!
//! It owns the other world, the offset of its clock, and the traffic between the two. Both groups are checked,
//! equally strictly.

use upaxos_core::types::{Micros, NodeId};

use super::beside::Beside;
use super::{Chaos, Cue};
use crate::checkers::{Rule, Violation};
use crate::fault_plan::Other;
use crate::network::CLIENTS;
use crate::rng::{Rng, Stream};

/// The first incarnation of the other group.
const INCARNATIONS: u64 = 50_000;

/// How long a datagram takes from one group to the other, in microseconds: at least and at most.
const WAY: (u64, u64) = (50, 600);

/// How many of a million are lost between the groups.
const LOSS: u64 = 20_000;

impl Chaos {
    /// The other group, run up to the age that the plan gives.
    pub(super) fn other_group(plan: &Other, seed: u64) -> Beside<Chaos> {
        let mut world = Chaos::at(plan.plan.clone(), INCARNATIONS);
        if let Some(age) = plan.age {
            world.cluster.has_neighbors = true;
            world.run_until(age, |_| false);
        } else {
            world.clients.ask(false);
        }
        let zero = plan.age.map(|_| Micros(0));
        Beside { world, plan: plan.clone(), chance: Rng::new(seed, Stream::Others), zero }
    }

    /// The first violation, in this group or in the other.
    pub fn violation(&self) -> Option<Violation> {
        let own = self.cluster.checkers.violation().cloned();
        own.or_else(|| {
            let beside = self.beside.as_deref()?;
            let found = beside.world.violation()?;
            let counts = beside.is_whole() || found.rule == Rule::NoPanic;
            let got = || format!("in the other group: {}\n{}", found.got, beside.world.view());
            counts.then(|| Violation { rule: found.rule, got: got() })
        })
    }

    /// Runs the next event of either group up to `end`. Returns false when there is none.
    pub(super) fn step(&mut self, end: Micros) -> bool {
        let Some(mut beside) = self.beside.take() else { return self.step_alone(end) };
        let theirs = beside.world.cluster.next_at().and_then(|at| beside.ours(at)).filter(|at| *at <= end);
        let is_theirs = theirs.is_some_and(|at| self.cluster.next_at().is_none_or(|own| at < own));
        let goes_on = if is_theirs {
            beside.world.step_alone(Micros(u64::MAX));
            self.cluster.now = self.cluster.now.max(theirs.unwrap_or_default());
            true
        } else {
            self.step_alone(end)
        };
        self.exchange(&mut beside);
        if is_theirs && !beside.is_whole() && self.has_usurper(&beside) {
            let got = "a node of another group, begun on this wire under the same id, votes in this one";
            self.cluster.checkers.fail(Rule::LostDiskNeverVotes, got);
        }
        self.beside = Some(beside);
        goes_on
    }

    /// Whether a node that began with an empty disk votes in this group. (It may found a group of its own, if it
    /// hears its peers before it hears this group.)
    fn has_usurper(&self, beside: &Beside<Chaos>) -> bool {
        let own = self.cluster.head_of(NodeId(0)).and_then(|head| head.group);
        let nodes = beside.world.cluster.machines.iter().filter_map(|machine| machine.node());
        nodes.into_iter().any(|node| node.is_voter() && own.is_some() && node.head().group == own)
    }

    /// Delivers the datagrams of each group to the other.
    fn exchange(&mut self, beside: &mut Beside<Chaos>) {
        for datagram in beside.world.cluster.take_said() {
            let clients = datagram.is_answer.then_some(CLIENTS);
            for to in (0..self.cluster.nodes()).chain(clients) {
                let at = self.cluster.now + Micros(beside.chance.between(WAY.0, WAY.1));
                if !beside.chance.hits(LOSS) {
                    self.cluster.overhear(to, at, datagram.clone());
                }
            }
        }
        let Some(now) = beside.theirs(self.cluster.now) else { return drop(self.cluster.take_said()) };
        for datagram in self.cluster.take_said() {
            let clients = datagram.is_answer.then_some(CLIENTS);
            for to in (0..beside.world.cluster.nodes()).chain(clients) {
                let at = now + Micros(beside.chance.between(WAY.0, WAY.1));
                if !beside.chance.hits(LOSS) {
                    beside.world.cluster.overhear(to, at, datagram.clone());
                }
            }
        }
    }

    /// The chaos begins, in the other group, too. Schedules the joining of the wires.
    pub(super) fn plan_joining(&mut self) {
        let Some(beside) = &mut self.beside else { return };
        if beside.is_whole() {
            beside.world.begin_chaos();
        }
        let now = self.cluster.now;
        for (from, until) in beside.plan.joined.clone() {
            self.cluster.cue(now + from, Cue::Wires(true));
            self.cluster.cue(now + until, Cue::Wires(false));
        }
    }

    /// Everything is healed: the wires are separated, or stay joined from now on.
    pub(super) fn heal_wires(&mut self) {
        let Some(beside) = &mut self.beside else { return };
        beside.world.heal();
        let stays = beside.plan.stays;
        self.join_wires(stays);
    }

    pub(super) fn join_wires(&mut self, joined: bool) {
        let Some(beside) = &mut self.beside else { return };
        if joined && beside.zero.is_none() {
            beside.zero = Some(self.cluster.now);
        }
        self.cluster.seen.joined_wires += u64::from(joined && !self.cluster.is_joined);
        self.cluster.is_joined = joined;
        beside.world.cluster.is_joined = joined;
    }

    /// Whether the other group has settled, if it must. A group that can decide nothing any more need not.
    pub(super) fn beside_has_settled(&self) -> bool {
        self.beside
            .as_deref()
            .is_none_or(|beside| !beside.is_whole() || beside.world.is_settled() || !beside.world.is_alive())
    }

    /// Does something to the other group, too, if it must keep its promises.
    pub(super) fn beside(&mut self, act: impl FnOnce(&mut Chaos)) {
        if let Some(beside) = self.beside.as_deref_mut().filter(|beside| beside.is_whole()) {
            act(&mut beside.world);
        }
    }

    /// Whether the other group must keep its promises and can decide nothing any more.
    pub(super) fn is_beside_dead(&self) -> bool {
        self.beside.as_deref().is_some_and(|beside| beside.is_whole() && !beside.world.is_alive())
    }
}
