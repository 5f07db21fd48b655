//! A node that only answers. It has no group and no disk. Tests of the client programs run against it.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use upaxos_core::types::{Ballot, Epoch, GroupId, Instance, NodeId, Value};
use upaxos_core::wire::{self, Beat, Boot, Dialect, Head, Line, Message, Request, Stance};
use upaxos_net::{Options, Socket, Transport};

/// No program in these tests runs longer than this.
const LONGEST_TEST: Duration = Duration::from_secs(60);

/// How the node behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Sends no head, as a classic node does.
    pub is_classic: bool,
    /// The number of requests that it ignores before it answers one.
    pub deaf_to: usize,
    /// The reason with which it refuses every write. With `None` it refuses none.
    pub refuses: Option<&'static str>,
    /// The stance in its beats. With `None` it sends no beats.
    pub stance: Option<Stance>,
    /// Whether it answers requests at all.
    pub answers: bool,
    /// The name of a second group. The node sends beats for that group, too.
    pub other: Option<&'static str>,
    /// How many `members` requests it ignores. Until then it sends no beats.
    pub is_slow: usize,
}

impl Default for Manners {
    fn default() -> Self {
        Manners {
            is_classic: false,
            deaf_to: 0,
            refuses: None,
            stance: Some(Stance::Leads),
            answers: true,
            other: None,
            is_slow: 0,
        }
    }
}

/// A running fake node, on a UDP port of its own over loopback.
pub struct FakeNode {
    /// The port. Programs get it as `-p`.
    pub port: u16,
    heard: Receiver<Vec<u8>>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl FakeNode {
    pub fn start(manners: Manners) -> FakeNode {
        let port = free_port();
        let (stop, stopped) = mpsc::channel();
        let (tell, heard) = mpsc::channel();
        let (ready, opened) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let options = Options { transport: Transport::Udp, protocol: port, ..Options::default() };
            let socket = Socket::open(&options).expect("open a UDP socket on loopback");
            ready.send(()).expect("the test waits");
            Life { socket, manners, log: Vec::new(), tell }.live(&stopped);
        });
        opened.recv_timeout(Duration::from_secs(10)).expect("the node starts");
        FakeNode { port, heard, stop, thread: Some(thread) }
    }

    /// The requests that arrived until now, and until no datagram has arrived for 200 ms, without their heads.
    /// Requests for `members` alone are left out.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let start = Instant::now();
        let next = || self.heard.recv_timeout(Duration::from_millis(200)).ok();
        let requests: Vec<_> =
            std::iter::from_fn(next).take_while(|_| start.elapsed() < LONGEST_TEST).collect();
        assert!(start.elapsed() < LONGEST_TEST, "clients do not stop: {} datagrams", requests.len());
        requests
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns a free port. The socket that claims it is never closed, so no other process gets it.
fn free_port() -> u16 {
    let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = claim.local_addr().expect("bound").port();
    std::mem::forget(claim);
    port
}

struct Life {
    socket: Socket,
    manners: Manners,
    log: Vec<Value>,
    tell: Sender<Vec<u8>>,
}

impl Life {
    fn live(mut self, stopped: &Receiver<()>) {
        while stopped.try_recv().is_err() {
            self.beat();
            let mut batch = Vec::new();
            let wait = Some(Duration::from_millis(20));
            self.socket.receive(wait, &mut |datagram, _| batch.push(datagram.to_vec())).expect("receive");
            for datagram in batch {
                self.on_datagram(&datagram);
            }
        }
    }

    fn beat(&mut self) {
        let Some(stance) = self.manners.stance.filter(|_| self.manners.is_slow == 0) else { return };
        let beat = Message::Beat(Beat {
            n: 3,
            boot: Boot { incarnation: 1, start: 1, boot: 1 },
            ballot: Some(Ballot::first_epoch(65_536)),
            learned: Instance(self.log.len() as u64),
            stance,
            heard: vec![NodeId(1), NodeId(2)],
        });
        if let Some(name) = self.manners.other {
            let name = Some(name.parse().expect("a name"));
            self.say_as(Head { from: Some((NodeId(0), 9)), group: Some(GroupId(2)), name }, beat.clone());
        }
        self.say(beat);
    }

