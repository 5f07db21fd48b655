//! Turns lines into jobs of the engine: one after the other from a pipe, at once from a prompt.
//!
//! Owns the exit status of a run. `main` calls it; it never touches the network.

use std::io::{self, BufRead, BufReader};
use std::iter;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use upaxos_cli::{self as cli, Input};
use upaxos_core::client::Status;
use upaxos_core::wire::MAX_DATAGRAM;

use crate::command::{self, Command, Work};
use crate::engine::{self, Done, Event, Job, Settings};
use crate::output::Output;
use crate::prompt::Prompt;

/// Time that leaving the prompt waits before it prints the reason.
const SOON: Duration = Duration::from_millis(500);
/// The longest command that is read, in bytes: a datagram with every byte of its value written as `\xNN`.
const LONGEST: usize = 4 * MAX_DATAGRAM;

/// A session of piped commands. Each command is done before the next one begins.
pub struct Session {
    engine: Sender<Event>,
    json: bool,
}

impl Session {
    pub fn piped(settings: Settings, json: bool) -> Result<Session> {
        Ok(Session { engine: engine::start(settings, Output::streams(json))?, json })
    }

    /// Carries out all commands. `noun` is the word for a command in errors. The worst outcome is the status. When
    /// the reader of the answers has closed the pipe, no further command is carried out.
    pub fn run(&self, noun: &str, commands: impl Iterator<Item = io::Result<Input>>) -> Result<Status> {
        let mut worst = Status::Done;
        for (index, command) in commands.enumerate() {
            let Done { status, printed } = match command.context("cannot read commands")? {
                Input::End => break,
                Input::TooLong => self.refuse(&format!(
                    "{noun} {}: more than {LONGEST} bytes are no command; skipped up to the end of the line",
                    index + 1
                )),
                Input::Line(text) => match Command::parse(&text) {
                    Ok(Command::Nothing) => continue,
                    Ok(Command::Exit) => break,
                    Ok(Command::Help) => Done { status: Status::Done, printed: cli::print(command::help()) },
                    Ok(Command::Work(work)) => self.work(work, text),
                    Err(why) => self.refuse(&format!("{noun} {}: {why}", index + 1)),
                },
            };
            worst = worst.max(status);
            match printed {
                Err(why) if why.is_closed() => break,
                printed => printed?,
            }
        }
        Ok(worst)
    }

    fn work(&self, work: Work, text: Vec<u8>) -> Done {
        let (done, ended) = mpsc::channel();
        let job = Job { work, text, done };
        // An engine that has ended has printed the reason itself.
        let _ = self.engine.send(Event::Do(job));
        ended.recv().unwrap_or(Done { status: Status::Fault, printed: Ok(()) })
    }

    fn refuse(&self, why: &str) -> Done {
        self.complain(why);
        Done { status: Status::Usage, printed: Ok(()) }
    }

    fn complain(&self, text: &str) {
        if self.json {
            cli::complain(json!({ "error": text }));
        } else {
            cli::complain(format_args!("upaxos-repl: {text}"));
        }
    }
}

/// The commands of a stream, one per line. No line takes more memory than the longest command.
pub fn lines(mut stream: impl BufRead) -> impl Iterator<Item = io::Result<Input>> {
    let mut is_within = false;
    iter::from_fn(move || {
        // Skips only after the caller has the report: a line may have no end.
        let skipped = if is_within { cli::skip_line(&mut stream) } else { Ok(()) };
        let input = skipped.and_then(|()| cli::read_line(&mut stream, LONGEST));
        is_within = matches!(input, Ok(Input::TooLong));
        Some(input).filter(|input| !matches!(input, Ok(Input::End)))
    })
}

/// Carries out the commands of a user at a prompt. Answers appear above the prompt as they arrive.
pub fn at_prompt(settings: Settings, json: bool) -> Result<Status> {
    let (place, patience) = (settings.place.clone(), settings.patience);
    let mut prompt = Prompt::open().context("cannot take over the terminal; pipe commands in instead")?;
    // A terminal without a cursor to move (TERM=dumb) shows the lines one after the other.
    let Ok(printer) = prompt.printer() else {
        return Session::piped(settings, json)?.run("line", lines(BufReader::new(io::stdin())));
    };
    let engine = engine::start(settings, Output::above_prompt(printer, json))?;
    if !json {
        cli::print(format_args!(
            "upaxos group at {}, protocol {}, {}. Type help, or exit to leave.",
            place.address, place.protocol, place.transport
        ))?;
    }
    let typed = iter::from_fn(|| prompt.read().context("cannot read the terminal").transpose());
    carry_out(&engine, typed, patience)
}

/// Carries out the typed lines without waiting for answers. Leaving waits for the missing answers.
fn carry_out(
    engine: &Sender<Event>,
    typed: impl Iterator<Item = Result<String>>,
    patience: Duration,
) -> Result<Status> {
    let (done, ended) = mpsc::channel();
    'typing: for typed in typed {
        // Pasted text may hold several commands.
        for line in typed?.lines() {
            let work = match Command::parse(line.as_bytes()) {
                Ok(Command::Nothing) => continue,
                Ok(Command::Exit) => break 'typing,
                Ok(Command::Help) => {
                    cli::print(command::help())?;
                    continue;
                }
                Ok(Command::Work(work)) => work,
                Err(why) => {
                    cli::print(why)?;
                    continue;
                }
            };
            let job = Job { work, text: line.as_bytes().to_vec(), done: done.clone() };
            if engine.send(Event::Do(job)).is_err() {
                return Ok(Status::Fault);
            }
        }
    }
    // From here on only the jobs hold a sender, so `ended` closes with the last of them.
    drop(done);
    wait(&ended, patience);
    Ok(Status::Done)
}

/// Waits until every job has ended. The wait is bounded, for the case that nothing can be printed any more.
fn wait(ended: &Receiver<Done>, patience: Duration) {
    let (start, mut longest) = (Instant::now(), SOON);
    loop {
        match ended.recv_timeout(longest.saturating_sub(start.elapsed())) {
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if longest == SOON => {
                cli::complain("(waits for answers; Ctrl-C leaves at once)");
                longest = patience.saturating_add(SOON);
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn leaving_waits_for_what_was_asked_before() {
        for typed in [&["Request 0 one\nstatus\nexit\nRequest 0 two"][..], &["Request 0 one", "status"]] {
            let (engine, queue) = mpsc::channel();
            let is_answered = AtomicBool::new(false);
            thread::scope(|scope| {
                let is_answered = &is_answered;
                scope.spawn(move || {
                    let job = |event| if let Event::Do(job) = event { job.text } else { Vec::new() };
                    let jobs: Vec<_> = queue.iter().take(2).collect();
                    is_answered.store(true, Ordering::SeqCst);
                    let texts: Vec<_> = jobs.into_iter().map(job).collect();
                    assert_eq!(texts, [b"Request 0 one".to_vec(), b"status".to_vec()]);
                });
                let typed = typed.iter().map(|typed| Ok((*typed).to_owned()));
                let left =
                    carry_out(&engine, typed, Duration::from_secs(60)).expect("what was typed can be read");
                assert_eq!((left, is_answered.load(Ordering::SeqCst)), (Status::Done, true), "it waits");
            });
        }
    }
}
