//! Another group on the same wire, for a while: a world of its own, whose datagrams reach this one, and the reverse.
//!
//! Owns the other world, its clock against this one's, and what crosses between them. Both are judged, as strictly.

use super::{Cue, World};
use crate::sim::chance::{Chance, Stream};
use crate::sim::judges::{Rule, Violation};
use crate::sim::network::CLIENTS;
use crate::sim::swarm::Other;
use crate::types::{Micros, NodeId};

/// Where the incarnations of the other group begin.
const INCARNATIONS: u64 = 50_000;

/// How long a datagram is under way from one group to the other.
const WAY: (u64, u64) = (50, 600);

/// How many of a million are lost on that way.
const LOSS: u64 = 20_000;

/// The other group.
#[derive(Debug)]
pub(super) struct Beside {
    world: World,
    plan: Other,
    chance: Chance,
    /// What its clock shows when this world's shows `zero`; without, it has not begun.
    zero: Option<Micros>,
}

impl Beside {
    /// The other group, as old as the plan says.
    pub fn new(plan: &Other, seed: u64) -> Beside {
        let mut world = World::at(plan.plan.clone(), INCARNATIONS);
        if let Some(age) = plan.age {
            world.stage.has_neighbors = true;
            world.run_until(age, |_| false);
        } else {
            world.clients.ask(false);
        }
        let zero = plan.age.map(|_| Micros(0));
        Beside { world, plan: plan.clone(), chance: Chance::new(seed, Stream::Others), zero }
    }

    /// What this world's clock shows when that of the other shows `theirs`.
    fn ours(&self, theirs: Micros) -> Option<Micros> {
        Some(theirs.since(self.plan.age.unwrap_or_default()) + self.zero?)
    }

    fn theirs(&self, ours: Micros) -> Option<Micros> {
        Some(ours.since(self.zero?) + self.plan.age.unwrap_or_default())
    }

    /// Whether it is a group that has to hold: not one that was begun on the wire of this one.
    fn is_whole(&self) -> bool {
        self.plan.age.is_some()
    }
}

impl World {
    /// What was broken, here or in the other group.
    pub fn violation(&self) -> Option<Violation> {
        let own = self.stage.judges.violation().cloned();
        own.or_else(|| {
            let beside = self.beside.as_deref()?;
            let found = beside.world.violation()?;
            let counts = beside.is_whole() || found.rule == Rule::NoPanic;
            let got = || format!("in the other group: {}\n{}", found.got, beside.world.view());
            counts.then(|| Violation { rule: found.rule, got: got() })
        })
    }

    /// Does the next thing of both groups until a moment; false when that is all.
    pub(super) fn step(&mut self, end: Micros) -> bool {
        let Some(mut beside) = self.beside.take() else { return self.step_alone(end) };
        let theirs = beside.world.stage.next_at().and_then(|at| beside.ours(at)).filter(|at| *at <= end);
        let is_theirs = theirs.is_some_and(|at| self.stage.next_at().is_none_or(|own| at < own));
        let goes_on = if is_theirs {
            beside.world.step_alone(Micros(u64::MAX));
            self.stage.now = self.stage.now.max(theirs.unwrap_or_default());
            true
        } else {
            self.step_alone(end)
        };
        self.exchange(&mut beside);
        if is_theirs && !beside.is_whole() && self.has_usurper(&beside) {
            let got = "a node of another group, begun on this wire under the same id, votes in this one";
            self.stage.judges.fail(Rule::LostDiskNeverVotes, got);
        }
        self.beside = Some(beside);
        goes_on
    }

    /// Whether a node that was begun with an empty disk votes in this group. (It may found one of its own, where
    /// it hears its peers before it hears this group.)
    fn has_usurper(&self, beside: &Beside) -> bool {
        let own = self.stage.head_of(NodeId(0)).and_then(|head| head.group);
        let nodes = beside.world.stage.machines.iter().filter_map(|machine| machine.node());
        nodes.into_iter().any(|node| node.is_voter() && own.is_some() && node.head().group == own)
    }

    /// What each group has said reaches the other.
    fn exchange(&mut self, beside: &mut Beside) {
        for datagram in beside.world.stage.take_said() {
            let clients = datagram.is_answer.then_some(CLIENTS);
            for to in (0..self.stage.nodes()).chain(clients) {
                let at = self.stage.now + Micros(beside.chance.between(WAY.0, WAY.1));
                if !beside.chance.hits(LOSS) {
                    self.stage.overhear(to, at, datagram.clone());
                }
            }
        }
        let Some(now) = beside.theirs(self.stage.now) else { return drop(self.stage.take_said()) };
        for datagram in self.stage.take_said() {
            let clients = datagram.is_answer.then_some(CLIENTS);
            for to in (0..beside.world.stage.nodes()).chain(clients) {
                let at = now + Micros(beside.chance.between(WAY.0, WAY.1));
                if !beside.chance.hits(LOSS) {
                    beside.world.stage.overhear(to, at, datagram.clone());
                }
            }
        }
    }

    /// The chaos begins: the other group's, too, and the wires are to be joined.
    pub(super) fn plan_joining(&mut self) {
        let Some(beside) = &mut self.beside else { return };
        if beside.is_whole() {
            beside.world.begin_chaos();
        }
        let now = self.stage.now;
        for (from, until) in beside.plan.joined.clone() {
            self.stage.cue(now + from, Cue::Wires(true));
            self.stage.cue(now + until, Cue::Wires(false));
        }
    }

    /// All is healed: the wires part, or stay joined from now on.
    pub(super) fn heal_wires(&mut self) {
        let Some(beside) = &mut self.beside else { return };
        beside.world.heal();
        let stays = beside.plan.stays;
        self.join_wires(stays);
    }

    pub(super) fn join_wires(&mut self, joined: bool) {
        let Some(beside) = &mut self.beside else { return };
        if joined && beside.zero.is_none() {
            beside.zero = Some(self.stage.now);
        }
        self.stage.seen.joined_wires += u64::from(joined && !self.stage.is_joined);
        self.stage.is_joined = joined;
        beside.world.stage.is_joined = joined;
    }

    /// Whether the other group, if it has to hold, has settled; one that can decide nothing any more need not.
    pub(super) fn beside_has_settled(&self) -> bool {
        self.beside
            .as_deref()
            .is_none_or(|beside| !beside.is_whole() || beside.world.is_settled() || !beside.world.is_alive())
    }

    /// Does something to the other group, too.
    pub(super) fn beside(&mut self, act: impl FnOnce(&mut World)) {
        if let Some(beside) = self.beside.as_deref_mut().filter(|beside| beside.is_whole()) {
            act(&mut beside.world);
        }
    }

    /// Whether the other group is one that has to hold, and can decide nothing any more.
    pub(super) fn is_beside_dead(&self) -> bool {
        self.beside.as_deref().is_some_and(|beside| beside.is_whole() && !beside.world.is_alive())
    }
}
