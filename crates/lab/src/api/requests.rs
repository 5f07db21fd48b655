//! The requests of clients and their outcomes. Each request has two forms: one that waits and one that does not.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{FromLuaMulti, Lua, LuaString, Table};
use upaxos_core::client::{Ask, FORGOTTEN, Outcome};
use upaxos_core::types::{Act, Change, Instance, Micros, Value};

use super::args::{Who, record};
use super::registry::{Class, Doc, Held, Registry, doc};
use super::run;
use crate::backend::{Settled, Ticket};
use crate::error::{LabError, Place};
use crate::options::{Key, Keys, Options};
use crate::run::{On, PATIENCE, Wake};

/// The key for a client's patience.
pub const ANSWERED: Key =
    ("within", "Time", "after how long without an answer the outcome is unknown [\"20s\"]");

/// The options of a request.
pub const REQUEST: Keys = Keys { name: "RequestOptions", keys: &[ANSWERED] };

/// The options of a request to change the group.
pub const CHANGE: Keys = Keys {
    name: "ChangeOptions",
    keys: &[
        ANSWERED,
        ("force", "boolean", "whether to change the group even if too few members would be alive [false]"),
    ],
};

/// The fields of an outcome.
pub const OUTCOME: Keys = Keys {
    name: "Outcome",
    keys: &[
        (
            "status",
            "\"ok\"|\"refused\"|\"unknown\"|\"not_yet\"",
            "how it ended; `unknown` may still turn out either way",
        ),
        ("instance", "integer?", "where it was chosen, or (for a fast read) where the value was written"),
        ("value", "string?", "the chosen or read value"),
        ("learned", "integer?", "how far the answering node had learned"),
        ("members", "integer[]?", "the members of the group"),
        ("epoch", "integer?", "the instance that chose this group"),
        ("reason", "string?", "why it was refused, or why the outcome is unknown"),
        ("took", "number", "the latency, in seconds"),
    ],
};

/// An object that sends requests as a client.
pub trait Asks: Class {
    /// The client's number, which identifies its session.
    fn client(&self) -> u64;
}

/// A client of its own: one session, whose requests are carried out exactly once each.
#[derive(Clone, Debug)]
pub struct Client(pub u64);

impl Asks for Client {
    fn client(&self) -> u64 {
        self.0
    }
}

impl Class for Client {
    const NAME: &'static str = "Client";
    const TEXT: &'static str =
        "A client: a session of its own, whose requests are carried out exactly once each.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        describe(registry);
    }

    fn show(&self) -> String {
        format!("client {}", self.0)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A request in flight.
#[derive(Clone, Debug)]
pub struct Future {
    ticket: Ticket,
    /// The outcome, once the script has asked for it.
    outcome: Rc<RefCell<Option<Table>>>,
}

impl Class for Future {
    const NAME: &'static str = "Future";
    const TEXT: &'static str = "A request in flight.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        registry.field(doc("done", "boolean", "Whether it has ended."), |lua, this| this.is_done(lua));
        let text = "Waits until the request has ended. Further calls return the same outcome.";
        registry.blocking(doc("await", "(): Outcome", text), |lua, this, (), place| this.wait(lua, place));
    }

    fn show(&self) -> String {
        format!("question {}", self.ticket.0)
    }
}

impl Future {
    fn is_done(&self, lua: &Lua) -> mlua::Result<bool> {
        if self.outcome.borrow().is_none() {
            let answer = run(lua)?.take_answer(self.ticket);
            *self.outcome.borrow_mut() = answer.map(|answer| table(lua, &answer)).transpose()?;
        }
        Ok(self.outcome.borrow().is_some())
    }

    async fn wait(self, lua: Lua, place: Option<Place>) -> mlua::Result<Table> {
        let run = run(&lua)?;
        while !self.is_done(&lua)? {
            // The world ends every request when its patience ends.
            let wake = Wake { at: Micros(u64::MAX), on: On::Answer(self.ticket) };
            run.wait(wake, place.clone()).await;
        }
        let outcome = self.outcome.borrow().clone();
        outcome.ok_or_else(|| LabError::misuse("the request was abandoned").into())
    }
}

/// The documentation of one request in both forms.
macro_rules! forms {
    ($name:literal, $args:literal, $text:literal) => {
        [
            doc($name, concat!("(", $args, "): Outcome"), $text),
            doc(
                concat!($name, "_async"),
                concat!("(", $args, "): Future"),
                concat!("`", $name, "` without waiting."),
            ),
        ]
    };
}

