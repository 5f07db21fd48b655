//! The scripts of a daemon: loaded at its start, brought up to date with the log, informed of events, and reloaded
//! on SIGHUP.
//!
//! Owns the paths of the files, and which version of them runs. The daemon calls it in its loop. It never touches a
//! vote.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use log::{error, info};
use upaxos_core::hooks::Hooks;
use upaxos_core::replica::{Config, Event, Recovery, Replica};
use upaxos_storage::disk::Disk;

use super::{Limits, Notice, Scripts};

/// The interval between two log lines about the progress of a state.
const PACE: Duration = Duration::from_secs(1);

/// The scripts of a daemon, and their limits.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The paths of the scripts, in order.
    pub paths: Vec<PathBuf>,
    /// The cost limits of a call.
    pub limits: Limits,
    /// Whether to compute all states anew, from the first instance on.
    pub rebuild_state: bool,
}

/// The running scripts.
#[derive(Debug)]
pub struct Runtime {
    options: Options,
    scripts: Rc<Scripts>,
    /// Set by SIGHUP: a request to reload the scripts.
    hangup: Arc<AtomicBool>,
}

impl Runtime {
    /// Loads the scripts, if there are any.
    ///
    /// # Errors
    /// With file, line and reason.
    pub fn start(options: &Options) -> Result<Option<Runtime>> {
        if options.paths.is_empty() {
            return Ok(None);
        }
        let scripts = Rc::new(Scripts::load(&options.paths, options.limits)?);
        let hangup = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&hangup))
            .context("cannot handle SIGHUP")?;
        scripts.describe().iter().for_each(|line| info!("runs script {line}"));
        Ok(Some(Runtime { options: options.clone(), scripts, hangup }))
    }

    /// The scripts as hooks of the node.
    pub fn hooks(&self) -> Rc<dyn Hooks> {
        Rc::clone(&self.scripts) as Rc<dyn Hooks>
    }

    /// The recovery of a log, with these scripts.
    pub fn recovery(&self, config: Config) -> Recovery {
        let recovery = Recovery::with_hooks(config, self.hooks());
        if self.options.rebuild_state { recovery.rebuild() } else { recovery }
    }

    /// Lets scripts that were added or changed since the log began process the earlier values.
    ///
    /// # Errors
    /// When the history cannot be read, or a script cannot continue.
    pub fn catch_up(&self, node: &mut Replica, disk: &Disk) -> Result<()> {
        let Some(first) = node.behind() else { return Ok(()) };
        info!(
            "a script was added or changed, or its state is to be rebuilt: computes its state from instance {first} to {}",
            node.learned()
        );
        let mut said = Instant::now();
        while let Some(next) = node.behind() {
            if said.elapsed() >= PACE {
                said = Instant::now();
                info!("computes: at instance {next} of {}", node.learned());
            }
            let past = disk.past(next, disk.compacted(), node.limits().lookup_bytes)?;
            node.catch_up(&past, &*self.scripts).context("cannot compute the state of a script")?;
        }
        Ok(())
    }

    /// Starts a turn of the loop. On SIGHUP, reloads the scripts unless an error or an objection prevents it.
    /// Returns true if they were reloaded: the node then needs the new ones.
    pub fn begin_turn(&mut self) -> bool {
        let is_changed = self.hangup.swap(false, Ordering::Relaxed) && self.reload();
        self.scripts.begin_turn();
        is_changed
    }

    /// Reloads all scripts or none.
    fn reload(&mut self) -> bool {
        let new = match Scripts::load(&self.options.paths, self.options.limits) {
            Ok(new) => new,
            Err(problem) => {
                error!("keeps the scripts that run: {problem}");
                return false;
            }
        };
        if let Some(objection) = self.scripts.objection_to(&new) {
            error!("keeps the scripts that run: {objection}");
            return false;
        }
        self.scripts = Rc::new(new);
        self.scripts.describe().iter().for_each(|line| info!("has loaded again script {line}"));
        true
    }

    /// Whether any script listens to learned values.
    pub fn listens(&self) -> bool {
        self.scripts.listens()
    }

    /// Records an event for the scripts.
    pub fn note(&self, event: &Event) {
        match event {
            Event::Learned { instance, reads } if self.scripts.listens() => {
                self.scripts.note(Notice::Learned(*instance, reads.clone()));
            }
            Event::Leads(ballot) => self.scripts.note(Notice::Role("leads", None, ballot.to_string())),
            Event::SteppedDown { to, .. } => {
                self.scripts.note(Notice::Role("waits", None, to.to_string()));
            }
            Event::Follows { leader, ballot } => {
                self.scripts.note(Notice::Role("follows", Some(leader.0), ballot.to_string()));
            }
            _ => {}
        }
    }

    /// Delivers the recorded events. Returns true when there was no time for all.
    pub fn tell(&self) -> bool {
        self.scripts.tell()
    }
}
