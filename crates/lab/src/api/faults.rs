//! The faults of the network, as methods of the group.

use mlua::{Lua, Table, Variadic};
use upaxos_testbed::link::Link;

use super::args::{End, Ends, Who};
use super::objects::Group;
use super::registry::{Registry, doc};
use super::run;
use crate::backend::{Fault, Party};
use crate::error::LabError;
use crate::links::{self, Change, SHAPES};
use crate::options::{self, Keys, Options};
use crate::run::Run;

/// The options of [`Link`].
pub const LINK: Keys = Keys {
    name: "LinkOptions",
    keys: &[
        ("loss", "number", "the share of datagrams that are lost, 0 to 1"),
        ("duplicate", "number", "the share that arrive twice"),
        ("corrupt", "number", "the share that arrive with damaged bytes"),
        ("delay", "Time", "a fixed delay for every datagram"),
        (
            "reorder",
            "Time",
            "the maximum extra delay of each, so that datagrams overtake each other (jitter)",
        ),
        ("from", "End|End[]", "only links from these ends [all]"),
        ("to", "End|End[]", "only links to these ends [all]"),
    ],
};

/// The options of a named shape.
pub const SHAPE: Keys = Keys {
    name: "ShapeOptions",
    keys: &[
        ("center", "Node|integer", "the node at the center of the shape [0]"),
        (
            "old",
            "Node|integer",
            "for `constrained`: the node without a link to the center [the node after it]",
        ),
    ],
};

/// Registers the methods that change the network.
pub fn describe<R: Registry<Group>>(registry: &mut R) {
    let text = "Cuts the links between nodes so that each of these sides hears only itself. A node on no side is \
                alone. Replaces earlier cuts. Clients still reach all nodes.";
    registry.method(
        doc("partition", "(...: (Node|integer)[]): boolean", text),
        |lua, _, sides: Variadic<Vec<Who>>| {
            let run = run(lua)?;
            let sides: Vec<Vec<u16>> =
                sides.iter().map(|side| side.iter().map(|who| who.0.0).collect()).collect();
            if sides.is_empty() {
                return Err(LabError::misuse("a partition has sides: g:partition({0, 1}, {2})").into());
            }
            let together =
                move |from: u16, to: u16| sides.iter().any(|side| side.contains(&from) && side.contains(&to));
            faulty(&run, "partition", |links| links.shape(|from, to| !together(from, to)))
        },
    );
    let text = "Cuts the links between nodes into a named shape: alone, star, quorum_loss, constrained, chained, \
                ring. Replaces earlier cuts.";
    registry.method(
        doc("topology", "(name: string, options?: ShapeOptions): boolean", text),
        |lua, _, (name, options): (String, Option<Table>)| shape(lua, &name, options),
    );
    describe_cuts(registry);
    let text = "Sets how links behave from now on: all of them, or those between some ends. Cuts remain.";
    registry.method(doc("network", "(options: LinkOptions): boolean", text), |lua, _, options: Table| {
        behave(lua, &Options::read(lua, &LINK, Some(options))?)
    });
    let text = "Makes every link good: ends cuts, loss, delays, duplicates and damage.";
    registry.method(doc("heal", "()", text), |lua, _, ()| {
        let run = run(lua)?;
        let changes = run.links.borrow_mut().heal();
        run.note(None, "heal");
        apply(&run, changes)
    });
}

fn describe_cuts<R: Registry<Group>>(registry: &mut R) {
    let text = "Cuts the links between the ends `a` and the ends `b`, in both directions.";
    registry.method(
        doc("cut", "(a: End|End[], b: End|End[]): boolean", text),
        |lua, _, (a, b): (Ends, Ends)| {
            faulty(&*run(lua)?, "cut", |links| {
                let mut changes = links.set(&a.0, &b.0, |_, _, link| link.is_cut = true);
                changes.extend(links.set(&b.0, &a.0, |_, _, link| link.is_cut = true));
                changes
            })
        },
    );
    let text = "Cuts the links in one direction only: datagrams of `from` do not reach `to`.";
    registry.method(
        doc("cut_one_way", "(from: End|End[], to: End|End[]): boolean", text),
        |lua, _, (from, to): (Ends, Ends)| {
            faulty(&*run(lua)?, "cut", |links| links.set(&from.0, &to.0, |_, _, link| link.is_cut = true))
        },
    );
    let text = "Ends the cuts between the ends `a` and the ends `b`. Other faults of these links remain.";
    registry.method(
        doc("mend", "(a: End|End[], b: End|End[]): boolean", text),
        |lua, _, (a, b): (Ends, Ends)| {
            faulty(&*run(lua)?, "mend", |links| {
                let mut changes = links.set(&a.0, &b.0, |_, _, link| link.is_cut = false);
                changes.extend(links.set(&b.0, &a.0, |_, _, link| link.is_cut = false));
                changes
            })
        },
    );
    let text = "Cuts all links of a node, including those with clients.";
    registry.method(doc("isolate", "(node: Node|integer): boolean", text), |lua, _, node: End| {
        faulty(&*run(lua)?, "isolate", |links| {
            let all = links.parties();
            let mut changes = links.set(&[node.0], &all, |_, _, link| link.is_cut = true);
            changes.extend(links.set(&all, &[node.0], |_, _, link| link.is_cut = true));
            changes
        })
    });
}

