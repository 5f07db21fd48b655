//! Loads as a script sees them.

use mlua::{Lua, Table, Value};
use upaxos_core::types::Micros;

use super::args::record;
use super::objects::Group;
use super::registry::{Class, Held, Registry, doc};
use super::requests::ANSWERED;
use super::run;
use crate::error::{LabError, Place};
use crate::load::{Figures, KINDS, Kind, Plan};
use crate::options::{self, Keys, Options};
use crate::run::{PATIENCE, Run};

/// The options of a load.
pub const LOAD: Keys = Keys {
    name: "LoadOptions",
    keys: &[
        ("clients", "integer", "the number of clients, each a session of its own [4]"),
        (
            "rate",
            "number",
            "requests per second, of all clients together [each sends its next request after an answer]",
        ),
        (
            "mix",
            "table<string, integer>",
            "kinds of requests, by weight: write, read, fast_read, history [{write = 1}]",
        ),
        ("count", "integer", "the maximum number of requests [no limit]"),
        ("lasts", "Time", "how long it sends requests [no limit]"),
        ANSWERED,
        ("name", "string", "the prefix of its values [\"load1\", \"load2\", …]"),
    ],
};

/// The figures of a load.
pub const SUMMARY: Keys = Keys {
    name: "Summary",
    keys: &[
        ("asked", "integer", "the number of requests"),
        ("ok", "integer", "how many were carried out or answered"),
        ("refused", "integer", "how many were refused"),
        ("unknown", "integer", "how many have an unknown outcome"),
        ("open", "integer", "how many are in flight"),
        ("seconds", "number", "how long it has lasted"),
        ("rate", "number", "how many per second were ok"),
        ("longest_gap", "number", "the longest time without an answer `ok`, in seconds"),
        ("p50", "number", "the median latency, in seconds"),
        ("p99", "number", "the 99th percentile of the latency, in seconds"),
        ("longest", "number", "the maximum latency, in seconds"),
        ("highest", "integer", "the highest acknowledged instance"),
    ],
};

/// A load, by its number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load(usize);

