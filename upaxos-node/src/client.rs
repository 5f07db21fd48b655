//! `upaxos-node client`: a client for other programs to talk to, hidden from the help.
//!
//! The demo and the live tests need somebody who asks from another host than theirs, with many requests
//! under way at once, and who hears who leads. Owns that dialogue and nothing else; people use
//! `upaxos-send` and `upaxos-repl`.
//!
//! Every line of standard input is a request or a wish to be told when something holds; each gets one
//! line of standard output, `NUMBER MICROS TEXT`, with the line's number from 0, in the order in which
//! the answers come:
//!
//! | line | answered |
//! | --- | --- |
//! | `Request …` | with the outcome: `OK 1 one`, `Refused …`, `Unknown …` |
//! | `fast` | as `Request 0` without an instance: `Value 1 1 one` |
//! | `leave …`, `replace …`, `members` | the same: `OK 5 leave 2`, `Members 5 41 0,1` |
//! | `leader` | `leader 2`, once somebody leads |
//! | `learned N I` | `learned N I`, once N nodes have durably learned instance I |

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use upaxos_core::client::{Ask, Client, Outcome, Settled, Ticket, View};
use upaxos_core::net::{self, Socket};
use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::Dialect;

/// Where to ask, and how eagerly.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    net: net::Args,

    /// How long to wait for each answer
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Requests under way at once, at most
    #[arg(long, default_value_t = 64)]
    window: usize,
}

/// How long a new line may wait for the socket to fall silent. (Times are measured from when a line is
/// taken up, so this adds to no answer.)
const GLANCE: Duration = Duration::from_millis(2);

/// Answers every line of standard input, until it ends and all is answered.
///
/// # Errors
/// A socket that cannot be opened or used, a line that is none of the forms.
pub fn run(args: &Args) -> Result<()> {
    let socket = Socket::open(&args.net.options())?;
    let id = getrandom::u64().context("cannot draw a random client id from the system")?;
    let mut dialogue = Dialogue {
        socket,
        client: Client::new(id, Dialect::Extended),
        view: View::new(Dialect::Extended),
        start: Instant::now(),
        patience: args.timeout.into(),
        numbers: BTreeMap::new(),
        wishes: Vec::new(),
        taken: 0,
    };
    dialogue.run(&lines(), args.window.max(1))
}

/// Standard input, read on a thread of its own: a socket and a pipe cannot be awaited together here.
fn lines() -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1024);
    thread::spawn(move || {
        let lines = io::stdin().lock().split(b'\n').map_while(Result::ok);
        for line in lines {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

struct Dialogue {
    socket: Socket,
    client: Client,
    view: View,
    start: Instant,
    patience: Micros,
    numbers: BTreeMap<Ticket, usize>,
    wishes: Vec<Wish>,
    /// Lines of input so far.
    taken: usize,
}

/// Something about the group that somebody waits for.
struct Wish {
    number: usize,
    asked: Micros,
    state: State,
}

enum State {
    Leader,
    Learned { nodes: usize, instance: Instance },
}

impl Dialogue {
    fn run(&mut self, input: &Receiver<Vec<u8>>, window: usize) -> Result<()> {
        let mut is_open = true;
        while is_open || !self.is_idle() {
            while is_open && self.numbers.len() + self.wishes.len() < window {
                match input.try_recv() {
                    Ok(line) => self.take(&line)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => is_open = false,
                }
            }
            let turn = self.client.tick(self.now());
            self.socket
                .send(&self.client.pack(&turn.send, self.socket.max_payload()))
                .context("cannot send requests")?;
            let mut settled = turn.settled;
            self.hear(&mut settled)?;
            self.answer(settled).context("cannot print answers")?;
        }
        Ok(())
    }

    fn now(&self) -> Micros {
        self.start.elapsed().into()
    }

    fn is_idle(&self) -> bool {
        self.numbers.is_empty() && self.wishes.is_empty()
    }

    fn take(&mut self, line: &[u8]) -> Result<()> {
        let (number, now) = (self.taken, self.now());
        self.taken += 1;
        const ASKS: [&[u8]; 5] = [b"Request", b"fast", b"leave ", b"replace ", b"members"];
        if ASKS.iter().any(|ask| line.starts_with(ask)) {
            let ask = if line == b"fast" { Ask::FastRead } else { Ask::parse(line)? };
            self.numbers.insert(self.client.ask(ask, now, self.patience)?, number);
        } else {
            let state = State::parse(&String::from_utf8_lossy(line))?;
            self.wishes.push(Wish { number, asked: now, state });
        }
        Ok(())
    }

    fn hear(&mut self, settled: &mut Vec<Settled>) -> Result<()> {
        let (client, view, start) = (&mut self.client, &mut self.view, self.start);
        let each = &mut |datagram: &[u8], _| {
            settled.extend(client.on_datagram(datagram, view, start.elapsed().into()));
        };
        self.socket.receive(Some(GLANCE), each).context("cannot receive answers")?;
        Ok(())
    }

    fn answer(&mut self, settled: Vec<Settled>) -> io::Result<()> {
        let now = self.now();
        let mut out = io::stdout().lock();
        for Settled { ticket, outcome, took } in settled {
            let number = self.numbers.remove(&ticket).expect("only what was asked is settled");
            write!(out, "{number} {} ", took.0)?;
            out.write_all(&outcome.to_line())?;
            if outcome == Outcome::Unknown {
                write!(out, " {}", self.view.explain_silence(now))?;
            }
            writeln!(out)?;
        }
        let (view, patience) = (&self.view, self.patience);
        for wish in &self.wishes {
            if let Some(text) = wish.text(view, now, patience) {
                writeln!(out, "{} {} {text}", wish.number, now.since(wish.asked).0)?;
            }
        }
        self.wishes.retain(|wish| wish.text(view, now, patience).is_none());
        out.flush()
    }
}

impl Wish {
    /// The answer, if there is one by now.
    fn text(&self, view: &View, now: Micros, patience: Micros) -> Option<String> {
        self.state.holds(view, now).or_else(|| {
            let is_late = now.since(self.asked) >= patience;
            is_late.then(|| format!("Unknown {}", view.explain_silence(now)))
        })
    }
}

impl State {
    fn parse(line: &str) -> Result<State> {
        let count = |text: &str| text.parse().with_context(|| format!("{text:?} in {line:?} is no number"));
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["leader"] => Ok(State::Leader),
            ["learned", nodes, instance] => {
                let nodes = usize::try_from(count(nodes)?).map_err(|_| anyhow!("too many nodes"))?;
                Ok(State::Learned { nodes, instance: Instance(count(instance)?) })
            }
            _ => bail!(
                "expected `Request …`, `fast`, `members`, `leave …`, `replace …`, `leader` or \
                 `learned NODES INSTANCE`, not {line:?}"
            ),
        }
    }

    fn holds(&self, view: &View, now: Micros) -> Option<String> {
        match self {
            State::Leader => view.leader(now).map(|id| format!("leader {id}")),
            State::Learned { nodes, instance } => {
                let learned = view.nodes(now).filter(|(_, beat)| beat.learned >= *instance).count();
                (learned >= *nodes).then(|| format!("learned {nodes} {instance}"))
            }
        }
    }
}
