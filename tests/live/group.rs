//! A group of real nodes on hosts, the load that is put on it, and what must hold afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use upaxos_core::entry::Entry;
use upaxos_core::types::Instance;
use upaxos_node::hosts::{Answer, Client, Hosts, Node, Plan};

/// The program under test.
pub const NODE: &str = env!("CARGO_BIN_EXE_upaxos-node");

/// How long one answer may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What every value of a load begins with.
const LOADED: &str = "value-";

/// Nodes by their ids, all of them started.
pub struct Group {
    pub nodes: Vec<Node>,
    pub hosts: Hosts,
}

/// How a node of a group of three is started.
pub fn plan(hosts: &Hosts, index: usize) -> Plan<'_> {
    plan_with(hosts, index, &["-n", "3", "-i", &index.to_string()])
}

/// How a node is started that joins, in the place of another perhaps.
pub fn joiner(hosts: &Hosts, index: usize, replaces: Option<usize>) -> Plan<'_> {
    let plan = plan_with(hosts, index, &["--join", "-i", &index.to_string()]);
    plan.args(replaces.iter().flat_map(|old| ["--replace".to_owned(), old.to_string()]))
}

/// How a node is started with these flags, beside those of the network and the directory.
pub fn plan_with<'w>(hosts: &'w Hosts, index: usize, flags: &[&str]) -> Plan<'w> {
    let plan = Node::on(hosts, index, NODE).args(hosts.args()).args(flags);
    plan.args(["--dir".into(), hosts.node_dir(index).into_os_string()])
}

impl Group {
    /// Starts a first group of one; the hosts may have room for more.
    pub fn lone(hosts: Hosts) -> Group {
        let lone = plan_with(&hosts, 0, &["-n", "1", "-i", "0"]).start().expect("a node starts");
        Group { nodes: vec![lone], hosts }
    }

    /// Starts the next node, which joins; returns when it is a member.
    pub fn join(&mut self, replaces: Option<usize>) -> usize {
        let index = self.nodes.len();
        self.nodes.push(joiner(&self.hosts, index, replaces).start().expect("a node starts"));
        let joined = self.nodes[index].wait_for_line("is a full member", PATIENCE);
        joined.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        index
    }

    /// Waits until a node ends by itself with `status`, having said `text` in this life.
    pub fn wait_end(&mut self, index: usize, status: i32, text: &str) -> String {
        let ended = self.nodes[index].wait_exit(PATIENCE);
        let ended = ended.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        assert_eq!(ended.code(), Some(status), "node {index}\n{}", self.logs());
        // Its last words may still be on their way from the pipe.
        let line = self.nodes[index].wait_for_line(text, PATIENCE);
        line.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts all three nodes of a first group.
    pub fn start(hosts: Hosts) -> Group {
        let nodes = (0..3).map(|index| plan(&hosts, index).start().expect("a node starts")).collect();
        Group { nodes, hosts }
    }

    pub fn client(&self) -> Client {
        Client::start(&self.hosts, NODE, &["--timeout", "25s"]).expect("a client starts")
    }

    /// The client's view of who leads; waits for somebody.
    pub fn leader(&self, client: &mut Client) -> usize {
        let answer = client.call("leader", PATIENCE).expect("an answer");
        let id = answer.text.strip_prefix("leader ").and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("{}\n{}", answer.text, self.logs()))
    }

    /// Waits until `count` nodes have durably learned up to `instance`.
    pub fn learned(&self, client: &mut Client, count: usize, instance: u64) {
        let answer = client.call(&format!("learned {count} {instance}"), PATIENCE).expect("an answer");
        assert!(answer.text.starts_with("learned"), "{}\n{}", answer.text, self.logs());
    }

