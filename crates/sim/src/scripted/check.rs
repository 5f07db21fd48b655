//! The end of a script, or of a part of it: every fault ends, and the group must recover.
//!
//! It owns the phases of that, the same as in drawn runs: healing, progress, a power cut of all, progress again.
//! Then every acknowledged value must be there.

use upaxos_core::types::Micros;
use upaxos_core::wire::Dialect;

use super::Scripted;
use crate::checkers::{Rule, Violation};
use crate::machine::{Role, State};

impl Scripted {
    /// Checks everything that has happened so far. It ends every fault and starts every node that is down, except
    /// wiped nodes and nodes that have left. It waits until every request is answered and all nodes have caught up.
    /// Then the power of all nodes fails, and it waits again. A group without a quorum of disks need not progress.
    pub fn check(&mut self, patience: Micros) -> Vec<Violation> {
        let mut failed = None;
        self.guarded(|play| failed = play.phases(patience).err());
        self.violation().cloned().into_iter().chain(failed).collect()
    }

    fn phases(&mut self, patience: Micros) -> Result<(), Violation> {
        self.cluster.heal();
        for id in 0..self.nodes() {
            let n = self.cluster.setting.n;
            let machine = &mut self.cluster.machines[usize::from(id)];
            if machine.role == Role::Spare && id < n {
                machine.role = Role::Member;
                self.uses[usize::from(id)].joined = Some(false);
            }
            // A node that is about to end, as requested, starts again like those that have ended.
            machine.ends = None;
            self.cluster.start_now(id);
            self.on_news();
        }
        self.settle(patience, "after healing")?;
        for id in 0..self.nodes() {
            if !matches!(self.cluster.machines[usize::from(id)].state, State::Down) {
                self.cluster.crash(id, Some(Micros(0)));
            }
        }
        self.settle(patience, "after a power cut of all")?;
        let learned = if self.cluster.is_alive() { self.cluster.learned() } else { Vec::new() };
        self.cluster.checkers.finish(&learned);
        Ok(())
    }

    /// Waits until nothing is open any more.
    fn settle(&mut self, patience: Micros, when: &str) -> Result<(), Violation> {
        let end = self.cluster.now + patience;
        while self.violation().is_none() && !self.is_settled() {
            if !self.happen(end) {
                if !self.cluster.is_alive() {
                    return Ok(());
                }
                let got = format!("{when}: not settled in {} ms", patience.0 / 1_000);
                return Err(Violation { rule: Rule::Progress, got });
            }
        }
        Ok(())
    }

    /// Whether every request is answered, all nodes have caught up, and there is a leader (extended groups only).
    fn is_settled(&self) -> bool {
        let is_led = || self.cluster.machines.iter().filter_map(|m| m.node()).any(|node| node.is_leading());
        self.clients.is_content()
            && self.cluster.is_settled()
            && (self.cluster.setting.dialect == Dialect::Classic || is_led())
    }
}
