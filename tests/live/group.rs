//! A group of real nodes on hosts, the load of its clients, and the checks afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use upaxos_core::entry::Entry;
use upaxos_core::types::Instance;
use upaxos_testbed::hosts::{Answer, Client, Hosts, Node, Plan};

/// The path of the program under test.
pub const NODE: &str = env!("CARGO_BIN_EXE_upaxos-node");

/// How long one answer may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The prefix of every value in a load.
const LOADED: &str = "value-";

/// A group of real nodes. The index of a node is its id.
pub struct Group {
    pub nodes: Vec<Node>,
    pub hosts: Hosts,
}

/// The plan of a node in a group of three.
pub fn plan(hosts: &Hosts, index: usize) -> Plan<'_> {
    plan_with(hosts, index, &["-n", "3", "-i", &index.to_string()])
}

/// The plan of a node that joins. It may replace another node.
pub fn joiner(hosts: &Hosts, index: usize, replaces: Option<usize>) -> Plan<'_> {
    let plan = plan_with(hosts, index, &["--join", "-i", &index.to_string()]);
    plan.args(replaces.iter().flat_map(|old| ["--replace".to_owned(), old.to_string()]))
}

/// The plan of a node with these flags, and with the flags for the network and the directory.
pub fn plan_with<'w>(hosts: &'w Hosts, index: usize, flags: &[&str]) -> Plan<'w> {
    let plan = Node::on(hosts, index, NODE).args(hosts.args()).args(flags);
    plan.args(["--dir".into(), hosts.node_dir(index).into_os_string()])
}

impl Group {
    /// Starts a first group of one node. The hosts may have room for more.
    pub fn lone(hosts: Hosts) -> Group {
        let lone = plan_with(&hosts, 0, &["-n", "1", "-i", "0"]).start().expect("a node starts");
        Group { nodes: vec![lone], hosts }
    }

    /// Starts the next node, which joins. Waits until it is a member, and returns its index.
    pub fn join(&mut self, replaces: Option<usize>) -> usize {
        let index = self.nodes.len();
        self.nodes.push(joiner(&self.hosts, index, replaces).start().expect("a node starts"));
        let joined = self.nodes[index].wait_for_line("is a full member", PATIENCE);
        joined.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        index
    }

    /// Waits until a node exits with `status` after it has logged `text` since its last start.
    pub fn wait_end(&mut self, index: usize, status: i32, text: &str) -> String {
        let ended = self.nodes[index].wait_exit(PATIENCE);
        let ended = ended.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        assert_eq!(ended.code(), Some(status), "node {index}\n{}", self.logs());
        // The last lines may still be in the pipe.
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

    /// Returns the leader that the client knows. Waits until there is one.
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

    /// The last 40 lines of each log, for the message of a failure.
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

    /// Waits until the nodes `indices` have learned all acknowledged writes, then checks their disks.
    pub fn check_after(&self, load: &Load, client: &mut Client, indices: &[usize]) {
        self.learned(client, indices.len(), load.highest());
        self.check(load, indices);
    }

    /// Checks the disks of the nodes `indices`. No acknowledged write is lost. Each one is at the instance that was
    /// acknowledged. No request took effect twice. No two nodes disagree.
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
            // Other writers may repeat their values.
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

/// The client writes that took effect, by instance. Of a tag that was chosen twice, the first counts.
fn effects(history: &BTreeMap<Instance, Entry>) -> BTreeMap<u64, String> {
    let mut seen = BTreeSet::new();
    let effect = |(instance, entry): (&Instance, &Entry)| match entry {
        Entry::Tagged(tagged, value) if seen.insert(tagged.tag) => Some((instance.0, value.to_string())),
        Entry::Write(value) => Some((instance.0, value.to_string())),
        _ => None,
    };
    history.iter().filter_map(effect).collect()
}

/// Writes with distinct values, and their outcomes.
#[derive(Default)]
pub struct Load {
    asked: BTreeMap<usize, Asked>,
    /// The acknowledged writes, by instance.
    pub acknowledged: BTreeMap<u64, String>,
    /// How many writes have an unknown outcome.
    pub unknown: usize,
    /// The longest time between two answers.
    pub gap: Duration,
    last: Option<Instant>,
    count: usize,
}

/// A write in flight.
struct Asked {
    value: String,
    /// The highest instance that was acknowledged before the request. The write must be above it.
    above: u64,
}

impl Load {
    /// Sends `count` more writes, without waiting.
    pub fn ask(&mut self, client: &mut Client, count: usize) {
        for _ in 0..count {
            self.count += 1;
            let value = format!("{LOADED}{}", self.count);
            let number = client.ask(&format!("Request 0 {value}")).expect("the client runs");
            let above = self.highest();
            self.asked.insert(number, Asked { value, above });
        }
    }

    /// Takes `count` answers. Each must be an acknowledgement.
    pub fn take(&mut self, group: &Group, client: &Client, count: usize) {
        for _ in 0..count {
            let answer = self.next(group, client);
            assert!(answer.chosen().is_some(), "{}\n{}", answer.text, group.logs());
        }
    }

    /// Takes the answers of all pending writes. Nodes may be down, so an outcome may be unknown.
    pub fn take_all(&mut self, group: &Group, client: &Client) {
        while !self.asked.is_empty() {
            let answer = self.next(group, client);
            assert!(!answer.text.starts_with("Refused"), "{}\n{}", answer.text, group.logs());
            self.unknown += usize::from(answer.chosen().is_none());
        }
    }

    /// The highest acknowledged instance.
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
            self.asked.remove(&answer.number).expect("an answer to a pending request");
        if let Some((instance, chosen)) = answer.chosen() {
            assert_eq!(chosen, value, "another value was acknowledged");
            assert!(instance > above, "{value} at {instance}, though {above} was done before it was asked");
            let twice = self.acknowledged.insert(instance, value);
            assert_eq!(twice, None, "instance {instance} was acknowledged twice");
        }
        answer
    }

    /// Resets the longest time between two answers.
    pub fn restart_clock(&mut self) {
        self.gap = Duration::ZERO;
        self.last = Some(Instant::now());
    }
}
