//! The `upaxos-node` binary: flags in, exit status out.

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use upaxos_node::cli::{self, Cli, Command};
use upaxos_node::script::{self, Limits};
use upaxos_node::{bench, client, config, daemon, demo, lab, logging, print, sim, switch};

fn main() -> ExitCode {
    match run(parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("upaxos-node: {error:#}");
            ExitCode::from(cli::exit_status(&error))
        }
    }
}

/// The command line, with what a configuration file adds to it.
fn parse() -> Cli {
    let args: Vec<_> = std::env::args_os().collect();
    let command = match config::path(&args, std::env::var_os("UPAXOS_CONFIG")) {
        Some(file) => config::apply(Cli::command(), &file)
            .unwrap_or_else(|error| Cli::command().error(ErrorKind::InvalidValue, error).exit()),
        None => Cli::command(),
    };
    Cli::from_arg_matches(&command.get_matches_from(args)).unwrap_or_else(|error| error.exit())
}

fn run(cli: Cli) -> Result<ExitCode> {
    match (cli.command, cli.daemon) {
        (Some(Command::Bench(args)), _) => bench::run(&args)?,
        (Some(Command::Load(args)), _) => bench::load::run(&args)?,
        (Some(Command::Demo), _) => return demo::run(),
        (Some(Command::Client(args)), _) => client::run(&args)?,
        (Some(Command::CheckScript { files }), _) => {
            script::check(&files, Limits::default())?.iter().for_each(|line| println!("{line}"));
        }
        (Some(Command::Log { dir }), _) => print::log(&dir)?,
        (Some(Command::Sim(args)), _) => return sim::run(&args),
        (Some(Command::Lab(args)), _) => return lab::command::run(&args),
        (Some(Command::Switch(args)), _) => switch::run(&args)?,
        (None, Some(args)) => {
            logging::start(args.id, args.log_format, args.verbose);
            let options = args
                .options(&cli.net)
                .unwrap_or_else(|error| Cli::command().error(ErrorKind::ValueValidation, error).exit());
            return Ok(ExitCode::from(daemon::run(&options)?.code()));
        }
        (None, None) => {
            Cli::command().print_help()?;
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}
