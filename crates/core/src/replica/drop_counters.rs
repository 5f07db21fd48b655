//! Counters of the lines and datagrams that a node did not believe.

use std::fmt;

/// How much input was dropped, by reason. The counters never decrease. `Display` names the reasons that occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DropCounters {
    /// Whole datagrams whose checksum is wrong.
    pub damaged: u64,
    /// Whole datagrams with a head and without a checksum.
    pub without_sum: u64,
    /// Whole datagrams of nodes or clients of another group.
    pub other_groups: u64,
    /// Lines of nodes in a datagram without a head, or with a head that names another sender.
    pub headless: u64,
    /// Lines of an incarnation that is not the one registered for the member's id.
    pub other_lives: u64,
    /// Lines of an id that is no member.
    pub strangers: u64,
    /// Lines of a member whose group size or incarnation is not the known one.
    pub foreign: u64,
    /// Lines with a ballot that is not their sender's.
    pub not_owner: u64,
    /// Lines with a ballot that is far above all known ones, or of another epoch.
    pub absurd: u64,
    /// Values that contradict a known chosen value.
    pub conflicts: u64,
    /// Votes that carry a value, as classic nodes vote, in a group that is not classic.
    pub classic_votes: u64,
}

impl fmt::Display for DropCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.damaged, "damaged datagrams"),
            (self.without_sum, "datagrams without a checksum"),
            (self.other_groups, "datagrams of other groups"),
            (self.headless, "without a head that names their sender"),
            (self.other_lives, "from an incarnation that is not registered"),
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
