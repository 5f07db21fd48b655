//! The `upaxos-node` binary: flags in, exit status out.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use upaxos_node::cli::{self, Cli, Command};
use upaxos_node::{client, daemon, demo, logging, print};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("upaxos-node: {error:#}");
            ExitCode::from(cli::exit_status(&error))
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match (cli.command, cli.daemon) {
        (Some(Command::Demo), _) => demo::run()?,
        (Some(Command::Client(args)), _) => client::run(&args)?,
        (Some(Command::Log { dir }), _) => print::log(&dir)?,
        (None, Some(args)) => {
            logging::start(args.id, args.log_format, args.verbose);
            let options = args.options().unwrap_or_else(|error| {
                let kind = clap::error::ErrorKind::ValueValidation;
                Cli::command().error(kind, error).exit()
            });
            daemon::run(&options)?;
        }
        (None, None) => {
            Cli::command().print_help()?;
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}
