//! What a script sees of nodes: their state, and the content of their last heartbeats.
//!
//! It owns no state. A script sees no more than real processes would show it. A classic group has no heartbeats, so
//! there the script sees the node itself.

use std::fmt::Write;

use upaxos_core::replica::Replica;
use upaxos_core::types::{Ballot, Instance, NodeId};
use upaxos_core::wire::{Dialect, Stance};

use super::Scripted;
use crate::machine::State;

/// The state of a node's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It was never started, or it ended as requested.
    Down,
    /// The process runs.
    Runs,
    /// The process is paused.
    Paused,
    /// It ended by itself, with this exit status and these last words.
    Ended(u8, String),
}

/// The observed state of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The state of its process.
    pub being: ProcessState,
    /// The stance in its last heartbeat, while it runs.
    pub stance: Option<Stance>,
    /// The ballot in its last heartbeat.
    pub ballot: Option<Ballot>,
    /// Its durably learned prefix.
    pub learned: Instance,
    /// The peers that it hears.
    pub heard: Vec<NodeId>,
    /// Its report of a peer whose scripts computed something else.
    pub diverged: Option<String>,
}

impl Scripted {
    /// The observed state of a node now. A node that does not exist is down.
    pub fn look(&self, id: u16) -> Look {
        let machine = self.cluster.machines.get(usize::from(id));
        let being = match machine {
            None => ProcessState::Down,
            Some(machine) => match &machine.state {
                State::Down => machine
                    .ended
                    .clone()
                    .map_or(ProcessState::Down, |(status, words)| ProcessState::Ended(status, words)),
                _ if machine.is_stopped => ProcessState::Paused,
                _ => ProcessState::Runs,
            },
        };
        let node = machine.and_then(|machine| machine.node());
        let diverged = machine.and_then(|machine| machine.diverged.clone());
        let beat = self.cluster.watch.as_ref().and_then(|watch| watch.beat(id)).filter(|_| node.is_some());
        if let Some(beat) = beat {
            let (ballot, learned, heard) = (beat.ballot, beat.learned, beat.heard.clone());
            return Look { being, stance: Some(beat.stance), ballot, learned, heard, diverged };
        }
        let itself = node.filter(|_| self.cluster.setting.dialect == Dialect::Classic);
        let (ballot, learned) =
            (itself.and_then(Replica::ballot), itself.map_or(Instance(0), Replica::learned));
        Look { being, stance: None, ballot, learned, heard: Vec::new(), diverged }
    }

    /// The whole state as text: the nodes with the ends of their logs, open requests, and the last lines that were
    /// sent.
    pub fn describe(&self) -> String {
        let mut text = self.cluster.view();
        let mut add = |line: String| _ = writeln!(text, "{line}");
        for (client, ask) in self.clients.open() {
            add(format!("  client {client} waits for an answer to {ask:?}"));
        }
        for id in 0..self.nodes() {
            let Look { being, .. } = self.look(id);
            if let ProcessState::Ended(status, words) = being {
                add(format!("  node {id} ended with status {status}: {words}"));
            }
            let log: Vec<_> = self.log(id).collect();
            for said in &log[log.len().saturating_sub(ENDS)..] {
                add(format!("  {:>10} {id}: {}", said.at.0, said.what));
            }
        }
        text
    }
}

/// How many lines of each log a failure shows.
const ENDS: usize = 6;
