//! `upaxos-node load`: the load of `upaxos-node bench`, on the client's host; hidden from the help.
//!
//! One thread and one socket stand for all clients. The load must never limit a measurement. So requests are packed
//! into few datagrams, answers are found without parsing lines that are not for clients, and no request costs an
//! allocation or a search. It starts nothing and judges nothing; the bench does both.
//!
//! It reports its progress on standard output, one line each. After `done` it waits until its standard input ends:
//! the kernel reports the usage of a process only while it exists.
//!
//! | line | means |
//! | --- | --- |
//! | `leader S` | node S leads from now on, according to the beats |
//! | `begin` | the measured time begins |
//! | `at MS OK` | OK requests are answered MS after the start of the measurement |
//! | `end` | the measured time is over; the load awaits the requests in flight |
//! | `settled` | every node has learned all; only with `--restart`, which then waits for a restarted node |
//! | `back` | a restarted node was heard |
//! | `done JSON` | the numbers: a [`Summary`] |

mod acks;
mod answers;
mod client_pool;
mod packing;
mod phase;
mod session;
mod stats;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, bail};
use upaxos_core::client::{Scope, View};
use upaxos_core::types::{MAX_NUMBER, NodeId};
use upaxos_core::wire::{Dialect, Message};
use upaxos_net::{self as net, Pieces, Socket};

use super::run_config::Reads;
pub use acks::{Acks, Run};
use client_pool::{Asks, ClientPool, Heard};
use packing::Packing;
pub use packing::{filling, value_of};
use phase::{Phase, micros, nanos, seconds};
use stats::Stats;
pub use stats::{Counts, Summary};

/// What to request, how much, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    net: net::Args,

    /// Size of each value in bytes
    #[arg(long, value_name = "BYTES")]
    size: usize,

    /// Maximum requests in flight, over all clients
    #[arg(long, value_name = "N")]
    outstanding: usize,

    /// Number of clients, each with its own session
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: usize,

    /// Measured time, in seconds
    #[arg(long)]
    seconds: f64,

    /// Unmeasured time before that, from the first answer on, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warm_up: f64,

    /// Read instead of write: fast (no instance), safe (through an instance) or history (a chosen instance)
    #[arg(long, hide_possible_values = true, value_name = "KIND")]
    reads: Option<Reads>,

    /// Number of values written before the load
    #[arg(long, value_name = "N", default_value_t = 0)]
    fill: u64,

    /// Requests per second, sent whether answers arrive or not
    #[arg(long, value_name = "PER-SECOND")]
    rate: Option<f64>,

    /// Number of nodes that must have learned everything at the end
    #[arg(long, value_name = "N")]
    nodes: usize,

    /// Wait at the end until a node has been restarted
    #[arg(long)]
    restart: bool,

    /// File for the acknowledged requests
    #[arg(long, value_name = "FILE")]
    acks: PathBuf,
}

/// The number of requests in flight while values are written ahead of a measurement.
const FILLING: usize = 1_024;
/// In nanoseconds: how long the next answer may take while values are written ahead, how long the first answer may
/// take otherwise, how long the requests in flight may take at the end, and how long the nodes may take to learn
/// everything.
const PATIENCE: u64 = 30_000_000_000;
/// The interval between two checks for late requests, in nanoseconds.
const LOOK: u64 = 10_000_000;
/// The maximum wait of one receive.
const GLANCE: Duration = Duration::from_millis(10);
/// The minimum wait with a rate, in nanoseconds: a shorter one would spin.
const SHORTEST: u64 = 200_000;

struct Load<'a> {
    args: &'a Args,
    start: Clock,
    phase: Phase,
    crowd: ClientPool,
    packing: Packing,
    scope: Scope,
    view: View,
    /// The boot number of each node's current run.
    boots: BTreeMap<NodeId, u64>,
    has_returned: bool,
    leader: Option<NodeId>,
    tally: Option<Stats>,
    counts: Counts,
    /// When the last answer arrived, in nanoseconds since the load began.
    last_ok: u64,
    /// With a rate: the number of requests of the current phase that were due so far.
    due: u64,
    due_since: u64,
    asked: u64,
    unsent: u64,
    sent_again: u64,
    next_look: u64,
    next_word: u64,
}

