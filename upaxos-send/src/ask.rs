//! `--wait`: sends each line as a request and prints its answer before it reads the next line.

use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upaxos_cli::{self as cli, OutputError};
use upaxos_core::client::{Ask, AskError, Client, FORGOTTEN, Outcome, Settled, Status, View};
use upaxos_core::types::Micros;
use upaxos_net::Socket;

use crate::pipe::{Complain, Lines};

/// Asks the group, one request at a time, so that the answers have the order of the lines.
pub struct Asker {
    socket: Socket,
    client: Client,
    view: View,
    patience: Micros,
    clock: Clock,
    fast: bool,
    json: bool,
}

/// The clock of the program. It counts from the start of the [`Asker`].
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Micros {
        self.0.elapsed().into()
    }
}

impl Asker {
    pub fn new(socket: Socket, client: Client, patience: Duration, fast: bool, json: bool) -> Asker {
        let (patience, clock) = (patience.into(), Clock(Instant::now()));
        let view = View::new(client.dialect());
        Asker { socket, client, view, patience, clock, fast, json }
    }

    /// Sends every line and prints every answer. The worst outcome is the status.
    pub fn ask_all<R: Read>(&mut self, mut lines: Lines<R>, complain: &Complain) -> Result<Status> {
        let mut worst = Status::Done;
        while let Some((number, line)) =
            lines.read(complain, &mut worst).context("cannot read standard input")?
        {
            let asked = Ask::parse(&line).and_then(|ask| {
                let ask = if self.fast { ask.fast() } else { ask };
                self.client.ask(ask, self.clock.now(), self.patience)
            });
            let status = match asked {
                Ok(_) => {
                    let settled = self.until_settled()?;
                    let status = Status::after(&settled.outcome, &self.view, self.clock.now());
                    match self.print(&line, &settled) {
                        // The reader of the answers has closed the pipe.
                        Err(why) if why.is_closed() => return Ok(worst.max(status)),
                        printed => printed?,
                    }
                    self.explain(number, &settled.outcome, complain);
                    status
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

    /// Sends, listens and sends again until the one request in flight is settled.
    fn until_settled(&mut self) -> Result<Settled> {
        loop {
            let turn = self.client.tick(self.clock.now());
            if let Some(settled) = turn.settled.into_iter().next() {
                return Ok(settled);
            }
            self.socket
                .send(&self.client.pack(&turn.send, self.socket.max_payload()))
                .context("cannot send the request")?;
            self.view.set_trouble(self.socket.trouble());
            if let Some(settled) = self.hear()? {
                return Ok(settled);
            }
        }
    }

    /// Listens until the client's next deadline or until its answer arrives.
    fn hear(&mut self) -> Result<Option<Settled>> {
        let now = self.clock.now();
        let wait = self.client.next_deadline(now).map(|deadline| deadline.since(now).into());
        let (client, view, clock) = (&mut self.client, &mut self.view, self.clock);
        let mut settled = None;
        self.socket
            .receive(wait, &mut |datagram, _| {
                let heard = client.on_datagram(datagram, view, clock.now());
                settled = settled.take().or(heard.into_iter().next());
            })
            .context("cannot receive the answer")?;
        Ok(settled)
    }

    fn print(&self, line: &[u8], settled: &Settled) -> Result<(), OutputError> {
        if self.json {
            return cli::print(cli::request_json(line, &settled.outcome, settled.took));
        }
        match &settled.outcome {
            Outcome::Refused { .. } | Outcome::Unknown | Outcome::Forgotten => Ok(()),
            answer if io::stdout().is_terminal() => cli::print(answer),
            answer => cli::print_bytes(&answer.to_line()),
        }
    }

    fn explain(&self, number: usize, outcome: &Outcome, complain: &Complain) {
        match outcome {
            Outcome::Unknown => complain.line(
                number,
                &format!(
                    "no answer in time, the outcome is unknown: {}",
                    self.client.explain_silence(&self.view, self.clock.now())
                ),
            ),
            Outcome::Forgotten => complain.line(number, &format!("the outcome is unknown: {FORGOTTEN}")),
            Outcome::Refused { reason } => complain.line(number, &format!("refused: {reason}")),
            _ => {}
        }
    }
}
