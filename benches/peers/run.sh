#!/usr/bin/env bash
# Runs ragstone and other engines over the same vectors, in one session, and prints a Markdown table with their ratios.
#
#   benches/peers/run.sh --sets DIR[,DIR...] [--only hnswlib,usearch,...] [--json FILE] [more options: --help]
#
# A set is a folder with base.npy (n x d, f32), queries.npy (q x d, f32) and, if it is there, gt.npy (q x 10 or more, rows
# nearest by cosine). The peers come from PyPI into a throw-away environment; PEERS_VENV names one to keep and use again.
# RAGSTONE names the binary; by default it is built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

venv=${PEERS_VENV:-}
if [ -z "$venv" ]; then
  venv=$(mktemp -d)
  trap 'rm -rf "$venv"' EXIT
fi
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
fi
# One by one: a package that can't be had leaves the others alone.
for package in numpy hnswlib usearch faiss-cpu lancedb qdrant-edge-py; do
  if ! "$venv/bin/pip" show --quiet "$package" 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$package" >&2 || echo "$package can't be installed: left out" >&2
  fi
done

if [ -z "${RAGSTONE:-}" ]; then
  cargo build --release --manifest-path "$root/Cargo.toml" --bin ragstone
  RAGSTONE=${CARGO_TARGET_DIR:-$root/target}/release/ragstone
fi
# Every library gets two threads to build and one to search.
export OMP_NUM_THREADS=2 RAYON_NUM_THREADS=2
"$venv/bin/python" "$here/compare.py" --ragstone "$RAGSTONE" "$@"
