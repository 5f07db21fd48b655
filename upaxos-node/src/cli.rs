//! The command line of `upaxos-node`, and the exit status of a failure.
//!
//! Owns the options of the daemon, the list of the tools, and the checks of options that contradict each other. The
//! texts at the end of each help page are in `help`. `main` calls it; it runs nothing.

mod help;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use upaxos_cli::{self as shared, OutputError};
use upaxos_core::replica::{Config, Timing};
use upaxos_core::types::{Micros, NodeId};
use upaxos_lab::BackendError;
use upaxos_lab::{self as lab, bench, seeds};
use upaxos_net::{self as net, NoNameInClassic, OpenError};
use upaxos_script::{Limits, runtime};
use upaxos_testbed::hosts::HostsError;
use upaxos_testbed::{client, switch};

use crate::daemon;
use crate::logging::Format;

/// The heading of the options about scripts.
const SCRIPTS: &str = "Script options";

/// The whole command line. Options alone run the daemon; a subcommand runs a tool instead.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(about = help::NODE, after_help = help::NODE_END)]
pub struct Cli {
    /// The tool to run instead of the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The daemon's options; `None` when a subcommand is given.
    #[command(flatten)]
    pub daemon: Option<DaemonArgs>,

    /// Where the daemon's group meets. Tools that use the network have their own copy.
    #[command(flatten)]
    pub net: net::Args,
}

/// The tools around the daemon. `client`, `switch` and `load` serve the other tools and are hidden from the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run three real nodes through a leader crash; takes a few seconds and cleans up
    #[command(after_help = help::DEMO_END)]
    Demo,
    /// Answer the requests of another program, one per line of standard input
    #[command(hide = true, after_help = help::CLIENT_END)]
    Client(client::Args),
    /// Load scripts as a node does and print their hooks, for editors and CI
    #[command(after_help = help::CHECK_SCRIPT_END)]
    CheckScript {
        /// Scripts that run together, in this order
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Pass frames between the hosts of a lab
    #[command(hide = true, after_help = help::SWITCH_END)]
    Switch(switch::Args),
    /// Print the log of a data directory, also while its node runs
    #[command(after_help = help::LOG_END)]
    Log {
        /// Print only learned values, one `INSTANCE VALUE` per line, to compare nodes
        #[arg(long)]
        learned: bool,
        /// Data directory of a node
        dir: PathBuf,
    },
    /// Measure the throughput, latency and cost of a group, and check its logs after each run
    #[command(after_help = help::BENCH_END)]
    Bench(Box<bench::Args>),
    /// Load a group for the bench and print the measurements
    #[command(hide = true, override_usage = help::LOAD_USAGE, after_help = help::LOAD_END)]
    Load(bench::load::Args),
    /// Run simulated groups under faults, seed after seed, until one breaks a rule
    #[command(after_help = help::SIM_END)]
    Sim(seeds::Args),
    /// Run labs: Lua scripts that describe what happens to a group, simulated or real
    #[command(after_help = help::LAB_END)]
    Lab(lab::command::Args),
}

/// The daemon's options. An option overrides its environment variable, which overrides the file of --config.
#[derive(Debug, Args)]
#[command(mut_args = |arg: clap::Arg| arg.hide_env(true))]
pub struct DaemonArgs {
    /// Number of members of the first group, 1 to 1024, with ids 0 to N-1; not with --join
    #[arg(short, long = "nodes", value_name = "N", env = "UPAXOS_NODES", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub n: Option<u16>,

    /// Id of this node; a group never uses an id twice
    #[arg(short, long, value_name = "ID", env = "UPAXOS_ID")]
    pub id: u16,

    /// Join a running group under an id that was never a member; also at every later start
    #[arg(long, env = "UPAXOS_JOIN")]
    pub join: bool,

    /// With --join, take the place of member OLD in one change
    #[arg(long, value_name = "OLD", env = "UPAXOS_REPLACE")]
    pub replace: Option<u16>,

    /// With --join, catch up and wait until an operator sends `replace OLD ID`
    #[arg(long, env = "UPAXOS_STANDBY")]
    pub standby: bool,

