//! The front pages and the book: what a reader follows, copies or looks up is there, and works.

mod live;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use upaxos_node::cli::Cli;

const NODE: &str = env!("CARGO_BIN_EXE_upaxos-node");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).expect("a file of the project")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Every page, from the project's folder.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder of the project").flatten() {
            let path = Path::new(folder).join(entry.file_name());
            if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 10, "{found:?}");
    found
}

/// A page, without its fenced blocks; and these, each with its language.
fn without_blocks(text: &str) -> (String, Vec<(String, String)>) {
    let (mut rest, mut blocks) = (String::new(), Vec::new());
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, body))) => *body += &format!("{line}\n"),
            (None, None) => rest += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "a block never ends");
    (rest, blocks)
}

/// A page's prose, where code in backticks is blanked.
fn without_code(text: &str) -> String {
    without_blocks(text).0.split('`').step_by(2).collect::<Vec<_>>().join("`code`")
}

/// The anchors of a page's headings, as forges and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = without_blocks(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| {
        let kept = |c: char| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || "-_".contains(c) => Some(c.to_ascii_lowercase()),
            _ => None,
        };
        heading.trim_start_matches('#').trim().chars().filter_map(kept).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn the_readme_has_at_most_150_lines() {
    assert!(read("README.md").lines().count() <= 150);
}

#[test]
fn every_rule_of_the_readme_has_a_test_named_after_it() {
    let (readme, tests) = (read("README.md"), read("tests/safety.rs"));
    let promised = readme.split("## What is promised").nth(1).expect("the section").split("\n## ").next();
    let numbers = promised.into_iter().flat_map(str::lines).filter_map(|line| line.split_once(". "));
    let rules: Vec<u32> = numbers.filter_map(|(number, _)| number.parse().ok()).collect();
    assert!(rules.iter().copied().eq(1..=rules.len() as u32) && rules.len() > 10, "{rules:?}");
    let has_test = |rule: &&u32| tests.contains(&format!("fn rule_{rule}_"));
    assert_eq!(rules.iter().filter(|rule| !has_test(rule)).collect::<Vec<_>>(), [&0; 0]);
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = without_code(&read(&page));
        let targets =
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => page.clone(),
                path => page.parent().expect("a folder").join(path),
            };
            let place = root().join(&path);
            assert!(place.exists(), "{}: no file for {target}", page.display());
            if !anchor.is_empty() {
                let known = anchors(&fs::read_to_string(&place).expect("a page"));
                assert!(known.contains(anchor), "{}: no heading for {target} in {known:?}", page.display());
            }
        }
    }
    assert!(count > 60, "{count} links");
}

#[test]
fn the_summary_of_the_book_names_every_page() {
    let summary = read("docs/SUMMARY.md");
    for page in pages().iter().filter_map(|page| page.strip_prefix("docs").ok()) {
        let is_named = summary.contains(&format!("]({})", page.display()));
        assert!(is_named || page == Path::new("SUMMARY.md"), "{} is not in docs/SUMMARY.md", page.display());
    }
}

/// The words of a line of a shell, up to its comment; a pipe, a list or a substitution is a word of its own.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '&' | '<' | '(' | ')' | ';') => {
                words.extend(word.take());
                words.push("|".to_owned());
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The commands of a page's blocks that start one of the programs: its name, and its arguments.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let (_, blocks) = without_blocks(text);
    let mut found = Vec::new();
    for line in blocks.iter().filter(|(language, _)| language != "lua").flat_map(|(_, body)| body.lines()) {
        let words = words(line.trim_start().trim_start_matches("$ "));
        for command in words.split(|word| word == "|") {
            let is_setting =
                |word: &&String| *word == "sudo" || (word.contains('=') && !word.starts_with('-'));
            let command: Vec<_> = command.iter().skip_while(is_setting).cloned().collect();
            let at = command.iter().position(|word| word == "--");
            let command = match (command.first().map(String::as_str), at) {
                (Some("cargo"), Some(at)) if command[1] == "run" => {
                    let package = command.iter().position(|word| word == "-p").expect("a package");
                    [&command[package + 1..package + 2], &command[at + 1..]].concat()
                }
                _ => command,
            };
            // With a colon it is what a program says, and not what is typed.
            if let Some((name, args)) = command.split_first()
                && ["upaxos-node", "upaxos-send", "upaxos-repl"].contains(&name.as_str())
            {
                found.push((name.clone(), args.to_vec()));
            }
        }
    }
    found
}

