//! Faulty disks: strace, attached to a node, makes its system calls slow or fail.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use upaxos_testbed::hosts::{Hosts, Node};

use super::super::{DiskFault, Unsupported};

/// Why no disk can fail here, if none can.
pub fn lacks() -> Option<Unsupported> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|dir| dir.join("strace").is_file());
    let why = "no disk can fail here: strace is not installed (remedy: apt-get install strace)";
    (!is_there).then(|| Unsupported(why.into()))
}

/// A tracer that makes a disk fail. Dropping it ends the fault.
pub struct LabError {
    tracer: Child,
}

impl LabError {
    /// Attaches to a running process. Returns when the fault is in force.
    ///
    /// # Errors
    /// When strace cannot attach, with its output.
    pub fn begin(hosts: &Hosts, node: &Node, fault: DiskFault) -> Result<LabError> {
        let (call, fault) = match fault {
            DiskFault::Slow(by) => ("fdatasync", format!("fdatasync:delay_exit={}", by.0)),
            DiskFault::SyncFails => ("fdatasync", "fdatasync:error=EIO".to_owned()),
            DiskFault::Full => ("pwrite64", "pwrite64:error=ENOSPC".to_owned()),
        };
        let mut command = hosts.command(node.host(), "strace");
        command.args(["-f", "-o", "/dev/null", &format!("-etrace={call}"), &format!("-einject={fault}")]);
        command.args(["-p", &node.pid().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut tracer = command.spawn().context("cannot start strace")?;
        let mut said = BufReader::new(tracer.stderr.take().expect("stderr is piped"));
        let mut trouble = LabError { tracer };
        let mut words = String::new();
        while !words.contains("attached") {
            if said.read_line(&mut words).context("cannot listen to strace")? == 0 {
                let _ = trouble.tracer.wait();
                bail!("strace cannot attach to node {}: {}", node.host(), words.trim());
            }
        }
        // strace continues to report every thread, and must not block on a full pipe.
        thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
        Ok(trouble)
    }
}

impl Drop for LabError {
    /// On SIGTERM, strace detaches and the process continues. If strace were killed, the process might stay
    /// stopped.
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.tracer.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.tracer.wait();
    }
}
