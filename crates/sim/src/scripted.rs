//! A cluster that a script directs step by step. Nothing else happens to it.
//!
//! It owns what a script may request and when that is allowed, and the clients that the script uses. The effects
//! happen on the [`Cluster`], under the same checkers as in drawn runs. The runner of scripts calls it. Misuse is an
//! error, never a panic. A panic of a node violates a rule.

mod check;
mod look;
mod misuse;
mod script_clients;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use upaxos_core::client::{Ask, Status};
use upaxos_core::replica::{Event, Replica};
use upaxos_core::types::Micros;
use upaxos_core::wire::{self, Dialect, Head, Line};

use super::checkers::{Rule, Violation};
use super::cluster::{Cluster, Happened, Said, Setting, Watch};
use super::disk::Refusal;
pub use super::machine::Loads;
use super::machine::{End, Role, State};
use super::network::{Datagram, Link, Passed};
use super::panic_text;
pub use look::{Look, ProcessState};
pub use misuse::Misuse;
use script_clients::ScriptClients;
pub use script_clients::{Settled, Ticket};

/// The most machines of one cluster, spares included.
const MOST: u16 = 64;

/// The most bytes that fit into one UDP datagram.
const LONGEST: usize = 65_507;

/// The options of a node's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// `None`: the node is one of the first group. `Some`: it joins a running group, in the place of the given
    /// member if there is one.
    pub joins: Option<Option<u16>>,
    /// Whether the node answers untagged reads as fast reads.
    pub fast_read: bool,
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The node with this id.
    Node(u16),
    /// All clients together.
    Clients,
}

/// A fault that a script gives to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Every sync takes this much longer.
    Slow(Micros),
    /// The next operation of that kind fails.
    Refuses(Refusal),
}

/// The last use of a machine, since its disk was new.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// Whether its first start was to join.
    joined: Option<bool>,
    /// Whether its id had been a member before that.
    was_member: bool,
}

/// A group that a script directs, with its clients.
#[derive(Debug)]
pub struct Scripted {
    /// A cue is the number of the client that has something to do.
    cluster: Cluster<u64>,
    clients: ScriptClients,
    uses: Vec<Use>,
}

impl Scripted {
    /// A group whose nodes are all down. With `keeps`, everything sent and every log is kept.
    ///
    /// # Errors
    /// When there are no nodes, or more than 64.
    pub fn new(setting: Setting, keeps: bool) -> Result<Scripted, Misuse> {
        let all = setting.n.saturating_add(setting.spares);
        if setting.n == 0 || all > MOST {
            let Setting { n, spares, .. } = setting;
            let text = format!("a group of {n} nodes and {spares} to join: choose 1 to {MOST} in all");
            return Err(Misuse(text));
        }
        let mut cluster = Cluster::new(setting);
        cluster.watch = Some(Watch::new(keeps));
        if keeps {
            cluster.network.keep();
        }
        cluster.checkers.calls().may_be_refused();
        let uses = vec![Use::default(); usize::from(all)];
        Ok(Scripted { cluster, clients: ScriptClients::new(setting.dialect), uses })
    }

    /// The virtual time since the cluster was made.
    pub fn now(&self) -> Micros {
        self.cluster.now
    }

    /// The hash of all events so far.
    pub fn trace(&self) -> u64 {
        self.cluster.trace.hash()
    }

    /// The first violation that the checkers found, if any.
    pub fn violation(&self) -> Option<&Violation> {
        self.cluster.checkers.violation()
    }

    /// Runs events until a moment, or until there is news: an answer, a node that ended, a heartbeat that differs
    /// from the one before, or a violation.
    pub fn step(&mut self, until: Micros) {
        self.guarded(|play| while !play.has_news() && play.violation().is_none() && play.happen(until) {});
    }

    fn has_news(&mut self) -> bool {
        let is_seen = self.cluster.watch.as_mut().is_some_and(Watch::take_news);
        self.clients.take_news() || is_seen
    }

    /// Runs the next event up to a moment. Returns false when there is none.
    fn happen(&mut self, until: Micros) -> bool {
        match self.cluster.next(until) {
            None => return false,
            Some(Happened::Inside) => self.on_news(),
            Some(Happened::Cue(client)) => self.call(client),
            Some(Happened::Heard(datagram)) => {
                let touched = self.clients.hear(&datagram, self.cluster.now, &mut self.cluster.checkers);
                let due = self.clients.due(self.cluster.now);
                due.into_iter().for_each(|datagram| self.cluster.send_from_clients(datagram));
                touched.into_iter().for_each(|client| self.plan_call(client));
            }
        }
        true
    }

