//! The `upaxos-send` binary: it sends each line of standard input as one datagram, and waits for answers with
//! `--wait`.

// These macros panic where the stream is closed or full. `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use upaxos_cli as cli;
use upaxos_core::client::{Client, Status};
use upaxos_core::wire::{Dialect, Head};
use upaxos_net::{self as net, NoNameInClassic, OpenError, Pieces, Socket};

mod ask;
mod pipe;

use ask::Asker;
use pipe::{Complain, Lines};

/// The sentence above the options.
const ABOUT: &str = "Send lines to a upaxos group, one datagram each, and print the answers with --wait";

/// The text below the options. A paragraph is one line; only tables and examples have lines of their own.
const END: &str = "\
Input:
  Each line of standard input is sent as one datagram, byte for byte, without its newline. Empty lines are skipped. \
The words of MESSAGE, joined by one space, are sent as one datagram instead; only they may contain a newline. A line \
that is too large is reported with its number and not sent; the others are sent, and the exit status is 1.

Requests with --wait:
  Request 0 VALUE         write VALUE
  Request 0               safe read
  Request I               read the value that was chosen at instance I
  query TEXT              ask the script of the nodes
  members                 show the members
  leave ID [force]        remove node ID from the group
  replace ID NEW [force]  replace node ID by NEW, which runs with --join
  Each request is sent until it is answered, one after the other, and takes effect once. `force` makes a change even \
if too few members stay alive.

Answers:
  OK I VALUE              VALUE was chosen at instance I
  NotYet I L              no value of instance I is known yet
  Members I L H           nodes H govern from the instance after I on
  Value I L VALUE         with --fast: VALUE was written last, at instance I
  Reply L TEXT            with --fast: the script answers TEXT
  L is the last instance that the answering node has learned. In a value, newline, carriage return and backslash are \
printed as \\n, \\r and \\\\.

JSON keys of --json:
  request, outcome, instance, learned, epoch, members, value (value_hex if not UTF-8), reason, ms; or error, line

Environment:
  UPAXOS_ADDRESS, UPAXOS_PROTOCOL, UPAXOS_TRANSPORT, UPAXOS_INTERFACE, UPAXOS_GROUP and UPAXOS_DATAGRAM set the \
defaults of the network options.

Exit status, the worst of all lines:
  0   sent, or chosen
  1   fault
  2   wrong usage
  3   no answer in time, so the outcome is unknown; or not chosen yet
  4   refused
  5   no answer, and no quorum was heard
  77  no privilege for a raw socket

Examples:
  upaxos-send --wait Request 0 hello
  seq 1000 | sed 's/^/Request 0 /' | upaxos-send --transport udp";

/// The command line.
#[derive(Debug, Parser)]
#[command(version, about = ABOUT, after_help = END)]
struct Args {
    #[command(flatten)]
    net: net::Args,

    /// Wait for the answer to each line and print it
    #[arg(short, long)]
    wait: bool,

    /// Maximum wait for each answer, such as 500ms, 2s or 1m
    #[arg(long, value_name = "TIME", requires = "wait", default_value = "2s", value_parser = time)]
    timeout: Duration,

    /// Answer `Request 0` and `query` without an instance where possible
    #[arg(long, requires = "wait", conflicts_with = "classic")]
    fast: bool,

    /// Speak the classic grammar only: no tags, no retransmission, answers matched by their words
    #[arg(long, requires = "wait")]
    classic: bool,

    /// Print answers and errors as JSON, one object per line
    #[arg(long)]
    json: bool,

    /// Words to send as one datagram instead of standard input; after -- if a word begins with -
    #[arg(value_name = "MESSAGE")]
    message: Vec<OsString>,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => return ExitCode::from(cli::say_usage("upaxos-send", &usage)),
    };
    let status = run(&args).unwrap_or_else(|error| {
        cli::complain(format_args!("upaxos-send: {error:#}"));
        match error.downcast_ref() {
            Some(OpenError::NoPrivilege { .. }) => Status::NoPrivilege,
            _ if error.is::<NoNameInClassic>() => Status::Usage,
            _ => Status::Fault,
        }
    });
    ExitCode::from(status.code())
}

fn run(args: &Args) -> Result<Status> {
    let dialect = if args.classic { Dialect::Classic } else { Dialect::Extended };
    let scope = args.net.scope(dialect)?;
    let socket = Socket::open(&args.net.options())?;
    let lines = match message(&args.message) {
        Some(message) => Lines::Message(Some(message)),
        None => Lines::Stream(BufReader::new(io::stdin()), 0),
    };
    let complain = Complain { json: args.json };
    if args.wait {
        let client = getrandom::u64().context("cannot draw a random client id from the system")?;
        let socket = socket.with_pieces(Pieces::of(client, dialect));
        let client = Client::new(client, dialect).within(scope);
        Asker::new(socket, client, args.timeout, args.fast, args.json).ask_all(lines, &complain)
    } else {
        let head = Head { name: args.net.group, ..Head::default() };
        pipe::send_all(socket, lines, &head, &complain)
    }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "must be a number with a unit, such as 500ms, 2s or 1m".into())
}

fn message(words: &[OsString]) -> Option<Vec<u8>> {
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.clone().into_vec()).collect();
    (!words.is_empty()).then(|| words.join(&b' '))
}
