//! Claims about the switch between the hosts, with real datagrams. Delays, losses, duplicates, damage and cuts
//! occur as set, on that link and in that direction only. The seed decides the rest.

mod live;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use upaxos_core::types::Micros;
use upaxos_core::wire::{self, Dialect};
use upaxos_lab::Link;
use upaxos_net::{Options, Socket};
use upaxos_testbed::hosts::{Host, Hosts, Node};
use upaxos_testbed::switch::order::Losses;

use live::{PATIENCE, oneself, or_skip};

const SEED: u64 = 253;
const COUNT: usize = 200;

fn socket() -> Socket {
    let address = [10, 253, 0, 255].into();
    Socket::open(&Options { address, ..Options::default() }).expect("the host has a network")
}

fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_micros()
}

fn number(name: &str) -> usize {
    env::var(name).expect("the test says how many").parse().expect("a number")
}

/// A datagram with one line, as a client would send it: its number, its sending time in µs, and padding.
fn line(number: usize, size: usize) -> String {
    format!("Request 0 {number} {} {}", now_us(), "x".repeat(size))
}

#[test]
#[ignore = "not a test: a host that listens, and prints what it receives"]
fn hear() {
    let mut socket = socket();
    eprintln!("listens");
    loop {
        let each = &mut |datagram: &[u8], _| {
            let text = String::from_utf8_lossy(datagram);
            // A damaged number does not parse. A damaged datagram still counts as one.
            let fields: Vec<&str> = text.split(' ').collect();
            let late = fields
                .get(3)
                .and_then(|sent| sent.parse().ok())
                .map_or(0, |sent| now_us().saturating_sub(sent));
            let number = fields.get(2).unwrap_or(&"");
            let lines = wire::lines(datagram, Dialect::Extended);
            let good = lines.flatten().map(|line| line.to_string()).collect::<Vec<_>>().join("|");
            eprintln!(
                "heard {number:?} after {late} us, {} bytes: {}",
                datagram.len(),
                &good[..good.len().min(60)]
            );
        };
        socket.receive(None, each).expect("the socket stays usable");
    }
}

#[test]
#[ignore = "not a test: a host that speaks"]
fn speak() {
    let (mut socket, size) = (socket(), number("UPAXOS_SIZE"));
    for at in 0..number("UPAXOS_COUNT") {
        socket.send(&[line(at, size).into_bytes()]).expect("the network carries it");
        if at % 20 == 19 {
            // Paced, because a queue overflow is not a loss of the switch.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    socket.send(&[b"Request 0 last 0 x".to_vec()]).expect("the network carries it");
}

/// Two hosts that listen and one that sends to both, over links under test.
struct Scene {
    hosts: Hosts,
    listeners: Vec<Node>,
}

/// A received datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    number: Option<usize>,
    late: Micros,
    bytes: usize,
    good: String,
}

impl Scene {
    fn new(seed: u64) -> Option<Scene> {
        let hosts = or_skip(Hosts::switched(3, seed))?;
        let listeners: Vec<Node> = (1..3).map(|index| oneself(&hosts, index, "hear")).collect();
        for listener in &listeners {
            listener.wait_for_line("listens", PATIENCE).expect("the host listens");
        }
        Some(Scene { hosts, listeners })
    }

    /// Sends from host 0, over a link to host 1 with this behaviour. Returns what hosts 1 and 2 received.
    fn speak(mut self, link: Link, size: usize) -> [Vec<Heard>; 2] {
        self.hosts.link(0, 1, link).expect("links can fail here");
        self.say(0, COUNT, size);
        self.hosts.heal().expect("links can be healed");
        // Waits until all datagrams in flight have arrived, then sends the last one.
        std::thread::sleep(Duration::from_millis(150));
        self.say(2, 0, 0);
        let heard = |node: &Node| {
            node.wait_for_line("heard \"last\" after", PATIENCE).expect("it hears the end");
            let log = node.log();
            log.lines().filter_map(Heard::parse).collect::<Vec<_>>()
        };
        let all = [heard(&self.listeners[0]), heard(&self.listeners[1])];
        self.listeners.clear();
        all
    }

    fn say(&self, host: usize, count: usize, size: usize) {
        let mut command =
            self.hosts.command(Host::Node(host), env::current_exe().expect("a test has a path"));
        command.args(["--exact", "speak", "--ignored"]);
        command.env("UPAXOS_COUNT", count.to_string()).env("UPAXOS_SIZE", size.to_string());
        assert!(command.output().expect("the test program starts again").status.success());
    }
}

/// The switch process with this seed.
fn switch_of(seed: u64) -> Pid {
    let command = format!("switch\0--ports\x004\0--seed\0{seed}\0");
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|said| String::from_utf8_lossy(&said).contains(&command))
    };
    Pid::from_raw(pids.find(is_it).expect("it runs"))
}

