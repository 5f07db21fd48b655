//! Old values, and the source of a checkpoint: what passes between a node and its store.
//!
//! This module owns these two types and the text of an old value. It neither keeps nor forgets anything.

use crate::record::{Record, fields};
use crate::text;
use crate::types::{Instance, MAX_NUMBER, Value};

/// One instance of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The instance, from 1.
    pub instance: Instance,
    /// The chosen value, as it stands in the log.
    pub value: Value,
    /// `None` if the value took effect. Otherwise the instance that it duplicates, if it is a duplicate of one that
    /// is still known.
    pub void: Option<Option<Instance>>,
}

impl Past {
    /// Appends the text of the archive: `value I V`, or `void I J V`.
    pub fn print(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.void.is_some() { b"void " } else { b"value " });
        text::print_decimal(out, self.instance.0);
        if let Some(original) = self.void {
            out.push(b' ');
            text::print_decimal(out, original.unwrap_or_default().0);
        }
        fields::value_text(out, &self.value);
        out.push(b'\n');
    }

    /// Parses a line of the archive; `None` if it is none.
    pub fn parse(line: &[u8]) -> Option<Past> {
        let mut fields = line.splitn(3, |byte| *byte == b' ');
        let (word, number, rest) = (fields.next()?, fields.next()?, fields.next()?);
        let instance = Instance(text::decimal(number, MAX_NUMBER)?);
        let (void, text) = match word {
            b"value" => (None, rest),
            b"void" => {
                let mut fields = rest.splitn(2, |byte| *byte == b' ');
                let original = text::decimal(fields.next()?, MAX_NUMBER)?;
                (Some(Some(Instance(original)).filter(|original| original.0 > 0)), fields.next()?)
            }
            _ => return None,
        };
        Some(Past { instance, value: fields::value(Some(text)).ok()?, void })
    }
}

/// The source of checkpoints and history: the node.
pub trait Source {
    /// The learned prefix, and the records that rebuild everything the node must remember except values up to
    /// there. The records state exactly what the log states, no more and no less. A source that returns 0 keeps its
    /// log whole.
    fn checkpoint(&self) -> (Instance, Vec<Record>);

    /// The learned prefix. It can be lower than a checkpoint of an earlier life says, if a value was lost since.
    fn learned(&self) -> Instance;

    /// The values of `first` to `last`. The source has learned them and was not told to forget them.
    fn past(&self, first: Instance, last: Instance) -> Vec<Past>;
}

/// A source that keeps its log whole, for tools and tests that write a log without a node.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

impl Source for Whole {
    fn checkpoint(&self) -> (Instance, Vec<Record>) {
        (Instance(0), Vec::new())
    }

    fn learned(&self) -> Instance {
        Instance(0)
    }

    fn past(&self, _: Instance, _: Instance) -> Vec<Past> {
        Vec::new()
    }
}