/// Loads the group, and prints the results.
///
/// # Errors
/// When a socket cannot be opened or used, or a group never answers.
pub fn run(args: &Args) -> Result<()> {
    let chance = getrandom::u64().context("cannot draw a random client id from the system")?;
    let mut socket = Socket::open(&args.net.options())?.with_pieces(Pieces::of(chance, Dialect::Extended));
    let scope = args.net.scope(Dialect::Extended)?;
    let mut load = Load::new(args, scope, chance & (MAX_NUMBER >> 1), socket.max_payload());
    while load.phase != Phase::Done {
        let now = load.now();
        load.advance(now)?;
        if load.scope.asks(micros(now)) {
            socket.send(&[b"members".to_vec()]).context("cannot ask which group is there")?;
        }
        if load.scope.is_open(micros(now)) {
            load.scope.begin();
            load.packing.set_head(load.scope.head());
            load.ask(now);
        }
        socket.send(load.packing.finish()).context("cannot send requests")?;
        load.packing.clear();
        let wait = load.wait(now);
        let start = load.start;
        socket
            .receive(Some(wait), &mut |datagram, _| load.hear(datagram, nanos(start)))
            .context("cannot receive answers")?;
    }
    load.crowd.acks().write(&args.acks).context("cannot write what was acknowledged")?;
    say(&format!("done {}", serde_json::to_string(&load.summary())?))?;
    io::copy(&mut io::stdin(), &mut io::sink()).context("cannot wait for the end of standard input")?;
    Ok(())
}

/// Prints a line for the bench. If the bench is gone, there is nothing left to do.
fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("cannot speak to the bench")
}

