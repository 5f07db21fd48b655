//! What a script may want to see of nodes: their beats as they went out, and what they said to their logs.
//!
//! Owns what was seen, and whether anything is new. Drawn runs go without it.

use std::collections::VecDeque;
use std::fmt;

use super::Stage;
use crate::node::Event;
use crate::types::Micros;
use crate::wire::{Beat, Dialect, Line, Message};

/// How much of each log is kept where not all is.
const ENDS: usize = 6;

/// Something that stands in a node's log.
#[derive(Clone, Debug)]
pub struct Said {
    /// When.
    pub at: Micros,
    /// What.
    pub what: What,
}

/// What can stand in a node's log.
#[derive(Clone, Debug)]
pub enum What {
    /// What the node said itself.
    Event(Event),
    /// What was done to it.
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

/// What was seen of the nodes.
#[derive(Debug, Default)]
pub struct Watch {
    beats: Vec<Option<Beat>>,
    logs: Vec<VecDeque<Said>>,
    keeps_all: bool,
    /// Something has changed since somebody asked.
    has_news: bool,
}

impl Watch {
    /// Keeps the ends of logs, or all of them.
    pub(in crate::sim) fn new(keeps_all: bool) -> Watch {
        Watch { keeps_all, ..Watch::default() }
    }

    /// The last beat of this life of a node.
    pub(in crate::sim) fn beat(&self, id: u16) -> Option<&Beat> {
        self.beats.get(usize::from(id))?.as_ref()
    }

    /// What a node said to its log, or the end of it.
    pub(in crate::sim) fn log(&self, id: u16) -> impl Iterator<Item = &Said> {
        self.logs.get(usize::from(id)).into_iter().flatten()
    }

    /// Whether anything has changed since this was asked last.
    pub(in crate::sim) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    fn on_beat(&mut self, id: u16, beat: &Beat) {
        let at = usize::from(id);
        self.beats.resize(self.beats.len().max(at + 1), None);
        if self.beats[at].as_ref() != Some(beat) {
            self.beats[at] = Some(beat.clone());
            self.has_news = true;
        }
    }

    fn on_life(&mut self, id: u16) {
        self.beats.get_mut(usize::from(id)).into_iter().for_each(|beat| *beat = None);
        self.has_news = true;
    }

    fn on_said(&mut self, id: u16, at: Micros, what: What) {
        let place = usize::from(id);
        self.logs.resize(self.logs.len().max(place + 1), VecDeque::new());
        let log = &mut self.logs[place];
        if !self.keeps_all && log.len() == ENDS {
            log.pop_front();
        }
        log.push_back(Said { at, what });
    }
}

impl<C> Stage<C> {
    /// A node begins or ends a life, or stands still, or goes on.
    pub(super) fn note_change(&mut self, id: u16, what: &str) {
        let at = self.now;
        if let Some(watch) = &mut self.watch {
            watch.on_life(id);
            watch.on_said(id, at, What::Done(what.to_owned()));
        }
    }

    /// A node sends a line.
    pub(super) fn note_line(&mut self, id: u16, line: &Line) {
        if let (Some(watch), Line::Node(_, Message::Beat(beat))) = (&mut self.watch, line) {
            watch.on_beat(id, beat);
        }
    }

    /// A node says something to its log.
    pub(super) fn note_event(&mut self, id: u16, event: &Event) {
        let (at, is_classic) = (self.now, self.setting.dialect == Dialect::Classic);
        if let Some(watch) = &mut self.watch {
            watch.on_said(id, at, What::Event(event.clone()));
            watch.has_news |= matches!(event, Event::Learned { .. }) && is_classic;
        }
    }
}
