#!/usr/bin/env bash
# Tests of scripts/demo: where its results go. `cargo` makes a w2s that writes down its arguments.
set -euo pipefail

# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

mkdir -p "$ROOT/target/tmp"
box=$(mktemp -d "$ROOT/target/tmp/test_demo.XXXXXX")
trap 'rm -rf "$box"' EXIT
clone=$box/clone
unset W2S_TORCH LIBTORCH CARGO_TARGET_DIR

mkdir -p "$box/bin" "$clone/models/gemma-3-270m" "$clone/.libtorch/lib"
cp -R "$ROOT/scripts" "$clone/scripts"
touch "$clone/models/gemma-3-270m/"{config.json,tokenizer.json,model.safetensors}
headers=$clone/.libtorch/include/torch/csrc/api/include/torch
mkdir -p "$headers"
touch "$headers/torch.h" "$clone/.libtorch/lib/"{libtorch_cpu.so,libc10.so,libtorch.so}
printf '2.11.0+cu130\n' >"$clone/.libtorch/build-version"

cat >"$box/w2s" <<'FAKE'
#!/usr/bin/env bash
set -euo pipefail
printf '%s\n' "$*" >>w2s.log
if [[ $1 == label && -e fail ]]; then exit 1; fi
out=
while (($# > 0)); do
    if [[ $1 == --out ]]; then out=$2; fi
    shift
done
if [[ -n $out ]]; then
    mkdir -p "$out"
    touch "$out/accuracy.svg"
fi
FAKE
cat >"$box/bin/cargo" <<FAKE
#!/usr/bin/env bash
if [[ \$1 == --version ]]; then echo "cargo 1.95.0 (f2d3ce0bd 2026-03-21)"; exit; fi
mkdir -p target/release
cp "$box/w2s" target/release/w2s
FAKE
chmod +x "$box/w2s" "$box/bin/cargo"

# demo EXPECTED_CODE ARGUMENTS...: what w2s was called with is put into `calls`.
demo() {
    local expected=$1 code=0 said
    shift
    rm -f "$clone/w2s.log"
    said=$(cd / && PATH=$box/bin:$PATH "$clone/scripts/demo" "$@" 2>&1) || code=$?
    if ((code != expected)); then
        printf '%s\n' "$said" >&2
        fail "scripts/demo ended with $code, expected $expected"
    fi
    calls=
    if [[ -e $clone/w2s.log ]]; then
        calls=$(<"$clone/w2s.log")
    fi
}

expect_out() {
    local want=$1 line
    [[ -n $calls ]] || fail "w2s was not called"
    while read -r line; do
        [[ $line == *" $want/"* ]] || fail "expected results in $want, got: w2s $line"
    done <<<"$calls"
}

demo 0
expect_out runs/demo
model="--model models/gemma-3-270m --task sentiment --data data/demo/reviews.jsonl --resume"
gold=data/demo/reviews.gold.jsonl
runs="runs/demo/zero-shot runs/demo/zero-shot-calibrated runs/demo/few-shot-gold runs/demo/icm"
wanted="label --method zero-shot --calibrate none $model --out runs/demo/zero-shot
label --method zero-shot $model --out runs/demo/zero-shot-calibrated
eval --gold $gold runs/demo/zero-shot runs/demo/zero-shot-calibrated
label --method few-shot --demonstrations $gold $model --out runs/demo/few-shot-gold
label --method icm $model --out runs/demo/icm
eval --gold $gold $runs
report $runs --out runs/demo/report"
[[ $calls == "$wanted" ]] || fail "w2s was called with other arguments:"$'\n'"$calls"

touch "$clone/fail"
demo 1
expect_out runs/demo-2
demo 1
expect_out runs/demo-2
demo 1 --fresh
expect_out runs/demo-3
rm "$clone/fail"
demo 0
expect_out runs/demo-3
mkdir "$clone/runs/demo-old" "$clone/runs/demo-9"
demo 0
expect_out runs/demo-9
demo 0
expect_out runs/demo-10
demo 2 --again
[[ -z $calls ]] || fail "w2s was called after a wrong argument"

say "scripts/demo behaves"