#[test]
fn frames_that_find_the_queue_of_the_switch_full_are_counted() {
    const ITS_OWN: u64 = 20_253;
    let Some(hosts) = or_skip(Hosts::switched(3, ITS_OWN)) else { return };
    let scene = Scene { hosts, listeners: Vec::new() };
    scene.say(0, 20, 1_000);
    assert_eq!(scene.hosts.losses().expect("it runs"), Some(Losses::default()));
    // The switch is stopped while more data is sent than its queue holds (32 MiB at most).
    kill(switch_of(ITS_OWN), Signal::SIGSTOP).expect("it is ours");
    scene.say(0, 1_500, 50_000);
    kill(switch_of(ITS_OWN), Signal::SIGCONT).expect("it is ours");
    let losses = scene.hosts.losses().expect("it runs").expect("there is a switch");
    assert!(losses.unheard > 1_000, "{losses:?}");
    assert_eq!(scene.hosts.losses().expect("it runs"), Some(losses), "counted once");
}

impl Heard {
    fn parse(line: &str) -> Option<Heard> {
        let (number, rest) = line.strip_prefix("heard \"")?.split_once("\" after ")?;
        let (late, rest) = rest.split_once(" us, ")?;
        let (bytes, good) = rest.split_once(" bytes: ")?;
        (number != "last").then(|| Heard {
            number: number.parse().ok(),
            late: Micros(late.parse().expect("a number")),
            bytes: bytes.parse().expect("a number"),
            good: good.to_owned(),
        })
    }
}

fn numbers(heard: &[Heard]) -> Vec<usize> {
    heard.iter().filter_map(|heard| heard.number).collect()
}

#[test]
fn a_delay_delays_one_direction_of_one_link_and_keeps_the_order() {
    let Some(scene) = Scene::new(SEED) else { return };
    let [late, other] = scene.speak(Link { delay: Micros::from_millis(60), ..Link::default() }, 10);
    assert!(late.iter().all(|heard| heard.late >= Micros::from_millis(60)), "{late:?}");
    assert_eq!(numbers(&late), (0..COUNT).collect::<Vec<_>>());
    assert_eq!(numbers(&other), numbers(&late));
    let mut lateness: Vec<Micros> = other.iter().map(|heard| heard.late).collect();
    lateness.sort();
    assert!(lateness[COUNT / 2] < Micros::from_millis(30), "half of them take {:?}", lateness[COUNT / 2]);
}

#[test]
fn jitter_changes_the_order_and_loses_nothing() {
    let Some(scene) = Scene::new(SEED) else { return };
    let [shuffled, other] = scene.speak(Link { jitter: Micros::from_millis(50), ..Link::default() }, 10);
    assert!(!numbers(&shuffled).is_sorted());
    assert_eq!(numbers(&shuffled).into_iter().collect::<BTreeSet<_>>().len(), COUNT);
    assert!(numbers(&other).is_sorted());
}

#[test]
fn duplicates_arrive_twice() {
    let Some(scene) = Scene::new(SEED) else { return };
    let [twice, once] = scene.speak(Link { duplicate: 1.0, ..Link::default() }, 10);
    assert_eq!(numbers(&twice), (0..COUNT).flat_map(|at| [at, at]).collect::<Vec<_>>());
    assert_eq!(numbers(&once).len(), COUNT);
}