/// Registers all requests.
pub fn describe<T: Asks, R: Registry<T>>(registry: &mut R) {
    let write = forms!(
        "write",
        "value: string, options?: RequestOptions",
        "Writes a value, exactly once: `ok` with the instance at which it is chosen."
    );
    question(registry, write, &REQUEST, |(value, options): (LuaString, Plain)| {
        let ask = Ask::write(Value::from(&*value.as_bytes()));
        Ok((ask.map_err(|error| LabError::misuse(format!("cannot write this: {error}")))?, options))
    });
    let read = forms!(
        "read",
        "options?: RequestOptions",
        "Safe read: the last value written, through an instance of its own."
    );
    question(registry, read, &REQUEST, |options: Plain| Ok((Ask::Read, options)));
    let fast_read = forms!(
        "fast_read",
        "options?: RequestOptions",
        "Fast read: the last value written, without an instance where that is possible."
    );
    question(registry, fast_read, &REQUEST, |options: Plain| Ok((Ask::FastRead, options)));
    let query = forms!(
        "query",
        "question: string, options?: RequestOptions",
        "A hook script's answer to a question, as a safe read: `ok` with the answer."
    );
    question(registry, query, &REQUEST, |(question, options): (LuaString, Plain)| {
        Ok((Ask::Query(Value::from(&*question.as_bytes())), options))
    });
    let fast_query = forms!(
        "fast_query",
        "question: string, options?: RequestOptions",
        "The same, without an instance where that is possible."
    );
    question(registry, fast_query, &REQUEST, |(question, options): (LuaString, Plain)| {
        Ok((Ask::FastQuery(Value::from(&*question.as_bytes())), options))
    });
    let history = forms!(
        "history",
        "instance: integer, options?: RequestOptions",
        "The value chosen at an instance: `ok` with the value, or `not_yet`."
    );
    question(registry, history, &REQUEST, |(instance, options): (u64, Plain)| {
        Ok((Ask::History(Instance(instance)), options))
    });
    describe_changes(registry);
}

/// Registers the requests about the group itself.
fn describe_changes<T: Asks, R: Registry<T>>(registry: &mut R) {
    let members = forms!("members", "options?: RequestOptions", "The members of the group.");
    question(registry, members, &REQUEST, |options: Plain| Ok((Ask::Members, options)));
    let leave = forms!(
        "leave",
        "node: Node|integer, options?: ChangeOptions",
        "Removes a node from the group: `ok` with the instance of the change."
    );
    question(registry, leave, &CHANGE, |(node, options): (Who, Plain)| {
        Ok((Ask::Change(Change { act: Act::Leave(node.0), is_forced: false }), options))
    });
    let replace = forms!(
        "replace",
        "old: Node|integer, new: Node|integer, options?: ChangeOptions",
        "Replaces a member with a node that is ready to join, in one change."
    );
    question(registry, replace, &CHANGE, |(old, new, options): (Who, Who, Plain)| {
        Ok((Ask::Change(Change { act: Act::Replace(old.0, new.0), is_forced: false }), options))
    });
}

/// Options, not parsed yet.
type Plain = Option<Table>;

/// A request, and its options.
type Asked = (Ask, Plain);

/// Registers a request in both forms. `make` parses its arguments.
fn question<T: Asks, R: Registry<T>, A: FromLuaMulti + 'static>(
    registry: &mut R,
    [waits, waits_not]: [Doc; 2],
    keys: &'static Keys,
    make: fn(A) -> Result<Asked, LabError>,
) {
    registry.blocking(waits, move |lua, this: T, args, place| async move {
        let (ask, options) = make(args)?;
        begin(&lua, this.client(), ask, keys, options)?.wait(lua, place).await
    });
    registry.method(waits_not, move |lua, this: &T, args| {
        let (ask, options) = make(args)?;
        Ok(Held(begin(lua, this.client(), ask, keys, options)?))
    });
}

/// Sends a request with these options, without waiting for its outcome.
fn begin(
    lua: &Lua,
    client: u64,
    mut ask: Ask,
    keys: &'static Keys,
    options: Option<Table>,
) -> mlua::Result<Future> {
    let options = Options::read(lua, keys, options)?;
    let patience = options.time("within")?.unwrap_or(PATIENCE);
    if let Ask::Change(change) = &mut ask {
        change.is_forced = options.get("force")?.unwrap_or(false);
    }
    let ticket = run(lua)?.ask(client, ask, patience)?;
    Ok(Future { ticket, outcome: Rc::default() })
}

/// An outcome as a table for scripts.
fn table(lua: &Lua, answer: &Settled) -> mlua::Result<Table> {
    let table = record(lua, &OUTCOME)?;
    let text = |value: &Value| lua.create_string(value.as_bytes());
    match &answer.outcome {
        Outcome::Chosen { instance, value } => {
            table.set("status", "ok")?;
            table.set("instance", instance.0)?;
            table.set("value", text(value)?)?;
        }
        Outcome::Read { instance, learned, value } => {
            table.set("status", "ok")?;
            table.set("instance", instance.0)?;
            table.set("learned", learned.0)?;
            table.set("value", text(value)?)?;
        }
        Outcome::Replied { learned, value } => {
            table.set("status", "ok")?;
            table.set("learned", learned.0)?;
            table.set("value", text(value)?)?;
        }
        Outcome::NotYet { instance, learned } => {
            table.set("status", "not_yet")?;
            table.set("instance", instance.0)?;
            table.set("learned", learned.0)?;
        }
        Outcome::Members { epoch, learned, members } => {
            table.set("status", "ok")?;
            table.set("epoch", epoch.0)?;
            table.set("learned", learned.0)?;
            table.set("members", members.iter().map(|id| id.0).collect::<Vec<_>>())?;
        }
        Outcome::Refused { reason } => {
            table.set("status", "refused")?;
            table.set("reason", text(reason)?)?;
        }
        Outcome::Forgotten => {
            table.set("status", "unknown")?;
            table.set("reason", FORGOTTEN)?;
        }
        Outcome::Unknown => {
            table.set("status", "unknown")?;
            table.set("reason", "no answer in time")?;
        }
    }
    table.set("took", answer.took.0 as f64 / 1e6)?;
    Ok(table)
}
