//! `--wait`: one line, one request, one answer.

use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upaxos_core::client::{Ask, AskError, Client, Outcome, Settled, Status, View, request_json};
use upaxos_core::net::Socket;
use upaxos_core::types::Micros;
use upaxos_core::wire::{self, Dialect, Line, Message};

use crate::pipe::{Complain, Lines};

/// Asks the group, one request at a time, so that answers come in the order of the lines.
pub struct Asker {
    socket: Socket,
    client: Client,
    view: View,
    patience: Micros,
    clock: Clock,
    json: bool,
}

/// Time since the program began.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Micros {
        micros(self.0.elapsed())
    }
}

fn micros(length: Duration) -> Micros {
    Micros(u64::try_from(length.as_micros()).unwrap_or(u64::MAX))
}

impl Asker {
    pub fn new(socket: Socket, client: Client, patience: Duration, json: bool) -> Asker {
        let (patience, clock) = (micros(patience), Clock(Instant::now()));
        let view = View::new(client.dialect());
        Asker { socket, client, view, patience, clock, json }
    }

    /// Asks every line and prints every answer; the worst outcome is the status.
    pub fn ask_all<R: Read>(&mut self, mut lines: Lines<R>, complain: &Complain) -> Result<Status> {
        let mut worst = Status::Done;
        while let Some((number, line)) = lines.read().context("cannot read standard input")? {
            let asked =
                Ask::parse(&line).and_then(|ask| self.client.ask(ask, self.clock.now(), self.patience));
            let status = match asked {
                Ok(_) => {
                    let settled = self.until_settled()?;
                    self.print(&line, &settled).context("cannot print the answer")?;
                    self.explain(number, &settled.outcome, complain);
                    Status::after(&settled.outcome, &self.view, self.clock.now())
                }
                Err(why @ AskError::TooLarge(_)) => {
                    complain.line(number, &format!("{why}; not sent"));
                    Status::Fault
                }
                Err(why) => {
                    complain.line(number, &format!("{why}; not sent (--wait can only wait for requests)"));
                    Status::Usage
                }
            };
            worst = worst.max(status);
        }
        Ok(worst)
    }

    /// Sends, listens and sends again until the one question under way is settled.
    fn until_settled(&mut self) -> Result<Settled> {
        loop {
            let turn = self.client.tick(self.clock.now());
            if let Some(settled) = turn.settled.into_iter().next() {
                return Ok(settled);
            }
            let datagrams: Vec<_> = turn.send.iter().map(|line| line.to_bytes(Dialect::Extended)).collect();
            self.socket.send(&datagrams).context("cannot send the request")?;
            if let Some(settled) = self.hear()? {
                return Ok(settled);
            }
        }
    }

    /// Listens until the client has something to do, or hears its answer.
    fn hear(&mut self) -> Result<Option<Settled>> {
        let now = self.clock.now();
        let wait = self.client.next_deadline().map(|deadline| Duration::from_micros(deadline.since(now).0));
        let (client, view, clock) = (&mut self.client, &mut self.view, self.clock);
        let mut settled = None;
        self.socket
            .receive(wait, &mut |datagram, _| {
                let now = clock.now();
                for line in wire::lines(datagram, Dialect::Extended).flatten() {
                    match line {
                        Line::Node(from, Message::Beat(beat)) => view.on_beat(from, &beat, now),
                        Line::Node(_, message) => {
                            settled = settled.take().or(client.on_message(&message, now).pop())
                        }
                        Line::Client(_) => {}
                    }
                }
            })
            .context("cannot receive the answer")?;
        Ok(settled)
    }

    fn print(&self, line: &[u8], settled: &Settled) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return writeln!(out, "{}", request_json(line, &settled.outcome, settled.took));
        }
        match &settled.outcome {
            Outcome::Refused { .. } | Outcome::Unknown => {}
            answer if out.is_terminal() => writeln!(out, "{answer}")?,
            answer => out.write_all(&[answer.to_line(), b"\n".to_vec()].concat())?,
        }
        out.flush()
    }

    fn explain(&self, number: usize, outcome: &Outcome, complain: &Complain) {
        match outcome {
            Outcome::Unknown => complain.line(
                number,
                &format!(
                    "no answer in time, the outcome is unknown: {}",
                    self.view.explain_silence(self.clock.now())
                ),
            ),
            Outcome::Refused { reason } => complain.line(number, &format!("refused: {reason}")),
            _ => {}
        }
    }
}
