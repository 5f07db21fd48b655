//! All clients of a real world: one process on the clients' host, `upaxos-node client`.
//!
//! Owns the requests and their outcomes, in the order in which both happened here: the history that the judges
//! read. A request counts as sent before its line is written to the process, and as answered after its answer was
//! read from it. So the judges never rely on an order that no observer could see.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result, bail};
use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Instance, Micros, NodeId, Tag};
use upaxos_core::wire::{self, Beat, Dialect, Line, Message};
use upaxos_testbed::client::hex;
use upaxos_testbed::hosts::{Heard, Host, Hosts, HostsError, binary};

use super::super::{Settled, Ticket};

/// The maximum number of requests in flight: more than any script sends at once.
const WINDOW: &str = "1000000";

/// The process, and the history of its requests.
pub struct Asker {
    child: Child,
    stdin: ChildStdin,
    complaints: PathBuf,
    dialect: Dialect,
    /// The number of lines written so far, which is the number of the next one.
    lines: u64,
    /// The requests in flight: the number of the line → the request's index in the history.
    open: BTreeMap<u64, usize>,
    acknowledged: Instance,
    /// All events so far, in order.
    pub history: Vec<Happening>,
}

/// An event on the clients' side.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A client sent a request.
    Asked { ask: Ask },
    /// A request ended. `asked` is its index in the history.
    Ended { asked: usize, tag: Option<Tag>, outcome: Outcome },
    /// The script sent a datagram by hand.
    Said(Vec<u8>),
}

/// A node's overheard beat, or a report that the node is no longer heard.
pub enum Watched {
    Says(NodeId, Box<Beat>),
    Silent(NodeId),
}

/// Parses a line of the client that is not an answer.
pub fn watched(line: &[u8]) -> Option<Watched> {
    if let Some(id) = line.strip_prefix(b"silent ") {
        return Some(Watched::Silent(NodeId(std::str::from_utf8(id).ok()?.parse().ok()?)));
    }
    match wire::parse_line(line.strip_prefix(b"view ")?, Dialect::Extended) {
        Ok(Line::Node(id, Message::Beat(beat))) => Some(Watched::Says(id, Box::new(beat))),
        _ => None,
    }
}

impl Asker {
    /// Starts the process. All its lines go to `listener`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(hosts: &Hosts, dialect: Dialect, listener: Sender<Heard>) -> Result<Asker, HostsError> {
        let complaints = hosts.dir().join("client.log");
        let log = File::create(&complaints).map_err(HostsError::io("write the client's log"))?;
        let mut command = hosts.command(Host::Client, binary("upaxos-node")?);
        command.arg("client").args(hosts.args()).args(["--window", WINDOW]);
        command.args((dialect == Dialect::Classic).then_some("--classic"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(HostsError::io("start the client"))?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        thread::spawn(move || {
            let lines = BufReader::new(stdout).split(b'\n').map_while(Result::ok).map(Some);
            for line in lines.chain([None]) {
                if listener.send(Heard { host: Host::Client, line }).is_err() {
                    break;
                }
            }
        });
        let (open, history, acknowledged) = (BTreeMap::new(), Vec::new(), Instance(0));
        let mut asker = Asker { child, stdin, complaints, dialect, lines: 0, open, acknowledged, history };
        asker.write("watch").map_err(HostsError::io("talk to the client"))?;
        Ok(asker)
    }

    /// Sends a client's request.
    ///
    /// # Errors
    /// When the group's grammar does not support this request, or the process has ended.
    pub fn ask(&mut self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket> {
        // Checked here, because the process would end on such a line.
        ask.check(self.dialect).context("cannot ask")?;
        let line = format!("as {client} {} {}", patience.0, hex(&ask.to_line()));
        self.open.insert(self.lines, self.history.len());
        self.history.push(Happening::Asked { ask });
        let ticket = Ticket(self.lines);
        self.write(&line).with_context(|| self.last_words())?;
        Ok(ticket)
    }

    /// Sends a datagram by hand.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn say(&mut self, datagram: &[u8]) -> Result<()> {
        self.history.push(Happening::Said(datagram.to_vec()));
        self.write(&format!("say {}", hex(datagram))).with_context(|| self.last_words())
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// When the line is not an answer.
    pub fn hear(&mut self, line: &[u8]) -> Result<Option<Settled>> {
        let unreadable = || format!("read {:?}", String::from_utf8_lossy(line));
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let mut field = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
        let number: u64 = field().and_then(|text| text.parse().ok()).with_context(unreadable)?;
        let took = Micros(field().and_then(|text| text.parse().ok()).with_context(unreadable)?);
        let Some(asked) = self.open.remove(&number) else { return Ok(None) };
        let tag = field().with_context(unreadable)?;
        let outcome = match fields.next() {
            Some(b"forgotten") => Outcome::Forgotten,
            Some(text) => Outcome::parse(text).with_context(unreadable)?,
            None => bail!(unreadable()),
        };
        let tag = tag
            .split_once(':')
            .and_then(|(client, seq)| Some(Tag { client: client.parse().ok()?, seq: seq.parse().ok()? }));
        self.acknowledged = match outcome {
            Outcome::Chosen { instance, .. } => instance.max(self.acknowledged),
            Outcome::Read { learned, .. } => learned.max(self.acknowledged),
            _ => self.acknowledged,
        };
        self.history.push(Happening::Ended { asked, tag, outcome: outcome.clone() });
        Ok(Some(Settled { ticket: Ticket(number), outcome, took }))
    }

    /// The highest instance that any client was told of.
    pub fn acknowledged(&self) -> Instance {
        self.acknowledged
    }

    /// Whether every request has ended.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The last words of the process: why it ended.
    pub fn last_words(&self) -> String {
        let said = fs::read_to_string(&self.complaints).unwrap_or_default();
        format!("the client's process has ended: {}", said.trim())
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        self.lines += 1;
        writeln!(self.stdin, "{line}")
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
