//! All clients of a real world: one process on the clients' host, `upaxos-node client`.
//!
//! Owns what was asked and how it ended, in the order in which both happened here: the history that the
//! judges read. A question counts as asked before its line is written to the process, and as answered after
//! its answer was read from it, so nothing is ever judged by an order that nobody could see.

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

use super::super::{Settled, Ticket};
use crate::client::hex;
use crate::hosts::{Heard, Host, Hosts, HostsError, binary};

/// More questions under way than any script asks at once.
const WINDOW: &str = "1000000";

/// The process, and the history of what was asked.
pub struct Asker {
    child: Child,
    stdin: ChildStdin,
    complaints: PathBuf,
    dialect: Dialect,
    /// Lines written so far: the number of the next one.
    lines: u64,
    /// Whose answer is awaited, by the number of its line: where in the history it was asked.
    open: BTreeMap<u64, usize>,
    acknowledged: Instance,
    /// Everything so far.
    pub history: Vec<Happening>,
}

/// What happened on the clients' side.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A client asked.
    Asked { ask: Ask },
    /// Its question ended: the one that was asked at this place of the history.
    Ended { asked: usize, tag: Option<Tag>, outcome: Outcome },
    /// Somebody sent a datagram by hand.
    Said(Vec<u8>),
}

/// What a node was heard saying of itself, or that it was not heard any more.
pub enum Watched {
    Says(NodeId, Box<Beat>),
    Silent(NodeId),
}

/// Understands a line of the client that is no answer.
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
    /// Starts the process; everything that it says goes to `listener`.
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

    /// A client asks.
    ///
    /// # Errors
    /// When a group of this grammar cannot be asked that, or the process has ended.
    pub fn ask(&mut self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket> {
        // The process would end over it.
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

    /// Takes an answer in.
    ///
    /// # Errors
    /// When the line is none.
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

    /// The highest instance that anybody was told of.
    pub fn acknowledged(&self) -> Instance {
        self.acknowledged
    }

    /// Whether everything that was asked has ended.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Why the process ended, in its words.
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
