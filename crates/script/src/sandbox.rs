//! The environment of a script: a Luau state with a whitelist of names, frozen, with a meter.
//!
//! Owns the names that a script can reach. `prelude.lua` documents the changes and their reasons. A name that is
//! not listed there is not available. This module knows nothing about hooks.

use std::rc::Rc;

use mlua::chunk::Compiler;
use mlua::{Error, Function, Lua, LuaOptions, StdLib, Table, Value, VmState};

use super::budget::{Budget, Violation};
use super::st;

const PRELUDE: &str = include_str!("prelude.lua");

/// Functions that Luau would compile as built-ins, bypassing the prelude's versions.
const NOT_BUILT_IN: [&str; 2] = ["setmetatable", "tostring"];

/// Makes a state that counts every step in `meter`, and logs through `log`.
///
/// # Errors
/// When there is not enough memory.
pub fn state(
    meter: &Rc<Budget>,
    log: impl Fn(&Lua, log::Level, &str) -> mlua::Result<()> + 'static,
) -> mlua::Result<Lua> {
    let libraries = StdLib::COROUTINE
        | StdLib::TABLE
        | StdLib::STRING
        | StdLib::UTF8
        | StdLib::BIT
        | StdLib::MATH
        | StdLib::BUFFER;
    let lua = Lua::new_with(libraries, LuaOptions::default())?;
    lua.set_compiler(Compiler::new().set_optimization_level(1).set_disabled_builtins(NOT_BUILT_IN));
    let globals = lua.globals();
    globals.raw_set("log", logger(&lua, log)?)?;
    let (charged, checked) = (Rc::clone(meter), Rc::clone(meter));
    let charge = lua.create_function(move |lua, steps: f64| {
        charged.charge(steps).map_err(|violation| broken(lua, &charged, violation))
    })?;
    let check = lua.create_function(move |lua, problem: Value| match checked.broken() {
        Some((violation, _)) => Err(broken(lua, &checked, violation)),
        None if is_out_of_memory(&problem) => Err(broken(lua, &checked, Violation::Memory)),
        None => Ok(()),
    })?;
    // Inlines the prelude's small functions into its larger ones: a call of one would be two steps. A script's own
    // functions are not inlined: `error("…", 2)` must name the caller's line.
    let compiler = Compiler::new().set_optimization_level(2).set_disabled_builtins(NOT_BUILT_IN);
    let prelude = lua.load(PRELUDE).set_name("=prelude").set_compiler(compiler).into_function()?;
    let names: Vec<String> = prelude.call((charge, check))?;
    for pair in globals.pairs::<Value, Value>() {
        let (name, _) = pair?;
        let is_named = name.as_string().is_some_and(|name| names.iter().any(|known| *name == known[..]));
        if !is_named {
            globals.raw_set(name, Value::Nil)?;
        }
    }
    lua.sandbox(true)?;
    lua.globals().set_readonly(true);
    let steps = Rc::clone(meter);
    lua.set_interrupt(move |lua| match steps.step() {
        Ok(()) => Ok(VmState::Continue),
        Err(violation) => Err(broken(lua, &steps, violation)),
    });
    Ok(lua)
}

/// The table `log`, with `log.info(TEXT)` and its other levels.
fn logger(
    lua: &Lua,
    log: impl Fn(&Lua, log::Level, &str) -> mlua::Result<()> + 'static,
) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let log = Rc::new(log);
    for (name, level) in [
        ("debug", log::Level::Debug),
        ("info", log::Level::Info),
        ("warn", log::Level::Warn),
        ("error", log::Level::Error),
    ] {
        let log = Rc::clone(&log);
        let function: Function =
            lua.create_function(move |lua, text: mlua::LuaString| log(lua, level, &text.to_string_lossy()))?;
        table.raw_set(name, function)?;
    }
    Ok(table)
}

/// Records a broken limit, with the script's current line.
fn broken(lua: &Lua, meter: &Budget, violation: Violation) -> Error {
    meter.break_at(violation, st::place(lua).map(|(_, line)| line));
    Error::runtime("a limit was broken")
}

/// Whether this is Luau's error for failed allocations.
fn is_out_of_memory(problem: &Value) -> bool {
    match problem {
        Value::String(text) => *text == *"not enough memory",
        Value::Error(error) => matches!(**error, Error::MemoryError(_)),
        _ => false,
    }
}
