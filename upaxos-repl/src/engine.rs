//! The conversation with the group: one thread listens, another does everything else.
//!
//! Owns both sockets. The prompt hands in jobs and never touches the network, so answers appear while the user types.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upaxos_cli::OutputError;
use upaxos_core::client::{CLASSIC, Client, Outcome, RequestId, Settled, Status, View};
use upaxos_core::types::{GroupId, Micros, NodeId};
use upaxos_core::wire::{Dialect, Line, Message, Request};
use upaxos_net::{News, OpenError, Options, Pieces, Socket};

use crate::command::Work;
use crate::output::Output;
use crate::table;
use crate::watch::Watch;

/// Shortest time to listen before `status` is complete. A node that is asked for the members sends a beat somewhat
/// sooner, however long the interval of its beats is.
const LISTEN: Micros = Micros::from_millis(150);
/// Longest time to wait for a beat of every member, and for a node that names the members.
const LONGEST_LISTEN: Micros = Micros::from_millis(1_000);
/// Time until the members are asked for again.
const ASK_AGAIN: Micros = Micros::from_millis(250);
/// Time to listen before a missing leader is news.
const SETTLE_IN: Micros = Micros::from_millis(300);

/// A command as it was typed, and the channel for its end.
#[derive(Debug)]
pub struct Job {
    pub work: Work,
    pub text: Vec<u8>,
    pub done: Sender<Done>,
}

/// How a job ended.
#[derive(Debug)]
pub struct Done {
    pub status: Status,
    /// Whether its answer could be printed. At a prompt the engine ends after a failure.
    pub printed: Result<(), OutputError>,
}

impl Job {
    fn is_done(&self, status: Status) {
        self.is_printed(status, Ok(()));
    }

    /// Reports the end of the job. The receiver may be gone.
    fn is_printed(&self, status: Status, printed: Result<(), OutputError>) {
        let _ = self.done.send(Done { status, printed });
    }
}

/// An input of the engine.
#[derive(Debug)]
pub enum Event {
    /// The listener received these datagrams of nodes.
    Heard(Vec<Vec<u8>>),
    /// The prompt or the session hands in a job.
    Do(Job),
    /// The network of this host has changed.
    Network(News),
    /// The listener has failed and ends.
    Deaf(std::io::Error),
}

/// The settings of the engine.
pub struct Settings {
    /// The address of the group and the transport, for both sockets.
    pub place: Options,
    /// The parts of lines too long for a packet. One of the two sockets sends them; requests for them arrive at the
    /// other.
    pub pieces: Option<Pieces>,
    /// The client that sends the requests.
    pub client: Client,
    /// Time until a request without an answer ends as unknown.
    pub patience: Duration,
}

