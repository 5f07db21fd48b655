//! The drive loop: what is done with a node's effects, and in which order.
//!
//! Owns that order, which is what makes a vote durable before it is sent (README, "What is promised", 5). It does
//! none of the effects: it is a machine that whoever runs a node pulls, [`Driver::next`] after [`Driver::next`],
//! and that says what to do next. The daemon, the simulator, the tests, the fuzz sessions and the benchmarks all
//! pull this one.
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

use crate::record::Record;
use crate::replica::{Event, Lookup, Outbox, Replica};
use crate::types::{Micros, NodeId, Numbering};
use crate::wire::{Line, Message};

/// What is to be done next. Each effect must be carried out before [`Driver::next`] is called again.
#[derive(Debug)]
pub enum Action<'a> {
    /// Read these old values from the archive, and hand them to [`Replica::on_found`].
    LookUp(Lookup),
    /// Log these events. Comes once for each round of effects, also when there are none.
    Report(&'a [Event]),
    /// End the node with this event. Nothing else of its effects may be carried out.
    End(&'a Event),
    /// Send these lines to the group.
    Broadcast(Lines<'a>),
    /// Append these records to the log, in this order; a crash may still lose them.
    Append(&'a [Record]),
    /// Make durable all records that were ever appended. When that fails, the node must end.
    Sync,
    /// Nothing until this time, unless a datagram is received: [`Replica::receive`], as often as there are datagrams,
    /// then [`Driver::begin`].
    Idle(Micros),
}

/// Lines to be sent under the [head](Replica::head) of the node, and those that are withheld.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    lines: &'a [Line],
    /// Whether they waited for the last sync.
    pub is_after_sync: bool,
    own_votes: Option<OwnVotes>,
}

impl<'a> Lines<'a> {
    /// The lines to be sent, in this order.
    pub fn sent(self) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| !self.is_withheld(line))
    }

    /// Votes that the node counts itself, and that no other node needs.
    pub fn withheld(self) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| self.is_withheld(line))
    }

    /// All of them, in this order.
    pub fn all(self) -> &'a [Line] {
        self.lines
    }

    fn is_withheld(self, line: &Line) -> bool {
        self.own_votes.is_some_and(|votes| votes.include(line))
    }
}

/// The votes of a leader for what it has itself written. They need not be sent: when such a vote counts, the `Chosen`
/// of the leader says so, and until then no other node can use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnVotes {
    pub(crate) me: NodeId,
    pub(crate) numbering: Numbering,
}

impl OwnVotes {
    fn include(self, line: &Line) -> bool {
        let Line::Node(_, Message::Accepts { ballot, .. }) = line else { return false };
        self.numbering.owner(*ballot) == self.me
    }
}

/// The next step of a node's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Effects are there, of a start, a tick or a sync.
    #[default]
    Effects,
    /// Events are reported.
    Broadcast,
    Append,
    Appended,
    /// All that was appended is durable.
    Synced,
    /// What the sync allows to be sent is sent.
    Count,
    Idle,
}

/// How far the effects of one node are carried out. A new driver begins with those of [`Replica::start`].
#[derive(Debug, Default)]
pub struct Driver {
    step: Step,
    /// Lines that waited for the last sync.
    waited: Vec<Line>,
}

impl Driver {
    /// A driver of a node that was started a moment ago.
    pub fn new() -> Driver {
        Driver::default()
    }

    /// Begins a turn, after what the node has received.
    ///
    /// # Panics
    /// When the last turn has not ended with [`Action::Idle`].
    pub fn begin(&mut self, node: &mut Replica, now: Micros, out: &mut Outbox) {
        assert!(self.step == Step::Idle, "a turn begins when the one before has ended");
        node.tick(now, out);
        self.step = Step::Effects;
    }

    /// The next action. That it is asked for means that the one before is carried out.
    pub fn next<'a>(&'a mut self, node: &mut Replica, now: Micros, out: &'a mut Outbox) -> Action<'a> {
        if self.step == Step::Count {
            node.on_synced(now, &self.waited, out);
            self.waited.clear();
            self.step = Step::Effects;
        }
        match self.step {
            Step::Effects => {
                if let Some(lookup) = out.take_lookup() {
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
            Step::Count => unreachable!("votes were counted above"),
            Step::Idle => Action::Idle(node.deadline(now)),
        }
    }
}
