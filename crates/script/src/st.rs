//! `st` and `entry`: the arguments of a hook besides the value.
//!
//! | call | does |
//! | --- | --- |
//! | `st:get(key)` | returns the value of a key: a boolean, a number, a string, or nil |
//! | `st:set(key, value)` | sets the value of a key; nil removes the key |
//! | `st:del(key)` | removes a key; returns true if it existed |
//! | `st:has(key)` | returns whether the key exists |
//! | `st:add(key, number)` | adds to the number of a key (0 if there is none), and returns the sum |
//! | `st:len()` | returns the number of keys |
//! | `for key, value in st:range(first, last) do` | from `first` to `last`, both included, in order of bytes; both may be nil |
//! | `for key, value in st:prefix(start) do` | all keys with this prefix, in order |
//!
//! A key is a string. A number is converted to its digits, a buffer to its bytes.
//!
//! Owns the conversion between Luau's values and [`Scalar`]s. All calls share one object of each kind, so a call
//! allocates none. A script that keeps `st` and uses it later gets an error.

use std::cell::{Cell, RefCell};
use std::ops::Bound;
use std::rc::Rc;

use mlua::{AnyUserData, BString, Error, Function, Lua, MultiValue, UserDataRegistry, Value};
use upaxos_core::script_state::{Number, Scalar, ScriptState};
use upaxos_core::types::{Instance, Tag, Value as Bytes};

/// The permitted use of the state at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// No hook with a state is running.
    #[default]
    None,
    /// A `read` runs.
    Reads,
    /// An `apply` runs.
    Writes,
}

/// The state of the running hook.
#[derive(Debug, Default)]
pub struct St {
    state: RefCell<ScriptState>,
    access: Cell<Access>,
}

impl St {
    /// Lends a state during `call`, and takes it back.
    pub fn lend<R>(&self, state: &mut ScriptState, access: Access, call: impl FnOnce() -> R) -> R {
        std::mem::swap(&mut *self.state.borrow_mut(), state);
        self.access.set(access);
        let result = call();
        self.access.set(Access::None);
        std::mem::swap(&mut *self.state.borrow_mut(), state);
        result
    }

    fn get<R>(&self, lua: &Lua, read: impl FnOnce(&ScriptState) -> R) -> mlua::Result<R> {
        match self.access.get() {
            Access::None => Err(raise(lua, "rule: `st` is only there while its hook runs: do not keep it")),
            Access::Reads | Access::Writes => Ok(read(&self.state.borrow())),
        }
    }

    fn set(&self, lua: &Lua, key: &[u8], value: Option<Scalar>) -> mlua::Result<bool> {
        match self.access.get() {
            Access::Writes => {
                let set = self.state.borrow_mut().set(key, value);
                set.map_err(|error| raise(lua, &format!("rule: {error}")))
            }
            Access::Reads => Err(raise(lua, "rule: `read` cannot change `st`: only `apply` can")),
            Access::None => Err(raise(lua, "rule: `st` is only there while its hook runs: do not keep it")),
        }
    }
}

/// The origin of a value, or the subject of a read.
#[derive(Debug, Default)]
pub struct About {
    /// The instance that chose the value. For a read: the last instance that it covers.
    pub instance: Cell<Option<Instance>>,
    /// The tag of the request, if it has one.
    pub tag: Cell<Option<Tag>>,
    /// For a read: the last value that a user wrote, and its instance.
    pub last: RefCell<Option<(Instance, Bytes)>>,
    /// For a query: the question.
    pub question: RefCell<Option<Bytes>>,
}

/// Registers both kinds of objects with a state, and makes one of each.
///
/// # Errors
/// When there is not enough memory.
pub fn objects(lua: &Lua, st: &Rc<St>, about: &Rc<About>) -> mlua::Result<(AnyUserData, AnyUserData)> {
    lua.register_userdata_type::<Rc<St>>(register_st)?;
    lua.register_userdata_type::<Rc<About>>(register_about)?;
    Ok((lua.create_any_userdata(Rc::clone(st))?, lua.create_any_userdata(Rc::clone(about))?))
}

fn register_st(registry: &mut UserDataRegistry<Rc<St>>) {
    use mlua::UserDataMethods;
    registry.enable_namecall();
    // Copied keys are cheaper than borrowed ones: Luau and mlua must track references.
    registry.add_method("get", |lua, st, key: BString| {
        st.get(lua, |state| state.get(&key).map_or(Ok(Value::Nil), |scalar| to_lua(lua, scalar)))?
    });
    registry.add_method("has", |lua, st, key: BString| st.get(lua, |state| state.get(&key).is_some()));
    registry.add_method("len", |lua, st, ()| st.get(lua, |state| state.len() as f64));
    registry.add_method("set", |lua, st, (key, value): (BString, Value)| {
        let scalar = scalar(lua, &value)?;
        st.set(lua, &key, scalar).map(drop)
    });
    registry.add_method("del", |lua, st, key: BString| st.set(lua, &key, None));
    registry.add_method("add", |lua, st, (key, more): (BString, f64)| {
        let before = st.get(lua, |state| state.get(&key).cloned())?;
        let before = match before {
            None => 0.0,
            Some(Scalar::Number(number)) => number.get(),
            Some(_) => return Err(raise(lua, "what stands under this key is no number")),
        };
        let sum = before + more;
        let number = Number::new(sum).ok_or_else(|| raise(lua, NOT_A_NUMBER))?;
        st.set(lua, &key, Some(Scalar::Number(number)))?;
        Ok(sum)
    });
    registry.add_method("range", |lua, st, (first, last): (Option<BString>, Option<BString>)| {
        let within = move |key: &[u8]| last.as_ref().is_none_or(|last| key <= &last[..]);
        iterator(lua, st, first.unwrap_or_default().into(), within)
    });
    registry.add_method("prefix", |lua, st, start: BString| {
        let first = start.to_vec();
        iterator(lua, st, first, move |key| key.starts_with(&start))
    });
}

