//! Reads which file of a crate imports from which other file, and finds circles among them.
//!
//! This module owns the reading of `use` trees and of paths in code. A path counts for the file that defines the named
//! thing: a re-export by another file is followed. It reads text only, so it relies on the form that `cargo fmt`
//! gives the sources. Tests are left out: `mod tests` at the end of a file, and files and folders called `tests`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The imports of each file: the files that it imports from, each with one path that does so. Files are named
/// without their ending, from the folder `src` on.
pub type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// The name of a crate's root file in [`Imports`].
const ROOT: &str = "lib";

/// The maximum number of re-exports that one path is followed through.
const MOST_STEPS: usize = 16;

/// One name that a `use` brings into a file.
struct Binding {
    path: Vec<String>,
    is_public: bool,
}

/// The imports of one file, and the names in the rest of its code.
#[derive(Default)]
struct Source {
    uses: BTreeMap<String, Binding>,
    /// The paths of imports that bind no name: `use a::*` and `use a::B as _`.
    unnamed: Vec<Vec<String>>,
    /// The paths in its code that have two parts or more.
    paths: BTreeSet<Vec<String>>,
    /// The words of its code, other than fields and methods.
    words: BTreeSet<String>,
}

/// The place that a path leads to.
struct Target {
    module: String,
    /// Whether the path names the module itself, and nothing in it.
    is_module: bool,
}

/// All files of a crate, by module path; the root has an empty one.
struct Crate(BTreeMap<String, Source>);

/// Reads the imports between the files of the crate in the folder `root`.
pub fn read(root: &Path) -> Imports {
    let src = root.join("src");
    let mut files = BTreeMap::new();
    collect(&src, "", &mut files);
    let has_library = src.join("lib.rs").exists();
    let file = if has_library { "lib.rs" } else { "main.rs" };
    let text = fs::read_to_string(src.join(file)).expect("the root of a crate");
    files.insert(String::new(), Source::parse(&text));
    if has_library && let Ok(program) = fs::read_to_string(src.join("main.rs")) {
        assert!(
            !program.lines().any(|line| line.starts_with("mod ")),
            "{}: main.rs has modules",
            root.display()
        );
    }
    let files = Crate(files);
    let name = |module: &str| if module.is_empty() { ROOT.to_owned() } else { module.to_owned() };
    let named =
        |edges: BTreeMap<String, String>| edges.into_iter().map(|(to, path)| (name(&to), path)).collect();
    files.0.keys().map(|module| (name(module), named(files.edges(module)))).collect()
}

fn collect(folder: &Path, module: &str, files: &mut BTreeMap<String, Source>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in ASCII").to_owned();
        let inner = join(module, &stem);
        match () {
            () if stem == "tests" || ["lib", "main"].contains(&inner.as_str()) => {}
            () if path.is_dir() => collect(&path, &inner, files),
            () => {
                let text = fs::read_to_string(&path).expect("a source");
                files.insert(inner, Source::parse(&text));
            }
        }
    }
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}/{name}") }
}

fn parent(module: &str) -> String {
    module.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned())
}

impl Crate {
    /// Finds the files that `module` imports from.
    fn edges(&self, module: &str) -> BTreeMap<String, String> {
        let source = &self.0[module];
        let mut edges = BTreeMap::new();
        let mut add = |target: &str, path: &[String]| {
            if target != module {
                edges.entry(target.to_owned()).or_insert_with(|| path.join("::"));
            }
        };
        for (name, Binding { path, is_public }) in &source.uses {
            let Some(target) = self.resolve(module, path, 0) else { continue };
            match () {
                // A re-export that the file itself does not use is an edge of the files that use it.
                () if *is_public && !source.words.contains(name) => {}
                // The paths that begin with the name of a module lead to the file that they mean.
                () if target.is_module && source.paths.iter().any(|path| path[0] == *name) => {}
                () if target.is_module => add(&parent(&target.module), path),
                () => add(&target.module, path),
            }
        }
        for path in &source.unnamed {
            if let Some(target) = self.resolve(module, path, 0) {
                add(&target.module, path);
            }
        }
        for path in &source.paths {
            match self.resolve(module, path, 0) {
                // A path in code names no module, so this is a function that is called like one.
                Some(target) if target.is_module => add(&parent(&target.module), path),
                Some(target) => add(&target.module, path),
                None => {}
            }
        }
        edges
    }

    /// Follows a path from the file `module`. `None` for a path that leaves the crate.
    fn resolve(&self, module: &str, path: &[String], steps: usize) -> Option<Target> {
        let mut at = module.to_owned();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (String::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    (at, rest) = (parent(&at), &rest[1..]);
                }
            }
            name if self.0.contains_key(&join(&at, name)) || self.0[&at].uses.contains_key(name) => {}
            _ => return None,
        }
        loop {
            let Some(name) = rest.first() else { return Some(Target { module: at, is_module: true }) };
            let child = join(&at, name);
            let is_module = self.0.contains_key(&child);
            match self.0[&at].uses.get(name) {
                Some(binding) if (rest.len() == 1 || !is_module) && steps < MOST_STEPS => {
                    let path = [&binding.path[..], &rest[1..]].concat();
                    return self.resolve(&at, &path, steps + 1);
                }
                _ if is_module => (at, rest) = (child, &rest[1..]),
                _ => return Some(Target { module: at, is_module: false }),
            }
        }
    }
}

