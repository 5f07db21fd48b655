//! The load as a process: started on a host, observed, and ended with the bench.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::load::Summary;

/// A line that the load prints.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// This node leads.
    Leader(usize),
    /// The measured time begins.
    Begin,
    /// The time since the start of the measurement, and the number of requests answered in it.
    At(Duration, u64),
    /// The measured time is over.
    End,
    /// Every node has learned all, and the bench should restart one now.
    Settled,
    /// The restarted node was heard.
    Back,
    /// The last line: all phases are over.
    Done(Box<Summary>),
}

impl Word {
    fn parse(line: &str) -> Option<Word> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "leader" => Word::Leader(rest.parse().ok()?),
            "begin" => Word::Begin,
            "at" => {
                let (ms, ok) = rest.split_once(' ')?;
                Word::At(Duration::from_millis(ms.parse().ok()?), ok.parse().ok()?)
            }
            "end" => Word::End,
            "settled" => Word::Settled,
            "back" => Word::Back,
            "done" => Word::Done(serde_json::from_str(rest).ok()?),
            _ => return None,
        })
    }
}

/// The load's process. Dropping it ends the process.
#[derive(Debug)]
pub struct Load {
    child: Child,
    words: Receiver<Word>,
}

impl Load {
    /// Starts `command`, which must be `upaxos-node load`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Load> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the load")?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, words) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for word in lines.filter_map(|line| Word::parse(&line)) {
                if sender.send(word).is_err() {
                    break;
                }
            }
        });
        Ok(Load { child, words })
    }

    /// The process id of the load.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of the load. `None` when `until` comes first.
    ///
    /// # Errors
    /// When the load has ended without its last line. Its standard error then contains the reason.
    pub fn next(&self, until: Option<Instant>) -> Result<Option<Word>> {
        let Some(until) = until else {
            return self.words.recv().map(Some).map_err(|_| anyhow::anyhow!("the load ended early"));
        };
        match self.words.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(word) => Ok(Some(word)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the load ended early"),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_load_says_is_understood_and_anything_else_is_not() {
        assert_eq!(Word::parse("leader 2"), Some(Word::Leader(2)));
        assert_eq!(Word::parse("at 1500 70"), Some(Word::At(Duration::from_millis(1_500), 70)));
        let summary = Summary { last: 9, learned: vec![(0, 9)], ..Summary::default() };
        let line = format!("done {}", serde_json::to_string(&summary).unwrap());
        assert_eq!(Word::parse(&line), Some(Word::Done(Box::new(summary))));
        for line in ["", "leader", "done {}", "hello"] {
            assert_eq!(Word::parse(line), None, "{line:?}");
        }
    }
}
