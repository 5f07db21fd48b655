//! Injects the faults of the plan, and ends them.

use upaxos_core::types::{Act, Change, Micros, NodeId};

use super::{Chaos, Cue};
use crate::fault_plan::Fault;
use crate::machine::{Role, State};

impl Chaos {
    /// From now on the faults of the plan happen.
    pub fn begin_chaos(&mut self) {
        self.is_chaotic = true;
        self.cluster.network.disturb(&self.plan.rates);
        for at in 0..self.plan.faults.len() {
            self.cluster.cue(self.cluster.now + self.plan.faults[at].at, Cue::Fault(at));
        }
        self.plan_joining();
    }

    /// Ends every fault. Nodes that are down come back by themselves.
    pub fn heal(&mut self) {
        if self.violation().is_some() {
            return;
        }
        self.is_chaotic = false;
        self.topology = None;
        self.cluster.heal();
        self.heal_wires();
    }

    /// The power of all nodes fails at one moment, and comes back.
    pub fn cut_all_power(&mut self) {
        (0..self.cluster.nodes()).for_each(|id| self.cluster.crash(id, Some(Micros(0))));
        self.beside(Chaos::cut_all_power);
    }

    /// Counts a group that cannot decide anything any more.
    pub fn note_dead(&mut self) {
        self.cluster.seen.dead += 1;
    }

    pub(super) fn fault(&mut self, at: usize) {
        if !self.is_chaotic {
            return;
        }
        let (fault, now) = (self.plan.faults[at].fault.aimed_at(self.leader()), self.cluster.now);
        self.cluster.trace.note(now, at as u16, b"fault");
        match fault {
            Fault::Crash { node, after, down } => {
                self.cluster.machines[usize::from(node)].crash_after = Some((after, Some(down)));
            }
            Fault::TornWrite { node, down } => self.tear(node, down),
            Fault::SyncError { node, down } => {
                self.cluster.machines[usize::from(node)].sync_fails = Some(Some(down))
            }
            Fault::SlowSync { node, each, length } => {
                self.cluster.machines[usize::from(node)].slow_sync = (each, now + length);
            }
            Fault::Pause { node, after: Some(after), length } => {
                self.cluster.machines[usize::from(node)].halt_after = Some((after, length));
            }
            Fault::Pause { node, after: None, length } => {
                self.cluster.seen.pauses += 1;
                self.cluster.machines[usize::from(node)].paused_until = now + length;
            }
            Fault::Cut { topology, length } => {
                self.cluster.seen.partitions += 1;
                self.cut += 1;
                self.cluster.network.cut(&topology);
                self.topology = Some(topology);
                self.cluster.cue(now + length, Cue::Join(self.cut));
            }
            Fault::SwizzleClog { goes, comes, step } => {
                self.cluster.seen.partitions += 1;
                let steps = goes.len() as u64;
                for (at, node) in (0..).zip(goes) {
                    self.cluster.cue(now + step * at, Cue::Isolate(node, true));
                }
                for (at, node) in (steps..).zip(comes) {
                    self.cluster.cue(now + step * at, Cue::Isolate(node, false));
                }
            }
            Fault::Wipe { node, down } => self.wipe(node, down),
            Fault::Enter { replaces } => self.enter(replaces),
            Fault::Leave { node } => {
                let change = Change { act: Act::Leave(NodeId(node)), is_forced: false };
                self.clients.ask_for(change, now, &self.cluster.checkers);
            }
            Fault::BitFlip { node, down } => self.flip_bit(node, down),
            Fault::Absence { node, down } => self.take_down(node, down),
            Fault::CopyDisk { node } => self.cluster.copy_disk(node),
            Fault::RollBack { node, down } => self.roll_back(node, down),
            Fault::Operate { change: None, .. } => self.enter(None),
            Fault::Operate { change: Some(change), .. } => {
                self.cluster.seen.forced += u64::from(change.is_forced);
                self.clients.ask_for(change, now, &self.cluster.checkers);
            }
        }
    }

    fn tear(&mut self, node: u16, down: Micros) {
        let machine = &mut self.cluster.machines[usize::from(node)];
        match machine.state {
            State::Syncs(_) => self.cluster.crash(node, Some(down)),
            _ => machine.tears = Some(Some(down)),
        }
    }

