//! Deliberate errors, to check that the simulator finds them.
//!
//! Each is one classic mistake of an implementer. Without the feature `mutants`, which only tests turn on, `is`
//! is `false` and the compiler removes them all. The active mutant belongs to one thread.

/// One deliberate error; `Mutant::ALL` describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Mutant::ALL has the words")]
pub enum Mutant {
    SkipSync,
    CountDuplicatePromises,
    IgnoreAcceptedInPromises,
    LowestBallotWins,
    ReuseBallot,
    IgnorePromiseOnWrite,
    WriteRaisesNothing,
    CountAcrossBallots,
    HalfIsQuorum,
    PromiseOmitsValue,
    CountDuplicateAccepts,
    OkOnOwnAccept,
    OkForAnother,
    OldPromiseCounts,
    ForgetTags,
    SilentAboutPrefix,
    LostPartIsEmpty,
    SecondIncarnation,
    HighestSequence,
    ReadFromLearner,
    StaleNonce,
    MarkLearnedOnly,
    GroupBeforeChosen,
    StartAboveChange,
    JoinerVotesEarly,
    DropEpoch,
    OldEpochVotes,
    Phase1InOldGroup,
    CutAnyDamage,
    CutLastBlock,
    NoRewriteLast,
    NameNotSynced,
    LostIsNothing,
    StateNotSaved,
    ApplyDuplicate,
    ApplyTwice,
    ErrorNotUndone,
    VoteWithoutBytes,
    DigestUnchecked,
    WriteOfAnyLife,
    VoteOfAnyLife,
    MarkOfAnyLife,
    ChosenOfAnyLife,
    EarlierBootsIgnored,
    LateProofIgnored,
    ChainNotCompared,
    FloorOfRequest,
    RefusedForBusy,
    RefusedByWord,
    AnswerWhatWasFound,
    ProposalIsEnough,
    UnheardIsNone,
    WordsAreEnough,
    FloorLost,
    ForgetsForgotten,
    ReadAcrossEpochs,
    FewPeers,
    NonceRestarts,
    BeatShowsBallot,
    SkipsCatchUp,
    StandsVotesAll,
    FenceNotRecovered,
    LeavesEarly,
    CopyAnyBallot,
    LostKeepsOlder,
    FarVoteForgotten,
    FarOfAnyEpoch,
    DamageIsRead,
}

