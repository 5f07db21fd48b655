//! Claims about the leader in groups of real processes while links fail one by one, and when a node comes back. The
//! group has a leader within four election timeouts wherever one is possible, and leaders never duel. `topologies`
//! tests the same shapes on virtual time.

mod live;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use upaxos_net::{Options, Socket};
use upaxos_testbed::hosts::{Client, Host, Hosts, Node};

use live::group::{Group, Load, NODE, PATIENCE};
use live::{eventually, or_skip};

/// Four times the election timeout, which is four beats of 100 ms.
const FOUR_TIMEOUTS: Duration = Duration::from_millis(1_600);

/// The extra time that a machine busy with other work may need.
const NOISE: Duration = Duration::from_millis(400);

/// A group with a settled leader, and a client.
struct Scene {
    group: Group,
    client: Client,
    load: Load,
    leader: usize,
    n: usize,
    /// The member that was removed. It is no longer checked directly.
    removed: Option<usize>,
    /// The ballots that were known before, and how often a node had begun to lead.
    before: (BTreeSet<String>, usize),
    _memory: Option<TempDir>,
}

/// Keeps the nodes' directories in memory where there is a file system in memory. A sync that takes longer than an
/// election timeout makes a node fall silent, and these claims are about links only.
fn in_memory(hosts: &Hosts, n: usize) -> Option<TempDir> {
    let memory = tempfile::Builder::new().prefix("upaxos-topologies-").tempdir_in("/dev/shm").ok()?;
    for index in 0..n {
        let dir = memory.path().join(index.to_string());
        fs::create_dir(&dir).expect("memory has room");
        symlink(dir, hosts.node_dir(index)).expect("the directory is ours");
    }
    Some(memory)
}

impl Scene {
    /// Starts `n` nodes, and waits until all follow one leader. Returns `None` where links cannot be cut.
    fn of(n: usize) -> Option<Scene> {
        let hosts = or_skip(Hosts::switched(n, 0))?;
        let memory = in_memory(&hosts, n);
        let start = |index: usize| {
            let plan = Node::on(&hosts, index, NODE).args(hosts.args());
            let plan = plan.args(["-n", &n.to_string(), "-i", &index.to_string()]);
            let plan = plan.args(["--dir".into(), hosts.node_dir(index).into_os_string()]);
            plan.start().expect("a node starts")
        };
        let group = Group { nodes: (0..n).map(start).collect(), hosts };
        let mut client = group.client();
        let mut load = Load::default();
        load.ask(&mut client, 1);
        load.take(&group, &client, 1);
        group.learned(&mut client, n, 1);
        let leader = group.leader(&mut client);
        let mut scene = Scene {
            group,
            client,
            load,
            leader,
            n,
            removed: None,
            before: Default::default(),
            _memory: memory,
        };
        for index in scene.others() {
            let follows = scene.group.nodes[index].wait_for_line(&format!("follows {leader} in"), PATIENCE);
            follows.unwrap_or_else(|error| panic!("{error}"));
        }
        scene.news();
        Some(scene)
    }

    /// The other nodes, in the order of their rank after the leader.
    fn others(&self) -> Vec<usize> {
        (1..self.n).map(|rank| (self.leader + rank) % self.n).collect()
    }

    /// Sets the links: from now on `to` receives from `from` where `hears(from, to)`.
    fn links(&self, hears: impl Fn(usize, usize) -> bool) {
        self.group.hosts.links(hears).expect("links can be cut here");
    }

    /// Sends `count` writes, and waits until they are chosen.
    fn write(&mut self, count: usize) {
        self.load.ask(&mut self.client, count);
        self.load.take(&self.group, &self.client, count);
    }

    /// Checks that a request sent now is chosen within four election timeouts. Returns how long it took.
    fn assert_served_in_time(&mut self) -> Duration {
        self.load.restart_clock();
        self.write(1);
        let took = self.load.gap;
        assert!(took <= FOUR_TIMEOUTS + NOISE, "chosen after {took:?}\n{}", self.group.logs());
        took
    }

    /// The ids of the members.
    fn members(&self) -> Vec<usize> {
        (0..self.n).filter(|index| Some(*index) != self.removed).collect()
    }

