//! The scripts of simulated nodes. The checkers see what they compute. A node whose scripts diverged gets the right
//! ones.

use std::rc::Rc;

use upaxos_core::replica::{Event, Replica};
use upaxos_core::types::{Instance, Micros};
use upaxos_storage::StoreError;

use super::Cluster;
use crate::checkers::Rule;
use crate::double::Double;

impl<C> Cluster<C> {
    /// Shows the checkers what the scripts of a node computed at each instance that it has just learned.
    pub(super) fn compare(&mut self, id: u16, node: &Replica, events: &[Event]) {
        let machine = &self.machines[usize::from(id)];
        if machine.hooks.is_none() || machine.is_directed() || machine.strays_from.is_some() {
            return;
        }
        for event in events {
            if let Event::Learned { instance, .. } = event
                && let Some(digest) = node.digest_at(0, *instance)
            {
                self.checkers.on_digest(id, *instance, digest);
            }
        }
    }

    /// A life begins. Scripts that are behind compute what was learned before. Then every known digest must be as
    /// it was. Returns false if the node ends instead, because its scripts cannot go on.
    pub(super) fn compute_anew(&mut self, id: u16, node: &mut Replica) -> Result<bool, StoreError> {
        let machine = &self.machines[usize::from(id)];
        let (strays, is_directed) = (machine.strays_from.is_some(), machine.is_directed());
        let Some(hooks) = machine.hooks.clone() else { return Ok(true) };
        while let Some(next) = node.behind() {
            let disk = &self.machines[usize::from(id)].disk;
            let past = disk.past(next, disk.compacted(), node.limits().lookup_bytes)?;
            if let Err(error) = node.catch_up(&past, &*hooks) {
                assert!(is_directed, "no script of a drawn run is fatal: {error}");
                self.break_off(id, &error);
                return Ok(false);
            }
        }
        let known = (1..=node.learned().0).rev().map(Instance);
        let known: Vec<_> = known.map_while(|at| Some((at, node.digest_at(0, at)?))).collect();
        if !strays && !is_directed {
            known.into_iter().for_each(|(at, digest)| self.checkers.on_digest(id, at, digest));
        }
        Ok(true)
    }

    /// Node `id` reports that its scripts and a peer's diverged between two instances.
    pub(super) fn note_divergence(
        &mut self,
        id: u16,
        peer: u16,
        between: (Instance, Instance),
        said: &Event,
    ) {
        self.seen.diverged += 1;
        let machine = &mut self.machines[usize::from(id)];
        machine.diverged.get_or_insert_with(|| said.to_string());
        if machine.is_directed() {
            return;
        }
        let strays = |id: u16| self.machines[usize::from(id)].strays_from;
        let stray = strays(id).or_else(|| strays(peer));
        // A node with new scripts may still receive datagrams of its earlier life.
        if stray.is_some() || !self.machines.iter().any(|machine| machine.rebuilds) {
            self.checkers.on_diverged(id, between, stray);
        }
    }

    /// A node must end: a quorum has another log, or its scripts cannot go on.
    pub(super) fn end_for_cause(&mut self, id: u16, node: &Replica, events: &[Event]) {
        match events.iter().find(|event| matches!(event, Event::MustEnd(_))) {
            Some(reason) if self.checkers.is_split() => self.end_for_its_log(id, reason),
            Some(reason) if node.log_differs_from().is_some() => {
                self.checkers.fail(Rule::Agreement, format!("{id} says: {reason}"));
            }
            _ => self.end_for_scripts(id, events),
        }
    }

    /// A node ends because its scripts cannot go on.
    fn end_for_scripts(&mut self, id: u16, events: &[Event]) {
        match events.iter().find(|event| matches!(event, Event::MustEnd(_))) {
            Some(reason) if self.machines[usize::from(id)].is_directed() => self.break_off(id, reason),
            _ => self.mend_scripts(id),
        }
    }

    /// A node ended because its scripts diverged. Its operator starts it with the right ones, which compute
    /// everything anew.
    fn mend_scripts(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        self.seen.mended += 1;
        if machine.strays_from.is_none() {
            let got = format!("{id} ends, though its scripts computed what they should");
            self.checkers.fail(Rule::DivergenceIsFound, got);
        }
        machine.hooks = Some(Rc::new(Double::new(None)));
        machine.strays_from = None;
        machine.rebuilds = true;
        self.crash(id, Some(Micros::from_millis(5)));
    }

    /// Whether diverging scripts have been found, where the other members suffice to find them.
    pub(super) fn is_put_right(&self) -> bool {
        let astray =
            (0..).zip(&self.machines).find_map(|(id, machine)| Some((id, machine, machine.strays_from?)));
        let Some((id, machine, from)) = astray else { return true };
        let (_, members) = self.checkers.members();
        // The report of a node that has lost its disk does not count.
        let counts = |member: &&u16| **member != id && !self.checkers.is_lost(**member);
        let others = members.iter().filter(counts).count();
        let learned = machine.node().map(Replica::learned).unwrap_or_default();
        let is_astray = self.checkers.applied_from(from).is_some_and(|first| first <= learned);
        !is_astray || others < members.len() / 2 + 1
    }
}
