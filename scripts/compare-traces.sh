#!/usr/bin/env bash
# Compares what happens in seeds 0..2000 of the simulator with what was recorded in tests/traces.txt, on a release
# build; with --record, records it anew.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1-}" in
  "") ;;
  --record) export UPAXOS_RECORD=1 ;;
  *) echo "usage: scripts/compare-traces.sh [--record]" >&2; exit 2 ;;
esac
UPAXOS_SEEDS=0..2000 exec cargo test --release -p upaxos-sim --test sim --locked -- --exact \
  no_seed_breaks_a_rule_and_each_happens_as_recorded
