//! The texts above and below the options on each help page of `upaxos-node`.
//!
//! Owns the facts that a reader needs besides the options: exit statuses, environment variables and examples. A
//! paragraph is one line here and wraps at the terminal's width; only examples and tables have lines of their own,
//! of 80 columns at most (`tests/help.rs`).

/// The text above the options of the daemon.
pub(super) const NODE: &str = "\
Run a node of a upaxos group, or a tool around it

The group agrees on a replicated log by Multi-Paxos, directly over IP. Options without a command start a node.";

/// The end of the daemon's page.
pub(super) const NODE_END: &str = "\
Environment:
  UPAXOS_NAME sets the default of option --name, as UPAXOS_LOG_FORMAT=json does for --log-format; only --verbose and \
--rebuild-state have none. An option overrides its variable, which overrides the file of --config. UPAXOS_LOG filters \
the log by module and level, as in env_logger.

Exit status:
  0   done, or the node has left the group
  1   fault
  2   wrong usage
  4   refused by the group that the node asked to join
  77  no privilege for a raw socket

Examples:
  upaxos-node -n 3 -i 0
  upaxos-node --join -i 7 --replace 2 --transport udp -a 239.1.2.3";

pub(super) const DEMO_END: &str = "\
The nodes use raw IP between network namespaces. Without the privilege for that, they use UDP on loopback.

Example:
  upaxos-node demo";

pub(super) const CLIENT_END: &str = "\
Each answer is a line `NUMBER MICROS TEXT`, with the number of the request's line from 0.

Example:
  echo 'Request 0 hello' | upaxos-node client --transport udp";

pub(super) const CHECK_SCRIPT_END: &str = "\
Example:
  upaxos-node check-script scripts/hooks/kv.lua";

pub(super) const SWITCH_END: &str = "\
Example:
  upaxos-node switch --ports 3 --seed 7 --record wire.json";

pub(super) const LOG_END: &str = "\
The command takes no lock and needs no permission to write. With --learned, values are printed as the log stores them, \
with tags and other marks, so that equal logs print equal lines. docs/storage.md describes every line.

Examples:
  upaxos-node log ./upaxos-0
  diff <(upaxos-node log --learned a) <(upaxos-node log --learned b)";

pub(super) const BENCH_END: &str = "\
Every combination of --nodes, --size and --outstanding is one run; each of them takes a list separated by commas. A run \
fails if the nodes' logs differ or lack an acknowledged write.

Examples:
  upaxos-node bench --nodes 3,5 --outstanding 1,256 --plot latency.svg
  upaxos-node bench --attach --transport udp -a 239.1.2.3 --seconds 10";

/// In lines of its own: clap does not wrap the required options of a usage.
pub(super) const LOAD_USAGE: &str = "\
upaxos-node load [OPTIONS] --size <BYTES> --outstanding <N>
                        --seconds <SECONDS> --nodes <N> --acks <FILE>";

pub(super) const LOAD_END: &str = "\
Example:
  upaxos-node load --size 256 --outstanding 64 --seconds 4 --nodes 3 --acks acks";

pub(super) const SIM_END: &str = "\
A failing seed is reported with the command that repeats it.

Exit status:
  0  every rule held
  1  a seed broke a rule
  2  wrong usage

Examples:
  upaxos-node sim --seeds 0..20000
  upaxos-node sim --seed 17 --nodes 5 --without loss,crash";

pub(super) const LAB_END: &str = "\
Worlds:
  sim  one process and virtual time; a run repeats exactly from its seed
  raw  processes in network namespaces, over IP; as root or in a user namespace
  udp  processes on loopback over UDP multicast; links cannot fail

Exit status:
  0   every lab passed, or was skipped with a reason
  1   a lab failed
  2   a script cannot be loaded, or no lab was selected
  77  the world needs a privilege that is missing

Examples:
  upaxos-node lab scripts/labs/leader_crash.lua
  upaxos-node lab --seeds 0..100 --out failures scripts/labs/*.lua";
