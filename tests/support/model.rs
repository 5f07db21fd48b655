//! A bounded model check: every order in which a few steps of real nodes can happen, not a sample of them.
//!
//! Three complete [`Replica`]s, two of which may be candidates, run on a network that is a set of datagrams. Each
//! datagram may reach any node any number of times, in any order, or never. Power may fail at one node, between any
//! two steps or between its early lines and its sync. There is no clock: time stands still, and a node starts a
//! ballot whenever the model wants ([`Replica::campaign_unasked`]). There are no retransmissions, because every
//! datagram may arrive again. Any learned value may be reported to any node at any time. The search is breadth
//! first, with the crate `stateright`.
//!
//! Bounds: writes above [`INSTANCES`] are lost. Each of the two candidates starts as many ballots as [`Size`] says.

#![allow(dead_code, reason = "no test program uses all of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stateright::{Checker, DiscoveryClassification, HasDiscoveries, Model, Property};
use upaxos_core::driver::{self, Driver};
use upaxos_core::entry::Entry;
use upaxos_core::record::Record;
use upaxos_core::replica::{Config, Outbox, Recovery, Replica};
use upaxos_core::types::{Ballot, GroupId, Instance, Micros, NodeId, Numbering, Value};
use upaxos_core::wire::{self, Dialect, Head, Line, Message, Packer};

const N: u16 = 3;
/// The highest instance. No write above it arrives.
const INSTANCES: u64 = 2;
/// The client requests at nodes 0 and 1, the proposers.
const WANTED: [&[&str]; 2] = [&["a", "b"], &["c"]];
/// The fixed time of all steps.
const NOW: Micros = Micros::from_millis(1_000);

/// The sender of a datagram, and its text.
type Datagram = (u16, Arc<str>);

/// The bounds of the exploration.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many ballots nodes 0 and 1 may start, over all their lives.
    pub runs: [u8; 2],
    /// How often power may fail.
    pub crashes: u8,
    /// The maximum bytes of a datagram. With 1, every line is a datagram of its own and can be lost alone.
    pub packet: usize,
    /// Whether refusals, announcements of chosen values and repairs also travel. Without them, the search reaches
    /// deeper into proposals and votes.
    pub asides: bool,
    /// The maximum number of steps.
    pub steps: usize,
    /// A function to call before the first state and before each step, on the same thread.
    pub before: fn(),
}

/// One node and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    id: u16,
    node: Replica,
    durable: Vec<Record>,
    /// Records that are appended, and not synced.
    volatile: Vec<Record>,
    runs: u8,
    life: u8,
    /// The highest ballot that the node voted in.
    voted: Option<Ballot>,
    /// The highest ballot that the node asked for promises in.
    asked: Option<Ballot>,
    /// Set when the node sent a forbidden line.
    fault: Option<String>,
}

impl Member {
    fn new(id: u16) -> Member {
        let mut member = Member {
            id,
            node: Recovery::new(config(id)).finish(0, 0),
            durable: Vec::new(),
            volatile: Vec::new(),
            runs: 0,
            life: 0,
            voted: None,
            asked: None,
            fault: None,
        };
        member.restart();
        member
    }

    /// Begins another life from the durable records. The peers remember the node, and the clients ask again.
    fn restart(&mut self) {
        let mut recovery = Recovery::new(config(self.id));
        for record in &self.durable {
            recovery.take(record).expect("records follow from each other");
        }
        self.life += 1;
        self.volatile.clear();
        self.node = recovery.finish(1_000 + u64::from(self.id), u64::from(self.life));
        let mut out = Outbox::new(NodeId(self.id));
        self.node.start(Micros(0), &mut out);
        // From here on, the peers may object to the registration.
        self.node.tick(Micros(0), &mut out);
        let (id, boot) = (self.id, self.node.boot().boot);
        for peer in (0..N).filter(|peer| *peer != id) {
            let (incarnation, peer_boot) = (1_000 + peer, 500 + peer);
            self.hear(&format!("{peer} Beat {N} {incarnation} 1 {peer_boot} - 0 waits -"), &mut out);
            self.hear(&format!("{peer} Register {N} {incarnation} 1 {peer_boot}"), &mut out);
            self.hear(&format!("{peer} Registered {id} {boot}"), &mut out);
        }
        self.node.tick(NOW, &mut out);
        for value in WANTED.get(usize::from(self.id)).copied().unwrap_or_default() {
            self.hear(&format!("Request 0 {value}"), &mut out);
        }
        self.finish(out);
    }