impl Mutant {
    /// All mutants with their descriptions.
    #[cfg(feature = "mutants")]
    pub const ALL: &[(Mutant, &'static str)] = &[
        (Mutant::SkipSync, "skip the sync"),
        (Mutant::CountDuplicatePromises, "count duplicate promises"),
        (Mutant::IgnoreAcceptedInPromises, "ignore accepted values in promises"),
        (Mutant::LowestBallotWins, "take the lowest ballot's value"),
        (Mutant::ReuseBallot, "re-use a ballot after restart"),
        (Mutant::IgnorePromiseOnWrite, "ignore the promise on Write"),
        (Mutant::WriteRaisesNothing, "Write does not raise the promise"),
        (Mutant::CountAcrossBallots, "count accepts across ballots"),
        (Mutant::HalfIsQuorum, "quorum n/2"),
        (Mutant::PromiseOmitsValue, "promise omits the accepted value"),
        (Mutant::CountDuplicateAccepts, "count duplicate accepts"),
        (Mutant::OkOnOwnAccept, "OK on one's own accept"),
        (Mutant::OkForAnother, "OK for another's value"),
        (Mutant::OldPromiseCounts, "match an old promise to a new ballot"),
        (Mutant::ForgetTags, "tag table not rebuilt after restart"),
        (Mutant::SilentAboutPrefix, "promise silent about a compacted prefix"),
        (Mutant::LostPartIsEmpty, "lost part of a promise counted as empty"),
        (Mutant::SecondIncarnation, "a peer registers a second incarnation"),
        (Mutant::HighestSequence, "highest sequence as the tag table"),
        (Mutant::ReadFromLearner, "fast read from the local learner"),
        (Mutant::StaleNonce, "a mark of an older round counts"),
        (Mutant::MarkLearnedOnly, "mark of the learned prefix only"),
        (Mutant::GroupBeforeChosen, "use a new group before it is chosen"),
        (Mutant::StartAboveChange, "start above an unlearned group change"),
        (Mutant::JoinerVotesEarly, "joiner votes before it has caught up"),
        (Mutant::DropEpoch, "drop the epoch from ballots"),
        (Mutant::OldEpochVotes, "count votes of an older epoch"),
        (Mutant::Phase1InOldGroup, "phase 1 in the old group"),
        (Mutant::CutAnyDamage, "truncate on any checksum error"),
        (Mutant::CutLastBlock, "take a damaged last block for a torn one"),
        (Mutant::NoRewriteLast, "no rewrite of what a failed sync may have left in memory only"),
        (Mutant::NameNotSynced, "remove segments before the history file's name is durable"),
        (Mutant::LostIsNothing, "damaged value counted as nothing accepted"),
        (Mutant::StateNotSaved, "state of a script not in the checkpoint"),
        (Mutant::ApplyDuplicate, "apply a duplicate"),
        (Mutant::ApplyTwice, "apply twice after a restart"),
        (Mutant::ErrorNotUndone, "a failed apply is not undone"),
        (Mutant::VoteWithoutBytes, "vote for what is named without the bytes"),
        (Mutant::DigestUnchecked, "take one's own bytes for what is named"),
        (Mutant::WriteOfAnyLife, "incarnation and group not checked in Write"),
        (Mutant::VoteOfAnyLife, "incarnation and group not checked in votes"),
        (Mutant::MarkOfAnyLife, "incarnation and group not checked in marks"),
        (Mutant::ChosenOfAnyLife, "incarnation and group not checked in Chosen"),
        (Mutant::EarlierBootsIgnored, "of the lives of a disk, the number of starts alone counts"),
        (Mutant::LateProofIgnored, "an objection after the first vote is ignored"),
        (Mutant::ChainNotCompared, "digests of the log are not compared"),
        (Mutant::FloorOfRequest, "a session made anew takes the floor that the request names"),
        (Mutant::RefusedForBusy, "Refused in place of Busy"),
        (Mutant::RefusedByWord, "Refused by a leader's word, not by the log"),
        (Mutant::AnswerWhatWasFound, "answer a classic client with what was only found"),
        (Mutant::ProposalIsEnough, "a proposal that comes again makes a classic value new"),
        (Mutant::UnheardIsNone, "a classic promise that was not heard counts as one that told of no value"),
        (Mutant::WordsAreEnough, "whatever is found in the words of an untagged write carries it out"),
        (Mutant::FloorLost, "a floor not in the checkpoint"),
        (Mutant::ForgetsForgotten, "forget that a session was forgotten"),
        (Mutant::ReadAcrossEpochs, "marks of an older epoch answer a read"),
        (Mutant::FewPeers, "vote when one peer too few remembers"),
        (Mutant::NonceRestarts, "nonces of reads begin alike in every life"),
        (Mutant::BeatShowsBallot, "a beat shows a ballot before it is durable"),
        (Mutant::SkipsCatchUp, "phase 2 below a prefix that promises tell of"),
        (Mutant::StandsVotesAll, "vote for all that is named where the first stands"),
        (Mutant::FenceNotRecovered, "no fence at a change that phase 1 found"),
        (Mutant::LeavesEarly, "leave before a quorum has the change"),
        (Mutant::CopyAnyBallot, "take a copy of any ballot for what is lost"),
        (Mutant::LostKeepsOlder, "a lost value falls back to an older one"),
        (Mutant::FarVoteForgotten, "forget a vote far above at a restart"),
        (Mutant::FarOfAnyEpoch, "accept far above in an epoch that is not known"),
        (Mutant::DamageIsRead, "read a damaged datagram"),
    ];
}

#[cfg(feature = "mutants")]
std::thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Activates this mutant on the current thread; `None` deactivates it.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this mutant is active on the current thread.
#[cfg(feature = "mutants")]
pub fn is(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Always false without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
pub const fn is(_: Mutant) -> bool {
    false
}
