//! One script: its file, its Luau state, and calls of its hooks.
//!
//! Owns the cost limits of a call, and the consequence of exceeding them. Memory is counted anew for each call. No
//! garbage is collected while a hook runs; it is collected between calls. So the memory that a call may request
//! does not depend on earlier calls.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use log::Level;
use mlua::{AnyUserData, Error, FromLuaMulti, Function, IntoLuaMulti, Lua};
use upaxos_core::hooks::fingerprint;
use upaxos_core::script_state::ScriptState;

use super::budget::{APPLY_TIME, Budget, Limits, Violation};
use super::file::{self, LoadError, Table};
use super::sandbox;
use super::st::{self, About, Access, St};

/// The minimum amount of garbage, in bytes, before it is collected: little enough for a processor's caches. If more
/// memory than this is kept, the limit is that amount, so that a traversal of the kept memory costs no more than
/// its allocation.
const GARBAGE: usize = 256 << 10;

/// How long a script may take to load.
const LOAD_TIME: Duration = Duration::from_millis(500);

/// The version of the scripts' environment. It is part of a script's fingerprint.
const WORLD: &str = "upaxos hooks 3";

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The script raised an error: `kv.lua:12: …`.
    Raised(String),
    /// It broke a limit. The text describes which.
    Limit(Violation, String),
}

impl Broken {
    /// The error in words, with file and line where known.
    pub fn text(self) -> String {
        let (Broken::Raised(text) | Broken::Limit(_, text)) = self;
        text
    }
}

/// A loaded script.
#[derive(Debug)]
pub struct Engine {
    /// The stem of the script's file name.
    pub name: Rc<str>,
    /// The script's fingerprint: its source, and everything else that decides its results.
    pub source: u64,
    /// The hooks that the script defines.
    pub hooks: Table,
    /// The `about` argument of hooks, the same object for every call.
    pub about: Rc<About>,
    about_object: AnyUserData,
    st: Rc<St>,
    st_object: AnyUserData,
    lua: Lua,
    meter: Rc<Budget>,
    limits: Limits,
    may_log: Rc<std::cell::Cell<bool>>,
    /// The memory in use after the last collection, in bytes.
    kept: std::cell::Cell<usize>,
}

impl Engine {
    /// Loads a script from its file.
    ///
    /// # Errors
    /// With file, line and reason.
    pub fn load(path: &Path, limits: Limits) -> Result<Engine, LoadError> {
        let (name, text) = file::read(path)?;
        let (meter, may_log) = (Rc::new(Budget::default()), Rc::new(std::cell::Cell::new(false)));
        let cannot = |error: Error| LoadError::Broken { path: path.into(), reason: words(&error) };
        // The setup of the environment runs in it, too.
        meter.begin(limits.steps, LOAD_TIME);
        let lua = sandbox::state(&meter, logger(&name, &may_log)).map_err(cannot)?;
        let (st, about) = (Rc::new(St::default()), Rc::new(About::default()));
        let (st_object, about_object) = st::objects(&lua, &st, &about).map_err(cannot)?;
        lua.gc_stop();
        let world: String =
            lua.globals().raw_get::<Option<String>>("_VERSION").map_err(cannot)?.unwrap_or_default();
        let source =
            [&text[..], WORLD.as_bytes(), world.as_bytes(), &limits.steps.to_be_bytes()].join(&b"\0"[..]);
        let mut engine = Engine {
            name: name.as_str().into(),
            source: fingerprint(&source),
            hooks: Table::default(),
            about,
            about_object,
            st,
            st_object,
            kept: std::cell::Cell::new(lua.used_memory()),
            lua,
            meter,
            limits,
            may_log,
        };
        let chunk = engine.lua.load(&text[..]).set_name(format!("={name}.lua")).into_function();
        let chunk = chunk.map_err(cannot)?;
        let made = engine.call::<mlua::MultiValue>(&chunk, (), LOAD_TIME);
        let made = made.map_err(|broken| LoadError::Broken { path: path.into(), reason: broken.text() })?;
        engine.hooks = Table::take(path, &text, made)?;
        Ok(engine)
    }

    /// Calls `apply`.
    ///
    /// # Errors
    /// The broken limit or the error.
    pub fn apply(&self, function: &Function, state: &mut ScriptState, value: &[u8]) -> Result<(), Broken> {
        let args = |value| (&self.st_object, value, &self.about_object);
        self.st.lend(state, Access::Writes, || {
            let value = self.lua.create_string(value).map_err(|error| self.explain(error))?;
            self.call(function, args(value), APPLY_TIME)
        })
    }

    /// Calls `read`.
    ///
    /// # Errors
    /// The broken limit or the error.
    pub fn read<R: FromLuaMulti>(&self, function: &Function, state: &ScriptState) -> Result<R, Broken> {
        let mut copy = state.clone();
        let args = (&self.st_object, &self.about_object);
        self.st.lend(&mut copy, Access::Reads, || self.call(function, args, self.limits.time))
    }

    /// Calls a hook with a value.
    ///
    /// # Errors
    /// The broken limit or the error.
    pub fn show<R: FromLuaMulti>(&self, function: &Function, value: &[u8]) -> Result<R, Broken> {
        let value = self.lua.create_string(value).map_err(|error| self.explain(error))?;
        self.call(function, (value, &self.about_object), self.limits.time)
    }

