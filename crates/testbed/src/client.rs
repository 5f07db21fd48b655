//! `upaxos-node client`: a client that other programs drive, hidden from the help.
//!
//! The demo, the lab and the live tests need a client on another host than theirs, with many requests in flight,
//! that also reports the leader. This module owns that dialogue and nothing else. People use `upaxos-send` and
//! `upaxos-repl`.
//!
//! Every line of standard input is a request, or a condition to wait for. Each gets one line of standard output,
//! `NUMBER MICROS TEXT`, with the line's number from 0, in the order in which the answers arrive:
//!
//! | line | answer |
//! | --- | --- |
//! | `Request …` | the outcome: `OK 1 one`, `Refused …`, `Unknown …` |
//! | `fast` | the outcome of `Request 0` without an instance: `Value 1 1 one` |
//! | `query …`, `fast query …` | the answer of a script: `OK 2 safe read …`, `Reply 1 …` |
//! | `leave …`, `replace …`, `members` | the outcome: `OK 5 leave 2`, `Members 5 41 0,1` |
//! | `leader` | `leader 2`, once a node leads |
//! | `learned N I` | `learned N I`, once N nodes have durably learned instance I |
//! | `as S M HEX` | for the request that HEX encodes, of session S, with a timeout of M microseconds: `C:Q` (its tag, or `-`) and the outcome, or `forgotten` |
//! | `say HEX` | `said`, once these bytes were sent as a datagram |
//! | `watch` | `watching`; from then on also lines without a number: `view` with every beat that differs from the node's previous one, `silent N` when nothing was heard of node N for a while |

mod input;
mod line;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upaxos_core::client::{Ask, Client, Outcome, RequestId, Scope, Settled, View};
use upaxos_core::types::{Micros, NodeId};
use upaxos_core::wire::{self, Beat, Dialect, Head, Line, Message};
use upaxos_net::{self as net, Pieces, Socket};

use input::Input;
use line::{Order, State};
pub use line::{hex, unhex};

/// The options of the client.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    net: net::Args,

    /// Maximum wait for each answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Maximum requests in flight
    #[arg(long, value_name = "N", default_value_t = 64)]
    window: usize,

    /// Speak the classic grammar only
    #[arg(long)]
    classic: bool,
}

/// Interval between looks for silent nodes while `watch` is on. A silent node sends nothing that could report it.
const LOOK: Micros = Micros::from_millis(50);
/// Longest wait when only lines and datagrams can arrive: the interval at which the socket looks at the network.
const IDLE: Micros = Micros::from_millis(1_000);

/// Answers the lines of standard input until it ends and every line is answered.
///
/// # Errors
/// When a socket cannot be opened or used, or a line has none of the forms.
pub fn run(args: &Args) -> Result<()> {
    let dialect = if args.classic { Dialect::Classic } else { Dialect::Extended };
    let socket = Socket::open(&args.net.options())?.with_pieces(Pieces::of(random()?, dialect));
    let mut dialogue = Dialogue {
        socket,
        dialect,
        scope: args.net.scope(dialect)?,
        sessions: BTreeMap::new(),
        view: View::new(dialect),
        start: Instant::now(),
        patience: args.timeout.into(),
        wishes: Vec::new(),
        taken: 0,
        watched: None,
    };
    dialogue.run(args.window.max(1))
}

struct Dialogue {
    socket: Socket,
    dialect: Dialect,
    /// The group that is asked. All sessions ask the same group.
    scope: Scope,
    sessions: BTreeMap<u64, Session>,
    view: View,
    start: Instant,
    patience: Micros,
    wishes: Vec<Wish>,
    /// Number of input lines so far.
    taken: usize,
    /// The beat of each node that was reported last; `None` until `watch` is given.
    watched: Option<BTreeMap<NodeId, Beat>>,
}

/// One client of the group, with its requests in flight.
struct Session {
    client: Client,
    questions: BTreeMap<RequestId, Asked>,
}

struct Asked {
    number: usize,
    /// Whether the answer begins with the request's tag.
    says_tag: bool,
}

fn random() -> Result<u64> {
    getrandom::u64().context("cannot draw a random number from the system")
}

/// A condition of the group that an input line waits for.
struct Wish {
    number: usize,
    asked: Micros,
    state: State,
}

