//! One lab being played: its world, its clock, and who waits for what.
//!
//! Owns the world for the time of the play, and is shared by everything that scripts can hold. The one rule
//! that makes scripts mean the same in virtual and in real time stands here: nobody blocks but [`Run::wait`],
//! and time passes only when every task of the script waits. Tasks go on in the order in which they began, so
//! that a simulated run repeats. Knows no Lua beyond the results that tasks leave.

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

use super::links::Links;
use super::load::Loads;
use super::trouble::{Place, Trouble};
use super::world::{Fault, Settled, Setup, Start, Ticket, World, WorldError};

/// How long any wait takes at most, unless the script says otherwise.
pub const PATIENCE: Micros = Micros::from_millis(20_000);

/// How often a condition is looked at that no world can report on, such as the script's own variables.
const GLANCE: Micros = Micros::from_millis(20);

/// Where what a script prints goes.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What is shared by all parts of a lab that is being played.
pub struct Run {
    /// What the world was made for.
    pub setup: Setup,
    /// What the script prints.
    pub say: Say,
    /// The name of the world.
    pub world_name: &'static str,
    /// What was set on the links.
    pub links: RefCell<Links>,
    /// The loads that the script has begun.
    pub loads: RefCell<Loads>,
    /// The steps that the script has taken since it last waited.
    pub steps: Rc<Cell<u64>>,
    /// The expectations that were begun; each is judged, or the lab says nothing with it.
    pub expectations: RefCell<Vec<Begun>>,
    /// How nodes are started, as the lab's options say.
    pub defaults: Start,
    starts: RefCell<BTreeMap<NodeId, Start>>,
    world: RefCell<Box<dyn World>>,
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

/// An expectation, from its beginning on.
pub struct Begun {
    /// Whether it was judged.
    pub is_judged: Rc<Cell<bool>>,
    /// Where it began.
    pub place: Option<Place>,
}

/// Something that the script did to a node, or to the network, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: Micros,
    /// To which node, if it was one.
    pub node: Option<NodeId>,
    /// What, beginning with the name of the function.
    pub what: String,
}

/// A task of the script, by its number; they go on in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(u64);

type Body = Pin<Box<dyn Future<Output = mlua::Result<MultiValue>>>>;

struct Task {
    /// What is left to do; nothing while it is being done, and afterwards.
    body: Option<Body>,
    wake: Wake,
    /// How often something had happened when it began to wait.
    changes: u64,
    place: Option<Place>,
    result: Option<MultiValue>,
}

/// What a task waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    /// Until then at most.
    pub at: Micros,
    /// For what besides.
    pub on: On,
}

/// What a task waits for besides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Nothing.
    Nothing,
    /// This answer.
    Answer(Ticket),
    /// The end of that task.
    End(TaskId),
    /// Whatever happens.
    Anything,
}

