#!/usr/bin/env bash
# The protocol and its simulator compile for WebAssembly: they need no clock, no file, no socket and no thread.
# Not part of scripts/check.sh: few machines have a standard library for that target.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
rustc=${RUSTC:-rustc}
sysroot=$("$rustc" --print sysroot)
args=(check --locked --target "$target" -p upaxos-core -p upaxos-storage -p upaxos-sim)
if [ -n "$(ls "$sysroot/lib/rustlib/$target/lib" 2>/dev/null)" ]; then
  cargo "${args[@]}"
elif [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
  # Only the sources of the standard library are here: cargo compiles them, which a stable toolchain must be told to allow.
  RUSTC_BOOTSTRAP=1 cargo "${args[@]}" -Z build-std=std,panic_abort
else
  echo "skipped: check-wasm: $sysroot has no standard library for $target, and no sources of one." >&2
  echo "Add one of them: rustup target add $target, or rustup component add rust-src" >&2
  # A check that was asked for and cannot be made has not passed.
  if [ "${UPAXOS_REQUIRE:-}" = wasm ]; then exit 1; fi
fi