impl Dialogue {
    fn run(&mut self, window: usize) -> Result<()> {
        let mut input = Input::new();
        while !input.has_ended() || self.under_way() > 0 {
            while self.under_way() < window {
                let Some(line) = input.next() else { break };
                self.take(&line)?;
            }
            let mut settled = self.tick()?;
            let most = if settled.is_empty() { self.until_due() } else { Duration::ZERO };
            let has_room = self.under_way() < window;
            input.wait(self.socket.as_fd(), has_room, most).context("cannot wait for lines and answers")?;
            self.hear(&mut settled)?;
            self.answer(settled).context("cannot print answers")?;
        }
        Ok(())
    }

    /// Time until the next deadline, if no line and no datagram arrives before it.
    fn until_due(&self) -> Duration {
        let now = self.now();
        let sessions = self.sessions.values().filter_map(|session| session.client.next_deadline(now));
        let wishes = self.wishes.iter().map(|wish| wish.asked + self.patience);
        let look = self.watched.as_ref().map(|_| now + LOOK);
        let due = sessions.chain(wishes).chain(look).min().unwrap_or(now + IDLE).since(now).into();
        self.socket.deadline().map_or(due, |pieces| pieces.min(due))
    }

    fn now(&self) -> Micros {
        self.start.elapsed().into()
    }

    fn under_way(&self) -> usize {
        self.wishes.len() + self.sessions.values().map(|session| session.questions.len()).sum::<usize>()
    }

    /// Sends the requests that are due. Returns those that timed out, each with its session.
    fn tick(&mut self) -> Result<Vec<(u64, Settled)>> {
        let (now, limit) = (self.now(), self.socket.max_payload());
        if self.under_way() > 0 && self.scope.asks(now) {
            self.socket.send(&[b"members".to_vec()]).context("cannot ask which group is there")?;
        }
        let mut given_up = Vec::new();
        for (number, Session { client, .. }) in &mut self.sessions {
            let turn = client.tick(now);
            // The scope is shared: once one client has begun, all have.
            if client.scope().has_begun() {
                self.scope.begin();
            }
            self.socket.send(&client.pack(&turn.send, limit)).context("cannot send requests")?;
            given_up.extend(turn.settled.into_iter().map(|settled| (*number, settled)));
        }
        self.view.set_trouble(self.socket.trouble());
        Ok(given_up)
    }

    fn take(&mut self, line: &[u8]) -> Result<()> {
        let (number, asked) = (self.taken, self.now());
        self.taken += 1;
        match line::parse(line)? {
            Order::Ask(ask, session) => self.ask(number, ask, session),
            Order::Wish(state) => {
                self.wishes.push(Wish { number, asked, state });
                Ok(())
            }
            Order::Say(datagram) => {
                let datagram = self.with_head(datagram);
                self.socket.send(&[datagram]).context("cannot send a datagram")?;
                self.confirm(number, "said")
            }
            Order::Watch => {
                self.watched.get_or_insert_default();
                self.confirm(number, "watching")
            }
        }
    }

    fn ask(&mut self, number: usize, ask: Ask, session: Option<(u64, Micros)>) -> Result<()> {
        let now = self.now();
        let says_tag = session.is_some();
        let (session, patience) = session.unwrap_or((0, self.patience));
        if !self.sessions.contains_key(&session) {
            let id = random()?;
            let client = Client::new(id, self.dialect).within(self.scope.clone());
            self.sessions.insert(session, Session { client, questions: BTreeMap::new() });
        }
        let session = self.sessions.get_mut(&session).expect("it was made if it was not there");
        let ticket = session.client.ask(ask, now, patience)?;
        session.questions.insert(ticket, Asked { number, says_tag });
        Ok(())
    }

    /// Prefixes lines of a node that have no head with the head of that node's current incarnation, and appends the
    /// checksum that goes with a head.
    fn with_head(&self, mut lines: Vec<u8>) -> Vec<u8> {
        if self.dialect == Dialect::Classic {
            return lines;
        }
        wire::complete(&mut lines);
        let Ok((head, mut read)) = wire::open(&lines, self.dialect) else { return lines };
        let Some(Ok(Line::Node(from, _))) = read.next().filter(|_| head == Head::default()) else {
            return lines;
        };
        let beat = self.view.nodes(self.now()).find(|(id, _)| *id == from).map(|(_, beat)| beat);
        let Some(beat) = beat else { return lines };
        let (from, group) = (Some((from, beat.boot.incarnation)), self.scope.group());
        let mut datagram = Vec::new();
        Head { from, group, name: self.scope.name() }.encode(&mut datagram);
        datagram.extend(lines);
        wire::complete(&mut datagram);
        datagram
    }

