//! The nodes of a real world: started, disturbed and observed.
//!
//! Owns the knowledge about each node. A node's own beats, overheard by a client, report its protocol state. Its
//! process shows whether it runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::anyhow;
use upaxos_core::types::{Instance, Micros, NodeId};
use upaxos_core::wire::Beat;
use upaxos_testbed::hosts::{Heard, Hosts, Node, binary};

use super::super::{BackendError, DiskFault, NodeState, Setup, Start, View};
use super::asker::Watched;
use super::disks::LabError;

/// How long a process may take to log that it starts.
const FIRST_WORDS: Duration = Duration::from_secs(5);
/// How long a process may take to end after its standard error is closed.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
/// The number of lines of each log that a failure message shows.
const SHOWN: usize = 12;
/// The exit status of a Rust program that panicked. Higher ones come from signals that the lab never sends.
const PANICKED: u8 = 101;

/// All nodes that were ever started, by id.
pub struct Members {
    listener: Sender<Heard>,
    all: BTreeMap<NodeId, Member>,
}

/// One node, over all its starts.
#[derive(Default)]
struct Member {
    process: Option<Node>,
    state: NodeState,
    how: Start,
    /// Whether it was asked to end.
    is_stopping: bool,
    /// How often it was started, and how often a run of it was seen to end.
    lives: (u64, u64),
    /// The lines that it has logged, in all runs.
    log: Vec<String>,
    /// Its last beat in this run, while it is heard.
    beat: Option<Beat>,
    learned: Instance,
    diverged: Option<String>,
    /// When its disk was last removed.
    lost_disk_at: Option<Micros>,
    fault: Option<DiskFault>,
    trouble: Option<LabError>,
    /// The report of a run that ended in a way that no fault permits.
    broke: Option<String>,
}

impl Members {
    /// No nodes yet. All lines of their processes go to `listener`.
    pub fn new(listener: Sender<Heard>) -> Members {
        Members { listener, all: BTreeMap::new() }
    }

    /// See [`Backend::start`](super::super::Backend::start).
    ///
    /// # Errors
    /// As there.
    pub fn start(
        &mut self,
        hosts: &Hosts,
        setup: &Setup,
        id: NodeId,
        how: &Start,
    ) -> Result<(), BackendError> {
        let member = self.all.entry(id).or_default();
        if member.process.is_some() {
            return Err(BackendError::Misuse(format!(
                "cannot start node {id}: it runs; stop or crash it first"
            )));
        }
        let program = binary("upaxos-node")?;
        let plan = Node::on(hosts, usize::from(id.0), program).args(hosts.args());
        let plan = plan.args(flags(setup, id, how)).args(["--dir"]).args([hosts.node_dir(id.0.into())]);
        let plan = plan.report(self.listener.clone());
        let process = match member.fault {
            None => plan.start()?,
            Some(fault) => {
                // The very first sync must already meet the fault.
                let process = plan.held().start()?;
                process.wait_held()?;
                member.trouble = Some(LabError::begin(hosts, &process, fault)?);
                process.resume();
                process
            }
        };
        if setup.classic {
            // A classic client sends once, and is never told that a node now hears it. A node that ended instead is
            // handled when its end is reported.
            let _ = process.wait_for_line(" starting ", FIRST_WORDS);
        }
        member.process = Some(process);
        member.lives.0 += 1;
        (member.how, member.state, member.is_stopping, member.beat) =
            (how.clone(), NodeState::Runs, false, None);
        Ok(())
    }

    /// See [`Backend::stop`](super::super::Backend::stop).
    ///
    /// # Errors
    /// As there.
    pub fn stop(&mut self, id: NodeId) -> Result<(), BackendError> {
        let member = self.must_run(id, "stop")?;
        member.is_stopping = true;
        member.process().terminate();
        // A paused process would never handle SIGTERM.
        member.process().resume();
        Ok(())
    }

    /// See [`Backend::crash`](super::super::Backend::crash).
    ///
    /// # Errors
    /// As there.
    pub fn crash(&mut self, id: NodeId) -> Result<(), BackendError> {
        let member = self.must_run(id, "crash")?;
        member.process().kill9();
        member.is_gone(NodeState::Down);
        Ok(())
    }

    /// See [`Backend::pause`](super::super::Backend::pause).
    ///
    /// # Errors
    /// As there.
    pub fn pause(&mut self, id: NodeId) -> Result<(), BackendError> {
        let member = self.must_run(id, "pause")?;
        member.process().pause();
        (member.state, member.beat) = (NodeState::Paused, None);
        Ok(())
    }

