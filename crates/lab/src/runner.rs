//! Plays one lab with one seed in one world, from the first node to the last judge.
//!
//! Owns the course of a play and its verdict. [`super::sweep`] decides how many plays there are, [`super::command`]
//! what is printed.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use mlua::{Lua, MultiValue};
use upaxos_core::types::{Micros, NodeId};

use super::api::registry::Held;
use super::api::{Group, TEST, beside, unfinished};
use super::backend::{Backend, BackendError, DiskFault, Fault, Setup, Start};
use super::error::{LabError, What};
use super::options::{self, Options};
use super::run::{PATIENCE, Run, Say};
use super::script::{Lab, Loaded, Script};
use super::verdict::{End, Verdict};

/// The time limit of a lab, unless its options name another.
const LIMIT: Micros = Micros::from_millis(300_000);

/// The constructor of a world.
pub type Open<'o> = &'o (dyn Fn(&Setup) -> Result<Box<dyn Backend>, BackendError> + Sync);

/// Which lab to play, and how.
pub struct Order<'o> {
    /// The loaded text of the script.
    pub script: &'o Script,
    /// The title of the lab in the script.
    pub title: &'o str,
    /// The seed of all chance.
    pub seed: u64,
    /// The directory in which the play is saved. `None`: nothing is saved.
    pub out: Option<PathBuf>,
    /// Receives the lines that the script prints.
    pub say: Say,
}

/// Plays the lab and returns its verdict.
///
/// # Errors
/// When no world is available, or the history cannot be saved.
pub fn play(order: &Order, open: Open) -> Result<Verdict, BackendError> {
    let began = Instant::now();
    let failed = |trouble| Ok(Verdict::failed(order.seed, trouble));
    let Loaded { lua, labs, steps } = match order.script.load(order.seed) {
        Ok(loaded) => loaded,
        Err(trouble) => return failed(trouble),
    };
    let Some(lab) = labs.iter().find(|lab| lab.title == order.title) else {
        let text = format!("{} declares no lab {:?}", order.script.name, order.title);
        return failed(LabError::misuse(text));
    };
    let wishes = match Wishes::read(&lua, lab, order.seed, order.out.is_some()) {
        Ok(wishes) => wishes,
        Err(error) => return failed(LabError::of(&error).at(lab.place.clone())),
    };
    let run = Rc::new(Run::new(
        open(&wishes.setup)?,
        wishes.setup.clone(),
        wishes.start.clone(),
        steps,
        order.say.clone(),
    ));
    lua.set_app_data(Rc::clone(&run));
    let _over = Over { run: &run, lua: &lua };
    let ended = wishes.missing(&run).map_or_else(|| course(&run, lab, &wishes), |why| Err(skip(why)));
    let end = match ended {
        Ok(()) => End::Passed,
        Err(LabError { what: What::Skip(reason), .. }) => End::Skipped(reason),
        Err(trouble) => End::Failed { trouble, views: run.look(|world| world.describe()) },
    };
    if let Some(out) = &order.out {
        run.look(|world| world.save(out))?;
    }
    Ok(Verdict {
        seed: order.seed,
        end,
        said: Vec::new(),
        skips: run.skips(),
        acts: run.acts(),
        nodes: run.setup.nodes + run.setup.spares,
        asked: run.asked(),
        lasted: run.now(),
        took: began.elapsed(),
    })
}

/// Releases the run, and so its world, however a play ends. The rest of the script's state holds the run, and the
/// run holds that state: without this, neither would be freed.
struct Over<'o> {
    run: &'o Run,
    lua: &'o Lua,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.run.cancel_all();
        self.lua.remove_app_data::<Rc<Run>>();
    }
}

fn skip(why: String) -> LabError {
    LabError { place: None, what: What::Skip(why) }
}

/// Runs the lab itself: its nodes, its body, its judges.
fn course(run: &Rc<Run>, lab: &Lab, wishes: &Wishes) -> Result<(), LabError> {
    let end = run.now() + wishes.limit;
    for id in (0..run.setup.nodes).map(NodeId).filter(|_| wishes.starts) {
        run.note(Some(id), "start");
        run.act(|world| world.start(id, &run.started(id)))?;
    }
    let group = Held(Group { client: run.new_client() });
    let main = run.spawn(Box::pin(lab.body.call_async::<MultiValue>(group)));
    let played = run.play(main, end);
    run.cancel_all();
    played?;
    unfinished(run).map_or(Ok(()), Err)?;
    run.loads.borrow_mut().stop_all(run.now());
    if !run.is_checked() {
        run.check(PATIENCE).map_err(|trouble| trouble.at(lab.place.clone()))?;
    }
    Ok(())
}

/// The parsed options of a lab.
struct Wishes {
    setup: Setup,
    start: Start,
    starts: bool,
    limit: Micros,
    needs: Vec<(String, Fault)>,
}

impl Wishes {
    fn read(lua: &Lua, lab: &Lab, seed: u64, records: bool) -> mlua::Result<Wishes> {
        const BEAT: Micros = Micros::from_millis(100);
        let options = Options::read(lua, &TEST, lab.options.clone())?;
        let nodes = options.get::<u16>("nodes")?.unwrap_or(3);
        let spares = options.get::<u16>("spares")?.unwrap_or(0);
        if !(1..=9).contains(&nodes) || spares > 16 - nodes {
            let text =
                format!("a lab has 1 to 9 nodes, and 16 with its spares, not {nodes} and {spares} spares");
            return Err(LabError::misuse(text).into());
        }
        let hooks = options.get::<Vec<String>>("hooks")?.unwrap_or_default();
        let scripts = hooks.iter().map(|hook| beside(lua, hook)).collect::<Result<_, _>>()?;
        let classic = options.get("classic")?.unwrap_or(false);
        let beat = options.time("beat")?.unwrap_or(BEAT);
        Ok(Wishes {
            setup: Setup { nodes, spares, seed, beat, classic, records },
            start: Start { joins: None, scripts, fast_read: options.get("fast_read")?.unwrap_or(false) },
            starts: options.get("start")?.unwrap_or(true),
            limit: options.time("limit")?.unwrap_or(LIMIT),
            needs: needs(&options.get::<Vec<String>>("needs")?.unwrap_or_default())?,
        })
    }

    /// Why the lab cannot be played in this world, if it cannot.
    fn missing(&self, run: &Run) -> Option<String> {
        self.needs.iter().find_map(|(name, fault)| {
            let lacks = run.look(|world| world.lacks(*fault))?;
            Some(format!("it needs {name}: {}", lacks.0))
        })
    }
}

fn needs(names: &[String]) -> Result<Vec<(String, Fault)>, LabError> {
    const KNOWN: [(&str, Fault); 4] = [
        ("processes", Fault::Processes),
        ("links", Fault::Links),
        ("corruption", Fault::Corruption),
        ("disk", Fault::Disk(DiskFault::Slow(Micros(1)))),
    ];
    let fault = |name: &String| {
        let found = KNOWN.iter().find(|(known, _)| known == name);
        let unknown = || options::unknown("need", name, KNOWN.iter().map(|(known, _)| *known));
        Ok((name.clone(), found.ok_or_else(|| LabError::misuse(unknown()))?.1))
    };
    names.iter().map(fault).collect()
}
