//! How functions reach scripts: registered once, for Lua and for the editors' definitions.
//!
//! Owns the common part of all functions: the check for a colon call, the check of arguments, and the script's line
//! in every error. A class lists its members in [`Class::describe`]. One registry puts them into Lua, and another
//! collects their documentation, so both always have the same members.

use std::future::Future;

use mlua::{FromLuaMulti, IntoLua, IntoLuaMulti, Lua, MetaMethod, MultiValue, UserData, UserDataFields};
use mlua::{UserDataMethods, Value};

use crate::error::{self, LabError, Place};
use crate::options;

/// How a script uses a member of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A value, read as `object.name`.
    Field,
    /// A method, called as `object:name(…)`.
    Method,
    /// A function of a module, called as `module.name(…)`.
    Function,
}

/// The documentation of one member of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doc {
    /// The name that scripts use.
    pub name: &'static str,
    /// The arguments and results, as `(a: string, b?: Options): Result`; for a field its type.
    pub signature: &'static str,
    /// What the member does, in a sentence or two.
    pub text: &'static str,
}

/// Shorthand for a [`Doc`].
pub const fn doc(name: &'static str, signature: &'static str, text: &'static str) -> Doc {
    Doc { name, signature, text }
}

/// Receives the members of a class: all of them, or only one kind. `blocking` functions may wait: they suspend the
/// calling task, and nothing else.
pub trait Registry<T> {
    /// Registers a readable value.
    fn field<R: IntoLua + 'static>(
        &mut self,
        _doc: Doc,
        _get: impl Fn(&Lua, &T) -> mlua::Result<R> + 'static,
    ) {
    }

    /// Registers a method that returns at once.
    fn method<A, R>(&mut self, _doc: Doc, _call: impl Fn(&Lua, &T, A) -> mlua::Result<R> + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + 'static,
    {
    }

    /// Registers a method that may wait. It receives the script's calling line.
    fn blocking<A, R, F>(&mut self, _doc: Doc, _call: impl Fn(Lua, T, A, Option<Place>) -> F + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
    }

    /// Registers a function of a module that returns at once.
    fn function<A, R>(&mut self, _doc: Doc, _call: impl Fn(&Lua, A) -> mlua::Result<R> + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + 'static,
    {
    }

    /// Registers a function of a module that may wait.
    fn blocking_function<A, R, F>(&mut self, _doc: Doc, _call: impl Fn(Lua, A, Option<Place>) -> F + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
    }
}

/// A type of objects that scripts can hold.
pub trait Class: Clone + Sized + 'static {
    /// The class's name in definitions and messages.
    const NAME: &'static str;
    /// A description of the class in a sentence.
    const TEXT: &'static str;

    /// Lists all members.
    fn describe<R: Registry<Self>>(registry: &mut R);

    /// The text form of an object, for messages.
    fn show(&self) -> String;

    /// Whether both objects stand for the same thing.
    fn is_same(&self, _: &Self) -> bool {
        false
    }
}

/// The object that a script holds. It refuses unknown members.
#[derive(Clone, Debug)]
pub struct Held<T>(pub T);

impl<T: Class> UserData for Held<T> {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        T::describe(&mut Fields(fields));
        fields.add_meta_field("__type", T::NAME);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        T::describe(&mut Methods(methods));
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.0.show()));
        methods.add_meta_function(MetaMethod::Eq, |_, (left, right): (Value, Value)| {
            let (left, right) = (held::<T>(&left), held::<T>(&right));
            Ok(left.zip(right).is_some_and(|(left, right)| left.is_same(&right)))
        });
        methods.add_meta_method(MetaMethod::Index, |lua, _, key: Value| -> mlua::Result<Value> {
            let (key, docs) = (key.to_string().unwrap_or_default(), docs::<T>());
            let hint = options::hint(&key, docs.iter().map(|(_, doc)| doc.name));
            let text = format!("{} has no `{key}`; {hint}", options::article(T::NAME));
            Err(LabError::misuse(text).at(error::place(lua)).into())
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |lua, _, (key, _): (Value, Value)| -> mlua::Result<()> {
                let text = format!(
                    "cannot set `{}` of {}: it cannot be changed",
                    key.to_string()?,
                    options::article(T::NAME)
                );
                Err(LabError::misuse(text).at(error::place(lua)).into())
            },
        );
    }
}

/// The object in a value, if it belongs to this class.
pub fn held<T: Class>(value: &Value) -> Option<T> {
    let held = value.as_userdata()?.borrow::<Held<T>>().ok()?;
    Some(held.0.clone())
}

/// The documentation of all members of a class, in the order of [`Class::describe`].
pub fn docs<T: Class>() -> Vec<(Use, Doc)> {
    let mut docs = Docs(Vec::new());
    T::describe(&mut docs);
    docs.0
}

/// The parsed arguments of a call.
trait Understood: Sized {
    /// Parses the arguments, or reports the expected ones.
    fn read(lua: &Lua, doc: Doc, args: MultiValue, place: Option<&Place>) -> mlua::Result<Self>;
}

/// The object and the other arguments of a method call.
struct Called<T, A>(T, A);

