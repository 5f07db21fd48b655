//! Injects the faults of the plan, and ends them.

use upaxos_core::types::{Act, Change, Micros, NodeId};

use super::{Cue, World};
use crate::machine::{Role, State};
use crate::swarm::Fault;

impl World {
    /// From now on the faults of the plan happen.
    pub fn begin_chaos(&mut self) {
        self.is_chaotic = true;
        self.stage.network.disturb(&self.plan.rates);
        for at in 0..self.plan.faults.len() {
            self.stage.cue(self.stage.now + self.plan.faults[at].at, Cue::Fault(at));
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
        self.stage.heal();
        self.heal_wires();
    }

    /// The power of all nodes fails at one moment, and comes back.
    pub fn cut_all_power(&mut self) {
        (0..self.stage.nodes()).for_each(|id| self.stage.crash(id, Some(Micros(0))));
        self.beside(World::cut_all_power);
    }

    /// Counts a group that cannot decide anything any more.
    pub fn note_dead(&mut self) {
        self.stage.seen.dead += 1;
    }

    pub(super) fn fault(&mut self, at: usize) {
        if !self.is_chaotic {
            return;
        }
        let (fault, now) = (self.plan.faults[at].fault.aimed_at(self.leader()), self.stage.now);
        self.stage.trace.note(now, at as u16, b"fault");
        match fault {
            Fault::Crash { node, after, down } => {
                self.stage.machines[usize::from(node)].crash_after = Some((after, Some(down)));
            }
            Fault::TornWrite { node, down } => self.tear(node, down),
            Fault::SyncError { node, down } => {
                self.stage.machines[usize::from(node)].sync_fails = Some(Some(down))
            }
            Fault::SlowSync { node, each, length } => {
                self.stage.machines[usize::from(node)].slow_sync = (each, now + length);
            }
            Fault::Pause { node, after: Some(after), length } => {
                self.stage.machines[usize::from(node)].halt_after = Some((after, length));
            }
            Fault::Pause { node, after: None, length } => {
                self.stage.seen.pauses += 1;
                self.stage.machines[usize::from(node)].paused_until = now + length;
            }
            Fault::Cut { topology, length } => {
                self.stage.seen.partitions += 1;
                self.cut += 1;
                self.stage.network.cut(&topology);
                self.topology = Some(topology);
                self.stage.cue(now + length, Cue::Join(self.cut));
            }
            Fault::SwizzleClog { goes, comes, step } => {
                self.stage.seen.partitions += 1;
                let steps = goes.len() as u64;
                for (at, node) in (0..).zip(goes) {
                    self.stage.cue(now + step * at, Cue::Isolate(node, true));
                }
                for (at, node) in (steps..).zip(comes) {
                    self.stage.cue(now + step * at, Cue::Isolate(node, false));
                }
            }
            Fault::Wipe { node, down } => self.wipe(node, down),
            Fault::Enter { replaces } => self.enter(replaces),
            Fault::Leave { node } => {
                let change = Change { act: Act::Leave(NodeId(node)), is_forced: false };
                self.clients.ask_for(change, now, &self.stage.judges);
            }
            Fault::BitFlip { node, down } => self.flip_bit(node, down),
            Fault::Absence { node, down } => self.take_down(node, down),
            Fault::CopyDisk { node } => self.stage.copy_disk(node),
            Fault::RollBack { node, down } => self.roll_back(node, down),
            Fault::Operate { change: None, .. } => self.enter(None),
            Fault::Operate { change: Some(change), .. } => {
                self.stage.seen.forced += u64::from(change.is_forced);
                self.clients.ask_for(change, now, &self.stage.judges);
            }
        }
    }

    fn tear(&mut self, node: u16, down: Micros) {
        let machine = &mut self.stage.machines[usize::from(node)];
        match machine.state {
            State::Syncs(_) => self.stage.crash(node, Some(down)),
            _ => machine.tears = Some(Some(down)),
        }
    }

    fn enter(&mut self, replaces: Option<u16>) {
        let Some(id) = self.stage.machines.iter().position(|machine| machine.role == Role::Spare) else {
            return;
        };
        // A node cannot replace itself: on the command line that is an error.
        let replaces = replaces.filter(|old| usize::from(*old) != id);
        self.stage.seen.joins += 1;
        self.stage.machines[id].role = Role::Joins(replaces);
        self.stage.judges.on_entered(id as u16, replaces);
        self.stage.start_at(id as u16, self.stage.now);
    }

    /// A node has left the group and ends for good.
    pub(super) fn retire(&mut self, id: u16, life: u64) {
        if self.stage.machines[usize::from(id)].life == life {
            self.stage.seen.leaves += 1;
            self.stage.crash(id, Some(Micros(0)));
            self.stage.machines[usize::from(id)].role = Role::Gone;
        }
    }

    /// A node may not vote. It ends for good if it was started to join and never was a member. It also ends if its
    /// disk is lost and it hears two groups: its operator ends it.
    pub(super) fn turned_away(&mut self, id: u16) {
        let machine = &self.stage.machines[usize::from(id)];
        let is_of_none = || machine.node().is_some_and(|node| node.head().group.is_none());
        if matches!(machine.role, Role::Joins(_)) && (!self.stage.judges.was_member(id) || is_of_none()) {
            self.stage.crash(id, None);
            self.stage.machines[usize::from(id)].role = Role::Gone;
        }
    }

    /// Whether a disk may fail. A quorum of the group in force must keep its disks with all that was decided
    /// before, and every node must have been registered once. Otherwise not even a correct group survives the loss.
    fn may_lose_disk(&mut self, node: u16) -> bool {
        self.count_whole_again();
        let members = self.stage.judges.members().1;
        let is_lost = |id: &u16| {
            let machine = &self.stage.machines[usize::from(*id)];
            machine.is_lost() || machine.lost_below.is_some()
        };
        let is_registered = |id: &u16| self.stage.judges.is_member(*id) || self.stage.judges.is_lost(*id);
        let first: Vec<u16> = (0..self.plan.n).collect();
        let keeps = |id: &&u16| **id != node && !is_lost(id) && self.stage.judges.is_sound(**id);
        // Of the first group, too, no majority may lose its disks: what those nodes remember of each other guards
        // them.
        let lost = first.iter().filter(|id| is_lost(id)).count() as u16;
        members.contains(&node)
            && !is_lost(&node)
            && self.stage.machines[usize::from(node)].role != Role::Gone
            && !self.stage.judges.has_open_change()
            && members.iter().chain(&first).all(is_registered)
            && members.iter().filter(keeps).count() > members.len() / 2
            && (node >= self.plan.n || lost < (self.plan.n - 1) / 2)
    }

    /// Counts the nodes whose values are all back and durable. They are intact again.
    fn count_whole_again(&mut self) {
        let whole =
            self.stage.machines.iter_mut().filter_map(|machine| machine.is_whole_again().then_some(()));
        self.stage.seen.fetched += whole.count() as u64;
    }

    /// Counts the nodes that have got back what a flipped bit destroyed.
    pub fn count_fetched(&mut self) {
        self.stage.seen.fetched +=
            self.stage.machines.iter().filter(|machine| machine.has_fetched()).count() as u64;
    }

    fn wipe(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            self.stage.lose_disk(node);
        }
    }

    fn roll_back(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            self.stage.roll_back(node);
        }
    }

    fn flip_bit(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            let machine = &mut self.stage.machines[usize::from(node)];
            // After a failed sync, bytes that are only in memory would hide the damage on the disk.
            machine.disk.cut_power(&mut self.stage.disk_chance);
            machine.flipped = machine.disk.flip_bit(&mut self.stage.disk_chance);
        }
    }

    fn take_down(&mut self, node: u16, down: Micros) {
        if !matches!(self.stage.machines[usize::from(node)].state, State::Down) {
            self.stage.crash(node, Some(down));
        }
    }
}