    fn on_datagram(&mut self, datagram: &[u8]) {
        let Ok((head, lines)) = wire::open(datagram, Dialect::Extended) else { return };
        let asked = lines.rest();
        let lines: Vec<_> = lines.collect();
        // The node receives its own datagrams, too. In a classic group they have no head.
        if head.from.is_some() || lines.iter().any(|line| matches!(line, Ok(Line::Node(..)))) {
            return;
        }
        let is_introduction = asked == b"members";
        // The tests check what the client asks. They do not check where it sends that.
        if !is_introduction {
            let _ = self.tell.send(asked.to_vec());
        }
        if is_introduction && self.manners.is_slow > 0 {
            self.manners.is_slow -= 1;
            return;
        }
        if self.manners.deaf_to > 0 && !is_introduction {
            self.manners.deaf_to -= 1;
            return;
        }
        for line in lines {
            if let (Ok(Line::Client(request)), true) = (line, self.manners.answers) {
                self.on_request(request);
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Submit(tagged, value) => {
                let (client, seq) = (tagged.tag.client, tagged.tag.seq);
                if let Some(why) = self.manners.refuses {
                    return self.say(Message::Refused { client, seq, reason: why.into() });
                }
                let first = self.choose(value);
                self.say(Message::Done { first, last: first, client, seq });
            }
            Request::FastRead(tagged) => {
                let (client, seq) = (tagged.tag.client, tagged.tag.seq);
                let last = self.last_written();
                let (instance, value) = last.unwrap_or_else(|| (Instance(0), Value::from("")));
                let learned = Instance(self.log.len() as u64);
                self.say(Message::Value { instance, learned, client, seq, value });
            }
            Request::TaggedRead(tagged) => {
                let (client, seq) = (tagged.tag.client, tagged.tag.seq);
                let last = self.last_written().map(|(_, value)| value);
                let read = last.map_or(Value::from("safe read "), |last| {
                    [b"safe read ", last.as_bytes()].concat().into()
                });
                let instance = self.choose(read.clone());
                self.say(Message::Answer { instance, client, seq, value: read });
            }
            Request::Write(value) => {
                let instance = self.choose(value.clone());
                // A classic client believes only what it has seen being put forward.
                let ballot = Ballot::first_epoch(0);
                self.say(Message::Propose { instance, ballot });
                self.say(Message::Promise { instance, ballot, accepted: None });
                self.say(Message::Write { instance, ballot, value: value.clone() });
                self.say(Message::Ok { instance, value });
            }
            Request::History(instance) => {
                let learned = Instance(self.log.len() as u64);
                match self.log.get(instance.0 as usize - 1).cloned() {
                    Some(value) => self.say(Message::Ok { instance, value }),
                    None => self.say(Message::NotYet { instance, learned }),
                }
            }
            Request::Members => self.say(Message::Members {
                epoch: Epoch(0),
                learned: Instance(self.log.len() as u64),
                members: vec![NodeId(0), NodeId(1), NodeId(2)],
            }),
            Request::Change(Some(tagged), change) => {
                let (client, seq) = (tagged.tag.client, tagged.tag.seq);
                if let Some(why) = self.manners.refuses {
                    return self.say(Message::Refused { client, seq, reason: why.into() });
                }
                let first = self.choose(change.to_string().as_str().into());
                self.say(Message::Done { first, last: first, client, seq });
            }
            _ => {}
        }
    }

    fn last_written(&self) -> Option<(Instance, Value)> {
        let written = |(_, value): &(u64, &Value)| !value.as_bytes().starts_with(b"safe read");
        let last = (1..).zip(&self.log).filter(written).last()?;
        Some((Instance(last.0), last.1.clone()))
    }

    fn choose(&mut self, value: Value) -> Instance {
        self.log.push(value);
        Instance(self.log.len() as u64)
    }

    fn say(&mut self, message: Message) {
        let head = Head { from: Some((NodeId(0), 1)), group: Some(GroupId(1)), name: None };
        self.say_as(if self.manners.is_classic { Head::default() } else { head }, message);
    }

    fn say_as(&mut self, head: Head, message: Message) {
        let mut datagram = Vec::new();
        head.encode(&mut datagram);
        Line::Node(NodeId(0), message).encode(Dialect::Extended, &mut datagram);
        wire::complete(&mut datagram);
        self.socket.send(&[datagram]).expect("send");
    }
}

/// Runs a client program with the node as its group, and feeds it `input`.
pub fn run(program: &str, node: &FakeNode, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(["--transport", "udp", "-p", &node.port.to_string()])
        .args(args)
        .env_remove("UPAXOS_ADDRESS")
        .env_remove("UPAXOS_INTERFACE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the program");
    let fed = child.stdin.take().expect("piped").write_all(input);
    // A program that has what it needs in its arguments may end without reading.
    assert!(
        fed.is_ok() || fed.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe),
        "its input can be written"
    );
    child.wait_with_output().expect("the program ends")
}

pub fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
