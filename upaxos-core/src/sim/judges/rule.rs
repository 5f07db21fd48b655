//! The rules that must hold, in words, and the form of a violation.

use std::fmt;

/// The rules, under the names that the README uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "Display says what each asks for")]
pub enum Rule {
    Agreement,
    OneValuePerBallot,
    OwnBallot,
    WritesWhatIsPromised,
    PromisesNeverRegress,
    DurableBeforeSaid,
    PromiseTellsAll,
    Validity,
    Integrity,
    LostDiskNeverVotes,
    EpochIsLearned,
    NothingAboveChange,
    LeavesInOrder,
    RealTimeOrder,
    ReadsSeeWrites,
    ReadsAreFresh,
    MarkTellsAll,
    Durability,
    ExactlyOnce,
    NothingRefused,
    RefusedIsFinal,
    RecoversWhole,
    SameState,
    DivergenceIsFound,
    RollbackIsFound,
    Progress,
    LeaderSoon,
    NoDuels,
    NoPanic,
}

impl Rule {
    /// The rule as a sentence, for reports of violations.
    pub fn text(self) -> &'static str {
        match self {
            Rule::Agreement => "an instance has one chosen value, and reads the same at every node for ever",
            Rule::OneValuePerBallot => "one value per instance and ballot",
            Rule::OwnBallot => "a ballot is used by its owner alone, durable before it is shown, in one life",
            Rule::WritesWhatIsPromised => {
                "a leader writes in a ballot that a quorum has promised, and in no other"
            }
            Rule::PromisesNeverRegress => "no vote in a lower ballot than one before, across restarts",
            Rule::DurableBeforeSaid => {
                "what a line claims about its sender's disk is durable before it is sent"
            }
            Rule::PromiseTellsAll => "a promise tells the last accepted value of every instance it covers",
            Rule::Validity => "what is chosen was asked for by a client, or is a mark of our own",
            Rule::Integrity => "what a node claims to be chosen was accepted by a quorum in one ballot",
            Rule::LostDiskNeverVotes => "who has lost its disk never votes again under its id",
            Rule::EpochIsLearned => {
                "who votes in an epoch is a member there, and has durably learned the change that began it"
            }
            Rule::NothingAboveChange => {
                "a leader writes nothing above a change of the group before that is known to be void"
            }
            Rule::LeavesInOrder => {
                "who leaves stays until a quorum of those who go on has the change on disk"
            }
            Rule::RealTimeOrder => "what was asked after an answer stands above the instance answered",
            Rule::ReadsSeeWrites => "a read reads the last user value at or below where it stands",
            Rule::ReadsAreFresh => {
                "a fast read stands no lower than what was chosen, or answered, before it was asked"
            }
            Rule::MarkTellsAll => "a mark is no lower than what its sender has accepted, or learned",
            Rule::Durability => "what was acknowledged is in the log of every node, for ever",
            Rule::ExactlyOnce => "a tagged request takes effect once, where its answer says",
            Rule::NothingRefused => "a request that its client still waits for is not refused",
            Rule::RefusedIsFinal => "what a client was told is refused never takes effect",
            Rule::RecoversWhole => "a crash leaves a log that opens, with every durable record",
            Rule::SameState => {
                "the scripts of all nodes have computed the same up to an instance, in every life"
            }
            Rule::DivergenceIsFound => {
                "where scripts compute something else, that is found, and the first instance named"
            }
            Rule::RollbackIsFound => {
                "a disk that was rolled back votes no more where a peer remembers better, and logs that differ are told"
            }
            Rule::Progress => "a healed group answers every request and learns alike",
            Rule::LeaderSoon => {
                "where a node keeps two-way links with a quorum, somebody leads and gets a request chosen in time"
            }
            Rule::NoDuels => "once somebody leads, nobody raises a ballot without need",
            Rule::NoPanic => "no input and no order of events makes a node panic",
        }
    }
}

/// A rule that was violated: what was expected, and what was found instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule that was violated.
    pub rule: Rule,
    /// The evidence: what a node did or sent, for the report.
    pub got: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected: {}\ngot:      {}", self.rule.text(), self.got)
    }
}
