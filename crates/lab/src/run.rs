//! One lab in play: its world, its clock, and its waiting tasks.
//!
//! Owns the world during the play. Every object that scripts hold shares it. It enforces the one rule that makes
//! scripts mean the same in virtual and in real time: only [`Run::wait`] blocks, and time passes only when every
//! task of the script waits. Tasks continue in the order in which they started, so a simulated run repeats. It
//! knows no Lua beyond the results of tasks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mlua::MultiValue;
use upaxos_core::client::Ask;
use upaxos_core::types::{Micros, NodeId};

use super::backend::{Backend, BackendError, Fault, Settled, Setup, Start, Ticket};
use super::error::{LabError, Place};
use super::links::Links;
use super::load::Loads;

/// The time limit of any wait, unless the script names another.
pub const PATIENCE: Micros = Micros::from_millis(20_000);

/// How often to re-check a condition that no world reports, such as the script's own variables.
const GLANCE: Micros = Micros::from_millis(20);

/// Receives the lines that a script prints.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// The state that all parts of a lab in play share.
pub struct Run {
    /// The parameters of the world.
    pub setup: Setup,
    /// Receives the lines that the script prints.
    pub say: Say,
    /// The name of the world.
    pub world_name: &'static str,
    /// The current settings of the links.
    pub links: RefCell<Links>,
    /// The loads that the script has started.
    pub loads: RefCell<Loads>,
    /// The steps that the script has taken since its last wait.
    pub steps: Rc<Cell<u64>>,
    /// The expectations that were started. Each must be judged, or the lab tests nothing with it.
    pub expectations: RefCell<Vec<Begun>>,
    /// The lab's default way to start nodes, from its options.
    pub defaults: Start,
    starts: RefCell<BTreeMap<NodeId, Start>>,
    world: RefCell<Box<dyn Backend>>,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    count: Cell<u64>,
    current: Cell<TaskId>,
    answers: RefCell<BTreeMap<Ticket, Settled>>,
    skips: RefCell<BTreeMap<String, u64>>,
    acts: RefCell<Vec<Act>>,
    clients: Cell<u64>,
    asked: Cell<u64>,
    changes: Cell<u64>,
    is_checked: Cell<bool>,
}

/// An expectation that has started.
pub struct Begun {
    /// Whether it has been judged.
    pub is_judged: Rc<Cell<bool>>,
    /// The line where it started.
    pub place: Option<Place>,
}

/// A script's act on a node or on the network, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The time on the clock of the world.
    pub at: Micros,
    /// The node, if the act concerns one.
    pub node: Option<NodeId>,
    /// A description that starts with the name of the function.
    pub what: String,
}

/// The number of a task of the script. Tasks continue in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(u64);

type Body = Pin<Box<dyn Future<Output = mlua::Result<MultiValue>>>>;

struct Task {
    /// The rest of the task. `None` while it runs, and after its end.
    body: Option<Body>,
    wake: Wake,
    /// The value of the run's change counter when it started to wait.
    changes: u64,
    place: Option<Place>,
    result: Option<MultiValue>,
}

/// The conditions under which a waiting task continues.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    /// The latest time at which it continues.
    pub at: Micros,
    /// The event that it waits for, besides time.
    pub on: On,
}

/// The event that a task waits for besides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// It waits for time only.
    Nothing,
    /// It waits for the answer with this ticket.
    Answer(Ticket),
    /// It waits for the end of this task.
    End(TaskId),
    /// It waits for any change in the world.
    Anything,
}

impl Run {
    /// A play in this world, before its first event.
    pub fn new(
        world: Box<dyn Backend>,
        setup: Setup,
        defaults: Start,
        steps: Rc<Cell<u64>>,
        say: Say,
    ) -> Run {
        Run {
            say,
            world_name: world.name(),
            links: RefCell::new(Links::new(setup.nodes + setup.spares)),
            loads: RefCell::default(),
            steps,
            expectations: RefCell::default(),
            defaults,
            starts: RefCell::default(),
            world: RefCell::new(world),
            tasks: RefCell::default(),
            count: Cell::new(0),
            current: Cell::default(),
            answers: RefCell::default(),
            skips: RefCell::default(),
            acts: RefCell::default(),
            clients: Cell::new(0),
            asked: Cell::new(0),
            changes: Cell::new(0),
            is_checked: Cell::new(false),
            setup,
        }
    }

