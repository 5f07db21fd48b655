//! A fake world in which everything succeeds: for tests of the runtime, not of any group.
//!
//! While a majority runs, the lowest node leads, and every request is answered after a millisecond. Links can be
//! set but change nothing. Disks cannot fail.

use std::collections::BTreeMap;
use std::path::Path;

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::types::{Ballot, Instance, Micros, NodeId, Value};
use upaxos_core::wire::Stance;
use upaxos_testbed::link::Link;

use crate::backend::{
    Backend, BackendError, DiskFault, Fault, NodeState, Party, Settled, Setup, Start, Ticket, Unsupported,
    View, Violation,
};

/// How long an answer takes.
const ANSWER: Micros = Micros::from_millis(1);

pub struct Fake {
    now: Micros,
    nodes: Vec<NodeState>,
    majority: usize,
    log: Vec<Value>,
    open: BTreeMap<(Micros, Ticket), (Ask, Micros)>,
    settled: Vec<Settled>,
    tickets: u64,
    /// The datagrams that the script sent by hand. The judges object to `violate`.
    said: Vec<String>,
}

impl Fake {
    pub fn open(setup: &Setup) -> Result<Box<dyn Backend>, BackendError> {
        let nodes = vec![NodeState::Down; usize::from(setup.nodes + setup.spares)];
        Ok(Box::new(Fake {
            now: Micros(0),
            nodes,
            majority: usize::from(setup.nodes / 2) + 1,
            log: Vec::new(),
            open: BTreeMap::new(),
            settled: Vec::new(),
            tickets: 0,
            said: Vec::new(),
        }))
    }

    fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|id| self.nodes[*id] == NodeState::Runs).collect()
    }

    fn answer(&mut self, ask: Ask) -> Outcome {
        let last = |log: &[Value]| log.last().cloned().unwrap_or_else(|| Value::from(""));
        match ask {
            Ask::Write(value) => {
                self.log.push(value.clone());
                Outcome::Chosen { instance: Instance(self.log.len() as u64), value }
            }
            Ask::History(instance) => match self.log.get((instance.0 as usize).wrapping_sub(1)) {
                Some(value) => Outcome::Chosen { instance, value: value.clone() },
                None => Outcome::NotYet { instance, learned: Instance(self.log.len() as u64) },
            },
            _ => {
                let learned = Instance(self.log.len() as u64);
                Outcome::Read { instance: learned, learned, value: last(&self.log) }
            }
        }
    }

    fn set(
        &mut self,
        node: NodeId,
        from: &[NodeState],
        to: NodeState,
        act: &str,
    ) -> Result<(), BackendError> {
        let state = &mut self.nodes[usize::from(node.0)];
        if !from.contains(state) {
            return Err(BackendError::Misuse(format!("cannot {act} node {node}: it does not run")));
        }
        *state = to;
        Ok(())
    }
}

const ALIVE: [NodeState; 2] = [NodeState::Runs, NodeState::Paused];

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn lacks(&self, fault: Fault) -> Option<Unsupported> {
        matches!(fault, Fault::Disk(_)).then(|| Unsupported("a fake has no disks".into()))
    }

    fn now(&self) -> Micros {
        self.now
    }

    fn step(&mut self, until: Micros) -> Result<(), BackendError> {
        let first = self.open.keys().next().copied();
        let Some((at, ticket)) = first.filter(|(at, _)| *at <= until) else {
            self.now = until;
            return Ok(());
        };
        self.now = at;
        let Some((ask, asked)) = self.open.remove(&(at, ticket)) else { return Ok(()) };
        let outcome = if self.running().len() >= self.majority { self.answer(ask) } else { Outcome::Unknown };
        self.settled.push(Settled { ticket, outcome, took: at.since(asked) });
        Ok(())
    }

    fn start(&mut self, node: NodeId, _: &Start) -> Result<(), BackendError> {
        self.set(node, &[NodeState::Down], NodeState::Runs, "start")
    }

    fn stop(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.set(node, &ALIVE, NodeState::Down, "stop")
    }

    fn crash(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.set(node, &ALIVE, NodeState::Down, "crash")
    }

    fn pause(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.set(node, &[NodeState::Runs], NodeState::Paused, "pause")
    }

    fn resume(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.set(node, &[NodeState::Paused], NodeState::Runs, "resume")
    }

    fn wipe(&mut self, node: NodeId) -> Result<(), BackendError> {
        self.set(node, &[NodeState::Down], NodeState::Down, "wipe")
    }

    fn disk(&mut self, _: NodeId, _: Option<DiskFault>) -> Result<(), BackendError> {
        Ok(())
    }

    fn link(&mut self, _: Party, _: Party, _: Link) -> Result<(), BackendError> {
        Ok(())
    }

    fn ask(&mut self, _: u64, ask: Ask, patience: Micros) -> Result<Ticket, BackendError> {
        self.tickets += 1;
        let answers = self.running().len() >= self.majority;
        let at = self.now + if answers { ANSWER.min(patience) } else { patience };
        self.open.insert((at, Ticket(self.tickets)), (ask, self.now));
        Ok(Ticket(self.tickets))
    }

    fn say(&mut self, datagram: &[u8]) -> Result<(), BackendError> {
        self.said.push(String::from_utf8_lossy(datagram).into_owned());
        Ok(())
    }

    fn settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    fn view(&self, node: NodeId) -> View {
        let (at, running) = (usize::from(node.0), self.running());
        let is_led = running.len() >= self.majority;
        let stance = match running.first() {
            Some(first) if *first == at && is_led => Stance::Leads,
            _ if is_led => Stance::Follows,
            _ => Stance::Waits,
        };
        let runs = running.contains(&at);
        let learned = if runs { self.log.len() as u64 } else { 0 };
        View {
            state: self.nodes[at].clone(),
            stance: runs.then_some(stance),
            ballot: runs.then(|| Ballot::first_epoch(running[0] as u64)),
            learned: Instance(learned),
            heard: running.iter().filter(|id| **id != at).map(|id| NodeId(*id as u16)).collect(),
            diverged: None,
        }
    }

    fn describe(&self) -> String {
        let line = |id| {
            let view = self.view(NodeId(id as u16));
            format!("node {id}: {:?}, learned {}\n", view.state, view.learned)
        };
        (0..self.nodes.len()).map(line).collect()
    }

    fn check(&mut self, _: Micros) -> Result<Vec<Violation>, BackendError> {
        self.nodes.iter_mut().for_each(|state| *state = NodeState::Runs);
        while !self.open.is_empty() {
            self.step(Micros(u64::MAX))?;
        }
        let violates = self.said.iter().any(|said| said == "violate");
        let violation = || Violation { expected: "peace".into(), got: "war".into() };
        Ok(violates.then(violation).into_iter().collect())
    }

    fn save(&self, _: &Path) -> Result<(), BackendError> {
        Ok(())
    }
}
