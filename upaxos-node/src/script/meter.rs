//! What a call may cost, and what ends it when it costs more.
//!
//! Owns the count of steps, which is the same on every machine, and the guard of time, which is not. Luau asks
//! here at every call, return, turn of a loop and step of a pattern; library functions that do much in one go
//! are charged for it by the prelude. Once broken, a call stays broken: no `pcall` gets it back.

use std::cell::Cell;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How often the guard of time looks at the clock: every so many steps. A look is a system call, which costs as
/// much as dozens of steps: most calls are over before the first.
const LOOK_EVERY: i64 = 64;

/// What a call of a hook may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps: calls, returns, turns of loops, steps of patterns.
    pub steps: u32,
    /// Bytes that one call may ask for, whether it keeps them or not.
    pub memory: usize,
    /// Processor time of a call whose outcome only this node sees.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps: 100_000, memory: 32 << 20, time: Duration::from_millis(5) }
    }
}

/// How long an `apply` may take that stays within its steps: only code that no count can see is so slow.
pub const APPLY_TIME: Duration = Duration::from_millis(250);

/// Which limit a call broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It took more steps than it may: so it does everywhere.
    Steps,
    /// It asked for more memory than it may.
    Memory,
    /// It took longer than it may.
    Time,
}

/// The meter of one script.
#[derive(Debug, Default)]
pub struct Meter {
    left: Cell<i64>,
    /// At how many left it is time to look whether the call may go on.
    look_at: Cell<i64>,
    time: Cell<Duration>,
    began: Cell<Option<Duration>>,
    broken: Cell<Option<Violation>>,
    /// In which line, if that could be found out.
    line: Cell<Option<usize>>,
}

impl Meter {
    /// A call begins.
    pub fn begin(&self, steps: u32, time: Duration) {
        self.left.set(i64::from(steps));
        self.look_at.set((i64::from(steps) - LOOK_EVERY).max(0));
        self.time.set(time);
        self.began.set(None);
        self.broken.set(None);
        self.line.set(None);
    }

    /// One step.
    #[inline]
    pub fn step(&self) -> Result<(), Violation> {
        self.take(1)
    }

    /// As much as `steps` steps.
    pub fn charge(&self, steps: f64) -> Result<(), Violation> {
        // Whatever is no number is more than anybody may.
        let steps = if (0.0..1e15).contains(&steps) { steps as i64 } else { 1_000_000_000_000_000 };
        self.take(steps)
    }

    #[inline]
    fn take(&self, steps: i64) -> Result<(), Violation> {
        let left = self.left.get().saturating_sub(steps);
        self.left.set(left);
        if left > self.look_at.get() { Ok(()) } else { self.look() }
    }

    /// How many steps the call has taken, of so many.
    pub fn taken(&self, of: u32) -> u64 {
        (i64::from(of) - self.left.get()).clamp(0, i64::from(of)) as u64
    }

    /// How long the call may take.
    pub fn time(&self) -> Duration {
        self.time.get()
    }

    /// The limit that was broken, and in which line.
    pub fn broken(&self) -> Option<(Violation, Option<usize>)> {
        self.broken.get().map(|violation| (violation, self.line.get()))
    }

    /// A limit was broken in this line. The first one counts; no step is free after it.
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
        // Only its own time counts: a machine that is busy with others, or a node that was stopped, breaks nothing.
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
