//! The lines that this run of a classic node has sent, to detect another node under its id.
//!
//! This module owns the record of those lines. Own broadcasts come back, and so may old ones. Votes and proposals
//! are durable before they are sent. So a line under this id comes from another node if neither this run has sent
//! it nor an earlier run can have.

use std::collections::BTreeSet;

use crate::replica::paxos::acceptor::Acceptor;
use crate::types::{Ballot, Instance};
use crate::wire::{Line, Message};

/// How many lines are remembered. Lines for lower instances are taken to be from earlier runs.
const MAX_SAID: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Verb {
    Propose,
    Promise,
    Accept,
}

/// The lines of this run that propose or vote in a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnLines {
    said: BTreeSet<(Instance, Ballot, Verb)>,
    /// Up to here, this id may have sent lines that are not in `said`.
    through: Instance,
}

impl OwnLines {
    /// A run that has sent nothing. Earlier runs sent lines for instances up to `through`.
    pub fn new(through: Instance) -> OwnLines {
        OwnLines { said: BTreeSet::new(), through }
    }

    /// Records a line that this node sends.
    pub fn note(&mut self, line: &Line) {
        if let Line::Node(_, message) = line {
            self.said.extend(key(message));
        }
        while self.said.len() > MAX_SAID
            && let Some((instance, ..)) = self.said.pop_first()
        {
            self.through = self.through.max(instance);
        }
    }

    /// Whether a line under this node's id proves that another node uses the id.
    pub fn is_of_twin(&self, message: &Message, acceptor: &Acceptor) -> bool {
        let Some(key) = key(message) else { return false };
        let (instance, ballot, _) = key;
        if let (Message::Accept { value, .. }, Some((at, known))) = (message, acceptor.accepted(instance))
            && *at == ballot
            && known != value
        {
            return true;
        }
        let is_new = instance > self.through || Some(ballot) > acceptor.promised_in(instance);
        is_new && !self.said.contains(&key)
    }
}

fn key(message: &Message) -> Option<(Instance, Ballot, Verb)> {
    match message {
        Message::Propose { instance, ballot } => Some((*instance, *ballot, Verb::Propose)),
        Message::Promise { instance, ballot, .. } => Some((*instance, *ballot, Verb::Promise)),
        Message::Accept { instance, ballot, .. } => Some((*instance, *ballot, Verb::Accept)),
        _ => None,
    }
}
