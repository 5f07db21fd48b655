//! The group as a script sees it: its nodes, waits for its progress, and its check.

use mlua::{LuaString, Table};
use upaxos_core::types::{Instance, NodeId};
use upaxos_core::wire::Stance;

use super::args::{IN_TIME, WITHIN, Who};
use super::objects::{Group, Node};
use super::registry::{Class, Held, Registry, doc};
use super::requests::{self, Asks, Client};
use super::{faults, load, run};
use crate::backend::{Fault, NodeState, View};
use crate::error::{LabError, Place};
use crate::options::{Keys, Options, seconds};
use crate::run::{PATIENCE, Run};

/// The options of waiting for a leader.
pub const LEADER: Keys = Keys {
    name: "LeaderOptions",
    keys: &[
        IN_TIME,
        ("among", "(Node|integer)[]", "accept only one of these nodes"),
        ("not_among", "(Node|integer)[]", "accept none of these nodes"),
    ],
};

/// The options of waiting until nodes have learned an instance.
pub const LEARNED: Keys = Keys {
    name: "LearnedOptions",
    keys: &[IN_TIME, ("nodes", "(Node|integer)[]", "the nodes to wait for [all that run]")],
};

impl Asks for Group {
    fn client(&self) -> u64 {
        self.client
    }
}

impl Class for Group {
    const NAME: &'static str = "Group";
    const TEXT: &'static str = "The group of a lab, its network and its disks. It is a client, too.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        describe_nodes(registry);
        describe_waits(registry);
        requests::describe(registry);
        faults::describe(registry);
        load::describe(registry);
    }

    fn show(&self) -> String {
        "the group".into()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.client == other.client
    }
}

fn describe_nodes<R: Registry<Group>>(registry: &mut R) {
    registry
        .field(doc("size", "integer", "The size of the first group."), |lua, _| Ok(run(lua)?.setup.nodes));
    registry.method(doc("node", "(id: integer): Node", "The node with that id."), |_, _, node: Who| {
        Ok(Held(Node(node.0)))
    });
    let text = "The nodes of the first group, by id: a list, so node 0 comes first.";
    registry.method(doc("nodes", "(): Node[]", text), |lua, _, ()| {
        Ok((0..run(lua)?.setup.nodes).map(|id| Held(Node(NodeId(id)))).collect::<Vec<_>>())
    });
    let text = "The nodes of the first group except these.";
    registry.method(
        doc("others", "(...: Node|integer): Node[]", text),
        |lua, _, but: mlua::Variadic<Who>| {
            let ids = (0..run(lua)?.setup.nodes).map(NodeId);
            let others = ids.filter(|id| !but.iter().any(|who| who.0 == *id));
            Ok(others.map(|id| Held(Node(id))).collect::<Vec<_>>())
        },
    );
    let text = "A new client: a session of its own.";
    registry.method(doc("client", "(): Client", text), |lua, _, ()| Ok(Held(Client(run(lua)?.new_client()))));
    let text = "Starts every node of the first group that is down.";
    registry.method(doc("start", "()", text), |lua, _, ()| {
        let run = run(lua)?;
        for id in (0..run.setup.nodes).map(NodeId) {
            if matches!(run.look(|world| world.view(id)).state, NodeState::Down | NodeState::Ended(..)) {
                run.note(Some(id), "start");
                run.act(|world| world.start(id, &run.started(id)))?;
            }
        }
        Ok(())
    });
    let text = "Ends all nodes at once between two instructions, as in a power failure.";
    registry.method(doc("crash", "(): boolean", text), |lua, _, ()| {
        let run = run(lua)?;
        if !run.has(Fault::Processes, "crash") {
            return Ok(false);
        }
        for id in (0..run.setup.nodes + run.setup.spares).map(NodeId) {
            if matches!(run.look(|world| world.view(id)).state, NodeState::Runs | NodeState::Paused) {
                run.note(Some(id), "crash");
                run.act(|world| world.crash(id))?;
            }
        }
        Ok(true)
    });
    let text = "Sends these bytes to all nodes, as one datagram, and waits for no answer: lines by hand.";
    registry.method(doc("send", "(lines: string)", text), |lua, _, lines: LuaString| {
        run(lua)?.act(|world| world.say(&lines.as_bytes()))?;
        Ok(())
    });
    let text = "What is known of all nodes, as a failure shows it.";
    registry.method(doc("describe", "(): string", text), |lua, _, ()| {
        Ok(run(lua)?.look(|world| world.describe()))
    });
}

