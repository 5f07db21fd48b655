//! The group under churn: its members, their hosts, and the process exits that are allowed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use upaxos_testbed::hosts::{Client, Hosts, HostsError, Node};

use super::Outcome;
use super::room::Room;
use crate::live::group::{NODE, PATIENCE, plan_with};

/// How many members the first group has.
const FIRST: usize = 5;

/// The fewest and the most members that the group may have.
pub const FEWEST: usize = 3;
pub const MOST: usize = 7;

/// The node with the disk of limited size. It stays a member.
pub const CRAMPED: usize = 1;

/// How long a change of the group may take. A joiner fetches the whole log meanwhile.
pub const CHANGE: Duration = Duration::from_secs(180);

/// A text that every panic prints.
const PANIC: &str = "panicked at";

/// A text in the log line of every answer.
const ANSWER: &str = ": OK ";

pub struct Member {
    pub node: Node,
    pub host: usize,
}

pub struct Churned {
    pub members: BTreeMap<usize, Member>,
    /// Former members, with their logs.
    pub gone: BTreeMap<usize, Node>,
    pub operator: Client,
    pub room: Room,
    pub hosts: Hosts,
}

impl Churned {
    pub fn start(hosts: Hosts) -> Outcome<Churned> {
        let first = first(&hosts, 0).start().map_err(in_words)?;
        let room = Room::new(&hosts, first.pid())?;
        let mut members = BTreeMap::from([(0, Member { node: first, host: 0 })]);
        for id in 1..FIRST {
            let node = if id == CRAMPED { cramped(&hosts, &room) } else { first_of(&hosts, id) };
            members.insert(id, Member { node: node.map_err(in_words)?, host: id });
        }
        let operator = Client::start(&hosts, NODE, &["--timeout", "5s"]).map_err(in_words)?;
        Ok(Churned { members, gone: BTreeMap::new(), operator, room, hosts })
    }

    pub fn ids(&self) -> Vec<usize> {
        self.members.keys().copied().collect()
    }

    /// The members that may leave.
    pub fn replaceable(&self) -> Vec<usize> {
        self.members.keys().copied().filter(|id| *id != CRAMPED).collect()
    }

    pub fn node(&mut self, id: usize) -> &mut Node {
        &mut self.members.get_mut(&id).expect("a member").node
    }

    pub fn host(&self, id: usize) -> usize {
        self.members[&id].host
    }

    pub fn restart(&mut self, id: usize) -> Outcome {
        self.node(id).start().map_err(in_words)
    }

    /// Starts a node with a new id, on a free host.
    pub fn join(&mut self, replaces: Option<usize>) -> Outcome<usize> {
        let id = self.members.keys().chain(self.gone.keys()).max().expect("some") + 1;
        let is_free = |host: &usize| self.members.values().all(|member| member.host != *host);
        let host = (0..self.hosts.count()).find(is_free).ok_or("no host is free")?;
        let plan = Node::on(&self.hosts, host, NODE).args(self.hosts.args());
        let plan = plan.args(["--join".to_owned(), "-i".into(), id.to_string()]);
        let plan = plan.args(replaces.iter().flat_map(|old| ["--replace".to_owned(), old.to_string()]));
        let plan = plan.args(["--dir".into(), self.hosts.node_dir(id).into_os_string()]).ignore(ANSWER);
        self.members.insert(id, Member { node: plan.start().map_err(in_words)?, host });
        Ok(id)
    }

    /// Waits until a joining node is a member.
    pub fn wait_for_member(&mut self, id: usize) -> Outcome {
        self.node(id).wait_for_line("is a full member", CHANGE).map(drop).map_err(brief)
    }

    /// Tells a member to leave, once. Returns whether the group acknowledged that.
    pub fn tell_to_leave(&mut self, id: usize) -> Outcome<bool> {
        let answer = self.operator.call(&format!("leave {id}"), PATIENCE).map_err(in_words)?;
        Ok(answer.chosen().is_some())
    }

