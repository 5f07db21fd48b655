//! The world of `--on sim`: real nodes and real log bytes in one process, on virtual time, all from one seed.
//!
//! Owns the translation between the lab's types and those of [`Scripted`], which does the work, and the files of
//! [`Backend::save`]. It runs no process and opens no socket. It touches no file outside of [`Backend::save`], except
//! to load hook scripts.

use std::path::Path;

use upaxos_core::client::Ask;
use upaxos_core::replica::{Limits, Timing};
use upaxos_core::types::{Micros, NodeId};
use upaxos_sim::cluster::Setting;
use upaxos_sim::disk::Refusal;
use upaxos_sim::scripted::{self, Misuse, ProcessState, Scripted};
use upaxos_sim::{self as sim, network};
use upaxos_testbed::link::Link;

use super::backend::{
    Backend, BackendError, DiskFault, Fault, NodeState, Party, Settled, Setup, Start, Ticket, Unsupported,
    View, Violation,
};

mod save;
mod scripts;

/// A simulated group that a script directs.
#[derive(Debug)]
pub struct Sim {
    play: Scripted,
}

impl Sim {
    /// A simulated group. None of its nodes runs yet.
    ///
    /// # Errors
    /// When it would have no node, or too many, or a beat below 1 ms.
    pub fn new(setup: &Setup) -> Result<Sim, BackendError> {
        let dialect = setup.dialect();
        let timing = Timing { beat: setup.beat };
        let Setup { nodes: n, spares, seed, .. } = *setup;
        if setup.beat < SHORTEST_BEAT {
            let text =
                format!("a beat of {} µs: choose {} ms or more", setup.beat.0, SHORTEST_BEAT.0 / 1_000);
            return Err(BackendError::Misuse(text));
        }
        Ok(Sim {
            play: Scripted::new(
                Setting { seed, n, spares, dialect, timing, limits: Limits::USUAL, incarnations: 0 },
                setup.records,
            )?,
        })
    }

    /// A hash of the whole run: the same whenever a script runs with the same seed.
    pub fn trace(&self) -> u64 {
        self.play.trace()
    }
}

/// The shortest allowed beat. Shorter beats would leave no time between them for a sync.
const SHORTEST_BEAT: Micros = Micros::from_millis(1);

impl Backend for Sim {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn lacks(&self, _: Fault) -> Option<Unsupported> {
        None
    }

    fn now(&self) -> Micros {
        self.play.now()
    }

    fn step(&mut self, until: Micros) -> Result<(), BackendError> {
        self.play.step(until);
        match self.play.violation() {
            None => Ok(()),
            Some(violation) => Err(BackendError::Violated(said(violation))),
        }
    }

    fn start(&mut self, node: NodeId, how: &Start) -> Result<(), BackendError> {
        self.play.equip(node.0, scripts::load(&how.scripts)?)?;
        let joins = how.joins.map(|replaces| replaces.map(|id| id.0));
        Ok(self.play.start(node.0, &scripted::Start { joins, fast_read: how.fast_read })?)
    }

    fn stop(&mut self, node: NodeId) -> Result<(), BackendError> {
        Ok(self.play.stop(node.0)?)
    }

    fn crash(&mut self, node: NodeId) -> Result<(), BackendError> {
        Ok(self.play.crash(node.0)?)
    }

    fn pause(&mut self, node: NodeId) -> Result<(), BackendError> {
        Ok(self.play.pause(node.0)?)
    }

    fn resume(&mut self, node: NodeId) -> Result<(), BackendError> {
        Ok(self.play.resume(node.0)?)
    }

    fn wipe(&mut self, node: NodeId) -> Result<(), BackendError> {
        Ok(self.play.wipe(node.0)?)
    }

    fn disk(&mut self, node: NodeId, fault: Option<DiskFault>) -> Result<(), BackendError> {
        let fault = fault.map(|fault| match fault {
            DiskFault::Slow(each) => scripted::DiskFault::Slow(each),
            DiskFault::SyncFails => scripted::DiskFault::Refuses(Refusal::Sync),
            DiskFault::Full => scripted::DiskFault::Refuses(Refusal::Full),
        });
        Ok(self.play.disk(node.0, fault)?)
    }

    fn link(&mut self, from: Party, to: Party, link: Link) -> Result<(), BackendError> {
        let Link { is_cut, loss, duplicate, corrupt, delay, jitter } = link;
        let (loss, duplicate) = (per_million("loss", loss)?, per_million("duplicate", duplicate)?);
        let corrupt = per_million("corrupt", corrupt)?;
        let link = network::Link { is_cut, loss, duplicate, corrupt, delay, jitter };
        Ok(self.play.link(party(from), party(to), link)?)
    }

    fn ask(&mut self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket, BackendError> {
        Ok(self.play.ask(client, ask, patience)?)
    }

    fn say(&mut self, datagram: &[u8]) -> Result<(), BackendError> {
        Ok(self.play.say(datagram)?)
    }

    fn settled(&mut self) -> Vec<Settled> {
        self.play.settled()
    }

    fn view(&self, node: NodeId) -> View {
        let scripted::Look { being, stance, ballot, learned, heard, diverged } = self.play.look(node.0);
        let state = match being {
            ProcessState::Down => NodeState::Down,
            ProcessState::Runs => NodeState::Runs,
            ProcessState::Paused => NodeState::Paused,
            ProcessState::Ended(status, words) => NodeState::Ended(status, words),
        };
        View { state, stance, ballot, learned, heard, diverged }
    }

    fn describe(&self) -> String {
        self.play.describe()
    }

    fn check(&mut self, patience: Micros) -> Result<Vec<Violation>, BackendError> {
        Ok(self.play.check(patience).iter().map(said).collect())
    }

    fn save(&self, dir: &Path) -> Result<(), BackendError> {
        Ok(save::all(&self.play, dir)?)
    }
}

impl From<Misuse> for BackendError {
    fn from(misuse: Misuse) -> BackendError {
        BackendError::Misuse(misuse.0)
    }
}

fn said(violation: &sim::Violation) -> Violation {
    Violation { expected: violation.rule.text().to_owned(), got: violation.got.clone() }
}

fn party(party: Party) -> scripted::Party {
    match party {
        Party::Node(id) => scripted::Party::Node(id.0),
        Party::Clients => scripted::Party::Clients,
    }
}

fn per_million(what: &str, share: f64) -> Result<u64, BackendError> {
    if (0.0..=1.0).contains(&share) {
        return Ok((share * 1e6).round() as u64);
    }
    Err(BackendError::Misuse(format!("cannot set {what} to {share}: a share is 0 to 1")))
}
