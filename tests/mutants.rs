//! Every known mistake of implementers, made on purpose. The simulator must find each.
//!
//! `cargo test --release -p upaxos-sim --features mutants --test mutants -- --nocapture` prints the table (mutant,
//! seeds until caught, by which rule). `UPAXOS_MUTANTS=read` restricts it to mutants with that word in their names.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/lone.rs"]
mod lone;

use std::sync::atomic::{AtomicUsize, Ordering};

use upaxos_core::mutant::{self, Mutant};
use upaxos_sim::{self as sim, Plan, Rule};

/// How many seeds a mutant may survive.
const BUDGET: u64 = 20_000;

/// A mutant, and the schedule whose claim it breaks.
type Schedule = (Mutant, fn() -> bool);

/// Mutants that random seeds find late or never. A directed schedule must catch each.
const DIRECTED: &[Schedule] = &[
    (Mutant::CountDuplicatePromises, directed::a_repeated_promise_is_one_promise),
    (Mutant::LowestBallotWins, directed::the_higher_of_two_ballots_that_promises_tell_of_wins),
    (Mutant::WriteRaisesNothing, directed::a_write_raises_the_promise_above_a_late_lower_write),
    (Mutant::LostPartIsEmpty, directed::a_part_of_a_promise_that_was_lost_covers_nothing),
    (Mutant::OldEpochVotes, directed::votes_of_an_older_epoch_choose_nothing),
    (Mutant::StaleNonce, directed::a_mark_of_an_older_round_answers_nothing),
    (Mutant::LostIsNothing, directed::a_lost_value_is_never_promised_as_nothing),
    (Mutant::ApplyDuplicate, directed::a_duplicate_is_not_applied),
    (Mutant::WriteOfAnyLife, directed::a_write_of_another_life_is_not_accepted),
    (Mutant::VoteOfAnyLife, directed::a_vote_of_another_life_counts_for_nothing),
    (Mutant::MarkOfAnyLife, directed::a_mark_of_another_life_answers_nothing),
    (Mutant::ChosenOfAnyLife, directed::chosen_of_another_life_is_not_believed),
    (Mutant::EarlierBootsIgnored, directed::an_old_disk_is_known_by_its_earlier_boots),
    (Mutant::LateProofIgnored, directed::a_late_objection_with_proof_ends_the_vote),
    (Mutant::ChainNotCompared, directed::a_log_that_a_quorum_disagrees_with_ends_its_node),
    (Mutant::FloorOfRequest, directed::nothing_below_a_session_made_anew_is_done_again),
    (Mutant::RefusedByWord, directed::what_the_log_does_not_refuse_is_not_told_as_refused),
    (Mutant::RefusedForBusy, directed::what_is_refused_for_want_of_room_is_never_done),
    (Mutant::AnswerWhatWasFound, directed::a_classic_node_answers_nobody_with_what_it_found),
    (Mutant::ProposalIsEnough, directed::a_proposal_that_comes_again_makes_nothing_new),
    (Mutant::UnheardIsNone, directed::what_a_promise_that_was_not_heard_may_have_told_is_no_answer),
    (Mutant::WordsAreEnough, directed::the_same_words_found_in_phase_1_carry_out_no_request_that_came_later),
    (Mutant::LostKeepsOlder, directed::a_lost_value_leaves_nothing_older_in_its_place),
    (Mutant::CopyAnyBallot, directed::a_vote_where_a_value_was_lost_raises_the_promise),
    (Mutant::StandsVotesAll, directed::a_vote_for_what_is_named_is_for_all_of_it),
    (Mutant::SecondIncarnation, directed::a_second_incarnation_is_not_registered),
    (Mutant::FewPeers, directed::a_founder_votes_first_when_enough_peers_remember_it),
    (Mutant::NonceRestarts, directed::a_mark_for_an_earlier_life_answers_nothing),
    (Mutant::ReadAcrossEpochs, directed::marks_of_an_older_epoch_answer_no_read),
    (Mutant::BeatShowsBallot, directed::a_beat_shows_no_ballot_before_it_is_durable),
    (Mutant::SkipsCatchUp, directed::a_candidate_learns_what_promises_tell_of_before_it_writes),
    (Mutant::FenceNotRecovered, directed::nothing_is_written_above_a_change_that_phase_1_found),
    (Mutant::LeavesEarly, directed::who_leaves_goes_on_until_a_quorum_has_the_change),
    (Mutant::FarVoteForgotten, directed::a_vote_far_above_is_remembered_across_a_restart),
    (Mutant::FarOfAnyEpoch, directed::a_vote_far_above_is_in_the_epoch_in_force_alone),
    (Mutant::DamageIsRead, directed::a_damaged_datagram_is_not_read),
    (Mutant::ForgetsForgotten, directed::what_a_forgotten_client_had_done_is_never_done_again),
];

