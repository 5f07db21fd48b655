//! The switch between the hosts, as a process: `upaxos-node switch`.
//!
//! Owns the dialogue with it. The switch ends with our process, because its standard input does.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use super::error::HostsError;
use crate::switch::order::{Losses, Order};

/// A running switch. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Switch {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Switch {
    /// Starts the switch with `command`, which runs our own program in the network namespace of the ports.
    pub(super) fn start(
        mut command: Command,
        ports: usize,
        seed: u64,
        record: Option<&Path>,
    ) -> Result<Switch, HostsError> {
        command.args(["switch", "--ports", &ports.to_string(), "--seed", &seed.to_string()]);
        if let Some(record) = record {
            command.arg("--record").arg(record);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(HostsError::tool("nsenter"))?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut switch = Switch { child, stdin, stdout, stderr };
        switch.hear("ready")?;
        Ok(switch)
    }

    /// Sends these orders. Returns when all are in force.
    pub(super) fn tell(&mut self, orders: &[Order]) -> Result<(), HostsError> {
        // Few enough at a time that neither pipe fills while the other waits.
        for some in orders.chunks(100) {
            let lines: String = some.iter().map(|order| format!("{order}\n")).collect();
            // If the switch has ended, its last words give the reason.
            let _ = self.stdin.write_all(lines.as_bytes());
            some.iter().try_for_each(|_| self.hear("done"))?;
        }
        Ok(())
    }

    /// The frames that the switch itself has lost.
    pub(super) fn losses(&mut self) -> Result<Losses, HostsError> {
        let _ = writeln!(self.stdin, "{}", Order::Losses);
        let said = self.listen()?;
        said.parse().or_else(|_| self.fail(&said, "a count"))
    }

    fn hear(&mut self, expected: &str) -> Result<(), HostsError> {
        let said = self.listen()?;
        if said.trim_end() == expected { Ok(()) } else { self.fail(&said, expected) }
    }

    fn listen(&mut self) -> Result<String, HostsError> {
        let mut said = String::new();
        self.stdout.read_line(&mut said).map_err(HostsError::io("listen to the switch"))?;
        Ok(said)
    }

    /// Ends the switch and makes an error of its last words: it can no longer be used.
    fn fail<T>(&mut self, said: &str, expected: &str) -> Result<T, HostsError> {
        let _ = self.child.kill();
        let words = io::read_to_string(&mut self.stderr).unwrap_or_default();
        let mut words = words.trim().to_owned();
        if words.is_empty() {
            words = format!("it said {said:?} instead of {expected}");
        }
        Err(HostsError::Failed { act: "run the switch between the hosts".into(), said: words })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
