//! `upaxos-node demo`: three real nodes, one log, and a crash, in a few seconds.
//!
//! Owns the story and its words. It runs this very program as the nodes and as the client, on hosts of
//! the lab, so that nothing in it is simulated, and it leaves nothing behind however it ends.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use upaxos_core::entry::Entry;

use crate::hosts::{Client, Hosts, Node};

const NODES: usize = 3;
/// How long one step may take on a slow machine: a little longer than the client's own patience, so that
/// the client says why. A healthy group takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// The lines of each node's log that are shown when a step fails.
const SHOWN: usize = 15;

/// Tells the story, and checks every sentence of it.
///
/// # Errors
/// When something did not hold; the nodes' logs have then been printed.
pub fn run() -> Result<()> {
    say("Three nodes, one log, and a crash.\n");
    let step = Step::begin("ground");
    let hosts = Hosts::new(NODES)?;
    for reason in hosts.refused() {
        say(format_args!("Not to be had here: {reason}"));
    }
    step.done(hosts.ground());

    let program = env::current_exe().context("cannot find the running program")?;
    let mut demo = Demo { program, nodes: Vec::new(), hosts };
    if let Err(error) = demo.tell() {
        demo.show_logs();
        return Err(error);
    }

    let step = Step::begin("clean up");
    let dir = demo.hosts.dir().to_owned();
    drop(demo);
    ensure!(!dir.exists(), "{} is still there; remove it", dir.display());
    step.done("processes, networks and files are gone");
    say("\nEvery acknowledged value survived the crash, once, in the same place everywhere.");
    Ok(())
}

struct Demo {
    program: PathBuf,
    nodes: Vec<Node>,
    // Last: nodes end before the hosts they run on.
    hosts: Hosts,
}

impl Demo {
    fn tell(&mut self) -> Result<()> {
        let step = Step::begin("start");
        for index in 0..NODES {
            let node = self.start(index)?;
            self.nodes.push(node);
        }
        step.done("nodes 0, 1 and 2, each with a directory of its own");
        let mut client = Client::start(&self.hosts, &self.program, &["--timeout", "15s"])?;

        let leader = leader(&mut client)?;
        write(&mut client, "one")?;
        let second = write(&mut client, "two")?;
        write(&mut client, "three")?;
        read(&mut client, second, "two")?;

        let step = Step::begin("kill -9");
        self.nodes[leader].kill9();
        step.done(format_args!("node {leader}, the leader"));
        let last = write(&mut client, "four")?;
        let next = self::leader(&mut client)?;
        ensure!(next != leader, "node {leader} is dead, and yet said to lead");

        let step = Step::begin("restart");
        self.nodes[leader].start()?;
        let answer = client.call(&format!("learned {NODES} {last}"), PATIENCE)?;
        ensure!(answer.text.starts_with("learned"), "node {leader} does not catch up: {}", answer.text);
        step.done(format_args!("node {leader}, which asks the others for what it missed"));

        let step = Step::begin("compare");
        for index in 0..NODES {
            let values = self.values(index)?;
            ensure!(
                values == ["one", "two", "three", "four"],
                "node {index} has {values:?} on its disk, and should have one, two, three, four"
            );
        }
        step.done("all three disks hold one, two, three, four");
        Ok(())
    }

    fn start(&self, index: usize) -> Result<Node> {
        let plan = Node::on(&self.hosts, index, &self.program).args(self.hosts.args());
        let plan = plan.args(["-n", &NODES.to_string(), "-i", &index.to_string(), "--dir"]);
        Ok(plan.args([self.hosts.node_dir(index)]).start()?)
    }

    /// What users have written, as node `index` has it on its disk.
    fn values(&self, index: usize) -> Result<Vec<String>> {
        let history = self.hosts.history(index)?;
        // A request that was sent twice may be chosen twice; the second is void.
        let mut seen = BTreeSet::new();
        let values = history.into_values().filter_map(|entry| match entry {
            Entry::Tagged(tagged, value) => seen.insert(tagged.tag).then(|| value.to_string()),
            Entry::Write(value) | Entry::Changed(_, value) => Some(value.to_string()),
            Entry::Noop | Entry::Read { .. } | Entry::Group(..) => None,
        });
        Ok(values.collect())
    }

    fn show_logs(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            say(format_args!("\nnode {index}, the end of its log:"));
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                say(format_args!("  {line}"));
            }
        }
    }
}

fn leader(client: &mut Client) -> Result<usize> {
    let step = Step::begin("leader");
    let answer = client.call("leader", PATIENCE)?;
    let id = answer.text.strip_prefix("leader ").and_then(|id| id.parse().ok());
    let id = id.with_context(|| format!("cannot find a leader: {}", answer.text))?;
    step.done(format_args!("node {id}"));
    Ok(id)
}

fn write(client: &mut Client, value: &str) -> Result<u64> {
    let step = Step::begin("write");
    let answer = client.call(&format!("Request 0 {value}"), PATIENCE)?;
    let Some((instance, chosen)) = answer.chosen() else { bail!("cannot write {value}: {}", answer.text) };
    ensure!(chosen == value, "wrote {value}, and {chosen} was chosen at instance {instance}");
    step.took(format_args!("{value}, chosen at instance {instance}"), answer.took);
    Ok(instance)
}

fn read(client: &mut Client, instance: u64, value: &str) -> Result<()> {
    let step = Step::begin("read");
    let answer = client.call(&format!("Request {instance}"), PATIENCE)?;
    ensure!(answer.chosen() == Some((instance, value)), "cannot read instance {instance}: {}", answer.text);
    step.took(format_args!("instance {instance} is {value}"), answer.took);
    Ok(())
}

/// One line of the story.
struct Step {
    name: &'static str,
    begin: Instant,
}

impl Step {
    fn begin(name: &'static str) -> Step {
        Step { name, begin: Instant::now() }
    }

    fn done(self, what: impl Display) {
        let took = self.begin.elapsed();
        self.took(what, took);
    }

    /// For what somebody else has measured.
    fn took(self, what: impl Display, took: Duration) {
        let took = took.as_secs_f64() * 1_000.0;
        let digits = if took < 10.0 { 1 } else { 0 };
        let (name, what) = (self.name, what.to_string());
        say(format_args!("{name:>9}  {what:<62} {took:>6.digits$} ms"));
    }
}

/// Prints a line; whoever closes the pipe early still gets the exit status.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
