//! `upaxos-node demo`: three real nodes, one log, and a crash, in a few seconds.
//!
//! Owns the frame of the demo: the choice of the world, and the report that nothing is left behind. The story
//! itself is a lab, `scripts/labs/demo.lua`, which is compiled into this program; `demo.lua` here links to it, so that
//! the package has it. Nothing in it is simulated.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use upaxos_cli::tell;
use upaxos_lab::backends::Kind;
use upaxos_lab::report::{self, Name};
use upaxos_lab::runner::{self, Order};
use upaxos_lab::script::Script;
use upaxos_lab::verdict::{End, Verdict};
use upaxos_lab::{Backend, BackendError, Setup};

const SCRIPT: &str = "scripts/labs/demo.lua";
const TITLE: &str = "demo";

/// Runs the demo. The lab checks each of its statements.
///
/// # Errors
/// When no world of real nodes is possible here.
pub fn run() -> Result<ExitCode> {
    say("Three nodes, one log, and a crash.\n");
    let script = Script::embedded(SCRIPT, include_str!("demo.lua"));
    let order = Order { script: &script, title: TITLE, seed: 1, out: None, say: Arc::new(|line| say(line)) };
    let began = Instant::now();
    let verdict = runner::play(&order, &ground)?;
    match &verdict.end {
        End::Passed => {
            let took = began.elapsed().saturating_sub(verdict.took);
            step("clean up", "processes, networks and files are gone", took);
            say("\nEvery acknowledged value survived the crash, once, in the same place everywhere.");
            Ok(ExitCode::SUCCESS)
        }
        End::Skipped(reason) => {
            say(format_args!("\nskipped: {reason}"));
            Ok(ExitCode::SUCCESS)
        }
        End::Failed { trouble, views } => {
            let Verdict { seed, .. } = verdict;
            let name = Name { script: SCRIPT, title: TITLE, world: Kind::Raw };
            say(format_args!("\n{}", report::failure(name, seed, trouble, views)));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Opens the most realistic world of real nodes that is possible here.
fn ground(setup: &Setup) -> Result<Box<dyn Backend>, BackendError> {
    let began = Instant::now();
    let world = Kind::Raw.open(setup).or_else(|error| {
        say(format_args!("Not possible here: {error:#}"));
        Kind::Udp.open(setup)
    })?;
    step("ground", &world.about(), began.elapsed());
    Ok(world)
}

/// Prints a step that is not in the script.
fn step(name: &str, what: &str, took: Duration) {
    say(report::step(name, what, took));
}

/// Prints a line. A reader that closes the pipe early still gets the exit status.
fn say(line: impl Display) {
    tell(line);
}
