//! What a script can see of nodes: the heartbeats that they sent, and the lines of their logs.
//!
//! It owns what was seen, and whether anything is new. Drawn runs have no watch.

use std::collections::VecDeque;
use std::fmt;

use upaxos_core::replica::Event;
use upaxos_core::types::Micros;
use upaxos_core::wire::Beat;

/// How many lines of each log are kept, unless all are.
const ENDS: usize = 6;

/// A line of a node's log.
#[derive(Clone, Debug)]
pub struct Said {
    /// The virtual time of the line.
    pub at: Micros,
    /// The node's event, or what the simulator did to the node.
    pub what: What,
}

/// The content of a line of a node's log.
#[derive(Clone, Debug)]
pub enum What {
    /// An event that the node reported itself.
    Event(Event),
    /// A description of what the simulator did to the node.
    Done(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Event(event) => event.fmt(f),
            What::Done(text) => f.write_str(text),
        }
    }
}

/// The observed state of all nodes.
#[derive(Debug, Default)]
pub struct Watch {
    beats: Vec<Option<Beat>>,
    logs: Vec<VecDeque<Said>>,
    keeps_all: bool,
    /// Whether something has changed since the last [`Watch::take_news`].
    pub(super) has_news: bool,
}

impl Watch {
    /// Keeps the ends of logs, or the whole logs.
    pub(crate) fn new(keeps_all: bool) -> Watch {
        Watch { keeps_all, ..Watch::default() }
    }

    /// The last heartbeat of a node in its present life.
    pub(crate) fn beat(&self, id: u16) -> Option<&Beat> {
        self.beats.get(usize::from(id))?.as_ref()
    }

    /// The log of a node, or the end of it.
    pub(crate) fn log(&self, id: u16) -> impl Iterator<Item = &Said> {
        self.logs.get(usize::from(id)).into_iter().flatten()
    }

    /// Whether anything has changed since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    pub(super) fn on_beat(&mut self, id: u16, beat: &Beat) {
        let at = usize::from(id);
        self.beats.resize(self.beats.len().max(at + 1), None);
        if self.beats[at].as_ref() != Some(beat) {
            self.beats[at] = Some(beat.clone());
            self.has_news = true;
        }
    }

    pub(super) fn on_life(&mut self, id: u16) {
        self.beats.get_mut(usize::from(id)).into_iter().for_each(|beat| *beat = None);
        self.has_news = true;
    }

    pub(super) fn on_said(&mut self, id: u16, at: Micros, what: What) {
        let place = usize::from(id);
        self.logs.resize(self.logs.len().max(place + 1), VecDeque::new());
        let log = &mut self.logs[place];
        if !self.keeps_all && log.len() == ENDS {
            log.pop_front();
        }
        log.push_back(Said { at, what });
    }
}
