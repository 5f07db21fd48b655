//! A node as a script sees it: acts on it, and observations of it.

use mlua::{Lua, Table};
use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::Stance;

use super::args::{WITHIN, Who, record};
use super::folder::beside;
use super::objects::Node;
use super::registry::{Class, Registry, doc};
use super::run;
use crate::backend::{DiskFault, Fault, NodeState, Start, View};
use crate::error::{LabError, Place};
use crate::options::{Keys, Options, seconds};
use crate::run::{PATIENCE, Run};

/// The options of starting a node.
pub const START: Keys = Keys {
    name: "StartOptions",
    keys: &[
        ("joins", "boolean", "whether it joins the running group [false; true for a spare]"),
        ("replaces", "Node|integer", "the member that it replaces"),
        ("hooks", "string[]", "its hook scripts, instead of those of the lab"),
        ("fast_read", "boolean", "whether its untagged reads are fast reads [the lab's option]"),
    ],
};

/// The options of joining.
pub const JOIN: Keys = Keys {
    name: "JoinOptions",
    keys: &[
        ("replaces", "Node|integer", "the member that it replaces"),
        ("hooks", "string[]", "its hook scripts, instead of those of the lab"),
        ("within", "Time", "how long it may take until it votes [\"20s\"]"),
    ],
};

/// The faults of a disk.
pub const DISK: Keys = Keys {
    name: "DiskOptions",
    keys: &[
        ("slow", "Time", "every sync takes this much longer"),
        ("sync_fails", "boolean", "the next sync fails, as with EIO"),
        ("full", "boolean", "the next write fails, as on a full disk"),
    ],
};

/// The fields of a node's status.
pub const STATUS: Keys = Keys {
    name: "Status",
    keys: &[
        ("state", "\"runs\"|\"paused\"|\"down\"|\"ended\"", "the state of its process; `ended`: by itself"),
        ("exit", "integer?", "its exit status, if it ended by itself"),
        ("words", "string?", "its last words"),
        ("stance", "\"leads\"|\"seeks\"|\"follows\"|\"waits\"|\"learns\"|nil", "its stance in its last beat"),
        ("ballot", "string?", "the highest ballot that it knows"),
        ("learned", "integer", "its durably learned prefix"),
        ("heard", "integer[]", "the nodes that it hears"),
        ("diverged", "string?", "its report of states that differ"),
    ],
};

/// How long a node may take to shut down cleanly before that counts as a failure.
const GOODBYE: Micros = Micros::from_millis(10_000);

