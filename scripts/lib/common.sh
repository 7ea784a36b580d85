# Shared by the scripts: where the clone is, and how they speak. Sourced, not run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

# Python leaves no __pycache__ in the clone.
export PYTHONDONTWRITEBYTECODE=1

# say WORDS...: one plain line about what happens now.
say() {
    printf '==> %s\n' "$*"
}

# fail FACT [HINT...]: ends the script with the form of error that w2s itself uses.
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    local hint
    for hint in "$@"; do
        printf 'hint: %s\n' "$hint" >&2
    done
    exit 1
}

# usage_error FACT HINT: the same for a wrong command line.
usage_error() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 2
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# prepare_cargo: lets cargo's builds find their compiler and keep their temporary files here.
prepare_cargo() {
    local name
    mkdir -p "$ROOT/target/tmp"
    export TMPDIR=$ROOT/target/tmp
    if [[ -n ${CXX:-} ]] || have c++; then
        return
    fi
    for name in g++ clang++; do
        if have "$name"; then
            export CXX=$name
            return
        fi
    done
}