    /// The current time on the clock of the world.
    pub fn now(&self) -> Micros {
        self.world.borrow().now()
    }

    /// Reads the world.
    pub fn look<T>(&self, look: impl FnOnce(&dyn Backend) -> T) -> T {
        look(&**self.world.borrow())
    }

    /// Changes the world. It has to be checked again afterwards.
    ///
    /// # Errors
    /// As the act.
    pub fn act<T>(
        &self,
        act: impl FnOnce(&mut dyn Backend) -> Result<T, BackendError>,
    ) -> Result<T, LabError> {
        self.is_checked.set(false);
        act(&mut **self.world.borrow_mut()).map_err(LabError::from)
    }

    /// Whether the world supports this fault. If not, records the skipped step with the reason.
    pub fn has(&self, fault: Fault, what: &str) -> bool {
        let lacks = self.look(|world| world.lacks(fault));
        if let Some(lacks) = &lacks {
            *self.skips.borrow_mut().entry(format!("{what}: {}", lacks.0)).or_default() += 1;
        }
        lacks.is_none()
    }

    /// The skipped steps, and how often each was skipped.
    pub fn skips(&self) -> BTreeMap<String, u64> {
        self.skips.borrow().clone()
    }

    /// Records an act on a node or on the network, for the report.
    pub fn note(&self, node: Option<NodeId>, what: impl Into<String>) {
        self.acts.borrow_mut().push(Act { at: self.now(), node, what: what.into() });
    }

    /// The acts on nodes and on the network so far.
    pub fn acts(&self) -> Vec<Act> {
        self.acts.borrow().clone()
    }

    /// The number of requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// How a node was last started, or would be started.
    pub fn started(&self, node: NodeId) -> Start {
        self.starts.borrow().get(&node).cloned().unwrap_or_else(|| self.defaults.clone())
    }

    /// Records how a node was started.
    pub fn note_start(&self, node: NodeId, start: Start) {
        self.starts.borrow_mut().insert(node, start);
    }

    /// A client number that is new in this lab.
    pub fn new_client(&self) -> u64 {
        self.clients.replace(self.clients.get() + 1)
    }

    /// Sends a client's request.
    ///
    /// # Errors
    /// As [`Backend::ask`].
    pub fn ask(&self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket, LabError> {
        self.asked.set(self.asked.get() + 1);
        self.act(|world| world.ask(client, ask, patience))
    }

    /// The answer, if it has arrived. Returned only once.
    pub fn take_answer(&self, ticket: Ticket) -> Option<Settled> {
        self.answers.borrow_mut().remove(&ticket)
    }

    /// Whether all acts so far have been judged.
    pub fn is_checked(&self) -> bool {
        self.is_checked.get()
    }

    /// Judges everything so far. The script may continue afterwards.
    ///
    /// # Errors
    /// At the first violation, or when the world broke.
    pub fn check(&self, patience: Micros) -> Result<(), LabError> {
        self.loads.borrow_mut().stop_all(self.now());
        self.note(None, "check");
        *self.links.borrow_mut() = Links::new(self.setup.nodes + self.setup.spares);
        let violations = self.act(|world| world.check(patience));
        self.collect();
        if let Some(violation) = violations?.into_iter().next() {
            return Err(BackendError::Violated(violation).into());
        }
        self.is_checked.set(true);
        Ok(())
    }

    /// Starts another task. It runs when every task before it waits.
    pub fn spawn(&self, body: Body) -> TaskId {
        let id = TaskId(self.count.replace(self.count.get() + 1));
        let wake = Wake { at: Micros(0), on: On::Nothing };
        let task = Task { body: Some(body), wake, changes: 0, place: None, result: None };
        self.tasks.borrow_mut().insert(id, task);
        id
    }

    /// Ends a waiting task.
    pub fn cancel(&self, id: TaskId) {
        // Bound to a name: dropping the body may access the tasks again.
        let body = self.tasks.borrow_mut().get_mut(&id).and_then(|task| {
            task.result.get_or_insert_with(MultiValue::new);
            task.body.take()
        });
        drop(body);
    }

    /// Ends all tasks.
    pub fn cancel_all(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
    }

    /// The result of a task, once it has ended.
    pub fn result(&self, id: TaskId) -> Option<MultiValue> {
        self.tasks.borrow().get(&id).and_then(|task| task.result.clone())
    }

    /// The running task.
    pub fn current(&self) -> TaskId {
        self.current.get()
    }

    /// Suspends the running task until `wake` applies.
    pub async fn wait(&self, wake: Wake, place: Option<Place>) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(&self.current.get()) {
            task.wake = wake;
            task.changes = self.changes.get();
            task.place = place;
        }
        Once(false).await;
    }

