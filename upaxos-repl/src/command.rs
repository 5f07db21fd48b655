//! Parses the commands of the prompt and of piped input, and describes them: help, completion and hints.
//!
//! Owns the words that have a meaning here alone. The session calls it; it sends nothing.

use upaxos_core::client::Ask;
use upaxos_core::types::Value;
use upaxos_core::wire::CLIENT_FORMS;

/// Commands that exist here and not on the wire, each with its line of the help.
const OWN_FORMS: [(&str, &str); 6] = [
    ("query TEXT", "what the nodes' script answers to TEXT, through an instance of its own, as a safe read"),
    ("fast query TEXT", "the same without an instance, where that is possible"),
    ("fast", "fast read: the last value written, without an instance of its own where that is possible"),
    ("status", "the nodes, the leader and how far each has learned, from the beats heard"),
    ("help", "this text"),
    ("exit", "leave this program; the group goes on (also bye, Ctrl-D)"),
];

/// A parsed line of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// An empty line, or a comment.
    Nothing,
    /// Work for the engine, with the group.
    Work(Work),
    /// Show the commands.
    Help,
    /// Leave this program; the group goes on.
    Exit,
}

/// A command that the engine carries out with the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Send a request to the group and wait for the answer.
    Ask(Ask),
    /// Show the nodes, the leader and the members.
    Status,
    /// Tell every node to quit.
    Quit,
}

impl Command {
    /// Parses a line. The error names what to type instead.
    pub fn parse(line: &[u8]) -> Result<Command, String> {
        let line = line.trim_ascii_start();
        match line.trim_ascii_end() {
            b"" => return Ok(Command::Nothing),
            b"quit" => return Ok(Command::Work(Work::Quit)),
            b"fast" => return Ok(asks(Ask::FastRead)),
            b"status" => return Ok(Command::Work(Work::Status)),
            b"help" | b"?" => return Ok(Command::Help),
            b"exit" | b"bye" => return Ok(Command::Exit),
            _ if line.starts_with(b"#") => return Ok(Command::Nothing),
            _ => {}
        }
        // A value follows its word exactly as typed. The other commands may end in blanks.
        let line = match first_word(line) {
            b"Request" | b"query" => line,
            b"fast" => {
                let asked = Ask::parse(line[4..].trim_ascii_start());
                return match asked.map(Ask::fast) {
                    Ok(ask @ Ask::FastQuery(_)) => Ok(asks(ask)),
                    _ => Err("after `fast` comes nothing, or `query TEXT`".into()),
                };
            }
            b"members" | b"leave" | b"replace" => line.trim_ascii_end(),
            _ => return Err(unknown(line)),
        };
        match Ask::parse(line).map_err(|why| why.to_string())? {
            Ask::Write(value) => write(&value).map(asks),
            other => Ok(asks(other)),
        }
    }
}

fn asks(ask: Ask) -> Command {
    Command::Work(Work::Ask(ask))
}

/// The text of `help`: each command with its meaning.
pub fn help() -> String {
    let mut text = String::new();
    for (form, meaning) in CLIENT_FORMS.iter().filter(|(form, _)| *form != "quit").chain(&OWN_FORMS) {
        text.push_str(&format!("  {form:<22} {meaning}\n"));
    }
    text.push_str(
        "  quit                   end every node of the group that honours it; this program goes on\n\n\
         Writes, reads, leave and replace are sent until answered, and take effect exactly once.\n\
         A VALUE is taken literally. If it is in double quotes, from its first byte to its last, it\n\
         may contain \\n, \\r, \\t, \\\\, \\\" and \\xNN.\n\
         On the wire `exit` and `bye` mean `quit`; typed here they only leave this program.",
    );
    text
}

/// The beginnings of all commands, for completion.
pub fn beginnings() -> impl Iterator<Item = &'static str> {
    ["Request 0 ", "Request ", "query ", "fast query ", "members", "leave ", "replace ", "quit"]
        .into_iter()
        .chain(OWN_FORMS.iter().map(|(form, _)| *form))
}

/// The rest of the command that begins with `typed`, if it is clear.
pub fn hint(typed: &str) -> Option<String> {
    match typed {
        "" => None,
        "Request " => Some("0 VALUE, 0, or an instance".into()),
        "Request 0" => Some(" VALUE".into()),
        "Request 0 " => Some("VALUE".into()),
        "query " | "fast query " => Some("TEXT".into()),
        "leave " => Some("ID, or ID force".into()),
        "replace " => Some("ID NEW, or ID NEW force".into()),
        _ => {
            let forms = CLIENT_FORMS.iter().chain(&OWN_FORMS).map(|(form, _)| *form);
            let mut rest = forms.filter_map(|form| form.strip_prefix(typed));
            rest.next().filter(|rest| !rest.is_empty()).map(str::to_owned)
        }
    }
}

fn first_word(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').next().unwrap_or_default()
}

fn unknown(line: &[u8]) -> String {
    let word = String::from_utf8_lossy(first_word(line)).into_owned();
    let known =
        ["Request", "query", "fast", "members", "leave", "replace", "quit", "status", "help", "exit", "bye"];
    let likeness = |known: &&str| strsim::jaro_winkler(&word.to_lowercase(), &known.to_lowercase());
    let best = known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let rest = String::from_utf8_lossy(&line[first_word(line).len()..]).into_owned();
    match best.filter(|best| likeness(best) > 0.8) {
        Some(best) => format!("unknown command {word:?}; did you mean `{best}{}`?", rest.trim_end()),
        None => format!("unknown command {word:?}; type help to list the commands"),
    }
}