    /// See [`Backend::resume`](super::super::Backend::resume).
    ///
    /// # Errors
    /// As there.
    pub fn resume(&mut self, id: NodeId) -> Result<(), BackendError> {
        let member = self.must_run(id, "resume")?;
        member.process().resume();
        member.state = NodeState::Runs;
        Ok(())
    }

    /// See [`Backend::wipe`](super::super::Backend::wipe).
    ///
    /// # Errors
    /// As there.
    pub fn wipe(&mut self, hosts: &Hosts, id: NodeId, now: Micros) -> Result<(), BackendError> {
        let member = self.all.entry(id).or_default();
        if member.process.is_some() {
            return Err(BackendError::Misuse(format!(
                "cannot wipe the disk of node {id}: it runs; crash or stop it first"
            )));
        }
        let dir = hosts.node_dir(id.0.into());
        match fs::remove_dir_all(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(anyhow!("cannot remove {}: {error}", dir.display()).into()),
        }
        (member.lost_disk_at, member.learned, member.diverged) = (Some(now), Instance(0), None);
        Ok(())
    }

    /// Sets the fault of a node's disk from now on, also after a restart.
    ///
    /// # Errors
    /// When the fault cannot be injected.
    pub fn corrupt(
        &mut self,
        hosts: &Hosts,
        id: NodeId,
        fault: Option<DiskFault>,
    ) -> Result<(), BackendError> {
        let member = self.all.entry(id).or_default();
        (member.fault, member.trouble) = (fault, None);
        if let (Some(fault), Some(process)) = (fault, &member.process) {
            member.trouble = Some(LabError::begin(hosts, process, fault)?);
        }
        Ok(())
    }

    /// Records a line of a log. Returns whether a view has changed.
    pub fn log(&mut self, id: NodeId, line: &str) -> bool {
        let Some(member) = self.all.get_mut(&id) else { return false };
        member.log.push(line.to_owned());
        let is_news = member.diverged.is_none() && line.contains("DIVERGES");
        if is_news {
            member.diverged = Some(line.to_owned());
        }
        is_news
    }

    /// Records an overheard beat, or a silence. Returns whether a view has changed.
    pub fn overhear(&mut self, watched: Watched) -> bool {
        let (Watched::Silent(id) | Watched::Says(id, _)) = watched;
        // Another sender with a node's number was not started here.
        let Some(member) = self.all.get_mut(&id) else { return false };
        match watched {
            Watched::Silent(_) => member.beat.take().is_some(),
            // A late beat: from an earlier run, or from before a pause.
            Watched::Says(..) if member.state != NodeState::Runs => false,
            Watched::Says(_, beat) => {
                member.learned = beat.learned;
                let says = |beat: &Beat| (beat.stance, beat.ballot, beat.learned, beat.heard.clone());
                let is_news = member.beat.as_ref().map(says) != Some(says(&beat));
                member.beat = Some(*beat);
                is_news
            }
        }
    }

    /// Records that a run of the node has ended. Returns whether it was the latest one.
    ///
    /// # Errors
    /// When the process has not ended after all.
    pub fn note_end(&mut self, id: NodeId) -> Result<bool, BackendError> {
        let Some(member) = self.all.get_mut(&id) else { return Ok(false) };
        member.lives.1 += 1;
        let is_last = member.lives.0 == member.lives.1;
        let Some(process) = member.process.as_mut().filter(|_| is_last) else { return Ok(false) };
        let status = process.wait_exit(LAST_MOMENTS)?;
        let code = code(status);
        let is_told = member.is_stopping && code == 0;
        let words = member.log.last().cloned().unwrap_or_default();
        if code >= PANICKED {
            let last = &member.log[member.log.len().saturating_sub(SHOWN)..];
            member.broke =
                Some(format!("node {id} ended with status {code}; its last lines:\n{}", last.join("\n")));
        }
        member.is_gone(if is_told { NodeState::Down } else { NodeState::Ended(code, words) });
        Ok(true)
    }

    /// The knowledge about a node: see [`Backend::view`](super::super::Backend::view).
    pub fn view(&self, id: NodeId) -> View {
        let Some(member) = self.all.get(&id) else { return View::default() };
        let beat = member.beat.as_ref();
        View {
            state: member.state.clone(),
            stance: beat.map(|beat| beat.stance),
            ballot: beat.and_then(|beat| beat.ballot),
            learned: member.learned,
            heard: beat.map(|beat| beat.heard.clone()).unwrap_or_default(),
            diverged: member.diverged.clone(),
        }
    }

