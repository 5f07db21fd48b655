//! The `upaxos-send` binary: one line of standard input, one datagram.

// They panic where the stream is closed or full: `upaxos_core::cli` prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use upaxos_core::cli;
use upaxos_core::client::{Client, Status};
use upaxos_core::net::{self, NoNameInClassic, OpenError, Pieces, Socket};
use upaxos_core::wire::{Dialect, Head};

mod ask;
mod pipe;

use ask::Asker;
use pipe::{Complain, Lines};

/// Send lines to a upaxos group, one datagram each, and wait for answers if asked to.
///
/// Without MESSAGE, every line of standard input becomes one datagram, byte for byte and without its
/// newline; empty lines are skipped. MESSAGE words, joined by one space, become one datagram. A line
/// that is too large to carry is refused on standard error with its number, the rest is sent, and the
/// exit status is 1.
///
/// With --wait, every line must be `Request 0 VALUE` (write), `Request 0` (safe read), `Request I` (what
/// was chosen at instance I), `query TEXT` (what the nodes' script answers), `members` (who governs),
/// `leave ID [force]` (take a node out of the group) or `replace ID NEW [force]` (put NEW, which runs with
/// --join, in its place; `force`: even if too few stay alive). Each is asked in turn, exactly once however
/// often it has to be sent, and its answer printed: `OK I VALUE`, with newline, carriage return and
/// backslash in the value as \n, \r and \\. `members` is answered `Members I L H`: the nodes H govern from
/// the instance after I on, as told by one that has learned up to L. A value with newlines is given as
/// MESSAGE. With --fast, `Request 0` and `query` take no instance where that is possible, and are answered
/// `Value I L VALUE` (as of L, VALUE was written last, at I) and `Reply L TEXT` (as of L, the script
/// answers TEXT).
///
/// Exit status: 0 sent, or chosen; 1 something failed; 2 usage; 3 not answered in time (the outcome is
/// unknown), or not chosen yet; 4 refused; 5 not answered, and no quorum to be heard; 77 no privilege
/// for a raw socket. The worst decides.
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    net: net::Args,

    /// Wait for the answer to each line and print it
    #[arg(short, long)]
    wait: bool,

    /// How long to wait for each answer, such as 500ms, 2s or 1m
    #[arg(long, requires = "wait", default_value = "2s", value_parser = time)]
    timeout: Duration,

    /// Read fast: `Request 0` and `query` ask without taking an instance
    #[arg(long, requires = "wait", conflicts_with = "classic")]
    fast: bool,

    /// The group speaks the classic grammar only: ask it without tags, once, and know answers by words
    #[arg(long, requires = "wait")]
    classic: bool,

    /// Print answers and errors as JSON, one object per line: request, outcome, instance, learned, epoch,
    /// members, value (value_hex where it is not UTF-8), reason, ms; or error, line
    #[arg(long)]
    json: bool,

    /// What to send, as one datagram, instead of standard input (behind -- if a word begins with -)
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
