//! The hosts and the network that joins them: how they are made and queried. [`super::faults`] owns their faults.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use tempfile::TempDir;
use upaxos_core::entry::Entry;
use upaxos_core::types::{Instance, Value};
use upaxos_core::wire::Dialect;

use super::error::HostsError;
use super::history;
use super::host::Host;
use super::isolation::Isolation;
use super::namespaces::{Holder, Shape};
use super::weather::Weather;

/// Hosts for real processes, with a network that no other process hears.
///
/// Dropping them ends every process on them and removes their directory. The same happens within moments after our
/// own process is killed.
///
/// ```no_run
/// # use upaxos_testbed::hosts::{Host, Hosts};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hosts = Hosts::new(3)?;
/// println!("on {}", hosts.ground());
/// hosts.command(Host::Node(0), "ip").args(["-o", "addr"]).status()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Hosts {
    pub(super) ground: Isolation,
    pub(super) shape: Shape,
    pub(super) count: usize,
    refused: Vec<String>,
    /// The switch, where links can fail.
    pub(super) weather: Option<Mutex<Weather>>,
    // Before `dir`: processes end before their files are removed.
    holder: Holder,
    channel: Channel,
    dir: TempDir,
}

/// The group address and the port of these hosts, where all hosts share one network.
#[derive(Debug)]
struct Channel {
    group: String,
    port: u16,
}

impl Hosts {
    /// The maximum number of hosts. They share one /24 with the client.
    pub const MOST: usize = 200;

    /// Makes `count` hosts and one for clients, on the first available ground. The kernel joins them, and no link
    /// fails.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] with a reason for each ground.
    pub fn new(count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(&Isolation::ALL, Shape::Bridged, count, &env::temp_dir())
    }

    /// Like [`Hosts::new`], but only with namespaces: raw IP.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where namespaces cannot be made.
    pub fn raw_only(count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(&[Isolation::Root, Isolation::User], Shape::Bridged, count, &env::temp_dir())
    }

    /// Makes hosts on `ground` and on no other.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where this ground is not available.
    pub fn on(ground: Isolation, count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(&[ground], Shape::Bridged, count, &env::temp_dir())
    }

    /// Like [`Hosts::raw_only`], with a network that can fail (see [`Hosts::link`]): by chance from `seed`.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where namespaces cannot be made.
    pub fn switched(count: usize, seed: u64) -> Result<Hosts, HostsError> {
        let shape = Shape::Switched { seed, records: false };
        Hosts::first_of(&[Isolation::Root, Isolation::User], shape, count, &env::temp_dir())
    }

    /// The same on `ground` and on no other, with a [record](Hosts::record) if `records`.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where this ground is not available: always on [`Isolation::Udp`].
    pub fn switched_on(
        ground: Isolation,
        count: usize,
        seed: u64,
        records: bool,
    ) -> Result<Hosts, HostsError> {
        Hosts::first_of(&[ground], Shape::Switched { seed, records }, count, &env::temp_dir())
    }

    /// Makes hosts on the first available ground of `grounds`, with their directory in `parent`. For callers that
    /// care about the disk under it.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] with a reason for each ground, or [`HostsError::Io`] if `parent` cannot
    /// hold a directory.
    pub fn within(parent: &Path, grounds: &[Isolation], count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(grounds, Shape::Bridged, count, parent)
    }

    /// Makes hosts that are all the same host and share a loopback interface (127.0.0.1) apart from the machine's
    /// own. Raw IP only.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where namespaces cannot be made.
    pub fn loopback() -> Result<Hosts, HostsError> {
        Hosts::first_of(&[Isolation::Root, Isolation::User], Shape::Loopback, 1, &env::temp_dir())
    }

    fn first_of(
        grounds: &[Isolation],
        shape: Shape,
        count: usize,
        parent: &Path,
    ) -> Result<Hosts, HostsError> {
        assert!(count <= Hosts::MOST, "at most {} hosts", Hosts::MOST);
        let dir = tempfile::Builder::new()
            .prefix("upaxos-lab-")
            .tempdir_in(parent)
            .map_err(HostsError::io(format!("make a directory in {}", parent.display())))?;
        let mut refused = Vec::new();
        for &ground in grounds {
            let made = Holder::start(ground, shape, count, dir.path()).and_then(|holder| {
                let weather = Weather::over(&holder, count, dir.path())?;
                Ok((holder, weather.map(Mutex::new)))
            });
            match made {
                Ok((holder, weather)) => {
                    let channel = Channel::unused()?;
                    return Ok(Hosts { ground, shape, count, refused, holder, weather, channel, dir });
                }
                Err(error) => refused.push(format!("{ground}: {error}")),
            }
        }
        Err(HostsError::NoGround { reasons: refused })
    }

    /// The ground that the hosts were made on.
    #[must_use]
    pub fn ground(&self) -> Isolation {
        self.ground
    }

    /// The better grounds that were not available, each with its reason.
    #[must_use]
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// The number of hosts, the client's not counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The hosts' directory. It is removed with the hosts. Nodes keep their logs below it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of node `index`'s data directory. This call does not create it.
    #[must_use]
    pub fn node_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("upaxos-{index}"))
    }

    /// A command that runs `program` on `host`. The spawned process becomes the program, so its pid is the
    /// program's own.
    pub fn command(&self, host: impl Into<Host>, program: impl AsRef<OsStr>) -> Command {
        self.holder.command(host.into(), Path::new(program.as_ref()))
    }

    /// The flags that one of our programs needs to use this network.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let flags = match (self.ground, self.shape) {
            (Isolation::Udp, _) => {
                let Channel { group, port } = &self.channel;
                format!("--transport udp -a {group} -p {port} --interface lo")
            }
            (_, Shape::Bridged | Shape::Switched { .. }) => "-a 10.253.0.255".to_owned(),
            (_, Shape::Loopback) => "-a 127.0.0.1".to_owned(),
        };
        flags.split(' ').map(str::to_owned).collect()
    }

    /// The learned entries on the disk of node `index`, marks included. Works whether the node runs or not.
    ///
    /// # Errors
    /// [`HostsError::Failed`] if the directory cannot be read.
    pub fn history(&self, index: usize) -> Result<BTreeMap<Instance, Entry>, HostsError> {
        let values = self.values(index)?.into_iter();
        Ok(values.map(|(at, value)| (at, Entry::decode(at, &value, Dialect::Extended))).collect())
    }

    /// The same as raw values, for callers that know their grammar.
    ///
    /// # Errors
    /// As [`Hosts::history`].
    pub fn values(&self, index: usize) -> Result<BTreeMap<Instance, Value>, HostsError> {
        history::read(&self.node_dir(index))
    }
}

impl Channel {
    /// A port that the system reports free, and a random group. Two `Hosts` made in the same moment may receive the
    /// same port.
    fn unused() -> Result<Channel, HostsError> {
        let act = "find a free port on loopback";
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(HostsError::io(act))?;
        let port = socket.local_addr().map_err(HostsError::io(act))?.port();
        let mut chance = [0; 2];
        getrandom::fill(&mut chance).map_err(|e| HostsError::io(act)(e.into()))?;
        let [high, low] = chance;
        let group = format!("239.253.{high}.{low}");
        Ok(Channel { group, port })
    }
}
