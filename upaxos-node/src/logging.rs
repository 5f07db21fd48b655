//! What the daemon says, and how: lines for people, or objects for programs.
//!
//! Owns the form of a log line. Answers (`OK …`) are among what is always said.

use std::io::Write;

use clap::ValueEnum;
use env_logger::Builder;
use log::LevelFilter;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `12:00:00.000Z 0: OK 1 one`.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error for node `id`. Without `verbose`, what happens; once, also what is
/// learned and dropped; twice, every line of the wire. `UPAXOS_LOG` overrides, as in env_logger.
pub fn start(id: u16, format: Format, verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    builder.filter_level(level).parse_env("UPAXOS_LOG");
    builder.format(move |out, record| {
        let at = out.timestamp_millis();
        let (level, text) = (record.level(), record.args());
        match format {
            Format::Json => {
                let (at, level) = (at.to_string(), level.as_str().to_lowercase());
                let object =
                    serde_json::json!({ "at": at, "level": level, "node": id, "text": text.to_string() });
                writeln!(out, "{object}")
            }
            Format::Text if level <= log::Level::Warn => {
                writeln!(out, "{at} {id}: {}: {text}", level.as_str().to_lowercase())
            }
            Format::Text => writeln!(out, "{at} {id}: {text}"),
        }
    });
    builder.init();
}
