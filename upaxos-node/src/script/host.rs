//! The scripts of a daemon: loaded at its start, behind the log perhaps, told what happens, loaded again on SIGHUP.
//!
//! Owns the files' paths and which version of them runs. The daemon asks it in its loop; it never touches a vote.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use log::{error, info};
use upaxos_core::hooks::Hooks;
use upaxos_core::node::{Config, Event, Node, Recovery};

use super::{Limits, Notice, Scripts};
use crate::disk::Disk;

/// How often to say how far a state is computed.
const PACE: Duration = Duration::from_secs(1);

/// Which scripts a daemon runs, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Their files, in order.
    pub paths: Vec<PathBuf>,
    /// What a call may cost.
    pub limits: Limits,
    /// Whether to compute all states anew, from the first instance on.
    pub rebuild_state: bool,
}

/// The scripts that run.
#[derive(Debug)]
pub struct Host {
    options: Options,
    scripts: Rc<Scripts>,
    /// Somebody asks to load them again.
    hangup: Arc<AtomicBool>,
}

impl Host {
    /// Loads the scripts, if there are any.
    ///
    /// # Errors
    /// With file, line, and what is wrong.
    pub fn start(options: &Options) -> Result<Option<Host>> {
        if options.paths.is_empty() {
            return Ok(None);
        }
        let scripts = Rc::new(Scripts::load(&options.paths, options.limits)?);
        let hangup = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&hangup))
            .context("cannot handle SIGHUP")?;
        scripts.describe().iter().for_each(|line| info!("runs script {line}"));
        Ok(Some(Host { options: options.clone(), scripts, hangup }))
    }

    /// For the node.
    pub fn hooks(&self) -> Rc<dyn Hooks> {
        Rc::clone(&self.scripts) as Rc<dyn Hooks>
    }

    /// For a log that is taken up again.
    pub fn recovery(&self, config: Config) -> Recovery {
        let recovery = Recovery::with_hooks(config, self.hooks());
        if self.options.rebuild_state { recovery.rebuild() } else { recovery }
    }

    /// Lets scripts that were added, or changed, since the log began, compute what was chosen before.
    ///
    /// # Errors
    /// When the history cannot be read, or a script cannot go on.
    pub fn catch_up(&self, node: &mut Node, disk: &Disk) -> Result<()> {
        let Some(first) = node.behind() else { return Ok(()) };
        info!(
            "a script was added, changed, or is to begin anew: computes its state from instance {first} to {}",
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

    /// A turn of the loop begins. When somebody has asked for it and nothing speaks against it, the scripts are
    /// loaded again: then it is true, and the node needs the new ones.
    pub fn begin_turn(&mut self) -> bool {
        let is_changed = self.hangup.swap(false, Ordering::Relaxed) && self.reload();
        self.scripts.begin_turn();
        is_changed
    }

    /// All or nothing.
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

    /// Whether they want to know of everything that is learned.
    pub fn listens(&self) -> bool {
        self.scripts.listens()
    }

    /// Takes note of what scripts may want to know.
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

    /// Tells them. True when there was no time for all.
    pub fn tell(&self) -> bool {
        self.scripts.tell()
    }
}
