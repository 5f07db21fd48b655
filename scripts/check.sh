#!/usr/bin/env bash
# Everything that must hold before a commit; CI runs exactly this.
set -euo pipefail
cd "$(dirname "$0")/.."
# All tests share one build, with the mistakes made on purpose compiled in; only the tests of mutants turn one on.
build=(--workspace --locked --features upaxos-core/mutants,upaxos-sim/mutants)
# That build has all programs: no test needs to call cargo for them.
export UPAXOS_PROGRAMS=built
# The runner hides what a passing test says. Skipped tests are named here, and printed below.
UPAXOS_SKIPS=$(mktemp)
export UPAXOS_SKIPS
trap 'rm -f "$UPAXOS_SKIPS"' EXIT

cargo fmt --all --check
if cargo deny --version >/dev/null 2>&1; then
  cargo deny --offline check bans licenses sources
else
  echo "not checked: licences and duplicate dependencies, for cargo-deny is not installed" >&2
fi
cargo clippy "${build[@]}" --all-targets -- -D warnings
cargo test "${build[@]}" --doc
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run "${build[@]}"
else
  echo "cargo-nextest is not installed: cargo test runs the tests, and takes longer" >&2
  cargo test "${build[@]}" --lib --bins --tests
fi
sort -u "$UPAXOS_SKIPS" >&2
# Without the mistakes: this also compiles every crate as it is shipped.
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