/// Starts both threads and returns the channel for their jobs. The threads end with the program.
///
/// Each thread opens its socket before this returns, so that no beat and no answer is missed.
pub fn start(settings: Settings, output: Output) -> Result<Sender<Event>> {
    let (events, queue) = mpsc::channel();
    listen(settings.place.clone(), settings.pieces.clone(), events.clone())?;
    let (tell, opened) = mpsc::channel();
    thread::spawn(move || {
        // This socket only sends. The listener receives.
        let sender = Options { receive_buffer: 0, ..settings.place.clone() };
        match Socket::open(&sender) {
            Ok(socket) => {
                let _ = tell.send(Ok(()));
                let socket = socket.with_pieces(settings.pieces.clone());
                Engine::new(socket, settings, output).run(&queue);
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    });
    opened.recv().context("the engine ended before it began")??;
    Ok(events)
}

fn listen(place: Options, pieces: Option<Pieces>, events: Sender<Event>) -> Result<()> {
    let (tell, opened) = mpsc::channel::<Result<(), OpenError>>();
    thread::spawn(move || match Socket::open(&place) {
        Ok(socket) => {
            let _ = tell.send(Ok(()));
            let mut socket = socket.with_pieces(pieces);
            while let Ok(()) = events.send(hear(&mut socket)) {
                if let Some(news) = socket.news() {
                    let _ = events.send(Event::Network(news));
                }
            }
        }
        Err(error) => drop(tell.send(Err(error))),
    });
    Ok(opened.recv().context("the listener ended before it began")??)
}

fn hear(socket: &mut Socket) -> Event {
    let mut heard = Vec::new();
    let received = socket.receive(None, &mut |datagram, _| {
        // A line of a client is for the nodes. A line of a node begins with a digit.
        if datagram.first().is_some_and(u8::is_ascii_digit) {
            heard.push(datagram.to_vec());
        }
    });
    received.map_or_else(Event::Deaf, |_| Event::Heard(heard))
}

struct Engine {
    socket: Socket,
    client: Client,
    view: View,
    watch: Watch,
    output: Output,
    patience: Micros,
    start: Instant,
    asked: BTreeMap<RequestId, Job>,
    /// The jobs of `status` that are not shown yet, each with its start.
    shows: VecDeque<(Micros, Job)>,
    /// The last time that a node named the members, and the last time that they were asked for.
    members_at: Option<Micros>,
    members_asked: Micros,
    told_silence: bool,
    /// The other groups on the wire that were reported.
    others: BTreeSet<GroupId>,
}

impl Engine {
    fn new(socket: Socket, settings: Settings, output: Output) -> Engine {
        let patience = Micros::from(settings.patience);
        Engine {
            socket,
            view: View::new(settings.client.dialect()),
            client: settings.client,
            watch: Watch::default(),
            output,
            patience,
            start: Instant::now(),
            asked: BTreeMap::new(),
            shows: VecDeque::new(),
            members_at: None,
            members_asked: Micros(0),
            told_silence: false,
            others: BTreeSet::new(),
        }
    }

    /// Ends when a socket fails, when an answer cannot be printed at a prompt, or when every sender of jobs is gone.
    fn run(mut self, queue: &Receiver<Event>) {
        if self.output.is_prompt() && self.client.dialect() == Dialect::Extended {
            // Nodes then beat at once, so that a long interval of beats is not reported as silence.
            let _ = self.ask_members();
        }
        loop {
            let event = queue.recv_timeout(self.wait());
            let outcome = match event {
                Ok(event) => self.on_event(event),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = outcome.and_then(|()| self.on_time()) {
                let _ = self.output.complain(&format!("{error:#}"));
                return;
            }
        }
    }

    fn now(&self) -> Micros {
        self.start.elapsed().into()
    }

    fn wait(&self) -> Duration {
        let now = self.now();
        let show = self.shows.front().map(|(asked, _)| {
            let times = [*asked + LISTEN, self.members_asked + ASK_AGAIN, *asked + self.longest_listen()];
            times.into_iter().filter(|at| *at > now).min().unwrap_or(now)
        });
        let news = (now < SETTLE_IN).then_some(SETTLE_IN);
        let next = [self.client.next_deadline(now), show, news].into_iter().flatten().min();
        next.map_or(Duration::from_secs(1), |next| Duration::from_micros(next.since(now).0))
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Heard(datagrams) => datagrams.iter().try_for_each(|datagram| self.on_datagram(datagram)),
            Event::Do(job) => self.on_job(job),
            Event::Network(news) => {
                self.output.news(&format!("this host {news}")).context("cannot print the news")
            }
            Event::Deaf(error) => Err(error).context("cannot hear the group"),
        }
    }

    fn on_datagram(&mut self, datagram: &[u8]) -> Result<()> {
        for (from, message) in self.client.hear(datagram, self.now()) {
            self.on_message(from, &message)?;
        }
        self.tell_others()
    }

    /// Reports each other group on the wire, once for as long as it is heard.
    fn tell_others(&mut self) -> Result<()> {
        let others: BTreeSet<_> = self.client.scope().namesakes(self.now()).collect();
        for group in others.difference(&self.others) {
            let text = format!("another group is on this wire: {group}; its answers are ignored");
            self.output.news(&text)?;
        }
        self.others = others;
        Ok(())
    }

    fn on_message(&mut self, from: NodeId, message: &Message) -> Result<()> {
        let now = self.now();
        self.view.on_message(from, message, now);
        if let Message::Members { .. } = message {
            self.members_at = Some(now);
        }
        let settled = self.client.on_message(from, message, now);
        if !settled.is_empty() {
            return self.settle(settled);
        }
        let news = self.watch.on_message(from, message);
        Ok(news.map_or(Ok(()), |news| self.output.news(&news))?)
    }

    fn on_job(&mut self, job: Job) -> Result<()> {
        match &job.work {
            Work::Ask(ask) => match self.client.ask(ask.clone(), self.now(), self.patience) {
                Ok(ticket) => drop(self.asked.insert(ticket, job)),
                Err(why) => {
                    self.output.complain(&why.to_string())?;
                    job.is_done(Status::Usage);
                }
            },
            Work::Status if self.client.dialect() == Dialect::Classic => {
                self.output.complain(CLASSIC)?;
                job.is_done(Status::Usage);
            }
            Work::Status => {
                self.shows.push_back((self.now(), job));
                self.ask_members()?;
            }
            Work::Quit => {
                self.say(Request::Quit).context("cannot send quit to the group")?;
                self.output.news("quit sent; nodes that honour it end")?;
                job.is_done(Status::Done);
            }
        }
        Ok(())
    }

    /// Asks for the members. Beats do not name them; the nodes also beat at once when they are asked.
    fn ask_members(&mut self) -> Result<()> {
        self.members_asked = self.now();
        self.say(Request::Members).context("cannot ask the group who its members are")
    }

    fn say(&mut self, request: Request) -> std::io::Result<()> {
        self.send(&[Line::Client(request)])
    }

    fn send(&mut self, lines: &[Line]) -> std::io::Result<()> {
        self.socket.send(&self.client.pack(lines, self.socket.max_payload()))?;
        self.view.set_trouble(self.socket.trouble());
        Ok(())
    }

    fn on_time(&mut self) -> Result<()> {
        let now = self.now();
        let turn = self.client.tick(now);
        self.settle(turn.settled)?;
        if !turn.send.is_empty() {
            self.send(&turn.send).context("cannot send to the group")?;
        }
        self.show(now)?;
        // A classic group has no leader, so a missing one is no news.
        let has_leaders = self.client.dialect() == Dialect::Extended;
        if has_leaders && now >= SETTLE_IN { self.tell_news(now) } else { Ok(()) }
    }

    /// Longest time to collect beats for one `status`.
    fn longest_listen(&self) -> Micros {
        LONGEST_LISTEN.min(self.patience)
    }

    /// Whether `status` is complete: since `asked` every node has had time for a beat, the members are known, and
    /// all were heard. After the longest time it is shown as it is.
    fn is_whole(&self, asked: Micros, now: Micros) -> bool {
        let is_told = self.members_at.is_some_and(|at| at >= asked) && self.view.silent(now).next().is_none();
        now >= asked + self.longest_listen() || is_told && now >= asked + LISTEN
    }

    /// Prints the answers of `status` that are due.
    fn show(&mut self, now: Micros) -> Result<()> {
        while self.shows.front().is_some_and(|(asked, _)| self.is_whole(*asked, now)) {
            let Some((_, job)) = self.shows.pop_front() else { break };
            if let Some(why) = self.client.scope().refusal() {
                self.output.complain(why)?;
                job.is_done(Status::Refused);
                continue;
            }
            let printed = if self.output.is_json() {
                self.output.object(&table::json(&self.view, self.client.scope(), now))
            } else {
                self.output.text(&table::text(&self.view, self.client.scope(), now))
            };
            self.finish(&job, table::status(&self.view, now), printed)?;
        }
        if !self.shows.is_empty() && now >= self.members_asked + ASK_AGAIN {
            self.ask_members()
        } else {
            Ok(())
        }
    }

    fn tell_news(&mut self, now: Micros) -> Result<()> {
        if !std::mem::replace(&mut self.told_silence, true) && self.view.leader(now).is_none() {
            self.output.news(&self.client.explain_silence(&self.view, now))?;
        }
        if let Some(news) = self.watch.on_view(&self.view, self.client.scope(), now) {
            self.output.news(&news)?;
        }
        Ok(())
    }

    fn settle(&mut self, settled: Vec<Settled>) -> Result<()> {
        for settled in settled {
            let Some(job) = self.asked.remove(&settled.ticket) else { continue };
            if let Outcome::Chosen { instance, .. } = settled.outcome {
                self.watch.is_new(instance);
            }
            let now = self.now();
            let why = self.client.explain_silence(&self.view, now);
            let printed = self.output.settled(&job.text, &settled, &why);
            self.finish(&job, Status::after(&settled.outcome, &self.view, now), printed)?;
        }
        Ok(())
    }

    /// Reports that a job is done. If its answer cannot be printed, a session of commands ends itself, and a
    /// prompt's engine ends.
    fn finish(&self, job: &Job, status: Status, printed: Result<(), OutputError>) -> Result<()> {
        if self.output.is_prompt() {
            job.is_done(status);
            return Ok(printed?);
        }
        job.is_printed(status, printed);
        Ok(())
    }
}
