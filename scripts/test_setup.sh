#!/usr/bin/env bash
# Tests of scripts/setup: what it says on machines that lack something, and that it leaves alone
# what is in place. Runs in a copy of the scripts with its own PATH; nothing is downloaded.
set -euo pipefail

# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

mkdir -p "$ROOT/target/tmp"
box=$(mktemp -d "$ROOT/target/tmp/test_setup.XXXXXX")
trap 'rm -rf "$box"' EXIT
clone=$box/clone
bin=$box/bin
real_python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')

# What a test may have changed must not reach the next one, nor the user's settings any of them.
unset W2S_TORCH LIBTORCH PYTHON CXX PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX
unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy ALL_PROXY all_proxy PYTHONPATH
export PIP_CONFIG_FILE=/dev/null PIP_RETRIES=1

# fake NAME SCRIPT: a program of the fake machine.
fake() {
    # The name may be a link to the real program.
    rm -f "$bin/$1"
    printf '#!%s\n%s\n' "$BASH" "$2" >"$bin/$1"
    chmod +x "$bin/$1"
}

fake_uname() {
    fake uname "if [[ \$1 == -s ]]; then echo $1; else echo $2; fi"
}

# A machine that has all that scripts/setup needs, and no program that it should not need.
new_machine() {
    local tool
    rm -rf "$clone" "$bin"
    mkdir -p "$clone/models" "$bin"
    cp -R "$ROOT/scripts" "$clone/scripts"
    for tool in bash cp dirname ln mkdir mv readlink rm sha256sum tail; do
        ln -s "$(command -v "$tool")" "$bin/$tool"
    done
    # scripts/setup starts with `env bash`.
    ln -s "$(command -v env)" "$bin/env"
    fake_uname Linux x86_64
    fake df 'printf "Avail\n50000000\n"'
    fake c++ 'exit 0'
    fake cargo 'echo "cargo 1.95.0 (f2d3ce0bd 2026-03-21)"'
    # No torch of this machine is seen, only what is asked for.
    fake python3 "
if [[ \${2:-} == *find_spec* ]]; then exit 0; fi
exec '$real_python' \"\$@\""
}

# new_torch FOLDER VERSION: what scripts/setup looks at in an installed torch.
new_torch() {
    mkdir -p "$1/include/torch/csrc/api/include/torch" "$1/lib"
    touch "$1/include/torch/csrc/api/include/torch/torch.h"
    touch "$1/lib/libtorch_cpu.so" "$1/lib/libc10.so" "$1/lib/libtorch.so"
    printf "from typing import Optional\n__version__ = '%s'\ndebug = False\n" "$2" >"$1/version.py"
}

# run EXPECTED_CODE ARGUMENTS...: what scripts/setup says is put into `said`.
run() {
    local expected=$1 code=0
    shift
    said=$(cd / && PATH=$bin "$clone/scripts/setup" "$@" 2>&1) || code=$?
    if ((code != expected)); then
        printf '%s\n' "$said" >&2
        fail "$test_name: scripts/setup ended with $code, expected $expected"
    fi
}

# says TEXT: it was said.
says() {
    if [[ $said != *"$1"* ]]; then
        printf '%s\n' "$said" >&2
        fail "$test_name: this was not said: $1"
    fi
}

# one_error: nothing but the plain lines, one error and its hints was said.
one_error() {
    local line errors=0
    while read -r line; do
        case $line in
            "error: "*) errors=$((errors + 1)) ;;
            "==> "* | "hint: "*) ;;
            *) fail "$test_name: a line too many: $line" ;;
        esac
    done <<<"$said"
    ((errors == 1)) || fail "$test_name: $errors errors, expected 1"
}

refuses() {
    local text
    run 1 --no-models
    one_error
    for text in "$@"; do
        says "$text"
    done
}

begin() {
    test_name=$1
    new_machine
}

begin "another processor"
fake_uname Linux aarch64
refuses "Linux on aarch64, expected Linux on x86_64"

begin "another system"
fake_uname Darwin x86_64
refuses "Darwin on x86_64, expected Linux on x86_64"

begin "no compiler"
rm "$bin/c++"
refuses "no C++ compiler" "apt-get install g++"

begin "no cargo"
rm "$bin/cargo"
refuses "cargo was not found" "https://rustup.rs"

begin "old cargo"
fake cargo 'echo "cargo 1.87.0 (99624be96 2025-05-06)"'
refuses "cargo is version 1.87, expected 1.89" "rustup update"

begin "no python"
rm "$bin/python3"
refuses "\`python3\` was not found" "apt-get install python3 python3-pip"

begin "old python"
fake python3 'echo 3.8'
refuses "version 3.8, expected 3.9"

begin "no pip"
fake python3 "
if [[ \$* == '-m pip'* ]]; then echo 'No module named pip' >&2; exit 1; fi
exec '$real_python' \"\$@\""
refuses "\`python3\` has no pip" "apt-get install python3-pip"

begin "small disk"
fake df 'printf "Avail\n3999999\n"'
refuses "3999 MB are free in \`$clone\`, expected 4000 MB"

