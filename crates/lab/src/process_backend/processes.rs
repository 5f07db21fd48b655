//! A group of real processes: its hosts, its members and its client, and the events that arrive from them.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use anyhow::{Context, anyhow};
use upaxos_core::types::NodeId;
use upaxos_testbed::hosts::{Heard, Host, Hosts, HostsError, Isolation};

use super::asker::{self, Asker};
use super::members::Members;
use crate::backend::{BackendError, Party, Settled, Setup};

/// A group of real processes.
pub struct ProcessBackend {
    pub(super) name: &'static str,
    pub(super) setup: Setup,
    pub(super) origin: Instant,
    pub(super) heard: Receiver<Heard>,
    pub(super) asker: Asker,
    pub(super) members: Members,
    /// The ended requests that the caller has not fetched yet.
    pub(super) settled: Vec<Settled>,
    // Last field: processes end before the hosts that they run on.
    pub(super) hosts: Hosts,
}

impl From<HostsError> for BackendError {
    fn from(error: HostsError) -> BackendError {
        BackendError::Broken(error.into())
    }
}

/// Joins the reasons of both errors.
fn neither(root: HostsError, user: HostsError) -> HostsError {
    let reasons = |error: HostsError| match error {
        HostsError::NoGround { reasons } => reasons,
        other => vec![other.to_string()],
    };
    HostsError::NoGround { reasons: [reasons(root), reasons(user)].concat() }
}

impl ProcessBackend {
    /// A group on raw IP between network namespaces: as root, else inside a user namespace.
    ///
    /// # Errors
    /// When neither is available, with the reasons.
    pub fn raw(setup: &Setup) -> Result<ProcessBackend, BackendError> {
        let count = usize::from(setup.nodes + setup.spares);
        let made = |ground| Hosts::switched_on(ground, count, setup.seed, setup.records);
        let hosts = match made(Isolation::Root) {
            Ok(hosts) => hosts,
            Err(root) => made(Isolation::User).map_err(|user| neither(root, user))?,
        };
        ProcessBackend::on("raw", hosts, setup)
    }

    /// A group on UDP multicast on the machine's own loopback interface: no privilege, and no faults of links.
    ///
    /// # Errors
    /// When the machine has no such interface.
    pub fn udp(setup: &Setup) -> Result<ProcessBackend, BackendError> {
        let count = usize::from(setup.nodes + setup.spares);
        ProcessBackend::on("udp", Hosts::on(Isolation::Udp, count)?, setup)
    }

    pub(super) fn on(
        name: &'static str,
        hosts: Hosts,
        setup: &Setup,
    ) -> Result<ProcessBackend, BackendError> {
        let (sender, heard): (Sender<Heard>, _) = mpsc::channel();
        let asker = Asker::start(&hosts, setup.dialect(), sender.clone())?;
        let members = Members::new(sender);
        let origin = Instant::now();
        if hosts.lacks_faults().is_none() {
            hosts.set_clock(origin.elapsed().into())?;
        }
        Ok(ProcessBackend {
            name,
            setup: setup.clone(),
            origin,
            heard,
            asker,
            members,
            settled: Vec::new(),
            hosts,
        })
    }

    /// Takes an event. Returns whether a waiting script may want to know.
    pub(super) fn hear(&mut self, heard: Heard) -> Result<bool, BackendError> {
        match heard.host {
            Host::Client => {
                let line = heard.line.ok_or_else(|| anyhow!("{}", self.asker.last_words()))?;
                if let Some(said) = asker::watched(&line) {
                    return Ok(self.members.overhear(said));
                }
                let settled = self.asker.hear(&line).context("listen to the client")?;
                let has_settled = settled.is_some();
                self.settled.extend(settled);
                Ok(has_settled)
            }
            Host::Node(index) => {
                let id = NodeId(u16::try_from(index).context("a host with a number that no node has")?);
                match heard.line {
                    Some(line) => Ok(self.members.log(id, &String::from_utf8_lossy(&line))),
                    None => Ok(self.members.note_end(id)?),
                }
            }
        }
    }

    pub(super) fn host(&self, party: Party) -> Result<Host, BackendError> {
        match party {
            Party::Clients => Ok(Host::Client),
            Party::Node(id) if usize::from(id.0) < self.hosts.count() => Ok(Host::Node(usize::from(id.0))),
            Party::Node(id) => Err(self.misuse(id)),
        }
    }

    pub(super) fn misuse(&self, id: NodeId) -> BackendError {
        let last = self.hosts.count().saturating_sub(1);
        BackendError::Misuse(format!("there is no node {id} here: ids are 0 to {last}; ask for more spares"))
    }
}
