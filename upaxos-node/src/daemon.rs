//! The event loop of one node: receives datagrams, appends records to the disk, sends datagrams.
//!
//! Owns the clock, the socket and the log of the process. It decides nothing about the protocol ([`Replica`] does),
//! nothing about the order of effects ([`Driver`] does), and nothing about the form of the log ([`Disk`] does).
//! While the disk syncs, datagrams queue in the socket, and the next batch is larger: group commit without a timer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use caps::CapSet;
use log::{debug, info, log_enabled, trace, warn};
use signal_hook::consts;
use upaxos_core::client::Status;
use upaxos_core::driver::{Action, Driver};
use upaxos_core::replica::{Config, DropCounters, Event, EventLevel, Outbox, Recovery, Replica};
use upaxos_core::types::{Micros, NodeId};
use upaxos_core::wire::{Dialect, Line, Packer, ParseError};
use upaxos_net::{self as net, News, Pieces, Socket};
use upaxos_script::runtime::{self, Runtime};
use upaxos_storage::disk::{self, Disk};

use crate::join_progress::{Progress, Standing};

/// The maximum bytes of a datagram of several lines over loopback. Elsewhere a datagram is one packet.
const MAX_BATCH: usize = 60_000;

/// The maximum number of batches that one turn receives. Between these batches there is no sync. So the node sheds
/// even a flood of requests faster than it arrives, and the kernel drops no messages between nodes.
const BATCHES: usize = 32;

/// The settings of a daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// The identity of the node, and the settings of its protocol.
    pub config: Config,
    /// The address and the transport of the group.
    pub net: net::Options,
    /// The data directory: the log, the checkpoints and the archive.
    pub dir: PathBuf,
    /// Whether to honour `quit` on a network other than loopback.
    pub remote_quit: bool,
    /// The scripts to load, and their cost limits.
    pub scripts: runtime::Options,
}

/// Runs a node until it is told to end, has left its group, or is refused by the group that it wants to join.
/// Returns the reason as a status: [`Status::Refused`] in the last case.
///
/// # Errors
/// If the socket, the directory or the log cannot be used. Also immediately after a failed write or sync, since the
/// node may claim only what is durable.
pub fn run(options: &Options) -> Result<Status> {
    let signals = Signals::catch(!options.scripts.paths.is_empty())?;
    let scripts = Runtime::start(&options.scripts)?;
    let dialect = if options.config.classic { Dialect::Classic } else { Dialect::Extended };
    let socket = Socket::open(&options.net)?.with_pieces(Pieces::of(random()?, dialect));
    drop_privileges();
    let mut daemon = Daemon::open(options, socket, scripts)?;
    daemon.announce(options);
    while daemon.ending.is_none() && !signals.stop.load(Ordering::Relaxed) {
        signals.explain_hangup();
        daemon.turn()?;
    }
    daemon.close()
}

/// An outbox that holds only the events that have a reader: the log or a script.
fn outbox(id: NodeId, scripts: Option<&Runtime>, dialect: Dialect) -> Outbox {
    let mut out = Outbox::new(id);
    out.hooks = scripts.map(Runtime::hooks);
    out.tell(match log::max_level() {
        _ if scripts.is_some_and(Runtime::listens) => EventLevel::Learned,
        log::LevelFilter::Trace | log::LevelFilter::Debug => EventLevel::Learned,
        // Students read the log of a classic node in class, next to the board.
        log::LevelFilter::Info if dialect == Dialect::Classic => EventLevel::Learned,
        log::LevelFilter::Info => EventLevel::Answers,
        _ => EventLevel::Seldom,
    });
    out
}

/// The signals that the process has received.
struct Signals {
    stop: Arc<AtomicBool>,
    /// Set by SIGHUP if there are no scripts to handle it.
    hangup: Arc<AtomicBool>,
}

impl Signals {
    /// With scripts, [`Runtime`] handles SIGHUP.
    fn catch(has_scripts: bool) -> Result<Signals> {
        let signals = Signals { stop: Arc::default(), hangup: Arc::default() };
        let set = |signal, flag: &Arc<AtomicBool>| {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot handle signals")
        };
        set(consts::SIGTERM, &signals.stop)?;
        set(consts::SIGINT, &signals.stop)?;
        // When SIGXFSZ is caught, a write beyond the limit fails with EFBIG, and the error says so (setrlimit(2)).
        set(consts::SIGXFSZ, &Arc::default())?;
        if !has_scripts {
            set(consts::SIGHUP, &signals.hangup)?;
        }
        Ok(signals)
    }

    /// Logs that a SIGHUP had no effect.
    fn explain_hangup(&self) {
        if self.hangup.swap(false, Ordering::Relaxed) {
            info!("ignores SIGHUP: it has no scripts to load again; SIGTERM ends it");
        }
    }
}