impl Class for Load {
    const NAME: &'static str = "Load";
    const TEXT: &'static str = "Clients that send requests while the script does other things.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        let text = "Whether it sends no more requests, and every request has ended.";
        registry
            .field(doc("done", "boolean", text), |lua, load| Ok(run(lua)?.loads.borrow().is_done(load.0)));
        registry.method(doc("summary", "(): Summary", "Its figures so far."), |lua, load, ()| {
            let run = run(lua)?;
            let figures = run.loads.borrow().figures(load.0, run.now());
            summary(lua, &figures)
        });
        let text = "Stops new requests, and waits until all have ended.";
        registry.blocking(doc("stop", "(): Summary", text), |lua, load, (), place| async move {
            let run = run(&lua)?;
            run.loads.borrow_mut().stop(load.0, run.now());
            load.finish(&lua, &run, place).await
        });
        let text = "Waits until it is done: for a load with `count` or `lasts`.";
        registry.blocking(doc("await", "(): Summary", text), |lua, load, (), place| async move {
            load.finish(&lua, &*run(&lua)?, place).await
        });
    }

    fn show(&self) -> String {
        format!("load {}", self.0 + 1)
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Load {
    async fn finish(self, lua: &Lua, run: &Run, place: Option<Place>) -> mlua::Result<Table> {
        while !run.loads.borrow().is_done(self.0) {
            run.wait_for_change(Micros(u64::MAX), place.clone()).await;
        }
        let figures = run.loads.borrow().figures(self.0, run.now());
        summary(lua, &figures)
    }
}

/// Registers the methods that start loads.
pub fn describe<R: Registry<Group>>(registry: &mut R) {
    let text = "Starts a load, and returns at once.";
    registry.method(doc("load", "(options?: LoadOptions): Load", text), |lua, _, options: Option<Table>| {
        let options = Options::read(lua, &LOAD, options)?;
        let run = run(lua)?;
        let clients = options.get("clients")?.unwrap_or(4);
        let plan = plan(&run, &options, clients)?;
        let (seed, now) = (run.setup.seed, run.now());
        Ok(Held(Load(run.loads.borrow_mut().begin(plan, seed, now))))
    });
    let text = "Sends `count` requests at once, by one client each, and waits until all have ended.";
    registry.blocking(
        doc("burst", "(count: integer, options?: LoadOptions): Summary", text),
        |lua, _, (count, options): (u64, Option<Table>), place| async move {
            let options = Options::read(&lua, &LOAD, options)?;
            for given in ["clients", "count"] {
                if options.get::<Value>(given)?.is_some() {
                    let text =
                        format!("a burst has `{count}` requests, by one client each: leave `{given}` out");
                    return Err(LabError::misuse(text).into());
                }
            }
            let run = run(&lua)?;
            let plan = Plan { count: Some(count), ..plan(&run, &options, count)? };
            let (seed, now) = (run.setup.seed, run.now());
            let load = Load(run.loads.borrow_mut().begin(plan, seed, now));
            load.finish(&lua, &run, place).await
        },
    );
}

fn plan(run: &Run, options: &Options, clients: u64) -> mlua::Result<Plan> {
    const MOST: u64 = 10_000;
    if !(1..=MOST).contains(&clients) {
        return Err(LabError::misuse(format!("a load has 1 to {MOST} clients, not {clients}")).into());
    }
    let interval = match options.get::<f64>("rate")? {
        Some(rate) if rate > 0.0 => Some(Micros((1e6 / rate).max(1.0) as u64)),
        Some(rate) => return Err(LabError::misuse(format!("a rate is above 0, not {rate}")).into()),
        None => None,
    };
    let number = run.loads.borrow().count() + 1;
    Ok(Plan {
        name: options.get("name")?.unwrap_or_else(|| format!("load{number}")),
        clients: (0..clients).map(|_| run.new_client()).collect(),
        interval,
        mix: options.get::<Table>("mix")?.map_or(Ok(vec![(Kind::Write, 1)]), |mix| self::mix(&mix))?,
        count: options.get("count")?,
        end: options.time("lasts")?.map(|lasts| run.now() + lasts),
        patience: options.time("within")?.unwrap_or(PATIENCE),
    })
}

/// Reads the mix in the order of [`KINDS`], because a Lua table has no order.
fn mix(table: &Table) -> mlua::Result<Vec<(Kind, u32)>> {
    let names = KINDS.iter().map(|(name, _)| *name);
    for pair in table.pairs::<Value, Value>() {
        let key = pair?.0.to_string()?;
        if !names.clone().any(|name| name == key) {
            return Err(LabError::misuse(options::unknown("kind of question", &key, names)).into());
        }
    }
    let mut mix = Vec::new();
    for (name, kind) in KINDS {
        mix.extend(table.raw_get::<Option<u32>>(name)?.map(|weight| (kind, weight)));
    }
    if mix.iter().all(|(_, weight)| *weight == 0) {
        let text = "a mix with no weight above 0 asks nothing: {write = 3, read = 1}, for example";
        return Err(LabError::misuse(text).into());
    }
    Ok(mix)
}

fn summary(lua: &Lua, figures: &Figures) -> mlua::Result<Table> {
    let table = record(lua, &SUMMARY)?;
    let seconds = |length: Micros| length.0 as f64 / 1e6;
    for (name, count) in [
        ("asked", figures.asked),
        ("ok", figures.ok),
        ("refused", figures.refused),
        ("unknown", figures.unknown),
        ("open", figures.open),
        ("highest", figures.highest.0),
    ] {
        table.set(name, count)?;
    }
    for (name, length) in [
        ("seconds", figures.lasted),
        ("longest_gap", figures.longest_gap),
        ("p50", figures.p50),
        ("p99", figures.p99),
        ("longest", figures.longest),
    ] {
        table.set(name, seconds(length))?;
    }
    table.set("rate", figures.ok as f64 / seconds(figures.lasted).max(1e-6))?;
    Ok(table)
}
