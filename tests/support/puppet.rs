//! A node with the classic grammar only. It copies the weaknesses of such nodes.
//!
//! It splits lines on any white space. It crashes on a line with a known verb that it cannot read. It proposes
//! every request that it receives. It counts messages, not senders. It never retransmits. It stops sending after a
//! while.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::group::{Group, Guest};

pub struct Puppet {
    id: u64,
    n: u64,
    /// Whether it proposes the requests that it receives.
    pub races: bool,
    /// Whether it proposes again with a higher ballot after a refusal.
    pub tries_again: bool,
    /// How many lines it may still send. At 0 it only listens.
    pub sends_left: usize,
    /// Whether the test expects a crash. If not, a crash fails the test.
    pub may_crash: bool,
    pub is_crashed: bool,
    pub learned: BTreeMap<u64, String>,
    slots: BTreeMap<u64, Slot>,
    round: Option<Round>,
    /// The last ballot that it proposed in each instance.
    used: BTreeMap<u64, u64>,
    accepts: BTreeMap<(u64, u64), u64>,
    say: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Slot {
    promised: Option<u64>,
    accepted: Option<(u64, String)>,
}

struct Round {
    instance: u64,
    ballot: u64,
    value: String,
    promises: u64,
    found: Option<(u64, String)>,
}

impl Guest for Puppet {
    fn hear(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        if !self.is_crashed {
            let text = String::from_utf8_lossy(datagram).into_owned();
            let fields: Vec<&str> = text.split_whitespace().collect();
            if let Err(why) = self.on_fields(&fields) {
                assert!(self.may_crash, "puppet {} crashes on {text:?}: {why}", self.id);
                self.is_crashed = true;
            }
        }
        std::mem::take(&mut self.say)
    }
}

impl Puppet {
    pub fn join(group: &mut Group, id: u16) -> Rc<RefCell<Puppet>> {
        let puppet = Rc::new(RefCell::new(Puppet {
            id: u64::from(id),
            n: u64::from(group.n),
            races: true,
            tries_again: true,
            sends_left: 50,
            may_crash: false,
            is_crashed: false,
            learned: BTreeMap::new(),
            slots: BTreeMap::new(),
            round: None,
            used: BTreeMap::new(),
            accepts: BTreeMap::new(),
            say: Vec::new(),
        }));
        group.guests.insert(id, puppet.clone());
        puppet
    }

    /// A puppet that proposes no requests.
    pub fn join_lazy(group: &mut Group, id: u16) -> Rc<RefCell<Puppet>> {
        let puppet = Puppet::join(group, id);
        puppet.borrow_mut().races = false;
        puppet
    }

    pub fn values(&self) -> Vec<String> {
        self.learned.values().cloned().collect()
    }

    fn on_fields(&mut self, fields: &[&str]) -> Result<(), String> {
        match fields {
            ["Request", instance, value @ ..] => self.on_request(number(instance)?, &value.join(" ")),
            ["Request"] => return Err("too few fields".into()),
            [from, verb, rest @ ..] => self.on_verb(from, verb, rest)?,
            _ => {}
        }
        Ok(())
    }

    fn on_verb(&mut self, from: &str, verb: &str, rest: &[&str]) -> Result<(), String> {
        let (least, most) = match verb {
            "Propose" | "Promise" | "Written" | "OK" => (2, usize::MAX),
            "NACK" => (2, 2),
            "Write" | "Accept" => (3, usize::MAX),
            _ => return Ok(()),
        };
        if rest.len() < least || rest.len() > most {
            return Err("wrong number of fields".into());
        }
        number(from)?;
        let (instance, text) = (number(rest[0])?, rest[1..].join(" "));
        match verb {
            "Written" => drop(self.learned.insert(instance, text)),
            "OK" => {}
            _ => self.on_ballot(verb, instance, number(rest[1])?, &rest[2..])?,
        }
        Ok(())
    }

    fn on_ballot(&mut self, verb: &str, instance: u64, ballot: u64, rest: &[&str]) -> Result<(), String> {
        match verb {
            "Propose" => self.on_propose(instance, ballot),
            "Promise" => {
                let found = match rest {
                    [] => None,
                    [_] => return Err("wrong number of fields".into()),
                    [accepted_in, value @ ..] => Some((number(accepted_in)?, value.join(" "))),
                };
                self.on_promise(instance, ballot, found);
            }
            "NACK" => self.on_nack(instance, ballot),
            "Write" => self.on_write(instance, ballot, rest.join(" ")),
            _ => self.on_accept(instance, ballot, rest.join(" ")),
        }
        Ok(())
    }