/// The write of the value that follows `Request 0 `, without its quotes.
fn write(typed: &Value) -> Result<Ask, String> {
    let bytes = match typed.as_bytes() {
        [b'"', inner @ .., b'"'] => unquote(inner)?,
        plain => plain.to_vec(),
    };
    if bytes.is_empty() {
        return Err("an empty value cannot be written; `Request 0` alone is a safe read".into());
    }
    Ask::write(bytes.into()).map_err(|why| why.to_string())
}

fn unquote(inner: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'"' => return Err("a quote inside a quoted value must be written \\\"".into()),
            b'\\' => escaped(&mut rest).ok_or(
                "in a quoted value a backslash begins \\n, \\r, \\t, \\\\, \\\" or \\xNN; \
                 leave out the quotes to have it taken literally",
            )?,
            plain => *plain,
        });
    }
    Ok(bytes)
}

fn escaped(rest: &mut std::slice::Iter<u8>) -> Option<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    Some(match rest.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'\\' => b'\\',
        b'"' => b'"',
        b'x' => digit(rest.next()?)? * 16 + digit(rest.next()?)?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use upaxos_core::types::{Act, Change, Instance, NodeId};

    use super::*;

    fn write_of(line: &str) -> Result<Command, String> {
        Command::parse(line.as_bytes())
    }

    fn value(bytes: &[u8]) -> Result<Command, String> {
        Ok(asks(Ask::Write(bytes.into())))
    }

    #[test]
    fn commands_are_typed_as_they_go_on_the_wire() {
        assert_eq!(write_of("Request 0 one"), value(b"one"));
        assert_eq!(write_of("Request 0"), Ok(asks(Ask::Read)));
        assert_eq!(write_of("  Request 12"), Ok(asks(Ask::History(Instance(12)))));
        assert_eq!(write_of("fast"), Ok(asks(Ask::FastRead)));
        assert_eq!(write_of("query get a b "), Ok(asks(Ask::Query("get a b ".into()))));
        assert_eq!(write_of("fast query get a"), Ok(asks(Ask::FastQuery("get a".into()))));
        assert!(write_of("fast lane").unwrap_err().contains("query TEXT"));
        assert!(write_of("query").is_err(), "nothing is no question");
        assert_eq!(write_of("quit "), Ok(Command::Work(Work::Quit)));
        assert_eq!(write_of("members "), Ok(asks(Ask::Members)));
        let leave = Change { act: Act::Leave(NodeId(2)), is_forced: true };
        assert_eq!(write_of("leave 2 force "), Ok(asks(Ask::Change(leave))));
    }

    #[test]
    fn exit_and_bye_leave_the_program_and_never_end_the_group() {
        assert_eq!(write_of("exit"), Ok(Command::Exit));
        assert_eq!(write_of("bye"), Ok(Command::Exit));
    }

    #[test]
    fn a_value_is_taken_as_it_stands() {
        assert_eq!(write_of(r#"Request 0 a\n "b"  c "#), value(br#"a\n "b"  c "#));
        assert_eq!(Command::parse(b"Request 0 \xff\x00"), value(b"\xff\x00"));
        assert_eq!(write_of("Request 0 \""), value(b"\""));
    }

    #[test]
    fn a_quoted_value_may_hold_any_byte() {
        assert_eq!(write_of(r#"Request 0 "a\nb\r\t\\\"\xff\x0A""#), value(b"a\nb\r\t\\\"\xff\n"));
        for bad in [r#"Request 0 "a"b""#, r#"Request 0 "\q""#, r#"Request 0 "\x4""#, r#"Request 0 """#] {
            assert!(write_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_typing_error_is_answered_with_what_was_meant() {
        for (typed, meant) in [
            ("request 0 one", "`Request 0 one`"),
            ("Reqest 2", "`Request 2`"),
            ("stat", "`status`"),
            ("xyzzy", "help"),
            ("Request 3 x", "`Request 3`"),
            ("Request", "`Request 0 VALUE`"),
            ("leav 2", "`leave 2`"),
            ("leave two", "`leave ID [force]`"),
            ("replace 1", "`replace ID NEW [force]`"),
        ] {
            let error = write_of(typed).expect_err(typed);
            assert!(error.contains(meant), "{typed}: {error}");
        }
    }

    #[test]
    fn empty_lines_and_comments_are_nothing() {
        for line in ["", "   ", "# Request 0 one"] {
            assert_eq!(write_of(line), Ok(Command::Nothing));
        }
    }

    #[test]
    fn the_help_names_every_form_of_the_wire() {
        for (form, _) in CLIENT_FORMS.iter().chain(&OWN_FORMS) {
            assert!(help().contains(&format!("  {form} ")), "{form}");
        }
    }

    #[test]
    fn hints_go_on_from_what_was_typed() {
        assert_eq!(hint("Req").as_deref(), Some("uest 0 VALUE"));
        assert_eq!(hint("st").as_deref(), Some("atus"));
        assert_eq!(hint("replace ").as_deref(), Some("ID NEW, or ID NEW force"));
        assert_eq!(hint("Request 0 on"), None);
        assert_eq!(hint("status"), None);
    }
}
