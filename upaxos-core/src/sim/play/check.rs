//! The end of a script, or of a part of it: everything heals, and must go well.
//!
//! Owns the phases of that, which are those of drawn runs: healing, progress, a power cut of all, progress
//! again, and what was acknowledged must be there.

use super::Play;
use crate::sim::judges::{Rule, Violation};
use crate::sim::machine::{Role, State};
use crate::types::Micros;
use crate::wire::Dialect;

impl Play {
    /// Judges everything that has happened so far. Ends every fault, starts who is down (who was wiped or has
    /// left stays down), waits until all is answered and learned alike; then the power of all fails, and again.
    /// A group without a quorum of disks is not asked for progress.
    pub fn check(&mut self, patience: Micros) -> Vec<Violation> {
        let mut failed = None;
        self.guarded(|play| failed = play.phases(patience).err());
        self.violation().cloned().into_iter().chain(failed).collect()
    }

    fn phases(&mut self, patience: Micros) -> Result<(), Violation> {
        self.stage.heal();
        for id in 0..self.nodes() {
            let n = self.stage.setting.n;
            let machine = &mut self.stage.machines[usize::from(id)];
            if machine.role == Role::Spare && id < n {
                machine.role = Role::Member;
                self.uses[usize::from(id)].joined = Some(false);
            }
            // One that ends now, as it was told, comes back like those that have.
            machine.ends = None;
            self.stage.start_now(id);
            self.on_news();
        }
        self.settle(patience, "after healing")?;
        for id in 0..self.nodes() {
            if !matches!(self.stage.machines[usize::from(id)].state, State::Down) {
                self.stage.crash(id, Some(Micros(0)));
            }
        }
        self.settle(patience, "after a power cut of all")?;
        let learned = if self.stage.is_alive() { self.stage.learned() } else { Vec::new() };
        self.stage.judges.finish(&learned);
        Ok(())
    }

    /// Waits until nothing is open any more.
    fn settle(&mut self, patience: Micros, when: &str) -> Result<(), Violation> {
        let end = self.stage.now + patience;
        while self.violation().is_none() && !self.is_settled() {
            if !self.happen(end) {
                if !self.stage.is_alive() {
                    return Ok(());
                }
                let got = format!("{when}: not settled in {} ms", patience.0 / 1_000);
                return Err(Violation { rule: Rule::Progress, got });
            }
        }
        Ok(())
    }

    /// Whether all is answered and learned alike, and somebody leads, where there are leaders.
    fn is_settled(&self) -> bool {
        let is_led = || self.stage.machines.iter().filter_map(|m| m.node()).any(|node| node.is_leading());
        self.callers.is_content()
            && self.stage.is_settled()
            && (self.stage.setting.dialect == Dialect::Classic || is_led())
    }
}
