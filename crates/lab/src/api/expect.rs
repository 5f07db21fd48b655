//! Expectations: `expect(got)` and its conditions, which must hold now or within a time.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Function, Lua, LuaString, Table, Value};
use upaxos_core::types::Micros;

use super::registry::{Class, Doc, Held, Registry, doc};
use super::run;
use crate::error::{self, LabError, Place};
use crate::options::{Time, seconds, shown};
use crate::run::{Begun, Run};

/// A value or a function under test.
#[derive(Clone, Debug)]
pub struct Expectation {
    got: Value,
    what: Option<String>,
    within: Rc<Cell<Option<Micros>>>,
    is_judged: Rc<Cell<bool>>,
}

/// The documentation of the global function `expect(got, what?)`.
pub const EXPECT: Doc = doc(
    "expect",
    "(got: any, what?: string): Expectation",
    "Starts an expectation. If `got` is a function, it is called, repeatedly with `:within(…)`. `what` names \
     the value in a failure.",
);

/// Starts an expectation.
///
/// # Errors
/// While the script is still loading.
pub fn expect(lua: &Lua, (got, what): (Value, Option<String>)) -> mlua::Result<Held<Expectation>> {
    let run = run(lua)?;
    let is_judged = Rc::new(Cell::new(false));
    let mut begun = run.expectations.borrow_mut();
    begun.retain(|begun| !begun.is_judged.get());
    begun.push(Begun { is_judged: Rc::clone(&is_judged), place: error::place(lua) });
    Ok(Held(Expectation { got, what, within: Rc::default(), is_judged }))
}

/// Reports an expectation that was started and never judged: it would hold in every case.
pub fn unfinished(run: &Run) -> Option<LabError> {
    let begun = run.expectations.borrow();
    let Begun { place, .. } = begun.iter().find(|begun| !begun.is_judged.get())?;
    let text = "this tests nothing: add a condition, for example `:ok()` or `:equals(…)`";
    Some(LabError::misuse(text).at(place.clone()))
}

impl Class for Expectation {
    const NAME: &'static str = "Expectation";
    const TEXT: &'static str = "A condition for a value, or for the result of a function.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        let text = "Allows this much time until the condition holds. Needs a function.";
        registry.method(doc("within", "(time: Time): Expectation", text), |_, this, time: Time| {
            if !this.got.is_function() {
                let text = "a value does not change by waiting: give `expect` a function that returns it";
                return Err(LabError::misuse(text).into());
            }
            this.within.set(Some(time.0));
            Ok(Held(this.clone()))
        });
        describe_values(registry);
        describe_numbers(registry);
        describe_texts(registry);
        describe_outcomes(registry);
    }

    fn show(&self) -> String {
        "an expectation".into()
    }
}

fn describe_values<R: Registry<Expectation>>(registry: &mut R) {
    let text = "It equals this. Tables are compared by their contents.";
    registry.blocking(
        doc("equals", "(expected: any)", text),
        |lua, this, expected: Value, place| async move {
            let test = |got: &Value| same(got, &expected);
            this.judge(lua, place, shown(&expected), test).await
        },
    );
    registry.blocking(
        doc("differs", "(from: any)", "It does not equal this."),
        |lua, this, from: Value, place| async move {
            let test = |got: &Value| Ok(!same(got, &from)?);
            this.judge(lua, place, format!("anything but {}", shown(&from)), test).await
        },
    );
    registry
        .blocking(doc("is_true", "()", "It is neither false nor nil."), |lua, this, (), place| async move {
            this.judge(lua, place, "true".into(), |got| Ok(holds(got))).await
        });
    registry.blocking(doc("is_false", "()", "It is false or nil."), |lua, this, (), place| async move {
        this.judge(lua, place, "false".into(), |got| Ok(!holds(got))).await
    });
    registry.blocking(doc("is_nil", "()", "It is nil."), |lua, this, (), place| async move {
        this.judge(lua, place, "nil".into(), |got| Ok(got.is_nil())).await
    });
    let text = "It is one of these.";
    registry.blocking(
        doc("one_of", "(list: any[])", text),
        |lua, this, list: Vec<Value>, place| async move {
            let listed: Vec<_> = list.iter().map(shown).collect();
            let test =
                |got: &Value| list.iter().try_fold(false, |found, value| Ok(found || same(got, value)?));
            this.judge(lua, place, format!("one of {}", listed.join(", ")), test).await
        },
    );
}