/// Iterates over the keys from `first` on, as long as they are `within`. Each step searches the current state, so
/// the iteration sees later changes before and behind it.
fn iterator(
    lua: &Lua,
    st: &Rc<St>,
    first: Vec<u8>,
    within: impl Fn(&[u8]) -> bool + 'static,
) -> mlua::Result<Function> {
    let (st, at) = (Rc::clone(st), RefCell::new((first, false)));
    lua.create_function(move |lua, ()| {
        let (key, is_behind) = &mut *at.borrow_mut();
        let bound = if *is_behind { Bound::Excluded(&key[..]) } else { Bound::Included(&key[..]) };
        let next =
            st.get(lua, |state| state.from(bound).next().map(|(key, value)| (key.clone(), value.clone())))?;
        let Some((found, scalar)) = next.filter(|(found, _)| within(found.as_bytes())) else {
            return Ok((Value::Nil, Value::Nil));
        };
        (*key, *is_behind) = (found.as_bytes().to_vec(), true);
        Ok((Value::String(lua.create_string(found.as_bytes())?), to_lua(lua, &scalar)?))
    })
}

const NOT_A_NUMBER: &str =
    "rule: what is not a number (NaN) cannot be kept: its bits differ between machines";

/// Converts a value of Luau to the form that a state keeps.
fn scalar(lua: &Lua, value: &Value) -> mlua::Result<Option<Scalar>> {
    Ok(Some(match value {
        Value::Nil => return Ok(None),
        Value::Boolean(is_true) => Scalar::Bool(*is_true),
        Value::Integer(number) => {
            Scalar::Number(Number::new(*number as f64).expect("an integer is a number"))
        }
        Value::Number(number) => {
            Scalar::Number(Number::new(*number).ok_or_else(|| raise(lua, NOT_A_NUMBER))?)
        }
        Value::String(text) => Scalar::Text(Bytes::from(&*text.as_bytes())),
        other => {
            let what = kind(other);
            return Err(raise(lua, &format!("rule: `st` keeps booleans, numbers and strings, no {what}")));
        }
    }))
}

/// The scripts' name for the type of a value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        other => other.type_name(),
    }
}

fn to_lua(lua: &Lua, scalar: &Scalar) -> mlua::Result<Value> {
    Ok(match scalar {
        Scalar::Bool(is_true) => Value::Boolean(*is_true),
        Scalar::Number(number) => Value::Number(number.get()),
        Scalar::Text(text) => Value::String(lua.create_string(text.as_bytes())?),
    })
}

fn register_about(registry: &mut UserDataRegistry<Rc<About>>) {
    use mlua::{MetaMethod, UserDataFields, UserDataMethods};
    let number = |instance: Option<Instance>| instance.map(|instance| instance.0 as f64);
    registry.add_field_method_get("instance", move |_, about| Ok(number(about.instance.get())));
    // A client's number may have more digits than a double.
    registry.add_field_method_get("client", |_, about| Ok(about.tag.get().map(|tag| tag.client.to_string())));
    registry.add_field_method_get("seq", |_, about| Ok(about.tag.get().map(|tag| tag.seq as f64)));
    registry.add_field_method_get("last", |lua, about| match &*about.last.borrow() {
        Some((_, value)) => Ok(Value::String(lua.create_string(value.as_bytes())?)),
        None => Ok(Value::Nil),
    });
    registry.add_field_method_get("last_instance", move |_, about| {
        Ok(number(about.last.borrow().as_ref().map(|(instance, _)| *instance)))
    });
    registry.add_field_method_get("question", |lua, about| match &*about.question.borrow() {
        Some(question) => Ok(Value::String(lua.create_string(question.as_bytes())?)),
        None => Ok(Value::Nil),
    });
    registry.add_meta_method(MetaMethod::Index, |lua, _, key: Value| -> mlua::Result<Value> {
        let key = key.to_string().unwrap_or_default();
        Err(raise(
            lua,
            &format!(
                "there is no `{key}` here; there are instance, client, seq, last, last_instance, question"
            ),
        ))
    });
    registry.add_meta_method(MetaMethod::NewIndex, |lua, _, _: MultiValue| -> mlua::Result<()> {
        Err(raise(lua, "rule: nothing can be changed here"))
    });
}

/// An error with the script's calling line.
pub fn raise(lua: &Lua, text: &str) -> Error {
    Error::runtime(match place(lua) {
        Some((source, line)) => format!("{source}:{line}: {text}"),
        None => text.to_owned(),
    })
}

/// The current line of the script. Skips the frames of the prelude and of Rust above it.
pub fn place(lua: &Lua) -> Option<(String, usize)> {
    let of_script = |debug: &mlua::debug::Debug<'_>| {
        let source = debug.source().short_src?.into_owned();
        source.ends_with(".lua").then_some((source, debug.current_line()?))
    };
    (0..8).find_map(|level| lua.inspect_stack(level, of_script)?)
}