    fn hear(&mut self, datagram: &str, out: &mut Outbox) {
        for line in wire::lines(datagram.as_bytes(), Dialect::Extended) {
            let line = line.expect("a line of the wire");
            let speaker = self.node.hear(&head_of(&line), NOW, out);
            self.node.handle(NOW, speaker, line, out);
        }
    }

    /// Carries out the effects of a step. Returns the sent lines, one list for each lane.
    fn finish(&mut self, mut out: Outbox) -> Vec<Vec<Line>> {
        let (mut driver, mut said) = (Driver::new(), Vec::new());
        loop {
            match driver.next(&mut self.node, NOW, &mut out) {
                driver::Action::LookUp(_) | driver::Action::Report(_) => {}
                driver::Action::Broadcast(lines) => {
                    let all = lines.all().to_vec();
                    if lines.is_after_sync {
                        all.iter().for_each(|line| self.judge(line));
                    }
                    said.push(all);
                }
                driver::Action::Append(records) => self.volatile.extend_from_slice(records),
                driver::Action::Sync => self.durable.append(&mut self.volatile),
                driver::Action::Idle(_) | driver::Action::End(_) => return said,
            }
        }
    }

    /// Checks a sent line from outside: no node votes below an earlier vote, or starts a ballot twice.
    fn judge(&mut self, line: &Line) {
        let Line::Node(_, message) = line else { return };
        let (Message::Promise { ballot, .. }
        | Message::PromiseNone { ballot, .. }
        | Message::Accepts { ballot, .. }
        | Message::ProposeAll { ballot, .. }) = message
        else {
            return;
        };
        if matches!(message, Message::ProposeAll { .. }) {
            if self.asked >= Some(*ballot) {
                self.fault = Some(format!("{line}, having run {:?}", self.asked));
            }
            self.asked = Some(*ballot);
        } else {
            if self.voted > Some(*ballot) {
                self.fault = Some(format!("{line}, having voted in {:?}", self.voted));
            }
            self.voted = self.voted.max(Some(*ballot));
        }
    }

    /// The lines in which the node could report its learned values to others.
    fn told(&self) -> Vec<Line> {
        // A copy of the node answers, so that the pace of repairs adds no states.
        let (mut copy, mut out) = (self.node.clone(), Outbox::new(NodeId(self.id)));
        let gap = Message::Gap { first: Instance(1), last: Instance(INSTANCES) };
        let line = Line::Node(NodeId((self.id + 1) % N), gap);
        let speaker = copy.hear(&head_of(&line), NOW, &mut out);
        copy.handle(NOW, speaker, line, &mut out);
        out.clear();
        copy.tick(NOW + Micros::from_millis(1_000), &mut out);
        out.early.retain(|line| matches!(line, Line::Node(_, Message::Written { .. })));
        out.early
    }

    fn accepts(&self) -> impl Iterator<Item = ((Instance, Ballot), &Value)> {
        self.durable.iter().filter_map(|record| match record {
            Record::Accept { instance, ballot, value } => Some(((*instance, *ballot), value)),
            _ => None,
        })
    }
}

/// The head of the datagram of a line. It depends on no state, so it is not part of the model's datagrams.
fn head_of(line: &Line) -> Head {
    match line {
        Line::Client(_) => Head::default(),
        Line::Node(id, _) => {
            Head { from: Some((*id, 1_000 + u64::from(id.0))), group: Some(GroupId(1_000)), name: None }
        }
    }
}

fn config(id: u16) -> Config {
    Config::member(NodeId(id), N)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    members: [Arc<Member>; N as usize],
    /// All datagrams ever sent.
    network: Arc<BTreeSet<Datagram>>,
    crashes: u8,
    /// The value written in each ballot: a digest of the network.
    written: Arc<BTreeMap<(Instance, Ballot), Value>>,
    /// Set when two values were written in one ballot.
    fault: Option<String>,
}

impl Group {
    /// Takes a member's next state, and the lines that it sent on the way.
    fn replace(&mut self, member: Member, said: Vec<Vec<Line>>, size: &Size) {
        for mut lane in said {
            lane.retain(|line| matters(line, size.asides));
            for line in &lane {
                self.note_written(line);
            }
            let mut packer = Packer::new(Dialect::Extended, size.packet);
            lane.iter().for_each(|line| packer.push(line));
            for datagram in packer.finish() {
                let text = String::from_utf8(datagram).expect("the model's values are text").into();
                if !self.network.contains(&(member.id, Arc::clone(&text))) {
                    Arc::make_mut(&mut self.network).insert((member.id, text));
                }
            }
        }
        let place = usize::from(member.id);
        if *self.members[place] != member {
            self.members[place] = Arc::new(member);
        }
    }