    /// Data directory, created if it is missing [default: ./upaxos-ID]
    #[arg(long, value_name = "DIR", env = "UPAXOS_DIR")]
    pub dir: Option<PathBuf>,

    /// Interval between heartbeats, 1ms to 10s; a leader that misses four is replaced
    #[arg(long, value_name = "TIME", default_value = "100ms", env = "UPAXOS_BEAT", value_parser = shared::beat)]
    pub beat: Micros,

    /// Speak the classic grammar only: plain Paxos, one instance at a time
    #[arg(long, env = "UPAXOS_CLASSIC")]
    pub classic: bool,

    /// Answer `Request 0` with the last value written, without an instance where possible
    #[arg(long, env = "UPAXOS_FAST_READ", conflicts_with = "classic")]
    pub fast_read: bool,

    /// Luau script with hooks (request, apply, read, on_learn, on_role); repeatable; SIGHUP reloads all
    #[arg(long, help_heading = SCRIPTS, value_name = "FILE", env = "UPAXOS_SCRIPT", value_delimiter = ':')]
    pub script: Vec<PathBuf>,

    /// Maximum steps per hook call (calls, returns, loop turns); the same on all nodes
    #[arg(long, help_heading = SCRIPTS, value_name = "N", default_value_t = Limits::default().steps, env = "UPAXOS_SCRIPT_STEPS", value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    pub script_steps: u32,

    /// Maximum memory per hook call, in MiB, 1 to 4096
    #[arg(long, help_heading = SCRIPTS, value_name = "MIB", default_value_t = 32, env = "UPAXOS_SCRIPT_MEMORY", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub script_memory: u16,

    /// Maximum processor time per call of request, read, on_learn or on_role, 1ms to 1s
    #[arg(long, help_heading = SCRIPTS, value_name = "TIME", default_value = "5ms", env = "UPAXOS_SCRIPT_TIME", value_parser = script_time)]
    pub script_time: Duration,

    /// Recompute the states of all scripts from instance 1 on, without the last checkpoint
    #[arg(long, help_heading = SCRIPTS)]
    pub rebuild_state: bool,

    /// TOML file with defaults for these options, by their long names: `nodes = 3`
    #[arg(long, value_name = "FILE", env = "UPAXOS_CONFIG")]
    pub config: Option<PathBuf>,

    /// Accept `quit` from other hosts too [default: from loopback only]
    #[arg(long, env = "UPAXOS_REMOTE_QUIT")]
    pub remote_quit: bool,

    /// Format of the log lines on standard error: text or json
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true,
        default_value = "text",
        env = "UPAXOS_LOG_FORMAT"
    )]
    pub log_format: Format,

    /// Log more: -v learned values and dropped messages, -vv every line on the wire
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl DaemonArgs {
    /// The options of a daemon whose group meets at `net`.
    ///
    /// # Errors
    /// When the flags contradict each other, or the id cannot be a member.
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
                "cannot start node {id}: pass -n N (size of the first group) or --join (to join a running group)"
            ),
            (Some(n), true) => bail!(
                "cannot start node {id} both as a member of a first group of {n} and as a node that joins later; \
                 leave out -n (nodes) or --join"
            ),
        };
        if self.classic && !self.script.is_empty() {
            bail!(
                "cannot run scripts with --classic: a classic group has no tags, and its nodes do not compare what \
                 scripts compute; leave out one of the two"
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
            scripts: runtime::Options {
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
                "cannot start node {} of {n}: the ids of a first group of {n} are 0 to {}; pass another -i or -n, \
                 or join a running group: --join without -n",
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

/// Whether the only failure is that the reader of standard output has closed the pipe.
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(OutputError::is_closed)
}

/// The exit status that the contract assigns to a failure: 77 without privilege, 2 for wrong usage, otherwise 1.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    if let Some(BackendError::Broken(error)) = error.downcast_ref() {
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
        for text in ["abc", "", "100", "999us", "20s"] {
            assert_eq!(
                script_time(text),
                Err("must be a time from 1ms to 1s, such as 5ms".into()),
                "{text:?}"
            );
        }
    }
}
