//! The turns of the churn. Each turn breaks something for some seconds, and then repairs it.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use upaxos_testbed::hosts::Client;

use super::group::{CRAMPED, Churned, FEWEST, MOST, in_words};
use super::tale::Tale;
use super::{Chance, Outcome};
use crate::live::group::NODE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Loss,
    Kill,
    Pause,
    Minority,
    Unheard,
    Deaf,
    Chain,
    Interface,
    Address,
    Join,
    Leave,
    Replace,
    FullDisk,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Loss,
        Kind::Kill,
        Kind::Pause,
        Kind::Minority,
        Kind::Unheard,
        Kind::Deaf,
        Kind::Chain,
        Kind::Interface,
        Kind::Address,
        Kind::Join,
        Kind::Leave,
        Kind::Replace,
        Kind::FullDisk,
    ];

    /// Returns this kind, or one that a group of `members` members allows instead.
    fn fit_for(self, members: usize) -> Kind {
        match self {
            Kind::Join if members >= MOST => Kind::Leave,
            Kind::Leave if members <= FEWEST => Kind::Join,
            kind => kind,
        }
    }
}

/// A change of the group that must be complete after the faults have ended.
enum Pending {
    Nothing,
    Join(usize),
    Leave { id: usize, is_told: bool },
    Replace { old: usize, new: usize, is_back: bool },
}

/// One turn: a kind of fault, and the share of datagrams that are lost meanwhile.
pub struct Turn {
    kind: Kind,
    percent: u8,
    length: Duration,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:?}, {} % lost", self.kind, self.length, self.percent)
    }
}

impl Turn {
    pub fn draw(kind: Kind, members: usize, chance: &mut Chance) -> Turn {
        let kind = kind.fit_for(members);
        let most = if kind == Kind::Loss { 41 } else { 21 };
        let is_lossy = kind == Kind::Loss || chance.once_in(3);
        let percent = if is_lossy { chance.within(1..most) as u8 } else { 0 };
        Turn { kind, percent, length: chance.millis(2_000..4_000) }
    }

    /// Runs the faults, heals everything, and waits until all expected nodes are back. Returns how long that wait
    /// was.
    pub fn take(&self, group: &mut Churned, tale: &Tale, chance: &mut Chance) -> Outcome<Duration> {
        group.hosts.loss(self.percent).map_err(in_words)?;
        let until = Instant::now() + self.length;
        let pending = self.begin(group, tale, chance, until)?;
        sleep(until.saturating_duration_since(Instant::now()));
        group.hosts.heal().map_err(in_words)?;
        let healed = Instant::now();
        settle(pending, group)?;
        Ok(healed.elapsed())
    }

    fn begin(
        &self,
        group: &mut Churned,
        tale: &Tale,
        chance: &mut Chance,
        until: Instant,
    ) -> Outcome<Pending> {
        let ids = chance.shuffled(group.ids());
        match self.kind {
            Kind::Loss => {}
            Kind::Kill => kill(group, chance, until)?,
            Kind::Pause => pause(group, chance, until),
            Kind::Minority | Kind::Unheard | Kind::Deaf | Kind::Chain => cut(group, self.kind, &ids)?,
            Kind::Interface => {
                let down = "ip link set eth0 down".to_owned();
                break_network(group, chance, until, |_| (down.clone(), "ip link set eth0 up".into()))?;
            }
            Kind::Address => break_network(group, chance, until, |host| {
                let address = format!("10.253.0.{}/24", 10 + host);
                (format!("ip addr del {address} dev eth0"), format!("ip addr add {address} brd + dev eth0"))
            })?,
            Kind::Join => return begin_join(group, chance, None).map(Pending::Join),
            Kind::Leave => {
                let id = chance.pick(&group.replaceable());
                let is_told = group.tell_to_leave(id)?;
                return Ok(Pending::Leave { id, is_told });
            }
            Kind::Replace => {
                let old = chance.pick(&group.replaceable());
                group.kill(old)?;
                let new = begin_join(group, chance, Some(old))?;
                return Ok(Pending::Replace { old, new, is_back: chance.once_in(2) });
            }
            Kind::FullDisk => fill_disk(group, tale, chance)?,
        }
        Ok(Pending::Nothing)
    }
}

