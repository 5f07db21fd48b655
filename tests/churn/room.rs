//! A disk that can be full: a tmpfs of limited size, for the directory of one node.
//!
//! It is mounted only in the mount namespace of the hosts. So it ends with the hosts, however they end. The node
//! that uses it runs in that mount namespace.

use std::path::{Path, PathBuf};

use upaxos_testbed::hosts::{Host, Hosts};

use super::Outcome;

pub struct Room {
    /// The flag with which nsenter enters the mount namespace.
    flag: String,
}

/// Where the tmpfs is mounted: in the `/run` of the hosts.
const ROOT: &str = "/run/churn";

impl Room {
    /// Mounts the tmpfs. `pid` is any process of the hosts' process group; the hosts' mount namespace is found by
    /// it.
    pub fn new(hosts: &Hosts, pid: u32) -> Outcome<Room> {
        let holder = crate::live::stat(pid).and_then(|fields| fields.get(2).cloned());
        let holder = holder.ok_or("a node has no process group")?;
        let room = Room { flag: format!("--mount=/proc/{holder}/ns/mnt") };
        room.run(hosts, "mkdir \"$1\" && mount -t tmpfs -o size=2g upaxos-churn \"$1\"")?;
        Ok(room)
    }

    pub fn node_dir(&self) -> PathBuf {
        Path::new(ROOT).join("node")
    }

    /// The flag with which nsenter enters the mount namespace. It stands before the program's name.
    pub fn flag(&self) -> &str {
        &self.flag
    }

    /// Limits the tmpfs to 64 KiB of free space, and fills that with a file.
    pub fn fill(&self, hosts: &Hosts) -> Outcome {
        let limit =
            "used=$(df --output=used -k \"$1\" | tail -n 1); mount -o remount,size=$((used + 64))k \"$1\"";
        self.run(hosts, &format!("{limit}; head -c 128k /dev/zero > \"$1/filler\" 2>/dev/null; true"))
    }

    pub fn give_room(&self, hosts: &Hosts) -> Outcome {
        self.run(hosts, "rm \"$1/filler\" && mount -o remount,size=2g \"$1\"")
    }

    /// Copies the node's directory to `dir`, outside the mount namespace.
    pub fn copy_to(&self, hosts: &Hosts, dir: &Path) -> Outcome {
        self.run(hosts, &format!("cp -a \"$1/node\" '{}'", dir.display()))
    }

    fn run(&self, hosts: &Hosts, script: &str) -> Outcome {
        let mut command = hosts.command(Host::Client, "nsenter");
        command.args([self.flag(), "sh", "-c", script, "sh"]).arg(ROOT);
        let done = command.output().map_err(|error| format!("nsenter: {error}"))?;
        let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        if done.status.success() { Ok(()) } else { Err(format!("{script}: {words}")) }
    }
}
