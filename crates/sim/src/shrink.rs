//! Makes a failing plan smaller, while it still fails in the same way.

use super::fault_plan::{Class, Plan};
use super::{Failure, Outcome};

/// A smaller plan, what it leaves out, and how it fails.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left of the plan.
    pub plan: Plan,
    /// The classes that were left out.
    pub without: Vec<Class>,
    /// The numbers of the single faults that were left out.
    pub skipped: Vec<usize>,
    /// The failure of the smaller plan, by the same rule.
    pub failure: Failure,
}

/// Leaves out whole classes, then single faults, one at a time, as long as the plan still violates the same rule.
/// Returns `None` when the plan does not fail.
pub fn shrink(plan: &Plan, run: impl Fn(&Plan) -> Outcome) -> Option<Shrunk> {
    let failure = run(plan).failure?;
    let mut shrunk = Shrunk { plan: plan.clone(), without: Vec::new(), skipped: Vec::new(), failure };
    for class in plan.classes() {
        if shrunk.accept(shrunk.plan.clone().without(class), &run) {
            shrunk.without.push(class);
        }
    }
    let numbers: Vec<usize> = shrunk.plan.faults.iter().map(|planned| planned.number).collect();
    for number in numbers {
        if shrunk.accept(shrunk.plan.clone().skip(number), &run) {
            shrunk.skipped.push(number);
        }
    }
    Some(shrunk)
}

impl Shrunk {
    /// Takes the smaller plan if it fails in the same way.
    fn accept(&mut self, smaller: Plan, run: &impl Fn(&Plan) -> Outcome) -> bool {
        let failure = run(&smaller).failure;
        let same = failure.filter(|failure| failure.violation.rule == self.failure.violation.rule);
        if let Some(failure) = same {
            (self.plan, self.failure) = (smaller, failure);
            return true;
        }
        false
    }
}
