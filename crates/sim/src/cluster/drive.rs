//! One turn of a node, as the [`Driver`](upaxos_core::driver::Driver) orders it. The node can crash, or halt,
//! between any two effects.
//!
//! Owns what each effect does to the simulated machine, and when.

use std::collections::VecDeque;
use std::rc::Rc;

use upaxos_core::driver::{Action, Lines};
use upaxos_core::mutant::{self, Mutant};
use upaxos_core::parts::Taken;
use upaxos_core::replica::{Event, Lookup, Replica};
use upaxos_core::types::{GroupId, Micros};
use upaxos_core::wire::{Dialect, Head, Line, Message, Packer};

use super::{Cluster, Next, incarnation};
use crate::checkers::Rule;
use crate::disk::Refusal;
use crate::machine::{PACKET, Role, State, Work};
use crate::network::Datagram;

impl<C> Cluster<C> {
    /// One turn of the daemon's loop: handles all received datagrams, then the clock.
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
        let State::Waits(mut work) = std::mem::replace(&mut machine.state, State::Down) else {
            unreachable!("only a node that waits is woken");
        };
        if machine.ends.is_some() {
            return self.end(id, &work.node);
        }
        self.seen.events += 1;
        if machine.sync_fails.is_some() && self.disk_chance.hits(250_000) {
            // The failing sync is that of a task, or of the next commit. Otherwise the failure appears only when
            // the sync ends.
            machine.disk.fail(Some(Refusal::Sync));
            machine.disk_fails = machine.sync_fails;
        }
        while self.disk_chance.hits(600_000)
            && let Some(compacted) = machine.disk.work(&mut self.disk_chance)
        {
            self.seen.compactions += u64::from(work.node.on_compacted(compacted));
        }
        let clock = machine.clock(self.now);
        let Work { node, out, driver, .. } = &mut work;
        for datagram in machine.queue.drain(..) {
            machine.malformed += match machine.parts.take(&datagram.bytes, clock) {
                Taken::AsItIs => node.receive(clock, &datagram.bytes, &mut |_| (), out),
                Taken::Whole(whole) => node.receive(clock, &whole, &mut |_| (), out),
                Taken::Nothing => 0,
            };
        }
        if machine.parts.is_mending(clock) {
            node.on_mending(clock);
        }
        driver.begin(node, clock, out);
        self.act(id, work);
    }

    /// Whether a node belongs to another group now. A joiner, or a node with an empty disk, may have heard only the
    /// other group for a while. It is then no node of this group.
    fn has_strayed(&self, node: &Replica) -> bool {
        let own = GroupId(self.setting.incarnations + incarnation(0, 0));
        self.has_neighbors && node.head().group.is_some_and(|group| group != own)
    }

    /// Carries out the effects of a node.
    pub(super) fn act(&mut self, id: u16, work: Work) {
        if let Some(work) = self.pull(id, work) {
            self.go_on(id, work);
        }
    }

    /// Carries out one effect after another, until the node must wait, ends, or halts.
    fn go_on(&mut self, id: u16, work: Work) {
        let mut next = Some(work);
        while let Some(mut work) = next {
            if self.crashes(id) {
                return;
            }
            if let Some(length) = self.machines[usize::from(id)].halts_now() {
                return self.halt(id, work, length);
            }
            next = match work.said.pop_front() {
                Some(datagram) => {
                    self.say(id, datagram);
                    Some(work)
                }
                None => self.pull(id, work),
            };
        }
    }

    /// Carries out the next effect that is visible from outside, and those before it. Returns the work if the node
    /// need not wait and does not end.
    fn pull(&mut self, id: u16, mut work: Work) -> Option<Work> {
        loop {
            let clock = self.machines[usize::from(id)].clock(self.now);
            match work.driver.next(&mut work.node, clock, &mut work.out) {
                Action::LookUp(lookup) => self.look_up(id, &mut work, &lookup),
                Action::Report(events) => {
                    if self.has_strayed(&work.node) {
                        self.machines[usize::from(id)].role = Role::Gone;
                        self.crash(id, None);
                        return None;
                    }
                    self.seen.reached |= work.node.reached();
                    self.note(id, events);
                    self.compare(id, &work.node, events);
                    if !work.out.ends() {
                        // An early line may name what these records hold.
                        work.out.records.iter().for_each(|record| self.checkers.on_record(id, record));
                    }
                }
                Action::End(_) => {
                    self.end_for_cause(id, &work.node, &work.out.events);
                    return None;
                }
                Action::Broadcast(lines) => {
                    work.said = self.packets(id, lines, work.node.head());
                    return Some(work);
                }
                Action::Append(records) => {
                    let disk = &mut self.machines[usize::from(id)].disk;
                    records.iter().for_each(|record| disk.append(record));
                    return Some(work);
                }
                Action::Sync => {
                    self.sync(id, work);
                    return None;
                }
                Action::Idle(deadline) => {
                    self.rest(id, work, deadline);
                    return None;
                }
            }
        }
    }

    fn look_up(&mut self, id: u16, work: &mut Work, lookup: &Lookup) {
        self.seen.lookups += 1;
        let machine = &self.machines[usize::from(id)];
        let clock = machine.clock(self.now);
        match machine.disk.past(lookup.first, lookup.last, work.node.limits().lookup_bytes) {
            Ok(past) => work.node.on_found(clock, lookup, past, &mut work.out),
            Err(error) => self.checkers.fail(Rule::RecoversWhole, format!("{id} cannot read: {error}")),
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

    /// Resumes a halted node with its next effect.
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

    /// The sync is done. The effects that waited for it follow.
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
        let State::Syncs(work) = std::mem::replace(&mut machine.state, State::Down) else {
            unreachable!("it was looked at above");
        };
        durable.iter().for_each(|record| self.checkers.on_durable(id, record));
        self.act(id, work);
    }

    fn rest(&mut self, id: u16, work: Work, deadline: Micros) {
        self.seen.reached |= work.out.reached();
        let machine = &mut self.machines[usize::from(id)];
        if machine.ends.is_some() {
            return self.end(id, &work.node);
        }
        let parts = machine.parts.deadline().unwrap_or(deadline);
        let deadline = machine.when(deadline.min(parts));
        let waits = !machine.queue.is_empty();
        machine.state = State::Waits(work);
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
            self.checkers.on_sent(id, life, line);
            self.note_line(id, line);
            if let Line::Node(_, Message::Gap { first, .. }) = line {
                self.gaps[usize::from(id)] = Some(*first);
            }
        }
        self.send(id, datagram);
    }

    /// Packs lines into datagrams of one packet each. The datagrams of a classic node may be longer. Messages that
    /// are due about parts of datagrams come first.
    fn packets(&mut self, id: u16, lines: Lines<'_>, head: Head) -> VecDeque<Rc<Datagram>> {
        let life = self.machines[usize::from(id)].life;
        // A vote that is not sent still counts.
        lines.withheld().for_each(|line| self.checkers.on_sent(id, life, line));
        let dialect = self.setting.dialect;
        let mut packer = Packer::new(dialect, PACKET);
        packer.set_head(head);
        lines.sent().for_each(|line| packer.push(line));
        let datagrams = packer.finish().into_iter().map(|bytes| Datagram::new(bytes, dialect));
        if dialect == Dialect::Classic {
            return datagrams.collect();
        }
        let machine = &mut self.machines[usize::from(id)];
        let clock = machine.clock(self.now);
        let mut packets = VecDeque::new();
        if !lines.is_after_sync {
            packets.extend(Datagram::due(&mut machine.parts, clock));
            self.seen.parts += packets.len() as u64;
        }
        packets.extend(datagrams.flat_map(|datagram| datagram.cut(&mut machine.parts, clock)));
        packets
    }

    fn note(&mut self, id: u16, events: &[Event]) {
        for event in events {
            self.note_event(id, event);
            match event {
                Event::Learned { instance, reads } => {
                    self.checkers.on_reads(id, *instance, reads);
                    if self.gaps[usize::from(id)].take_if(|gap| *gap <= *instance).is_some() {
                        self.seen.gaps += 1;
                    }
                }
                Event::Leads(_) => self.seen.leaders += 1,
                Event::Governs { .. } => self.seen.changes += 1,
                Event::Left { since } => {
                    self.checkers.on_left(id, *since);
                    self.news.push((id, event.clone()));
                }
                Event::Diverged { peer, after, first, .. } => {
                    self.note_divergence(id, peer.0, (*after, *first), event);
                }
                Event::LogDiverged { peer, .. } => self.checkers.on_log_diverged(id, peer.0, event),
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