    /// Starts a node on its present disk, or on a new one if it has none.
    ///
    /// # Errors
    /// When the node runs, or its disk was first used for the other kind of start.
    pub fn start(&mut self, id: u16, how: &Start) -> Result<(), Misuse> {
        self.must_be_down(id, "start")?;
        let n = self.cluster.setting.n;
        let is_known = self.uses[usize::from(id)].joined;
        if how.joins.is_none() && id >= n {
            return Err(Misuse(format!(
                "cannot start node {id}: the first group has 0 to {}; let it join",
                n - 1
            )));
        }
        if how.joins.is_some() && self.cluster.setting.dialect == Dialect::Classic {
            return Err(Misuse(format!("cannot start node {id} to join: a classic group never changes")));
        }
        if is_known.is_some_and(|joined| joined != how.joins.is_some()) {
            let first = if how.joins.is_some() { "of the first group" } else { "to join" };
            return Err(Misuse(format!(
                "cannot start node {id}: its disk was first started {first}; wipe it"
            )));
        }
        if is_known.is_none() {
            let was_member = self.cluster.checkers.was_member(id);
            self.uses[usize::from(id)] = Use { joined: Some(how.joins.is_some()), was_member };
        }
        if let Some(replaces) = how.joins {
            self.cluster.checkers.on_entered(id, replaces);
        }
        let machine = &mut self.cluster.machines[usize::from(id)];
        machine.role = how.joins.map_or(Role::Member, Role::Joins);
        machine.fast_read = how.fast_read;
        self.guarded(|play| {
            play.cluster.start_now(id);
            play.on_news();
        });
        Ok(())
    }

    /// From its next start on the node runs these scripts, or none. They may rewrite the values of clients.
    ///
    /// # Errors
    /// When the node runs, or the grammar is the classic one.
    pub fn equip(&mut self, id: u16, scripts: Option<Loads>) -> Result<(), Misuse> {
        self.must_be_down(id, "give scripts to")?;
        if scripts.is_some() && self.cluster.setting.dialect == Dialect::Classic {
            return Err(Misuse(format!("cannot give scripts to node {id}: a classic node runs none")));
        }
        if scripts.is_some() {
            self.cluster.checkers.calls().may_be_rewritten();
        }
        let machine = &mut self.cluster.machines[usize::from(id)];
        (machine.hooks, machine.own_scripts) = (None, scripts);
        Ok(())
    }