    fn confirm(&self, number: usize, word: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{number} 0 {word}").and_then(|()| out.flush()).context("cannot print answers")
    }

    fn hear(&mut self, settled: &mut Vec<(u64, Settled)>) -> Result<()> {
        let (sessions, view, start) = (&mut self.sessions, &mut self.view, self.start);
        let scope = &mut self.scope;
        let each = &mut |datagram: &[u8], _| {
            let now = start.elapsed().into();
            let before = (scope.group(), scope.refusal().is_some());
            let lines = scope.hear(datagram, now);
            if before != (scope.group(), scope.refusal().is_some()) {
                sessions.values_mut().for_each(|session| session.client.move_to(scope.clone()));
            }
            for line in lines.into_iter().flatten().flatten() {
                match line {
                    Line::Node(from, message) => {
                        view.on_message(from, &message, now);
                        for (number, session) in &mut *sessions {
                            let ended = session.client.on_message(from, &message, now);
                            settled.extend(ended.into_iter().map(|ended| (*number, ended)));
                        }
                    }
                    Line::Client(_) => {}
                }
            }
        };
        self.socket.receive(Some(Duration::ZERO), each).context("cannot receive answers")?;
        Ok(())
    }

    fn answer(&mut self, settled: Vec<(u64, Settled)>) -> io::Result<()> {
        let now = self.now();
        let mut out = io::stdout().lock();
        for (session, Settled { ticket, tag, outcome, took }) in settled {
            let session = self.sessions.get_mut(&session).expect("who asked is a session");
            let asked = session.questions.remove(&ticket).expect("only what was asked is settled");
            write!(out, "{} {} ", asked.number, took.0)?;
            match tag.filter(|_| asked.says_tag) {
                Some(tag) => write!(out, "{}:{} ", tag.client, tag.seq)?,
                None if asked.says_tag => write!(out, "- ")?,
                None => {}
            }
            match outcome {
                Outcome::Forgotten if asked.says_tag => write!(out, "forgotten")?,
                _ => out.write_all(&outcome.to_line())?,
            }
            if outcome == Outcome::Unknown {
                write!(out, " {}", self.scope.explain_silence(&self.view, now))?;
            }
            writeln!(out)?;
        }
        let (view, scope, patience) = (&self.view, &self.scope, self.patience);
        for wish in &self.wishes {
            if let Some(text) = wish.text(view, scope, now, patience) {
                writeln!(out, "{} {} {text}", wish.number, now.since(wish.asked).0)?;
            }
        }
        self.wishes.retain(|wish| wish.text(view, scope, now, patience).is_none());
        if let Some(watched) = &mut self.watched {
            report(view, now, watched, &mut out)?;
        }
        out.flush()
    }
}

/// Prints what has changed about every node since the last report.
fn report(
    view: &View,
    now: Micros,
    watched: &mut BTreeMap<NodeId, Beat>,
    out: &mut impl Write,
) -> io::Result<()> {
    let fresh: BTreeMap<NodeId, &Beat> = view.nodes(now).collect();
    for id in watched.keys().filter(|id| !fresh.contains_key(id)) {
        writeln!(out, "silent {id}")?;
    }
    watched.retain(|id, _| fresh.contains_key(id));
    for (id, beat) in fresh {
        if watched.get(&id) != Some(beat) {
            writeln!(out, "view {}", Line::Node(id, Message::Beat(beat.clone())))?;
            watched.insert(id, beat.clone());
        }
    }
    Ok(())
}

impl Wish {
    /// The answer, once the condition holds or the wish has timed out.
    fn text(&self, view: &View, scope: &Scope, now: Micros, patience: Micros) -> Option<String> {
        self.state.holds(view, now).or_else(|| {
            let is_late = now.since(self.asked) >= patience;
            is_late.then(|| format!("Unknown {}", scope.explain_silence(view, now)))
        })
    }
}
