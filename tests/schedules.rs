//! The three schedules that every implementation of this protocol must survive.
//!
//! Three nodes, instance 1. `W(b, v)` is a Write of v in ballot b. Each schedule makes a node with a shortcut
//! choose two values. The node under test is real. The test plays its peers.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/lone.rs"]
mod lone;

use lone::Lone;

/// The first ballots of nodes 0 and 1, and the second ballots of nodes 0 and 2.
const B0: u64 = 0;
const B1: u64 = 1;
const SECOND_B0: u64 = 65_536;
const SECOND_B2: u64 = 65_538;

/// Only node 2 accepted a leader's W(1, a). The next leader, node 0, gets promises from itself and node 1: a quorum
/// without a value. So it must fix its own value now. Then a late promise of node 2 arrives with (1, a).
#[test]
fn one_ballot_never_carries_two_values() {
    let mut leader = Lone::member(3, 0);
    leader.hear(&format!("1 NACK 1 {B1}"));
    leader.hear("Request 0 b");
    let ballot = leader.run();
    assert_eq!(ballot, SECOND_B0);
    leader.hear(&format!("1 PromiseNone 1 * {ballot} 0"));
    leader.hear(&format!("2 Promise 1 {ballot} {B1} a\n2 PromiseNone 2 * {ballot} 0"));
    leader.run_for(1_000);
    assert_eq!(leader.wrote(1), ["b"]);
    leader.hear(&format!("1 Accepts 1 1 {ballot}"));
    assert_eq!(leader.learned(), ["b"]);
}

#[test]
fn a_write_raises_the_promise_above_a_late_lower_write() {
    assert!(directed::a_write_raises_the_promise_above_a_late_lower_write());
}

/// Node 0 accepts u in the first ballot, and node 1 accepts u in the third. That is two acceptors, but u is not
/// chosen. Node 2 accepts w in the second ballot. The fourth ballot gets (1, u) from node 0 and (2, w) from node 2.
/// It must take w, and gets it chosen.
#[test]
fn accepts_in_two_ballots_are_no_quorum_and_the_highest_ballot_heard_wins() {
    let mut two = Lone::member(3, 2);
    two.hear(&format!("1 Write 1 {B1} w"));
    // Too late for a vote of node 2. Node 2 receives the write of the first ballot, but not that of the third.
    two.hear(&format!("0 Write 1 {B0} u\n0 Accepts 1 1 {B0}"));
    two.hear(&format!("1 Accepts 1 1 {SECOND_B0}"));
    assert_eq!(two.learned(), [""; 0]);
    two.hear("Request 0 mine");
    let ballot = two.run();
    assert_eq!(ballot, SECOND_B2);
    two.hear(&format!("0 Promise 1 {ballot} {B0} u\n0 PromiseNone 2 * {ballot} 0"));
    assert_eq!((two.wrote(1), two.wrote(2)), (vec!["w".into()], vec!["mine".into()]));
    two.hear(&format!("0 Accepts 1 2 {ballot}"));
    assert_eq!(two.learned(), ["w", "mine"]);
}
