//! The start of a node's life: opens the disk, recovers the log, and compares what the node knows with what was
//! durable. A node may refuse to start only if its disk was damaged on purpose, and not inside a value.

use std::collections::VecDeque;
use std::rc::Rc;

use upaxos_core::driver::Driver;
use upaxos_core::past::Source;
use upaxos_core::record::Record;
use upaxos_core::replica::{Config, Recovery, Replica};
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::Dialect;
use upaxos_storage::StoreError;

use super::{Cluster, Next, Setting};
use crate::checkers::Rule;
use crate::disk::Flip;
use crate::machine::{Loads, Role, State, Work};

impl<C> Cluster<C> {
    /// Starts the node at that time, unless it has been started before.
    pub(crate) fn start_at(&mut self, id: u16, at: Micros) {
        let life = self.machines[usize::from(id)].life;
        self.at(at, Next::Start(id, life));
    }

    /// Starts the node now.
    pub(crate) fn start_now(&mut self, id: u16) {
        self.start(id, self.machines[usize::from(id)].life);
    }

    pub(super) fn start(&mut self, id: u16, life: u64) {
        let machine = &mut self.machines[usize::from(id)];
        let config = match machine.role {
            Role::Member => Config::member(NodeId(id), self.setting.n),
            Role::Joins(replaces) => Config::joining(NodeId(id), replaces.map(NodeId)),
            Role::Spare | Role::Gone => return,
        };
        if machine.life != life || !matches!(machine.state, State::Down) {
            return;
        }
        machine.begin_life(self.now);
        if let Some(Loads(load)) = &machine.own_scripts {
            machine.hooks = Some(load());
        }
        self.note_change(id, "starts");
        let machine = &mut self.machines[usize::from(id)];
        let opened = match machine.disk.open() {
            Ok(opened) => opened,
            Err(error) => return self.refuse_start(id, &error),
        };
        self.seen.torn += u64::from(opened.is_torn);
        opened.news.iter().for_each(|record| self.checkers.on_durable(id, record));
        let classic = self.setting.dialect == Dialect::Classic;
        let fast_read = self.machines[usize::from(id)].fast_read;
        let Setting { timing, limits, .. } = self.setting;
        let config = Config { classic, fast_read, timing, limits, ..config };
        let hooks = self.machines[usize::from(id)].hooks.clone();
        let mut recovery = match &hooks {
            Some(hooks) => Recovery::with_hooks(config, Rc::clone(hooks)),
            None => Recovery::new(config),
        };
        if self.machines[usize::from(id)].rebuilds {
            recovery = recovery.rebuild();
        }
        for record in &opened.records {
            if let Err(error) = recovery.take(record) {
                return self.checkers.fail(Rule::RecoversWhole, format!("{id} cannot start: {error}"));
            }
        }
        self.count += 1;
        // No two lives on one network have the same number. A daemon draws it at random.
        let boot = (self.setting.incarnations << 32) + self.count;
        let machine = &mut self.machines[usize::from(id)];
        let mut node = recovery.finish(machine.disk.seed(), boot);
        node.on_compacted(machine.disk.compacted());
        let behind = self.checkers.acknowledged().0.saturating_sub(node.learned().0);
        self.seen.behind = self.seen.behind.max(behind);
        match self.setting.dialect {
            Dialect::Classic => self.checkers.on_recovered_log(id, opened.records.len(), node.learned()),
            Dialect::Extended => self.recovered(id, &node, &opened.lost),
        }
        if let Err(error) = self.reread(id, &node) {
            return self.refuse_start(id, &error);
        }
        match self.compute_anew(id, &mut node) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.refuse_start(id, &error),
        }
        if self.machines[usize::from(id)].flipped.is_some() {
            self.checkers.fail(Rule::RecoversWhole, format!("{id} does not notice that a bit was flipped"));
        }
        let mut out = self.machines[usize::from(id)].outbox(id, limits);
        node.start(Micros(0), &mut out);
        let work = Work { node: Box::new(node), out, driver: Driver::new(), said: VecDeque::new() };
        self.act(id, work);
    }

    /// Checks that all durable records are there, except for what a flipped bit inside a value destroyed.
    fn recovered(&mut self, id: u16, node: &Replica, lost: &[Record]) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.flipped == Some(Flip::Value) && !lost.is_empty() {
            (machine.flipped, machine.lost_below) = (None, Some(self.checkers.learned(id)));
        }
        machine.flipped.take_if(|flipped| *flipped == Flip::Spare);
        self.checkers.on_recovered(id, &node.checkpoint(), lost);
    }

    /// Checks that all learned instances read as before, in memory or in the history files.
    fn reread(&mut self, id: u16, node: &Replica) -> Result<(), StoreError> {
        let disk = &self.machines[usize::from(id)].disk;
        let compacted = disk.compacted();
        let past = disk.past(Instance(1), compacted, usize::MAX)?;
        let old = past.iter().map(|past| (past.instance, Some(node.value_of(past))));
        let new = (compacted.0 + 1..=node.learned().0).map(Instance);
        for (instance, reads) in old.chain(new.map(|instance| (instance, node.value_at(instance)))) {
            match reads {
                Some(reads) => self.checkers.on_reads(id, instance, &reads),
                None => self.checkers.fail(Rule::Durability, format!("{id} lost instance {instance}")),
            }
        }
        if past.len() as u64 != compacted.0 {
            self.checkers.fail(Rule::Durability, format!("{id} lost a part of its history to {compacted}"));
        }
        Ok(())
    }

    /// A node may refuse to start only if its disk was damaged while it was down. Then the disk is lost.
    fn refuse_start(&mut self, id: u16, error: &StoreError) {
        let machine = &mut self.machines[usize::from(id)];
        if !matches!(machine.flipped, Some(Flip::Else | Flip::Spare)) {
            return self.checkers.fail(Rule::RecoversWhole, format!("{id} cannot start: {error}"));
        }
        self.seen.damaged += 1;
        let life = machine.life;
        self.lose_disk(id);
        self.at(self.now, Next::Start(id, life));
    }
}
