//! Loads: many requests by clients of their own, while the script does other things.
//!
//! Owns the schedule of requests, and the figures. [`Run`](super::run::Run) sends the requests, like those of the
//! script itself. All its chance comes from the seed.

use std::collections::BTreeMap;

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Instance, Micros, Value};
use upaxos_sim::rng::{Rng, Stream};

use super::backend::{Settled, Ticket};

/// The kind of a load's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A write of a value that no other request writes.
    Write,
    /// A safe read through an instance of its own.
    Read,
    /// A fast read, without an instance where that is possible.
    FastRead,
    /// A query for an instance that was acknowledged before.
    History,
}

/// The kinds by the names that scripts use.
pub const KINDS: [(&str, Kind); 4] =
    [("write", Kind::Write), ("read", Kind::Read), ("fast_read", Kind::FastRead), ("history", Kind::History)];

/// The parameters of a load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The prefix of its values.
    pub name: String,
    /// The numbers of the clients that send its requests.
    pub clients: Vec<u64>,
    /// The time between two requests of the whole load. `None`: each client sends its next request after an answer.
    pub interval: Option<Micros>,
    /// The kinds of requests, by weight. At least one weight is above 0.
    pub mix: Vec<(Kind, u32)>,
    /// The maximum number of requests.
    pub count: Option<u64>,
    /// The time at which it ends by itself.
    pub end: Option<Micros>,
    /// How long a request may take.
    pub patience: Micros,
}

/// The figures of a load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The number of requests sent.
    pub asked: u64,
    /// The number of requests carried out or answered.
    pub ok: u64,
    /// The number of requests refused.
    pub refused: u64,
    /// The number of requests with an unknown outcome.
    pub unknown: u64,
    /// The number of requests in flight.
    pub open: u64,
    /// The duration of the load so far.
    pub lasted: Micros,
    /// The longest time without a successful answer.
    pub longest_gap: Micros,
    /// The median latency of successful answers.
    pub p50: Micros,
    /// The 99th percentile of that latency.
    pub p99: Micros,
    /// The maximum of that latency.
    pub longest: Micros,
    /// The highest acknowledged instance.
    pub highest: Instance,
}

struct Load {
    plan: Plan,
    chance: Rng,
    began: Micros,
    /// When the next request is due, for a load with an interval.
    due: Micros,
    /// The clients without a request in flight, for a load without an interval.
    idle: Vec<u64>,
    is_over: bool,
    ended: Option<Micros>,
    last_ok: Micros,
    took: Vec<Micros>,
    figures: Figures,
}

/// All loads of a lab, by their numbers.
#[derive(Default)]
pub struct Loads {
    loads: Vec<Load>,
    open: BTreeMap<Ticket, (usize, u64)>,
}

impl Loads {
    /// Starts a load. Returns its number.
    pub fn begin(&mut self, plan: Plan, seed: u64, now: Micros) -> usize {
        let number = self.loads.len();
        self.loads.push(Load {
            chance: Rng::new(seed.wrapping_add(number as u64), Stream::Workload),
            began: now,
            due: now,
            idle: plan.clients.iter().rev().copied().collect(),
            is_over: false,
            ended: None,
            last_ok: now,
            took: Vec::new(),
            figures: Figures::default(),
            plan,
        });
        number
    }

    /// Stops the requests of this load.
    pub fn stop(&mut self, number: usize, now: Micros) {
        self.loads[number].stop(now);
    }

    /// Stops the requests of all loads.
    pub fn stop_all(&mut self, now: Micros) {
        for load in &mut self.loads {
            load.stop(now);
        }
    }

    /// The number of loads so far.
    pub fn count(&self) -> usize {
        self.loads.len()
    }

    /// Whether it sends no more requests, and every request has ended.
    pub fn is_done(&self, number: usize) -> bool {
        let load = &self.loads[number];
        load.is_over && load.figures.open == 0
    }

