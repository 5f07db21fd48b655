//! One daemon as a process: started, observed, disturbed and ended by its pid.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::error::HostsError;
use super::host::Host;
use super::network::Hosts;

/// A program under test on one host of a [`Hosts`], usually a node.
///
/// Dropping it kills the process if it still runs.
#[derive(Debug)]
pub struct Node {
    host: Host,
    command: Command,
    child: Option<Child>,
    log: Arc<Log>,
}

/// The lines of standard error of every start. Shared with the thread that reads them.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<Lines>,
    grown: Condvar,
    listener: Option<Sender<Heard>>,
    ignored: Option<String>,
}

/// A report about a process for a listener: see [`Plan::report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The host of the process.
    pub host: Host,
    /// A line that it printed, without its end. `None` once this start can print no more.
    pub line: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    /// The index of the first line of the latest start.
    start: usize,
    /// How many starts may still write: their standard error is open.
    writers: usize,
}

/// A plan to start a [`Node`].
///
/// ```no_run
/// # use upaxos_testbed::hosts::{Node, Hosts};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hosts = Hosts::new(3)?;
/// let node = Node::on(&hosts, 0, "target/debug/upaxos-node").args(["-n", "3", "-i", "0"]).start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Plan<'w> {
    hosts: &'w Hosts,
    host: Host,
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    wrapper: Vec<String>,
    listener: Option<Sender<Heard>>,
    ignored: Option<String>,
}

