//! The command line of `upaxos-node`, and what a failure exits with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use upaxos_core::cli::OutputError;
use upaxos_core::net::{self, NoNameInClassic, OpenError};
use upaxos_core::node::{Config, Timing};
use upaxos_core::types::{Micros, NodeId};

use crate::hosts::HostsError;
use crate::lab::WorldError;
use crate::logging::Format;
use crate::script::{Limits, host};
use crate::{bench, client, daemon, lab, sim, switch};

/// A member of a upaxos group: a replicated log agreed on by Multi-Paxos, straight over IP.
///
/// With flags it is the daemon; the subcommands are tools around it.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Exit status: 0 done, or left the group; 1 fault; 2 usage; \
                        4 refused by the group it asked to join; 77 no privilege.")]
pub struct Cli {
    /// What to do instead of running a node.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The daemon's flags.
    #[command(flatten)]
    pub daemon: Option<DaemonArgs>,

    /// Where its group meets.
    #[command(flatten)]
    pub net: net::Args,
}

/// The tools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch three real nodes agree, lose their leader and go on: a few seconds, nothing left behind.
    Demo,
    /// The demo's client.
    #[command(hide = true)]
    Client(client::Args),
    /// Load scripts as a node would, and say what hooks they have: for editors and CI.
    CheckScript {
        /// The files that are to run together, in their order.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// What joins the hosts of a lab.
    #[command(hide = true)]
    Switch(switch::Args),
    /// Print the log of a data directory; also while its node runs.
    ///
    /// Reads only: it takes no lock and needs no right to write. docs/storage.md describes every line.
    #[command(after_help = "Examples:\n  \
                            upaxos-node log ./upaxos-0\n  \
                            diff <(upaxos-node log --learned a) <(upaxos-node log --learned b)")]
    Log {
        /// Print only what was learned, one `INSTANCE VALUE` per line, to compare nodes.
        ///
        /// Values are printed as they stand in the log, with tags and other marks. Two nodes print the same lines
        /// where their logs are the same.
        #[arg(long)]
        learned: bool,
        /// The data directory.
        dir: PathBuf,
    },
    /// Measure what a group can do: throughput, latency, what it costs; every run is judged.
    Bench(Box<bench::Args>),
    /// The bench's load.
    #[command(hide = true)]
    Load(bench::load::Args),
    /// Run simulated groups under every fault there is, seed after seed, until one breaks a rule.
    Sim(sim::Args),
    /// Play lab scripts: what happens to a group, told in Lua, in a simulated or a real world.
    Lab(lab::command::Args),
}

