//! What a script sees of nodes: what they are doing, and what their last beats said.
//!
//! Owns no state. A script sees no more than real processes would show it; where a classic group has no
//! beats, it sees the node itself.

use std::fmt::Write;

use super::Play;
use crate::node::Node;
use crate::sim::machine::State;
use crate::types::{Ballot, Instance, NodeId};
use crate::wire::{Dialect, Stance};

/// What a node is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Being {
    /// It was never started, or ended as it was told to.
    Down,
    /// It runs.
    Runs,
    /// It stands still.
    Paused,
    /// It ended by itself: with which exit status, and its last words.
    Ended(u8, String),
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it is doing.
    pub being: Being,
    /// Its stance, while it runs and speaks.
    pub stance: Option<Stance>,
    /// Its ballot.
    pub ballot: Option<Ballot>,
    /// Its durably learned prefix.
    pub learned: Instance,
    /// Whom it hears.
    pub heard: Vec<NodeId>,
    /// What it has said of scripts that computed something else elsewhere.
    pub diverged: Option<String>,
}

impl Play {
    /// What is known of a node now; of one that there is not, that it is down.
    pub fn look(&self, id: u16) -> Look {
        let machine = self.stage.machines.get(usize::from(id));
        let being = match machine {
            None => Being::Down,
            Some(machine) => match &machine.state {
                State::Down => {
                    machine.ended.clone().map_or(Being::Down, |(status, words)| Being::Ended(status, words))
                }
                _ if machine.is_stopped => Being::Paused,
                _ => Being::Runs,
            },
        };
        let node = machine.and_then(|machine| machine.node());
        let diverged = machine.and_then(|machine| machine.diverged.clone());
        let beat = self.stage.watch.as_ref().and_then(|watch| watch.beat(id)).filter(|_| node.is_some());
        if let Some(beat) = beat {
            let (ballot, learned, heard) = (beat.ballot, beat.learned, beat.heard.clone());
            return Look { being, stance: Some(beat.stance), ballot, learned, heard, diverged };
        }
        let itself = node.filter(|_| self.stage.setting.dialect == Dialect::Classic);
        let (ballot, learned) = (itself.and_then(Node::ballot), itself.map_or(Instance(0), Node::learned));
        Look { being, stance: None, ballot, learned, heard: Vec::new(), diverged }
    }

    /// What everybody knows: the nodes, with the ends of their logs; open questions; what was said last.
    pub fn describe(&self) -> String {
        let mut text = self.stage.view();
        let mut add = |line: String| _ = writeln!(text, "{line}");
        for (client, ask) in self.callers.open() {
            add(format!("  client {client} waits for an answer to {ask:?}"));
        }
        for id in 0..self.nodes() {
            let Look { being, .. } = self.look(id);
            if let Being::Ended(status, words) = being {
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
