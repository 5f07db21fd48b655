//! From lines to jobs: one after the other from a pipe, all at once from a person.

use std::io;
use std::sync::mpsc::{self, Sender};

use anyhow::{Context, Result};
use serde_json::json;
use upaxos_core::client::Status;

use crate::command::{self, Command, Work};
use crate::engine::{self, Event, Job, Settings};
use crate::output::Output;
use crate::prompt::Prompt;

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
    let place = settings.place.clone();
    let mut prompt = Prompt::open().context("cannot take over the terminal; pipe commands in instead")?;
    let printer = prompt.printer().context("cannot print above the prompt; pipe commands in instead")?;
    let engine = engine::start(settings, Output::above_prompt(printer, json))?;
    if !json {
        println!(
            "upaxos group at {}, protocol {}, {}. Type help, or exit to leave.",
            place.address, place.protocol, place.transport
        );
    }
    // Nobody waits for a job here, so its end is told to nobody.
    let (done, _) = mpsc::channel();
    while let Some(typed) = prompt.read().context("cannot read the terminal")? {
        // What is pasted may be several commands.
        for line in typed.lines() {
            let work = match Command::parse(line.as_bytes()) {
                Ok(Command::Nothing) => continue,
                Ok(Command::Exit) => return Ok(Status::Done),
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
    Ok(Status::Done)
}
