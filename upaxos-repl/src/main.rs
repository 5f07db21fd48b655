//! The `upaxos-repl` binary: the interactive client of a upaxos group.

// They panic where the stream is closed or full: `upaxos_core::cli` prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::fs::File;
use std::io::{self, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use upaxos_core::cli::{self, Input};
use upaxos_core::client::{Client, Status};
use upaxos_core::net::{self, NoNameInClassic, OpenError, Pieces};
use upaxos_core::wire::Dialect;

mod command;
mod engine;
mod output;
mod prompt;
mod session;
mod table;
mod watch;

use session::Session;

/// Talk to a upaxos group: write, read, look at its history and its state.
///
/// At a terminal it prompts (type help); otherwise it reads commands from -e, FILE or standard input,
/// one a line, and asks one after the other. Commands are `Request 0 VALUE` (write), `Request 0`
/// (safe read), `Request I` (what was chosen at instance I), `query TEXT` (what the nodes' script
/// answers), `fast` and `fast query TEXT` (both without an instance), `members`, `leave ID [force]`,
/// `replace ID NEW [force]` (who governs, and how to change that), `status`, `quit` (ends the nodes),
/// `help` and `exit` (leaves this program). Lines that begin with # are comments.
///
/// Writes and safe reads are sent until answered and happen exactly once. Answers are printed as
/// `OK I VALUE`, with newline, carriage return and backslash in the value as \n, \r and \\.
///
/// Exit status, the worst of what happened: 0 done; 1 something failed; 2 usage, or a command that is
/// unknown or not for a classic group (`status`, `members`, …); 3 not answered in time (the outcome is
/// unknown), or not chosen yet; 4 refused; 5 no quorum; 77 no privilege for a raw socket.
///
/// The prompt's history is kept in $XDG_STATE_HOME/upaxos/history (by default under ~/.local/state).
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    net: net::Args,

    /// How long to wait for each answer, such as 500ms, 5s or 1m
    #[arg(long, default_value = "5s", value_parser = time)]
    timeout: Duration,

    /// The group speaks the classic grammar only: ask it without tags, once, and know answers by words
    #[arg(long)]
    classic: bool,

    /// A command to carry out instead of prompting; may be given several times
    #[arg(short = 'e', value_name = "COMMAND", conflicts_with = "file")]
    commands: Vec<String>,

    /// Print answers as JSON, one object per line: request, outcome, instance, value (value_hex where
    /// it is not UTF-8), learned, epoch, members, reason, ms; for status: differs, nodes, leader, quorum,
    /// epoch, members, group, name, others; or error
    #[arg(long)]
    json: bool,

    /// A file of commands, one a line, instead of the prompt
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