impl Source {
    fn parse(text: &str) -> Source {
        let code = without_tests(&code_of(text));
        let mut source = Source::default();
        let mut body = String::new();
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let Some((is_public, tree)) = import(line) else {
                let is_declaration = line.ends_with(';') && line.split(' ').any(|word| word == "mod");
                if !is_declaration {
                    body.push_str(line);
                    body.push('\n');
                }
                continue;
            };
            let mut tree = tree.to_owned();
            while !tree.contains(';') {
                tree.push_str(lines.next().expect("an import ends"));
            }
            source.add(is_public, &[], tree.trim_end().trim_end_matches(';'));
        }
        source.paths = paths(&body);
        source.words = words_of(&body);
        source
    }

    /// Adds the names of a tree behind the path `prefix`.
    fn add(&mut self, is_public: bool, prefix: &[String], tree: &str) {
        let tree = tree.trim();
        if let Some((head, branches)) = tree.split_once('{') {
            let head = head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
            let prefix: Vec<_> = prefix.iter().cloned().chain(head).collect();
            for branch in branches_of(branches.strip_suffix('}').expect("a tree is closed")) {
                self.add(is_public, &prefix, branch);
            }
            return;
        }
        let (path, alias) =
            tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name.trim())));
        let parts = path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty());
        let mut path: Vec<_> = prefix.iter().cloned().chain(parts).collect();
        path.pop_if(|last| path_is_whole(last));
        let Some(last) = path.last() else { return };
        let name = alias.unwrap_or(last).to_owned();
        if name == "_" || tree.ends_with('*') {
            self.unnamed.push(path);
        } else {
            self.uses.insert(name, Binding { path, is_public });
        }
    }
}

/// Whether a part at the end of an import stands for the path before it.
fn path_is_whole(part: &str) -> bool {
    part == "self" || part == "*"
}

/// Splits the inside of braces at its outer commas.
fn branches_of(text: &str) -> Vec<&str> {
    let mut branches = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    branches.push(&text[from..]);
    branches.retain(|branch| !branch.trim().is_empty());
    branches
}

/// Whether a line begins an import: if so, whether it is public, and the tree.
fn import(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    if let Some(tree) = line.strip_prefix("use ") {
        return Some((false, tree));
    }
    let (visibility, tree) = line.strip_prefix("pub")?.split_once("use ")?;
    let visibility = visibility.trim();
    (visibility.is_empty() || visibility.starts_with('(') && visibility.ends_with(')'))
        .then_some((true, tree))
}

/// Cuts the module of tests off the end.
fn without_tests(code: &str) -> String {
    code.split_once("#[cfg(test)]\nmod tests").map_or(code, |(code, _)| code).to_owned()
}

/// Finds the paths in code that have two parts or more.
fn paths(code: &str) -> BTreeSet<Vec<String>> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let mut found = BTreeSet::new();
    let mut before = "";
    for (at, run) in words(code, is_part) {
        let text = run.trim_end_matches(':');
        let is_visibility = before == "in" && code[..at].ends_with("(in ");
        // Behind `>::` and the like, the first part is no name of this file.
        if text.contains("::") && !text.starts_with(':') && !is_visibility {
            found.insert(text.split("::").map(str::to_owned).collect());
        }
        before = run;
    }
    found
}

/// The words of code, other than the names of fields and methods.
pub fn words_of(code: &str) -> BTreeSet<String> {
    words(code, is_name)
        .filter(|(at, _)| !code[..*at].ends_with('.'))
        .map(|(_, word)| word.to_owned())
        .collect()
}

fn words(code: &str, is_part: impl Fn(char) -> bool + Copy) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at + code[at..].find(is_part)?;
        let length = code[from..].find(|letter| !is_part(letter)).unwrap_or(code.len() - from);
        at = from + length;
        Some((from, &code[from..at]))
    })
}

/// The text of a source file without comments, and without the insides of strings.
pub fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let skipped = match letter {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") && !code.ends_with(is_name) => {
                raw_string(rest)
            }
            '"' => string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
        } else {
            if !rest.starts_with('/') {
                code.push_str("\"\"");
            }
            rest = &rest[skipped..];
        }
    }
    code
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The length of the raw string that `text` begins with; 0 if it is none.
fn raw_string(text: &str) -> usize {
    let marks = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !text[1 + marks..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(marks));
    let body = marks + 2;
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}

/// The length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character that `text` begins with; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |at| 3 + at + 1),
        Some(_) => letters.next().filter(|(_, letter)| *letter == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// Finds the groups of files that import from each other in a circle.
pub fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<_, _> = imports.keys().map(|file| (file, reach(imports, file))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for file in imports.keys().filter(|file| reached[file].contains(*file)) {
        if !found.iter().any(|circle| circle.contains(file)) {
            let is_back = |other: &&String| reached[other].contains(file);
            found.push(reached[file].iter().filter(is_back).cloned().collect());
        }
    }
    found
}

/// The files that `file` imports from, directly or through others.
fn reach(imports: &Imports, file: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![file];
    while let Some(next) = open.pop() {
        for target in imports[next].keys() {
            if found.insert(target.clone()) {
                open.push(target);
            }
        }
    }
    found
}

/// The imports between the files of a circle, one a line: the file, the path, and the file that it leads to.
pub fn describe(imports: &Imports, circle: &BTreeSet<String>) -> String {
    let mut lines = String::new();
    for file in circle {
        for (target, path) in imports[file].iter().filter(|(target, _)| circle.contains(*target)) {
            lines.push_str(&format!("\n  {file}.rs: {path} -> {target}.rs"));
        }
    }
    lines
}
