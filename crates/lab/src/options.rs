//! Option tables that refuse unknown keys, and the one way to write lengths of time.
//!
//! Owns the wording of those refusals. Every function of the lab's API that takes options reads them through
//! [`Options`]. So a misspelt key is an error with a suggestion, and is never ignored.

use mlua::{FromLua, Lua, Table, Value};
use upaxos_core::types::Micros;

use super::error::LabError;

/// The keys of an option table, for the reader and for editors.
#[derive(Debug)]
pub struct Keys {
    /// The name of the table in the definitions for editors.
    pub name: &'static str,
    /// The allowed keys, each with its type and its meaning.
    pub keys: &'static [Key],
}

/// A key, its type in editors, and its meaning.
pub type Key = (&'static str, &'static str, &'static str);

/// An option table that has only known keys.
#[derive(Debug)]
pub struct Options {
    keys: &'static Keys,
    lua: Lua,
    table: Option<Table>,
}

impl Options {
    /// Takes a table that has only known keys. No table counts as an empty one.
    ///
    /// # Errors
    /// At the first unknown key, with the closest known one.
    pub fn read(lua: &Lua, keys: &'static Keys, table: Option<Table>) -> mlua::Result<Options> {
        for pair in table.iter().flat_map(|table| table.pairs::<Value, Value>()) {
            match pair?.0 {
                Value::String(key) => {
                    let key = key.to_string_lossy();
                    let names = keys.keys.iter().map(|(name, _, _)| *name);
                    if !names.clone().any(|name| name == key) {
                        return Err(LabError::misuse(unknown("option", &key, names)).into());
                    }
                }
                other => {
                    let (first, _, _) = keys.keys[0];
                    let text = format!("options have names (`{{{first} = …}}`), not {}", shown(&other));
                    return Err(LabError::misuse(text).into());
                }
            }
        }
        Ok(Options { keys, lua: lua.clone(), table })
    }

    /// The value of a key, if it is set.
    ///
    /// # Errors
    /// When the value has another type.
    pub fn get<T: FromLua>(&self, key: &str) -> mlua::Result<Option<T>> {
        let known = self.keys.keys.iter().find(|(name, _, _)| *name == key);
        let (_, kind, _) = known.expect("only keys of the list are asked for");
        let value = self.table.as_ref().map_or(Ok(Value::Nil), |table| table.raw_get(key))?;
        if value.is_nil() {
            return Ok(None);
        }
        let given = shown(&value);
        let wrong = || LabError::misuse(format!("option `{key}` is {}, not {given}", article(kind)));
        match T::from_lua(value, &self.lua) {
            Ok(value) => Ok(Some(value)),
            Err(error @ mlua::Error::ExternalError(_)) => Err(error),
            Err(_) => Err(wrong().into()),
        }
    }

    /// A length of time, if it is set.
    ///
    /// # Errors
    /// When the value is not a length of time.
    pub fn time(&self, key: &str) -> mlua::Result<Option<Micros>> {
        Ok(self.get::<Time>(key)?.map(|time| time.0))
    }

    /// A share between 0 and 1, if it is set.
    ///
    /// # Errors
    /// When the value is not such a share.
    pub fn share(&self, key: &str) -> mlua::Result<Option<f64>> {
        match self.get::<f64>(key)? {
            Some(share) if !(0.0..=1.0).contains(&share) => {
                Err(LabError::misuse(format!("option `{key}` is a share from 0 to 1, not {share}")).into())
            }
            share => Ok(share),
        }
    }
}

/// A length of time as scripts write it: `"150ms"`, `"2s"`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Micros);

/// In seconds: more than any lab takes, and small enough that sums cannot overflow.
const LONGEST: f64 = 1e9;

impl FromLua for Time {
    fn from_lua(value: Value, _: &Lua) -> mlua::Result<Time> {
        let seconds = match &value {
            Value::Integer(seconds) => *seconds as f64,
            Value::Number(seconds) => *seconds,
            Value::String(text) => {
                let parsed = humantime::parse_duration(&text.to_string_lossy()).ok();
                parsed.map_or(f64::NAN, |length| length.as_secs_f64())
            }
            _ => f64::NAN,
        };
        if (0.0..=LONGEST).contains(&seconds) {
            return Ok(Time(Micros((seconds * 1e6).round() as u64)));
        }
        let text = format!(
            "a length of time is written \"150ms\" or \"2s\", or is a number of seconds; not {}",
            shown(&value)
        );
        Err(LabError::misuse(text).into())
    }
}

/// Reports an unknown name, with a suggestion.
pub fn unknown<'n>(noun: &str, name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    format!("there is no {noun} `{name}`; {}", hint(name, known))
}

