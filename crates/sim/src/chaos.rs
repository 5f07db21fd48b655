//! A cluster under a drawn plan: the seed determines the faults, and the requests of clients.
//!
//! It owns the faults of the plan, their times, and the drawn clients. Their effects happen on the [`Cluster`]. The
//! phases of a run call it.

mod beside;
mod faults;
mod joined;
mod leaders;

use std::rc::Rc;

use upaxos_core::client::Scope;
use upaxos_core::replica::{Event, Limits, Timing};
use upaxos_core::types::{Instance, Micros};

use super::checkers::Checkers;
use super::clients::{self, Clients};
use super::cluster::{Cluster, Happened, Setting};
use super::double::Double;
use super::fault_plan::{Plan, Topology};
use super::machine::Role;
use super::rng::{Rng, Stream};
use super::trace::{Seen, Trace};
use beside::Beside;

/// A scheduled event of the plan.
#[derive(Debug)]
enum Cue {
    /// A client takes its turn.
    Client(usize),
    /// A fault of the plan, by its index there.
    Fault(usize),
    /// The end of the cut of that number.
    Join(u64),
    Isolate(u16, bool),
    /// The wires of two groups are joined or separated.
    Wires(bool),
    /// A node that has left ends, if it is still in that life.
    Retire(u16, u64),
}

/// A group, its clients, and the faults around them.
#[derive(Debug)]
pub struct Chaos {
    plan: Plan,
    cluster: Cluster<Cue>,
    clients: Clients,
    is_chaotic: bool,
    cut: u64,
    /// The cut links, if any.
    topology: Option<Topology>,
    /// Another group, whose wire is joined to this one's at times.
    beside: Option<Box<Beside<Chaos>>>,
}

impl Chaos {
    /// A new world, before its first event.
    pub fn new(plan: Plan) -> Chaos {
        let beside = plan.other.as_deref().map(|other| Box::new(Chaos::other_group(other, plan.seed)));
        let mut world = Chaos { beside, ..Chaos::at(plan, 0) };
        world.cluster.has_neighbors = world.beside.is_some();
        world
    }

    /// The same without another group. Incarnations begin at `incarnations`.
    fn at(plan: Plan, incarnations: u64) -> Chaos {
        let setting = Setting {
            seed: plan.seed,
            n: plan.n,
            spares: plan.joiners,
            dialect: plan.dialect(),
            timing: Timing { beat: plan.beat },
            limits: plan.limits,
            incarnations,
        };
        let mut cluster = Cluster::new(setting);
        for (id, machine) in cluster.machines.iter_mut().enumerate() {
            machine.role = if id < usize::from(plan.n) { Role::Member } else { Role::Spare };
            machine.fast_read = plan.fast_read[id];
            machine.skew(plan.skew[id]);
            if plan.scripted {
                machine.strays_from =
                    plan.stray.filter(|(stray, _)| usize::from(*stray) == id).map(|(_, from)| from);
                machine.hooks = Some(Rc::new(Double::new(machine.strays_from)));
            }
        }
        for id in 0..plan.n {
            let at = Micros(cluster.machine_chance.below(20_000));
            cluster.start_at(id, at);
        }
        (0..clients::COUNT).for_each(|client| cluster.cue(Micros(1_000), Cue::Client(client)));
        let (workload, scope) = (Rng::new(plan.seed, Stream::Workload), Scope::new(plan.dialect(), None));
        let clients = Clients::new(workload, plan.think, plan.open, plan.dialect(), scope);
        if plan.scripted {
            // A script may refuse any write. Nothing else refuses one.
            cluster.checkers.calls().may_be_refused();
        }
        Chaos { plan, cluster, clients, is_chaotic: false, cut: 0, topology: None, beside: None }
    }

    /// The checkers of this group.
    pub fn checkers(&mut self) -> &mut Checkers {
        &mut self.cluster.checkers
    }

    /// The drawn clients of this group.
    pub fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// The counts, and the hash of all events so far.
    pub fn seen(&self) -> (Seen, Trace) {
        (self.cluster.seen, self.cluster.trace)
    }

    /// The virtual time of this group.
    pub fn now(&self) -> Micros {
        self.cluster.now
    }