    /// Asks a node to end in good order.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn stop(&mut self, id: u16) -> Result<(), Misuse> {
        self.must_run(id, "stop")?;
        self.guarded(|play| play.cluster.end_soon(id, End::Told));
        Ok(())
    }

    /// Ends a node between two effects of its loop.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn crash(&mut self, id: u16) -> Result<(), Misuse> {
        self.must_run(id, "crash")?;
        self.guarded(|play| {
            play.cluster.crash_amid(id);
            play.cluster.news.retain(|(of, _)| *of != id);
        });
        Ok(())
    }

    /// Pauses a node, which does not notice. A paused node stays paused.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn pause(&mut self, id: u16) -> Result<(), Misuse> {
        self.must_run(id, "pause")?;
        self.cluster.pause(id);
        Ok(())
    }

    /// Ends a pause, if there is one.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn resume(&mut self, id: u16) -> Result<(), Misuse> {
        self.must_run(id, "resume")?;
        self.cluster.go_on_again(id);
        Ok(())
    }

    /// Takes the disk of a node away.
    ///
    /// # Errors
    /// When the node runs.
    pub fn wipe(&mut self, id: u16) -> Result<(), Misuse> {
        self.must_be_down(id, "wipe")?;
        let of_use = std::mem::take(&mut self.uses[usize::from(id)]);
        if of_use.joined.is_some() {
            self.cluster.lose_disk(id);
            self.cluster.machines[usize::from(id)].role = Role::Gone;
        }
        Ok(())
    }

    /// From now on the disk of a node has this fault. `None` ends it.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn disk(&mut self, id: u16, fault: Option<DiskFault>) -> Result<(), Misuse> {
        self.must_exist(id, "set a fault on the disk of")?;
        let machine = &mut self.cluster.machines[usize::from(id)];
        machine.heal_disk();
        match fault {
            None => {}
            Some(DiskFault::Slow(each)) => machine.slow_sync = (each, Micros(u64::MAX)),
            Some(DiskFault::Refuses(refusal)) => machine.disk.fail(Some(refusal)),
        }
        Ok(())
    }

    /// Sets how the link from one party to another behaves.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn link(&mut self, from: Party, to: Party, link: Link) -> Result<(), Misuse> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        if from == to {
            return Err(Misuse("cannot set a link from a party to itself: there is none".into()));
        }
        *self.cluster.network.link(from, to) = link;
        Ok(())
    }

    /// A client sends a request, and retransmits it until it is answered or `patience` has passed.
    ///
    /// # Errors
    /// When the client cannot send such a request.
    pub fn ask(&mut self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket, Misuse> {
        let ticket = self.clients.ask(client, ask, self.cluster.now, patience)?;
        self.guarded(|play| play.call(client));
        Ok(ticket)
    }

    /// Sends these bytes to all nodes as one datagram, as if written by hand. A line that names a node gets the
    /// head of the node's present life, unless the datagram has a head. With a head goes a checksum.
    ///
    /// # Errors
    /// When the bytes do not fit into a datagram.
    pub fn say(&mut self, bytes: &[u8]) -> Result<(), Misuse> {
        if bytes.is_empty() || bytes.len() > LONGEST {
            let length = bytes.len();
            return Err(Misuse(format!("cannot send {length} bytes in one datagram: choose 1 to {LONGEST}")));
        }
        let dialect = self.cluster.setting.dialect;
        let mut bytes = bytes.to_vec();
        if dialect == Dialect::Extended {
            wire::complete(&mut bytes);
        }
        let mut datagram = Datagram::new(bytes.clone(), dialect);
        if let (Some(Line::Node(from, _)), true) = (datagram.lines.first(), datagram.head == Head::default())
            && dialect == Dialect::Extended
            && let Some(head) = self.cluster.head_of(*from)
        {
            let mut with_head = Vec::new();
            head.encode(&mut with_head);
            with_head.extend_from_slice(&bytes);
            wire::complete(&mut with_head);
            datagram = Datagram::new(with_head, dialect);
        }
        datagram.lines.iter().for_each(|line| self.cluster.checkers.on_asked(line));
        self.cluster.send_from_clients(datagram);
        Ok(())
    }

    /// The requests that have ended since the last call.
    pub fn settled(&mut self) -> Vec<Settled> {
        self.clients.settled()
    }

    /// Every datagram on every link, if that is kept.
    pub fn wire(&self) -> Option<&[Passed]> {
        self.cluster.network.kept()
    }

    /// The log of a node, or the end of it unless all is kept.
    pub fn log(&self, id: u16) -> impl Iterator<Item = &Said> {
        self.cluster.watch.iter().flat_map(move |watch| watch.log(id))
    }

    /// The number of machines, spares included.
    pub fn nodes(&self) -> u16 {
        self.cluster.nodes()
    }

    /// A client does what is due.
    fn call(&mut self, client: u64) {
        for datagram in self.clients.turn(client, self.cluster.now, &mut self.cluster.checkers) {
            self.cluster.send_from_clients(datagram);
        }
        self.plan_call(client);
    }

    fn plan_call(&mut self, client: u64) {
        if let Some(at) = self.clients.next_turn(client, self.cluster.now) {
            self.cluster.cue(at, client);
        }
    }

    /// The events that end a daemon end a simulated node, too.
    fn on_news(&mut self) {
        for (id, event) in std::mem::take(&mut self.cluster.news) {
            let machine = &mut self.cluster.machines[usize::from(id)];
            let came = matches!(machine.role, Role::Joins(_));
            let (status, words, is_final) = match &event {
                Event::Quit => (Status::Done, "quits, as asked on the network".to_owned(), false),
                Event::MayNotVote(_) if came => (Status::Refused, event.to_string(), true),
                Event::Left { .. }
                    if came && self.uses[usize::from(id)].was_member
                        || machine.node().is_some_and(Replica::never_took_part) =>
                {
                    let act = if came { "join" } else { "take part" };
                    let text =
                        format!("cannot {act}: id {id} was a member before, and ids are never used again");
                    (Status::Refused, text, true)
                }
                Event::Left { .. } => (Status::Done, event.to_string(), true),
                _ => continue,
            };
            if is_final {
                machine.role = Role::Gone;
            }
            self.cluster.end_soon(id, End::Itself((status.code(), words)));
        }
    }

    /// Does something on the cluster. A panic in it breaks a rule.
    fn guarded(&mut self, act: impl FnOnce(&mut Scripted)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| act(self))) {
            self.cluster.checkers.fail(Rule::NoPanic, panic_text(&*panic));
        }
    }

    fn place(&self, party: Party) -> Result<u16, Misuse> {
        match party {
            Party::Node(id) => self.must_exist(id, "set a link of").map(|()| id),
            Party::Clients => Ok(super::network::CLIENTS),
        }
    }

    fn must_exist(&self, id: u16, act: &str) -> Result<(), Misuse> {
        let last = self.nodes() - 1;
        let text = || Misuse(format!("cannot {act} node {id}: there are 0 to {last}"));
        (id <= last).then_some(()).ok_or_else(text)
    }

    fn must_run(&self, id: u16, act: &str) -> Result<(), Misuse> {
        self.must_exist(id, act)?;
        let is_down = matches!(self.cluster.machines[usize::from(id)].state, State::Down);
        let text = || Misuse(format!("cannot {act} node {id}: it does not run"));
        (!is_down).then_some(()).ok_or_else(text)
    }

    fn must_be_down(&self, id: u16, act: &str) -> Result<(), Misuse> {
        self.must_exist(id, act)?;
        let is_down = matches!(self.cluster.machines[usize::from(id)].state, State::Down);
        let text = || Misuse(format!("cannot {act} node {id}: it runs; stop or crash it first"));
        is_down.then_some(()).ok_or_else(text)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Node(id) => id.fmt(f),
            Party::Clients => f.write_str("clients"),
        }
    }
}