/// Drops every capability: only the socket needed one. Afterwards even root can only use a directory that it owns.
/// If the system refuses this, as a container may, the node continues.
fn drop_privileges() {
    let sets = [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable];
    let refused = sets.into_iter().find_map(|set| Some((set, caps::clear(None, set).err()?)));
    if let Some((set, why)) = refused {
        warn!("cannot drop the {set:?} capabilities: {why}; goes on with them");
    }
}

struct Daemon {
    id: NodeId,
    node: Replica,
    driver: Driver,
    /// When the node must act next if no datagram arrives.
    deadline: Micros,
    disk: Disk,
    socket: Socket,
    out: Outbox,
    packer: Packer,
    dialect: Dialect,
    origin: Instant,
    honours_quit: bool,
    scripts: Option<Runtime>,
    /// The scripts have not received all events yet.
    is_telling: bool,
    /// The progress of a joining node, for the log.
    progress: Option<Progress>,
    /// The exit status, once the process must end.
    ending: Option<Status>,
    malformed: u64,
    drops: u64,
    /// The warning that long packets do not reach this node was logged.
    told_too_long: bool,
}

impl Daemon {
    fn open(options: &Options, socket: Socket, scripts: Option<Runtime>) -> Result<Daemon> {
        let Config { id, n, classic, name, .. } = options.config;
        let mut recovery = match &scripts {
            Some(scripts) => scripts.recovery(options.config.clone()),
            None => Recovery::new(options.config.clone()),
        };
        let dialect = if classic { Dialect::Classic } else { Dialect::Extended };
        let wanted = disk::Wanted { id: id.0, n, incarnation_if_new: random()?, dialect, name };
        let opened = Disk::open(&options.dir, &wanted, &disk::Options::default(), &mut |found| {
            let record = found.record().map_err(|error| error.to_string())?;
            recovery.take(&record).map_err(|error| error.to_string())
        })?;
        opened.warnings.iter().for_each(|warning| warn!("{warning}"));
        opened.notices.iter().for_each(|notice| info!("{notice}"));
        let mut daemon = Daemon {
            id,
            node: recovery.finish(opened.identity.incarnation, random()?),
            driver: Driver::new(),
            deadline: Micros(0),
            disk: opened.disk,
            out: outbox(id, scripts.as_ref(), dialect),
            packer: Packer::new(dialect, socket.max_payload().min(MAX_BATCH)),
            dialect,
            origin: Instant::now(),
            scripts,
            is_telling: false,
            honours_quit: options.remote_quit || socket.is_local(),
            progress: None,
            ending: None,
            malformed: 0,
            drops: 0,
            told_too_long: false,
            socket,
        };
        daemon.node.on_compacted(daemon.disk.compacted());
        if let Some(scripts) = &daemon.scripts {
            scripts.catch_up(&mut daemon.node, &daemon.disk)?;
        }
        daemon.progress = options.config.joins.map(|_| Progress::new(daemon.node.learned()));
        daemon.node.start(Micros(0), &mut daemon.out);
        daemon.drain()?;
        Ok(daemon)
    }

    fn announce(&self, options: &Options) {
        let Config { id, classic, .. } = options.config;
        let net::Options { transport, address, protocol, .. } = &options.net;
        let role = role(&options.config, &self.node.group().members);
        let group = self.node.head().group.map_or(String::new(), |group| format!(" group {group},"));
        info!(
            "starting {id} {role} on {address} protocol {protocol} ({transport}),{group} directory {}, start {}, learned {}",
            options.dir.display(),
            self.node.boot().start,
            self.node.learned()
        );
        if classic {
            info!(
                "speaks the classic grammar; its nodes cannot remember identities, so nothing guards against a lost disk"
            );
        }
        if !self.socket.is_local() {
            warn!(
                "no key: any host on this network can read, forge and disturb messages; use only trusted networks"
            );
        }
    }

    fn now(&self) -> Micros {
        self.origin.elapsed().into()
    }

    /// One turn: receives batches, handles them, and carries out the effects.
    fn turn(&mut self) -> Result<()> {
        let now = self.now();
        let wait = if self.is_telling { Micros(0) } else { self.deadline.since(now) };
        if self.scripts.as_mut().is_some_and(Runtime::begin_turn) {
            self.out = outbox(self.id, self.scripts.as_ref(), self.dialect);
        }
        let mut wait = Duration::from(wait);
        for _ in 0..BATCHES {
            if self.receive(wait)? < net::BATCH {
                break;
            }
            wait = Duration::ZERO;
        }
        let now = self.now();
        if self.socket.is_mending() {
            self.node.on_mending(now);
        }
        self.driver.begin(&mut self.node, now, &mut self.out);
        self.report_drops();
        self.report_network();
        self.drain()?;
        if self.node.has_company() {
            self.disk.confirm_name()?;
        }
        self.report_progress();
        self.is_telling = self.scripts.as_ref().is_some_and(Runtime::tell);
        Ok(())
    }