    fn enter(&mut self, replaces: Option<u16>) {
        let Some(id) = self.cluster.machines.iter().position(|machine| machine.role == Role::Spare) else {
            return;
        };
        // A node cannot replace itself: on the command line that is an error.
        let replaces = replaces.filter(|old| usize::from(*old) != id);
        self.cluster.seen.joins += 1;
        self.cluster.machines[id].role = Role::Joins(replaces);
        self.cluster.checkers.on_entered(id as u16, replaces);
        self.cluster.start_at(id as u16, self.cluster.now);
    }

    /// A node has left the group and ends for good.
    pub(super) fn retire(&mut self, id: u16, life: u64) {
        if self.cluster.machines[usize::from(id)].life == life {
            self.cluster.seen.leaves += 1;
            self.cluster.crash(id, Some(Micros(0)));
            self.cluster.machines[usize::from(id)].role = Role::Gone;
        }
    }

    /// A node may not vote. It ends for good if it was started to join and never was a member. It also ends if its
    /// disk is lost and it hears two groups: its operator ends it.
    pub(super) fn turned_away(&mut self, id: u16) {
        let machine = &self.cluster.machines[usize::from(id)];
        let is_of_none = || machine.node().is_some_and(|node| node.head().group.is_none());
        if matches!(machine.role, Role::Joins(_)) && (!self.cluster.checkers.was_member(id) || is_of_none()) {
            self.cluster.crash(id, None);
            self.cluster.machines[usize::from(id)].role = Role::Gone;
        }
    }

    /// Whether a disk may fail. A quorum of the group in force must keep its disks with all that was decided
    /// before, and every node must have been registered once. Otherwise not even a correct group survives the loss.
    fn may_lose_disk(&mut self, node: u16) -> bool {
        self.count_whole_again();
        let members = self.cluster.checkers.members().1;
        let is_lost = |id: &u16| {
            let machine = &self.cluster.machines[usize::from(*id)];
            machine.is_lost() || machine.lost_below.is_some()
        };
        let is_registered =
            |id: &u16| self.cluster.checkers.is_member(*id) || self.cluster.checkers.is_lost(*id);
        let first: Vec<u16> = (0..self.plan.n).collect();
        let keeps = |id: &&u16| **id != node && !is_lost(id) && self.cluster.checkers.is_sound(**id);
        // Of the first group, too, no majority may lose its disks: what those nodes remember of each other guards
        // them.
        let lost = first.iter().filter(|id| is_lost(id)).count() as u16;
        members.contains(&node)
            && !is_lost(&node)
            && self.cluster.machines[usize::from(node)].role != Role::Gone
            && !self.cluster.checkers.has_open_change()
            && members.iter().chain(&first).all(is_registered)
            && members.iter().filter(keeps).count() > members.len() / 2
            && (node >= self.plan.n || lost < (self.plan.n - 1) / 2)
    }

    /// Counts the nodes whose values are all back and durable. They are intact again.
    fn count_whole_again(&mut self) {
        let whole =
            self.cluster.machines.iter_mut().filter_map(|machine| machine.is_whole_again().then_some(()));
        self.cluster.seen.fetched += whole.count() as u64;
    }

    /// Counts the nodes that have got back what a flipped bit destroyed.
    pub fn count_fetched(&mut self) {
        self.cluster.seen.fetched +=
            self.cluster.machines.iter().filter(|machine| machine.has_fetched()).count() as u64;
    }

    fn wipe(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            self.cluster.lose_disk(node);
        }
    }

    fn roll_back(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            self.cluster.roll_back(node);
        }
    }

    fn flip_bit(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            let machine = &mut self.cluster.machines[usize::from(node)];
            // After a failed sync, bytes that are only in memory would hide the damage on the disk.
            machine.disk.cut_power(&mut self.cluster.disk_chance);
            machine.flipped = machine.disk.flip_bit(&mut self.cluster.disk_chance);
        }
    }

    fn take_down(&mut self, node: u16, down: Micros) {
        if !matches!(self.cluster.machines[usize::from(node)].state, State::Down) {
            self.cluster.crash(node, Some(down));
        }
    }
}