impl Run {
    /// A play in this world, in which nothing has happened yet.
    pub fn new(world: Box<dyn World>, setup: Setup, defaults: Start, steps: Rc<Cell<u64>>, say: Say) -> Run {
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

    /// What the clock of the world shows.
    pub fn now(&self) -> Micros {
        self.world.borrow().now()
    }

    /// Looks at the world.
    pub fn look<T>(&self, look: impl FnOnce(&dyn World) -> T) -> T {
        look(&**self.world.borrow())
    }

    /// Does something to the world, which will have to be checked after it.
    ///
    /// # Errors
    /// As the act.
    pub fn act<T>(&self, act: impl FnOnce(&mut dyn World) -> Result<T, WorldError>) -> Result<T, Trouble> {
        self.is_checked.set(false);
        act(&mut **self.world.borrow_mut()).map_err(Trouble::from)
    }

    /// Whether the world has this fault; if not, that it was skipped is noted with the reason.
    pub fn has(&self, fault: Fault, what: &str) -> bool {
        let lacks = self.look(|world| world.lacks(fault));
        if let Some(lacks) = &lacks {
            *self.skips.borrow_mut().entry(format!("{what}: {}", lacks.0)).or_default() += 1;
        }
        lacks.is_none()
    }

    /// What was skipped, and how often.
    pub fn skips(&self) -> BTreeMap<String, u64> {
        self.skips.borrow().clone()
    }

    /// Notes for the report what is done to a node, or to the network.
    pub fn note(&self, node: Option<NodeId>, what: impl Into<String>) {
        self.acts.borrow_mut().push(Act { at: self.now(), node, what: what.into() });
    }

    /// What was done to nodes and to the network.
    pub fn acts(&self) -> Vec<Act> {
        self.acts.borrow().clone()
    }

    /// How many questions were asked.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// How a node was started last, or would be.
    pub fn started(&self, node: NodeId) -> Start {
        self.starts.borrow().get(&node).cloned().unwrap_or_else(|| self.defaults.clone())
    }

    /// Notes how a node was started.
    pub fn note_start(&self, node: NodeId, start: Start) {
        self.starts.borrow_mut().insert(node, start);
    }

    /// A number that no client of this lab has had.
    pub fn new_client(&self) -> u64 {
        self.clients.replace(self.clients.get() + 1)
    }

    /// A client asks.
    ///
    /// # Errors
    /// As [`World::ask`].
    pub fn ask(&self, client: u64, ask: Ask, patience: Micros) -> Result<Ticket, Trouble> {
        self.asked.set(self.asked.get() + 1);
        self.act(|world| world.ask(client, ask, patience))
    }

    /// The answer, if it has come; it is handed out once.
    pub fn take_answer(&self, ticket: Ticket) -> Option<Settled> {
        self.answers.borrow_mut().remove(&ticket)
    }

    /// Whether everything that was done has been judged.
    pub fn is_checked(&self) -> bool {
        self.is_checked.get()
    }

    /// Judges everything; the script may go on afterwards.
    ///
    /// # Errors
    /// At the first violation, or when the world broke.
    pub fn check(&self, patience: Micros) -> Result<(), Trouble> {
        self.loads.borrow_mut().stop_all(self.now());
        self.note(None, "check");
        *self.links.borrow_mut() = Links::new(self.setup.nodes + self.setup.spares);
        let violations = self.act(|world| world.check(patience));
        self.collect();
        if let Some(violation) = violations?.into_iter().next() {
            return Err(WorldError::Violated(violation).into());
        }
        self.is_checked.set(true);
        Ok(())
    }

    /// Begins another task, which goes on when everybody before it waits.
    pub fn spawn(&self, body: Body) -> TaskId {
        let id = TaskId(self.count.replace(self.count.get() + 1));
        let wake = Wake { at: Micros(0), on: On::Nothing };
        let task = Task { body: Some(body), wake, changes: 0, place: None, result: None };
        self.tasks.borrow_mut().insert(id, task);
        id
    }

    /// Ends a task where it waits.
    pub fn cancel(&self, id: TaskId) {
        // Bound to a name: what it drops may look at the tasks again.
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

    /// What a task has come to, once it has ended.
    pub fn result(&self, id: TaskId) -> Option<MultiValue> {
        self.tasks.borrow().get(&id).and_then(|task| task.result.clone())
    }

    /// The task that is at work.
    pub fn current(&self) -> TaskId {
        self.current.get()
    }

    /// Lets the task that is at work wait. Comes back when `wake` says so, and never before.
    pub async fn wait(&self, wake: Wake, place: Option<Place>) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(&self.current.get()) {
            task.wake = wake;
            task.changes = self.changes.get();
            task.place = place;
        }
        Once(false).await;
    }

    /// Waits until something has happened that a condition might depend on, and at the latest until `end`.
    pub async fn wait_for_change(&self, end: Micros, place: Option<Place>) {
        let at = end.min(self.now() + GLANCE);
        self.wait(Wake { at, on: On::Anything }, place).await;
    }

    /// Plays until a task has ended, and at the latest until `end`.
    ///
    /// # Errors
    /// At the first task that fails, when the world broke or objects, or when the time is over.
    pub fn play(&self, main: TaskId, end: Micros) -> Result<(), Trouble> {
        loop {
            while let Some(id) = self.ready() {
                self.go_on(id).map_err(|error| Trouble::of(&error))?;
                if self.result(main).is_some() {
                    return Ok(());
                }
            }
            Loads::drive(self)?;
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

    /// Lets time pass, and takes the answers that it brings.
    fn pass(&self, until: Micros) -> Result<(), Trouble> {
        let stepped = self.world.borrow_mut().step(until);
        self.collect();
        stepped.map_err(Trouble::from)
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
        // It may have ended itself meanwhile.
        let Some(task) = tasks.get_mut(&id).filter(|task| task.result.is_none()) else { return Ok(()) };
        match polled {
            Poll::Pending => task.body = Some(body),
            Poll::Ready(result) => task.result = Some(result?),
        }
        Ok(())
    }

    /// Where a task waits.
    fn place(&self, id: TaskId) -> Option<Place> {
        self.tasks.borrow().get(&id).and_then(|task| task.place.clone())
    }

    fn too_late(&self, main: TaskId, end: Micros) -> Trouble {
        let text = format!(
            "cannot wait any longer: the lab is not done after {} s; say `limit` in its options if it needs more",
            end.0 / 1_000_000
        );
        Trouble::misuse(text).at(self.place(main))
    }
}

/// Waits once.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}