    /// Waits for an event that a condition might depend on, and at the latest until `end`.
    pub async fn wait_for_change(&self, end: Micros, place: Option<Place>) {
        let at = end.min(self.now() + GLANCE);
        self.wait(Wake { at, on: On::Anything }, place).await;
    }

    /// Plays until the task `main` has ended, and at the latest until `end`.
    ///
    /// # Errors
    /// At the first task that fails, when the world broke, at a violation, or when the time is over.
    pub fn play(&self, main: TaskId, end: Micros) -> Result<(), LabError> {
        loop {
            while let Some(id) = self.ready() {
                self.go_on(id).map_err(|error| LabError::of(&error))?;
                if self.result(main).is_some() {
                    return Ok(());
                }
            }
            self.send_loads()?;
            let now = self.now();
            if now >= end {
                return Err(self.too_late(main, end));
            }
            let wakes = self
                .tasks
                .borrow()
                .values()
                .filter(|task| task.body.is_some())
                .map(|task| task.wake.at)
                .min();
            let until = [wakes, self.loads.borrow().next_at()].into_iter().flatten().min();
            self.pass(until.unwrap_or(end).min(end)).map_err(|trouble| trouble.at(self.place(main)))?;
        }
    }

    /// Sends the requests of loads that are due.
    fn send_loads(&self) -> Result<(), LabError> {
        let now = self.now();
        let count = self.loads.borrow().count();
        for number in 0..count {
            loop {
                let next = self.loads.borrow_mut().next(number, now);
                let Some((client, ask, patience)) = next else { break };
                let ticket = self.ask(client, ask, patience)?;
                self.loads.borrow_mut().on_sent(ticket, number, client);
            }
        }
        Ok(())
    }

    /// Lets time pass, and collects the answers that arrive.
    fn pass(&self, until: Micros) -> Result<(), LabError> {
        let stepped = self.world.borrow_mut().step(until);
        self.collect();
        stepped.map_err(LabError::from)
    }

    fn collect(&self) {
        let settled = self.world.borrow_mut().settled();
        self.changes.set(self.changes.get() + 1);
        let now = self.now();
        for answer in settled {
            if let Some(answer) = self.loads.borrow_mut().take(answer, now) {
                self.answers.borrow_mut().insert(answer.ticket, answer);
            }
        }
    }

    fn ready(&self) -> Option<TaskId> {
        let now = self.now();
        let tasks = self.tasks.borrow();
        let is_ready = |task: &Task| match task.wake {
            Wake { at, .. } if at <= now => true,
            Wake { on: On::Anything, .. } => task.changes < self.changes.get(),
            Wake { on: On::Answer(ticket), .. } => self.answers.borrow().contains_key(&ticket),
            Wake { on: On::End(id), .. } => tasks.get(&id).is_none_or(|task| task.result.is_some()),
            Wake { on: On::Nothing, .. } => false,
        };
        tasks.iter().find(|(_, task)| task.body.is_some() && is_ready(task)).map(|(id, _)| *id)
    }

    fn go_on(&self, id: TaskId) -> mlua::Result<()> {
        let body = self.tasks.borrow_mut().get_mut(&id).and_then(|task| task.body.take());
        let Some(mut body) = body else { return Ok(()) };
        self.current.set(id);
        self.steps.set(0);
        let polled = body.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let mut tasks = self.tasks.borrow_mut();
        // It may have cancelled itself meanwhile.
        let Some(task) = tasks.get_mut(&id).filter(|task| task.result.is_none()) else { return Ok(()) };
        match polled {
            Poll::Pending => task.body = Some(body),
            Poll::Ready(result) => task.result = Some(result?),
        }
        Ok(())
    }

    /// The line where a task waits.
    fn place(&self, id: TaskId) -> Option<Place> {
        self.tasks.borrow().get(&id).and_then(|task| task.place.clone())
    }

    fn too_late(&self, main: TaskId, end: Micros) -> LabError {
        let text = format!(
            "cannot wait any longer: the lab is not done after {} s; set `limit` in its options if it needs more",
            end.0 / 1_000_000
        );
        LabError::misuse(text).at(self.place(main))
    }
}

/// A future that is pending once and then ready.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}
