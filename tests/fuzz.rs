//! Replays the corpora of the fuzz targets. So every `cargo test` repeats all inputs that the fuzzer found useful.
//!
//! The targets are in `crates/core/fuzz`, outside the workspace. Their bodies are in `support/fuzz_bodies.rs` and
//! `support/fuzz_session.rs`. Their first inputs are in `corpus/`.
//!
//! # Fuzzing
//!
//! A stable toolchain is enough with the variable below. There is no unsafe code that a sanitizer could check.
//!
//! ```text
//! cargo install cargo-fuzz
//! cd upaxos-core && export RUSTC_BOOTSTRAP=1 && mkdir -p /tmp/found/{session,datagram,log,new}
//! cargo fuzz run -s none session /tmp/found/session ../../../tests/corpus/session -- \
//!     -dict=fuzz/wire.dict -max_len=1000 -max_total_time=300
//! cargo fuzz run -s none datagram /tmp/found/datagram ../../../tests/corpus/datagram -- \
//!     -dict=fuzz/wire.dict -max_len=1000 -max_total_time=300
//! cargo fuzz run -s none log /tmp/found/log ../../../tests/corpus/log -- -max_len=4096 -max_total_time=300
//! ```
//!
//! The first folder receives the new inputs. This keeps the few that reach code that the corpus does not reach:
//!
//! ```text
//! cargo fuzz run -s none session /tmp/found/new ../../../tests/corpus/session /tmp/found/session -- \
//!     -merge=1 -set_cover_merge=1 -use_counters=0 -max_len=400
//! ```
//!
//! A crash leaves its input in `fuzz/artifacts/`. That input goes into the corpus, together with the fix.

#[path = "support/fuzz_bodies.rs"]
mod fuzz_bodies;
#[path = "support/fuzz_session.rs"]
mod fuzz_session;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a corpus").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "the corpus of {target} is there");
    for path in paths {
        let bytes = fs::read(&path).expect("a file of the corpus");
        let done = catch_unwind(AssertUnwindSafe(|| body(&bytes)));
        assert!(done.is_ok(), "{target} fails on {}", path.display());
    }
}

#[test]
fn every_datagram_of_the_corpus_reads_back_as_it_prints() {
    replay("datagram", fuzz_bodies::datagram);
}

#[test]
fn every_log_of_the_corpus_is_told_whole_torn_or_damaged() {
    replay("log", fuzz_bodies::log);
}

#[test]
fn no_session_of_the_corpus_makes_a_node_break_its_word() {
    replay("session", fuzz_session::session);
}
