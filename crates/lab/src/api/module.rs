//! The module `lab`: declares labs, and offers time, tasks and output.

use mlua::{Function, Lua, MultiValue, Table, Value};
use upaxos_core::types::Micros;

use super::args::{IN_TIME, TEST};
use super::registry::{Class, Held, Registry, doc};
use super::run;
use super::task::Task;
use crate::error::{self, LabError, Place, What};
use crate::options::{self, Keys, Options, Time, seconds};
use crate::report;
use crate::run::{On, PATIENCE, Run, Wake};

/// The labs that a script has declared so far.
#[derive(Default)]
pub struct Labs(pub Vec<Lab>);

/// A lab as it was declared.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The lab's title. It is unique in the script.
    pub title: String,
    /// The line of its declaration.
    pub place: Option<Place>,
    /// The lab's options, not parsed yet.
    pub options: Option<Table>,
    /// The function that the lab runs.
    pub body: Function,
}

/// The options of waiting for a condition.
pub const UNTIL: Keys = Keys {
    name: "UntilOptions",
    keys: &[IN_TIME, ("what", "string", "the awaited condition, for the message of a failure")],
};

/// The module that scripts use as `lab`.
#[derive(Clone, Copy, Debug)]
pub struct Module;

impl Class for Module {
    const NAME: &'static str = "lab";
    const TEXT: &'static str = "Labs: what happens to a group, and what must hold.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        let text = "Declares a lab: a group of its own, and what happens to it.";
        let signature = "(name: string, options: TestOptions, body: fun(g: Group))";
        registry.function(doc("test", signature, text), declare);
        let text = "The world of the lab: sim, raw or udp.";
        registry.field(doc("world", "string", text), |lua, _| Ok(run(lua)?.world_name));
        registry.field(doc("seed", "integer", "The seed of all chance."), |lua, _| Ok(run(lua)?.setup.seed));
        describe_time(registry);
        describe_tasks(registry);
        describe_words(registry);
    }

    fn show(&self) -> String {
        "the module lab".into()
    }
}

fn declare(lua: &Lua, (title, second, third): (String, Value, Option<Function>)) -> mlua::Result<()> {
    let (options, body) = match (second, third) {
        (Value::Table(options), Some(body)) => (Some(options), body),
        (Value::Function(body), None) => (None, body),
        _ => {
            let text = "a lab has a name, options and a function: lab.test(\"name\", {nodes = 3}, function(g) … end)";
            return Err(LabError::misuse(text).into());
        }
    };
    Options::read(lua, &TEST, options.clone())?;
    let Some(mut labs) = lua.app_data_mut::<Labs>() else {
        return Err(LabError::misuse("a lab cannot be declared inside of another").into());
    };
    if labs.0.iter().any(|lab| lab.title == title) {
        return Err(
            LabError::misuse(format!("there are two labs with the name {title:?} in this script")).into()
        );
    }
    labs.0.push(Lab { title, place: error::place(lua), options, body });
    Ok(())
}

fn describe_time<R: Registry<Module>>(registry: &mut R) {
    let text = "The seconds since the lab began, on the clock of its world.";
    registry.function(doc("now", "(): number", text), |lua, ()| Ok(run(lua)?.now().0 as f64 / 1e6));
    registry.blocking_function(
        doc("sleep", "(time: Time)", "Waits; everything else continues."),
        |lua, time: Time, place| async move {
            pause(&*run(&lua)?, time.0, place).await;
            Ok(())
        },
    );
    let text = "Waits until the function returns a true value, and returns that value.";
    registry.blocking_function(
        doc("wait_until", "(condition: fun(): any, options?: UntilOptions): any", text),
        |lua, (condition, options): (Function, Option<Table>), place| async move {
            let options = Options::read(&lua, &UNTIL, options)?;
            let within = options.time("within")?.unwrap_or(PATIENCE);
            let what = options.get::<String>("what")?.unwrap_or_else(|| "the condition to hold".into());
            let run = run(&lua)?;
            let end = run.now() + within;
            loop {
                let got = condition.call_async::<Value>(()).await?;
                if !matches!(got, Value::Nil | Value::Boolean(false)) {
                    return Ok(got);
                }
                if run.now() >= end {
                    let expected = format!("{what} within {}", seconds(within));
                    return Err(LabError::expected(expected, "it did not").into());
                }
                run.wait_for_change(end, place.clone()).await;
            }
        },
    );
}

fn describe_tasks<R: Registry<Module>>(registry: &mut R) {
    let text = "Starts a task: the function runs beside everything else, and ends with the lab.";
    registry.function(
        doc("spawn", "(body: fun(...: any): any, ...: any): Task", text),
        |lua, (body, args): (Function, MultiValue)| {
            let body = body.call_async::<MultiValue>(args);
            Ok(Held(Task(run(lua)?.spawn(Box::pin(body)))))
        },
    );
    let text =
        "Starts a task that calls the function again and again, with this much time between two calls.";
    registry.function(
        doc("every", "(time: Time, body: fun()): Task", text),
        |lua, (time, body): (Time, Function)| {
            let (run, place) = (run(lua)?, error::place(lua));
            let weak = std::rc::Rc::downgrade(&run);
            Ok(Held(Task(run.spawn(Box::pin(async move {
                while let Some(run) = weak.upgrade() {
                    pause(&run, time.0, place.clone()).await;
                    drop(run);
                    body.call_async::<()>(()).await?;
                }
                Ok(MultiValue::new())
            })))))
        },
    );
}

fn describe_words<R: Registry<Module>>(registry: &mut R) {
    let text = "Prints a line. In a sweep of seeds, and with --json, nothing is printed.";
    registry.function(doc("say", "(...: any)", text), |lua, words: mlua::Variadic<Value>| say(lua, &words));
    let text = "One step of a story: calls the function, and prints the name, the text that the function returns, \
                and how long it took (or the seconds that it also returns).";
    registry.blocking_function(
        doc("step", "(name: string, body: fun(): string, number?)", text),
        |lua, (name, body): (String, Function), _| async move {
            let run = run(&lua)?;
            let began = run.now();
            let (text, took) = body.call_async::<(String, Option<Time>)>(()).await?;
            let took = took.map_or_else(|| run.now().since(began), |took| took.0);
            (run.say)(&report::step(&name, &text, took.into()));
            Ok(())
        },
    );
    let text = "Ends the lab here as skipped, with the reason.";
    registry.function(doc("skip", "(reason: string)", text), |_, reason: String| -> mlua::Result<()> {
        Err(LabError { place: None, what: What::Skip(reason) }.into())
    });
    let text = "Fails the lab.";
    registry.function(doc("fail", "(why: string)", text), |_, why: String| -> mlua::Result<()> {
        Err(LabError::misuse(why).into())
    });
}

/// Prints a line.
///
/// # Errors
/// While the script is still loading.
pub fn say(lua: &Lua, words: &[Value]) -> mlua::Result<()> {
    let word = |value: &Value| match value {
        Value::String(text) => text.to_string_lossy(),
        other => options::shown(other),
    };
    (run(lua)?.say)(&words.iter().map(word).collect::<Vec<_>>().join(" "));
    Ok(())
}

/// Lets time pass, at least 100 µs: a loop without time would stop all tasks.
async fn pause(run: &Run, time: Micros, place: Option<Place>) {
    const SHORTEST: Micros = Micros(100);
    let at = run.now() + time.max(SHORTEST);
    run.wait(Wake { at, on: On::Nothing }, place).await;
}
