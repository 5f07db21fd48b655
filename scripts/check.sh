#!/usr/bin/env bash
# Everything that must hold before a commit; CI runs exactly this.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo test --workspace --locked
# Every mistake made on purpose must be found; needs the speed of a release build.
cargo test --release -p upaxos-core -p upaxos-sim --features mutants --test mutants --test model_mutants --locked -- --nocapture
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
