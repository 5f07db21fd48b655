//! What the plan does to the world, and how it ends.

use super::{Next, World, incarnation};
use crate::sim::disk::Disk;
use crate::sim::machine::{Role, State};
use crate::sim::swarm::Fault;
use crate::types::{Act, Change, Micros, NodeId};

impl World {
    /// From now on the plan takes its course.
    pub fn begin_chaos(&mut self) {
        self.is_chaotic = true;
        self.network.disturb(&self.plan.rates);
        for at in 0..self.plan.faults.len() {
            self.at(self.now + self.plan.faults[at].at, Next::Fault(at));
        }
    }

    /// Ends every fault. Who is down comes back by itself.
    pub fn heal(&mut self) {
        if self.judges.violation().is_some() {
            return;
        }
        self.is_chaotic = false;
        self.network.heal();
        self.topology = None;
        for id in 0..self.nodes() {
            let machine = &mut self.machines[usize::from(id)];
            machine.heal();
            match machine.state {
                State::Waits(_) => {
                    machine.wake_at = Micros(u64::MAX);
                    self.wake_at(id, self.now);
                }
                State::Halts(_) => {
                    let life = machine.life;
                    self.at(self.now, Next::GoOn(id, life));
                }
                _ => {}
            }
        }
    }

    /// The power of all fails in one moment, and comes back.
    pub fn cut_all_power(&mut self) {
        (0..self.nodes()).for_each(|id| self.crash(id, Micros(0)));
    }

    pub(super) fn fault(&mut self, at: usize) {
        if !self.is_chaotic {
            return;
        }
        let (fault, now) = (self.plan.faults[at].fault.aimed_at(self.leader()), self.now);
        self.trace.note(now, at as u16, b"fault");
        match fault {
            Fault::Crash { node, after, down } => {
                self.machines[usize::from(node)].crash_after = Some((after, down));
            }
            Fault::TornWrite { node, down } => self.tear(node, down),
            Fault::SyncError { node, down } => self.machines[usize::from(node)].sync_fails = Some(down),
            Fault::SlowSync { node, each, length } => {
                self.machines[usize::from(node)].slow_sync = (each, now + length);
            }
            Fault::Pause { node, after: Some(after), length } => {
                self.machines[usize::from(node)].halt_after = Some((after, length));
            }
            Fault::Pause { node, after: None, length } => {
                self.seen.pauses += 1;
                self.machines[usize::from(node)].paused_until = now + length;
            }
            Fault::Cut { topology, length } => {
                self.seen.partitions += 1;
                self.cut += 1;
                self.network.cut(&topology);
                self.topology = Some(topology);
                self.at(now + length, Next::Join(self.cut));
            }
            Fault::SwizzleClog { goes, comes, step } => {
                self.seen.partitions += 1;
                let steps = goes.len() as u64;
                for (at, node) in (0..).zip(goes) {
                    self.at(now + step * at, Next::Isolate(node, true));
                }
                for (at, node) in (steps..).zip(comes) {
                    self.at(now + step * at, Next::Isolate(node, false));
                }
            }
            Fault::Wipe { node, down } => self.wipe(node, down),
            Fault::Enter { replaces } => self.enter(replaces),
            Fault::Leave { node } => {
                let change = Change { act: Act::Leave(NodeId(node)), is_forced: false };
                self.clients.ask_for(change, now, &mut self.judges);
            }
            Fault::BitFlip { node, down } => self.flip_bit(node, down),
        }
    }

    fn tear(&mut self, node: u16, down: Micros) {
        let machine = &mut self.machines[usize::from(node)];
        match machine.state {
            State::Syncs(_) => self.crash(node, down),
            _ => machine.tears = Some(down),
        }
    }

    fn enter(&mut self, replaces: Option<u16>) {
        let Some(id) = self.machines.iter().position(|machine| machine.role == Role::Spare) else { return };
        self.seen.joins += 1;
        self.machines[id].role = Role::Joins(replaces);
        self.judges.on_entered(id as u16, replaces);
        self.at(self.now, Next::Start(id as u16, 0));
    }

    /// A node has left the group and ends for good.
    pub(super) fn retire(&mut self, id: u16, life: u64) {
        if self.machines[usize::from(id)].life == life {
            self.seen.leaves += 1;
            self.crash(id, Micros(0));
            self.machines[usize::from(id)].role = Role::Gone;
        }
    }

    /// Only while a quorum of the group in force keeps its disks, with all that was decided before, and
    /// everybody has been registered once: else not even a correct group survives it.
    fn may_lose_disk(&mut self, node: u16) -> bool {
        self.count_whole_again();
        let members = self.judges.members().1;
        let is_lost = |id: &u16| {
            let machine = &self.machines[usize::from(*id)];
            machine.is_lost() || machine.lost_below.is_some()
        };
        let is_registered = |id: &u16| self.judges.is_member(*id) || self.judges.is_lost(*id);
        let first: Vec<u16> = (0..self.plan.n).collect();
        let keeps = |id: &&u16| **id != node && !is_lost(id) && self.judges.is_sound(**id);
        // Of the first group, too, no majority: what they remember of each other guards them.
        let lost = first.iter().filter(|id| is_lost(id)).count() as u16;
        members.contains(&node)
            && !is_lost(&node)
            && self.machines[usize::from(node)].role != Role::Gone
            && !self.judges.has_open_change()
            && members.iter().chain(&first).all(is_registered)
            && members.iter().filter(keeps).count() > members.len() / 2
            && (node >= self.plan.n || lost < (self.plan.n - 1) / 2)
    }

    /// Whose values are all back and durable is whole again.
    fn count_whole_again(&mut self) {
        let whole = self.machines.iter_mut().filter_map(|machine| machine.is_whole_again().then_some(()));
        self.seen.fetched += whole.count() as u64;
    }

    /// Counts who has got again what a flipped bit took.
    pub fn count_fetched(&mut self) {
        self.seen.fetched += self.machines.iter().filter(|machine| machine.has_fetched()).count() as u64;
    }

    fn wipe(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            self.lose_disk(node);
        }
    }

    /// A node without a disk comes back with an empty one.
    pub(super) fn lose_disk(&mut self, node: u16) {
        self.seen.wipes += 1;
        let machine = &mut self.machines[usize::from(node)];
        machine.wipes += 1;
        (machine.flipped, machine.lost_below) = (None, None);
        machine.disk = Disk::new(incarnation(node, machine.wipes));
        self.judges.on_wiped(node);
    }

    fn flip_bit(&mut self, node: u16, down: Micros) {
        if self.may_lose_disk(node) {
            self.take_down(node, down);
            let machine = &mut self.machines[usize::from(node)];
            machine.flipped = machine.disk.flip_bit(&mut self.disk_chance);
        }
    }

    fn take_down(&mut self, node: u16, down: Micros) {
        if !matches!(self.machines[usize::from(node)].state, State::Down) {
            self.crash(node, down);
        }
    }
}
