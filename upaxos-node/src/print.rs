//! `upaxos-node log DIR`: a data directory's log as the classic nodes print theirs.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use upaxos_core::cli::{self, OutputError};
use upaxos_core::entry::Entry;
use upaxos_core::node::Membership;
use upaxos_core::record::{Reader, Record};
use upaxos_core::types::{Group, Instance, NodeId, Value};
use upaxos_core::wire::Dialect;

use crate::disk;

/// Prints every record as `ID: …`; what was learned with its value, and without the marks that the log
/// keeps with it.
///
/// # Errors
/// When the directory cannot be read, or standard output cannot be written ([`OutputError`]).
pub fn log(dir: &Path) -> Result<()> {
    let disk::Identity { id, n, .. } = disk::identity(dir)?;
    let printer = RefCell::new(Printer {
        id,
        membership: Membership::new(n),
        start: 0,
        out: io::BufWriter::new(io::stdout().lock()),
        written: Ok(()),
    });
    let mut reader = Reader::default();
    let contents = disk::read(
        dir,
        &mut |past| {
            printer.borrow_mut().learned(past.instance, Some(&past.value));
            Ok(())
        },
        &mut |found| {
            let record = found.record().map_err(|error| error.to_string())?;
            let learned = reader.take(&record);
            printer.borrow_mut().record(&record, &learned);
            Ok(())
        },
    )?;
    let Printer { written, mut out, .. } = printer.into_inner();
    if let Some(note) = contents.note {
        cli::complain(format_args!("upaxos-node: {note}"));
    }
    written.and_then(|()| out.flush()).map_err(|cause| OutputError::from(cause).into())
}

/// Prints records in the order of the log, and follows who governs.
struct Printer<W> {
    id: u16,
    membership: Membership,
    /// The last start that was printed: a checkpoint names the last ones again.
    start: u64,
    out: W,
    /// After the first failure nothing more is printed.
    written: io::Result<()>,
}

impl<W: Write> Printer<W> {
    fn say(&mut self, text: &str) {
        if self.written.is_ok() {
            self.written = writeln!(self.out, "{}: {text}", self.id);
        }
    }

    fn record(&mut self, record: &Record, learned: &[(Instance, Option<Value>)]) {
        self.membership.recover(record);
        match record {
            Record::Start { start, .. } if *start <= self.start => {}
            Record::Start { start, .. } => {
                self.start = *start;
                self.say(&format!("starting {} (start {start})", self.id));
            }
            Record::Chosen { .. } | Record::Learn { .. } => {}
            Record::Accept { instance, ballot, value } => match decoded(*instance, value) {
                Entry::Group(_, new) => self.say(&format!("accept {instance} {ballot} {}", new.reads())),
                _ => self.say(&record.to_string()),
            },
            Record::Group { epoch, .. } => {
                let members = listed(self.membership.group());
                self.say(&format!("group {members} governs since instance {epoch}"));
            }
            other => self.say(&other.to_string()),
        }
        for (instance, value) in learned {
            self.learned(*instance, value.as_ref());
        }
    }

    fn learned(&mut self, instance: Instance, value: Option<&Value>) {
        match value {
            Some(value) => {
                let reads = reads(&mut self.membership, instance, value);
                self.say(&format!("learn {instance} {reads}"));
            }
            None => self.say(&format!("learn {instance}, but not what")),
        }
    }
}

fn decoded(instance: Instance, value: &Value) -> Entry {
    Entry::decode(instance, value, Dialect::Extended)
}

/// What was learned at `instance`, the next one; of a change of the group also who came and who went.
fn reads(membership: &mut Membership, instance: Instance, value: &Value) -> String {
    let entry = decoded(instance, value);
    let Entry::Group(_, new) = &entry else { return entry.reads().to_string() };
    let before = membership.group().clone();
    if !membership.learn(instance, new, value) {
        return format!("{} (void: the group was changed otherwise before)", new.reads());
    }
    if before.members.is_empty() {
        // Who joined has its first group from a record that may come later.
        return format!("{} (governs from {} on)", new.reads(), instance.next());
    }
    let after = membership.group();
    let comes = after.members.difference(&before.members).map(|id| format!("node {id} comes"));
    let goes = before.members.difference(&after.members).map(|id| format!("node {id} goes"));
    let mut moves: Vec<_> = comes.chain(goes).collect();
    if moves.is_empty() {
        moves.push("the same members, ballots begin anew".into());
    }
    format!("{} (governs from {} on: {})", new.reads(), instance.next(), moves.join(", "))
}

fn listed(group: &Group) -> String {
    group.members.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use upaxos_core::types::Ballot;

    use super::*;

    /// A record, and what it says was learned.
    type Step = (Record, Vec<(Instance, Option<Value>)>);

    fn printed(membership: Membership, log: &[Step]) -> String {
        let mut printer = Printer { id: 7, membership, start: 0, out: Vec::new(), written: Ok(()) };
        for (record, learned) in log {
            printer.record(record, learned);
        }
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn a_change_of_the_group_says_who_comes_and_who_goes_and_whether_it_is_void() {
        let change = Value::from("@group 0 0:70,1:71,7:77");
        let ballot = Ballot::first_epoch(2);
        let accept = Record::Accept { instance: Instance(5), ballot, value: change.clone() };
        let chosen = Record::Chosen { first: Instance(5), last: Instance(6), ballot };
        let learned = vec![(Instance(5), Some(change.clone())), (Instance(6), Some(change))];
        assert_eq!(
            printed(Membership::new(3), &[(accept, vec![]), (chosen, learned)]),
            "7: accept 5 2 group 0,1,7\n\
             7: learn 5 group 0,1,7 (governs from 6 on: node 7 comes, node 2 goes)\n\
             7: learn 6 group 0,1,7 (void: the group was changed otherwise before)\n"
        );
    }
}