fn settle(pending: Pending, group: &mut Churned) -> Outcome {
    match pending {
        Pending::Nothing => Ok(()),
        Pending::Join(id) => group.wait_for_member(id),
        Pending::Leave { id, is_told } => group.wait_for_leave(id, is_told),
        Pending::Replace { old, new, is_back } => {
            group.wait_for_member(new)?;
            if is_back {
                group.restart(old)?;
                group.wait_for_end(old, &[(0, "was put out"), (4, "NEW_ID")])?;
            }
            group.put_out(old);
            Ok(())
        }
    }
}

/// Kills and restarts one or two nodes at a time, again and again.
fn kill(group: &mut Churned, chance: &mut Chance, until: Instant) -> Outcome {
    while Instant::now() < until {
        let count = chance.within(1..3);
        let victims = &chance.shuffled(group.ids())[..count];
        for id in victims {
            group.kill(*id)?;
            sleep(chance.millis(0..200));
        }
        sleep(chance.millis(0..1_200));
        for id in victims {
            group.restart(*id)?;
            sleep(chance.millis(0..200));
        }
        sleep(chance.millis(0..1_000));
    }
    Ok(())
}

fn pause(group: &mut Churned, chance: &mut Chance, until: Instant) {
    while Instant::now() < until {
        let victim = chance.pick(&group.ids());
        group.node(victim).pause();
        sleep(chance.millis(50..2_000));
        group.node(victim).resume();
        sleep(chance.millis(0..500));
    }
}

/// Cuts links. `ids` is in random order.
fn cut(group: &Churned, kind: Kind, ids: &[usize]) -> Outcome {
    let hosts: Vec<usize> = ids.iter().map(|id| group.host(*id)).collect();
    let place = |host: usize| hosts.iter().position(|other| *other == host);
    let minority = (hosts.len() - 1) / 2;
    let hears = |from: usize, to: usize| match (place(from), place(to)) {
        (Some(from), Some(to)) => match kind {
            Kind::Chain => from.abs_diff(to) == 1,
            // The first node can still receive, or can still send.
            Kind::Unheard => from != 0,
            Kind::Deaf => to != 0,
            _ => (from < minority) == (to < minority),
        },
        _ => true,
    };
    group.hosts.links(hears).map_err(in_words)
}

/// Breaks the network of one host with one command, and repairs it with the other, again and again.
fn break_network(
    group: &Churned,
    chance: &mut Chance,
    until: Instant,
    commands: impl Fn(usize) -> (String, String),
) -> Outcome {
    while Instant::now() < until {
        let host = group.host(chance.pick(&group.ids()));
        let (wreck, mend) = commands(host);
        run_on(group, host, &wreck)?;
        sleep(chance.millis(100..2_500));
        run_on(group, host, &mend)?;
        sleep(chance.millis(0..1_000));
    }
    Ok(())
}

fn run_on(group: &Churned, host: usize, words: &str) -> Outcome {
    let mut words = words.split(' ');
    let mut command = group.hosts.command(host, words.next().unwrap_or_default());
    let done = command.args(words).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

/// Starts a joiner. Sometimes it is killed and restarted meanwhile.
fn begin_join(group: &mut Churned, chance: &mut Chance, replaces: Option<usize>) -> Outcome<usize> {
    let id = group.join(replaces)?;
    if chance.once_in(3) {
        sleep(chance.millis(0..1_500));
        group.kill(id)?;
        sleep(chance.millis(0..500));
        group.restart(id)?;
    }
    Ok(id)
}

/// So many long values need more room on any disk.
const FLOOD: usize = 2_000;

/// Fills the disk of one node until the node exits. Then gives it room and starts it again.
fn fill_disk(group: &mut Churned, tale: &Tale, chance: &mut Chance) -> Outcome {
    let mut client = Client::start(&group.hosts, NODE, &["--timeout", "10s"]).map_err(in_words)?;
    group.room.fill(&group.hosts)?;
    let prefix = chance.within(0..1_000_000_000);
    // The next segment of the log is allocated ahead. The node needs room only when that segment is half full.
    for number in 0..FLOOD {
        tale.write(&mut client, format!("f{prefix}-{number}-19000"))?;
        if !group.node(CRAMPED).is_running() {
            group.wait_for_end(CRAMPED, &[(1, "No space left")])?;
            sleep(chance.millis(0..1_000));
            group.room.give_room(&group.hosts)?;
            return group.restart(CRAMPED);
        }
    }
    Err(format!("node {CRAMPED} has not ended, though its disk is full"))
}
