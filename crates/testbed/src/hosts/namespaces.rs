//! The holder: one child process that owns the hosts' namespaces and never outlives its parent.
//!
//! The holder makes the namespaces, prints `ready` and waits for the end of its standard input. The input ends when
//! the hosts are dropped, and also when our process is killed with -9. The holder's mounts and network names are
//! private to it. So fixed names never clash, and nothing needs to be deleted. Every program of the hosts is in the
//! holder's process group. One signal ends them all, without a list that a dying parent could no longer keep.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid};

use super::error::HostsError;
use super::host::Host;
use super::isolation::Isolation;

/// Ignores signals, also while the namespaces are being made, so that the last step still runs.
const ENDURE: &str = "trap '' HUP INT TERM PIPE";

/// A network in the middle, with `$2` hosts and the client's around it. With `$3` the kernel's bridge joins their
/// links there. Without it the links end in ports for a switch of our own.
const JOINED: &str = r#"
set -e
mount -t tmpfs none /run
mkdir -p /run/netns
ip netns add lab-sw
if [ -n "$3" ]; then
  ip -n lab-sw link add br0 type bridge
  ip -n lab-sw link set br0 up
fi
index=0
while [ "$index" -le "$2" ]; do
  name=lab-n$index
  [ "$index" -lt "$2" ] || name=lab-client
  ip netns add "$name"
  ip -n "$name" link set lo up
  ip -n lab-sw link add "p$index" type veth peer name eth0 netns "$name"
  ip -n lab-sw link set "p$index" ${3:+master br0} up
  ip -n "$name" link set eth0 up
  ip -n "$name" addr add "10.253.0.$((10 + index))/24" brd + dev eth0
  index=$((index + 1))
done
set +e
"#;

/// One network for all hosts. It contains only the loopback interface.
const LOOPBACK: &str = r#"
set -e
mount -t tmpfs none /run
mkdir -p /run/netns
ip netns add lab-lo
ip -n lab-lo link set lo up
set +e
"#;

/// Waits for the end of its input, then ends the whole group and removes the directory `$1`. The last step needs a
/// session of its own, because the group that it ends is the holder's.
const KEEP: &str = r#"
echo ready
cat >/dev/null
exec setsid --fork sh -c 'kill -s KILL -- "-$1"; rm -rf -- "$2"' sh $$ "$1"
"#;

/// How the hosts are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Each host has a network of its own, and the kernel's bridge joins them: 10.253.0.0/24. Fast, and without
    /// faults.
    Bridged,
    /// The same, joined by a switch of our own. Its links can fail by chance from `seed`.
    Switched {
        /// The seed of all chance in the switch.
        seed: u64,
        /// Whether the switch records every datagram.
        records: bool,
    },
    /// All hosts share one loopback interface.
    Loopback,
}

/// The process that keeps the hosts' namespaces alive.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) ground: Isolation,
    pub(super) shape: Shape,
    child: Child,
}

impl Holder {
    /// Makes the namespaces of the hosts. The holder removes `dir` if we die before the hosts are dropped.
    pub(super) fn start(
        ground: Isolation,
        shape: Shape,
        count: usize,
        dir: &Path,
    ) -> Result<Holder, HostsError> {
        if ground == Isolation::Root && !Uid::effective().is_root() {
            let (act, said) = ("make the namespaces".to_owned(), "not root".to_owned());
            return Err(HostsError::Failed { act, said });
        }
        let setup = match (ground, shape) {
            (Isolation::Udp, _) => "\n",
            (_, Shape::Bridged | Shape::Switched { .. }) => JOINED,
            (_, Shape::Loopback) => LOOPBACK,
        };
        let mut command = match ground {
            Isolation::Root => unshare(&["-nm"]),
            Isolation::User => unshare(&["-Ur", "-nm"]),
            Isolation::Udp => Command::new("sh"),
        };
        command.args(["-c", &format!("{ENDURE}{setup}{KEEP}"), "upaxos-lab"]);
        command.arg(dir).arg(count.to_string());
        command.args((shape == Shape::Bridged).then_some("bridged"));
        // A group of its own: Ctrl-C reaches us alone, and our end reaches the holder through its input.
        command.process_group(0);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(HostsError::tool(&program))?;
        let mut holder = Holder { ground, shape, child };
        holder.await_ready()?;
        Ok(holder)
    }

    fn await_ready(&mut self) -> Result<(), HostsError> {
        let stdout = self.child.stdout.take().expect("stdout is piped");
        let stderr = self.child.stderr.take().expect("stderr is piped");
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said).map_err(HostsError::io("listen to the holder"))?;
        if said == "ready\n" {
            return Ok(());
        }
        let mut words = String::new();
        BufReader::new(stderr).read_to_string(&mut words).map_err(HostsError::io("listen to the holder"))?;
        Err(HostsError::Failed {
            act: "make the namespaces".to_owned(),
            said: words.trim().replace('\n', ", "),
        })
    }

    /// A command that will run on `host`, in the holder's process group.
    pub(super) fn command(&self, host: Host, program: &Path) -> Command {
        match self.shape {
            Shape::Bridged | Shape::Switched { .. } => self.command_in(&host.to_string(), program),
            Shape::Loopback => self.command_in("lo", program),
        }
    }

    /// A command that will run between the hosts, where their links end.
    pub(super) fn command_between(&self, program: &Path) -> Command {
        self.command_in("sw", program)
    }

    /// nsenter executes in place: the spawned process becomes the program.
    fn command_in(&self, network: &str, program: &Path) -> Command {
        let mut command = match self.ground {
            Isolation::Udp => Command::new(program),
            Isolation::Root | Isolation::User => {
                let mut command = Command::new("nsenter");
                self.enter(network, &mut command);
                command.arg(program);
                command
            }
        };
        // Our own settings are not meant for the programs of another network.
        let ours = env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"UPAXOS_")) {
            command.env_remove(name);
        }
        command.process_group(self.group().as_raw());
        command
    }

    /// The path leads through the holder's mount namespace without entering it: programs see the same files as we
    /// do.
    fn enter(&self, network: &str, command: &mut Command) {
        let holder = self.child.id();
        if self.ground == Isolation::User {
            command.args(["-t", &holder.to_string(), "-U", "--preserve-credentials"]);
        }
        command.arg(format!("--net=/proc/{holder}/root/run/netns/lab-{network}"));
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits an i32"))
    }
}

impl Drop for Holder {
    /// Ends every process of the hosts. The holder is reaped only afterwards, so its number cannot belong to
    /// another group yet.
    fn drop(&mut self) {
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn unshare(namespaces: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespaces);
    command.args(["--propagation", "private", "sh"]);
    command
}
