//! Parses the lines that other programs send to the client; the parent module lists their forms.

use anyhow::{Context, Result, anyhow, bail};
use upaxos_core::client::{Ask, View};
use upaxos_core::types::{Instance, Micros};

/// What a line asks the client to do.
pub(super) enum Order {
    /// Send a request to the group. `Some` names the session that sends it, and the request's own timeout.
    Ask(Ask, Option<(u64, Micros)>),
    /// Report when a condition holds.
    Wish(State),
    /// Send these bytes as one datagram.
    Say(Vec<u8>),
    /// Report every change in the nodes' beats.
    Watch,
}

/// A condition of the group that a line waits for.
pub(super) enum State {
    Leader,
    Learned { nodes: usize, instance: Instance },
}

/// Parses one line of input.
pub(super) fn parse(line: &[u8]) -> Result<Order> {
    const ASKS: [&[u8]; 6] = [b"Request", b"query ", b"fast", b"leave ", b"replace ", b"members"];
    if ASKS.iter().any(|ask| line.starts_with(ask)) {
        return Ok(Order::Ask(ask(line)?, None));
    }
    let text = String::from_utf8_lossy(line);
    let count = |word: &str| word.parse().with_context(|| format!("{word:?} in {text:?} is no number"));
    match text.split(' ').collect::<Vec<_>>()[..] {
        ["as", session, patience, question] => {
            let session = (count(session)?, Micros(count(patience)?));
            Ok(Order::Ask(ask(&unhex(question)?)?, Some(session)))
        }
        ["say", datagram] => Ok(Order::Say(unhex(datagram)?)),
        ["watch"] => Ok(Order::Watch),
        ["leader"] => Ok(Order::Wish(State::Leader)),
        ["learned", nodes, instance] => {
            let nodes = usize::try_from(count(nodes)?).map_err(|_| anyhow!("too many nodes"))?;
            Ok(Order::Wish(State::Learned { nodes, instance: Instance(count(instance)?) }))
        }
        _ => bail!(
            "expected `Request …`, `query …`, `fast`, `fast query …`, `members`, `leave …`, `replace …`, `leader`, \
             `learned NODES INSTANCE`, `as SESSION MICROS HEX`, `say HEX` or `watch`, not {text:?}"
        ),
    }
}

/// Parses the request in a line of [`Ask::to_line`].
fn ask(line: &[u8]) -> Result<Ask> {
    match line {
        b"fast" => Ok(Ask::FastRead),
        [b'f', b'a', b's', b't', b' ', query @ ..] => Ok(Ask::parse(query)?.fast()),
        b"Request 0 " => Ok(Ask::write("".into())?),
        _ => Ok(Ask::parse(line)?),
    }
}

/// Encodes bytes for a line of the client: two hexadecimal digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes the digits of [`hex`].
///
/// # Errors
/// When the text is not an even number of hexadecimal digits.
pub fn unhex(text: &str) -> Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes.with_context(|| format!("{text:?} is no bytes in hexadecimal digits"))
}

impl State {
    /// The answer, if the condition holds now.
    pub fn holds(&self, view: &View, now: Micros) -> Option<String> {
        match self {
            State::Leader => view.leader(now).map(|id| format!("leader {id}")),
            State::Learned { nodes, instance } => {
                let learned = view.nodes(now).filter(|(_, beat)| beat.learned >= *instance).count();
                (learned >= *nodes).then(|| format!("learned {nodes} {instance}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_were_written() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)).unwrap(), bytes);
        assert!(unhex("0").is_err() && unhex("0g").is_err());
    }

    #[test]
    fn a_question_of_a_session_may_hold_a_newline() {
        let line = format!("as 3 2000 {}", hex(b"Request 0 one\ntwo"));
        let Order::Ask(ask, session) = parse(line.as_bytes()).unwrap() else { panic!("no question") };
        assert_eq!((ask, session), (Ask::Write("one\ntwo".into()), Some((3, Micros(2_000)))));
        assert!(parse(b"as 3 2000").is_err());
    }
}
