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
            Rule::OwnBallot => {
                "only its owner uses a ballot, in one life, and the ballot is durable before it is shown"
            }
            Rule::WritesWhatIsPromised => "a leader writes only in a ballot that a quorum has promised",
            Rule::PromisesNeverRegress => "a node never votes in a lower ballot than before, across restarts",
            Rule::DurableBeforeSaid => "a claim about the sender's disk is durable before the line is sent",
            Rule::PromiseTellsAll => {
                "a promise reports the last accepted value of every instance that it covers"
            }
            Rule::Validity => "a chosen value was requested by a client, or is a mark of the protocol itself",
            Rule::Integrity => "a value that a node reports as chosen was accepted by a quorum in one ballot",
            Rule::LostDiskNeverVotes => "a node that lost its disk never votes again under its id",
            Rule::EpochIsLearned => {
                "a voter in an epoch is a member there, and has durably learned the change that began it"
            }
            Rule::NothingAboveChange => {
                "a leader writes nothing above a change of the group until that change is known to be void"
            }
            Rule::LeavesInOrder => {
                "a leaving member stays until a quorum of the remaining members has the change on disk"
            }
            Rule::RealTimeOrder => {
                "a request that was sent after an answer is chosen above the instance of that answer"
            }
            Rule::ReadsSeeWrites => "a read returns the last user value at or below its own place in the log",
            Rule::ReadsAreFresh => {
                "a fast read covers every instance that was chosen, or answered, before it was sent"
            }
            Rule::MarkTellsAll => {
                "a mark is no lower than any instance that its sender has accepted or learned"
            }
            Rule::Durability => "an acknowledged value is in the log of every node, for ever",
            Rule::ExactlyOnce => "a tagged request takes effect once, at the instance that its answer gives",
            Rule::NothingRefused => "a request is not refused while its client waits for it",
            Rule::RefusedIsFinal => "a request that was reported as refused never takes effect",
            Rule::RecoversWhole => "a crash leaves a log that opens, with every durable record",
            Rule::SameState => {
                "the scripts of all nodes compute the same state up to an instance, in every life"
            }
            Rule::DivergenceIsFound => "nodes detect that scripts diverged, and name the first instance",
            Rule::RollbackIsFound => {
                "no rolled back node votes where a peer remembers a later life, and nodes report logs that differ"
            }
            Rule::Progress => "a healed group answers every request, and all its nodes catch up",
            Rule::LeaderSoon => {
                "where a node keeps two-way links with a quorum, a leader gets a request chosen in time"
            }
            Rule::NoDuels => "once there is a leader, no node raises a ballot without need",
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