    /// The ends of all logs, for a failure's message.
    pub fn logs(&self) -> String {
        let end = |(index, node): (usize, &Node)| {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            format!("--- node {index}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        self.nodes.iter().enumerate().map(end).collect()
    }

    pub fn history(&self, index: usize) -> BTreeMap<Instance, Entry> {
        self.hosts.history(index).unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }

    /// Waits until `indices` have learned everything that was acknowledged, then checks their disks.
    pub fn check_after(&self, load: &Load, client: &mut Client, indices: &[usize]) {
        self.learned(client, indices.len(), load.highest());
        self.check(load, indices);
    }

    /// On the disks of `indices`: nothing acknowledged is lost, everything stands where it was
    /// acknowledged, no request took effect twice, and no two nodes disagree.
    pub fn check(&self, load: &Load, indices: &[usize]) {
        let mut agreed: BTreeMap<Instance, Entry> = BTreeMap::new();
        for &index in indices {
            let history = self.history(index);
            let effects = effects(&history);
            for (&instance, value) in &load.acknowledged {
                let found = effects.get(&instance);
                assert_eq!(found, Some(value), "node {index}, instance {instance}\n{}", self.logs());
            }
            let mut values = BTreeSet::new();
            // What others wrote may well repeat.
            for value in effects.values().filter(|value| value.starts_with(LOADED)) {
                assert!(values.insert(value), "node {index}: {value} took effect twice\n{}", self.logs());
            }
            for (instance, entry) in history {
                let known = agreed.entry(instance).or_insert_with(|| entry.clone());
                assert_eq!(*known, entry, "node {index} disagrees at {instance}\n{}", self.logs());
            }
        }
    }
}

/// The writes of users that took effect, by instance: of a tag chosen twice, the first.
fn effects(history: &BTreeMap<Instance, Entry>) -> BTreeMap<u64, String> {
    let mut seen = BTreeSet::new();
    let effect = |(instance, entry): (&Instance, &Entry)| match entry {
        Entry::Tagged(tagged, value) if seen.insert(tagged.tag) => Some((instance.0, value.to_string())),
        Entry::Write(value) => Some((instance.0, value.to_string())),
        _ => None,
    };
    history.iter().filter_map(effect).collect()
}

/// Writes with distinct values, and what became of them.
#[derive(Default)]
pub struct Load {
    asked: BTreeMap<usize, Asked>,
    /// What was acknowledged, and where it stands.
    pub acknowledged: BTreeMap<u64, String>,
    /// How many have an outcome that nobody knows.
    pub unknown: usize,
    /// The longest time between two answers.
    pub gap: Duration,
    last: Option<Instant>,
    count: usize,
}

/// A write under way.
struct Asked {
    value: String,
    /// The highest instance that had been acknowledged before: this one has to stand above it.
    above: u64,
}

impl Load {
    /// Asks for `count` more writes, without waiting.
    pub fn ask(&mut self, client: &mut Client, count: usize) {
        for _ in 0..count {
            self.count += 1;
            let value = format!("{LOADED}{}", self.count);
            let number = client.ask(&format!("Request 0 {value}")).expect("the client lives");
            let above = self.highest();
            self.asked.insert(number, Asked { value, above });
        }
    }

    /// Takes `count` answers; every one must be an acknowledgement.
    pub fn take(&mut self, group: &Group, client: &Client, count: usize) {
        for _ in 0..count {
            let answer = self.next(group, client);
            assert!(answer.chosen().is_some(), "{}\n{}", answer.text, group.logs());
        }
    }

    /// Takes what is still unanswered; nodes may be missing, so an outcome may be unknown.
    pub fn take_all(&mut self, group: &Group, client: &Client) {
        while !self.asked.is_empty() {
            let answer = self.next(group, client);
            assert!(!answer.text.starts_with("Refused"), "{}\n{}", answer.text, group.logs());
            self.unknown += usize::from(answer.chosen().is_none());
        }
    }

    /// The highest instance that was acknowledged.
    fn highest(&self) -> u64 {
        self.acknowledged.last_key_value().map_or(0, |(instance, _)| *instance)
    }

    pub fn is_done(&self) -> bool {
        self.asked.is_empty()
    }

    fn next(&mut self, group: &Group, client: &Client) -> Answer {
        let answer = client.next(PATIENCE);
        let answer = answer.unwrap_or_else(|error| panic!("{error}\n{}", group.logs()));
        let now = Instant::now();
        self.gap = self.gap.max(self.last.map_or(Duration::ZERO, |last| now - last));
        self.last = Some(now);
        let Asked { value, above } =
            self.asked.remove(&answer.number).expect("answers only to what was asked");
        if let Some((instance, chosen)) = answer.chosen() {
            assert_eq!(chosen, value, "another value was acknowledged");
            assert!(instance > above, "{value} at {instance}, though {above} was done before it was asked");
            let twice = self.acknowledged.insert(instance, value);
            assert_eq!(twice, None, "instance {instance} was acknowledged twice");
        }
        answer
    }

    /// Forgets how long answers took so far.
    pub fn restart_clock(&mut self) {
        self.gap = Duration::ZERO;
        self.last = Some(Instant::now());
    }
}
