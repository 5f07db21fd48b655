//! A running group: this module loads it, and then queries a sample of its answers again, because its logs are out
//! of reach.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use upaxos_core::client::{Ask, Client, Outcome, View};
use upaxos_core::entry::SAFE_READ;
use upaxos_core::types::{Instance, Micros};
use upaxos_core::wire::Dialect;
use upaxos_net::{Pieces, Socket};

use super::args::Args;
use super::drive::Load;
use super::load::{self, Acks, Run, Summary};
use super::report::Report;
use super::run_config::{Reads, RunConfig};
use super::watch::Watch;

/// The number of acknowledged writes in the sample.
const SAMPLE: u64 = 500;
/// How long all answers may take.
const PATIENCE: Micros = Micros::from_millis(20_000);

/// Loads the group, and queries a sample of its acknowledged writes.
pub(super) fn measure(args: &Args, cell: &RunConfig, progress: &ProgressBar) -> Result<Report> {
    let acks = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let mut command = Command::new(env::current_exe().context("cannot find the running program")?);
    let net = &args.net;
    command.args(["load", "-a", &net.address.to_string(), "-p", &net.protocol.to_string()]);
    command.args(["--transport", &net.transport.to_string()]);
    net.group.iter().for_each(|group| _ = command.args(["--group", group.as_str()]));
    net.interface.iter().for_each(|interface| _ = command.args(["--interface", interface]));
    let load = Load::start(args.load(cell, command, acks.path()))?;
    let mut watch = Watch::new(load, None);
    let summary = watch.follow(None, progress)?;
    ensure!(summary.stale == 0, "{} reads did not see the last value written", summary.stale);
    progress.set_message("querying a sample of the acknowledged writes");
    let judged = ask_again(cell, args, &summary, &Acks::read(acks.path())?)?;
    let report = Report::new(cell.clone(), &summary, &watch.used, None);
    Ok(Report { leader: watch.led, judged: Some(judged), ..report })
}

/// Queries the acknowledged instances. Returns how many were checked.
fn ask_again(cell: &RunConfig, args: &Args, load: &Summary, acks: &[Run]) -> Result<u64> {
    let socket = Socket::open(&args.net.options())?;
    let id = getrandom::u64().context("cannot draw a random client id from the system")?;
    let mut socket = socket.with_pieces(Pieces::of(id, Dialect::Extended));
    let client = Client::new(id, Dialect::Extended).within(args.net.scope(Dialect::Extended)?);
    let (mut client, mut view) = (client, View::new(Dialect::Extended));
    let start = Instant::now();
    let total: u64 = acks.iter().map(|run| run.count).sum();
    let every = (total / SAMPLE).max(1);
    let all = acks.iter().flat_map(|run| (0..run.count).map(move |n| (run.instance + n, run.seq + n)));
    let mut wanted = BTreeMap::new();
    for (instance, seq) in all.step_by(every as usize) {
        client.ask(Ask::History(Instance(instance)), start.elapsed().into(), PATIENCE)?;
        wanted.insert(Instance(instance), seq);
    }
    let asked = wanted.len() as u64;
    let mut expected = load::filling(load.size as usize);
    while !client.is_idle() {
        let turn = client.tick(start.elapsed().into());
        ensure!(turn.settled.is_empty(), "{}", client.explain_silence(&view, start.elapsed().into()));
        socket.send(&client.pack(&turn.send, socket.max_payload())).context("cannot send questions")?;
        let mut settled = Vec::new();
        let each = &mut |datagram: &[u8], _| {
            settled.extend(client.on_datagram(datagram, &mut view, start.elapsed().into()));
        };
        socket.receive(Some(Duration::from_millis(20)), each).context("cannot receive answers")?;
        for settled in settled {
            let Outcome::Chosen { instance, value } = settled.outcome else {
                bail!("an acknowledged write is missing: {:?}", settled.outcome);
            };
            let Some(seq) = wanted.get(&instance) else { continue };
            // A safe read's entry was judged when it was answered. No write of the load looks like one.
            if cell.reads == Some(Reads::Safe) && value.as_bytes().starts_with(SAFE_READ.as_bytes()) {
                continue;
            }
            load::value_of(*seq, &mut expected);
            ensure!(value.as_bytes() == expected, "instance {instance} does not hold the acknowledged value");
        }
    }
    Ok(asked)
}