/// Whether a mutant breaks the claim of its own schedule. `None` if it has no schedule.
fn caught_by_schedule(mutant: Mutant) -> Option<bool> {
    let (_, holds) = DIRECTED.iter().find(|(known, _)| *known == mutant)?;
    assert!(holds(), "the schedule's claim holds without the mistake");
    mutant::activate(Some(mutant));
    let is_caught = !holds();
    mutant::activate(None);
    Some(is_caught)
}

/// How the mutant was caught: by its schedule, or by a seed, with the broken rule. `None` if it survives.
fn caught(mutant: Mutant) -> Option<String> {
    if let Some(is_caught) = caught_by_schedule(mutant) {
        return is_caught.then(|| "a schedule of its own | |".into());
    }
    let (seed, rule) = caught_by_seed(mutant)?;
    Some(format!("{} | {rule:?} |", seed + 1))
}

/// The first seed that catches the mutant, and the broken rule. Without the mutant that seed passes.
fn caught_by_seed(mutant: Mutant) -> Option<(u64, Rule)> {
    let broken = |seed, mutant| {
        mutant::activate(mutant);
        let failure = sim::run(&Plan::draw(seed, None)).failure;
        mutant::activate(None);
        Some(failure?.violation.rule)
    };
    (0..BUDGET).find_map(|seed| {
        let rule = broken(seed, Some(mutant))?;
        broken(seed, None).is_none().then_some((seed, rule))
    })
}

#[test]
fn no_mutant_survives_its_budget_of_seeds() {
    std::panic::set_hook(Box::new(|panic| {
        if std::thread::current().name().is_some() {
            eprintln!("{panic}");
        }
    }));
    let word = std::env::var("UPAXOS_MUTANTS").unwrap_or_default();
    let mutants: Vec<_> = Mutant::ALL.iter().filter(|(_, name)| name.contains(&word)).collect();
    assert!(!mutants.is_empty(), "no mutant has the word {word:?}");
    let next = AtomicUsize::new(0);
    let work = || {
        let mut rows = Vec::new();
        while let Some((mutant, name)) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            rows.push((*name, caught(*mutant)));
        }
        rows
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let rows: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("runs catch panics")).collect()
    });
    let mut survivors = Vec::new();
    println!("| mutant | seeds until caught | rule |\n| --- | --- | --- |");
    for (_, name) in &mutants {
        match rows.iter().find(|(row, _)| row == name).and_then(|(_, caught)| caught.as_ref()) {
            Some(by) => println!("| {name} | {by}"),
            None => survivors.push(*name),
        }
    }
    assert!(survivors.is_empty(), "survived {BUDGET} seeds: {survivors:?}");
}

/// Random seeds also catch the mutants that need a rolled-back disk, by the intended rule.
#[test]
fn seeds_with_rolled_back_disks_catch_who_does_not_object_or_compare() {
    for mutant in [Mutant::LateProofIgnored, Mutant::ChainNotCompared] {
        let (seed, rule) = caught_by_seed(mutant).expect("it is caught within the budget");
        println!("{mutant:?}: seed {seed}");
        assert_eq!(rule, Rule::RollbackIsFound, "{mutant:?}, seed {seed}");
    }
}

/// Random seeds also find a node that reads damaged datagrams: the simulated network damages any byte.
#[test]
fn seeds_catch_who_reads_a_damaged_datagram() {
    let (seed, rule) = caught_by_seed(Mutant::DamageIsRead).expect("it is caught within the budget");
    println!("{seed}: {rule:?}");
}
