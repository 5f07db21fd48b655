//! The command line of `upaxos-node bench`, and the matrix of runs that it asks for.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use upaxos_cli as cli;
use upaxos_core::types::Micros;
use upaxos_net as net;

use super::run_config::{Reads, RunConfig};

/// What to measure: every combination of nodes, sizes and requests in flight is one run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Transport of the group: raw (IP between network namespaces) or udp (multicast on loopback)
    #[arg(long, value_enum, hide_possible_values = true, value_name = "raw|udp", default_value_t = On::Raw)]
    pub(super) on: On,

    // The logs of such a group are out of reach, so the judges ask it for the sample.
    /// Load the running group of the network options, and check a sample of its acknowledged requests
    #[arg(long, conflicts_with_all = ["on", "nodes", "dir", "beat", "kill_leader", "restart", "overload"])]
    pub(super) attach: bool,

    #[command(flatten)]
    pub(super) net: net::Args,

    /// Numbers of nodes, 1 to 100
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "3", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(super) nodes: Vec<u16>,

    /// Sizes of a value in bytes, 1 to 60000
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(super) size: Vec<u32>,

    /// Numbers of requests in flight, over all clients
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16,256,1024", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) outstanding: Vec<u32>,

    /// Number of clients, 1 to 16384, each with its own session
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(super) clients: u32,

    /// Measured time per run, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = seconds)]
    pub(super) seconds: f64,

    /// Read instead of write: fast (no instance), safe (through an instance) or history (a chosen instance)
    #[arg(long, value_enum, hide_possible_values = true, value_name = "KIND")]
    pub(super) reads: Option<Reads>,

    /// Number of values written before each run; at least 20000 with --reads
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) fill: u64,

    /// Requests per second, sent whether answers arrive or not, up to --outstanding in flight
    #[arg(long, value_name = "PER-SECOND", value_parser = positive)]
    pub(super) rate: Option<f64>,

    /// Kill the leader (kill -9) in the middle of each run; the longest gap is then the failover's
    #[arg(long)]
    pub(super) kill_leader: bool,

    /// After each run, kill a node (kill -9), start it again and measure the time until it is back
    #[arg(long)]
    pub(super) restart: bool,

    /// After each run, send FACTOR times the rate that it reached, for --seconds
    #[arg(long, value_name = "FACTOR", conflicts_with = "rate", value_parser = positive)]
    pub(super) overload: Option<f64>,

    /// Interval between heartbeats of the nodes, 1ms to 10s [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = cli::beat)]
    pub(super) beat: Option<Micros>,

    /// Number of times that the whole matrix is run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) rounds: u32,

    /// Directory on a real disk; the data goes into a temporary directory below it
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,

    /// Draw latency over load into an SVG file
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,

    /// Print one JSON object per run instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// The network of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum On {
    Raw,
    Udp,
}

/// The minimum number of values to choose from for reads: far more than are in flight.
const LEAST_TO_READ: u64 = 20_000;

impl Args {
    /// Every cell of the matrix, round by round.
    pub(super) fn cells(&self) -> Vec<RunConfig> {
        let mut cells = Vec::new();
        let nodes: &[u16] = if self.attach { &[0] } else { &self.nodes };
        for round in 1..=self.rounds {
            for &nodes in nodes {
                for &size in &self.size {
                    cells.extend(self.outstanding.iter().map(|&outstanding| RunConfig {
                        nodes,
                        size,
                        outstanding,
                        clients: self.clients,
                        reads: self.reads,
                        fill: if self.reads.is_some() { self.fill.max(LEAST_TO_READ) } else { self.fill },
                        rate: self.rate,
                        round,
                    }));
                }
            }
        }
        cells
    }

    /// The nodes' flags, besides their ids and their network.
    pub(super) fn node_flags(&self) -> Vec<String> {
        let beat = self.beat.map(|beat| format!("--beat={}us", beat.0));
        beat.into_iter().chain(self.datagram_flag()).collect()
    }

    /// The flag of the size of datagrams, if one is given.
    pub(super) fn datagram_flag(&self) -> Option<String> {
        self.net.datagram.map(|most| format!("--datagram={most}"))
    }

    /// Adds the flags of one cell to the load's command.
    pub(super) fn load(&self, cell: &RunConfig, mut command: Command, acks: &Path) -> Command {
        let mut flag = |name: &str, value: String| {
            command.arg(format!("--{name}={value}"));
        };
        flag("size", cell.size.to_string());
        flag("outstanding", cell.outstanding.to_string());
        flag("clients", cell.clients.to_string());
        flag("seconds", self.seconds.to_string());
        flag("fill", cell.fill.to_string());
        flag("nodes", cell.nodes.to_string());
        flag("acks", acks.display().to_string());
        cell.rate.into_iter().for_each(|rate| flag("rate", rate.to_string()));
        let reads = cell.reads.and_then(|reads| reads.to_possible_value());
        reads.into_iter().for_each(|reads| flag("reads", reads.get_name().to_owned()));
        command.args(self.datagram_flag());
        if self.restart {
            command.arg("--restart");
        }
        command
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("must be 0.1 to 86400".into()) }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "must be a number above 0".into())
}
