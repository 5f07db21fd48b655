//! Disks that are rolled back, and the split logs that may follow.
//!
//! Owns the copy and its return, and what becomes of a node that ends for its log. What must be found then, the judges
//! say.

use super::Stage;
use crate::node::{Event, Node};
use crate::sim::machine::{Machine, Role};

impl<C> Stage<C> {
    /// The disk of a node is copied, while it runs.
    pub(in crate::sim) fn copy_disk(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        if !machine.is_lost() && machine.lost_below.is_none() && machine.life > 0 {
            machine.copy = Some(machine.disk.copy());
            self.judges.on_copied(id);
        }
    }

    /// The copy of the disk of a node that is down is put back.
    pub(in crate::sim) fn roll_back(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        let Some(disk) = machine.copy.take() else { return };
        (machine.disk, machine.lost_below) = (disk, None);
        machine.is_rolled_back = self.judges.on_rolled_back(id);
        self.seen.rolled_back += u64::from(machine.is_rolled_back);
        self.trace.note(self.now, id, b"roll back");
        self.note_change(id, "has an earlier copy of its disk");
    }

    /// A node ends for good: a quorum of the others has another log.
    pub(super) fn end_for_its_log(&mut self, id: u16, reason: &Event) {
        self.seen.stopped += 1;
        self.break_off(id, reason);
        self.machines[usize::from(id)].role = Role::Gone;
    }

    /// What is not as it must be where a disk was rolled back; `None` when all is.
    pub(in crate::sim) fn not_found(&self) -> Option<String> {
        if !self.judges.has_rolled_back() {
            return None;
        }
        let up = |(_, machine): &(u16, &Machine)| machine.node().is_some();
        let members = &self.judges.members().1;
        // Who has lost its own disk is not believed about another's.
        let is_believed = |(id, machine): &(u16, &Machine)| members.contains(id) && machine.wipes == 0;
        let running: Vec<u16> = self.running().filter(up).filter(is_believed).map(|(id, _)| id).collect();
        let down = self.running().find(|machine| !up(machine));
        let down = down.map(|(id, _)| format!("{id} is down"));
        down.or_else(|| self.still_votes(&running)).or_else(|| self.judges.not_told(&running))
    }

    /// A node whose disk was rolled back, and which votes, though a peer remembers a later life of it.
    fn still_votes(&self, running: &[u16]) -> Option<String> {
        let votes = |id: &&u16| {
            let machine = &self.machines[usize::from(**id)];
            machine.is_rolled_back && machine.node().is_some_and(Node::is_voter)
        };
        let id = running.iter().find(votes)?;
        let boot = self.machines[usize::from(*id)].node()?.boot();
        let peer = running.iter().find(|peer| self.judges.knows_better(**peer, *id, boot))?;
        Some(format!("{id} votes in {boot:?}, and {peer} remembers another life"))
    }

    /// Counts who may not vote since its disk was rolled back.
    pub(in crate::sim) fn count_barred(&mut self) {
        let is_barred = |machine: &&Machine| {
            machine.is_rolled_back && machine.node().is_some_and(|node| !node.is_voter())
        };
        self.seen.barred += self.machines.iter().filter(is_barred).count() as u64;
    }
}
