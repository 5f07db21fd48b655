//! The simulated world of the lab, behind short methods for tests.

#![allow(dead_code, reason = "each test file uses a part of it")]

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::Stance;
use upaxos_lab::{Backend, Link, Party, Setup, Sim, Start, Ticket, View};

pub const PATIENCE: Micros = Micros::from_millis(5_000);

/// A simulated world, and the outcomes that its clients have received.
pub struct Lab {
    pub world: Sim,
    pub settled: Vec<(Ticket, Outcome)>,
}

pub fn setup(nodes: u16, seed: u64) -> Setup {
    let beat = Micros::from_millis(100);
    Setup { nodes, spares: 3, seed, beat, classic: false, records: false }
}

pub fn id(node: u16) -> NodeId {
    NodeId(node)
}

impl Lab {
    /// Starts a group of `nodes` nodes. All of them run.
    pub fn of(nodes: u16, seed: u64) -> Lab {
        let mut lab = Lab::quiet(&setup(nodes, seed));
        (0..nodes).for_each(|node| lab.start(node));
        lab
    }

    pub fn quiet(setup: &Setup) -> Lab {
        Lab { world: Sim::new(setup).expect("a group"), settled: Vec::new() }
    }

    pub fn start(&mut self, node: u16) {
        self.world.start(id(node), &Start::default()).expect("it is down");
    }

    pub fn join(&mut self, node: u16, replaces: Option<u16>) {
        let how = Start { joins: Some(replaces.map(NodeId)), ..Start::default() };
        self.world.start(id(node), &how).expect("it is down");
    }

    /// Runs the world until `done` holds. Fails after 20 simulated seconds.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Lab) -> bool) {
        let end = self.world.now() + Micros::from_millis(20_000);
        while !done(self) {
            assert!(self.world.now() < end, "no {what} within 20 s:\n{}", self.world.describe());
            self.step(end);
        }
    }

    pub fn run(&mut self, ms: u64) {
        let end = self.world.now() + Micros::from_millis(ms);
        while self.world.now() < end {
            self.step(end);
        }
    }

    #[track_caller]
    pub fn step(&mut self, end: Micros) {
        if let Err(error) = self.world.step(end) {
            panic!("{error}\n{}", self.world.describe());
        }
        let settled = self.world.settled();
        self.settled.extend(settled.into_iter().map(|settled| (settled.ticket, settled.outcome)));
    }

    pub fn ask(&mut self, client: u64, ask: Ask) -> Ticket {
        self.world.ask(client, ask, PATIENCE).expect("a question")
    }

    #[track_caller]
    pub fn outcome(&mut self, ticket: Ticket) -> Outcome {
        self.until("answer", |lab| lab.settled.iter().any(|(settled, _)| *settled == ticket));
        let found = self.settled.iter().find(|(settled, _)| *settled == ticket);
        found.map(|(_, outcome)| outcome.clone()).expect("it was awaited")
    }

    pub fn asked(&mut self, client: u64, ask: Ask) -> Outcome {
        let ticket = self.ask(client, ask);
        self.outcome(ticket)
    }

    #[track_caller]
    pub fn write(&mut self, client: u64, value: &str) -> Instance {
        match self.asked(client, Ask::Write(value.into())) {
            Outcome::Chosen { instance, .. } => instance,
            other => panic!("{other:?}\n{}", self.world.describe()),
        }
    }

    pub fn view(&self, node: u16) -> View {
        self.world.view(id(node))
    }

    pub fn leader(&self) -> Option<u16> {
        (0..6).find(|node| self.view(*node).stance == Some(Stance::Leads))
    }

    #[track_caller]
    pub fn await_leader(&mut self) -> u16 {
        self.until("leader", |lab| lab.leader().is_some());
        self.leader().expect("it was awaited")
    }

    #[track_caller]
    pub fn check(&mut self) {
        let violations = self.world.check(Micros::from_millis(20_000)).expect("a world that works");
        assert_eq!(violations, [], "{}", self.world.describe());
    }

    pub fn cut(&mut self, from: u16, to: u16) {
        let link = Link { is_cut: true, ..Link::default() };
        self.link(from, to, link);
    }

    pub fn link(&mut self, from: u16, to: u16, link: Link) {
        self.world.link(Party::Node(id(from)), Party::Node(id(to)), link).expect("two nodes");
    }
}

/// All links between `nodes` nodes, in both directions.
pub fn links(nodes: u16) -> impl Iterator<Item = (u16, u16)> {
    let all = (0..nodes).flat_map(move |from| (0..nodes).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to)
}