fn describe_waits<R: Registry<Group>>(registry: &mut R) {
    let text = "Waits for a leader and returns it: of the nodes that claim to lead, the one with the highest ballot.";
    registry.blocking(
        doc("leader", "(options?: LeaderOptions): Node", text),
        |lua, _, options, place| async move {
            let options = Options::read(&lua, &LEADER, options)?;
            leader(&*run(&lua)?, &options, place).await
        },
    );
    let text = "Waits until nodes have durably learned an instance.";
    registry.blocking(
        doc("wait_learned", "(instance: integer, options?: LearnedOptions)", text),
        |lua, _, (instance, options): (u64, Option<Table>), place| async move {
            let options = Options::read(&lua, &LEARNED, options)?;
            learned(&*run(&lua)?, Instance(instance), &options, place).await
        },
    );
    let text = "Judges everything so far: ends every fault, starts the nodes that are down, waits until every \
                request is answered and all nodes have learned the same, cuts the power of all, and reads \
                every log. Every lab ends with a check, unless nothing was done since the last one.";
    registry.blocking(doc("check", "(options?: WaitOptions)", text), |lua, _, options, _| async move {
        let within = Options::read(&lua, &WITHIN, options)?.time("within")?;
        run(&lua)?.check(within.unwrap_or(PATIENCE))?;
        Ok(())
    });
}

fn ids(options: &Options, key: &str) -> mlua::Result<Option<Vec<NodeId>>> {
    let list = options.get::<Vec<Who>>(key)?;
    Ok(list.map(|list| list.into_iter().map(|who| who.0).collect()))
}

async fn leader(run: &Run, options: &Options, place: Option<Place>) -> mlua::Result<Held<Node>> {
    let within = options.time("within")?.unwrap_or(PATIENCE);
    let (among, not_among) = (ids(options, "among")?, ids(options, "not_among")?.unwrap_or_default());
    let end = run.now() + within;
    loop {
        let views = all_views(run);
        let leads = views.iter().filter(|(_, view)| view.stance == Some(Stance::Leads));
        let counts =
            |id: &NodeId| among.as_ref().is_none_or(|among| among.contains(id)) && !not_among.contains(id);
        let best = leads.max_by_key(|(_, view)| view.ballot).map(|(id, _)| *id);
        if let Some(leader) = best.filter(counts) {
            return Ok(Held(Node(leader)));
        }
        if run.now() >= end {
            let expected = match among {
                Some(_) => format!("one of the named nodes to lead within {}", seconds(within)),
                None => format!("a leader within {}", seconds(within)),
            };
            let got = best.map_or("no leader".into(), |id| format!("node {id} leads"));
            return Err(LabError::expected(expected, got).into());
        }
        run.wait_for_change(end, place.clone()).await;
    }
}

async fn learned(run: &Run, instance: Instance, options: &Options, place: Option<Place>) -> mlua::Result<()> {
    let within = options.time("within")?.unwrap_or(PATIENCE);
    let named = ids(options, "nodes")?;
    let end = run.now() + within;
    loop {
        let views = all_views(run);
        let counts = |id: &NodeId, view: &View| match &named {
            Some(named) => named.contains(id),
            None => view.state == NodeState::Runs,
        };
        let lacks = views.iter().find(|(id, view)| counts(id, view) && view.learned < instance);
        let Some((id, view)) = lacks else { return Ok(()) };
        if run.now() >= end {
            let expected = format!("node {id} to have learned {instance} within {}", seconds(within));
            return Err(LabError::expected(expected, format!("it has learned {}", view.learned)).into());
        }
        run.wait_for_change(end, place.clone()).await;
    }
}

fn all_views(run: &Run) -> Vec<(NodeId, View)> {
    let ids = (0..run.setup.nodes + run.setup.spares).map(NodeId);
    run.look(|world| ids.map(|id| (id, world.view(id))).collect())
}
