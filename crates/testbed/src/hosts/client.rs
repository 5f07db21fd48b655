//! A client on its own host: the program `upaxos-node client`, driven through its standard input.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::error::HostsError;
use super::host::Host;
use super::network::Hosts;

/// A client that sends requests to the group from the client's host. It has many requests in flight at once,
/// carries out each exactly once, and keeps retrying.
#[derive(Debug)]
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Answer>,
    complaints: PathBuf,
    asked: usize,
}

/// The group's answer to one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the line, from 0.
    pub number: usize,
    /// How long the answer took, as the client measured it.
    pub took: Duration,
    /// The outcome as text, such as `OK 1 one`.
    pub text: String,
}

impl Answer {
    /// The instance and the value (escaped), if the answer is `OK`.
    #[must_use]
    pub fn chosen(&self) -> Option<(u64, &str)> {
        let (instance, value) = self.text.strip_prefix("OK ")?.split_once(' ')?;
        Some((instance.parse().ok()?, value))
    }

    fn parse(line: &str) -> Option<Answer> {
        let mut fields = line.splitn(3, ' ');
        let number = fields.next()?.parse().ok()?;
        let took = Duration::from_micros(fields.next()?.parse().ok()?);
        Some(Answer { number, took, text: fields.next()?.to_owned() })
    }
}

impl Client {
    /// Starts `program client` on the client's host, with `args` after the hosts' own arguments. `program` is
    /// `upaxos-node`.
    ///
    /// # Errors
    /// [`HostsError::Tool`] or [`HostsError::Io`] if it cannot be started.
    pub fn start(hosts: &Hosts, program: impl AsRef<OsStr>, args: &[&str]) -> Result<Client, HostsError> {
        Client::start_on(hosts, Host::Client, program, args)
    }

    /// The same on any host, beside the node there.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn start_on(
        hosts: &Hosts,
        host: impl Into<Host>,
        program: impl AsRef<OsStr>,
        args: &[&str],
    ) -> Result<Client, HostsError> {
        let complaints = hosts.dir().join("client.log");
        let act = format!("write {}", complaints.display());
        let log = File::options().create(true).append(true).open(&complaints).map_err(HostsError::io(act))?;
        let mut command = hosts.command(host, program);
        command.arg("client").args(hosts.args()).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(HostsError::tool("nsenter"))?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).split(b'\n').map_while(Result::ok);
            for line in lines {
                let answer = Answer::parse(&String::from_utf8_lossy(&line));
                if answer.is_some_and(|answer| sender.send(answer).is_err()) {
                    break;
                }
            }
        });
        Ok(Client { child, stdin, answers, complaints, asked: 0 })
    }

    /// Sends a request without waiting. Returns the number that the answer will carry.
    ///
    /// # Errors
    /// [`HostsError::Failed`] if the client has ended.
    pub fn ask(&mut self, line: &str) -> Result<usize, HostsError> {
        self.asked += 1;
        match writeln!(self.stdin, "{line}") {
            Ok(()) => Ok(self.asked - 1),
            Err(_) => Err(self.failed(line)),
        }
    }

    /// Waits for the next answer to any request.
    ///
    /// # Errors
    /// [`HostsError::Failed`] if no answer arrives in time.
    pub fn next(&self, timeout: Duration) -> Result<Answer, HostsError> {
        self.answers.recv_timeout(timeout).map_err(|_| self.failed("await an answer"))
    }

    /// Sends a request and waits for the answer. Needs a client without any other request in flight.
    ///
    /// # Errors
    /// As [`Client::ask`] and [`Client::next`].
    pub fn call(&mut self, line: &str, timeout: Duration) -> Result<Answer, HostsError> {
        let number = self.ask(line)?;
        let answer = self.next(timeout)?;
        assert_eq!(answer.number, number, "another answer was under way");
        Ok(answer)
    }

    fn failed(&self, act: &str) -> HostsError {
        let complaints = fs::read_to_string(&self.complaints).unwrap_or_default();
        HostsError::Failed { act: format!("client: {act}"), said: format!("no answer {}", complaints.trim()) }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
