//! What came in and was not believed, counted.

use std::fmt;

/// What came in and was dropped, by reason. Monotone. `Display` names the reasons that occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dropped {
    /// Of a node of another group, or for one: whole datagrams.
    pub other_groups: u64,
    /// A node's line in a datagram that does not begin with who speaks, or names another sender.
    pub headless: u64,
    /// From a life of a member's id that is not the one registered for it.
    pub other_lives: u64,
    /// From an id that is no member.
    pub strangers: u64,
    /// From a member whose group size or incarnation is not the one known.
    pub foreign: u64,
    /// A ballot that is not its sender's.
    pub not_owner: u64,
    /// A ballot that jumps absurdly past all that was heard, or is of another epoch.
    pub absurd: u64,
    /// A value that contradicts what is known to be chosen.
    pub conflicts: u64,
    /// A vote that carries a value, as classic nodes vote, in a group that is not classic.
    pub classic_votes: u64,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.other_groups, "datagrams of other groups"),
            (self.headless, "without a head that names their sender"),
            (self.other_lives, "from a life that is not registered"),
            (self.strangers, "from strangers"),
            (self.foreign, "from members started for another group size, or that lost their disk"),
            (self.not_owner, "with a ballot that is not the sender's"),
            (self.absurd, "with an absurd ballot"),
            (self.conflicts, "contradicting what is chosen"),
            (self.classic_votes, "with a classic vote"),
        ];
        let texts =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let texts: Vec<_> = texts.collect();
        f.write_str(if texts.is_empty() { "no line" } else { "" })?;
        f.write_str(&texts.join(", "))
    }
}
