//! The group under load: real daemons on hosts of their own, and what they use.
//!
//! Starts and ends processes. Measures nothing except what the kernel counts.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use upaxos_testbed::hosts::{Hosts, Isolation, Node};

use super::usage::Usage;

/// How long a node may take to shut down cleanly.
const GOODBYE: Duration = Duration::from_secs(20);

/// A running group.
#[derive(Debug)]
pub struct Group {
    nodes: Vec<Node>,
    /// The usage of each node at the time when it was killed.
    spent: Vec<Usage>,
    // Last field: nodes end before the hosts that they run on.
    hosts: Hosts,
}

/// The parameters of a group.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The number of nodes.
    pub nodes: usize,
    /// Raw IP between namespaces, or UDP on loopback.
    pub is_raw: bool,
    /// The parent of the data directory.
    pub dir: PathBuf,
    /// Further flags for each node.
    pub flags: Vec<String>,
}

impl Group {
    /// Starts all nodes. They log only warnings and errors: a line for every answer would cost too much.
    ///
    /// # Errors
    /// When such hosts are not available, or a node cannot be started.
    pub fn start(plan: &Plan) -> Result<Group> {
        let grounds: &[Isolation] =
            if plan.is_raw { &[Isolation::Root, Isolation::User] } else { &[Isolation::Udp] };
        let hosts = Hosts::within(&plan.dir, grounds, plan.nodes)?;
        let program = env::current_exe().context("cannot find the running program")?;
        let start = |index: usize| {
            let node = Node::on(&hosts, index, &program).env("UPAXOS_LOG", "warn").args(hosts.args());
            let node = node.args(["-n", &plan.nodes.to_string(), "-i", &index.to_string()]).args(&plan.flags);
            node.args(["--dir".into(), hosts.node_dir(index)]).start()
        };
        let nodes = (0..plan.nodes).map(start).collect::<Result<Vec<_>, _>>()?;
        Ok(Group { spent: vec![Usage::default(); nodes.len()], nodes, hosts })
    }

    /// The number of nodes.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The hosts, for other programs on them.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The interface of each host, if hosts have interfaces of their own.
    pub fn interface(&self) -> Option<&'static str> {
        self.hosts.ground().is_raw().then_some("eth0")
    }

    /// The usage of each node so far.
    pub fn usage(&mut self) -> Vec<Usage> {
        let interface = self.interface();
        let of = |(node, spent): (&mut Node, &Usage)| match node.is_running() {
            true => Usage::of(node.pid(), interface),
            false => *spent,
        };
        self.nodes.iter_mut().zip(&self.spent).map(of).collect()
    }

    /// Kills a node with SIGKILL, and keeps its usage.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill(&mut self, id: usize) -> Result<()> {
        self.spent[id] = self.usage().get(id).copied().context("no such node")?;
        self.nodes[id].kill9();
        Ok(())
    }

    /// Restarts a node that was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn revive(&mut self, id: usize) -> Result<()> {
        self.nodes[id].start().context("cannot start a node again")
    }

    /// Shuts all nodes down cleanly, so that their logs are complete.
    ///
    /// # Errors
    /// When a node does not end, or ends with a failure. The error contains its log.
    pub fn end(&mut self) -> Result<()> {
        self.nodes.iter().for_each(Node::terminate);
        for node in &mut self.nodes {
            let status = node.wait_exit(GOODBYE)?;
            ensure!(status.success(), "a node ended with {status}; its log:\n{}", node.log());
        }
        Ok(())
    }

    /// The data directories of the nodes.
    pub fn dirs(&self) -> Vec<PathBuf> {
        (0..self.nodes.len()).map(|index| self.hosts.node_dir(index)).collect()
    }

    /// The log lines of all nodes: warnings, if any.
    pub fn log(&self) -> String {
        self.nodes.iter().map(Node::log).filter(|log| !log.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

/// Whether files in `dir` are kept in memory. A sync then costs nothing, and nothing is durable.
pub fn is_in_memory(dir: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    // Of the in-memory file systems only this one is common.
    statfs(dir).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}
