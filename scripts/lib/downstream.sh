#!/usr/bin/env bash
# Builds a crate that uses w2s as a library, and runs it on a tiny model; called by scripts/test.
set -euo pipefail

# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cp -R tests/downstream "$place/crate"
# The versions that w2s is tested with, and what is built of them already.
cp Cargo.lock "$place/crate/Cargo.lock"
sed -i "s|path = \"../..\"|path = \"$ROOT\"|" "$place/crate/Cargo.toml"
for i in 1 2 3 4 5 6; do
    printf '{"id": "%s", "question": "%s+%s?", "choice": "%s", "label": %s, "consistency_id": %s}\n' \
        "$i" "$(((i + 1) / 2))" "$(((i + 1) / 2))" "$i" "$( ((i % 2)) && echo true || echo false)" "$(((i + 1) / 2))"
done >"$place/claims.jsonl"
LIBTORCH=${LIBTORCH:-$ROOT/.libtorch} CARGO_TARGET_DIR=$ROOT/target cargo run --offline --quiet \
    --manifest-path "$place/crate/Cargo.toml" -- \
    tests/parity/llama gsm8k-verification "$place/claims.jsonl" "$place/runs"
[[ -f $place/runs/student/adapter_model.safetensors && -f $place/runs/labels/eval.json ]]
