//! The real worlds: `upaxos-node` processes on hosts of their own, for `--on raw` and `--on udp`.
//!
//! Owns the started processes, the requests and their history. Nodes, network and client work by themselves: this
//! module sends them signals and lines, and listens. All events (answers, overheard beats, lines of logs, ends of
//! processes) arrive over one channel, so one wait is enough.

mod asker;
mod check;
mod disks;
mod judge;
mod members;
mod processes;
mod record;
mod save;

use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::anyhow;
use upaxos_core::client::Ask;
use upaxos_core::types::{Micros, NodeId};
use upaxos_testbed::switch::order::Losses;

use super::{
    Backend, BackendError, DiskFault, Fault, Link, Party, Settled, Start, Ticket, Unsupported, View,
    Violation,
};
pub use processes::ProcessBackend;

impl Backend for ProcessBackend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> String {
        self.hosts.ground().to_string()
    }

    fn lacks(&self, fault: Fault) -> Option<Unsupported> {
        match fault {
            Fault::Processes => None,
            Fault::Links | Fault::Corruption => {
                let why = self.hosts.lacks_faults()?;
                Some(Unsupported(format!(
                    "links cannot fail on {}: {why}; use --on raw or --on sim",
                    self.name
                )))
            }
            Fault::Disk(_) => disks::lacks(),
        }
    }

    fn now(&self) -> Micros {
        self.origin.elapsed().into()
    }

    fn step(&mut self, until: Micros) -> Result<(), BackendError> {
        let mut has_news = false;
        // Lines that are no news may also arrive without end.
        while !has_news && self.now() <= until {
            let left = until.since(self.now());
            match self.heard.recv_timeout(Duration::from_micros(left.0)) {
                Ok(heard) => has_news = self.hear(heard)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(anyhow!("all child processes have exited").into());
                }
            }
        }
        // Events that have already arrived belong to the same moment.
        while let Ok(heard) = self.heard.try_recv() {
            self.hear(heard)?;
        }
        Ok(())
    }

    fn start(&mut self, node: NodeId, how: &Start) -> Result<(), BackendError> {
        self.host(Party::Node(node))?;
        self.members.start(&self.hosts, &self.setup, node, how)
    }

    fn stop(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.members.stop(node)
    }

    fn crash(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.members.crash(node)
    }

    fn pause(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.members.pause(node)
    }

    fn resume(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.members.resume(node)
    }

    fn wipe(&mut self, node: NodeId) -> Result<(), BackendError> {
        let now = self.now();
        self.members.wipe(&self.hosts, node, now)
    }

    fn disk(&mut self, node: NodeId, fault: Option<DiskFault>) -> Result<(), BackendError> {
        self.host(Party::Node(node))?;
        if let Some(lacks) = disks::lacks() {
            return Err(BackendError::Unsupported(lacks));
        }
        self.members.corrupt(&self.hosts, node, fault)
    }

    fn link(&mut self, from: Party, to: Party, link: Link) -> Result<(), BackendError> {
        if let Some(lacks) = self.lacks(Fault::Links) {
            return Err(BackendError::Unsupported(lacks));
        }
        let (from, to) = (self.host(from)?, self.host(to)?);
        if from == to {
            let why = format!("{from} has no link to itself: its own datagrams return to it without one");
            return Err(BackendError::Misuse(why));
        }
        Ok(self.hosts.link(from, to, link)?)
    }

    fn ask(&mut self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket, BackendError> {
        Ok(self.asker.ask(client, ask, patience)?)
    }

    fn say(&mut self, datagram: &[u8]) -> Result<(), BackendError> {
        Ok(self.asker.say(datagram)?)
    }

    fn settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    fn view(&self, node: NodeId) -> View {
        self.members.view(node)
    }

    fn describe(&self) -> String {
        let network = match self.hosts.losses() {
            Ok(None) => String::new(),
            Ok(Some(Losses { unheard: 0, unsent: 0 })) => {
                "network: no frame was lost, except on faulty links\n".into()
            }
            Ok(Some(Losses { unheard, unsent })) => format!(
                "network: too slow for this group: besides losses on faulty links, {unheard} frames found its \
                 queue full, and {unsent} were not accepted by their port\n"
            ),
            Err(error) => format!("network: {error}\n"),
        };
        self.members.describe() + &network
    }

    fn check(&mut self, patience: Micros) -> Result<Vec<Violation>, BackendError> {
        check::check(self, patience)
    }

    fn save(&self, dir: &Path) -> Result<(), BackendError> {
        Ok(save::save(self, dir)?)
    }
}