    /// The knowledge about all nodes: see [`Backend::describe`](super::super::Backend::describe).
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (id, member) in &self.all {
            text += &format!("node {id}: {}\n", summary(&self.view(*id)));
            for line in &member.log[member.log.len().saturating_sub(SHOWN)..] {
                text += &format!("    {line}\n");
            }
        }
        text
    }

    /// The nodes that run or are paused.
    pub fn running(&self) -> Vec<NodeId> {
        let running = self.all.iter().filter(|(_, member)| member.process.is_some());
        running.map(|(id, _)| *id).collect()
    }

    /// The nodes that ended and may restart unchanged: those that have not left, were not refused, and have not
    /// lost their disk.
    pub fn returning(&self) -> Vec<(NodeId, Start)> {
        let returns = |member: &&Member| {
            let has_gone = matches!(member.state, NodeState::Ended(0 | 4, _));
            member.lives.0 > 0 && member.process.is_none() && member.lost_disk_at.is_none() && !has_gone
        };
        let returning = self.all.iter().filter(|(_, member)| returns(member));
        returning.map(|(id, member)| (*id, member.how.clone())).collect()
    }

    /// The nodes that were started and have not ended by themselves since.
    pub fn sound(&self) -> Vec<NodeId> {
        let is_sound = |member: &Member| member.lives.0 > 0 && !matches!(member.state, NodeState::Ended(..));
        self.all.iter().filter(|(_, member)| is_sound(member)).map(|(id, _)| *id).collect()
    }

    /// The report of each node that panicked, or that a foreign signal ended.
    pub fn broken(&self) -> impl Iterator<Item = &str> {
        self.all.values().filter_map(|member| member.broke.as_deref())
    }

    /// The nodes that were ever started to join, each with the member that it replaces.
    pub fn joiners(&self) -> impl Iterator<Item = (NodeId, Option<NodeId>)> {
        self.all.iter().filter_map(|(id, member)| Some((*id, member.how.joins?)))
    }

    /// Whether any node was started with hook scripts.
    pub fn have_scripts(&self) -> bool {
        self.all.values().any(|member| !member.how.scripts.is_empty())
    }

    /// The nodes whose disk was removed, and when.
    pub fn lost(&self) -> impl Iterator<Item = (NodeId, Micros)> {
        self.all.iter().filter_map(|(id, member)| Some((*id, member.lost_disk_at?)))
    }

    /// All nodes that were ever started, with their logs.
    pub fn logs(&self) -> impl Iterator<Item = (NodeId, &[String])> {
        self.all.iter().map(|(id, member)| (*id, member.log.as_slice()))
    }

    fn must_run(&mut self, id: NodeId, act: &str) -> Result<&mut Member, BackendError> {
        let member = self.all.get_mut(&id).filter(|member| member.process.is_some());
        member.ok_or_else(|| BackendError::Misuse(format!("cannot {act} node {id}: it does not run")))
    }
}

impl Member {
    fn process(&mut self) -> &mut Node {
        self.process.as_mut().expect("only asked of a node that runs")
    }

    fn is_gone(&mut self, state: NodeState) {
        if matches!(self.fault, Some(DiskFault::SyncFails | DiskFault::Full)) && self.trouble.is_some() {
            // The fault was meant for the next call only, and has happened.
            self.fault = None;
        }
        (self.process, self.trouble, self.beat, self.state) = (None, None, None, state);
    }
}

/// The flags of a node, besides those of its network and its directory.
fn flags(setup: &Setup, id: NodeId, how: &Start) -> Vec<OsString> {
    let mut flags: Vec<OsString> = vec!["-i".into(), id.to_string().into()];
    flags.extend(["--beat".into(), format!("{}us", setup.beat.0).into()]);
    match how.joins {
        None => flags.extend(["-n".into(), setup.nodes.to_string().into()]),
        Some(replaces) => {
            flags.push("--join".into());
            flags.extend(replaces.iter().flat_map(|old| ["--replace".into(), old.to_string().into()]));
        }
    }
    flags.extend(setup.classic.then(|| "--classic".into()));
    flags.extend(how.fast_read.then(|| "--fast-read".into()));
    flags.extend(how.scripts.iter().flat_map(|script| ["--script".into(), script.clone().into()]));
    flags
}

/// The exit status as a shell shows it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn summary(view: &View) -> String {
    let state = match &view.state {
        NodeState::Down => "is down".to_owned(),
        NodeState::Runs => "runs".to_owned(),
        NodeState::Paused => "is paused".to_owned(),
        NodeState::Ended(status, words) => format!("ended with status {status}: {words}"),
    };
    let stance = view.stance.map_or("is not heard", |stance| stance.word());
    let ballot = view.ballot.map_or("-".to_owned(), |ballot| ballot.to_string());
    let heard: Vec<String> = view.heard.iter().map(NodeId::to_string).collect();
    format!("{state}, {stance}, ballot {ballot}, learned {}, hears {}", view.learned, heard.join(","))
}