#[test]
fn a_datagram_in_fragments_is_lost_as_one() {
    let Some(scene) = Scene::new(SEED) else { return };
    // Each datagram has six fragments. If fragments were lost independently, 1 of 64 datagrams would arrive whole.
    let [heard, other] = scene.speak(Link { loss: 0.5, ..Link::default() }, 8_000);
    assert_eq!(other.len(), COUNT);
    assert!(other.iter().all(|heard| heard.bytes > 8_000));
    // The bounds are more than five standard deviations from a half.
    assert!((62..=138).contains(&heard.len()), "{} of {COUNT}", heard.len());
}

#[test]
fn damage_arrives_and_never_reads_as_another_line() {
    for size in [10, 4_000] {
        let Some(scene) = Scene::new(SEED) else { return };
        let [damaged, good] = scene.speak(Link { corrupt: 1.0, ..Link::default() }, size);
        assert_eq!(numbers(&good), (0..COUNT).collect::<Vec<_>>());
        // Datagrams with a line that reads as another one are dropped. Where a line is mostly value, most damaged
        // datagrams are dropped.
        assert!(size > 10 || !damaged.is_empty(), "nothing arrives");
        let sent: BTreeSet<&str> = good.iter().map(|heard| heard.good.as_str()).collect();
        for heard in &damaged {
            assert!(heard.good.is_empty() || sent.contains(heard.good.as_str()), "forged: {heard:?}");
        }
    }
}

#[test]
fn the_same_seed_means_the_same_fates() {
    let lost = |seed| {
        let link = Link { loss: 0.5, ..Link::default() };
        Some(numbers(&Scene::new(seed)?.speak(link, 10)[0]))
    };
    let (Some(one), Some(again), Some(other)) = (lost(1), lost(1), lost(2)) else { return };
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
#[ignore = "a measurement: cargo test --release --test live_switch -- --ignored --nocapture compare"]
fn compare_with_the_kernels_bridge() {
    for (name, hosts) in [("bridge", Hosts::raw_only(3)), ("switch", Hosts::switched(3, SEED))] {
        let hosts = hosts.expect("namespaces are possible here");
        let echo = oneself(&hosts, 1, "echo");
        echo.wait_for_line("listens", PATIENCE).expect("the host listens");
        let mut pings = oneself(&hosts, 0, "ping");
        pings.wait_exit(PATIENCE * 3).expect("it ends");
        println!("{name}: {}", pings.log());
    }
}

#[test]
#[ignore = "not a test: a host that sends back what it receives"]
fn echo() {
    let mut socket = socket();
    eprintln!("listens");
    loop {
        let mut back = Vec::new();
        let each = &mut |datagram: &[u8], _| {
            if datagram.starts_with(b"ping") {
                back.push(datagram.to_vec());
            }
        };
        socket.receive(None, each).expect("the socket stays usable");
        back.iter_mut().for_each(|datagram| datagram[1] = b'o');
        socket.send(&back).expect("the network carries it");
    }
}

#[test]
#[ignore = "not a test: a host that measures round trips, one by one and in bursts"]
fn ping() {
    let mut socket = socket();
    for (window, rounds) in [(1, 2_000), (64, 400)] {
        let mut trips = Vec::new();
        let (began, mut got) = (std::time::Instant::now(), 0);
        for _ in 0..rounds {
            let sent = std::time::Instant::now();
            socket.send(&vec![b"ping and some bytes more, as lines have".to_vec(); window]).expect("it goes");
            let mut back = 0;
            while back < window && sent.elapsed() < Duration::from_millis(100) {
                let each = &mut |datagram: &[u8], _| back += usize::from(datagram.starts_with(b"pong"));
                socket.receive(Some(Duration::from_millis(20)), each).expect("the socket stays usable");
            }
            got += back;
            trips.push(sent.elapsed());
        }
        trips.sort();
        let seconds = began.elapsed().as_secs_f64();
        eprintln!(
            "{window} at once: {got} of {} back, half of the rounds within {:?}, 99 % within {:?}, {:.0} round trips/s",
            window * rounds,
            trips[rounds / 2],
            trips[rounds * 99 / 100],
            got as f64 / seconds
        );
    }
}
