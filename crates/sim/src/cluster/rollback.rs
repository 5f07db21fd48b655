//! Disks that are rolled back, and the split logs that may follow.
//!
//! It owns the copy of a disk, its return, and the end of a node whose log is wrong. The checkers decide what the
//! nodes must detect then.

use upaxos_core::replica::{Event, Replica};

use super::Cluster;
use crate::machine::{Machine, Role};

impl<C> Cluster<C> {
    /// Copies the disk of a node while the node runs.
    pub(crate) fn copy_disk(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        if !machine.is_lost() && machine.lost_below.is_none() && machine.life > 0 {
            machine.copy = Some(machine.disk.copy());
            self.checkers.on_copied(id);
        }
    }

    /// Puts the copy back on the disk of a node that is down.
    pub(crate) fn roll_back(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        let Some(disk) = machine.copy.take() else { return };
        (machine.disk, machine.lost_below) = (disk, None);
        machine.is_rolled_back = self.checkers.on_rolled_back(id);
        self.seen.rolled_back += u64::from(machine.is_rolled_back);
        self.trace.note(self.now, id, b"roll back");
        self.note_change(id, "has an earlier copy of its disk");
    }

    /// A node ends for good, because a quorum of the others has another log.
    pub(super) fn end_for_its_log(&mut self, id: u16, reason: &Event) {
        self.seen.stopped += 1;
        self.break_off(id, reason);
        self.machines[usize::from(id)].role = Role::Gone;
    }

    /// What the nodes have failed to detect after a rollback. `None` when nothing is missing.
    pub(crate) fn not_found(&self) -> Option<String> {
        if !self.checkers.has_rolled_back() {
            return None;
        }
        let up = |(_, machine): &(u16, &Machine)| machine.node().is_some();
        let members = &self.checkers.members().1;
        // The report of a node that has lost its own disk does not count.
        let is_believed = |(id, machine): &(u16, &Machine)| members.contains(id) && machine.wipes == 0;
        let running: Vec<u16> = self.running().filter(up).filter(is_believed).map(|(id, _)| id).collect();
        let down = self.running().find(|machine| !up(machine));
        let down = down.map(|(id, _)| format!("{id} is down"));
        down.or_else(|| self.still_votes(&running)).or_else(|| self.checkers.not_told(&running))
    }

    /// Finds a rolled back node that votes although a peer remembers a later life of it.
    fn still_votes(&self, running: &[u16]) -> Option<String> {
        let votes = |id: &&u16| {
            let machine = &self.machines[usize::from(**id)];
            machine.is_rolled_back && machine.node().is_some_and(Replica::is_voter)
        };
        let id = running.iter().find(votes)?;
        let boot = self.machines[usize::from(*id)].node()?.boot();
        let peer = running.iter().find(|peer| self.checkers.knows_better(**peer, *id, boot))?;
        Some(format!("{id} votes in {boot:?}, and {peer} remembers another life"))
    }

    /// Counts the rolled back nodes that may not vote.
    pub(crate) fn count_barred(&mut self) {
        let is_barred = |machine: &&Machine| {
            machine.is_rolled_back && machine.node().is_some_and(|node| !node.is_voter())
        };
        self.seen.barred += self.machines.iter().filter(is_barred).count() as u64;
    }
}
