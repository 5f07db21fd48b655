//! Another group beside this one, with the offset between their clocks.

use upaxos_core::types::Micros;

use crate::fault_plan::Other;
use crate::rng::Rng;

/// The other group, and its clock.
#[derive(Debug)]
pub(super) struct Beside<W> {
    pub(super) world: W,
    pub(super) plan: Other,
    pub(super) chance: Rng,
    /// The time of this world at which the clock of the other shows the planned age (0 without one). `None`: the
    /// other has not begun.
    pub(super) zero: Option<Micros>,
}

impl<W> Beside<W> {
    /// The time of this world when the other's clock shows `theirs`.
    pub(super) fn ours(&self, theirs: Micros) -> Option<Micros> {
        Some(theirs.since(self.plan.age.unwrap_or_default()) + self.zero?)
    }

    pub(super) fn theirs(&self, ours: Micros) -> Option<Micros> {
        Some(ours.since(self.zero?) + self.plan.age.unwrap_or_default())
    }

    /// Whether the other group must keep its promises: not one that began on this group's wire.
    pub(super) fn is_whole(&self) -> bool {
        self.plan.age.is_some()
    }
}