    /// Receives one batch and hands it to the node. Returns the number of datagrams.
    fn receive(&mut self, wait: Duration) -> Result<usize> {
        let Daemon { node, socket, out, malformed, origin, .. } = self;
        let mut note = |line: &Result<Line, ParseError>| match line {
            Ok(line) => trace!("<- {line}"),
            Err(error) => debug!("dropped a line: {error}"),
        };
        let received = socket.receive(Some(wait), &mut |datagram, _| {
            let now = origin.elapsed().into();
            *malformed += node.receive(now, datagram, &mut note, out);
        });
        received.context("cannot receive from the group's socket")
    }

    /// Carries out the effects of the node until it must wait.
    fn drain(&mut self) -> Result<()> {
        loop {
            let now = self.now();
            let Daemon { node, driver, out, disk, packer, socket, .. } = self;
            match driver.next(node, now, out) {
                Action::LookUp(lookup) => {
                    // Damage in the archive ends the node. The error says what to do.
                    let past = disk.past(lookup.first, lookup.last, node.limits().lookup_bytes)?;
                    node.on_found(now, &lookup, past, out);
                }
                Action::Report(_) => self.note_events(),
                Action::End(event) => bail!("{event}"),
                Action::Broadcast(lines) => {
                    packer.set_head(node.head());
                    lines.sent().for_each(|line| pack(packer, line));
                    let datagrams = packer.finish();
                    if !datagrams.is_empty() {
                        socket.send(&datagrams).context("cannot send to the group")?;
                    }
                }
                Action::Append(records) => {
                    records.iter().for_each(|record| disk.append_with(|batch| record.encode(batch)));
                }
                // A failed sync ends the node: it is unknown what the kernel did with the pages.
                Action::Sync => {
                    disk.commit(node)?;
                    node.on_compacted(disk.compacted());
                }
                Action::Idle(deadline) => {
                    self.deadline = deadline;
                    return Ok(());
                }
            }
        }
    }

    /// Logs the events, and ends the process when an event demands it.
    fn note_events(&mut self) {
        for event in &self.out.events {
            if let Some(scripts) = &self.scripts {
                scripts.note(event);
            }
            match event {
                Event::Learned { .. } if self.dialect == Dialect::Extended => debug!("{event}"),
                Event::Read { .. } if !log_enabled!(log::Level::Info) => {}
                Event::MustEnd(_) => {}
                Event::Diverged { .. } | Event::LogDiverged { .. } => log::error!("{event}"),
                Event::Warning(_)
                | Event::WaitsFor(_)
                | Event::LostQuorum { .. }
                | Event::ApplyFailed { .. } => warn!("{event}"),
                Event::MayNotVote(_) => {
                    log::error!("{event}");
                    // A member still learns and answers. A joiner has no reason to stay.
                    if self.progress.is_some() {
                        self.ending.get_or_insert(Status::Refused);
                    }
                }
                Event::Left { .. } if self.never_was_member() || self.node.never_took_part() => {
                    log::error!(
                        "cannot {}: id {} was a member before, and ids are never used again. Join under a new \
                         id: upaxos-node --join -i NEW_ID",
                        if self.progress.is_some() { "join" } else { "take part" },
                        self.id
                    );
                    self.ending.get_or_insert(Status::Refused);
                }
                Event::Left { .. } => {
                    info!("{event}; its id is never used again, its directory not needed any more");
                    self.ending.get_or_insert(Status::Done);
                }
                Event::Quit if !self.honours_quit => {
                    warn!("asked to quit from the network: ignored; --remote-quit would allow it");
                }
                Event::Quit => {
                    info!("quits, as asked on the network");
                    self.ending = Some(Status::Done);
                }
                _ => info!("{event}"),
            }
        }
    }

    /// Whether this node tries to join with a directory that was never a member's. Then another node left under
    /// this id.
    fn never_was_member(&self) -> bool {
        self.node.boot().start == 1 && self.progress.as_ref().is_some_and(|progress| !progress.is_member())
    }

    fn report_progress(&mut self) {
        let now = self.now();
        let Some(progress) = &mut self.progress else { return };
        let hears_group = !self.node.group().members.is_empty();
        let standing = Standing {
            hears_group,
            others: if hears_group { BTreeSet::new() } else { self.node.other_names() },
            votes: self.node.is_voter(),
            learned: self.node.learned(),
            heard_of: self.node.highest_known(now),
        };
        if let Some(line) = progress.line(standing, now) {
            info!("{line}");
        }
    }

