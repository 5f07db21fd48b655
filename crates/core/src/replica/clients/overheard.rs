//! The answers of other nodes: each ends what this node would answer itself.
//!
//! This module owns the matching of an overheard answer with the requests, the reads and the replies that wait here.

use crate::entry::{Entry, SAFE_READ};
use crate::replica::clients::fast_reads::FastReads;
use crate::replica::clients::pending_replies::About;
use crate::replica::clients::queue::RequestQueue;
use crate::replica::clients::replies::Replies;
use crate::types::{Instance, Tag};
use crate::wire::{Dialect, Message};

impl RequestQueue {
    /// Handles a message of another node that may be an answer to a client. True if it is one.
    pub fn on_overheard(&mut self, answer: &Message, reads: &mut FastReads, replies: Replies<'_>) -> bool {
        // A classic node may have counted duplicates as votes. Its answer may be false, so it does not replace this
        // node's answer.
        if is_doubtful(answer, replies) {
            return true;
        }
        let is_write = self.on_value(answer, replies.context.learned);
        match answer {
            Message::Ok { instance, .. } | Message::NotYet { instance, .. } => {
                let was_owed = self.on_answered(&About::Instance(*instance));
                // An answer that matches nothing else that was asked answers a read.
                if !was_owed && !is_write && matches!(answer, Message::Ok { .. }) {
                    reads.on_answered_untagged();
                }
            }
            Message::Done { first, last, client, seq } => {
                let count = (last.0 - first.0).min(self.window()) + 1;
                self.on_done(Tag { client: *client, seq: *seq }, count);
            }
            Message::Answer { client, seq, .. }
            | Message::Value { client, seq, .. }
            | Message::Reply { client, seq, .. }
            | Message::Forgotten { client, seq, .. }
            | Message::Unknown { client, seq }
            | Message::Refused { client, seq, .. } => {
                let tag = Tag { client: *client, seq: *seq };
                reads.on_answered(tag);
                self.on_answered(&About::Tag(tag));
                if matches!(answer, Message::Refused { .. }) {
                    self.on_refused(tag);
                }
            }
            Message::Members { .. } => drop(self.on_answered(&About::Members)),
            Message::Error { reason } => drop(self.on_answered(&About::Error(reason.clone()))),
            _ => return false,
        }
        true
    }

    /// Records the answer to an untagged request that is not learned here yet. True if it answers a write that waits
    /// here.
    fn on_value(&mut self, answer: &Message, learned: Instance) -> bool {
        let Message::Ok { instance, value } = answer else { return false };
        if *instance <= learned {
            return false;
        }
        // The answer shows the words of the value, not its marks.
        let entry = match value.as_bytes().starts_with(SAFE_READ.as_bytes()) {
            true => Entry::Read { instance: *instance, tagged: None, value: value.clone() },
            false => Entry::Write(value.clone()),
        };
        self.on_answered_untagged(&entry) && !entry.is_untagged_read()
    }
}

/// Whether a classic node shows another value than the one that this node has learned.
fn is_doubtful(answer: &Message, Replies { context, log }: Replies<'_>) -> bool {
    let Message::Ok { instance, value } = answer else { return false };
    context.dialect == Dialect::Classic && log.value_at(*instance).as_ref() != Some(value)
}
