//! The cost limits of a call, and the meter that ends it.
//!
//! Owns the count of steps, which is the same on every machine, and the time guard, which is not. Luau calls it at
//! every call, return, turn of a loop and step of a pattern. The prelude charges library functions for the work
//! that they do in one step. A call that has broken a limit stays broken: no `pcall` can rescue it.

use std::cell::Cell;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The number of steps between two looks of the time guard at the clock. A look is a system call, which costs as
/// much as dozens of steps. Most calls end before the first look.
const LOOK_EVERY: i64 = 64;

/// The cost limits of a hook's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum steps: calls, returns, turns of loops, steps of patterns.
    pub steps: u32,
    /// The maximum bytes that one call may request, whether it keeps them or not.
    pub memory: usize,
    /// The maximum processor time of a call whose outcome only this node sees.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps: 100_000, memory: 32 << 20, time: Duration::from_millis(5) }
    }
}

/// The maximum time of an `apply` within its steps: only work that no count can see is so slow.
pub const APPLY_TIME: Duration = Duration::from_millis(250);

/// The limit that a call broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It took too many steps: the same happens on every node.
    Steps,
    /// It requested too much memory.
    Memory,
    /// It took too much time.
    Time,
}

/// The meter of one script.
#[derive(Debug, Default)]
pub struct Budget {
    left: Cell<i64>,
    /// The number of remaining steps at which the next check is due.
    look_at: Cell<i64>,
    time: Cell<Duration>,
    began: Cell<Option<Duration>>,
    broken: Cell<Option<Violation>>,
    /// The script's line, if it is known.
    line: Cell<Option<usize>>,
}

impl Budget {
    /// Starts a call.
    pub fn begin(&self, steps: u32, time: Duration) {
        self.left.set(i64::from(steps));
        self.look_at.set((i64::from(steps) - LOOK_EVERY).max(0));
        self.time.set(time);
        self.began.set(None);
        self.broken.set(None);
        self.line.set(None);
    }

    /// Counts one step of the current call.
    #[inline]
    pub fn step(&self) -> Result<(), Violation> {
        self.take(1)
    }

    /// Counts `steps` steps.
    pub fn charge(&self, steps: f64) -> Result<(), Violation> {
        // A value that is not a number counts as more than any limit.
        let steps = if (0.0..1e15).contains(&steps) { steps as i64 } else { 1_000_000_000_000_000 };
        self.take(steps)
    }

    #[inline]
    fn take(&self, steps: i64) -> Result<(), Violation> {
        let left = self.left.get().saturating_sub(steps);
        self.left.set(left);
        if left > self.look_at.get() { Ok(()) } else { self.look() }
    }

    /// The number of steps that the call has taken, of the limit `of`.
    pub fn taken(&self, of: u32) -> u64 {
        (i64::from(of) - self.left.get()).clamp(0, i64::from(of)) as u64
    }

    /// The time limit of the call.
    pub fn time(&self) -> Duration {
        self.time.get()
    }

    /// The broken limit, and the script's line.
    pub fn broken(&self) -> Option<(Violation, Option<usize>)> {
        self.broken.get().map(|violation| (violation, self.line.get()))
    }

    /// Records a broken limit and its line. Only the first counts. Every later step fails.
    pub fn break_at(&self, violation: Violation, line: Option<usize>) {
        if self.broken.get().is_none() {
            self.broken.set(Some(violation));
            self.look_at.set(i64::MAX);
            self.line.set(line);
        }
    }

    #[cold]
    fn look(&self) -> Result<(), Violation> {
        if let Some(violation) = self.broken.get() {
            return Err(violation);
        }
        if self.left.get() <= 0 {
            return Err(Violation::Steps);
        }
        self.look_at.set((self.left.get() - LOOK_EVERY).max(0));
        // Only the thread's own time counts: neither a busy machine nor a stopped node breaks the limit.
        let now =
            Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(|_| Violation::Time)?);
        match self.began.get() {
            None => self.began.set(Some(now)),
            Some(began) if now.saturating_sub(began) > self.time.get() => return Err(Violation::Time),
            Some(_) => {}
        }
        Ok(())
    }
}
