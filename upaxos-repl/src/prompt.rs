//! The prompt: editing, completion, hints, and a history that is kept for later runs.

use std::borrow::Cow;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};
use upaxos_cli as cli;

use crate::command;

const PROMPT: &str = "upaxos> ";
const HISTORY: usize = 10_000;

/// A terminal from which lines are read.
pub struct Prompt {
    editor: Editor<Forms, DefaultHistory>,
    history: Option<PathBuf>,
}

impl Prompt {
    /// Takes over the terminal, and loads the history.
    pub fn open() -> rustyline::Result<Prompt> {
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .history_ignore_dups(true)?
            .auto_add_history(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Forms));
        let history = history_file();
        if let Some(path) = &history {
            // A first run has no history yet.
            let _ = editor.load_history(path);
        }
        Ok(Prompt { editor, history })
    }

    /// A printer for another thread. It prints above the prompt.
    pub fn printer(&mut self) -> rustyline::Result<impl ExternalPrinter + Send + 'static> {
        self.editor.create_external_printer()
    }

    /// The next line; `None` at Ctrl-D. Ctrl-C discards the line being typed.
    pub fn read(&mut self) -> rustyline::Result<Option<String>> {
        loop {
            match self.editor.readline(PROMPT) {
                Ok(line) => {
                    self.remember();
                    return Ok(Some(line));
                }
                Err(ReadlineError::Interrupted) => cli::complain("(exit or Ctrl-D leaves)"),
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends the new lines to the history file. The history is a convenience, so a failure is ignored.
    fn remember(&mut self) {
        let Some(path) = &self.history else { return };
        if let Some(parent) = path.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        let _ = self.editor.append_history(path);
    }
}

/// `$XDG_STATE_HOME/upaxos/history`, by default in `~/.local/state` (XDG Base Directory 0.8).
fn history_file() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("upaxos/history"))
}

/// Completion and hints from the forms of a command.
struct Forms;

impl Completer for Forms {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..pos];
        let fits = command::beginnings().filter(|form| form.starts_with(typed) && *form != typed);
        Ok((0, fits.map(String::from).collect()))
    }
}

struct Rest(String);

impl Hint for Rest {
    fn display(&self) -> &str {
        &self.0
    }

    /// A hint only names the missing words: it is not text to insert.
    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Forms {
    type Hint = Rest;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Rest> {
        if pos < line.len() { None } else { command::hint(line).map(Rest) }
    }
}

impl Highlighter for Forms {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Forms {}
impl Helper for Forms {}
