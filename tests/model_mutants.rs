//! The model check finds mistakes, too. These mistakes break plain Paxos, are made on purpose, and are found within
//! few steps.

#[path = "support/model.rs"]
mod model;

use upaxos_core::mutant::{self, Mutant};

use model::{Size, explore};

const SIZE: Size = Size { runs: [2, 1], crashes: 0, packet: 1_400, asides: false, steps: 9, before: || () };

/// The model repeats the path to a failure on this thread. So the mutant is deactivated afterwards.
#[track_caller]
fn assert_found(size: Size) {
    let found = explore(size);
    mutant::activate(None);
    println!("{}", found.expect_err("the model finds nothing"));
}

#[test]
fn half_of_the_members_are_no_quorum() {
    assert_found(Size { before: || mutant::activate(Some(Mutant::HalfIsQuorum)), ..SIZE });
}

#[test]
fn a_value_that_a_promise_tells_of_binds_its_leader() {
    assert_found(Size { before: || mutant::activate(Some(Mutant::IgnoreAcceptedInPromises)), ..SIZE });
}

#[test]
fn a_promise_that_omits_a_value_undoes_it() {
    assert_found(Size { before: || mutant::activate(Some(Mutant::PromiseOmitsValue)), ..SIZE });
}

#[test]
fn a_write_below_the_promise_breaks_the_promise() {
    assert_found(Size { before: || mutant::activate(Some(Mutant::IgnorePromiseOnWrite)), ..SIZE });
}

#[test]
fn a_ballot_used_again_after_a_restart_is_used_twice() {
    let before = || mutant::activate(Some(Mutant::ReuseBallot));
    assert_found(Size { crashes: 1, asides: true, steps: 7, before, ..SIZE });
}