fn shape(lua: &Lua, name: &str, options: Option<Table>) -> mlua::Result<bool> {
    let options = Options::read(lua, &SHAPE, options)?;
    let run = run(lua)?;
    let n = run.setup.nodes;
    let center = options.get::<Who>("center")?.map_or(0, |node| node.0.0);
    let old = options.get::<Who>("old")?.map_or((center + 1) % n, |node| node.0.0);
    if center >= n || old >= n {
        let text =
            format!("a shape covers the first group, nodes 0 to {}: a spare has no place in it", n - 1);
        return Err(LabError::misuse(text).into());
    }
    let Some(cuts) = links::shape(name, n, center, old) else {
        let names = SHAPES.iter().map(|(name, _)| *name);
        return Err(LabError::misuse(options::unknown("shape", name, names)).into());
    };
    // The shape leaves the links of spares as they are.
    faulty(&run, name, |links| links.shape(|from, to| from < n && to < n && cuts(from, to)))
}

fn behave(lua: &Lua, options: &Options) -> mlua::Result<bool> {
    let run = run(lua)?;
    let (loss, duplicate) = (options.share("loss")?, options.share("duplicate")?);
    let mut corrupt = options.share("corrupt")?;
    if corrupt.is_some_and(|share| share > 0.0) && !run.has(Fault::Corruption, "corrupt") {
        corrupt = None;
    }
    let (delay, jitter) = (options.time("delay")?, options.time("reorder")?);
    let set = move |link: &mut Link| {
        link.loss = loss.unwrap_or(link.loss);
        link.duplicate = duplicate.unwrap_or(link.duplicate);
        link.corrupt = corrupt.unwrap_or(link.corrupt);
        link.delay = delay.unwrap_or(link.delay);
        link.jitter = jitter.unwrap_or(link.jitter);
    };
    let all = run.links.borrow().parties();
    let ends = |ends: Option<Ends>| ends.map_or_else(|| all.clone(), |ends: Ends| ends.0);
    let (from, to): (Vec<Party>, Vec<Party>) = (ends(options.get("from")?), ends(options.get("to")?));
    faulty(&run, "network", |links| links.set(&from, &to, |_, _, link| set(link)))
}

/// Changes links, if the world supports faults of links.
fn faulty(
    run: &Run,
    what: &str,
    change: impl FnOnce(&mut links::Links) -> Vec<Change>,
) -> mlua::Result<bool> {
    if !run.has(Fault::Links, what) {
        return Ok(false);
    }
    let changes = change(&mut run.links.borrow_mut());
    run.note(None, format!("{what}: {}", told(&changes)));
    apply(run, changes)?;
    Ok(true)
}

/// The changed links and their behaviour, in few words.
fn told(changes: &[Change]) -> String {
    const SHOWN: usize = 6;
    let end = |party: &Party| match party {
        Party::Node(id) => id.to_string(),
        Party::Clients => "clients".into(),
    };
    let links: Vec<_> =
        changes.iter().take(SHOWN).map(|(from, to, _)| format!("{}→{}", end(from), end(to))).collect();
    let more = changes.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let how = changes.first().map_or(String::new(), |(_, _, link)| behaviour(link));
    format!("{how}{}{more}", links.join(" "))
}

/// The faults of a link, except a cut.
fn behaviour(link: &Link) -> String {
    let shares = [("loss", link.loss), ("duplicate", link.duplicate), ("corrupt", link.corrupt)];
    let shares = shares.into_iter().filter(|(_, share)| *share > 0.0);
    let times =
        [("delay", link.delay.0), ("reorder", link.jitter.0)].into_iter().filter(|(_, time)| *time > 0);
    let shares = shares.map(|(name, share)| format!("{name} {share:.2}, "));
    shares.chain(times.map(|(name, time)| format!("{name} {:.1} ms, ", time as f64 / 1e3))).collect()
}

fn apply(run: &Run, changes: Vec<Change>) -> mlua::Result<()> {
    for (from, to, link) in changes {
        run.act(|world| world.link(from, to, link))?;
    }
    Ok(())
}
