//! `upaxos-node log DIR`: prints a data directory, for people and to compare nodes.
//!
//! Owns the words of the printed lines. It decides nothing: the node's own recovery tells it which values were
//! learned and which had an effect.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Result, bail};
use upaxos_cli::{self as cli, OutputError};
use upaxos_core::entry::Entry;
use upaxos_core::past::Past;
use upaxos_core::record::Record;
use upaxos_core::replica::{Config, Membership, Recovery};
use upaxos_core::types::{Group, Instance, NodeId, Value};
use upaxos_core::wire::Dialect;
use upaxos_storage::disk;

/// Prints every record as `ID: …`, and each learned instance with its value, without the marks that the log stores
/// with it. With `only_learned` it prints one line `INSTANCE VALUE` for each learned instance, with these marks,
/// and nothing else.
///
/// # Errors
/// When the directory cannot be read, after the readable part is printed; or when standard output cannot be written
/// ([`OutputError`]).
pub fn log(dir: &Path, only_learned: bool) -> Result<()> {
    let identity = disk::identity(dir)?;
    let dialect = disk::dialect(dir, &identity);
    // Damage is reported below, after everything before it is printed.
    let dialect = dialect.as_ref().map_or(Dialect::Extended, |dialect| *dialect);
    let out = io::BufWriter::new(io::stdout().lock());
    let printer = RefCell::new(Printer::new((identity.id, identity.n), dialect, only_learned, out));
    let contents = disk::read(
        dir,
        &mut |past| {
            printer.borrow_mut().learned(&past);
            Ok(())
        },
        &mut |found| {
            let record = found.record().map_err(|error| error.to_string())?;
            printer.borrow_mut().record(&record)
        },
    );
    let mut printer = printer.into_inner();
    printer.end();
    let lost = printer.recovery.lost();
    let Printer { written, mut out, .. } = printer;
    written.and_then(|()| out.flush()).map_err(OutputError::from)?;
    if let Some(note) = contents?.note {
        cli::complain(format_args!("upaxos-node: {note}"));
    }
    lost.map_or(Ok(()), |instance| {
        bail!(
            "cannot print instance {instance} of {}: its value is damaged there, and what was learned above it is not shown. \
             A node that is started with this directory fetches the value again from its peers",
            dir.display()
        )
    })
}

/// Prints records in the order of the log. It follows the learned instances and the members of the group.
struct Printer<W> {
    id: u16,
    dialect: Dialect,
    only_learned: bool,
    recovery: Recovery,
    membership: Membership,
    /// The last start that was printed. A checkpoint repeats the last ones.
    start: u64,
    out: W,
    /// The first failure of the output. Nothing is printed after it.
    written: io::Result<()>,
}

impl<W: Write> Printer<W> {
    fn new((id, n): (u16, u16), dialect: Dialect, only_learned: bool, out: W) -> Printer<W> {
        let config = Config { classic: dialect == Dialect::Classic, ..Config::member(NodeId(id), n) };
        Printer {
            id,
            dialect,
            only_learned,
            recovery: Recovery::new(config),
            membership: Membership::new(n),
            start: 0,
            out,
            written: Ok(()),
        }
    }

