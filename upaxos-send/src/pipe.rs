//! Sends lines as datagrams, without waiting for answers, and reads the lines for both ways of sending.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use upaxos_cli::{self as cli, Input};
use upaxos_core::client::Status;
use upaxos_core::wire::{self, Dialect, Head, Line, MAX_DATAGRAM, Request, SUM_LINE};
use upaxos_net::Socket;

/// Maximum datagrams that are sent without a pause.
const BATCH: usize = 128;
/// Maximum bytes that are sent without a pause.
const BATCH_BYTES: usize = 256 << 10;
/// The pause after a full batch, which allows about 25,000 lines a second. Nodes do not answer a plain datagram, so
/// nothing else keeps a long file from overflowing the receivers' queues while the nodes sync their disks.
const BREATH: Duration = Duration::from_millis(5);

/// The longest line that is read whole, in bytes. It is far too long for a datagram, but its refusal names its
/// length.
const LONGEST: usize = 1 << 20;

/// Numbered lines, byte for byte, without newlines; empty ones are skipped.
pub enum Lines<R> {
    /// The command line: one message, newlines included.
    Message(Option<Vec<u8>>),
    /// A stream, cut at newlines, and the number of the last line.
    Stream(BufReader<R>, usize),
}

impl<R: Read> Lines<R> {
    /// The next line and its number, from 1; `None` at the end. A line too long for any datagram is reported to
    /// `complain` and raises `status`. A line without an end takes no more memory than others.
    pub fn read(&mut self, complain: &Complain, status: &mut Status) -> io::Result<Option<(usize, Vec<u8>)>> {
        let (stream, number) = match self {
            Lines::Message(message) => {
                return Ok(message.take().filter(|message| !message.is_empty()).map(|message| (1, message)));
            }
            Lines::Stream(stream, number) => (stream, number),
        };
        loop {
            match cli::read_line(stream, LONGEST)? {
                Input::End => return Ok(None),
                Input::Line(line) if line.is_empty() => *number += 1,
                Input::Line(line) => {
                    *number += 1;
                    return Ok(Some((*number, line)));
                }
                Input::TooLong => {
                    *number += 1;
                    complain.line(
                        *number,
                        &format!(
                            "more than {LONGEST} bytes do not fit a datagram; not sent, skipped up to its end"
                        ),
                    );
                    *status = (*status).max(Status::Fault);
                    cli::skip_line(stream)?;
                }
            }
        }
    }

    /// Whether the buffer holds another line, so that reading it does not block.
    fn has_more(&self) -> bool {
        matches!(self, Lines::Stream(stream, _) if stream.buffer().contains(&b'\n'))
    }
}

/// Reports errors about lines on standard error, as text or JSON.
pub struct Complain {
    pub json: bool,
}

impl Complain {
    pub fn line(&self, number: usize, why: &str) {
        if self.json {
            cli::complain(json!({ "error": why, "line": number }));
        } else {
            cli::complain(format_args!("upaxos-send: line {number}: {why}"));
        }
    }

    fn all(&self, why: &str) {
        if self.json {
            cli::complain(json!({ "error": why }));
        } else {
            cli::complain(format_args!("upaxos-send: {why}"));
        }
    }
}

/// Sends every line as a datagram of its own. If `head` is not empty, each begins with it and ends with a checksum. No
/// line is dropped silently.
pub fn send_all<R: Read>(
    mut socket: Socket,
    mut lines: Lines<R>,
    head: &Head,
    complain: &Complain,
) -> Result<Status> {
    let mut status = Status::Done;
    let mut batch = Batch::default();
    let mut first = Vec::new();
    head.encode(&mut first);
    let head_and_sum = if first.is_empty() { 0 } else { first.len() + SUM_LINE };
    while let Some((number, line)) =
        lines.read(complain, &mut status).context("cannot read standard input")?
    {
        if let Some(why) = refusal(&line, MAX_DATAGRAM - head_and_sum) {
            complain.line(number, &why);
            status = Status::Fault;
            continue;
        }
        let mut datagram = [first.as_slice(), &line].concat();
        wire::complete(&mut datagram);
        batch.push(datagram);
        if batch.is_full() || !lines.has_more() {
            batch.send(&mut socket)?;
        }
    }
    batch.send(&mut socket)?;
    match socket.send_errors() {
        0 => Ok(status),
        lost => {
            complain.all(&format!(
                "the network refused {lost} datagrams to {} (no route, no buffer, or filtered); \
                 check the interface and send them again",
                socket.destination()
            ));
            Ok(Status::Fault)
        }
    }
}

/// The reason why no node accepts this line, if there is one.
fn refusal(line: &[u8], room: usize) -> Option<String> {
    if line.len() > room {
        let size = line.len();
        return Some(format!("{size} bytes do not fit a datagram, which carries {room}; not sent"));
    }
    let Ok(Line::Client(Request::Write(value) | Request::Submit(_, value) | Request::Misplaced(_, value))) =
        wire::parse_line(line, Dialect::Extended)
    else {
        return None;
    };
    wire::value_refusal(value.as_bytes()).map(|why| format!("{why}; not sent"))
}

#[derive(Default)]
struct Batch {
    datagrams: Vec<Vec<u8>>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, datagram: Vec<u8>) {
        self.bytes += datagram.len();
        self.datagrams.push(datagram);
    }

    fn is_full(&self) -> bool {
        self.datagrams.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    fn send(&mut self, socket: &mut Socket) -> Result<()> {
        let was_full = self.is_full();
        let to = socket.destination();
        socket.send(&self.datagrams).with_context(|| format!("cannot send to {to}"))?;
        self.datagrams.clear();
        self.bytes = 0;
        if was_full {
            std::thread::sleep(BREATH);
        }
        Ok(())
    }
}
