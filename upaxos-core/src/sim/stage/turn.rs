//! One turn of a node, exactly as the daemon's loop makes it: queue, handle, tick, send early, append,
//! sync, send, count own votes; with a place to crash, or to stand still, between any two of these effects.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Next, Stage, incarnation};
use crate::mutant::{self, Mutant};
use crate::node::{Event, Node, Outbox};
use crate::parts::Taken;
use crate::sim::disk::Refusal;
use crate::sim::judges::Rule;
use crate::sim::machine::{PACKET, Role, State, Step, Work};
use crate::sim::network::Datagram;
use crate::types::{GroupId, Micros};
use crate::wire::{Dialect, Head, Line, Message, Packer};

impl<C> Stage<C> {
    /// One turn of the daemon's loop: all that came in, then the clock.
    pub(super) fn wake(&mut self, id: u16) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.wake_at != self.now {
            return;
        }
        machine.wake_at = Micros(u64::MAX);
        if machine.is_stopped {
            return;
        }
        if machine.paused_until > self.now {
            return self.wake_at(id, Micros(0));
        }
        let State::Waits(mut node) = std::mem::replace(&mut machine.state, State::Down) else {
            unreachable!("only a node that waits is woken");
        };
        if machine.ends.is_some() {
            return self.end(id, &node);
        }
        self.seen.events += 1;
        if machine.sync_fails.is_some() && self.disk_chance.hits(250_000) {
            // Of a task, or of the next commit; else that is found out only when the sync is over.
            machine.disk.fail(Some(Refusal::Sync));
            machine.disk_fails = machine.sync_fails;
        }
        while self.disk_chance.hits(600_000)
            && let Some(compacted) = machine.disk.work(&mut self.disk_chance)
        {
            self.seen.compactions += u64::from(node.compacted(compacted));
        }
        let clock = machine.clock(self.now);
        let mut out = self.outbox(id);
        let machine = &mut self.machines[usize::from(id)];
        for datagram in machine.queue.drain(..) {
            machine.malformed += match machine.parts.take(&datagram.bytes, clock) {
                Taken::AsItIs => node.receive(clock, &datagram.bytes, &mut |_| (), &mut out),
                Taken::Whole(whole) => node.receive(clock, &whole, &mut |_| (), &mut out),
                Taken::Nothing => 0,
            };
        }
        node.tick(clock, &mut out);
        self.act(id, node, out);
    }

    /// An outbox for a step of a node.
    pub(super) fn outbox(&self, id: u16) -> Outbox {
        let mut out = self.machines[usize::from(id)].outbox(id);
        out.limit(self.setting.limits);
        out
    }

    /// Whether a node has come to belong to another group: one with an empty disk, or that came to join, and heard
    /// nothing but the other group for a while. It is none of this group's any more.
    fn has_strayed(&self, node: &Node) -> bool {
        let own = GroupId(self.setting.incarnations + incarnation(0, 0));
        self.has_neighbors && node.head().group.is_some_and(|group| group != own)
    }

    /// Takes up what a node wants done.
    pub(super) fn act(&mut self, id: u16, mut node: Box<Node>, mut out: Outbox) {
        if self.has_strayed(&node) {
            self.machines[usize::from(id)].role = Role::Gone;
            return self.crash(id, None);
        }
        self.look_up(id, &mut node, &mut out);
        self.seen.reached |= node.reached() | out.reached();
        self.note(id, &out.events);
        self.compare(id, &node, &out.events);
        if out.ends() {
            return self.end_for_cause(id, &node, &out.events);
        }
        out.records.iter().for_each(|record| self.judges.on_record(id, record));
        let mut said = self.due(id);
        said.extend(self.packed(id, &out.early, node.head()));
        self.go_on(id, Work { node, out, said, sent: Vec::new(), step: Step::Early });
    }

    fn look_up(&mut self, id: u16, node: &mut Node, out: &mut Outbox) {
        let machine = &self.machines[usize::from(id)];
        for lookup in std::mem::take(&mut out.lookups) {
            self.seen.lookups += 1;
            match machine.disk.past(lookup.first, lookup.last, node.limits().lookup_bytes) {
                Ok(past) => node.found(machine.clock(self.now), &lookup, past, out),
                Err(error) => self.judges.fail(Rule::RecoversWhole, format!("{id} cannot read: {error}")),
            }
        }
    }

    /// Does one effect after another, until the node has to wait, ends, or stands still.
    fn go_on(&mut self, id: u16, mut work: Work) {
        loop {
            if self.crashes(id) {
                return;
            }
            if let Some(length) = self.machines[usize::from(id)].halts_now() {
                return self.halt(id, work, length);
            }
            if let Some(datagram) = work.said.pop_front() {
                self.say(id, datagram);
                continue;
            }
            match work.step {
                Step::Early => {
                    let disk = &mut self.machines[usize::from(id)].disk;
                    work.out.records.iter().for_each(|record| disk.append(record));
                    work.step = Step::Appended;
                }
                Step::Appended if work.out.needs_sync() => return self.sync(id, work),
                Step::Appended => return self.rest(id, work.node),
                Step::Synced => {
                    let Work { mut node, mut out, sent, .. } = work;
                    out.clear();
                    let clock = self.machines[usize::from(id)].clock(self.now);
                    node.synced(clock, &sent, &mut out);
                    return self.act(id, node, out);
                }
            }
        }
    }

    fn halt(&mut self, id: u16, work: Work, length: Micros) {
        self.seen.pauses += 1;
        self.seen.pauses_amid += 1;
        self.trace.note(self.now, id, b"halt");
        let machine = &mut self.machines[usize::from(id)];
        machine.state = State::Halts(work);
        let life = machine.life;
        self.at(self.now + length, Next::GoOn(id, life));
    }

    /// A node that stood still between two effects goes on with the next.
    pub(super) fn resume_turn(&mut self, id: u16, life: u64) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.life != life {
            return;
        }
        if let Some(work) = machine.take_halted() {
            self.seen.events += 1;
            self.go_on(id, work);
        }
    }

    fn sync(&mut self, id: u16, work: Work) {
        let machine = &mut self.machines[usize::from(id)];
        if let Err(error) = machine.disk.begin_sync(&*work.node) {
            return self.break_off(id, &error);
        }
        let machine = &mut self.machines[usize::from(id)];
        let (each, until) = machine.slow_sync;
        let slow = if self.now < until { each } else { Micros(0) };
        let tears = machine.tears.take();
        machine.state = State::Syncs(work);
        if let Some(down) = tears {
            return self.crash(id, down);
        }
        if self.crashes(id) {
            return;
        }
        let life = self.machines[usize::from(id)].life;
        let at = self.now + slow + Micros(self.disk_chance.between(80, 900));
        self.at(at, Next::Synced(id, life));
    }

    /// The sync is done: what waited for it follows.
    pub(super) fn synced(&mut self, id: u16, life: u64) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.life != life || !matches!(machine.state, State::Syncs(_)) {
            return;
        }
        if machine.is_stopped {
            machine.is_synced = true;
            return;
        }
        if machine.paused_until > self.now {
            let at = machine.paused_until;
            return self.at(at, Next::Synced(id, life));
        }
        if let Some(down) = machine.sync_fails.take() {
            self.seen.failed_syncs += 1;
            return self.crash(id, down);
        }
        self.seen.events += 1;
        let skips = mutant::is(Mutant::SkipSync);
        let durable = if skips { Vec::new() } else { machine.disk.end_sync() };
        let State::Syncs(mut work) = std::mem::replace(&mut machine.state, State::Down) else {
            unreachable!("it was looked at above");
        };
        durable.iter().for_each(|record| self.judges.on_durable(id, record));
        work.sent = std::mem::take(&mut work.out.after_sync);
        let (told, kept): (Vec<&Line>, Vec<&Line>) =
            work.sent.iter().partition(|line| work.node.is_to_be_sent(line));
        // A vote that is told nobody counts all the same.
        kept.iter().for_each(|line| self.judges.on_sent(id, life, line));
        work.said = self.packed(id, told, work.node.head());
        work.step = Step::Synced;
        self.go_on(id, work);
    }

    fn rest(&mut self, id: u16, node: Box<Node>) {
        let machine = &mut self.machines[usize::from(id)];
        if machine.ends.is_some() {
            return self.end(id, &node);
        }
        let deadline = node.deadline(machine.clock(self.now));
        let parts = machine.parts.deadline().unwrap_or(deadline);
        let deadline = machine.when(deadline.min(parts));
        let waits = !machine.queue.is_empty();
        machine.state = State::Waits(node);
        let soonest = self.now + Micros(50);
        self.wake_at(id, if waits { soonest } else { deadline.max(soonest) });
    }

    fn crashes(&mut self, id: u16) -> bool {
        let down = self.machines[usize::from(id)].crashes_now();
        if let Some(down) = down {
            self.crash(id, down);
        }
        down.is_some()
    }

    fn say(&mut self, id: u16, datagram: Rc<Datagram>) {
        let life = self.machines[usize::from(id)].life;
        for line in &datagram.lines {
            self.judges.on_sent(id, life, line);
            self.note_line(id, line);
            if let Line::Node(_, Message::Gap { first, .. }) = line {
                self.gaps[usize::from(id)] = Some(*first);
            }
        }
        self.send(id, datagram);
    }

    /// Lines as datagrams of one packet each; of a classic node, however long they are.
    fn packed<'a>(
        &mut self,
        id: u16,
        lines: impl IntoIterator<Item = &'a Line>,
        head: Head,
    ) -> VecDeque<Rc<Datagram>> {
        let dialect = self.setting.dialect;
        let mut packer = Packer::new(dialect, PACKET);
        packer.set_head(head);
        lines.into_iter().for_each(|line| packer.push(line));
        let datagrams = packer.finish().into_iter().map(|bytes| Datagram::new(bytes, dialect));
        if dialect == Dialect::Classic {
            return datagrams.collect();
        }
        let machine = &mut self.machines[usize::from(id)];
        let clock = machine.clock(self.now);
        datagrams.flat_map(|datagram| datagram.cut(&mut machine.parts, clock)).collect()
    }

    /// What is to be said about parts of datagrams.
    fn due(&mut self, id: u16) -> VecDeque<Rc<Datagram>> {
        let machine = &mut self.machines[usize::from(id)];
        let clock = machine.clock(self.now);
        let due: VecDeque<_> = Datagram::due(&mut machine.parts, clock).collect();
        self.seen.parts += due.len() as u64;
        due
    }

    fn note(&mut self, id: u16, events: &[Event]) {
        for event in events {
            self.note_event(id, event);
            match event {
                Event::Learned { instance, reads } => {
                    self.judges.on_reads(id, *instance, reads);
                    if self.gaps[usize::from(id)].take_if(|gap| *gap <= *instance).is_some() {
                        self.seen.gaps += 1;
                    }
                }
                Event::Leads(_) => self.seen.leaders += 1,
                Event::Governs { .. } => self.seen.changes += 1,
                Event::Left { since } => {
                    self.judges.on_left(id, *since);
                    self.news.push((id, event.clone()));
                }
                Event::Diverged { peer, after, first, .. } => {
                    self.note_divergence(id, peer.0, (*after, *first), event);
                }
                Event::LogDiverged { peer, .. } => self.judges.on_log_diverged(id, peer.0, event),
                Event::ApplyFailed { .. } => self.seen.failed_applies += 1,
                Event::MayNotVote(_) => {
                    self.seen.refusals += 1;
                    self.news.push((id, event.clone()));
                }
                Event::Quit => self.news.push((id, event.clone())),
                _ => {}
            }
        }
    }
}