impl Plan<'_> {
    /// Keeps and reports no line that contains `text`. For long runs that log much of one kind.
    #[must_use]
    pub fn ignore(mut self, text: &str) -> Self {
        self.ignored = Some(text.to_owned());
        self
    }

    /// Reports every line that it logs, and the end of each start, to `listener` as well.
    #[must_use]
    pub fn report(mut self, listener: Sender<Heard>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Adds arguments for the program.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the program's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs the program under strace with this fault, such as `fdatasync:error=EIO:when=5`.
    ///
    /// With `-D` the tracer is the grandchild: the spawned process is still the program.
    #[must_use]
    pub fn inject(mut self, fault: &str) -> Self {
        let call = fault.split(':').next().unwrap_or(fault);
        let flags = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
        self.wrapper = flags.map(str::to_owned).into();
        self.wrapper.push(format!("-etrace={call}"));
        self.wrapper.push(format!("-einject={fault}"));
        self
    }

    /// Stops the process before the first instruction of the program, until it is [resumed](Node::resume): see
    /// [`Node::wait_held`].
    #[must_use]
    pub fn held(mut self) -> Self {
        self.wrapper = ["sh", "-c", r#"kill -s STOP $$; exec "$@""#, "sh"].map(str::to_owned).into();
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// [`HostsError::Tool`] if it cannot be started.
    pub fn start(self) -> Result<Node, HostsError> {
        let mut words = self.wrapper.into_iter().map(OsString::from);
        let mut command = match words.next() {
            None => self.hosts.command(self.host, &self.program),
            Some(wrapper) => {
                let mut command = self.hosts.command(self.host, wrapper);
                command.args(words).arg(&self.program);
                command
            }
        };
        command.args(self.args).envs(self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        let log = Arc::new(Log { listener: self.listener, ignored: self.ignored, ..Log::default() });
        let mut node = Node { host: self.host, command, child: None, log };
        node.start()?;
        Ok(node)
    }
}

impl Node {
    /// Plans to run `program` on `host`.
    pub fn on(hosts: &Hosts, host: impl Into<Host>, program: impl AsRef<Path>) -> Plan<'_> {
        Plan {
            hosts,
            host: host.into(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            listener: None,
            ignored: None,
        }
    }

    /// Starts the process again with the same arguments. Its log continues.
    ///
    /// # Errors
    ///
    /// [`HostsError::Tool`] if it cannot be started.
    ///
    /// # Panics
    ///
    /// If the process still runs.
    pub fn start(&mut self) -> Result<(), HostsError> {
        assert!(self.child.is_none(), "{} still runs", self.host);
        let program = self.command.get_program().to_string_lossy().into_owned();
        let mut child = self.command.spawn().map_err(HostsError::tool(&program))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        self.child = Some(child);
        let mut lines = self.log.lock();
        lines.start = lines.all.len();
        lines.writers += 1;
        let (log, host) = (Arc::clone(&self.log), self.host);
        thread::spawn(move || log.fill(stderr, host));
        Ok(())
    }

    /// Ends the process with SIGTERM, as an operator would, and starts it again.
    ///
    /// # Errors
    ///
    /// As [`Node::wait_exit`] and [`Node::start`].
    pub fn restart(&mut self) -> Result<(), HostsError> {
        self.terminate();
        self.wait_exit(Duration::from_secs(10))?;
        self.start()
    }

    /// The host that it runs on.
    #[must_use]
    pub fn host(&self) -> Host {
        self.host
    }

    /// The pid of the program itself.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the process runs").id()
    }

    /// Whether the process was started and has not ended since.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            None => false,
            Some(child) => matches!(child.try_wait(), Ok(None)),
        }
    }

    /// Sends SIGKILL: the most sudden end. Returns when the process has ended.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Sends SIGSTOP: the process is alive and silent, and does not notice the pause.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Sends SIGCONT: ends the pause.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until a process that starts [held](Plan::held) has stopped.
    ///
    /// # Errors
    ///
    /// [`HostsError::Io`] if the system cannot wait for it.
    pub fn wait_held(&self) -> Result<(), HostsError> {
        let pid = i32::try_from(self.pid()).expect("a pid fits an i32");
        // A process that has ended instead keeps its status for a later wait.
        let what = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let waited = waitid(Id::Pid(Pid::from_raw(pid)), what).map_err(io::Error::from);
        waited.map(drop).map_err(HostsError::io("wait until a process has stopped"))
    }

    /// Sends SIGTERM: asks the process to end. See [`Node::wait_exit`].
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// The process is not reaped yet, so the pid is still ours even if the process is dead.
    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let pid = i32::try_from(child.id()).expect("a pid fits an i32");
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    ///
    /// [`HostsError::TimedOut`] if it does not.
    ///
    /// # Panics
    ///
    /// If it has not been started or its end was already reported.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus, HostsError> {
        let until = Instant::now() + timeout;
        let child = self.child.as_mut().expect("the process runs");
        loop {
            let status = child.try_wait();
            if let Some(status) = status.map_err(HostsError::io("wait for a process"))? {
                self.child = None;
                return Ok(status);
            }
            if Instant::now() >= until {
                return Err(self.timed_out("end of the process", timeout));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a line of the latest start contains `pattern`, and returns that line.
    ///
    /// # Errors
    ///
    /// [`HostsError::TimedOut`], or [`HostsError::Ended`] if no further line can arrive.
    pub fn wait_for_line(&self, pattern: &str, timeout: Duration) -> Result<String, HostsError> {
        let awaited = format!("line with {pattern:?}");
        let until = Instant::now() + timeout;
        let mut lines = self.log.lock();
        let mut seen = lines.start;
        loop {
            if let Some(line) = lines.all[seen..].iter().find(|line| line.contains(pattern)) {
                return Ok(line.clone());
            }
            seen = lines.all.len();
            if lines.writers == 0 {
                drop(lines);
                return Err(HostsError::Ended {
                    host: self.host,
                    status: "its standard error is closed".to_owned(),
                    awaited,
                    log: self.log(),
                });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                return Err(self.timed_out(&awaited, timeout));
            }
            let woken = self.log.grown.wait_timeout(lines, left);
            (lines, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All lines that it has logged, of every start.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().all.join("\n")
    }

    /// Resident memory in bytes, from `/proc`.
    ///
    /// # Errors
    ///
    /// [`HostsError::Io`] if the process has ended.
    pub fn resident(&self) -> Result<u64, HostsError> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).map_err(HostsError::io(format!("read {path}")))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        // A dead process that has not been reaped has a status without memory.
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) * 1024)
    }

    fn timed_out(&self, awaited: &str, after: Duration) -> HostsError {
        HostsError::TimedOut { host: self.host, awaited: awaited.to_owned(), after, log: self.log() }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill9();
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads lines until every holder of the other end has closed it. Runs on a thread of its own.
    fn fill(&self, stderr: impl Read, host: Host) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if self.ignored.as_ref().is_some_and(|ignored| text.contains(ignored)) {
                continue;
            }
            self.report(host, Some(text.clone().into_bytes()));
            self.lock().all.push(text);
            self.grown.notify_all();
        }
        self.lock().writers -= 1;
        self.report(host, None);
        self.grown.notify_all();
    }

    fn report(&self, host: Host, line: Option<Vec<u8>>) {
        if let Some(listener) = &self.listener {
            // A listener that is gone needs no report.
            let _ = listener.send(Heard { host, line });
        }
    }
}