    fn note_written(&mut self, line: &Line) {
        if let Line::Node(_, Message::Write { instance, ballot, value }) = line {
            match self.written.get(&(*instance, *ballot)) {
                Some(known) if known != value => self.fault = Some(format!("{line}, after {known}")),
                Some(_) => {}
                None => drop(Arc::make_mut(&mut self.written).insert((*instance, *ballot), value.clone())),
            }
        }
    }

    /// The values that a quorum durably accepted in one ballot.
    fn chosen(&self) -> BTreeSet<(Instance, &Value)> {
        let mut voters: BTreeMap<(Instance, Ballot, &Value), BTreeSet<u16>> = BTreeMap::new();
        for member in &self.members {
            for ((instance, ballot), value) in member.accepts() {
                voters.entry((instance, ballot, value)).or_default().insert(member.id);
            }
        }
        let quorum = usize::from(N) / 2 + 1;
        voters.retain(|_, voters| voters.len() >= quorum);
        voters.into_keys().map(|(instance, _, value)| (instance, value)).collect()
    }

    fn reads(&self) -> impl Iterator<Item = (Instance, Value)> {
        self.members.iter().flat_map(|member| {
            let learned = (1..=member.node.learned().0).map(Instance);
            learned.map(|instance| (instance, member.node.value_at(instance).expect("it is learned")))
        })
    }
}

