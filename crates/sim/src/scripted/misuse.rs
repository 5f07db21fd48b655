//! The refusal of a request that a script may not make now.

/// The reason why a request of a script is not allowed now, as text for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);