/// How to run a node.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Number of members of the first group, whose ids are 0 to N-1; not with --join.
    #[arg(short, long = "nodes", value_name = "N", env = "UPAXOS_NODES", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub n: Option<u16>,

    /// This node's id.
    #[arg(short, long, value_name = "ID", env = "UPAXOS_ID")]
    pub id: u16,

    /// Join a group that runs, under an id that was never a member; also at every later start.
    #[arg(long, env = "UPAXOS_JOIN")]
    pub join: bool,

    /// With --join: take the place of member OLD, in one change.
    #[arg(long, value_name = "OLD", env = "UPAXOS_REPLACE")]
    pub replace: Option<u16>,

    /// With --join: catch up and wait, until an operator says `replace OLD ID`.
    #[arg(long, env = "UPAXOS_STANDBY")]
    pub standby: bool,

    /// Data directory, made if it is not there [default: ./upaxos-ID].
    #[arg(long, value_name = "DIR", env = "UPAXOS_DIR")]
    pub dir: Option<PathBuf>,

    /// Interval between signs of life; a leader that misses four is replaced.
    #[arg(long, value_name = "TIME", default_value = "100ms", env = "UPAXOS_BEAT", value_parser = beat)]
    pub beat: Micros,

    /// Speak the classic grammar only: plain Paxos, one instance at a time.
    #[arg(long, env = "UPAXOS_CLASSIC")]
    pub classic: bool,

    /// Answer `Request 0` without an instance where that is possible: with the last value written.
    #[arg(long, env = "UPAXOS_FAST_READ", conflicts_with = "classic")]
    pub fast_read: bool,

    /// Luau script with hooks (request, apply, read, on_learn, on_role); may be given several times. SIGHUP
    /// loads them again.
    #[arg(long, value_name = "FILE", env = "UPAXOS_SCRIPT", value_delimiter = ':')]
    pub script: Vec<PathBuf>,

    /// Steps that one call of a hook may take: calls, returns, turns of loops. The same on all nodes.
    #[arg(long, value_name = "N", default_value_t = Limits::default().steps, env = "UPAXOS_SCRIPT_STEPS", value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    pub script_steps: u32,

    /// Memory that one call of a hook may ask for, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 32, env = "UPAXOS_SCRIPT_MEMORY", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub script_memory: u16,

    /// Processor time that one call of request, read, on_learn or on_role may take.
    #[arg(long, value_name = "TIME", default_value = "5ms", env = "UPAXOS_SCRIPT_TIME", value_parser = script_time)]
    pub script_time: Duration,

    /// Compute the states of all scripts anew, from instance 1 on, whatever the last checkpoint says.
    #[arg(long)]
    pub rebuild_state: bool,

    /// TOML file with defaults for these flags, by their long names: `nodes = 3`.
    #[arg(long, value_name = "FILE", env = "UPAXOS_CONFIG")]
    pub config: Option<PathBuf>,

    /// Honour `quit` from beyond loopback, too.
    #[arg(long, env = "UPAXOS_REMOTE_QUIT")]
    pub remote_quit: bool,

    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value = "text", env = "UPAXOS_LOG_FORMAT")]
    pub log_format: Format,

    /// Say more: -v what is learned and dropped, -vv every line of the wire.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl DaemonArgs {
    /// What the daemon needs of it; its group meets at `net`.
    ///
    /// # Errors
    /// When the flags do not go together, or the id cannot be a member.
    pub fn options(&self, net: &net::Args) -> Result<daemon::Options> {
        let name = net.group;
        if let (Some(name), true) = (name, self.classic) {
            return Err(NoNameInClassic(name).into());
        }
        let net = net::Options { is_node: true, ..net.options() };
        let id = NodeId(self.id);
        let config = match (self.n, self.join) {
            (Some(n), false) => self.member(n)?,
            (None, true) => self.joiner()?,
            (None, false) => bail!(
                "cannot run node {id}: it is not said how; pass -n N, the size of the group at its first start, \
                 or --join to join a group that runs"
            ),
            (Some(n), true) => bail!(
                "cannot run node {id} both as one of a first group of {n} and as one that joins later; leave out \
                 -n (nodes) or --join"
            ),
        };
        if self.classic && !self.script.is_empty() {
            bail!(
                "cannot run scripts with --classic: a classic group has no tags, and nobody would compare what they \
                 compute; leave out one of the two"
            );
        }
        Ok(daemon::Options {
            config: Config {
                classic: self.classic,
                fast_read: self.fast_read,
                timing: Timing { beat: self.beat },
                name,
                ..config
            },
            net,
            dir: self.dir.clone().unwrap_or_else(|| PathBuf::from(format!("upaxos-{id}"))),
            remote_quit: self.remote_quit,
            scripts: host::Options {
                paths: self.script.clone(),
                limits: Limits {
                    steps: self.script_steps,
                    memory: usize::from(self.script_memory) << 20,
                    time: self.script_time,
                },
                rebuild_state: self.rebuild_state,
            },
        })
    }

    fn member(&self, n: u16) -> Result<Config> {
        if let Some(old) = self.replace {
            bail!("cannot take the place of node {old} without joining; add --join and leave out -n");
        }
        if self.standby {
            bail!("cannot stand by without joining; add --join and leave out -n");
        }
        if self.id >= n {
            bail!(
                "cannot run node {} of {n}: the ids of a first group of {n} are 0 to {}; pass another -i or -n, \
                 or join a group that runs: --join without -n",
                self.id,
                n - 1
            );
        }
        Ok(Config::member(NodeId(self.id), n))
    }

    fn joiner(&self) -> Result<Config> {
        if self.classic {
            bail!("cannot join with --classic: a classic group never changes; leave out one of the two");
        }
        if self.replace == Some(self.id) {
            bail!(
                "cannot replace node {} by itself: ids are never used again; pass -i with an id that was never \
                 a member",
                self.id
            );
        }
        match (self.standby, self.replace) {
            (true, Some(old)) => bail!(
                "cannot wait for a `replace` and take the place of node {old} at once; leave out --standby or --replace"
            ),
            (true, None) => Ok(Config::standby(NodeId(self.id))),
            (false, replaces) => Ok(Config::joining(NodeId(self.id), replaces.map(NodeId))),
        }
    }
}

fn script_time(text: &str) -> Result<Duration, String> {
    let is_fit = |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(1)).contains(time);
    let time = humantime::parse_duration(text).ok().filter(is_fit);
    time.ok_or_else(|| "must be a time from 1ms to 1s, such as 5ms".into())
}

/// The interval of a beat, as it is written on a command line.
pub(crate) fn beat(text: &str) -> Result<Micros, String> {
    let is_fit = |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(10)).contains(time);
    let time = humantime::parse_duration(text).ok().filter(is_fit);
    time.map(Micros::from).ok_or_else(|| "must be a time from 1ms to 10s, such as 100ms".into())
}

/// Whether all went well, except that the reader of standard output has gone.
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(OutputError::is_closed)
}

/// The exit status that the contract gives to a failure.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    if let Some(WorldError::Broken(error)) = error.downcast_ref() {
        return exit_status(error);
    }
    let needs_privilege = matches!(error.downcast_ref(), Some(OpenError::NoPrivilege { .. }));
    let has_no_ground = matches!(error.downcast_ref(), Some(HostsError::NoGround { .. }));
    match () {
        () if needs_privilege || has_no_ground => 77,
        () if error.is::<NoNameInClassic>() => 2,
        () => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_answered_with_what_would_be_one() {
        assert_eq!(beat("100ms"), Ok(Micros::from_millis(100)));
        for text in ["abc", "", "100", "999us", "20s"] {
            assert_eq!(beat(text), Err("must be a time from 1ms to 10s, such as 100ms".into()), "{text:?}");
            assert_eq!(
                script_time(text),
                Err("must be a time from 1ms to 1s, such as 5ms".into()),
                "{text:?}"
            );
        }
    }
}
