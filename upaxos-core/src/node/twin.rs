//! What this life of a classic node has said, so that another node under its id is found out.
//!
//! Own broadcasts come back, and so may old ones. Votes and proposals are durable before they are said: what
//! neither this life has said nor an earlier one can have said was said by another node.

use std::collections::BTreeSet;

use super::acceptor::Acceptor;
use crate::types::{Ballot, Instance};
use crate::wire::{Line, Message};

/// How many lines are remembered; of the lowest instances beyond that, earlier lives are believed to have said them.
const MAX_SAID: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Verb {
    Propose,
    Promise,
    Accept,
}

/// The lines of this life that say something about a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnLines {
    said: BTreeSet<(Instance, Ballot, Verb)>,
    /// Up to here, something may have been said that is not in `said`.
    through: Instance,
}

impl OwnLines {
    /// Of a life that has said nothing; earlier ones spoke of instances up to `through`.
    pub fn new(through: Instance) -> OwnLines {
        OwnLines { said: BTreeSet::new(), through }
    }

    /// This node says that.
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

    /// Whether a line under this node's id proves that another node goes by it.
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
