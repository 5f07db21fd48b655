//! How lives end and how machines pause: crashes, orderly ends, pauses, lost disks, power cuts.
//!
//! It owns the state of a machine after each of these. The director decides when they happen.

use upaxos_core::replica::Replica;
use upaxos_core::types::Micros;

use super::{Cluster, Next, incarnation};
use crate::disk::Disk;
use crate::machine::{Down, End, State};

impl<C> Cluster<C> {
    /// Ends a node at once. The disk keeps a random part of the unsynced bytes.
    pub(crate) fn crash(&mut self, id: u16, down: Down) {
        self.machines[usize::from(id)].disk.cut_power(&mut self.disk_chance);
        self.kill(id, down);
    }

    /// Ends a process at once. Its machine goes on, and keeps all that the process has written.
    fn kill(&mut self, id: u16, down: Down) {
        let machine = &mut self.machines[usize::from(id)];
        self.seen.crashes_in_sync += u64::from(matches!(machine.state, State::Syncs(_)));
        self.seen.crashes += 1;
        machine.end_life();
        machine.disk.close();
        let life = machine.life;
        self.trace.note(self.now, id, b"crash");
        self.note_change(id, "is killed");
        if let Some(down) = down {
            self.at(self.now + down, Next::Start(id, life));
        }
    }

    /// Ends a node between two effects of its loop, after a random number of effects.
    pub(crate) fn crash_amid(&mut self, id: u16) {
        let effects = self.machine_chance.below(8);
        let machine = &mut self.machines[usize::from(id)];
        let may_run = matches!(machine.state, State::Waits(_)) && !machine.is_stopped;
        if may_run && self.machine_chance.hits(500_000) {
            machine.crash_after = Some((effects, None));
            machine.wake_at = self.now;
            self.wake(id);
        }
        let machine = &mut self.machines[usize::from(id)];
        if !matches!(machine.state, State::Down) {
            return self.crash(id, None);
        }
        // Whatever ended it on the way counts as a kill.
        machine.ended = None;
    }

    /// The node ends by itself, in good order, after its present turn.
    pub(crate) fn end_soon(&mut self, id: u16, end: End) {
        let machine = &mut self.machines[usize::from(id)];
        machine.ends.get_or_insert(end);
        self.wake_again(id);
    }

    /// The node ends in good order: all that it has written becomes durable.
    pub(super) fn end(&mut self, id: u16, node: &Replica) {
        let machine = &mut self.machines[usize::from(id)];
        if let Err(error) = machine.disk.begin_sync(node) {
            return self.break_off(id, &error);
        }
        let durable = machine.disk.end_sync();
        machine.ended = match machine.ends.take() {
            Some(End::Itself(words)) => Some(words),
            Some(End::Told) | None => None,
        };
        machine.end_life();
        machine.disk.close();
        durable.iter().for_each(|record| self.checkers.on_durable(id, record));
        self.trace.note(self.now, id, b"end");
        self.note_change(id, "ends");
    }

    /// The node ends at once, because its disk fails: what is durable is unknown. The power may fail at the same
    /// moment, or later.
    pub(super) fn break_off(&mut self, id: u16, error: &dyn std::fmt::Display) {
        let machine = &mut self.machines[usize::from(id)];
        let fails = machine.sync_fails.take().or(machine.disk_fails);
        self.seen.failed_syncs += u64::from(fails.is_some());
        match self.disk_chance.hits(500_000) {
            true => self.crash(id, fails.flatten()),
            false => self.kill(id, fails.flatten()),
        }
        let machine = &mut self.machines[usize::from(id)];
        machine.ends = None;
        machine.ended = Some((1, error.to_string()));
        self.note_change(id, &format!("ends: {error}"));
    }

    /// The node pauses until [`Cluster::go_on_again`].
    pub(crate) fn pause(&mut self, id: u16) {
        self.seen.pauses += 1;
        self.trace.note(self.now, id, b"pause");
        self.machines[usize::from(id)].is_stopped = true;
    }

    /// A paused node goes on, unaware of the pause.
    pub(crate) fn go_on_again(&mut self, id: u16) {
        self.trace.note(self.now, id, b"go on");
        let machine = &mut self.machines[usize::from(id)];
        machine.is_stopped = false;
        let life = machine.life;
        if std::mem::take(&mut machine.is_synced) {
            self.at(self.now, Next::Synced(id, life));
        }
        self.wake_again(id);
    }

    /// Looks at once for work of a machine, whatever time was planned for that.
    fn wake_again(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        if let State::Waits(_) = machine.state {
            machine.wake_at = Micros(u64::MAX);
            self.wake_at(id, self.now);
        }
    }

    /// Ends every present and planned fault of links and machines. A node that is down stays down.
    pub(crate) fn heal(&mut self) {
        self.network.heal();
        for id in 0..self.nodes() {
            let machine = &mut self.machines[usize::from(id)];
            machine.heal();
            if machine.is_stopped {
                self.go_on_again(id);
                continue;
            }
            if let State::Halts(_) = machine.state {
                let life = machine.life;
                self.at(self.now, Next::GoOn(id, life));
            }
            self.wake_again(id);
        }
    }

    /// Takes the disk of a stopped node away. The node will start with an empty one.
    pub(crate) fn lose_disk(&mut self, node: u16) {
        self.seen.wipes += 1;
        let machine = &mut self.machines[usize::from(node)];
        machine.wipes += 1;
        (machine.flipped, machine.lost_below, machine.copy) = (None, None, None);
        machine.disk = Disk::new(self.setting.incarnations + incarnation(node, machine.wipes));
        self.checkers.on_wiped(node);
    }
}
