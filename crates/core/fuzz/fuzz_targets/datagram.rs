//! Fuzzes the grammar of the wire with libFuzzer. `tests/fuzz.rs` runs the same body without it.
#![no_main]
#![allow(dead_code, reason = "the bodies are shared")]

#[path = "../../../../tests/support/fuzz_bodies.rs"]
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::datagram(data));
