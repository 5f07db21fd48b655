//! Definitions for editors (LuaLS), generated from the registered API: `scripts/meta/lab.lua`.
//!
//! Owns only the form of those definitions. A test compares the file with them. To write the file anew, run
//! `UPAXOS_WRITE=1 cargo test -p upaxos-node --test labs`.

use std::fmt::Write;

use super::args::{TEST, WITHIN};
use super::expect::{EXPECT, Expectation};
use super::faults::{LINK, SHAPE};
use super::group::{LEADER, LEARNED};
use super::load::{LOAD, Load, SUMMARY};
use super::module::{Module, UNTIL};
use super::node::{DISK, JOIN, START, STATUS};
use super::objects::{Group, Node};
use super::registry::{Class, Doc, Use, docs};
use super::requests::{CHANGE, Client, Future, OUTCOME, REQUEST};
use super::task::Task;
use crate::options::Keys;

/// Every option table and every result table, except [`SUMMARY`].
const TABLES: [&Keys; 15] = [
    &TEST, &WITHIN, &UNTIL, &LEADER, &LEARNED, &REQUEST, &CHANGE, &OUTCOME, &START, &JOIN, &DISK, &STATUS,
    &LINK, &SHAPE, &LOAD,
];

const HEAD: &str = "---@meta
-- The API of lab scripts, for editors that run the Lua language server. Made from the code that registers it
-- (crates/lab/src/api); a test holds it to that. To write it anew:
--   UPAXOS_WRITE=1 cargo test -p upaxos-node --test labs

---A length of time: \"150ms\", \"2s\", or a number of seconds.
---@alias Time string|number
---An end of a link: a node, or \"clients\", which stands for all of them.
---@alias End Node|integer|\"clients\"
";

/// The definitions of all objects and functions of lab scripts.
pub fn definitions() -> String {
    let mut text = HEAD.to_owned();
    for keys in TABLES.into_iter().chain([&SUMMARY]) {
        table(&mut text, keys);
    }
    class::<Group>(&mut text, "Group");
    class::<Node>(&mut text, "Node");
    class::<Client>(&mut text, "Client");
    class::<Future>(&mut text, "Future");
    class::<Load>(&mut text, "Load");
    class::<Task>(&mut text, "Task");
    class::<Expectation>(&mut text, "Expectation");
    class::<Module>(&mut text, "lab");
    function(&mut text, "", EXPECT);
    text
}

fn table(text: &mut String, keys: &Keys) {
    let is_given = keys.name.ends_with("Options");
    let _ = writeln!(text, "\n---@class {}", keys.name);
    for (name, kind, what) in keys.keys {
        let optional = if is_given { "?" } else { "" };
        let _ = writeln!(text, "---@field {name}{optional} {kind} {what}");
    }
}

fn class<T: Class>(text: &mut String, variable: &str) {
    let docs = docs::<T>();
    let _ = writeln!(text, "\n---{}\n---@class {}", T::TEXT, T::NAME);
    for (_, field) in docs.iter().filter(|(kind, _)| *kind == Use::Field) {
        let _ = writeln!(text, "---@field {} {} {}", field.name, field.signature, field.text);
    }
    let scope = if variable == "lab" { "" } else { "local " };
    let _ = writeln!(text, "{scope}{variable} = {{}}");
    for (kind, doc) in docs {
        match kind {
            Use::Field => {}
            Use::Method => function(text, &format!("{variable}:"), doc),
            Use::Function => function(text, &format!("{variable}."), doc),
        }
    }
}

fn function(text: &mut String, prefix: &str, doc: Doc) {
    let (args, results) = parts(doc.signature);
    let _ = writeln!(text, "\n---{}", doc.text);
    for arg in &args {
        let (name, kind) = arg.split_once(": ").unwrap_or((arg, "any"));
        let _ = writeln!(text, "---@param {name} {kind}");
    }
    if !results.is_empty() {
        let _ = writeln!(text, "---@return {results}");
    }
    let names: Vec<_> = args.iter().map(|arg| arg.split([':', '?']).next().unwrap_or(arg)).collect();
    let _ = writeln!(text, "function {prefix}{}({}) end", doc.name, names.join(", "));
}

/// Splits `(a: string, b?: fun(x: any)): Result` into its arguments and its results.
fn parts(signature: &str) -> (Vec<&str>, &str) {
    let (mut depth, mut start, mut args) = (0_i32, 1, Vec::new());
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '{' | '<' | '[' => depth += 1,
            ')' | '}' | '>' | ']' => depth -= 1,
            _ => {}
        }
        let ends = depth == 0;
        if ends || (c == ',' && depth == 1) {
            let arg = signature[start..at].trim();
            args.extend((!arg.is_empty()).then_some(arg));
            start = at + 1;
        }
        if ends {
            break;
        }
    }
    (args, signature[start..].trim_start_matches(':').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_taken_apart_where_its_own_commas_are() {
        let (args, results) = parts("(a: string, b?: fun(x: any, y: any): Task): Result");
        assert_eq!((args, results), (vec!["a: string", "b?: fun(x: any, y: any): Task"], "Result"));
        assert_eq!(parts("()"), (vec![], ""));
    }

    #[test]
    fn every_type_that_is_named_is_defined() {
        let text = definitions();
        let words =
            text.lines().filter(|line| line.starts_with("---@")).flat_map(|line| line.split([' ', '|', '[']));
        let named = words.filter(|word| word.ends_with("Options") && word.len() > "Options".len());
        for name in named {
            assert!(text.contains(&format!("---@class {name}\n")), "{name} is not defined");
        }
    }
}
