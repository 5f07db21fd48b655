//! The steps of the fast reads: questions for marks, safe reads in their place, and answers.
//!
//! This module owns the order of the calls only. The module `fast_reads` decides about the reads.

use crate::replica::Replica;
use crate::replica::clients::queue::Proposal;
use crate::replica::outbox::Outbox;
use crate::replica::state_machine::script_hooks;
use crate::types::Micros;

impl Replica {
    /// Asks for marks, and turns reads that have waited too long into safe reads.
    pub(in crate::replica) fn read(&mut self, now: Micros, out: &mut Outbox) {
        let own = self.mark(now).map(|mark| (self.id, mark));
        self.reads.tick(self.history.group(), own, now, out);
        for late in self.reads.take_late(now) {
            match late.fall_back() {
                Ok(wanted) => self.submit(wanted, now, out),
                Err(wanted) => self.reply_busy(&wanted, 0, now, out),
            }
        }
    }

    /// Answers the reads whose round is complete, once this node has learned enough.
    pub(in crate::replica) fn answer_reads(&mut self, now: Micros, out: &mut Outbox) {
        let learned = self.learner.learned();
        for asked in self.reads.take_ready(self.history.group().epoch, learned, now) {
            match asked.answer(learned, &self.history, |question| {
                script_hooks::read(&self.history, question, out.hooks.as_deref())
            }) {
                Ok(Some(answer)) => self.replies(now).send(answer, out),
                Ok(None) => self.submit(Proposal::Read, now, out),
                Err(reason) => self.reject(&asked.wanted(), &reason, now, out),
            }
        }
    }
}
