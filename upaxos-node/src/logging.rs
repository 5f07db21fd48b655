//! The daemon's log: lines for people, or JSON objects for programs.
//!
//! Owns the form of a log line, and its way to standard error (`queue`). The daemon's loop never waits for the
//! reader of the log. Answers (`OK …`) are logged at every level of verbosity.

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
use upaxos_cli as cli;

use queue::{Bounds, Queue};

/// Room for some minutes of a busy node's log while the reader is slow.
const BOUNDS: Bounds = Bounds { lines: 1 << 16, bytes: 8 << 20 };

/// Longest time that the end of the process waits for the reader to take the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// The queue of this process's standard error. [`start`] sets it; only the daemon does.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line of text, such as `12:00:00.000Z 0: OK 1 one`.
    Text,
    /// One JSON object per line, with the keys `at`, `level`, `node` and `text`.
    Json,
}

impl Format {
    /// Formats a line of node `id`, with its newline.
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

/// Starts logging to standard error for node `id`. With `verbose` 0 it logs events; with 1 also what is learned and
/// dropped; with 2 every line on the wire. `UPAXOS_LOG` overrides the level, as in env_logger.
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

/// Prints one line about an error on standard error. In a daemon the line follows its log and never waits for the
/// reader.
pub fn complain(line: impl Display) {
    match QUEUE.get() {
        Some(queue) => queue.push(format!("{line}\n").as_bytes()),
        None => cli::complain(line),
    }
}

/// Waits up to a second until the last lines are written. Returns at once where no log was started.
pub fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(PATIENCE);
    }
}