fn describe_numbers<R: Registry<Expectation>>(registry: &mut R) {
    type Compares = fn(f64, f64) -> bool;
    let comparisons: [(&'static str, &'static str, Compares); 4] = [
        ("at_least", "at least", |got, bound| got >= bound),
        ("at_most", "at most", |got, bound| got <= bound),
        ("above", "above", |got, bound| got > bound),
        ("below", "below", |got, bound| got < bound),
    ];
    for (name, words, compare) in comparisons {
        let text = "It is a number on that side of the bound.";
        registry.blocking(
            doc(name, "(bound: number)", text),
            move |lua, this, bound: f64, place| async move {
                let test = |got: &Value| Ok(number(got).is_some_and(|got| compare(got, bound)));
                this.judge(lua, place, format!("{words} {bound}"), test).await
            },
        );
    }
}

fn describe_texts<R: Registry<Expectation>>(registry: &mut R) {
    let text = "It is a text that contains this, or a list that has it as an element.";
    registry.blocking(doc("contains", "(part: any)", text), |lua, this, part: Value, place| async move {
        let test = |got: &Value| match (got, &part) {
            (Value::String(got), Value::String(part)) => {
                Ok(got.to_string_lossy().contains(part.to_string_lossy().as_str()))
            }
            (Value::Table(list), part) => {
                let mut elements = list.sequence_values::<Value>();
                elements.try_fold(false, |found, element| Ok(found || same(&element?, part)?))
            }
            _ => Ok(false),
        };
        this.judge(lua, place, format!("something with {} in it", shown(&part)), test).await
    });
    let text = "It is a text that matches this Lua pattern.";
    registry.blocking(
        doc("matches", "(pattern: string)", text),
        |lua, this, pattern: LuaString, place| async move {
            let find: Function = lua.globals().get::<Table>("string")?.get("find")?;
            let expected = format!("a text that fits {:?}", pattern.to_string_lossy());
            let test = |got: &Value| match got {
                Value::String(text) => Ok(!find.call::<Value>((text.clone(), pattern.clone()))?.is_nil()),
                _ => Ok(false),
            };
            this.judge(lua, place, expected, test).await
        },
    );
}

fn describe_outcomes<R: Registry<Expectation>>(registry: &mut R) {
    let statuses =
        [("ok", "the outcome ok"), ("refused", "the outcome refused"), ("unknown", "the outcome unknown")];
    for (status, words) in statuses {
        let text = "It is an outcome with this status.";
        registry.blocking(doc(status, "()", text), move |lua, this, (), place| async move {
            let test = |got: &Value| match got {
                Value::Table(outcome) => {
                    Ok(outcome.raw_get::<Option<String>>("status")?.as_deref() == Some(status))
                }
                _ => Ok(false),
            };
            this.judge(lua, place, words.into(), test).await
        });
    }
}

impl Expectation {
    /// Tests the value until the condition holds or the time is over.
    async fn judge(
        self,
        lua: Lua,
        place: Option<Place>,
        expected: String,
        test: impl Fn(&Value) -> mlua::Result<bool>,
    ) -> mlua::Result<()> {
        let run = run(&lua)?;
        self.is_judged.set(true);
        let within = self.within.get();
        let end = run.now() + within.unwrap_or_default();
        loop {
            let got = match &self.got {
                Value::Function(function) => function.call_async::<Value>(()).await?,
                value => value.clone(),
            };
            if test(&got)? {
                return Ok(());
            }
            if run.now() >= end {
                let what = self.what.as_ref().map_or(String::new(), |what| format!("{what}: "));
                let time = within.map_or(String::new(), |within| format!(" within {}", seconds(within)));
                return Err(LabError::expected(format!("{what}{expected}{time}"), shown(&got)).into());
            }
            run.wait_for_change(end, place.clone()).await;
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

fn holds(value: &Value) -> bool {
    !matches!(value, Value::Nil | Value::Boolean(false))
}

/// Whether two values are the same. Tables are compared by their contents.
fn same(left: &Value, right: &Value) -> mlua::Result<bool> {
    const DEEPEST: usize = 50;
    same_to(left, right, DEEPEST)
}

fn same_to(left: &Value, right: &Value, depth: usize) -> mlua::Result<bool> {
    match (left, right) {
        (Value::Table(left), Value::Table(right)) if left != right && depth == 0 => {
            let text = "cannot compare tables that contain each other: compare their fields";
            Err(LabError::misuse(text).into())
        }
        (Value::Table(left), Value::Table(right)) if left != right => {
            let mut count = 0;
            for pair in left.pairs::<Value, Value>() {
                let (key, value) = pair?;
                if !same_to(&value, &right.raw_get(key)?, depth - 1)? {
                    return Ok(false);
                }
                count += 1;
            }
            Ok(right.pairs::<Value, Value>().count() == count)
        }
        _ => left.equals(right),
    }
}
