//! The checkers of what clients send and receive: each line, at that moment.
//!
//! The clients of a drawn run, those of a scripted run and the senders of lines written by hand all call these
//! functions with every line, retransmitted ones included. What the answers mean together is checked in `calls`.

use upaxos_core::client::{Ask, Outcome};
use upaxos_core::entry::Entry;
use upaxos_core::types::{Instance, Tag, Value};
use upaxos_core::wire::kinds::ballot_of;
use upaxos_core::wire::{Line, Message, Request};

use super::{Checkers, Rule};

impl Checkers {
    /// A client sends a line. The value in a node's line that was written by hand counts as requested, too.
    pub fn on_asked(&mut self, line: &Line) {
        match line {
            Line::Client(Request::Submit(tagged, value)) => self.on_call(tagged.tag, Some(value.clone())),
            Line::Client(Request::TaggedRead(tagged) | Request::FastRead(tagged)) => {
                self.on_call(tagged.tag, None);
            }
            Line::Client(Request::Query(tagged, _) | Request::FastQuery(tagged, _)) => {
                self.on_call(tagged.tag, None);
            }
            Line::Client(Request::Write(value)) => self.calls.on_write(value.clone()),
            Line::Client(Request::Change(tagged, change)) => self.on_change_asked(*tagged, *change),
            Line::Client(_) => {}
            Line::Node(_, message) => self.on_forged(message),
        }
    }

    fn on_forged(&mut self, message: &Message) {
        self.forged.extend(ballot_of(message).map(|(ballot, _)| ballot));
        let (instance, value) = match message {
            Message::Write { instance, value, .. }
            | Message::Accept { instance, value, .. }
            | Message::Written { instance, value }
            | Message::Promise { instance, accepted: Some((_, value)), .. } => (*instance, value),
            Message::Relay { value: Some(value) } => return self.calls.on_write(value.clone()),
            _ => return,
        };
        match Entry::decode(instance, value, self.dialect) {
            Entry::Write(value) => self.calls.on_write(value),
            Entry::Tagged(tagged, value) => self.on_call(tagged.tag, Some(value)),
            _ => {}
        }
    }

    /// A client sends a tagged request, for the first time or again.
    pub fn on_call(&mut self, tag: Tag, value: Option<Value>) {
        let highest = self.chosen.last_key_value().map(|(instance, _)| *instance);
        self.calls.on_call(tag, value, highest.unwrap_or_default());
    }

    /// A client regards its request as settled, with this outcome. `after` was the highest acknowledged instance
    /// when it sent the request.
    pub fn on_outcome(&mut self, tag: Option<Tag>, ask: Ask, outcome: Outcome, after: Instance) {
        if let Err((rule, got)) = self.calls.on_outcome(tag, ask, outcome, after) {
            self.fail(rule, got);
        }
    }

    /// A message of a node reaches the clients.
    pub fn on_told(&mut self, message: &Message) {
        if let Err((rule, got)) = self.told(message) {
            self.fail(rule, got);
        }
    }

    /// A client without tags takes an answer for its own. It sent the request when `after` was acknowledged.
    pub fn on_untagged_answer(&mut self, ask: &Ask, after: Instance, instance: Instance, value: &Value) {
        let told = match ask {
            Ask::Write(_) => self.calls.on_untagged_done(after, instance, Some(value)),
            Ask::Read | Ask::FastRead => self.calls.on_untagged_done(after, instance, None),
            _ => Ok(()),
        };
        if let Err((rule, got)) = told {
            self.fail(rule, got);
        }
    }

    /// A client regards its request as refused.
    ///
    /// # Errors
    /// When the request was carried out all the same, or the group had no reason to refuse it.
    pub fn refused(&mut self, tag: Tag, reason: &Value) -> Result<(), (Rule, String)> {
        if self.is_change(tag) {
            self.groups.on_refused(tag, reason)
        } else {
            self.calls.on_refused(tag, reason)
        }
    }

    fn told(&mut self, message: &Message) -> Result<(), (Rule, String)> {
        match message {
            Message::Done { first, last, client, seq } => {
                for (instance, seq) in (first.0..=last.0).zip(*seq..) {
                    let (tag, instance) = (Tag { client: *client, seq }, Instance(instance));
                    match self.is_change(tag) {
                        true => self.calls.on_change_done(instance),
                        false => self.calls.on_done(tag, instance)?,
                    }
                }
                Ok(())
            }
            Message::Answer { instance, client, seq, value } => {
                self.calls.on_reads(*instance, value.clone())?;
                self.calls.on_done(Tag { client: *client, seq: *seq }, *instance)
            }
            Message::Value { instance, learned, client, seq, value } => {
                self.calls.on_value(Tag { client: *client, seq: *seq }, *learned, *instance, value)
            }
            // The text of a script's answer is not checked; how fresh it is, is checked.
            Message::Reply { learned, client, seq, value } => {
                self.calls.on_value(Tag { client: *client, seq: *seq }, *learned, Instance(0), value)
            }
            Message::Ok { instance, value } => self.calls.on_reads(*instance, value.clone()),
            Message::Refused { client, seq, reason } => {
                let tag = Tag { client: *client, seq: *seq };
                self.calls.on_refused_in_log(tag, reason);
                self.refused(tag, reason)
            }
            _ => Ok(()),
        }
    }
}
