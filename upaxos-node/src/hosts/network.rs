//! The hosts, the network between them, and the faults of that network.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use upaxos_core::entry::Entry;
use upaxos_core::types::Instance;

use super::namespaces::{Holder, Shape};
use super::{Ground, Host, HostsError, history};

/// Hosts for real processes, with a network that nobody else hears.
///
/// Dropping them ends every process that was started on them and removes their directory. The
/// same happens within moments when our own process is killed.
///
/// ```no_run
/// # use upaxos_node::hosts::{Host, Hosts};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hosts = Hosts::new(3)?;
/// println!("on {}", hosts.ground());
/// hosts.command(Host::Node(0), "ip").args(["-o", "addr"]).status()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Hosts {
    ground: Ground,
    shape: Shape,
    count: usize,
    refused: Vec<String>,
    // Before `dir`: processes end before their files are removed.
    holder: Holder,
    weather: Mutex<Weather>,
    channel: Channel,
    dir: TempDir,
}

/// The group address and port that these hosts have for themselves where all share one network.
#[derive(Debug)]
struct Channel {
    group: String,
    port: u16,
}

/// What the network does to packets.
#[derive(Debug, Default)]
struct Weather {
    loss: u8,
    cuts: BTreeSet<(Host, Host)>,
}

impl Hosts {
    /// The most hosts that there can be; they share one /24 with the client.
    pub const MOST: usize = 200;

    /// Makes `count` hosts and one for clients, on the first ground that can be had.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] with a reason for each ground.
    pub fn new(count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(&Ground::ALL, Shape::Switched, count, &env::temp_dir())
    }

    /// Like [`Hosts::new`], but only with namespaces: raw IP, and a network that can fail.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where namespaces cannot be made.
    pub fn raw_only(count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(&[Ground::Root, Ground::User], Shape::Switched, count, &env::temp_dir())
    }

    /// Hosts on `ground` and no other.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where it cannot be had.
    pub fn on(ground: Ground, count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(&[ground], Shape::Switched, count, &env::temp_dir())
    }

    /// Hosts on the first of `grounds` that can be had, with their directory in `parent`: for those who
    /// care which disk that is on.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] with a reason for each ground, or [`HostsError::Io`] if `parent` cannot
    /// hold a directory.
    pub fn within(parent: &Path, grounds: &[Ground], count: usize) -> Result<Hosts, HostsError> {
        Hosts::first_of(grounds, Shape::Switched, count, parent)
    }

    /// Hosts that are all one and share 127.0.0.1, apart from the machine's own.
    /// Raw IP only.
    ///
    /// # Errors
    ///
    /// [`HostsError::NoGround`] where namespaces cannot be made.
    pub fn loopback() -> Result<Hosts, HostsError> {
        Hosts::first_of(&[Ground::Root, Ground::User], Shape::Loopback, 1, &env::temp_dir())
    }

    fn first_of(grounds: &[Ground], shape: Shape, count: usize, parent: &Path) -> Result<Hosts, HostsError> {
        assert!(count <= Hosts::MOST, "at most {} hosts", Hosts::MOST);
        let dir = tempfile::Builder::new()
            .prefix("upaxos-lab-")
            .tempdir_in(parent)
            .map_err(HostsError::io(format!("make a directory in {}", parent.display())))?;
        let mut refused = Vec::new();
        for &ground in grounds {
            match Holder::start(ground, shape, count, dir.path()) {
                Ok(holder) => {
                    return Ok(Hosts {
                        ground,
                        shape,
                        count,
                        refused,
                        holder,
                        weather: Mutex::default(),
                        channel: Channel::unused()?,
                        dir,
                    });
                }
                Err(error) => refused.push(format!("{ground}: {error}")),
            }
        }
        Err(HostsError::NoGround { reasons: refused })
    }

    /// What the hosts are made of.
    #[must_use]
    pub fn ground(&self) -> Ground {
        self.ground
    }