impl Load<'_> {
    fn new(args: &Args, scope: Scope, first_client: u64, max_payload: usize) -> Load<'_> {
        /// The maximum bytes per datagram for a group on loopback.
        const MOST: usize = 60_000;
        let most = if args.fill > 0 { args.outstanding.max(FILLING) } else { args.outstanding };
        Load {
            args,
            start: Clock::now(),
            phase: if args.fill > 0 { Phase::Fill(args.fill) } else { Phase::Wake },
            crowd: ClientPool::new(first_client, args.clients, most),
            packing: Packing::new(max_payload.min(MOST), args.size),
            scope,
            view: View::new(Dialect::Extended),
            boots: BTreeMap::new(),
            has_returned: false,
            leader: None,
            tally: None,
            counts: Counts::default(),
            last_ok: 0,
            due: 0,
            due_since: 0,
            asked: 0,
            unsent: 0,
            sent_again: 0,
            next_look: 0,
            next_word: 0,
        }
    }

    fn now(&self) -> u64 {
        nanos(self.start)
    }

    fn asks(&self) -> Asks {
        match (self.phase, self.args.reads) {
            (Phase::Fill(_) | Phase::Filled, _) | (_, None) => Asks::Writes,
            (_, Some(reads)) => Asks::Reads(reads),
        }
    }

    /// Moves to the next phase when it is time.
    fn advance(&mut self, now: u64) -> Result<()> {
        if let Some(why) = self.scope.refusal() {
            bail!("cannot load the group: {why}");
        }
        match self.phase {
            Phase::Fill(0) => self.phase = Phase::Filled,
            Phase::Filled if self.crowd.open() == 0 => {
                self.crowd.remember_past(self.args.size);
                self.phase = Phase::Wake;
            }
            Phase::Fill(_) | Phase::Filled | Phase::Wake if now > self.last_ok + PATIENCE => {
                bail!("cannot load the group: {}", self.scope.explain_silence(&self.view, micros(now)));
            }
            Phase::WarmUp(until) if now >= until => {
                self.tally = Some(Stats::new(now));
                (self.due, self.due_since) = (0, now);
                self.next_word = now;
                self.phase = Phase::Measure(now + seconds(self.args.seconds));
                say("begin")?;
            }
            Phase::Measure(until) if now >= until => {
                self.counts = self.tally.take().map(|tally| tally.finish(now)).unwrap_or_default();
                self.phase = Phase::Drain(now + PATIENCE);
                say("end")?;
            }
            Phase::Measure(_) if now >= self.next_word => {
                const WORDS: u64 = 200_000_000;
                self.next_word += WORDS;
                let ok = self.tally.as_ref().map_or(0, Stats::ok);
                say(&format!("at {} {ok}", (now - self.due_since) / 1_000_000))?;
            }
            Phase::Drain(until) if self.crowd.open() == 0 || now >= until => {
                self.phase = Phase::Settle(now + PATIENCE);
            }
            Phase::Settle(until) if self.has_settled(now) || now >= until => self.settled(now)?,
            Phase::Return(until) if now >= until => bail!("no node that was started again was heard"),
            Phase::Return(_) if self.has_returned => {
                self.phase = Phase::Settle(now + PATIENCE);
                say("back")?;
            }
            _ => {}
        }
        self.watch_leader(now)
    }

    fn settled(&mut self, now: u64) -> Result<()> {
        if !self.args.restart || self.has_returned {
            self.phase = Phase::Done;
            return Ok(());
        }
        self.phase = Phase::Return(now + PATIENCE);
        say("settled")
    }

    fn watch_leader(&mut self, now: u64) -> Result<()> {
        if now < self.next_look {
            return Ok(());
        }
        let leader = self.view.leader(micros(now));
        if leader.is_some() && leader != self.leader {
            self.leader = leader;
            say(&format!("leader {}", leader.map_or(0, |id| id.0)))?;
        }
        Ok(())
    }

    fn has_settled(&self, now: u64) -> bool {
        let last = self.crowd.acks().span().map_or(0, |(_, last)| last);
        let learned = self.view.nodes(micros(now)).filter(|(_, beat)| beat.learned.0 >= last).count();
        learned >= self.args.nodes
    }

    /// Packs the requests that are due now, and those that must be retransmitted.
    fn ask(&mut self, now: u64) {
        let asks = self.asks();
        match self.phase {
            Phase::Fill(left) => {
                let free = FILLING.saturating_sub(self.crowd.open()).min(left as usize);
                let asked = self.crowd.ask(asks, free, now, now, &mut self.packing);
                self.phase = Phase::Fill(left - asked as u64);
            }
            Phase::WarmUp(_) | Phase::Measure(_) if self.args.rate.is_some() => self.ask_at_rate(asks, now),
            Phase::Wake | Phase::WarmUp(_) | Phase::Measure(_) => {
                // A group that is to be loaded at a rate must not be flooded before.
                let most = if self.args.rate.is_some() { 1 } else { self.args.outstanding };
                let free = most.saturating_sub(self.crowd.open());
                let asked = self.crowd.ask(asks, free, now, now, &mut self.packing);
                self.count_asked(asked);
            }
            Phase::Filled | Phase::Drain(_) | Phase::Settle(_) | Phase::Return(_) | Phase::Done => {}
        }
        if now >= self.next_look {
            self.next_look = now + LOOK;
            let again = self.crowd.ask_again(asks, now, &mut self.packing);
            self.sent_again += if self.tally.is_some() { again } else { 0 };
        }
    }

    /// Sends the requests that are due. A request without room stays unsent: this load keeps no queue.
    fn ask_at_rate(&mut self, asks: Asks, now: u64) {
        let rate = self.args.rate.unwrap_or_default();
        let due = ((now - self.due_since) as f64 / 1e9 * rate) as u64;
        let fresh = due.saturating_sub(self.due) as usize;
        let room = self.args.outstanding.saturating_sub(self.crowd.open());
        let asked = self.crowd.ask(asks, fresh.min(room), now, now, &mut self.packing);
        self.due = due;
        self.count_asked(asked);
        self.unsent += if self.tally.is_some() { (fresh - asked) as u64 } else { 0 };
    }

    fn count_asked(&mut self, asked: usize) {
        self.asked += if self.tally.is_some() { asked as u64 } else { 0 };
    }

    fn wait(&self, now: u64) -> Duration {
        if let Some(opens) = self.scope.deadline(micros(now)) {
            return Duration::from(opens.since(micros(now))).min(GLANCE);
        }
        let end = match self.phase {
            Phase::WarmUp(until) | Phase::Measure(until) => until.saturating_sub(now),
            _ => u64::MAX,
        };
        let due = match (self.phase, self.args.rate) {
            (Phase::WarmUp(_) | Phase::Measure(_), Some(_)) => SHORTEST,
            _ => u64::MAX,
        };
        Duration::from_nanos(end.min(due)).min(GLANCE)
    }

    fn hear(&mut self, datagram: &[u8], now: u64) {
        if self.scope.hear(datagram, micros(now)).is_none() {
            return;
        }
        let Load { crowd, view, boots, has_returned, tally, phase, args, due_since, last_ok, .. } = self;
        answers::each(datagram, |from, message| {
            view.on_message(from, &message, micros(now));
            if let Message::Beat(beat) = &message {
                let before = boots.insert(from, beat.boot.boot);
                let is_new = before.is_some_and(|before| before != beat.boot.boot);
                *has_returned |= is_new && matches!(phase, Phase::Return(_));
                return;
            }
            crowd.on_message(&message, now, &mut |heard| {
                *last_ok = now;
                if *phase == Phase::Wake {
                    *phase = Phase::WarmUp(now + seconds(args.warm_up));
                    *due_since = now;
                }
                match (&mut *tally, heard) {
                    (Some(tally), Heard::Ok { asked, count }) => tally.on_ok(asked, count, now),
                    (Some(tally), Heard::Refused) => tally.refused += 1,
                    (None, _) => {}
                }
            });
        });
    }

    fn summary(&self) -> Summary {
        let learned = self.view.nodes(micros(self.now()));
        Summary {
            counts: self.counts.clone(),
            first_client: self.crowd.first_client(),
            clients: self.crowd.len() as u64,
            size: self.args.size as u64,
            asked: self.asked,
            sent_again: self.sent_again,
            unsent: self.unsent,
            stale: self.crowd.stale(),
            unanswered: self.crowd.unanswered(),
            learned: learned.map(|(id, beat)| (id.0, beat.learned.0)).collect(),
            last: self.crowd.acks().span().map_or(0, |(_, last)| last),
        }
    }
}