    /// Waits until a leaving member has exited. Repeats the request to leave until the group acknowledges it.
    pub fn wait_for_leave(&mut self, id: usize, mut is_told: bool) -> Outcome {
        let until = Instant::now() + CHANGE;
        loop {
            if let Ok(status) = self.node(id).wait_exit(Duration::from_millis(200)) {
                self.put_out(id);
                let line = self.gone[&id].wait_for_line("is no member any more", PATIENCE);
                let is_fit = status.code() == Some(0) && line.is_ok();
                return if is_fit { Ok(()) } else { Err(format!("node {id} left with {status}")) };
            }
            if Instant::now() > until {
                return Err(format!("node {id} has not left in {CHANGE:?} (acknowledged: {is_told})"));
            }
            is_told = is_told || self.tell_to_leave(id)?;
        }
    }

    /// Kills a member. It is an error if the member had already exited.
    pub fn kill(&mut self, id: usize) -> Outcome {
        let is_running = self.node(id).is_running();
        self.node(id).kill9();
        if is_running { Ok(()) } else { Err(format!("node {id} had ended by itself before it was killed")) }
    }

    /// Waits until a node exits with one of these statuses, and has logged the text that belongs to the status.
    pub fn wait_for_end(&mut self, id: usize, ends: &[(i32, &str)]) -> Outcome {
        let status = self.node(id).wait_exit(CHANGE).map_err(brief)?;
        let end = ends.iter().find(|(code, _)| status.code() == Some(*code));
        let (_, words) = end.ok_or_else(|| format!("node {id} ended with {status}"))?;
        self.node(id).wait_for_line(words, PATIENCE).map(drop).map_err(brief)
    }

    /// Moves a member to the former members.
    pub fn put_out(&mut self, id: usize) {
        let member = self.members.remove(&id).expect("a member");
        self.gone.insert(id, member.node);
    }

    /// Checks that all members run, and that no process has panicked.
    pub fn check_health(&mut self) -> Outcome {
        for (id, member) in &mut self.members {
            if !member.node.is_running() {
                return Err(format!("node {id} has ended by itself"));
            }
        }
        self.check_words()
    }

    /// Checks that no log contains a panic.
    pub fn check_words(&self) -> Outcome {
        let members = self.members.iter().map(|(id, member)| (id, &member.node));
        if let Some((id, _)) = members.chain(&self.gone).find(|(_, node)| node.log().contains(PANIC)) {
            return Err(format!("node {id} panicked"));
        }
        let clients = fs::read_to_string(self.hosts.dir().join("client.log")).unwrap_or_default();
        if clients.contains(PANIC) { Err(format!("a client panicked: {clients}")) } else { Ok(()) }
    }

    /// The logs of all nodes.
    pub fn logs(&self) -> String {
        let members = self.members.iter().map(|(id, member)| (id, &member.node));
        let log = |(id, node): (&usize, &Node)| format!("--- node {id} on {}\n{}\n", node.host(), node.log());
        members.chain(&self.gone).map(log).collect()
    }
}

fn first<'h>(hosts: &'h Hosts, id: usize) -> upaxos_testbed::hosts::Plan<'h> {
    plan_with(hosts, id, &["-n", &FIRST.to_string(), "-i", &id.to_string()]).ignore(ANSWER)
}

fn first_of(hosts: &Hosts, id: usize) -> Result<Node, HostsError> {
    first(hosts, id).start()
}

/// Starts the node whose directory is in the room.
fn cramped(hosts: &Hosts, room: &Room) -> Result<Node, HostsError> {
    let plan = Node::on(hosts, CRAMPED, "nsenter").args([room.flag(), NODE]).args(hosts.args());
    let plan = plan.args(["-n", &FIRST.to_string(), "-i", &CRAMPED.to_string()]);
    plan.args([OsString::from("--dir"), room.node_dir().into_os_string()]).ignore(ANSWER).start()
}

pub fn in_words(error: HostsError) -> String {
    error.to_string()
}

/// The error without the log that it carries. The test prints all logs anyway.
fn brief(error: HostsError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
