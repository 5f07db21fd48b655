//! What the daemon says, and how: lines for people, or objects for programs.
//!
//! Owns the form of a log line, and its way to standard error (`queue`): the loop never waits for the reader.
//! Answers (`OK …`) are among what is always said.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, Write};
use std::panic;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::ValueEnum;
use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use upaxos_core::cli;

use queue::{Bounds, Queue};

/// Some minutes of a busy node's log, for a reader that is slow.
const BOUNDS: Bounds = Bounds { lines: 1 << 16, bytes: 8 << 20 };

/// How long the end of the process waits for its last lines to be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// There is one standard error; set while a daemon runs.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `12:00:00.000Z 0: OK 1 one`.
    Text,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// A line of node `id`, with its newline.
    fn line(self, id: u16, level: Level, text: &dyn Display) -> String {
        let at = humantime::format_rfc3339_millis(SystemTime::now());
        let level_text = level.as_str().to_lowercase();
        match self {
            Format::Json => {
                let (at, text) = (at.to_string(), text.to_string());
                let object = serde_json::json!({ "at": at, "level": level_text, "node": id, "text": text });
                format!("{object}\n")
            }
            Format::Text if level <= Level::Warn => format!("{at} {id}: {level_text}: {text}\n"),
            Format::Text => format!("{at} {id}: {text}\n"),
        }
    }
}

/// Starts logging to standard error for node `id`. Without `verbose`, what happens; once, also what is
/// learned and dropped; twice, every line of the wire. `UPAXOS_LOG` overrides, as in env_logger.
///
/// # Errors
/// When no thread can be started.
pub fn start(id: u16, format: Format, verbose: u8) -> Result<()> {
    let level = match verbose {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let form = Box::new(move |text: &str| format.line(id, Level::Warn, &text).into_bytes());
    let queue = Queue::start(BOUNDS, io::stderr(), form).context("cannot start a thread for the log")?;
    let queue = QUEUE.get_or_init(|| queue);
    let mut builder = Builder::new();
    builder.filter_level(level).parse_env("UPAXOS_LOG").target(Target::Pipe(Box::new(queue.clone())));
    builder
        .format(move |out, record| out.write_all(format.line(id, record.level(), record.args()).as_bytes()));
    builder.init();
    panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => complain(format_args!("{panic}\n{trace}")),
            _ => complain(panic),
        }
        finish();
    }));
    Ok(())
}

/// Says on standard error what went wrong; of a daemon behind its log, and without waiting for the reader.
pub fn complain(line: impl Display) {
    match QUEUE.get() {
        Some(queue) => queue.push(format!("{line}\n").as_bytes()),
        None => cli::complain(line),
    }
}

/// Gives the last lines a second to be read. Without a daemon there is nothing to wait for.
pub fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(PATIENCE);
    }
}