/// Whether a line can change what any node promises, accepts, writes or learns, within the bounds.
fn matters(line: &Line, asides: bool) -> bool {
    let Line::Node(_, message) = line else { return false };
    match message {
        Message::Write { instance, .. } => instance.0 <= INSTANCES,
        Message::Accepts { first, .. } => first.0 <= INSTANCES,
        Message::Chosen { first, .. } => asides && first.0 <= INSTANCES,
        Message::ProposeAll { .. } | Message::Promise { .. } | Message::PromiseNone { .. } => true,
        Message::Nack { .. } | Message::Written { .. } => asides,
        _ => false,
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A node starts a ballot.
    Run(u16),
    /// A datagram arrives at a node.
    Deliver(u16, Datagram),
    /// The same, and power fails between the early lines and the sync.
    DeliverThenCrash(u16, Datagram),
    /// The lazily appended records reach the disk.
    Sync(u16),
    /// Power fails. Unsynced records are lost.
    Crash(u16),
}

impl Size {
    fn step(&self, before: &Group, action: &Action) -> Option<Group> {
        (self.before)();
        let (Action::Run(id)
        | Action::Deliver(id, _)
        | Action::DeliverThenCrash(id, _)
        | Action::Sync(id)
        | Action::Crash(id)) = action;
        let mut group = before.clone();
        let mut member = Member::clone(&before.members[usize::from(*id)]);
        let learned = member.node.learned();
        let mut out = Outbox::new(NodeId(*id));
        let mut said = Vec::new();
        match action {
            Action::Run(_) => {
                member.node.campaign_unasked(NOW, &mut out);
                member.runs += 1;
            }
            Action::Deliver(_, (_, text)) | Action::DeliverThenCrash(_, (_, text)) => {
                member.hear(text, &mut out);
            }
            Action::Sync(_) => out.flush(),
            Action::Crash(_) => {}
        }
        if matches!(action, Action::Crash(_) | Action::DeliverThenCrash(..)) {
            // Without early lines, this step equals a crash before the step.
            if out.early.is_empty() && matches!(action, Action::DeliverThenCrash(..)) {
                return None;
            }
            said.push(std::mem::take(&mut out.early));
            group.crashes += 1;
            member.restart();
        } else {
            said.append(&mut member.finish(out));
        }
        if self.asides && member.node.learned() > learned {
            said.extend(member.told().into_iter().map(|line| vec![line]));
        }
        group.replace(member, said, self);
        (group != *before).then_some(group)
    }
}

impl Model for Size {
    type State = Group;
    type Action = Action;

    fn init_states(&self) -> Vec<Group> {
        (self.before)();
        vec![Group {
            members: [0, 1, 2].map(|id| Arc::new(Member::new(id))),
            network: Arc::default(),
            crashes: 0,
            written: Arc::default(),
            fault: None,
        }]
    }

    fn actions(&self, group: &Group, actions: &mut Vec<Action>) {
        for member in &group.members {
            let id = member.id;
            if self.runs.get(usize::from(id)).is_some_and(|runs| member.runs < *runs) {
                actions.push(Action::Run(id));
            }
            let may_crash = group.crashes < self.crashes;
            for datagram in group.network.iter().filter(|(from, _)| *from != id) {
                actions.push(Action::Deliver(id, datagram.clone()));
                if may_crash {
                    actions.push(Action::DeliverThenCrash(id, datagram.clone()));
                }
            }
            if !member.volatile.is_empty() {
                actions.push(Action::Sync(id));
            }
            if may_crash {
                actions.push(Action::Crash(id));
            }
        }
    }

    fn next_state(&self, group: &Group, action: Action) -> Option<Group> {
        self.step(group, &action)
    }

    fn properties(&self) -> Vec<Property<Size>> {
        let mut properties = vec![
            Property::always("one value is chosen", |_, group: &Group| {
                let chosen = group.chosen();
                let instances: BTreeSet<_> = chosen.iter().map(|(instance, _)| instance).collect();
                instances.len() == chosen.len()
            }),
            Property::always("what is learned is chosen", |_, group: &Group| {
                let chosen = group.chosen();
                let chosen: BTreeSet<_> =
                    chosen.iter().map(|(at, value)| (*at, reading(*at, value))).collect();
                group.reads().all(|learned| chosen.contains(&learned))
            }),
            Property::always("learners agree", |_, group: &Group| {
                let reads: BTreeSet<_> = group.reads().collect();
                let instances: BTreeSet<_> = reads.iter().map(|(instance, _)| instance).collect();
                instances.len() == reads.len()
            }),
            Property::always("one value is written in a ballot", |_, group: &Group| {
                let mut accepts = group.members.iter().flat_map(|member| member.accepts());
                group.fault.is_none()
                    && accepts
                        .all(|(at, value)| group.written.get(&at).is_none_or(|written| written == value))
            }),
            Property::always("no node votes below its vote, nor runs a ballot again", |_, group: &Group| {
                group.members.iter().all(|member| member.fault.is_none())
            }),
            Property::sometimes("both instances are learned by two", |_, group: &Group| {
                group.members.iter().filter(|member| member.node.learned().0 >= INSTANCES).count() >= 2
            }),
            Property::sometimes("a found value is written again", |_, group: &Group| {
                let is_own = |ballot, value: &Value| {
                    let owner = Numbering::Standard.owner(ballot);
                    WANTED[usize::from(owner.0)].iter().any(|wanted| Value::from(*wanted) == *value)
                };
                let noop = Entry::Noop.encode(Dialect::Extended);
                group.written.iter().any(|((_, ballot), value)| *value != noop && !is_own(*ballot, value))
            }),
        ];
        if self.packet == 1 {
            properties.push(Property::sometimes("a gap is filled", |_, group: &Group| {
                group.written.values().any(|value| *value == Entry::Noop.encode(Dialect::Extended))
            }));
        }
        if self.crashes > 0 {
            properties.push(Property::sometimes("a restarted node learns", |_, group: &Group| {
                group.members.iter().any(|member| member.life > 1 && member.node.learned().0 > 0)
            }));
        }
        properties
    }
}

/// The answer to `Request instance` once `stored` is learned.
fn reading(instance: Instance, stored: &Value) -> Value {
    let entry = Entry::decode(instance, stored, Dialect::Extended);
    entry.reads()
}

/// Explores all states within the bounds. Returns the number of states, and of distinct ones; or the steps to a
/// violated property.
pub fn explore(size: Size) -> Result<(usize, usize), String> {
    // One thread. With more, the depth bound cuts off a few states at random.
    let checker = size
        .checker()
        // The depth counts states, with the first one, and excludes those of the last step.
        .target_max_depth(size.steps + 2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    for (property, path) in checker.discoveries() {
        if matches!(checker.discovery_classification(property), DiscoveryClassification::Counterexample) {
            let steps: Vec<_> = path.into_actions().iter().map(|step| format!("  {step:?}")).collect();
            return Err(format!("not so that {property:?}, after\n{}", steps.join("\n")));
        }
    }
    checker.assert_properties();
    Ok((checker.state_count(), checker.unique_state_count()))
}
