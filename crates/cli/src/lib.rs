//! Output and line input of the three programs.
//!
//! Owns the rule for a stream that is closed or full. A program whose results cannot be written fails with a
//! message of its own; a program whose reader has closed the pipe ends quietly. A line that standard error does not
//! take is lost. Nothing here panics, so the programs never use `println!` and `eprintln!`, which do.

mod json;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use std::fmt::Display;
use std::io::{self, BufRead, ErrorKind, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use upaxos_core::types::Micros;

pub use json::request_json;

/// Standard output did not take all of the results.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(io::Error);

impl OutputError {
    /// Whether the reader has closed the pipe, as `head` does after its last line. The program then reports no error.
    pub fn is_closed(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

impl From<io::Error> for OutputError {
    fn from(cause: io::Error) -> OutputError {
        OutputError(cause)
    }
}

/// Prints one line of results.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(line: impl Display) -> Result<(), OutputError> {
    print_bytes(format!("{line}").as_bytes())
}

/// Prints one line of results, byte for byte.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_bytes(line: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(&[line, b"\n"].concat())?;
    Ok(out.flush()?)
}

/// The first failure of [`tell`], until [`told`] takes it.
static UNTOLD: Mutex<Option<OutputError>> = Mutex::new(None);

/// Prints one line of a report without failing, for work that must continue. [`told`] returns the first failure.
pub fn tell(line: impl Display) {
    if let Err(why) = print(line) {
        untold().get_or_insert(why);
    }
}

/// Checks that every line of [`tell`] was written, or that the reader closed the pipe.
///
/// # Errors
/// When standard output could not be written.
pub fn told() -> Result<(), OutputError> {
    untold().take().filter(|why| !why.is_closed()).map_or(Ok(()), Err)
}

fn untold() -> MutexGuard<'static, Option<OutputError>> {
    UNTOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints one line about an error on standard error.
pub fn complain(line: impl Display) {
    // One write, so that lines of several processes do not mix. No stream is left to report its failure on.
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Prints the message of the command line's parser, a usage error or the help, and returns the exit status.
pub fn say_usage(program: &str, said: &clap::Error) -> u8 {
    let printed = said.print().map_err(OutputError::from);
    match printed {
        _ if said.use_stderr() => 2,
        Err(why) if !why.is_closed() => {
            complain(format_args!("{program}: {why}"));
            1
        }
        _ => 0,
    }
}

/// The result of [`read_line`].
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// A line longer than the limit. The rest of it stays in the stream until the caller calls [`skip_line`].
    TooLong,
    /// The stream has ended.
    End,
}

/// Reads a line of at most `limit` bytes. No line takes more memory than that.
///
/// # Errors
/// When the stream cannot be read.
pub fn read_line(stream: &mut impl BufRead, limit: usize) -> io::Result<Input> {
    let mut line = Vec::new();
    let read = io::Read::take(&mut *stream, limit as u64 + 1).read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_some() || read <= limit && read > 0 {
        return Ok(Input::Line(line));
    }
    Ok(if read == 0 { Input::End } else { Input::TooLong })
}

/// Skips the rest of a line, including its newline.
///
/// # Errors
/// When the stream cannot be read.
pub fn skip_line(stream: &mut impl BufRead) -> io::Result<()> {
    stream.skip_until(b'\n').map(drop)
}

/// Parses the interval between heartbeats, such as `100ms`: 1ms to 10s.
///
/// # Errors
/// When it is no such time, with an example of one.
pub fn beat(text: &str) -> Result<Micros, String> {
    let is_fit = |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(10)).contains(time);
    let time = humantime::parse_duration(text).ok().filter(is_fit);
    time.map(Micros::from).ok_or_else(|| "must be a time from 1ms to 10s, such as 100ms".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endless stream without a newline. It counts the bytes that were read from it.
    struct Endless(usize);

    impl io::Read for Endless {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            bytes.fill(0);
            self.0 += bytes.len();
            Ok(bytes.len())
        }
    }

    #[test]
    fn lines_up_to_the_limit_are_whole_and_longer_ones_are_skipped() {
        let mut stream = io::BufReader::with_capacity(3, &b"abcd\n\nabcdefghij\nxy\nabcde"[..]);
        let mut read = || read_line(&mut stream, 4).expect("reads");
        assert_eq!(read(), Input::Line(b"abcd".to_vec()));
        assert_eq!(read(), Input::Line(Vec::new()));
        assert_eq!(read(), Input::TooLong);
        skip_line(&mut stream).expect("skips");
        let mut read = || read_line(&mut stream, 4).expect("reads");
        assert_eq!(read(), Input::Line(b"xy".to_vec()));
        assert_eq!(read(), Input::TooLong);
        skip_line(&mut stream).expect("skips");
        assert_eq!(read_line(&mut stream, 4).expect("reads"), Input::End);
    }

    #[test]
    fn an_endless_line_is_refused_when_the_limit_is_passed() {
        let mut stream = io::BufReader::new(Endless(0));
        assert_eq!(read_line(&mut stream, 100_000).expect("reads"), Input::TooLong);
        assert!(stream.get_ref().0 < 200_000, "{}", stream.get_ref().0);
    }

    #[test]
    fn what_is_no_interval_is_answered_with_one() {
        assert_eq!(beat("100ms"), Ok(Micros::from_millis(100)));
        for text in ["abc", "", "100", "999us", "20s"] {
            assert_eq!(beat(text), Err("must be a time from 1ms to 10s, such as 100ms".into()), "{text:?}");
        }
    }
}