    /// The better grounds that could not be had, each with its reason.
    #[must_use]
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// The number of hosts, without the client's.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// A directory that lives as long as the hosts; nodes keep their logs below it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory of node `index`: not created, only named.
    #[must_use]
    pub fn node_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("upaxos-{index}"))
    }

    /// A command that runs `program` on `host`. The spawned process becomes the program, so
    /// its pid is the program's own.
    pub fn command(&self, host: impl Into<Host>, program: impl AsRef<OsStr>) -> Command {
        self.holder.command(host.into(), Path::new(program.as_ref()))
    }

    /// The flags that make one of our programs speak on this network.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let flags = match (self.ground, self.shape) {
            (Ground::Udp, _) => {
                let Channel { group, port } = &self.channel;
                format!("--transport udp -a {group} -p {port} --interface lo")
            }
            (_, Shape::Switched) => "-a 10.253.0.255".to_owned(),
            (_, Shape::Loopback) => "-a 127.0.0.1".to_owned(),
        };
        flags.split(' ').map(str::to_owned).collect()
    }

    /// What node `index` has learned and has on its disk, marks and all. Works whether the node runs or
    /// not.
    ///
    /// # Errors
    /// [`HostsError::Failed`] if the directory cannot be read.
    pub fn history(&self, index: usize) -> Result<BTreeMap<Instance, Entry>, HostsError> {
        history::read(&self.node_dir(index))
    }

    /// Loses `percent` of the packets on every link, the client's included; 0 ends it.
    ///
    /// # Errors
    ///
    /// Where the ground has no such fault, or nft is missing or fails.
    ///
    /// # Panics
    ///
    /// If `percent` is above 100.
    pub fn loss(&self, percent: u8) -> Result<(), HostsError> {
        assert!(percent <= 100, "a loss of {percent} %");
        self.change("loss", |weather| weather.loss = percent)
    }

    /// Cuts one direction of one link: `to` no longer hears `from`.
    ///
    /// # Errors
    ///
    /// As [`Hosts::loss`].
    pub fn cut(&self, from: impl Into<Host>, to: impl Into<Host>) -> Result<(), HostsError> {
        let link = (from.into(), to.into());
        self.change("a one-way cut", |weather| {
            weather.cuts.insert(link);
        })
    }

    /// Sets every link between nodes at once, each direction on its own: `to` hears `from` where
    /// `hears(from, to)`. Earlier cuts between nodes are over; the client's links stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Hosts::loss`].
    pub fn links(&self, hears: impl Fn(usize, usize) -> bool) -> Result<(), HostsError> {
        self.change("a change of links", |weather| {
            weather.cuts.retain(|(from, to)| [*from, *to].contains(&Host::Client));
            for from in 0..self.count {
                for to in (0..self.count).filter(|&to| to != from && !hears(from, to)) {
                    weather.cuts.insert((from.into(), to.into()));
                }
            }
        })
    }

    /// Splits the nodes into islands that do not hear one another. A node in none of them is
    /// alone; the client still reaches all.
    ///
    /// # Errors
    ///
    /// As [`Hosts::loss`].
    pub fn partition(&self, islands: &[&[usize]]) -> Result<(), HostsError> {
        let together = |a: usize, b: usize| islands.iter().any(|i| i.contains(&a) && i.contains(&b));
        self.change("a partition", |weather| {
            for from in 0..self.count {
                for to in (0..self.count).filter(|&to| to != from && !together(from, to)) {
                    weather.cuts.insert((from.into(), to.into()));
                }
            }
        })
    }

    /// Ends every fault of the network.
    ///
    /// # Errors
    ///
    /// As [`Hosts::loss`].
    pub fn heal(&self) -> Result<(), HostsError> {
        self.change("healing", |weather| *weather = Weather::default())
    }

    fn change(&self, fault: &'static str, change: impl FnOnce(&mut Weather)) -> Result<(), HostsError> {
        let reason = match (self.ground, self.shape) {
            (Ground::Udp, _) => "the machine's own loopback is not ours to break",
            (_, Shape::Loopback) => "its hosts are one host",
            (_, Shape::Switched) => {
                let mut weather = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
                change(&mut weather);
                return self.enforce(&weather);
            }
        };
        Err(HostsError::Unsupported { fault, ground: self.ground, reason })
    }

    /// Every host drops what it should not hear; the hosts change one after the other.
    fn enforce(&self, weather: &Weather) -> Result<(), HostsError> {
        let filters: Vec<_> =
            self.everyone().map(|host| self.holder.filter(host, &self.rules(host, weather))).collect();
        filters.into_iter().try_for_each(|filter| filter?.finish())
    }

    fn everyone(&self) -> impl Iterator<Item = Host> {
        (0..self.count).map(Host::Node).chain([Host::Client])
    }

    /// The rules of one host. The first two lines make the replacement of older rules atomic:
    /// a table can only be deleted if it exists.
    fn rules(&self, host: Host, weather: &Weather) -> String {
        let own = self.address(host);
        let mut drops = String::new();
        for &(from, _) in weather.cuts.iter().filter(|(_, to)| *to == host) {
            drops += &format!("    ip saddr {} drop\n", self.address(from));
        }
        if weather.loss > 0 {
            let loss = weather.loss;
            // A host's own packets come back without passing a link.
            drops += &format!("    ip saddr != {own} numgen random mod 100 < {loss} drop\n");
        }
        let chain = format!("  chain input {{\n    type filter hook input priority 0;\n{drops}  }}\n");
        format!("table ip lab\ndelete table ip lab\ntable ip lab {{\n{chain}}}\n")
    }

    fn address(&self, host: Host) -> String {
        let index = match host {
            Host::Node(index) => index,
            Host::Client => self.count,
        };
        assert!(index <= self.count, "no host {host}");
        format!("10.253.0.{}", 10 + index)
    }
}

impl Channel {
    /// A port that the system calls free, and a group drawn by chance: two hosts made in the
    /// same moment may be told the same port.
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
