//! A cluster under a drawn plan: the seed determines the faults, and the requests of clients.
//!
//! It owns the faults of the plan, their times, and the drawn clients. Their effects happen on the [`Stage`]. The
//! phases of a run call it.

mod faults;
mod joined;
mod leaders;

use std::rc::Rc;

use upaxos_core::client::Scope;
use upaxos_core::replica::{Event, Limits, Timing};
use upaxos_core::types::{Instance, Micros};

use super::chance::{Chance, Stream};
use super::clients::{self, Clients};
use super::double::Double;
use super::judges::Judges;
use super::machine::Role;
use super::stage::{Happened, Setting, Stage};
use super::swarm::{Plan, Topology};
use super::trace::{Seen, Trace};
use joined::Beside;

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
pub struct World {
    plan: Plan,
    stage: Stage<Cue>,
    clients: Clients,
    is_chaotic: bool,
    cut: u64,
    /// The cut links, if any.
    topology: Option<Topology>,
    /// Another group, whose wire is joined to this one's at times.
    beside: Option<Box<Beside>>,
}

impl World {
    /// A new world, before its first event.
    pub fn new(plan: Plan) -> World {
        let beside = plan.other.as_deref().map(|other| Box::new(Beside::new(other, plan.seed)));
        let mut world = World { beside, ..World::at(plan, 0) };
        world.stage.has_neighbors = world.beside.is_some();
        world
    }

    /// The same without another group. Incarnations begin at `incarnations`.
    fn at(plan: Plan, incarnations: u64) -> World {
        let setting = Setting {
            seed: plan.seed,
            n: plan.n,
            spares: plan.joiners,
            dialect: plan.dialect(),
            timing: Timing { beat: plan.beat },
            limits: plan.limits,
            incarnations,
        };
        let mut stage = Stage::new(setting);
        for (id, machine) in stage.machines.iter_mut().enumerate() {
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
            let at = Micros(stage.machine_chance.below(20_000));
            stage.start_at(id, at);
        }
        (0..clients::COUNT).for_each(|client| stage.cue(Micros(1_000), Cue::Client(client)));
        let (workload, scope) = (Chance::new(plan.seed, Stream::Workload), Scope::new(plan.dialect(), None));
        let clients = Clients::new(workload, plan.think, plan.open, plan.dialect(), scope);
        if plan.scripted {
            // A script may refuse any write. Nothing else refuses one.
            stage.judges.calls().may_be_refused();
        }
        World { plan, stage, clients, is_chaotic: false, cut: 0, topology: None, beside: None }
    }

    /// The checkers of this group.
    pub fn judges(&mut self) -> &mut Judges {
        &mut self.stage.judges
    }

    /// The drawn clients of this group.
    pub fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// The counts, and the hash of all events so far.
    pub fn seen(&self) -> (Seen, Trace) {
        (self.stage.seen, self.stage.trace)
    }

    /// The virtual time of this group.
    pub fn now(&self) -> Micros {
        self.stage.now
    }

    /// Runs events until `end`, or until `done`, or until a violation. Returns true when `done`.
    pub fn run_until(&mut self, end: Micros, mut done: impl FnMut(&World) -> bool) -> bool {
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
        match self.stage.next(end) {
            None => return false,
            Some(Happened::Inside) => self.on_news(),
            Some(Happened::Cue(cue)) => self.on_cue(cue),
            Some(Happened::Heard(datagram)) => {
                let said = self.clients.hear(&datagram, self.stage.now, &mut self.stage.judges);
                said.into_iter().for_each(|datagram| self.stage.send_from_clients(datagram));
            }
        }
        true
    }

    /// Whether no client waits and all nodes have settled, in both groups.
    pub fn is_settled(&self) -> bool {
        self.clients.is_content() && self.stage.is_settled() && self.beside_has_settled()
    }

    /// From now on the clients of both groups send new requests, or none.
    pub fn ask(&mut self, asks: bool) {
        self.clients.ask(asks);
        self.beside(|other| other.ask(asks));
    }

    /// Whether the clients know which group they talk to.
    pub fn is_known(&self) -> bool {
        self.clients.know_group(self.stage.now)
    }

    /// The run is over: makes the checks that are possible only at the end.
    pub fn finish(&mut self) {
        let learned = self.learned();
        self.stage.judges.finish(&learned);
        if !self.is_beside_dead() {
            self.beside(World::finish);
        }
    }

    /// Whether its nodes have small bounds.
    pub fn has_small_bounds(&self) -> bool {
        self.plan.limits != Limits::USUAL
    }

    /// Whether a rolled back disk has split the log.
    pub fn is_split(&self) -> bool {
        self.stage.judges.is_split()
    }

    /// What the nodes have failed to detect after a rollback. `None` when nothing is missing.
    pub fn not_found(&self) -> Option<String> {
        self.stage.not_found()
    }

    /// Counts how the nodes detected a rolled back disk, and a split log if there is one.
    pub fn note_found(&mut self) {
        self.stage.count_barred();
        let is_told = self.stage.judges.is_told() || self.stage.seen.stopped > 0;
        self.stage.seen.splits += u64::from(self.is_split() && is_told);
        self.stage.seen.untold += u64::from(self.is_split() && !is_told);
    }

    /// Whether the group in force can decide anything. Operators and lost disks may have left too few members.
    pub fn is_alive(&self) -> bool {
        self.stage.is_alive()
    }

    /// The learned prefix of every node that should run.
    pub fn learned(&self) -> Vec<(u16, Instance)> {
        self.stage.learned()
    }

    /// The state of every node, and the last lines that were sent.
    pub fn view(&self) -> String {
        format!("{} requests open\n{}", self.clients.open(), self.stage.view())
    }

    fn on_cue(&mut self, cue: Cue) {
        match cue {
            Cue::Client(client) => self.client(client),
            Cue::Fault(at) => self.fault(at),
            Cue::Join(cut) if cut == self.cut => {
                self.stage.network.join();
                self.topology = None;
            }
            Cue::Join(_) => {}
            Cue::Wires(joined) => self.join_wires(joined && self.is_chaotic),
            Cue::Retire(id, life) => self.retire(id, life),
            Cue::Isolate(id, isolated) => self.stage.network.isolate(id, isolated && self.is_chaotic),
        }
    }

    fn on_news(&mut self) {
        for (id, event) in std::mem::take(&mut self.stage.news) {
            match event {
                Event::Left { .. } => {
                    let life = self.stage.machines[usize::from(id)].life;
                    self.stage.cue(self.stage.now, Cue::Retire(id, life));
                }
                Event::MayNotVote(_) => self.turned_away(id),
                _ => {}
            }
        }
    }

    fn client(&mut self, client: usize) {
        let (said, next) = self.clients.turn(client, self.stage.now, &mut self.stage.judges);
        said.into_iter().for_each(|datagram| self.stage.send_from_clients(datagram));
        self.stage.cue(next, Cue::Client(client));
    }
}
