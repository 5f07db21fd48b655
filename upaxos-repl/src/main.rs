//! The `upaxos-repl` binary: the interactive client of a upaxos group.

// These macros panic where the stream is closed or full. `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::fs::File;
use std::io::{self, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use upaxos_cli::{self as cli, Input};
use upaxos_core::client::{Client, Status};
use upaxos_core::wire::Dialect;
use upaxos_net::{self as net, NoNameInClassic, OpenError, Pieces};

mod command;
mod engine;
mod output;
mod prompt;
mod session;
mod table;
mod watch;

use session::Session;

/// The sentence above the options.
const ABOUT: &str = "Talk to a upaxos group: write, read, query its history and show its state";

/// The text below the options. A paragraph is one line; only tables and examples have lines of their own.
const END: &str = "\
Commands, one per line of -e, FILE or standard input; at a terminal, the program prompts:
  Request 0 VALUE         write VALUE
  Request 0               safe read
  Request I               read the value that was chosen at instance I
  query TEXT              ask the script of the nodes
  fast                    read the last value without an instance
  fast query TEXT         ask the script without an instance
  members                 show the members
  leave ID [force]        remove node ID from the group
  replace ID NEW [force]  replace node ID by NEW, which runs with --join
  status                  show the nodes, the leader and their progress
  quit                    end the nodes
  help                    list the commands
  exit                    leave this program
  A line that begins with # is a comment. Writes and safe reads are sent until answered and take effect once.

Answers:
  OK I VALUE: VALUE was chosen at instance I. Newline, carriage return and backslash are printed as \\n, \\r and \\\\.

JSON keys of --json:
  request, outcome, instance, value (value_hex if not UTF-8), learned, epoch, members, reason, ms; of status: differs, \
twins, nodes, leader, quorum, epoch, members, group, name, others; or error

Files:
  The prompt's history is in $XDG_STATE_HOME/upaxos/history, by default below ~/.local/state.

Environment:
  UPAXOS_ADDRESS, UPAXOS_PROTOCOL, UPAXOS_TRANSPORT, UPAXOS_INTERFACE, UPAXOS_GROUP and UPAXOS_DATAGRAM set the \
defaults of the network options.

Exit status, the worst of all commands:
  0   done
  1   fault
  2   wrong usage, an unknown command, or one that a classic group does not have
  3   no answer in time, so the outcome is unknown; or not chosen yet
  4   refused
  5   no quorum
  77  no privilege for a raw socket

Examples:
  upaxos-repl -e 'Request 0 hello' -e status
  upaxos-repl --transport udp -a 239.1.2.3";

/// The command line.
#[derive(Debug, Parser)]
#[command(version, about = ABOUT, after_help = END)]
struct Args {
    #[command(flatten)]
    net: net::Args,

    /// Maximum wait for each answer, such as 500ms, 5s or 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    timeout: Duration,

    /// Speak the classic grammar only: no tags, no retransmission, answers matched by their words
    #[arg(long)]
    classic: bool,

    /// Command to carry out instead of prompting; repeatable
    #[arg(short = 'e', value_name = "COMMAND", conflicts_with = "file")]
    commands: Vec<String>,

    /// Print answers and errors as JSON, one object per line
    #[arg(long)]
    json: bool,

    /// File of commands, one per line, instead of the prompt
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => return ExitCode::from(cli::say_usage("upaxos-repl", &usage)),
    };
    let status = run(args).unwrap_or_else(|error| {
        cli::complain(format_args!("upaxos-repl: {error:#}"));
        match error.downcast_ref() {
            Some(OpenError::NoPrivilege { .. }) => Status::NoPrivilege,
            _ if error.is::<NoNameInClassic>() => Status::Usage,
            _ => Status::Fault,
        }
    });
    ExitCode::from(status.code())
}

fn run(args: Args) -> Result<Status> {
    let place = args.net.options();
    let id = getrandom::u64().context("cannot draw a random client id from the system")?;
    let dialect = if args.classic { Dialect::Classic } else { Dialect::Extended };
    let client = Client::new(id, dialect).within(args.net.scope(dialect)?);
    let settings =
        engine::Settings { place, pieces: Pieces::of(id, dialect), client, patience: args.timeout };
    if !args.commands.is_empty() {
        let commands = args.commands.into_iter().map(|command| Ok(Input::Line(command.into_bytes())));
        return Session::piped(settings, args.json)?.run("command", commands);
    }
    if let Some(path) = args.file {
        let file = File::open(&path)
            .with_context(|| format!("cannot open {}: name a file of commands", path.display()))?;
        return Session::piped(settings, args.json)?.run("line", session::lines(BufReader::new(file)));
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return session::at_prompt(settings, args.json);
    }
    Session::piped(settings, args.json)?.run("line", session::lines(BufReader::new(io::stdin())))
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "must be a number with a unit, such as 500ms, 5s or 1m".into())
}
