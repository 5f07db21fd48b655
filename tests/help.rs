//! The pages of `--help` as a reader at 80 columns sees them, compared with the files in `tests/help`.
//!
//! Each of the three crates runs this test on its own program. `UPAXOS_RECORD=1` writes the files anew.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// Commands of `upaxos-node` that no page lists: they serve other tools.
const HIDDEN: [&str; 3] = ["client", "switch", "load"];

/// The output of the program under test at this width, without a terminal and without any other variable.
fn printed(args: &[&str], columns: usize) -> String {
    let node = option_env!("CARGO_BIN_EXE_upaxos-node");
    let send = option_env!("CARGO_BIN_EXE_upaxos-send");
    let repl = option_env!("CARGO_BIN_EXE_upaxos-repl");
    let program = node.or(send).or(repl).expect("each of the three crates has a program");
    let mut command = Command::new(program);
    command.args(args).env_clear().env("COLUMNS", columns.to_string()).stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

/// The commands that lead to a page each; none for the program's own.
fn pages() -> Vec<Option<String>> {
    let page = printed(&["--help"], 80);
    let listed = page.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let listed = listed.lines().take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    let hidden = if names.is_empty() { &[][..] } else { &HIDDEN };
    let commands = names.iter().chain(hidden).map(|name| Some((*name).to_owned()));
    std::iter::once(None).chain(commands).collect()
}

fn page(command: Option<&String>, columns: usize) -> String {
    let args: Vec<_> = command.map(String::as_str).into_iter().chain(["--help"]).collect();
    printed(&args, columns)
}

#[test]
fn each_page_is_the_one_on_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/help");
    for command in pages() {
        let name = command.iter().fold(PROGRAM.to_owned(), |name, command| format!("{name}-{command}"));
        let file = folder.join(format!("{name}.txt"));
        let page = page(command.as_ref(), 80);
        if std::env::var_os("UPAXOS_RECORD").is_some() {
            fs::create_dir_all(&folder).expect("makes the folder");
            fs::write(&file, &page).expect("writes the page");
        }
        let known = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(page, known, "{}: UPAXOS_RECORD=1 writes it anew", file.display());
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_text_uses_its_width() {
    for command in pages() {
        for columns in [80, 120] {
            let page = page(command.as_ref(), columns);
            let widest = page.lines().max_by_key(|line| line.chars().count()).unwrap_or_default();
            assert!(widest.chars().count() <= columns, "{command:?} at {columns}: {widest}");
        }
        let words =
            |columns| page(command.as_ref(), columns).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(80), words(120), "{command:?}: only the line ends differ");
    }
    let widest = page(None, 120).lines().map(|line| line.chars().count()).max();
    assert!(widest > Some(100), "paragraphs do not end before the terminal does: {widest:?}");
}

#[test]
fn each_page_ends_with_an_example() {
    for command in pages() {
        let page = page(command.as_ref(), 80);
        let last = page.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let mut lines = last.lines();
        assert!(matches!(lines.next(), Some("Example:" | "Examples:")), "{command:?}: {last}");
        for line in lines {
            assert!(line.contains(PROGRAM), "{command:?}: an example is one line: {line}");
        }
    }
}