impl<T: Class, A: FromLuaMulti> Understood for Called<T, A> {
    fn read(lua: &Lua, doc: Doc, mut args: MultiValue, place: Option<&Place>) -> mlua::Result<Self> {
        let this = args.pop_front().as_ref().and_then(held::<T>);
        let this = this.ok_or_else(|| {
            let name = T::NAME.to_lowercase();
            let text = format!("`{}` is called with a colon: `{name}:{}(…)`", doc.name, doc.name);
            LabError::misuse(text).at(place.cloned())
        })?;
        let Plain(args) = Plain::read(lua, doc, args, place)?;
        Ok(Called(this, args))
    }
}

/// The arguments of a call to a module's function.
struct Plain<A>(A);

impl<A: FromLuaMulti> Understood for Plain<A> {
    fn read(lua: &Lua, doc: Doc, args: MultiValue, place: Option<&Place>) -> mlua::Result<Self> {
        let given: Vec<_> = args.iter().map(options::shown).collect();
        A::from_lua_multi(args, lua).map(Plain).map_err(|error| {
            if let mlua::Error::ExternalError(_) = &error {
                return located(error, place);
            }
            let given = given.join(", ");
            let text = format!("it is `{}{}`, not `{}({given})`", doc.name, doc.signature, doc.name);
            LabError::misuse(text).at(place.cloned()).into()
        })
    }
}

/// Adds the line to an error of ours that has none yet.
fn located(error: mlua::Error, place: Option<&Place>) -> mlua::Error {
    match &error {
        mlua::Error::ExternalError(external) => match external.downcast_ref::<LabError>() {
            Some(trouble) => trouble.clone().at(place.cloned()).into(),
            None => error,
        },
        _ => error,
    }
}

struct Fields<'f, F>(&'f mut F);

impl<T: Class, F: UserDataFields<Held<T>>> Registry<T> for Fields<'_, F> {
    fn field<R: IntoLua + 'static>(&mut self, doc: Doc, get: impl Fn(&Lua, &T) -> mlua::Result<R> + 'static) {
        self.0.add_field_method_get(doc.name, move |lua, this| {
            get(lua, &this.0).map_err(|error| located(error, error::place(lua).as_ref()))
        });
    }
}

struct Methods<'m, M>(&'m mut M);

impl<M> Methods<'_, M> {
    /// Adds a function that returns at once.
    fn prompt<T, A, R>(&mut self, doc: Doc, call: impl Fn(&Lua, A) -> mlua::Result<R> + 'static)
    where
        M: UserDataMethods<Held<T>>,
        A: Understood,
        R: IntoLuaMulti + 'static,
    {
        self.0.add_function(doc.name, move |lua, args: MultiValue| {
            let place = error::place(lua);
            let args = A::read(lua, doc, args, place.as_ref())?;
            call(lua, args).map_err(|error| located(error, place.as_ref()))
        });
    }

    /// Adds a function that may wait.
    fn patient<T, A, R, F>(&mut self, doc: Doc, call: impl Fn(Lua, A, Option<Place>) -> F + 'static)
    where
        M: UserDataMethods<Held<T>>,
        A: Understood,
        R: IntoLuaMulti,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
        self.0.add_async_function(doc.name, move |lua, args: MultiValue| {
            let place = error::place(&lua);
            let args = A::read(&lua, doc, args, place.as_ref());
            let called = args.map(|args| call(lua, args, place.clone()));
            async move { called?.await.map_err(|error| located(error, place.as_ref())) }
        });
    }
}

impl<T: Class, M: UserDataMethods<Held<T>>> Registry<T> for Methods<'_, M> {
    fn method<A, R>(&mut self, doc: Doc, call: impl Fn(&Lua, &T, A) -> mlua::Result<R> + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + 'static,
    {
        self.prompt(doc, move |lua, Called::<T, A>(this, args)| call(lua, &this, args));
    }

    fn blocking<A, R, F>(&mut self, doc: Doc, call: impl Fn(Lua, T, A, Option<Place>) -> F + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
        self.patient(doc, move |lua, Called::<T, A>(this, args), place| call(lua, this, args, place));
    }

    fn function<A, R>(&mut self, doc: Doc, call: impl Fn(&Lua, A) -> mlua::Result<R> + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + 'static,
    {
        self.prompt(doc, move |lua, Plain::<A>(args)| call(lua, args));
    }

    fn blocking_function<A, R, F>(&mut self, doc: Doc, call: impl Fn(Lua, A, Option<Place>) -> F + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
        self.patient(doc, move |lua, Plain::<A>(args), place| call(lua, args, place));
    }
}

struct Docs(Vec<(Use, Doc)>);

impl<T> Registry<T> for Docs {
    fn field<R: IntoLua + 'static>(&mut self, doc: Doc, _: impl Fn(&Lua, &T) -> mlua::Result<R> + 'static) {
        self.0.push((Use::Field, doc));
    }

    fn method<A, R>(&mut self, doc: Doc, _: impl Fn(&Lua, &T, A) -> mlua::Result<R> + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + 'static,
    {
        self.0.push((Use::Method, doc));
    }

    fn blocking<A, R, F>(&mut self, doc: Doc, _: impl Fn(Lua, T, A, Option<Place>) -> F + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
        self.0.push((Use::Method, doc));
    }

    fn function<A, R>(&mut self, doc: Doc, _: impl Fn(&Lua, A) -> mlua::Result<R> + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + 'static,
    {
        self.0.push((Use::Function, doc));
    }

    fn blocking_function<A, R, F>(&mut self, doc: Doc, _: impl Fn(Lua, A, Option<Place>) -> F + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
        self.0.push((Use::Function, doc));
    }
}