    fn on_request(&mut self, instance: u64, value: &str) {
        if let Some(known) = self.learned.get(&instance) {
            self.send(format!("{} OK {instance} {known}", self.id));
        } else if instance == 0 && self.races {
            let is_user = |v: &&String| !v.starts_with("safe read");
            let last = self.learned.values().rev().find(is_user).cloned().unwrap_or_default();
            let value =
                if value.is_empty() { format!("safe read {last}").trim().into() } else { value.into() };
            self.propose(value, None);
        }
    }

    fn propose(&mut self, value: String, above: Option<u64>) {
        let instance = self.learned.keys().max().unwrap_or(&0) + 1;
        let above = above.max(self.used.get(&instance).copied());
        let ballot = above.map_or(self.id, |above| (above / self.n + 1) * self.n + self.id);
        self.used.insert(instance, ballot);
        self.send(format!("{} Propose {instance} {ballot} {value}", self.id));
        self.round = Some(Round { instance, ballot, value, promises: 0, found: None });
    }

    fn on_propose(&mut self, instance: u64, ballot: u64) {
        let slot = self.slots.entry(instance).or_default();
        if let Some(promised) = slot.promised.filter(|promised| *promised > ballot) {
            return self.send(format!("{} NACK {instance} {promised}", self.id));
        }
        slot.promised = Some(ballot);
        let accepted = slot.accepted.as_ref().map_or(String::new(), |(b, v)| format!(" {b} {v}"));
        self.send(format!("{} Promise {instance} {ballot}{accepted}", self.id));
    }

    fn on_promise(&mut self, instance: u64, ballot: u64, found: Option<(u64, String)>) {
        let is_asked = |round: &&mut Round| round.instance == instance && round.ballot == ballot;
        let Some(round) = self.round.as_mut().filter(is_asked) else { return };
        round.promises += 1;
        round.found = round.found.take().max(found);
        if round.promises == self.n / 2 + 1 {
            let value = round.found.as_ref().map_or(&round.value, |(_, value)| value).clone();
            self.send(format!("{} Write {instance} {ballot} {value}", self.id));
        }
    }

    fn on_nack(&mut self, instance: u64, above: u64) {
        let is_refused = |round: &&mut Round| round.instance == instance && round.ballot < above;
        if let Some(round) = self.round.as_mut().filter(is_refused) {
            let value = round.value.clone();
            if self.tries_again {
                self.propose(value, Some(above));
            }
        }
    }

    fn on_write(&mut self, instance: u64, ballot: u64, value: String) {
        let slot = self.slots.entry(instance).or_default();
        if let Some(promised) = slot.promised.filter(|promised| *promised > ballot) {
            return self.send(format!("{} NACK {instance} {promised}", self.id));
        }
        slot.promised = Some(ballot);
        slot.accepted = Some((ballot, value.clone()));
        self.send(format!("{} Accept {instance} {ballot} {value}", self.id));
    }

    fn on_accept(&mut self, instance: u64, ballot: u64, value: String) {
        let count = self.accepts.entry((instance, ballot)).or_default();
        *count += 1;
        if *count != self.n / 2 + 1 || self.learned.insert(instance, value.clone()).is_some() {
            return;
        }
        match self.round.take_if(|round| round.instance == instance) {
            Some(round) if round.value == value => self.send("OK".into()),
            Some(round) if self.tries_again => self.propose(round.value, None),
            _ => {}
        }
    }

    fn send(&mut self, line: String) {
        if self.sends_left > 0 {
            self.sends_left -= 1;
            self.say.push(line.into_bytes());
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("bad number {text:?}"))
}

/// Fails unless the datagram is exactly one line of the classic grammar.
pub fn assert_classic(datagram: &[u8]) {
    let text = String::from_utf8_lossy(datagram).into_owned();
    let fields: Vec<&str> = text.split(' ').collect();
    let is_number = |at: usize| {
        fields.get(at).is_some_and(|field| {
            field.parse::<i64>().is_ok_and(|number| number >= 0 && number.to_string() == *field)
        })
    };
    let has_value = |at: usize| fields.len() > at && fields[at..].iter().all(|word| !word.is_empty());
    let numbers = |count: usize| (2..2 + count).all(is_number);
    let fits = match fields.get(1).copied().unwrap_or_default() {
        "Propose" | "NACK" => numbers(2) && fields.len() == 4,
        "Promise" => numbers(2) && (fields.len() == 4 || (is_number(4) && has_value(5))),
        "Write" | "Accept" => numbers(2) && has_value(4),
        "OK" | "Written" => numbers(1) && has_value(3),
        _ => false,
    };
    let is_one_line = !text.contains(|c: char| c != ' ' && c.is_whitespace());
    assert!(is_number(0) && fits && is_one_line, "not a classic line: {text:?}");
}
