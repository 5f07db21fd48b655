//! A bounded model check of real nodes, with the model in `support/model.rs`.
//!
//! `cargo test -p upaxos-core --test model -- --nocapture` prints how many states were explored. For larger bounds,
//! in release: `UPAXOS_MODEL=large cargo test --release -p upaxos-core --test model -- --nocapture`.

#[path = "support/model.rs"]
mod model;

use std::env;
use std::time::Instant;

use model::{Size, explore};

fn check(name: &str, ci: Size, large: Size) {
    let is_large = env::var("UPAXOS_MODEL").is_ok_and(|word| word == "large");
    let size = if is_large { large } else { ci };
    let began = Instant::now();
    let (states, distinct) = explore(size).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    let took = began.elapsed().as_secs_f64();
    println!("{name}: {states} states ({distinct} distinct) in {took:.1} s; {size:?}");
}

/// Several leaders in turn, power failures, and all lines that a node sends: refusals, repairs, decisions.
#[test]
fn a_crash_at_any_moment_leaves_what_is_chosen() {
    let ci = Size { runs: [2, 1], crashes: 1, packet: 1_400, asides: true, steps: 7, before: || () };
    check("crash", ci, Size { steps: 9, ..ci });
}

/// Three ballots: a leader that gave way comes back.
#[test]
fn a_leader_that_comes_back_finds_what_others_wrote() {
    let ci = Size { runs: [2, 1], crashes: 0, packet: 1_400, asides: false, steps: 9, before: || () };
    check("return", ci, Size { crashes: 1, steps: 11, ..ci });
}

/// Every line may be lost alone: promises with holes, and writes without the write before.
#[test]
fn a_part_of_a_datagram_says_no_more_than_it_says() {
    let ci = Size { runs: [1, 1], crashes: 0, packet: 1, asides: false, steps: 8, before: || () };
    check("parts", ci, Size { steps: 11, ..ci });
}
