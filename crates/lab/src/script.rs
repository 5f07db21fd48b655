//! A lab script: its sandbox, its loading, and the labs that it declares.
//!
//! Owns the Lua state of a script. A script is trusted, but must repeat from its seed. It sees no clock, no files
//! and no environment, and its chance is seeded. Three mistakes are reported with their line: to set a global, to
//! use an unknown one, and to run for ever without waiting.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value, Variadic, VmState};

use super::api::registry::{Doc, Held};
use super::api::{self, Folder, Labs, Module};
use super::error::{self, LabError};
use super::options;

pub use super::api::Lab;

/// The maximum number of steps (calls, and turns of loops) of a script between two waits.
const STEPS: u64 = 3_000_000;

/// The maximum memory of a script, in bytes.
const MEMORY: usize = 512 << 20;

/// The names that scripts keep from Lua itself: those that exist in all of Lua 5.1 to 5.4, and repeat.
const KEPT: [&str; 22] = [
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "math",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "utf8",
    "xpcall",
];

/// The text of a script.
#[derive(Clone, Debug)]
pub struct Script {
    /// The script's name as given. It appears in messages and in the command that repeats a play.
    pub name: String,
    /// The folder to which the script's paths are relative.
    folder: PathBuf,
    text: String,
}

/// A script that has declared its labs.
pub struct Loaded {
    /// The Lua state that the labs run in.
    pub lua: Lua,
    /// The labs, in the order of their declaration.
    pub labs: Vec<Lab>,
    /// The steps that it has taken since its last wait.
    pub steps: Rc<Cell<u64>>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Script> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the lab script {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Script { name: path.display().to_string(), folder, text })
    }

    /// A script that is part of this program.
    pub fn embedded(name: &str, text: &str) -> Script {
        Script { name: name.to_owned(), folder: PathBuf::new(), text: text.to_owned() }
    }

    /// Runs the script's main chunk, which declares its labs.
    ///
    /// # Errors
    /// When it cannot be loaded, with the line.
    pub fn load(&self, seed: u64) -> Result<Loaded, LabError> {
        let (lua, steps) = self.state(seed).map_err(|error| LabError::of(&error))?;
        let environment = environment(&lua).map_err(|error| LabError::of(&error))?;
        let chunk = lua.load(&self.text).set_name(format!("@{}", self.name)).set_environment(environment);
        chunk.exec().map_err(|error| LabError::of(&error))?;
        let labs = lua.remove_app_data::<Labs>().unwrap_or_default().0;
        if labs.is_empty() {
            let text = format!("{} declares no lab: lab.test(\"name\", {{}}, function(g) … end)", self.name);
            return Err(LabError::misuse(text));
        }
        Ok(Loaded { lua, labs, steps })
    }

    fn state(&self, seed: u64) -> mlua::Result<(Lua, Rc<Cell<u64>>)> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::UTF8 | StdLib::COROUTINE;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        lua.set_memory_limit(MEMORY)?;
        lua.set_app_data(Labs::default());
        lua.set_app_data(Folder(self.folder.clone()));
        let math: Table = lua.globals().get("math")?;
        // The lowest bits of neighbouring seeds would produce similar first numbers.
        math.get::<Function>("randomseed")?.call::<()>(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33)?;
        math.raw_remove("randomseed")?;
        let steps = Rc::new(Cell::new(0));
        let counted = Rc::clone(&steps);
        lua.set_interrupt(move |lua| {
            counted.set(counted.get() + 1);
            if counted.get() <= STEPS {
                return Ok(VmState::Continue);
            }
            let text = "this goes on without waiting for anything: let time pass in the loop, with `lab.sleep` \
                        for example";
            Err(LabError::misuse(text).at(error::place(lua)).into())
        });
        Ok((lua, steps))
    }
}

/// The only globals that a script sees.
fn environment(lua: &Lua) -> mlua::Result<Table> {
    let (environment, globals) = (lua.create_table()?, lua.globals());
    for name in KEPT {
        environment.raw_set(name, globals.raw_get::<Value>(name)?)?;
    }
    environment
        .raw_set("print", lua.create_function(|lua, words: Variadic<Value>| api::say(lua, &words))?)?;
    environment.raw_set("lab", Held(Module))?;
    let Doc { name, .. } = api::EXPECT;
    let expect = lua.create_function(|lua, args| {
        api::expect(lua, args).map_err(|error| LabError::of(&error).at(error::place(lua)).into())
    })?;
    environment.raw_set(name, expect)?;
    let strict = lua.create_table()?;
    strict.set("__index", lua.create_function(|lua, (table, key): (Table, Value)| -> mlua::Result<Value> {
        let key = key.to_string()?;
        let names: Vec<String> = table.pairs::<String, Value>().flatten().map(|(name, _)| name).collect();
        let mut text = options::unknown("global", &key, names.iter().map(String::as_str));
        if ["os", "io", "load", "loadstring", "require", "coroutine", "debug"].contains(&key.as_str()) {
            text = format!(
                "there is no `{key}` in labs: they must repeat from their seed, alike in every world; see \
                 scripts/meta/lab.lua for what there is"
            );
        }
        Err(LabError::misuse(text).at(error::place(lua)).into())
    })?)?;
    strict.set(
        "__newindex",
        lua.create_function(|lua, (_, key, _): (Table, Value, Value)| -> mlua::Result<()> {
            let text = format!("cannot set the global `{0}`: write `local {0}`", key.to_string()?);
            Err(LabError::misuse(text).at(error::place(lua)).into())
        })?,
    )?;
    environment.set_metatable(Some(strict))?;
    Ok(environment)
}
