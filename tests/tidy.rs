//! The style rules of the project that a test can check.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).expect("a file of the project")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources_in(dirs: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    dirs.iter().for_each(|dir| sources(&root().join(dir), &mut found));
    found
}

fn all_sources() -> Vec<PathBuf> {
    sources_in(&["crates", "upaxos-node/src", "upaxos-send/src", "upaxos-repl/src", "tests"])
}

/// All files below a folder, whatever their kind, except for build output.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the project").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if path.ends_with("target") || path.ends_with("docs/book") => {}
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// The pages at the root of the project, and all files of its folders.
fn all_files() -> Vec<PathBuf> {
    let pages = fs::read_dir(root()).expect("the workspace").flatten().map(|entry| entry.path());
    let mut found: Vec<_> = pages.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    for dir in ["crates", "docs", "scripts", "tests", "upaxos-node", "upaxos-repl", "upaxos-send"] {
        files(&root().join(dir), &mut found);
    }
    found
}

/// The path of a file, relative to the root of the project.
fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).expect("a file of the project").display().to_string()
}

#[test]
fn the_wire_table_of_the_book_is_the_one_in_the_code() {
    let code = read("crates/core/src/wire.rs");
    let rows: Vec<_> =
        code.lines().filter_map(|line| line.strip_prefix("//! ")).filter(|l| l.starts_with('|')).collect();
    let page = read("docs/protocol.md");
    assert!(rows.len() > 25);
    for row in rows {
        assert!(page.contains(row), "docs/protocol.md lacks the row: {row}");
    }
}

#[test]
fn the_dissector_knows_every_verb() {
    let code = read("crates/core/src/wire.rs");
    let dissector = read("scripts/wireshark/upaxos.lua");
    let rows = code.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let forms: Vec<_> = rows.filter_map(|row| row.split_once('`').map(|(form, _)| form)).collect();
    assert!(forms.len() > 25);
    for form in forms {
        let words: Vec<_> = form.split(' ').collect();
        let verb = if words[0] == "S" { words[1] } else { words[0] };
        let is_known = [format!("\n  {verb} = \""), format!("== \"{verb}\"")];
        assert!(is_known.iter().any(|text| dissector.contains(text)), "scripts/wireshark lacks {verb}");
    }
}

#[test]
fn the_book_describes_every_record_and_every_mark_that_a_log_may_hold() {
    let page = read("docs/storage.md");
    let chapter = page.split_once("## Reading a log\n").expect("it is there").1;
    let chapter = chapter.split_once("\n## ").expect("it ends").0;
    for (file, prefix) in [("record.rs", "//! | `"), ("entry.rs", "//! | `@")] {
        let code = read(format!("crates/core/src/{file}"));
        let rows = code.lines().filter_map(|line| line.strip_prefix(prefix));
        let forms: Vec<_> = rows.filter_map(|row| row.split_once('`').map(|(form, _)| form)).collect();
        assert!(forms.len() > 5, "{file}");
        let mark = prefix.trim_start_matches("//! | `");
        for form in forms {
            // A blank or a quote must follow, so that a longer word does not match.
            let word = format!("`{mark}{}", form.split(' ').next().unwrap_or_default());
            let is_told = [" ", "`"].iter().any(|end| chapter.contains(&format!("{word}{end}")));
            assert!(is_told, "docs/storage.md, \"Reading a log\", lacks {form}");
        }
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).expect("a source");
        assert!(text.starts_with("//! "), "{} begins with no module documentation", path.display());
    }
}

#[test]
fn unsafe_code_stands_nowhere() {
    for path in all_sources().iter().filter(|path| !path.ends_with("tidy.rs")) {
        let text = fs::read_to_string(path).expect("a source");
        assert!(!text.contains("unsafe {") && !text.contains("allow(unsafe_code)"), "{}", path.display());
    }
}

#[test]
fn the_core_reads_no_clock_no_file_no_environment_and_no_chance() {
    let forbidden =
        ["Instant::now", "SystemTime", "std::fs", "std::env", "env::var", "getrandom", "rand::", "thread::"];
    for path in all_sources().iter().filter(|path| path.starts_with(root().join("crates/core/src"))) {
        let is_exempt = path.to_string_lossy().contains("/net") || path.ends_with("tests.rs");
        let text = fs::read_to_string(path).expect("a source");
        for word in forbidden.iter().filter(|_| !is_exempt) {
            assert!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn there_is_one_drive_loop() {
    // Only the driver reports a sync to a node, and only the core can.
    let calls = |path: &PathBuf| fs::read_to_string(path).expect("a source").contains("node.on_synced(");
    let callers: Vec<_> =
        all_sources().into_iter().filter(|path| !path.ends_with("tidy.rs") && calls(path)).collect();
    assert_eq!(callers, [root().join("crates/core/src/driver.rs")]);
}

#[test]
fn no_binary_depends_on_another() {
    for name in ["upaxos-node", "upaxos-send", "upaxos-repl"] {
        let manifest = read(format!("{name}/Cargo.toml"));
        for other in ["upaxos-node", "upaxos-send", "upaxos-repl"].iter().filter(|other| **other != name) {
            assert!(!manifest.contains(&format!("{other}.")), "{name} depends on {other}");
        }
    }
}

/// The doc comments of a source: the number of the first line, and the words.
fn doc_comments(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut is_inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        let is_plain = line.starts_with("////");
        let words = ["///", "//!"].iter().find_map(|mark| line.strip_prefix(mark)).filter(|_| !is_plain);
        if let Some(words) = words {
            if !is_inside {
                found.push((number, Vec::new()));
            }
            found.last_mut().expect("pushed above").1.extend(words.split_whitespace());
        }
        is_inside = words.is_some();
    }
    found
}

#[test]
fn every_doc_comment_has_more_than_two_words() {
    let mut places = Vec::new();
    for path in sources_in(&["crates", "upaxos-node", "upaxos-send", "upaxos-repl"]) {
        let text = fs::read_to_string(&path).expect("a source");
        let short = doc_comments(&text).into_iter().filter(|(_, words)| words.len() <= 2);
        places.extend(short.map(|(line, words)| format!("{}:{line}: {}", name_of(&path), words.join(" "))));
    }
    assert!(places.is_empty(), "a doc comment says what a reader cannot see:\n{}", places.join("\n"));
}

#[test]
fn no_role_is_called_a_body() {
    // In parts, so that this file does not contain them.
    let forbidden = ["some", "no", "any", "every"].map(|part| format!("{part}{}", "body"));
    let mut places = Vec::new();
    for path in all_files() {
        let bytes = fs::read(&path).expect("a file of the project");
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| forbidden.iter().any(|other| other == word)) {
                places.push(format!("{}:{number}: {}", name_of(&path), line.trim()));
            }
        }
    }
    assert!(
        places.is_empty(),
        "a role has a name, leader, client, peer or reader:
{}",
        places.join(
            "
"
        )
    );
}