    /// Every ballot that a member ever raised or promised. A candidate's own disk has its ballot at least.
    fn ballots(&self) -> BTreeSet<String> {
        let promised = |index| {
            let dir = self.group.hosts.node_dir(index);
            let printed = Command::new(NODE).arg("log").arg(dir).output().expect("the program runs");
            assert!(printed.status.success(), "node {index}: {printed:?}");
            let text = String::from_utf8_lossy(&printed.stdout).into_owned();
            let lines = text.lines().filter_map(|line| line.split_once(": promise "));
            lines.map(|(_, ballot)| ballot.to_owned()).collect::<Vec<_>>()
        };
        self.members().into_iter().flat_map(promised).collect()
    }

    /// How often a node began to lead.
    fn reigns(&self) -> usize {
        self.group.nodes.iter().map(|node| node.log().matches("leads with ballot").count()).sum()
    }

    /// Waits for the time in which a group must find a leader.
    fn let_settle(&self) {
        thread::sleep(FOUR_TIMEOUTS + NOISE);
    }

    /// The ballots that were raised since the last call, and how many leaders began meanwhile.
    fn news(&mut self) -> (Vec<String>, usize) {
        let (ballots, reigns) = (self.ballots(), self.reigns());
        let (old, begun) = std::mem::replace(&mut self.before, (ballots.clone(), reigns));
        (ballots.difference(&old).cloned().collect(), reigns - begun)
    }

    /// Checks that no node raises a ballot while `events` happen, nor within four election timeouts after them.
    fn assert_nobody_runs(&mut self, events: impl FnOnce(&mut Scene)) {
        events(self);
        self.assert_served_in_time();
        self.let_settle();
        let news = self.news();
        assert_eq!(news, (vec![], 0), "a ballot was raised without need\n{}", self.group.logs());
    }

    /// Changes the links. A request is chosen in time, under one new leader. Then no node raises a ballot, neither
    /// with these links nor when they heal. Returns the leader.
    fn assert_settles(&mut self, hears: impl Fn(usize, usize) -> bool) -> usize {
        self.links(hears);
        let took = self.assert_served_in_time();
        self.let_settle();
        let (raised, begun) = self.news();
        println!("chosen after {took:?}; raised {raised:?}; new leaders: {begun}");
        // Two nodes may start a campaign at the same moment, once. More would be a duel.
        assert!(begun <= 2 && raised.len() <= 2, "{begun} leaders, {raised:?}\n{}", self.group.logs());
        let leader = self.group.leader(&mut self.client);
        self.assert_nobody_runs(|_| {});
        self.assert_nobody_runs(|scene| scene.group.hosts.heal().expect("links can be healed"));
        self.check();
        leader
    }

    /// Checks that all members learn all acknowledged writes, and agree.
    fn check(&mut self) {
        let members = self.members();
        self.group.check_after(&self.load, &mut self.client, &members);
    }
}

/// The links both ways between `hub` and each of `spokes`, and no others.
fn star(hub: usize, spokes: &[usize]) -> impl Fn(usize, usize) -> bool {
    move |from, to| (from == hub && spokes.contains(&to)) || (to == hub && spokes.contains(&from))
}

#[test]
fn quorum_loss_makes_the_only_node_that_hears_a_quorum_lead() {
    let Some(mut scene) = Scene::of(5) else { return };
    let (leader, others) = (scene.leader, scene.others());
    // The hub is last in rank. All other nodes would start a campaign before it.
    let hub = others[3];
    let spokes = [leader, others[0], others[1], others[2]];
    assert_eq!(scene.assert_settles(star(hub, &spokes)), hub, "{}", scene.group.logs());
}

#[test]
fn a_constrained_election_is_won_by_a_node_that_lags_behind() {
    let Some(mut scene) = Scene::of(5) else { return };
    let others = scene.others();
    let hub = others[2];
    // The only node that can lead must first learn these values.
    scene.links(|from, to| from != hub && to != hub);
    scene.write(50);
    let spokes = [others[0], others[1], others[3]];
    assert_eq!(scene.assert_settles(star(hub, &spokes)), hub, "{}", scene.group.logs());
}

#[test]
fn a_chain_with_the_leader_at_its_end_settles() {
    let Some(mut scene) = Scene::of(5) else { return };
    let first = scene.leader;
    let place = |index: usize| (index + 5 - first) % 5;
    let leader = scene.assert_settles(|from, to| place(from).abs_diff(place(to)) == 1);
    assert!((1..=3).contains(&place(leader)), "node {leader} leads\n{}", scene.group.logs());
}