    /// Calls a hook that only receives a report, and may log.
    ///
    /// # Errors
    /// The broken limit or the error.
    pub fn tell(&self, function: &Function, args: impl IntoLuaMulti) -> Result<(), Broken> {
        self.may_log.set(true);
        let told = self.call(function, args, self.limits.time);
        self.may_log.set(false);
        told
    }

    /// The object that describes a value, for [`Engine::tell`].
    pub fn about_object(&self) -> &AnyUserData {
        &self.about_object
    }

    /// The number of steps of the last call. All of the limit, if it broke a limit.
    pub fn steps(&self) -> u64 {
        match self.meter.broken() {
            Some(_) => u64::from(self.limits.steps),
            None => self.meter.taken(self.limits.steps),
        }
    }

    fn call<R: FromLuaMulti>(
        &self,
        function: &Function,
        args: impl IntoLuaMulti,
        time: Duration,
    ) -> Result<R, Broken> {
        let used = self.lua.used_memory();
        let kept = self.kept.get();
        if used > kept + kept.max(GARBAGE) {
            self.collect();
        }
        let limit = self.lua.used_memory() + self.limits.memory;
        self.lua.set_memory_limit(limit).expect("the state has an allocator of its own");
        self.meter.begin(self.limits.steps, time);
        let result = function.call(args);
        self.lua.set_memory_limit(0).expect("the state has an allocator of its own");
        match (self.meter.broken(), result) {
            (None, Ok(result)) => Ok(result),
            // The result is ignored: the call continued after it should have ended.
            (Some((violation, line)), _) => Err(self.limit(violation, line)),
            (None, Err(error)) => Err(self.explain(error)),
        }
    }

    #[cold]
    fn collect(&self) {
        // Only a finalizer could fail here, and there is none.
        let _ = self.lua.gc_collect();
        self.lua.gc_stop();
        self.kept.set(self.lua.used_memory());
    }

    #[cold]
    fn explain(&self, error: Error) -> Broken {
        if is_out_of_memory(&error) {
            self.meter.break_at(Violation::Memory, None);
            return self.limit(Violation::Memory, None);
        }
        Broken::Raised(words(&error))
    }

    #[cold]
    fn limit(&self, violation: Violation, line: Option<usize>) -> Broken {
        let Limits { steps, memory, .. } = self.limits;
        let rule = match violation {
            Violation::Steps => format!("rule: a call takes at most {steps} steps (--script-steps)"),
            Violation::Memory => format!("rule: a call asks for at most {memory} bytes (--script-memory)"),
            Violation::Time if self.meter.time() == self.limits.time => {
                format!("rule: a call takes at most {:?} (--script-time)", self.limits.time)
            }
            Violation::Time => format!("rule: this call takes at most {:?}", self.meter.time()),
        };
        let line = line.map_or(String::new(), |line| format!("{line}: "));
        Broken::Limit(violation, format!("{}.lua:{line}{rule}", self.name))
    }
}

fn logger(
    name: &str,
    may_log: &Rc<std::cell::Cell<bool>>,
) -> impl Fn(&Lua, Level, &str) -> mlua::Result<()> + 'static + use<> {
    let (name, may_log) = (name.to_owned(), Rc::clone(may_log));
    move |lua, level, text| {
        if !may_log.get() {
            return Err(st::raise(lua, "rule: only on_learn and on_role may log: the others are pure"));
        }
        log::log!(target: "script", level, "script {name}: {}", text.escape_debug());
        Ok(())
    }
}

fn is_out_of_memory(error: &Error) -> bool {
    match error {
        Error::MemoryError(_) => true,
        Error::CallbackError { cause, .. } => is_out_of_memory(cause),
        Error::RuntimeError(text) => text.starts_with("not enough memory"),
        _ => false,
    }
}

/// The first line of a script in a traceback: `kv.lua:12`.
fn line_in(trace: &str) -> Option<&str> {
    let place = |line: &'_ str| -> Option<usize> {
        let (file, rest) = line.split_once(".lua:")?;
        Some(file.len() + 5 + rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()))
    };
    trace.lines().map(str::trim).find_map(|line| Some(&line[..place(line)?]))
}

/// Luau's text for an error that is not a string (`table: 0x55d0c8`), without the address: an address would differ
/// between runs and between nodes.
pub fn without_address(text: &str) -> Option<String> {
    let (kind, address) = text.split_once(": 0x")?;
    let is_address = address.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_address.then(|| format!("an error that is no text, but a {kind}"))
}

/// A Luau error in one line, without the traceback.
pub fn words(error: &Error) -> String {
    match error {
        Error::CallbackError { cause, .. } => words(cause),
        Error::RuntimeError(text) | Error::SyntaxError { message: text, .. } => {
            let (text, trace) = text.split_once("\nstack traceback:").unwrap_or((text, ""));
            let text = text.trim_end().replace('\n', " ");
            // An error whose place is in the prelude: blame the script's line that called it.
            match (text.strip_prefix("prelude:").and_then(|rest| rest.split_once(' ')), line_in(trace)) {
                (Some((_, rest)), Some(place)) => format!("{place}: {rest}"),
                _ => without_address(&text).unwrap_or(text),
            }
        }
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