    /// Runs events until `end`, or until `done`, or until a violation. Returns true when `done`.
    pub fn run_until(&mut self, end: Micros, mut done: impl FnMut(&Chaos) -> bool) -> bool {
        while self.violation().is_none() {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return false;
            }
        }
        false
    }

    fn step_alone(&mut self, end: Micros) -> bool {
        match self.cluster.next(end) {
            None => return false,
            Some(Happened::Inside) => self.on_news(),
            Some(Happened::Cue(cue)) => self.on_cue(cue),
            Some(Happened::Heard(datagram)) => {
                let said = self.clients.hear(&datagram, self.cluster.now, &mut self.cluster.checkers);
                said.into_iter().for_each(|datagram| self.cluster.send_from_clients(datagram));
            }
        }
        true
    }

    /// Whether no client waits and all nodes have settled, in both groups.
    pub fn is_settled(&self) -> bool {
        self.clients.is_content() && self.cluster.is_settled() && self.beside_has_settled()
    }

    /// From now on the clients of both groups send new requests, or none.
    pub fn ask(&mut self, asks: bool) {
        self.clients.ask(asks);
        self.beside(|other| other.ask(asks));
    }

    /// Whether the clients know which group they talk to.
    pub fn is_known(&self) -> bool {
        self.clients.know_group(self.cluster.now)
    }

    /// The run is over: makes the checks that are possible only at the end.
    pub fn finish(&mut self) {
        let learned = self.learned();
        self.cluster.checkers.finish(&learned);
        if !self.is_beside_dead() {
            self.beside(Chaos::finish);
        }
    }

    /// Whether its nodes have small bounds.
    pub fn has_small_bounds(&self) -> bool {
        self.plan.limits != Limits::USUAL
    }

    /// Whether a rolled back disk has split the log.
    pub fn is_split(&self) -> bool {
        self.cluster.checkers.is_split()
    }

    /// What the nodes have failed to detect after a rollback. `None` when nothing is missing.
    pub fn not_found(&self) -> Option<String> {
        self.cluster.not_found()
    }

    /// Counts how the nodes detected a rolled back disk, and a split log if there is one.
    pub fn note_found(&mut self) {
        self.cluster.count_barred();
        let is_told = self.cluster.checkers.is_told() || self.cluster.seen.stopped > 0;
        self.cluster.seen.splits += u64::from(self.is_split() && is_told);
        self.cluster.seen.untold += u64::from(self.is_split() && !is_told);
    }

    /// Whether the group in force can decide anything. Operators and lost disks may have left too few members.
    pub fn is_alive(&self) -> bool {
        self.cluster.is_alive()
    }

    /// The learned prefix of every node that should run.
    pub fn learned(&self) -> Vec<(u16, Instance)> {
        self.cluster.learned()
    }

    /// The state of every node, and the last lines that were sent.
    pub fn view(&self) -> String {
        format!("{} requests open\n{}", self.clients.open(), self.cluster.view())
    }

    fn on_cue(&mut self, cue: Cue) {
        match cue {
            Cue::Client(client) => self.client(client),
            Cue::Fault(at) => self.fault(at),
            Cue::Join(cut) if cut == self.cut => {
                self.cluster.network.join();
                self.topology = None;
            }
            Cue::Join(_) => {}
            Cue::Wires(joined) => self.join_wires(joined && self.is_chaotic),
            Cue::Retire(id, life) => self.retire(id, life),
            Cue::Isolate(id, isolated) => self.cluster.network.isolate(id, isolated && self.is_chaotic),
        }
    }

    fn on_news(&mut self) {
        for (id, event) in std::mem::take(&mut self.cluster.news) {
            match event {
                Event::Left { .. } => {
                    let life = self.cluster.machines[usize::from(id)].life;
                    self.cluster.cue(self.cluster.now, Cue::Retire(id, life));
                }
                Event::MayNotVote(_) => self.turned_away(id),
                _ => {}
            }
        }
    }

    fn client(&mut self, client: usize) {
        let (said, next) = self.clients.turn(client, self.cluster.now, &mut self.cluster.checkers);
        said.into_iter().for_each(|datagram| self.cluster.send_from_clients(datagram));
        self.cluster.cue(next, Cue::Client(client));
    }
}