#[test]
fn a_leader_that_hears_nobody_is_replaced() {
    let Some(mut scene) = Scene::of(3) else { return };
    let deaf = scene.leader;
    assert_ne!(scene.assert_settles(|_, to| to != deaf), deaf);
}

#[test]
fn a_leader_that_nobody_hears_is_replaced() {
    let Some(mut scene) = Scene::of(3) else { return };
    let mute = scene.leader;
    assert_ne!(scene.assert_settles(|from, _| from != mute), mute);
}

#[test]
fn a_follower_with_links_in_one_direction_deposes_nobody() {
    let Some(mut scene) = Scene::of(3) else { return };
    let (leader, follower) = (scene.leader, scene.others()[0]);
    scene.assert_nobody_runs(|scene| scene.links(|from, _| from != follower));
    scene.assert_nobody_runs(|scene| scene.links(|_, to| to != follower));
    scene.assert_nobody_runs(|scene| scene.links(|from, to| (from, to) != (leader, follower)));
    scene.assert_nobody_runs(|scene| scene.group.hosts.heal().expect("links can be healed"));
    scene.check();
}

#[test]
fn a_follower_that_comes_back_deposes_nobody() {
    let Some(mut scene) = Scene::of(3) else { return };
    let follower = scene.others()[0];
    let absence = Duration::from_secs(3);
    scene.assert_nobody_runs(|scene| {
        scene.group.nodes[follower].pause();
        thread::sleep(absence);
        scene.group.nodes[follower].resume();
    });
    scene.assert_nobody_runs(|scene| {
        scene.links(|from, to| from != follower && to != follower);
        thread::sleep(absence);
        scene.group.hosts.heal().expect("links can be healed");
    });
    scene.check();
}

#[test]
fn a_leader_that_comes_back_deposes_nobody() {
    let Some(mut scene) = Scene::of(3) else { return };
    let old = scene.leader;
    scene.group.nodes[old].pause();
    let took = scene.assert_served_in_time();
    println!("chosen after {took:?}");
    scene.let_settle();
    assert_eq!(scene.news().1, 1, "{}", scene.group.logs());
    scene.assert_nobody_runs(|scene| scene.group.nodes[old].resume());
    assert_ne!(scene.group.leader(&mut scene.client), old, "{}", scene.group.logs());
    scene.check();
}

#[test]
#[ignore = "not a test: a host that sends one line to the group"]
fn operator() {
    let line = env::var("UPAXOS_LINE").expect("the test gives the line");
    let address = [10, 253, 0, 255].into();
    let mut socket =
        Socket::open(&Options { address, ..Options::default() }).expect("the host has a network");
    socket.send(&[line.into_bytes()]).expect("the network carries it");
}

/// Sends one line to the group, from the client's host.
fn say(hosts: &Hosts, line: &str) {
    let program = env::current_exe().expect("a test has a path");
    let mut command = hosts.command(Host::Client, program);
    command.args(["--exact", "operator", "--ignored"]).env("UPAXOS_LINE", line).stdout(Stdio::null());
    assert!(command.status().expect("the test program starts again").success());
}

#[test]
fn a_node_that_was_removed_unheard_disturbs_nobody_when_it_is_back() {
    let Some(mut scene) = Scene::of(5) else { return };
    let removed = scene.others()[0];
    scene.links(|from, to| from != removed && to != removed);
    say(&scene.group.hosts, &format!("leave {removed}"));
    for index in scene.others().into_iter().skip(1).chain([scene.leader]) {
        let governs = scene.group.nodes[index].wait_for_line("governs from instance", PATIENCE);
        governs.unwrap_or_else(|error| panic!("{error}"));
    }
    scene.assert_served_in_time();
    scene.let_settle();
    let log = scene.group.nodes[removed].log();
    assert!(!log.contains("governs from instance"), "it still believes that it is a member\n{log}");
    scene.removed = Some(removed);
    scene.news();
    scene.assert_nobody_runs(|scene| {
        scene.group.hosts.heal().expect("links can be healed");
        let began = Instant::now();
        let node = &mut scene.group.nodes[removed];
        // Some nodes exit when they have left. Others only log it.
        eventually("it ends, or says that it left", || node.log().contains(" left") || !node.is_running());
        println!("it knew after {:?}", began.elapsed());
    });
    scene.check();
}
