//! Fuzzes a session of one node with libFuzzer. `tests/fuzz.rs` runs the same body without it.
#![no_main]

#[path = "../../../../tests/support/fuzz_session.rs"]
mod fuzz_session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_session::session(data));
