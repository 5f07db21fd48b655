//! The drive loop: carries out the effects of a node, in order.
//!
//! Owns that order. The order makes a vote durable before it is sent (README, "What is promised", 5). The driver
//! performs no effect itself. It is a pull machine: its caller calls [`Driver::next`] repeatedly, and each call
//! names the next action. The daemon, the simulator, the tests, the fuzz sessions and the benchmarks all use this
//! one driver.
//!
//! ```
//! use upaxos_core::driver::{Action, Driver};
//! use upaxos_core::replica::{Config, Outbox, Recovery};
//! use upaxos_core::types::{Micros, NodeId};
//!
//! let mut node = Recovery::new(Config::member(NodeId(0), 3)).finish(1000, 1);
//! let (mut driver, mut out) = (Driver::new(), Outbox::new(NodeId(0)));
//! let (mut log, mut now) = (Vec::new(), Micros(0));
//! node.start(now, &mut out);
//! while now < Micros::from_millis(500) {
//!     now = match driver.next(&mut node, now, &mut out) {
//!         Action::LookUp(_) => unreachable!("nothing is compacted"),
//!         Action::Report(_) => now,
//!         Action::End(event) => panic!("{event}"),
//!         Action::Broadcast(lines) => {
//!             lines.sent().for_each(|line| println!("{line}"));
//!             now
//!         }
//!         Action::Append(records) => {
//!             log.extend_from_slice(records);
//!             now
//!         }
//!         Action::Sync => now + Micros::from_millis(1),
//!         Action::Idle(deadline) => {
//!             // Here a datagram may be received: `node.receive(now, …)`.
//!             driver.begin(&mut node, deadline, &mut out);
//!             deadline
//!         }
//!     };
//! }
//! assert!(!log.is_empty());
//! ```

use std::collections::VecDeque;

use crate::record::Record;
use crate::replica::Replica;
use crate::replica::outbox::{Event, Lookup, Outbox};
use crate::replica::own_votes::OwnVotes;
use crate::types::Micros;
use crate::wire::Line;

/// The next action for the caller. The caller must finish it before it calls [`Driver::next`] again.
#[derive(Debug)]
pub enum Action<'a> {
    /// Read these old values from the archive and hand them to [`Replica::on_found`].
    LookUp(Lookup),
    /// Log these events. This action comes once in each round of effects, also when there are no events.
    Report(&'a [Event]),
    /// End the node with this event. No other effect may be carried out.
    End(&'a Event),
    /// Send these lines to the group.
    Broadcast(Lines<'a>),
    /// Append these records to the log, in this order. Until the next sync, a crash may lose them.
    Append(&'a [Record]),
    /// Make all appended records durable. If that fails, the node must end.
    Sync,
    /// Wait until this time, or until a datagram arrives. Then call [`Replica::receive`] for each datagram, and
    /// [`Driver::begin`].
    Idle(Micros),
}

/// Lines to send under the [head](Replica::head) of the node. Some of them may be withheld.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    lines: &'a [Line],
    /// Whether these lines waited for the last sync.
    pub is_after_sync: bool,
    own_votes: Option<OwnVotes>,
}

impl<'a> Lines<'a> {
    /// The lines to send, in this order.
    pub fn sent(self) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| !self.is_withheld(line))
    }

    /// The node's own votes that are not sent: the node counts them itself, and no other node needs them.
    pub fn withheld(self) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| self.is_withheld(line))
    }

    /// All lines, sent and withheld, in this order.
    pub fn all(self) -> &'a [Line] {
        self.lines
    }

    fn is_withheld(self, line: &Line) -> bool {
        self.own_votes.is_some_and(|votes| votes.include(line))
    }
}

/// The state of the driver within a node's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// The effects of a start, a tick or a sync are ready.
    #[default]
    Effects,
    /// The lookups of this round are carried out, one after the other.
    LookUp,
    /// The events are reported.
    Broadcast,
    Append,
    Appended,
    /// All appended records are durable.
    Synced,
    /// The lines that waited for the sync are sent.
    Count,
    Idle,
}

/// The progress of one node's effects. A new driver begins with the effects of [`Replica::start`].
#[derive(Debug, Default)]
pub struct Driver {
    step: Step,
    /// The lookups of this round. A lookup that such an answer asks for is dropped, and the node asks again in a later
    /// turn: a search through a long history must not hold up votes.
    lookups: VecDeque<Lookup>,
    /// The lines that waited for the last sync.
    waited: Vec<Line>,
}

impl Driver {
    /// A driver for a node that has just started.
    pub fn new() -> Driver {
        Driver::default()
    }

    /// Begins a turn, after the node has received its datagrams.
    ///
    /// # Panics
    /// If the last turn has not ended with [`Action::Idle`].
    pub fn begin(&mut self, node: &mut Replica, now: Micros, out: &mut Outbox) {
        assert!(self.step == Step::Idle, "a turn begins when the one before has ended");
        node.tick(now, out);
        self.step = Step::Effects;
    }

    /// Returns the next action. A call means that the previous action is finished.
    pub fn next<'a>(&'a mut self, node: &mut Replica, now: Micros, out: &'a mut Outbox) -> Action<'a> {
        if self.step == Step::Count {
            node.on_synced(now, &self.waited, out);
            self.waited.clear();
            self.step = Step::Effects;
        }
        if self.step == Step::Effects {
            self.lookups.extend(out.lookups.drain(..));
            self.step = Step::LookUp;
        }
        match self.step {
            Step::LookUp => {
                if let Some(lookup) = self.lookups.pop_front() {
                    return Action::LookUp(lookup);
                }
                self.step = Step::Broadcast;
                Action::Report(&out.events)
            }
            Step::Broadcast => {
                if out.ends() {
                    let is_end = |event: &&Event| matches!(event, Event::MustEnd(_));
                    return Action::End(
                        out.events.iter().find(is_end).expect("the event that ends the node"),
                    );
                }
                self.step = Step::Append;
                Action::Broadcast(Lines { lines: &out.early, is_after_sync: false, own_votes: None })
            }
            Step::Append => {
                self.step = Step::Appended;
                Action::Append(&out.records)
            }
            Step::Appended if out.needs_sync() => {
                self.step = Step::Synced;
                Action::Sync
            }
            Step::Appended => {
                out.clear();
                self.step = Step::Idle;
                Action::Idle(node.deadline(now))
            }
            Step::Synced => {
                std::mem::swap(&mut self.waited, &mut out.after_sync);
                out.clear();
                self.step = Step::Count;
                Action::Broadcast(Lines {
                    lines: &self.waited,
                    is_after_sync: true,
                    own_votes: node.own_votes(),
                })
            }
            Step::Effects | Step::Count => unreachable!("both were handled above"),
            Step::Idle => Action::Idle(node.deadline(now)),
        }
    }
}
