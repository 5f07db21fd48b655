//! The API's arguments and results besides plain values: nodes by object or id, tables with fixed fields.

use mlua::{FromLua, Lua, Table, Value};
use upaxos_core::types::NodeId;

use super::objects::Node;
use super::registry::held;
use crate::backend::Party;
use crate::error::{self, LabError};
use crate::options::{self, Key, Keys};
use crate::run::Run;

/// The keys of a lab's options.
pub const TEST: Keys = Keys {
    name: "TestOptions",
    keys: &[
        ("nodes", "integer", "the size of the first group, whose ids are 0 to nodes - 1 [3]"),
        ("spares", "integer", "how many more nodes may join; their ids follow [0]"),
        ("hooks", "string[]", "hook scripts of every node; paths are relative to the lab's script"),
        ("fast_read", "boolean", "whether untagged reads are fast reads [false]"),
        ("classic", "boolean", "whether the group speaks the classic grammar [false]"),
        ("beat", "Time", "the interval between two beats of a node [\"100ms\"]"),
        ("start", "boolean", "whether the first group is started before the lab begins [true]"),
        ("needs", "string[]", "faults without which the lab is skipped: processes, links, corruption, disk"),
        ("limit", "Time", "how long the lab may take [\"300s\"]"),
    ],
};

/// The key that limits how long an act may take.
pub const IN_TIME: Key = ("within", "Time", "how long it may take [\"20s\"]");

/// The key of waits: how long to wait.
pub const WITHIN: Keys = Keys { name: "WaitOptions", keys: &[IN_TIME] };

/// A node, by object or by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who(pub NodeId);

impl FromLua for Who {
    fn from_lua(value: Value, lua: &Lua) -> mlua::Result<Who> {
        let id = match (&value, held::<Node>(&value)) {
            (_, Some(node)) => Some(node.0),
            (Value::Integer(id), None) => u16::try_from(*id).ok().map(NodeId),
            (Value::Number(id), None) if id.fract() == 0.0 && (0.0..=65_535.0).contains(id) => {
                Some(NodeId(*id as u16))
            }
            _ => None,
        };
        let wrong = || format!("a node is an object or an id such as 0, not {}", options::shown(&value));
        let id = id.ok_or_else(|| LabError::misuse(wrong()))?;
        Ok(Who(known(&*super::run(lua)?, id)?))
    }
}

/// Returns the id if this lab has such a node.
pub fn known(run: &Run, id: NodeId) -> Result<NodeId, LabError> {
    let last = run.setup.nodes + run.setup.spares - 1;
    if id.0 <= last {
        return Ok(id);
    }
    Err(LabError::misuse(format!(
        "there is no node {id}: this lab has nodes 0 to {last}; `spares = 1` in its options adds another"
    )))
}

/// An end of a link: a node, or all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End(pub Party);

impl FromLua for End {
    fn from_lua(value: Value, lua: &Lua) -> mlua::Result<End> {
        match value.as_string().map(|text| text.to_string_lossy()) {
            Some(text) if text == "clients" => Ok(End(Party::Clients)),
            Some(text) => {
                let wrong = format!("an end of a link is a node, an id, or \"clients\"; not {text:?}");
                Err(LabError::misuse(wrong).into())
            }
            None => Ok(End(Party::Node(Who::from_lua(value, lua)?.0))),
        }
    }
}

/// One end, or a list of ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends(pub Vec<Party>);

impl FromLua for Ends {
    fn from_lua(value: Value, lua: &Lua) -> mlua::Result<Ends> {
        match value {
            Value::Table(list) => {
                let ends: mlua::Result<Vec<End>> = list.sequence_values().collect();
                Ok(Ends(ends?.into_iter().map(|end| end.0).collect()))
            }
            other => Ok(Ends(vec![End::from_lua(other, lua)?.0])),
        }
    }
}

/// Makes a table with these fields. Reading any other field is an error.
pub fn record(lua: &Lua, keys: &'static Keys) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let metatable = match lua.named_registry_value::<Option<Table>>(keys.name)? {
        Some(metatable) => metatable,
        None => {
            let metatable = lua.create_table()?;
            let refuse =
                lua.create_function(move |lua, (_, key): (Value, Value)| -> mlua::Result<Value> {
                    refuse(lua, keys, &key)
                })?;
            metatable.set("__index", refuse)?;
            lua.set_named_registry_value(keys.name, &metatable)?;
            metatable
        }
    };
    table.set_metatable(Some(metatable))?;
    Ok(table)
}

/// A known field without a value is nil. Any other name is refused.
fn refuse(lua: &Lua, keys: &'static Keys, key: &Value) -> mlua::Result<Value> {
    let key = key.to_string()?;
    let names = keys.keys.iter().map(|(name, _, _)| *name);
    // Lua walks a list until its first nil.
    if names.clone().any(|name| name == key) || key.parse::<u64>().is_ok() {
        return Ok(Value::Nil);
    }
    let article = options::article(keys.name);
    let text = format!("{article} has no `{key}`; {}", options::hint(&key, names));
    Err(LabError::misuse(text).at(error::place(lua)).into())
}