begin "no network"
# Nothing listens on the discard port.
export PIP_INDEX_URL=http://127.0.0.1:9/simple
refuses "PyPI cannot be reached" "torch==2.11.0" "PIP_INDEX_URL"
[[ ! -e $clone/.libtorch ]] || fail "$test_name: .libtorch was made"
unset PIP_INDEX_URL

begin "a wheel with other bytes"
mkdir "$box/wheels"
printf 'not the wheel' >"$box/wheels/torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl"
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$box/wheels
refuses "does not have the SHA-256"
[[ ! -e $clone/.libtorch ]] || fail "$test_name: .libtorch was made"
rm -r "$box/wheels"

begin "an index without the package"
mkdir "$box/wheels"
refuses "pip's package index has no \`torch==2.11.0\`"
unset PIP_NO_INDEX PIP_FIND_LINKS

begin "a model's name with a slip"
run 2 --models gemma-3-270
one_error
says "model \`gemma-3-270\` is not known"
says "known are: gemma-3-270m smollm2-135m-instruct"

begin "an unknown argument"
run 2 --model gemma-3-270m
one_error
says "argument \`--model\` is not known"

begin "W2S_TORCH of another version"
new_torch "$box/torch-2.9" 2.9.1+cu128
export W2S_TORCH=$box/torch-2.9
refuses "torch 2.9.1+cu128, expected 2.11"

begin "W2S_TORCH without headers"
new_torch "$box/torch-bare" 2.11.0+cu130
rm -r "$box/torch-bare/include"
export W2S_TORCH=$box/torch-bare
refuses "has no \`include/torch/csrc/api/include/torch/torch.h\`"

begin "W2S_TORCH that is not there"
export W2S_TORCH=$box/nowhere
refuses "\`$box/nowhere\`, which is not a folder"

begin "W2S_TORCH is linked, and the link stays"
new_torch "$box/torch-2.11" 2.11.0+cpu
export W2S_TORCH=$box/torch-2.11
# Neither a link nor a libtorch in place needs Python.
rm "$bin/python3"
run 0 --no-models
says "libtorch 2.11.0+cpu: .libtorch -> $box/torch-2.11"
[[ $(readlink "$clone/.libtorch") == "$box/torch-2.11" ]] || fail "$test_name: there is no such link"
run 0 --no-models
says "libtorch 2.11.0+cpu is in place"
unset W2S_TORCH
run 0 --no-models
says "libtorch 2.11.0+cpu is in place"

begin "LIBTORCH is linked"
export LIBTORCH=$box/torch-2.11
run 0 --no-models
says ".libtorch -> $box/torch-2.11"
unset LIBTORCH

begin "the torch of the active Python"
fake python3 "
if [[ \${2:-} == *find_spec* ]]; then echo '$box/torch-2.11'; exit 0; fi
exec '$real_python' \"\$@\""
run 0 --no-models
says ".libtorch -> $box/torch-2.11"

begin "a link to a torch that is gone"
ln -s "$box/nowhere" "$clone/.libtorch"
fake python3 "
if [[ \${2:-} == *find_spec* ]]; then echo '$box/torch-2.11'; exit 0; fi
exec '$real_python' \"\$@\""
run 0 --no-models
says "the link .libtorch to $box/nowhere is replaced"
[[ $(readlink "$clone/.libtorch") == "$box/torch-2.11" ]] || fail "$test_name: there is no such link"

begin "a torch of the active Python that does not fit"
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$box/wheels
fake python3 "
if [[ \${2:-} == *find_spec* ]]; then echo '$box/torch-2.9'; exit 0; fi
exec '$real_python' \"\$@\""
refuses "the torch 2.9.1+cu128 of \`python3\` is not 2.11"

begin "a staged libtorch whose pins are older"
new_torch "$clone/.libtorch" 2.11.0+cu130
cp "$clone/scripts/lib/libtorch.tsv" "$clone/.libtorch/wheels.tsv"
run 0 --no-models
says "libtorch 2.11.0+cu130 is in place"
printf 'older\n' >"$clone/.libtorch/wheels.tsv"
refuses "pip's package index has no \`torch==2.11.0\`"
[[ -d $clone/.libtorch ]] || fail "$test_name: it was removed before there was another"
unset PIP_NO_INDEX PIP_FIND_LINKS

begin "a half-made libtorch does not count"
new_torch "$clone/.libtorch.partial" 2.11.0+cu130
fake df 'printf "Avail\n0\n"'
refuses "0 MB are free"

begin "models in place stay"
new_torch "$clone/.libtorch" 2.11.0+cu130
rm "$bin/python3"
for name in gemma-3-270m smollm2-135m-instruct; do
    mkdir "$clone/models/$name"
    for file in config.json tokenizer.json model.safetensors; do
        touch "$clone/models/$name/$file"
    done
done
run 0
says "model gemma-3-270m is in place"
says "model smollm2-135m-instruct is in place"

begin "a model folder with a file missing is not touched"
new_torch "$clone/.libtorch" 2.11.0+cu130
mkdir "$clone/models/gemma-3-270m"
touch "$clone/models/gemma-3-270m/config.json"
run 1 --models gemma-3-270m
one_error
says "is there but lacks"
[[ -f $clone/models/gemma-3-270m/config.json ]] || fail "$test_name: a file is gone"

say "scripts/setup behaves"
