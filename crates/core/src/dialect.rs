//! The two grammars: the extended one, and that of classic groups.
//!
//! This module owns their distinction alone. The wire and the entries say what differs between them.

/// The grammar that a group uses. All of its nodes and clients use the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The whole table; values are escaped.
    Extended,
    /// One line per datagram; values are literal.
    Classic,
}
