//! What the cluster reports to its watch, if it has one.

use upaxos_core::replica::Event;
use upaxos_core::wire::{Dialect, Line, Message};

use super::Cluster;
use super::watch::What;

impl<C> Cluster<C> {
    /// A node begins or ends a life, pauses or goes on.
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

    /// A node reports an event to its log.
    pub(super) fn note_event(&mut self, id: u16, event: &Event) {
        let (at, is_classic) = (self.now, self.setting.dialect == Dialect::Classic);
        if let Some(watch) = &mut self.watch {
            watch.on_said(id, at, What::Event(event.clone()));
            watch.has_news |= matches!(event, Event::Learned { .. }) && is_classic;
        }
    }
}