#[test]
fn every_command_of_the_pages_is_understood_by_its_program() {
    let mut count = 0;
    let programs = live::programs();
    for page in pages() {
        for (name, args) in commands(&read(&page)) {
            count += 1;
            let shown = format!("{}: {name} {}", page.display(), args.join(" "));
            let program = programs.join(&name);
            // A flag or a value that is wrong is found before the help is shown.
            let output = Command::new(program).args(&args).arg("--help").output().expect("the program runs");
            assert!(output.status.success(), "{shown}\n{}", said(&output));
            if name == "upaxos-node" {
                let cli = Cli::try_parse_from([&[name], args.as_slice()].concat());
                let cli = cli.unwrap_or_else(|error| panic!("{shown}\n{error}"));
                let options = cli.daemon.map(|daemon| daemon.options(&cli.net));
                assert!(
                    options.is_none_or(|options| options.is_ok()),
                    "{shown}: the flags do not go together"
                );
            }
        }
    }
    assert!(count > 40, "{count} commands");
}

#[test]
fn every_flag_that_the_pages_name_is_in_the_help_of_a_program() {
    let help = |program: &Path, args: &[&str]| {
        said(&Command::new(program).args(args).arg("--help").output().expect("the program runs"))
    };
    let mut known = String::new();
    let programs = live::programs();
    for args in [&[] as &[&str], &["log"], &["bench"], &["sim"], &["lab"], &["check-script"]] {
        known += &help(Path::new(NODE), args);
    }
    for name in ["upaxos-send", "upaxos-repl"] {
        known += &help(&programs.join(name), &[]);
    }
    let is_flag_char = |c: char| c.is_ascii_lowercase() || c == '-';
    for page in [
        "README.md",
        "docs/operating.md",
        "docs/lab.md",
        "docs/scripts.md",
        "docs/membership.md",
        "docs/benchmarks.md",
    ] {
        for rest in read(page).split("`--").skip(1) {
            let flag: String = rest.chars().take_while(|c| is_flag_char(*c)).collect();
            let is_known =
                known.split(&format!("--{flag}")).skip(1).any(|rest| !rest.starts_with(is_flag_char));
            assert!(is_known, "{page}: no program has --{flag}");
        }
    }
}

/// The blocks of Lua in all pages: labs, and scripts with hooks.
fn lua() -> Vec<(PathBuf, String)> {
    let blocks = |page: PathBuf| {
        let (_, blocks) = without_blocks(&read(&page));
        let blocks = blocks.into_iter().filter(|(language, _)| language == "lua");
        blocks.map(|(_, body)| (page.clone(), body)).collect::<Vec<_>>()
    };
    pages().into_iter().flat_map(blocks).collect()
}

#[test]
fn every_piece_of_lua_runs() {
    let blocks = lua();
    assert!(blocks.iter().any(|(page, _)| page == Path::new("README.md")), "the README has a lab");
    for (page, body) in blocks {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("script.lua");
        fs::write(&path, &body).expect("a script is written");
        let args: &[&str] =
            if body.contains("lab.test(") { &["lab", "--seeds", "0..4"] } else { &["check-script"] };
        let output = Command::new(NODE).args(args).arg(&path).output().expect("the program runs");
        assert!(output.status.success(), "{}\n{body}\n{}", page.display(), said(&output));
    }
}

#[test]
fn the_lab_of_the_readme_has_12_lines() {
    let blocks = lua();
    let (_, lab) = blocks.iter().find(|(page, _)| page == Path::new("README.md")).expect("a lab");
    assert_eq!(lab.lines().count(), 12);
}

#[test]
fn every_file_and_folder_of_the_map_exists() {
    let text = read("ARCHITECTURE.md");
    let map = text.split_once("\n## Map\n").expect("the map").1;
    let map = map.split_once("\n## ").expect("its end").0;
    let cells = map.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let paths: Vec<_> = cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect();
    assert!(paths.len() > 40);
    for path in paths {
        let place = root().join(path);
        assert!(place.exists(), "ARCHITECTURE.md names {path}");
        assert_eq!(place.is_dir(), path.ends_with('/'), "{path}");
    }
}

#[test]
fn the_map_names_every_part_of_the_core() {
    let text = read("ARCHITECTURE.md");
    for module in read("crates/core/src/lib.rs").lines().filter_map(|line| line.split_once("mod ")) {
        let name = module.1.trim_end_matches(';');
        assert!(text.contains(&format!("`crates/core/src/{name}.rs`")), "ARCHITECTURE.md lacks {name}");
    }
}

#[test]
fn every_role_has_a_name_in_the_pages() {
    for page in pages() {
        let text = read(&page).to_lowercase();
        for word in ["some", "no", "any", "every"].map(|word| format!("{word}body")) {
            assert!(!text.contains(&word), "{} says {word}", page.display());
        }
    }
}