impl Class for Node {
    const NAME: &'static str = "Node";
    const TEXT: &'static str = "A node of the lab, whether it runs or not.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        registry.field(doc("id", "integer", "Its id."), |_, node| Ok(node.0.0));
        describe_acts(registry);
        describe_sights(registry);
    }

    fn show(&self) -> String {
        format!("node {}", self.0)
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

fn describe_acts<R: Registry<Node>>(registry: &mut R) {
    let text = "Starts it on its disk, or on a new one if it has none.";
    registry.method(doc("start", "(options?: StartOptions)", text), |lua, node, options: Option<Table>| {
        let options = Options::read(lua, &START, options)?;
        let run = run(lua)?;
        let is_spare = node.0.0 >= run.setup.nodes;
        let joins = options.get("joins")?.unwrap_or(is_spare);
        node.start(lua, &run, &options, joins, options.get("fast_read")?)
    });
    let text = "Shuts it down cleanly, and waits until it has ended.";
    registry.blocking(doc("stop", "(): boolean", text), |lua, node, (), place| async move {
        let run = run(&lua)?;
        node.stop(&run, place).await
    });
    let text = "Ends it between two instructions (kill -9). Writes that it had not synced may be lost.";
    registry.method(doc("crash", "(): boolean", text), |lua, node, ()| {
        node.process(lua, "crash", |run| run.act(|world| world.crash(node.0)))
    });
    let text = "Pauses it: it is alive and silent, and does not notice the pause.";
    registry.method(doc("pause", "(): boolean", text), |lua, node, ()| {
        node.process(lua, "pause", |run| run.act(|world| world.pause(node.0)))
    });
    registry.method(doc("resume", "(): boolean", "Ends a pause."), |lua, node, ()| {
        node.process(lua, "resume", |run| run.act(|world| world.resume(node.0)))
    });
    let text = "Shuts it down cleanly if it runs, and starts it again.";
    registry.blocking(doc("restart", "(): boolean", text), |lua, node, (), place| async move {
        let run = run(&lua)?;
        let has_ended = node.is_down(&run) || node.stop(&run, place).await?;
        if has_ended {
            run.note(Some(node.0), "start again");
            run.act(|world| world.start(node.0, &run.started(node.0)))?;
        }
        Ok(has_ended)
    });
    let text = "Removes its disk while it is down: it will start with an empty one.";
    registry.method(doc("wipe", "(): boolean", text), |lua, node, ()| {
        node.process(lua, "wipe", |run| run.act(|world| world.wipe(node.0)))
    });
    let text = "Makes its disk fail in this way from now on. Without options the fault ends.";
    registry
        .method(doc("disk", "(fault?: DiskOptions): boolean", text), |lua, node, options: Option<Table>| {
            node.disk(lua, &Options::read(lua, &DISK, options)?)
        });
    let text = "Starts it to join the group, and waits until it votes.";
    registry.blocking(doc("join", "(options?: JoinOptions)", text), |lua, node, options, place| async move {
        let options = Options::read(&lua, &JOIN, options)?;
        let run = run(&lua)?;
        node.start(&lua, &run, &options, true, None)?;
        let within = options.time("within")?.unwrap_or(PATIENCE);
        let votes = |view: &View| !matches!(view.stance, None | Some(Stance::Learns));
        node.until(&run, within, "to be a member", place, votes).await
    });
}

fn describe_sights<R: Registry<Node>>(registry: &mut R) {
    let text = "Its status now. The protocol state comes from its last beat.";
    registry.method(doc("status", "(): Status", text), |lua, node, ()| {
        status(lua, &run(lua)?.look(|world| world.view(node.0)))
    });
    registry.method(doc("leads", "(): boolean", "Whether it claims to lead."), |lua, node, ()| {
        Ok(run(lua)?.look(|world| world.view(node.0)).stance == Some(Stance::Leads))
    });
    let text = "Waits until it has durably learned an instance.";
    registry.blocking(
        doc("wait_learned", "(instance: integer, options?: WaitOptions)", text),
        |lua, node, (instance, options): (u64, Option<Table>), place| async move {
            let within = Options::read(&lua, &WITHIN, options)?.time("within")?.unwrap_or(PATIENCE);
            let what = format!("to have learned {instance}");
            let has = move |view: &View| view.learned >= Instance(instance);
            node.until(&*run(&lua)?, within, &what, place, has).await
        },
    );
    let text = "Waits until it has ended by itself, and returns its status.";
    registry.blocking(
        doc("wait_ended", "(options?: WaitOptions): Status", text),
        |lua, node, options, place| async move {
            let within = Options::read(&lua, &WITHIN, options)?.time("within")?.unwrap_or(PATIENCE);
            let run = run(&lua)?;
            let has_ended = |view: &View| matches!(view.state, NodeState::Ended(..));
            node.until(&run, within, "to end by itself", place, has_ended).await?;
            status(&lua, &run.look(|world| world.view(node.0)))
        },
    );
}

impl Node {
    fn is_down(self, run: &Run) -> bool {
        matches!(run.look(|world| world.view(self.0)).state, NodeState::Down | NodeState::Ended(..))
    }

    /// Acts on the node's process, if the world supports that.
    fn process(
        self,
        lua: &Lua,
        what: &str,
        act: impl FnOnce(&Run) -> Result<(), LabError>,
    ) -> mlua::Result<bool> {
        let run = run(lua)?;
        if !run.has(Fault::Processes, what) {
            return Ok(false);
        }
        run.note(Some(self.0), what);
        act(&run)?;
        Ok(true)
    }

    fn start(
        self,
        lua: &Lua,
        run: &Run,
        options: &Options,
        joins: bool,
        fast_read: Option<bool>,
    ) -> mlua::Result<()> {
        let replaces = options.get::<Who>("replaces")?.map(|old| old.0);
        if replaces.is_some() && !joins {
            return Err(LabError::misuse("a node that replaces another must join: add `joins = true`").into());
        }
        let mut start = Start { joins: joins.then_some(replaces), ..run.defaults.clone() };
        if let Some(hooks) = options.get::<Vec<String>>("hooks")? {
            start.scripts = hooks.iter().map(|hook| beside(lua, hook)).collect::<Result<_, _>>()?;
        }
        start.fast_read = fast_read.unwrap_or(start.fast_read);
        run.note(Some(self.0), if joins { "start to join" } else { "start" });
        run.act(|world| world.start(self.0, &start))?;
        run.note_start(self.0, start);
        Ok(())
    }

    async fn stop(self, run: &Run, place: Option<Place>) -> mlua::Result<bool> {
        if !run.has(Fault::Processes, "stop") {
            return Ok(false);
        }
        run.note(Some(self.0), "stop");
        run.act(|world| world.stop(self.0))?;
        let is_down = |view: &View| !matches!(view.state, NodeState::Runs | NodeState::Paused);
        self.until(run, GOODBYE, "to have ended", place, is_down).await?;
        Ok(true)
    }

    /// Waits until the view of the node satisfies `holds`.
    async fn until(
        self,
        run: &Run,
        within: Micros,
        what: &str,
        place: Option<Place>,
        holds: impl Fn(&View) -> bool,
    ) -> mlua::Result<()> {
        let end = run.now() + within;
        loop {
            let view = run.look(|world| world.view(self.0));
            if holds(&view) {
                return Ok(());
            }
            if run.now() >= end {
                let expected = format!("node {} {what} within {}", self.0, seconds(within));
                return Err(LabError::expected(expected, seen(&view)).into());
            }
            run.wait_for_change(end, place.clone()).await;
        }
    }

    fn disk(self, lua: &Lua, options: &Options) -> mlua::Result<bool> {
        let slow = options.time("slow")?.map(DiskFault::Slow);
        let fails = options.get::<bool>("sync_fails")?.filter(|fails| *fails).map(|_| DiskFault::SyncFails);
        let full = options.get::<bool>("full")?.filter(|full| *full).map(|_| DiskFault::Full);
        let faults: Vec<DiskFault> = [slow, fails, full].into_iter().flatten().collect();
        let fault = match faults[..] {
            [] => None,
            [fault] => Some(fault),
            _ => {
                return Err(
                    LabError::misuse("a disk has one fault at a time: give one of the options").into()
                );
            }
        };
        let run = run(lua)?;
        if fault.is_some_and(|fault| !run.has(Fault::Disk(fault), "disk fault")) {
            return Ok(false);
        }
        run.note(Some(self.0), disk_words(fault));
        run.act(|world| world.disk(self.0, fault))?;
        Ok(true)
    }
}

/// The fault of a disk, in a few words.
fn disk_words(fault: Option<DiskFault>) -> String {
    match fault {
        None => "disk: good again".into(),
        Some(DiskFault::Slow(by)) => format!("disk: syncs take {} longer", seconds(by)),
        Some(DiskFault::SyncFails) => "disk: the next sync fails".into(),
        Some(DiskFault::Full) => "disk: the next write fails".into(),
    }
}

/// A view in a few words, for messages.
fn seen(view: &View) -> String {
    match &view.state {
        NodeState::Ended(status, words) => format!("it ended with status {status}: {words}"),
        NodeState::Down => "it is down".into(),
        NodeState::Paused => "it is paused".into(),
        NodeState::Runs => {
            let stance = view.stance.map_or("is silent", Stance::word);
            format!("it {stance}, and has learned {}", view.learned)
        }
    }
}

/// A view as a table for scripts.
fn status(lua: &Lua, view: &View) -> mlua::Result<Table> {
    let table = record(lua, &STATUS)?;
    let state = match &view.state {
        NodeState::Down => "down",
        NodeState::Runs => "runs",
        NodeState::Paused => "paused",
        NodeState::Ended(status, words) => {
            table.set("exit", *status)?;
            table.set("words", words.as_str())?;
            "ended"
        }
    };
    table.set("state", state)?;
    table.set("stance", view.stance.map(Stance::word))?;
    table.set("ballot", view.ballot.map(|ballot| ballot.to_string()))?;
    table.set("learned", view.learned.0)?;
    table.set("heard", view.heard.iter().map(|id| id.0).collect::<Vec<_>>())?;
    table.set("diverged", view.diverged.as_deref())?;
    Ok(table)
}
