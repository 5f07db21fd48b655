//! From lines to jobs: one after the other from a pipe, all at once from a person.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use upaxos_core::client::Status;

use crate::command::{self, Command, Work};
use crate::engine::{self, Event, Job, Settings};
use crate::output::Output;
use crate::prompt::Prompt;

/// How long leaving the prompt waits before it says for what.
const SOON: Duration = Duration::from_millis(500);

/// Commands without a person: each is done before the next begins.
pub struct Session {
    engine: Sender<Event>,
    json: bool,
}

impl Session {
    pub fn piped(settings: Settings, json: bool) -> Result<Session> {
        Ok(Session { engine: engine::start(settings, Output::streams(json))?, json })
    }

    /// Carries out all commands; `noun` names one in errors. The worst outcome is the status.
    pub fn run(&self, noun: &str, commands: impl Iterator<Item = io::Result<Vec<u8>>>) -> Result<Status> {
        let mut worst = Status::Done;
        for (index, command) in commands.enumerate() {
            let text = command.context("cannot read commands")?;
            let work = match Command::parse(&text) {
                Ok(Command::Nothing) => continue,
                Ok(Command::Exit) => break,
                Ok(Command::Help) => {
                    println!("{}", command::help());
                    continue;
                }
                Ok(Command::Work(work)) => work,
                Err(why) => {
                    self.complain(&format!("{noun} {}: {why}", index + 1));
                    worst = worst.max(Status::Usage);
                    continue;
                }
            };
            worst = worst.max(self.work(work, text)?);
        }
        Ok(worst)
    }

    fn work(&self, work: Work, text: Vec<u8>) -> Result<Status> {
        let (done, ended) = mpsc::channel();
        let job = Job { work, text, done };
        // The engine says itself why it has ended.
        let _ = self.engine.send(Event::Do(job));
        Ok(ended.recv().unwrap_or(Status::Fault))
    }

    fn complain(&self, text: &str) {
        if self.json {
            eprintln!("{}", json!({ "error": text }));
        } else {
            eprintln!("upaxos-repl: {text}");
        }
    }
}

/// Commands of a person: answers appear above the prompt as they come.
pub fn at_prompt(settings: Settings, json: bool) -> Result<Status> {
    let (place, patience) = (settings.place.clone(), settings.patience);
    let mut prompt = Prompt::open().context("cannot take over the terminal; pipe commands in instead")?;
    let printer = prompt.printer().context("cannot print above the prompt; pipe commands in instead")?;
    let engine = engine::start(settings, Output::above_prompt(printer, json))?;
    if !json {
        println!(
            "upaxos group at {}, protocol {}, {}. Type help, or exit to leave.",
            place.address, place.protocol, place.transport
        );
    }
    let typed = std::iter::from_fn(|| prompt.read().context("cannot read the terminal").transpose());
    carry_out(&engine, typed, patience)
}

/// Carries out what is typed, without waiting for answers; leaving waits for those that are still to come.
fn carry_out(
    engine: &Sender<Event>,
    typed: impl Iterator<Item = Result<String>>,
    patience: Duration,
) -> Result<Status> {
    let (done, ended) = mpsc::channel();
    'typing: for typed in typed {
        // What is pasted may be several commands.
        for line in typed?.lines() {
            let work = match Command::parse(line.as_bytes()) {
                Ok(Command::Nothing) => continue,
                Ok(Command::Exit) => break 'typing,
                Ok(Command::Help) => {
                    println!("{}", command::help());
                    continue;
                }
                Ok(Command::Work(work)) => work,
                Err(why) => {
                    println!("{why}");
                    continue;
                }
            };
            let job = Job { work, text: line.as_bytes().to_vec(), done: done.clone() };
            if engine.send(Event::Do(job)).is_err() {
                return Ok(Status::Fault);
            }
        }
    }
    // From here on the jobs alone hold on to it.
    drop(done);
    wait(&ended, patience);
    Ok(Status::Done)
}

/// Waits until every job was answered or its time has run out; not for ever, if nothing can be printed any more.
fn wait(ended: &Receiver<Status>, patience: Duration) {
    let (start, mut longest) = (Instant::now(), SOON);
    loop {
        match ended.recv_timeout(longest.saturating_sub(start.elapsed())) {
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if longest == SOON => {
                eprintln!("(waits for answers; Ctrl-C leaves at once)");
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
