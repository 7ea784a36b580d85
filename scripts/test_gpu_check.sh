#!/usr/bin/env bash
# Tests of scripts/gpu-check: what it says where there is no GPU or no torch for it, and what it starts
# where there is. Runs in a copy of the scripts with its own PATH; nothing is built.
set -euo pipefail

# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

mkdir -p "$ROOT/target/tmp"
box=$(mktemp -d "$ROOT/target/tmp/test_gpu_check.XXXXXX")
trap 'rm -rf "$box"' EXIT
clone=$box/clone
bin=$box/bin
unset W2S_TORCH LIBTORCH PYTHON CUDA_DEVICE GPU_CHECK_MINUTES GPU_CHECK_MODELS LD_LIBRARY_PATH OMP_WAIT_POLICY

# fake NAME SCRIPT: a program of the fake machine.
fake() {
    printf '#!%s\n%s\n' "$BASH" "$2" >"$bin/$1"
    chmod +x "$bin/$1"
}

# A machine with a GPU, a torch with CUDA, and the check already built, but no cargo.
new_machine() {
    local tool torch=$box/torch
    rm -rf "$clone" "$bin" "$torch"
    mkdir -p "$clone/target/release" "$bin" "$torch/lib"
    cp -R "$ROOT/scripts" "$clone/scripts"
    for tool in bash dirname env find; do
        ln -s "$(command -v "$tool")" "$bin/$tool"
    done
    fake nproc 'echo 16'
    fake nvidia-smi 'echo "NVIDIA H200, 143771 MiB, 580.1"'
    touch "$torch/lib/libtorch_cuda.so"
    printf "__version__ = '2.11.0+cu130'\n" >"$torch/version.py"
    fake python3 "echo '$torch'"
    # shellcheck disable=SC2016 # expanded when it runs
    printf '#!%s\n%s\n' "$BASH" 'printf "%s\n" "started: $*" "path: ${LD_LIBRARY_PATH:-}"
exit "${CHECK_ENDS_WITH:-0}"' >"$clone/target/release/gpu-check"
    chmod +x "$clone/target/release/gpu-check"
}

# run EXPECTED_CODE ARGUMENTS...: what scripts/gpu-check says is put into `said`.
run() {
    local expected=$1 code=0
    shift
    said=$(cd / && PATH=$bin "$clone/scripts/gpu-check" "$@" 2>&1) || code=$?
    if ((code != expected)); then
        printf '%s\n' "$said" >&2
        fail "$test_name: scripts/gpu-check ended with $code, expected $expected"
    fi
}

# says TEXT: it was said.
says() {
    if [[ $said != *"$1"* ]]; then
        printf '%s\n' "$said" >&2
        fail "$test_name: this was not said: $1"
    fi
}

begin() {
    test_name=$1
    new_machine
}

# no_gpu WHY: one sentence, and a good end.
no_gpu() {
    run 0
    [[ $said == "==> nothing is checked on a GPU, because $1" ]] ||
        fail "$test_name: expected one sentence about \`$1\`, got: $said"
}

begin "no nvidia-smi"
rm "$bin/nvidia-smi"
no_gpu "nvidia-smi was not found"

begin "nvidia-smi without a device"
fake nvidia-smi 'echo "No devices were found"; exit 6'
no_gpu "nvidia-smi finds no device 0"

begin "no python"
rm "$bin/python3"
no_gpu "there is no python3 whose torch could be used"

begin "no torch"
fake python3 'exit 0'
no_gpu "python3 has no torch"

begin "torch without CUDA"
rm "$box/torch/lib/libtorch_cuda.so"
no_gpu "the torch in $box/torch has no CUDA"

begin "torch of another version"
printf "__version__ = '2.9.1+cu128'\n" >"$box/torch/version.py"
no_gpu "the torch in $box/torch is 2.9.1+cu128, not 2.11"

begin "a GPU"
run 0
says "started: --device cuda:0 --note NVIDIA H200, 143771 MiB, 580.1; torch 2.11.0+cu130; 16 CPU cores --minutes 9 --models models --python python3"
says "path: $box/torch/lib"

begin "the driver's folder stays in the path"
LD_LIBRARY_PATH=$box/driver W2S_TORCH=$box/torch CUDA_DEVICE=1 run 0
says "started: --device cuda:1"
says "path: $box/torch/lib:$box/driver"

begin "a check that fails"
CHECK_ENDS_WITH=1 run 1
says "started: "

begin "neither a built check nor cargo"
rm "$clone/target/release/gpu-check"
run 1
says "there is no cargo to build it"

begin "without a GPU at tiny sizes"
rm "$bin/nvidia-smi"
run 0 --small-cpu
says "started: --device cpu --small"

begin "an unknown argument"
run 2 --small
says "argument \`--small\` is not known"

say "scripts/gpu-check behaves"
