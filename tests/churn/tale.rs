//! The clients of the churn test: what they asked, the answers they received, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use upaxos_testbed::hosts::{Answer, Client};

use super::{Chance, Outcome};
use crate::live::group::PATIENCE;

/// The longest value that a client writes, in bytes.
const LONGEST: usize = 20_000;

/// The prefix of a safe read in the log.
const SAFE_READ: &str = "safe read ";

/// Returns the value with this name. A name ends with the value's size in bytes. The value is the name, padded with
/// `x` to that size.
pub fn value(name: &str) -> Option<String> {
    let size: usize = name.rsplit_once('-')?.1.parse().ok()?;
    Some(format!("{name}{}", "x".repeat(size.saturating_sub(name.len()))))
}

/// Returns the name of a value. Returns `None` if the value is not whole.
pub fn name_of(text: &str) -> Option<&str> {
    let name = text.trim_end_matches('x');
    (value(name)? == text).then_some(name)
}

/// Returns the name of the value that a read returned. The inner `None` stands for an empty log.
fn read(text: &str) -> Option<Option<String>> {
    if text.is_empty() { Some(None) } else { Some(Some(name_of(text)?.to_owned())) }
}

/// The answer to a read: the last write up to instance `up_to` has the name `name`.
pub struct Seen {
    pub up_to: u64,
    /// The instance of that write, if the answer says so. It is 0 where there is no write.
    pub at: Option<u64>,
    pub name: Option<String>,
}

/// All requests of all clients, and their answers.
#[derive(Default)]
pub struct Told {
    pub asked: BTreeSet<String>,
    /// The acknowledged writes, by instance.
    pub acknowledged: BTreeMap<u64, String>,
    pub seen: Vec<Seen>,
    /// The number of history reads that were answered.
    pub history: usize,
    pub unknown: usize,
    /// The highest instance that any client knows to be decided.
    pub highest: u64,
    complaint: Option<String>,
}

/// The record of all clients, and the signal that ends them.
#[derive(Default)]
pub struct Tale {
    told: Mutex<Told>,
    is_over: AtomicBool,
}

impl Tale {
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first error that a client found, if any.
    pub fn complaint(&self) -> Outcome {
        self.told().complaint.clone().map_or(Ok(()), Err)
    }

    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Sends one request after the other, until `end` is called or an answer is wrong.
    pub fn run(&self, name: &str, mut client: Client, mut chance: Chance) {
        let mut count = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            count += 1;
            let done = match chance.within(0..12) {
                0 => self.safe_read(&mut client),
                1 => self.fast_read(&mut client),
                2 => self.history_read(&mut client, &mut chance),
                _ => self.write(&mut client, format!("{name}-{count}-{}", size(&mut chance))).map(drop),
            };
            if let Err(complaint) = done {
                self.told().complaint.get_or_insert(format!("client {name}: {complaint}"));
                return;
            }
            thread::sleep(chance.millis(0..60));
        }
    }

    /// Writes the value with this name. Returns how long the acknowledgement took, if it came.
    pub fn write(&self, client: &mut Client, name: String) -> Outcome<Option<Duration>> {
        let text = value(&name).ok_or("a name without a size")?;
        let above = {
            let mut told = self.told();
            told.asked.insert(name.clone());
            told.highest
        };
        let answer = call(client, &format!("Request 0 {text}"))?;
        let mut told = self.told();
        let Some((instance, chosen)) = answer.chosen() else {
            return told.without_answer(&name, &answer).map(|()| None);
        };
        if chosen != text || instance <= above {
            return Err(format!("{name}, asked above {above}, was answered {}", short(&answer.text)));
        }
        told.highest = told.highest.max(instance);
        match told.acknowledged.insert(instance, name.clone()) {
            None => Ok(Some(answer.took)),
            Some(other) => Err(format!("{instance} was acknowledged to {other} and to {name}")),
        }
    }

    fn safe_read(&self, client: &mut Client) -> Outcome {
        let above = self.told().highest;
        let answer = call(client, "Request 0")?;
        self.told().on_read(above, &answer)
    }

    fn fast_read(&self, client: &mut Client) -> Outcome {
        let above = self.told().highest;
        let answer = call(client, "fast")?;
        self.told().on_read(above, &answer)
    }

    /// Reads an acknowledged write of any age from the history.
    fn history_read(&self, client: &mut Client, chance: &mut Chance) -> Outcome {
        let (at, name) = {
            let told = self.told();
            let from = chance.within(0..told.highest.max(1) as usize) as u64;
            let Some((at, name)) = told.acknowledged.range(from..).next() else { return Ok(()) };
            (*at, name.clone())
        };
        let answer = call(client, &format!("Request {at}"))?;
        let mut told = self.told();
        match answer.chosen() {
            Some((instance, text)) if instance == at && name_of(text) == Some(&name) => told.history += 1,
            Some(_) => return Err(format!("{at} was {name} and reads {}", short(&answer.text))),
            // A node that has not learned the instance yet may answer this.
            None if answer.text.starts_with("NotYet") => {}
            None => return told.without_answer("a history read", &answer),
        }
        Ok(())
    }
}

impl Told {
    /// Counts a request without a result. Only a timeout is allowed; any other such answer is an error.
    fn without_answer(&mut self, asked: &str, answer: &Answer) -> Outcome {
        self.unknown += 1;
        let is_silence = answer.text.starts_with("Unknown");
        if is_silence { Ok(()) } else { Err(format!("{asked}: {}", short(&answer.text))) }
    }

    fn on_read(&mut self, above: u64, answer: &Answer) -> Outcome {
        let wrong = || format!("a read that was asked above {above} was answered {}", short(&answer.text));
        let seen = if let Some(rest) = answer.text.strip_prefix("Value ") {
            let mut words = rest.splitn(3, ' ');
            let mut number = || words.next().and_then(|word| word.parse().ok());
            let (at, up_to) = (number(), number().ok_or_else(wrong)?);
            let name = words.next().and_then(read).ok_or_else(wrong)?;
            (up_to >= above).then_some(Seen { up_to, at, name })
        } else if let Some((instance, text)) = answer.chosen() {
            let name = text.strip_prefix(SAFE_READ).and_then(read).ok_or_else(wrong)?;
            self.highest = self.highest.max(instance);
            (instance > above).then_some(Seen { up_to: instance - 1, at: None, name })
        } else {
            return self.without_answer("a read", answer);
        };
        self.seen.push(seen.ok_or_else(wrong)?);
        Ok(())
    }
}

/// Draws a size in bytes. Most values are short. Some fill many packets.
fn size(chance: &mut Chance) -> usize {
    match chance.within(0..10) {
        0..5 => chance.within(10..200),
        5..8 => chance.within(200..1_400),
        _ => chance.within(1_400..LONGEST),
    }
}

fn call(client: &mut Client, line: &str) -> Outcome<Answer> {
    client.call(line, PATIENCE).map_err(|error| format!("{}: {error}", short(line)))
}

/// The beginning of a text that may be long.
fn short(text: &str) -> String {
    text.chars().take(120).collect()
}
