//! The `upaxos-node` binary: it parses the command line, starts the daemon or a tool, and returns the exit status.

// These macros panic where the stream is closed or full. `upaxos_cli` prints instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use upaxos_cli::{print, say_usage, told};
use upaxos_lab::{self as lab, bench, seeds};
use upaxos_net as net;
use upaxos_node::cli::{self, Cli, Command, DaemonArgs};
use upaxos_node::{config, daemon, demo, logging, print as print_log};
use upaxos_script::{self as script, Limits};
use upaxos_testbed::{client, switch};

const PROGRAM: &str = "upaxos-node";

fn main() -> ExitCode {
    let status = match parse() {
        Ok(cli) => run(cli).and_then(|status| Ok(told().map(|()| status)?)).unwrap_or_else(|error| {
            if cli::is_closed(&error) {
                return ExitCode::SUCCESS;
            }
            logging::complain(format_args!("{PROGRAM}: {error:#}"));
            ExitCode::from(cli::exit_status(&error))
        }),
        Err(usage) => ExitCode::from(say_usage(PROGRAM, &usage)),
    };
    logging::finish();
    status
}

/// Parses the command line, with the defaults of the configuration file if there is one.
fn parse() -> Result<Cli, clap::Error> {
    let args: Vec<_> = std::env::args_os().collect();
    let command = match config::path(&args, std::env::var_os("UPAXOS_CONFIG")) {
        Some(file) => config::apply(Cli::command(), &file)
            .map_err(|error| Cli::command().error(ErrorKind::InvalidValue, error))?,
        None => Cli::command(),
    };
    Cli::from_arg_matches(&command.try_get_matches_from(args)?)
}

fn run(cli: Cli) -> Result<ExitCode> {
    match (cli.command, cli.daemon) {
        (Some(Command::Bench(args)), _) => bench::run(&args)?,
        (Some(Command::Load(args)), _) => bench::load::run(&args)?,
        (Some(Command::Demo), _) => return demo::run(),
        (Some(Command::Client(args)), _) => client::run(&args)?,
        (Some(Command::CheckScript { files }), _) => {
            script::check(&files, Limits::default())?.iter().try_for_each(print)?;
        }
        (Some(Command::Log { learned, dir }), _) => print_log::log(&dir, learned)?,
        (Some(Command::Sim(args)), _) => return seeds::run(&args),
        (Some(Command::Lab(args)), _) => return lab::command::run(&args),
        (Some(Command::Switch(args)), _) => switch::run(&args)?,
        (None, Some(args)) => return run_daemon(&args, &cli.net),
        (None, None) => {
            print(Cli::command().render_help())?;
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_daemon(args: &DaemonArgs, net: &net::Args) -> Result<ExitCode> {
    logging::start(args.id, args.log_format, args.verbose)?;
    match args.options(net) {
        Ok(options) => Ok(ExitCode::from(daemon::run(&options)?.code())),
        Err(error) => {
            let usage = Cli::command().error(ErrorKind::ValueValidation, error);
            logging::complain(usage.render().to_string().trim_end());
            Ok(ExitCode::from(2))
        }
    }
}
