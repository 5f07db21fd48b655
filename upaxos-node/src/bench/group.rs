//! The group under load: real daemons on hosts of their own, and what they use.
//!
//! Starts and ends processes; measures nothing but what the kernel counts.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::usage::Usage;
use crate::hosts::{Ground, Hosts, Node};

/// How long a node may take to end in good order.
const GOODBYE: Duration = Duration::from_secs(20);

/// A group that runs.
#[derive(Debug)]
pub struct Group {
    nodes: Vec<Node>,
    /// What a node had used when it was killed.
    spent: Vec<Usage>,
    // Last: nodes end before the hosts they run on.
    hosts: Hosts,
}

/// How a group is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// Raw IP between namespaces, or UDP on loopback.
    pub is_raw: bool,
    /// Where its data goes.
    pub dir: PathBuf,
    /// More flags for each node.
    pub flags: Vec<String>,
}

impl Group {
    /// Starts all nodes. They say nothing below a warning: a line for every answer is for people.
    ///
    /// # Errors
    /// When there are no such hosts to be had, or a node cannot be started.
    pub fn start(plan: &Plan) -> Result<Group> {
        let grounds: &[Ground] = if plan.is_raw { &[Ground::Root, Ground::User] } else { &[Ground::Udp] };
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

    /// How many nodes it has.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The hosts, for whom else is to run there.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The interface that is a host's own, if it has one.
    pub fn interface(&self) -> Option<&'static str> {
        self.hosts.ground().is_raw().then_some("eth0")
    }

    /// What each node has used so far.
    pub fn usage(&mut self) -> Vec<Usage> {
        let interface = self.interface();
        let of = |(node, spent): (&mut Node, &Usage)| match node.is_running() {
            true => Usage::of(node.pid(), interface),
            false => *spent,
        };
        self.nodes.iter_mut().zip(&self.spent).map(of).collect()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill(&mut self, id: usize) -> Result<()> {
        self.spent[id] = self.usage().get(id).copied().context("no such node")?;
        self.nodes[id].kill9();
        Ok(())
    }

    /// Starts a node again that was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn revive(&mut self, id: usize) -> Result<()> {
        self.nodes[id].start().context("cannot start a node again")
    }

    /// Ends all nodes in good order, so that their logs are whole.
    ///
    /// # Errors
    /// When one does not end, or ends with a failure: its log is in the error.
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

    /// What the nodes have logged: warnings, if anything.
    pub fn log(&self) -> String {
        self.nodes.iter().map(Node::log).filter(|log| !log.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

/// Whether files in `dir` are kept in memory: then a sync costs nothing, and nothing is durable.
pub fn is_in_memory(dir: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    // Of the file systems of memory only this one is common.
    statfs(dir).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}