/// A noun with its article.
pub fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    format!("{} {noun}", if an { "an" } else { "a" })
}

/// The suggestion for an unknown name: the closest known one, or all of them.
pub fn hint<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    const ALIKE: f64 = 0.75;
    let likeness = |known: &str| strsim::jaro_winkler(known, name);
    let best = known.clone().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) >= ALIKE) {
        Some(best) => format!("did you mean `{best}`?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// A value of Lua for messages: short, one line.
pub fn shown(value: &Value) -> String {
    shown_to(value, 3)
}

fn shown_to(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        Value::Number(number) if number.fract() != 0.0 => {
            format!("{:.6}", number).trim_end_matches('0').into()
        }
        Value::Function(_) => "a function".into(),
        Value::Table(table) if depth > 0 => {
            let mut listed: Vec<String> =
                table.sequence_values::<Value>().flatten().map(|value| shown_to(&value, depth - 1)).collect();
            let count = listed.len() as i64;
            let is_listed = |key: &Value| matches!(key, Value::Integer(at) if (1..=count).contains(at));
            let pairs = table.pairs::<Value, Value>().flatten().filter(|(key, _)| !is_listed(key));
            let mut named: Vec<String> = pairs
                .map(|(key, value)| {
                    let key = key.to_string().unwrap_or_default();
                    format!("{key} = {}", shown_to(&value, depth - 1))
                })
                .collect();
            named.sort();
            listed.extend(named);
            format!("{{{}}}", listed.join(", "))
        }
        Value::Table(_) => "{…}".into(),
        other => other.to_string().unwrap_or_else(|_| other.type_name().into()),
    }
}

/// A length of time in seconds, for messages.
pub fn seconds(length: Micros) -> String {
    format!("{} s", length.0 as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = Keys {
        name: "TestOptions",
        keys: &[
            ("within", "time", "how long"),
            ("loss", "number", "how much"),
            ("nodes", "integer", "how many"),
        ],
    };

    fn read(text: &str) -> Result<Options, String> {
        let lua = Lua::new();
        let table = lua.load(text).eval::<Table>().unwrap();
        Options::read(&lua, &KEYS, Some(table)).map_err(|error| LabError::of(&error).to_string())
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
        assert_eq!(read("{withn = 1}").unwrap_err(), "there is no option `withn`; did you mean `within`?");
        let far = "there is no option `xyz`; there are within, loss, nodes";
        assert_eq!(read("{xyz = 1}").unwrap_err(), far);
        assert!(read("{5}").unwrap_err().contains("options have names"));
    }

    #[test]
    fn a_length_of_time_has_a_unit_or_is_in_seconds() {
        let time = |text: &str| read(text).unwrap().time("within").map_err(|e| LabError::of(&e).to_string());
        assert_eq!(time("{within = '150ms'}"), Ok(Some(Micros(150_000))));
        assert_eq!(time("{within = 0.5}"), Ok(Some(Micros(500_000))));
        assert_eq!(time("{}"), Ok(None));
        for wrong in ["'soon'", "-1", "0/0", "{}", "1e30"] {
            let error = time(&format!("{{within = {wrong}}}")).unwrap_err();
            assert!(error.starts_with("a length of time is written \"150ms\""), "{error}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_or_size_is_named() {
        let share = read("{loss = 1.5}").unwrap().share("loss").unwrap_err();
        assert_eq!(LabError::of(&share).to_string(), "option `loss` is a share from 0 to 1, not 1.5");
        let nodes = read("{nodes = {}}").unwrap().get::<u16>("nodes").unwrap_err();
        assert_eq!(LabError::of(&nodes).to_string(), "option `nodes` is an integer, not {}");
    }

    #[test]
    fn values_are_shown_in_one_line_and_in_one_order() {
        let lua = Lua::new();
        let value: Value = lua.load("{1, 'a', z = 2.5, b = {true}}").eval().unwrap();
        assert_eq!(shown(&value), "{1, \"a\", b = {true}, z = 2.5}");
    }
}