    fn say(&mut self, text: &str) {
        if self.written.is_ok() && !self.only_learned {
            self.written = writeln!(self.out, "{}: {text}", self.id);
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), String> {
        let learned = self.recovery.tell(record).map_err(|error| error.to_string())?;
        self.membership.recover(record);
        match record {
            Record::Start { start, .. } if *start <= self.start => {}
            Record::Start { start, .. } => {
                self.start = *start;
                self.say(&format!("starting {} (start {start})", self.id));
            }
            Record::Chosen { .. } | Record::Learn { .. } => {}
            Record::Accept { instance, ballot, value } => match self.decoded(*instance, value) {
                Entry::Group(_, new) => self.say(&format!("accept {instance} {ballot} {}", new.reads())),
                _ => self.say(&record.to_string()),
            },
            Record::Group { epoch, .. } => {
                let members = listed(self.membership.group());
                self.say(&format!("group {members} (governs from {} on)", Instance(epoch.0).next()));
            }
            other => self.say(&other.to_string()),
        }
        learned.iter().for_each(|past| self.learned(past));
        Ok(())
    }

    fn decoded(&self, instance: Instance, value: &Value) -> Entry {
        Entry::decode(instance, value, self.dialect)
    }

    fn learned(&mut self, past: &Past) {
        let Past { instance, value, .. } = past;
        let entry = self.decoded(*instance, value);
        let mark = without_effect(past, &entry).map_or(String::new(), |why| format!("(no effect: {why}) "));
        if self.only_learned {
            if self.written.is_ok() {
                self.written = writeln!(self.out, "{instance} {mark}{value}");
            }
            return;
        }
        let moves = match &entry {
            Entry::Group(_, new) if past.void.is_none() => {
                let before = self.membership.group().clone();
                self.membership.learn(*instance, new, value);
                moves(*instance, &before, self.membership.group())
            }
            _ => String::new(),
        };
        self.say(&format!("learn {instance} {mark}{}{moves}", entry.reads()));
    }

    /// Prints the end of the log, or of its readable part.
    fn end(&mut self) {
        if let Some(lost) = self.recovery.lost() {
            if self.only_learned && self.written.is_ok() {
                self.written = writeln!(self.out, "{lost} (its value is lost)");
            }
            self.say(&format!("learn {lost}, but its value is lost"));
        }
    }
}

/// The reason why a learned value had no effect, in words that are the same on every node; `None` where it had an
/// effect. `past.void` holds the decision, which the node's recovery makes.
fn without_effect(past: &Past, entry: &Entry) -> Option<String> {
    Some(match (past.void?, entry) {
        (Some(original), _) => format!("duplicate of {original}"),
        (None, Entry::Read { instance, .. }) if *instance != past.instance => {
            format!("a read for instance {instance}")
        }
        (None, Entry::Group(..)) => "the group was changed otherwise before".into(),
        (None, _) => "its tag does not count".into(),
    })
}

/// The instance from which a group governs, and the nodes that came and went.
fn moves(instance: Instance, before: &Group, after: &Group) -> String {
    if before.members.is_empty() {
        // A joiner has its first group from a record that may come later.
        return format!(" (governs from {} on)", instance.next());
    }
    let comes = after.members.difference(&before.members).map(|id| format!("node {id} comes"));
    let goes = before.members.difference(&after.members).map(|id| format!("node {id} goes"));
    let mut moves: Vec<_> = comes.chain(goes).collect();
    if moves.is_empty() {
        moves.push("the same members, ballots begin anew".into());
    }
    format!(" (governs from {} on: {})", instance.next(), moves.join(", "))
}

fn listed(group: &Group) -> String {
    group.members.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is printed for these records of member 2 of 3.
    fn printed(records: &[&str], only_learned: bool) -> String {
        let mut printer = Printer::new((2, 3), Dialect::Extended, only_learned, Vec::new());
        for record in records {
            let record = Record::parse(record.as_bytes()).expect("a record");
            printer.record(&record).expect("it follows from those before");
        }
        printer.end();
        String::from_utf8(printer.out).expect("text")
    }

    #[test]
    fn a_change_of_the_group_says_who_comes_and_who_goes_and_whether_it_is_void() {
        let change = "@group 0 0:70,1:71,7:77";
        let log = [&format!("accept 1 2 {change}"), &format!("accept 2 2 {change}"), "chosen 1 2 2"];
        assert_eq!(
            printed(&log, false),
            "2: accept 1 2 group 0,1,7\n\
             2: accept 2 2 group 0,1,7\n\
             2: learn 1 group 0,1,7 (governs from 2 on: node 7 comes, node 2 goes)\n\
             2: learn 2 (no effect: the group was changed otherwise before) group 0,1,7\n"
        );
    }

    #[test]
    fn what_has_no_effect_is_marked_by_the_rules_of_the_node() {
        let log = [
            "learn 1 @tag 7 2 2 one",
            "learn 2 @tag 7 2 2 one",
            "learn 3 @tag 7 1 1 late",
            "learn 4 @read 9 safe read one",
            "learn 5 @tread 5 7 3 3 safe read one",
        ];
        assert_eq!(
            printed(&log, false),
            "2: learn 1 one\n\
             2: learn 2 (no effect: duplicate of 1) one\n\
             2: learn 3 (no effect: its tag does not count) late\n\
             2: learn 4 (no effect: a read for instance 9) safe read one\n\
             2: learn 5 safe read one\n"
        );
    }

    #[test]
    fn each_instance_is_told_once_also_where_it_was_lost_and_learned_anew() {
        let log = ["accept 1 0 a", "chosen 1 1 0", "accept 2 0 b", "lost 2 0", "chosen 2 2 0"];
        let (known, lost) = ("2: accept 1 0 a\n2: learn 1 a\n2: accept 2 0 b\n2: lost 2 0\n", "2: learn 2");
        assert_eq!(printed(&log, false), format!("{known}{lost}, but its value is lost\n"));
        let anew = [&log[..], &["chosen 1 1 0", "learn 2 b", "learn 1 a"]].concat();
        assert_eq!(printed(&anew, false), format!("{known}{lost} b\n"));
    }

    #[test]
    fn what_two_nodes_learned_is_the_same_text_whatever_else_their_logs_say() {
        let one = ["start 1 9", "accept 1 0 @tag 7 1 1 a", "chosen 1 1 0", "learn 2 @group 0 0,1"];
        let other = ["promise 65536", "learn 1 @tag 7 1 1 a", "accept 2 1:0 @group 0 0,1", "chosen 2 2 1:0"];
        assert_eq!(printed(&one, true), "1 @tag 7 1 1 a\n2 @group 0 0,1\n");
        assert_eq!(printed(&one, true), printed(&other, true));
    }

    #[test]
    fn a_log_that_begins_with_a_checkpoint_tells_the_same_of_what_was_learned() {
        let learned = [(1, "a", None), (2, "@group 0 0,1", None), (3, "@group 0 0,1", Some(None))];
        let learned =
            [&learned[..], &[(4, "@tag 7 1 1 b", None), (5, "@tag 7 1 1 b", Some(Some(4)))]].concat();
        let whole: Vec<_> = learned.iter().map(|(at, value, _)| format!("learn {at} {value}")).collect();
        let mut whole: Vec<_> = whole.iter().map(String::as_str).collect();
        whole.push("learn 6 @tag 7 1 1 b");
        let expected = printed(&whole, true);
        assert!(expected.ends_with("6 (no effect: duplicate of 4) @tag 7 1 1 b\n"), "{expected}");
        let mut printer = Printer::new((2, 0), Dialect::Extended, true, Vec::new());
        for (at, value, void) in learned {
            let void = void.map(|original: Option<u64>| original.map(Instance));
            printer.learned(&Past { instance: Instance(at), value: value.into(), void });
        }
        let checkpoint = ["checkpoint 2 5", "genesis 3", "group 2 @group 0 0,1", "session 7 1 5 1 4"];
        for record in
            [&checkpoint[..], &["checkpoint-end", "accept 6 2:0 @tag 7 1 1 b", "chosen 6 6 2:0"]].concat()
        {
            printer.record(&Record::parse(record.as_bytes()).expect("a record")).expect("in order");
        }
        assert_eq!(String::from_utf8(printer.out).expect("text"), expected);
    }

    #[test]
    fn bytes_that_are_no_text_are_printed_as_the_prompt_reads_them() {
        let mut printer = Printer::new((2, 3), Dialect::Extended, false, Vec::new());
        let values = [&b"caf\xc3\xa9 \\ \"x\" "[..], b"a\xff\n\t\x1b\\\"b", b"\"x\"", b"\xc2\x9b"];
        for (value, instance) in values.iter().zip(1..) {
            let (instance, value) = (Instance(instance), Value::from(*value));
            printer.record(&Record::Learn { instance, value }).expect("the next one");
        }
        assert_eq!(
            String::from_utf8(printer.out).expect("text"),
            "2: learn 1 café \\ \"x\" \n\
             2: learn 2 \"a\\xff\\n\\t\\x1b\\\\\\\"b\"\n\
             2: learn 3 \"\\\"x\\\"\"\n\
             2: learn 4 \"\\xc2\\x9b\"\n"
        );
    }

    #[test]
    fn a_record_that_does_not_follow_is_an_error_and_no_panic() {
        let mut printer = Printer::new((2, 3), Dialect::Extended, false, Vec::new());
        let record = Record::parse(b"learn 5 x").expect("a record");
        let said = printer.record(&record).expect_err("1 to 4 are missing");
        assert!(said.contains("does not follow"), "{said}");
    }
}