    fn report_drops(&mut self) {
        let drops = self.socket.drops();
        if drops > self.drops {
            warn!(
                "the kernel dropped {} datagrams: the receive queue was full ({drops} so far)",
                drops - self.drops
            );
            self.drops = drops;
        }
        // A full receive queue also loses parts of datagrams. So this warning needs a queue without drops.
        if self.socket.lost().too_long > 0
            && self.drops == 0
            && !std::mem::replace(&mut self.told_too_long, true)
        {
            warn!(
                "long packets do not reach this node: of large datagrams only the short last part is heard, however often \
                 the rest is asked for. Some link to here carries less than the senders think: start all nodes and \
                 clients with a --datagram below the smallest MTU on the way, less {} bytes of headers",
                net::HEADERS
            );
        }
    }

    /// Logs that the network was lost, came back, or changed.
    fn report_network(&mut self) {
        while let Some(news) = self.socket.news() {
            match news {
                News::Lost(_) => match self.socket.send_errors() {
                    0 => warn!("{news}"),
                    refused => warn!("{news}; {refused} datagrams were refused so far"),
                },
                News::Back(_) => info!("{news}"),
            }
        }
    }

    /// Ends in good order: makes the lazily appended records durable.
    fn close(mut self) -> Result<Status> {
        self.disk.commit(&self.node)?;
        info!("ends; learned {}{}", self.node.learned(), dropped(self.malformed, self.node.dropped()));
        for (script, through, digest) in self.node.digests() {
            info!("script {script} has computed up to {through}: digest {digest}");
        }
        if let Some(digest) = self.node.log_digest_at(self.node.learned()) {
            info!("the log up to {} has the digest {digest:032x}", self.node.learned());
        }
        if let Some((peer, first)) = self.node.log_differs_from() {
            bail!(
                "the log differs from that of node {peer} from instance {first} on: compare what `upaxos-node log \
                 DIR` prints of both directories, before either is used again"
            );
        }
        Ok(self.ending.unwrap_or(Status::Done))
    }
}

/// The role that a node starts in, given the members according to its log.
fn role(config: &Config, members: &BTreeSet<NodeId>) -> String {
    let Config { id, n, joins, .. } = *config;
    match joins {
        None => format!("of {n}"),
        Some(Some(old)) if members.contains(&id) && old != id && members.contains(&old) => format!(
            "which joined before, so that --replace {old} does nothing (to put node {old} out, say `leave {old}`),"
        ),
        Some(_) if members.contains(&id) => "which joined before,".to_owned(),
        Some(None) => "to join".to_owned(),
        Some(Some(old)) if old == id => "to stand by".to_owned(),
        Some(Some(old)) => format!("to join in the place of {old}"),
    }
}

/// The drop counters as text, to append to a log line. Empty if nothing was dropped.
fn dropped(malformed: u64, others: DropCounters) -> String {
    let malformed = (malformed > 0).then(|| format!("{malformed} malformed lines"));
    let others = (others != DropCounters::default()).then(|| others.to_string());
    let all: Vec<_> = malformed.into_iter().chain(others).collect();
    if all.is_empty() { String::new() } else { format!("; dropped {}", all.join(", ")) }
}

fn pack(packer: &mut Packer, line: &Line) {
    trace!("-> {line}");
    packer.push(line);
}

fn random() -> Result<u64> {
    getrandom::u64().context("cannot get random numbers from the system")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_told_to_take_a_place_says_that_it_takes_none() {
        let told = |id: u16, old: Option<u16>, members: &[u16]| {
            let members = members.iter().copied().map(NodeId).collect();
            role(&Config::joining(NodeId(id), old.map(NodeId)), &members)
        };
        let nothing = told(3, Some(2), &[0, 1, 2, 3]);
        assert!(nothing.contains("--replace 2 does nothing") && nothing.contains("`leave 2`"), "{nothing}");
        assert_eq!(told(3, Some(2), &[0, 1, 3]), "which joined before,", "it took that place");
        assert_eq!(told(3, Some(3), &[0, 1, 2, 3]), "which joined before,", "it stood by, and was called");
        assert_eq!(told(3, None, &[0, 1, 2, 3]), "which joined before,");
        assert_eq!(told(3, Some(2), &[0, 1, 2]), "to join in the place of 2");
    }

    #[test]
    fn what_was_not_dropped_is_not_told() {
        let some = DropCounters { strangers: 2, absurd: 1, ..DropCounters::default() };
        assert_eq!(dropped(0, DropCounters::default()), "");
        assert_eq!(dropped(3, DropCounters::default()), "; dropped 3 malformed lines");
        assert_eq!(dropped(0, some), "; dropped 2 from strangers, 1 with an absurd ballot");
        assert_eq!(
            dropped(3, some),
            "; dropped 3 malformed lines, 2 from strangers, 1 with an absurd ballot"
        );
    }
}
