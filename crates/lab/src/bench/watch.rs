//! A running load: follows its lines, and acts on the group when they require it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use super::drive::{Load, Word};
use super::group::Group;
use super::load::Summary;
use super::report::Used;
use super::usage::Usage;

/// Follows a load from its start to its last line, and kills and restarts nodes in between.
pub struct Watch {
    load: Load,
    /// How long after the start of the measurement the leader is killed.
    kill_after: Option<Duration>,
    kill_at: Option<Instant>,
    leader: Option<usize>,
    /// The leader at the start of the measured time.
    pub led: Option<usize>,
    /// The leader that was killed during it.
    pub killed: Option<usize>,
    restarted: Option<Instant>,
    /// How long a node that was killed at the end took to be back, in milliseconds.
    pub restart_ms: Option<f64>,
    before: Used,
    /// The usage in the measured time.
    pub used: Used,
}

impl Watch {
    /// Prepares to follow `load`. The leader is killed `kill_after` after the start of the measured time.
    pub fn new(load: Load, kill_after: Option<Duration>) -> Watch {
        Watch {
            load,
            kill_after,
            kill_at: None,
            leader: None,
            led: None,
            killed: None,
            restarted: None,
            restart_ms: None,
            before: Used::default(),
            used: Used::default(),
        }
    }

    /// Listens until the load is done. `group` is `None` for an attached group.
    ///
    /// # Errors
    /// When the load ends early, or an act on the group fails.
    pub fn follow(&mut self, mut group: Option<&mut Group>, progress: &ProgressBar) -> Result<Summary> {
        loop {
            match (self.load.next(self.kill_at)?, &mut group) {
                (None, group) => {
                    self.kill_at = None;
                    let leader = self.leader.context("cannot kill the leader: no node leads")?;
                    self.killed = Some(leader);
                    group.as_mut().context("the group is not ours to kill")?.kill(leader)?;
                }
                (Some(Word::Leader(leader)), _) => self.leader = Some(leader),
                (Some(Word::Begin), group) => {
                    self.led = self.leader;
                    self.kill_at = self.kill_after.map(|after| Instant::now() + after);
                    self.before = self.usage(group.as_deref_mut());
                }
                (Some(Word::At(at, ok)), _) => {
                    let per_second = ok as f64 / at.as_secs_f64().max(1e-3);
                    progress.set_message(format!("{:.1} s, {per_second:.0} per s", at.as_secs_f64()));
                }
                (Some(Word::End), group) => {
                    let after = self.usage(group.as_deref_mut());
                    self.used = after.since(&self.before);
                    if let (Some(killed), Some(group)) = (self.killed, group) {
                        group.revive(killed)?;
                    }
                    progress.set_message("waiting until every node has learned all");
                }
                (Some(Word::Settled), group) => {
                    let group = group.as_mut().context("the group is not ours to start again")?;
                    // A node other than the leader, where there is one.
                    let other = self.leader.map_or(0, |leader| (leader + 1) % group.size());
                    group.kill(other)?;
                    self.restarted = Some(Instant::now());
                    group.revive(other)?;
                }
                (Some(Word::Back), _) => {
                    self.restart_ms = self.restarted.map(|at| at.elapsed().as_secs_f64() * 1e3);
                }
                (Some(Word::Done(summary)), _) => return Ok(*summary),
            }
        }
    }

    fn usage(&self, group: Option<&mut Group>) -> Used {
        let interface = group.as_ref().and_then(|group| group.interface());
        let nodes = group.map(Group::usage).unwrap_or_default();
        Used { nodes, load: Usage::of(self.load.pid(), interface) }
    }
}

impl Used {
    fn since(&self, earlier: &Used) -> Used {
        let nodes = self.nodes.iter().zip(&earlier.nodes).map(|(now, before)| *now - *before).collect();
        Used { nodes, load: self.load - earlier.load }
    }
}