    /// The figures of a load.
    pub fn figures(&self, number: usize, now: Micros) -> Figures {
        let load = &self.loads[number];
        let mut took = load.took.clone();
        took.sort_unstable();
        let at =
            |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1))).copied();
        let until = load.ended.unwrap_or(now);
        Figures {
            lasted: until.since(load.began),
            longest_gap: load.figures.longest_gap.max(until.since(load.last_ok)),
            p50: at(50).unwrap_or_default(),
            p99: at(99).unwrap_or_default(),
            longest: took.last().copied().unwrap_or_default(),
            ..load.figures.clone()
        }
    }

    /// When the next load has something to do.
    pub fn next_at(&self) -> Option<Micros> {
        let due = |load: &Load| load.plan.interval.map(|_| load.due);
        let running = self.loads.iter().filter(|load| !load.is_over);
        running.flat_map(|load| [due(load), load.plan.end]).flatten().min()
    }

    /// Takes the answer to a load's request. Returns an answer that belongs to no load.
    pub fn take(&mut self, answer: Settled, now: Micros) -> Option<Settled> {
        match self.open.remove(&answer.ticket) {
            Some((number, client)) => {
                self.loads[number].take(&answer, client, now);
                None
            }
            None => Some(answer),
        }
    }

    /// The next request of a load, if it is due: the number of the client, the request, and how long it may take.
    pub fn next(&mut self, number: usize, now: Micros) -> Option<(u64, Ask, Micros)> {
        self.loads[number].next(now)
    }

    /// The request that [`next`](Loads::next) returned is sent, under this ticket.
    pub fn on_sent(&mut self, ticket: Ticket, number: usize, client: u64) {
        self.open.insert(ticket, (number, client));
    }
}

impl Load {
    fn stop(&mut self, now: Micros) {
        self.is_over = true;
        if self.figures.open == 0 {
            self.ended.get_or_insert(now);
        }
    }

    /// The next request that is due at `now`, with its client and its patience.
    fn next(&mut self, now: Micros) -> Option<(u64, Ask, Micros)> {
        let is_enough = self.plan.count.is_some_and(|count| self.figures.asked >= count);
        if is_enough || self.plan.end.is_some_and(|end| now >= end) {
            self.stop(now);
        }
        if self.is_over {
            return None;
        }
        let client = match self.plan.interval {
            Some(interval) => {
                if self.due > now {
                    return None;
                }
                self.due = self.due + interval;
                self.plan.clients[self.figures.asked as usize % self.plan.clients.len()]
            }
            None => self.idle.pop()?,
        };
        self.figures.asked += 1;
        self.figures.open += 1;
        Some((client, self.draw(), self.plan.patience))
    }

    fn draw(&mut self) -> Ask {
        let total: u64 = self.plan.mix.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut drawn = self.chance.below(total);
        let kinds = self.plan.mix.iter();
        let kind = kinds.copied().find(|(_, weight)| {
            let is_it = drawn < u64::from(*weight);
            drawn = drawn.saturating_sub(u64::from(*weight));
            is_it
        });
        match kind.map_or(Kind::Write, |(kind, _)| kind) {
            Kind::Write => {
                Ask::Write(Value::from(format!("{}-{}", self.plan.name, self.figures.asked).as_str()))
            }
            Kind::Read => Ask::Read,
            Kind::FastRead => Ask::FastRead,
            Kind::History => Ask::History(Instance(1 + self.chance.below(self.figures.highest.0.max(1)))),
        }
    }

    fn take(&mut self, answer: &Settled, client: u64, now: Micros) {
        self.figures.open -= 1;
        if self.plan.interval.is_none() {
            self.idle.push(client);
        }
        match &answer.outcome {
            Outcome::Unknown | Outcome::Forgotten => self.figures.unknown += 1,
            Outcome::Refused { .. } => self.figures.refused += 1,
            outcome => {
                if let Outcome::Chosen { instance, .. } = outcome {
                    self.figures.highest = self.figures.highest.max(*instance);
                }
                self.figures.ok += 1;
                self.figures.longest_gap = self.figures.longest_gap.max(now.since(self.last_ok));
                self.last_ok = now;
                self.took.push(answer.took);
            }
        }
        if self.is_over {
            self.stop(now);
        }
    }
}
